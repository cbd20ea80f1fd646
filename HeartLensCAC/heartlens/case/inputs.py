"""What no edit and no reader changes of a case: its CT, and what was found on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.slabs import average_slabs, slices_per_slab
from heartlens.scoring.report import ScoreReport, score_lesions

ADJUDICATION = "adjudication"
"""Warning of a case that was made of two readings."""


@dataclass(frozen=True, eq=False)
class CaseInputs:
    """What no edit and no reader changes: the CT and what was found on it.

    Parameters
    ----------
    source_ct
        The CT as it was read.
    auto
        Lesions before any edit, on the grid of `ct`.
    protocol
        How they are scored.
    slice_probability
        (k,) of calcium on each scored slice, when a classifier gave it; nan where it was not asked

    Raises
    ------
    ValueError
        Lesions or probabilities lie on another grid than the slices that are scored.
    """

    source_ct: CTVolume
    auto: LesionMap
    protocol: ScoringProtocol
    slice_probability: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        slices, rows, columns = self.source_ct.shape
        grid = (slices // self.slab_count, rows, columns)
        if self.auto.shape != grid:
            raise ValueError(f"lesions must lie on the scored grid {grid}, got {self.auto.shape}")
        if self.slice_probability is not None and self.slice_probability.shape != grid[:1]:
            raise ValueError(f"expected a probability for each of {grid[0]} slices, got {self.slice_probability.shape}")

    @property
    def slab_count(self) -> int:
        """Source slices per scored slice; 1 unless the protocol asks for slabs."""
        return 1 if self.protocol.slab_mm is None else slices_per_slab(self.source_ct, self.protocol.slab_mm)

    @cached_property
    def voxel_checksum(self) -> str:
        """SHA-256 of the source voxels, by which a case knows its CT again."""
        return hashlib.sha256(np.ascontiguousarray(self.source_ct.hu).data).hexdigest()

    @cached_property
    def ct(self) -> CTVolume:
        """The CT that is scored: the source, or its slabs."""
        return average_slabs(self.source_ct, self.slab_count)

    @cached_property
    def auto_report(self) -> ScoreReport:
        """The report before any edit."""
        return self.score(self.auto)

    def score(self, lesions: LesionMap) -> ScoreReport:
        """Scores of some lesions of this CT."""
        return score_lesions(self.ct, lesions, self.protocol, slice_probability=self.slice_probability)
