"""What an evaluation is made of: patients, failures, counts and estimates; all of it goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from training.engine.json_records import from_plain, to_plain
from training.metrics.classification import Counts, ReliabilityBin
from training.metrics.overlap import Comparison

SCHEMA = "heartlens.evaluation/1"

SEGMENTATION, INTEGRATED = "segmentation alone", "with the slice stage"
"""The two columns of the paper's Table 6: labels as they are, and on calcified slices only."""


class Estimate(NamedTuple):
    """A statistic with its 95 % interval by patient bootstrap; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Patient:
    """One patient that was compared.

    Parameters
    ----------
    name
        Of the folder or file, as the user called it.
    stages
        A `Comparison` for `SEGMENTATION` and, with a slice stage, for `INTEGRATED`.
    slice_probability
        Of calcium, foot to head; None when nobody estimated it, None in it for a slice that was not asked, such as one
        without dense voxels in the heart.
    cautions
        Codes of the warnings that reading gave.
    """

    name: str
    stages: Mapping[str, Comparison]
    slice_probability: tuple[float | None, ...] | None = None
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A patient that could not be compared, and why. It is in no statistic."""

    name: str
    reason: str


@dataclass(frozen=True)
class LesionTotals:
    """Lesions of all patients: in the reference and found; predicted and right. Volumes in mm3."""

    reference: int
    found: int
    predicted: int
    right: int
    reference_mm3: float
    found_mm3: float
    predicted_mm3: float
    right_mm3: float


@dataclass(frozen=True)
class SizeBin:
    """Reference lesions of low < volume <= high (mm3; None is open): how many, and how many were found."""

    low_mm3: float
    high_mm3: float | None
    n: int
    found_same_vessel: int
    found_any_vessel: int


@dataclass(frozen=True)
class StageSummary:
    """Everything counted for one stage, and every estimate by name.

    Parameters
    ----------
    confusion
        By scheme, (c, c) patients, rows reference, columns predicted.
    zeros
        Patients; positive is a score above 0.
    slices
        Positive is a slice with calcium that counts.
    voxels
        By row.
    overlapping
        By row, patients in the mean Dice and IoU.
    both_empty
        By row, patients without calcium there in either map; not in the mean.
    lesions
        By match rule and row.
    sizes
        Reference lesions by volume.
    """

    confusion: Mapping[str, tuple[tuple[int, ...], ...]]
    zeros: Counts
    slices: Counts
    voxels: Mapping[str, Counts]
    overlapping: Mapping[str, int]
    both_empty: Mapping[str, int]
    lesions: Mapping[str, Mapping[str, LesionTotals]]
    sizes: tuple[SizeBin, ...]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class ClassifierSummary:
    """A slice classifier by itself.

    Parameters
    ----------
    slices, asked
        How many there are, and how many it was asked about; the others count as without calcium.
    cut_off
        At or above it a slice counts as calcified; None when nobody said.
    counts
        Of all slices at the cut-off; None without one.
    reliability
        Bins that hold slices that were asked.
    estimates
        Sensitivity, specificity, ... at the cut-off; area_under_roc and calibration_error of the slices that were
        asked.
    """

    slices: int
    asked: int
    cut_off: float | None
    counts: Counts | None
    reliability: tuple[ReliabilityBin, ...]
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class BackboneSummary:
    """One of several pre-trained backbones side by side: its classifier on all slices, and where it looks.

    Parameters
    ----------
    classifier
        See `ClassifierSummary`.
    looked_at
        Slices with calcium whose attention was read.
    attention_on_calcium
        Share of the class token's attention on patches with labeled calcium, mean over slices.
    calcium_area
        Share of the patches that have some: what attention without aim would give.
    """

    classifier: ClassifierSummary
    looked_at: int
    attention_on_calcium: Estimate
    calcium_area: float | None


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on besides the patients.

    Parameters
    ----------
    bundle
        Facts of the bundle that predicted, such as its name and the checksums of its files.
    slice_cutoff
        Of the slice stage.
    """

    title: str
    reference: str
    predicted: str
    bundle: Mapping[str, str]
    protocol: str
    threshold_hu: float
    slice_cutoff: float | None
    draws: int
    seed: int
    version: str


@dataclass(frozen=True)
class Evaluation:
    """The whole result: report.json.

    Parameters
    ----------
    classifier
        The slice stage of what predicted; None when there is none.
    backbones
        By name, others to compare with, as the paper compares DINO and DINO-LG.
    """

    settings: Settings
    patients: tuple[Patient, ...]
    failures: tuple[Failure, ...]
    stages: Mapping[str, StageSummary]
    classifier: ClassifierSummary | None
    backbones: Mapping[str, BackboneSummary]

    @property
    def final_stage(self) -> str:
        """The stage whose scores count: with the slice stage when there is one."""
        return INTEGRATED if INTEGRATED in self.stages else SEGMENTATION

    def estimate(self, name: str, stage: str | None = None) -> Estimate:
        """By name, of the final stage unless another is named."""
        return self.stages[stage or self.final_stage].estimates[name]

    def to_json(self) -> dict[str, Any]:
        """Plain values under a schema, as report.json holds them."""
        return {"schema": SCHEMA, **to_plain(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evaluation:
        """Equal to the one that `to_json` was called on.

        Raises
        ------
        ValueError
            Another schema.
        """
        if document.get("schema") != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, found {document.get('schema')!r}")
        return from_plain(cls, document)
