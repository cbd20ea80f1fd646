"""What an evaluation is made of: patients, failures, counts and estimates; all of it goes to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from training.engine.json_records import from_plain, to_plain
from training.evaluation.answers import ScanAnswer
from training.metrics.classification import Counts, ReliabilityBin
from training.metrics.overlap import Comparison

SCHEMA = "heartlens.evaluation/2"
"""Version 1 called the F1 of lesions by volume just ``f1``."""

SEGMENTATION, INTEGRATED = "segmentation alone", "with the slice stage"
"""The two halves of the paper's Table 6: labels as they are, and on calcified slices only."""

ANNOTATED = "on annotated slices"
"""Labels on those slices alone that the reference calls calcified, as Figure 7b of the paper: a slice stage without an
error. Said beside the others, and never the score that counts."""

SLICE_STAGE = "slice stage"
"""Key of the probabilities of a program's slice classifier."""

NEIGHBORS = "neighbors"
"""After the name of a stage: key of the probabilities by neighbors in the embedding."""


class Estimate(NamedTuple):
    """A statistic with its 95 % interval (`training.evaluation.statistics`); None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TrapResult:
    """One island of bright voxels that is no coronary calcium and would count if it were called so.

    Parameters
    ----------
    kind
        Of the nearest trap of the truth; "decoy_…" is like a plaque in all but its place.
    in_heart
        Some of it lies in the zone of the coronary arteries, so that only the naming keeps it out.
    called
        Some of it was called coronary.
    """

    kind: str
    in_heart: bool
    called: bool


@dataclass(frozen=True)
class Vote:
    """One island that the vessel network was asked about.

    Parameters
    ----------
    probability
        Probability that it is coronary, calibrated.
    is_coronary
        By the truth: most of its voxels.
    """

    probability: float
    is_coronary: bool


@dataclass(frozen=True)
class SyntheticTruth:
    """What is known of a patient only because a program made it. What was not recorded is empty.

    Parameters
    ----------
    parameters
        Of the phantom, from its truth.json.
    noise_free
        Agatston of the truth's islands on the image without noise, by artery and "all".
    candidate_slices
        Foot to head, slices that a network would be asked about.
    slice_area_mm2
        Foot to head, area of coronary calcium.
    traps
        By stage, every trap in the scan.
    on_nothing
        By stage, lesions called coronary where the truth has neither calcium nor a trap: noise, bone, metal's streaks.
    votes
        Of every island that the bundle was asked about.
    seconds
        By stage, without reading and finding the heart.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    noise_free: Mapping[str, float] = field(default_factory=dict)
    candidate_slices: tuple[bool, ...] = ()
    slice_area_mm2: tuple[float, ...] = ()
    traps: Mapping[str, tuple[TrapResult, ...]] = field(default_factory=dict)
    on_nothing: Mapping[str, int] = field(default_factory=dict)
    votes: tuple[Vote, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Patient:
    """One patient that was compared, wherever it came from (`training.evaluation.sources`).

    Parameters
    ----------
    name
        Of the folder or file as the user called it, the seed of a phantom, the name of a scan.
    stages
        By the name of what predicted; `SEGMENTATION` and, with a slice stage, `INTEGRATED`, or the bundle, the rules,
        an arm of an experiment. A `Comparison` of slices alone has no scores, voxels or lesions.
    slice_probability
        Of calcium on each slice, foot to head, by who estimated it; None for a slice that was not asked, such as one
        without dense voxels in the heart.
    cautions
        Codes of the warnings that reading gave.
    misses
        By stage, what is known to be wrong with it, in words, where not every voxel of the truth is known.
    synthetic
        None for a patient that nobody made.
    answers
        By stage, what was said of every island; empty where islands were not asked about.
    person
        Whose scan it is, where there are several of one person; empty where the name says it.
    """

    name: str
    stages: Mapping[str, Comparison]
    slice_probability: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    misses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    synthetic: SyntheticTruth | None = None
    answers: Mapping[str, ScanAnswer] = field(default_factory=dict)
    person: str = ""


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

    What patients do not have (scores, where only slices are known) is empty.

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
    shares
        (how many, of how many) of the estimates that are shares of things counted one by one.
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
    shares: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What some patients amount to.

    Parameters
    ----------
    patients
        How many.
    stages
        By name.
    differences
        Estimates of "one - other", paired: both stages see the same draws of patients.
    """

    patients: int
    stages: Mapping[str, StageSummary]
    differences: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class ClassifierSummary:
    """A classifier by itself, of slices or of islands.

    Parameters
    ----------
    slices, asked
        How many there are, and how many it was asked about; the others count as without calcium.
    calcified
        Of those that it was asked about, by the truth.
    cut_off
        At or above it a slice counts as calcified; None when nobody said.
    counts
        Of all slices at the cut-off; None without one.
    reliability
        Bins that hold slices that were asked.
    estimates
        slices.sensitivity, slices.specificity, ... at the cut-off; area_under_roc, calibration_error and others of the
        slices that were asked.
    """

    slices: int
    asked: int
    calcified: int
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
