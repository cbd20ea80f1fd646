"""A scan with its labels, on its way into the shards or into an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume

UNREVIEWED = 7
"""Label of a dense voxel of which no reader said anything: it is neither calcium nor none, and teaches nothing."""


@dataclass(frozen=True, eq=False)
class LabeledScan:
    """One scan.

    Parameters
    ----------
    name
        unique, without identity, such as "phantom/17" or "coca-gated/306"
    patient
        Pseudonym; equal for scans of one person.
    source
        "phantom", "coca-gated", "coca-nongated" or "case"
    ct
        HU and geometry
    labels
        (k, j, i) `Artery` codes, or `UNREVIEWED`; None where nobody has drawn any
    agatston
        Of each artery and "total", where only a score is known.
    why_unlabelled
        "" when the labels are complete
    notes
        What a user of the data should know.
    provenance
        Who made the labels, when, with which version, automatic or edited.
    """

    name: str
    patient: str
    source: str
    ct: CTVolume
    labels: NDArray[np.uint8] | None
    agatston: Mapping[str, float] | None = None
    why_unlabelled: str = ""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels is not None and (self.labels.shape != self.ct.shape or self.labels.dtype != np.uint8):
            raise ValueError(
                f"labels must be uint8 on the CT's grid {self.ct.shape}, got {self.labels.dtype} {self.labels.shape}"
            )
        if self.labels is None and not self.why_unlabelled:
            raise ValueError("a scan without labels must say why: why_unlabelled is empty")

    @property
    def is_labeled(self) -> bool:
        """Whether the labels are complete."""
        return not self.why_unlabelled


@dataclass(frozen=True)
class Skipped:
    """A scan that could not be used: its name, and the refusal's code and text."""

    name: str
    code: str
    text: str
