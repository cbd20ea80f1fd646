"""Coronary calcium by rules alone: candidates, what the exclusion rules leave, and the artery of each piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium.arteries_by_rules import name_pieces_by_rules
from heartlens.calcium.exclusion import Removed, apply_rules, charge
from heartlens.calcium.extraction import candidate_mask, extract_lesions
from heartlens.calcium.pieces import Pieces, find_pieces
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol

LEAST_PROBABILITY = 0.4
"""A piece less likely coronary than this is left out."""

BELIEVED_FROM = 0.7
"""From this probability on the rules hold against networks that refuse a piece. A choice between doubts too many and
plaque too little: of 16 phantoms of validation 5 gained a doubt, each of 5 to 66 mm3 (docs/method.md, section 11)."""

LARGE_MM2 = 30.0
"""A piece so large in a slice is nothing that may be left out without a word."""

CONTESTABLE = ("calcified_ring", "lung_border", "motion_streak")
"""Rules that speak of shape and surroundings alone, and take away large plaque now and then. The others know where
aorta, valves, bone or spine lie."""


@dataclass(frozen=True, eq=False)
class RulesOpinion:
    """What the rules say of each dense voxel in and about the heart.

    Parameters
    ----------
    pieces
        The pieces that were judged.
    left
        (pieces,) that are coronary calcium by the rules
    arteries
        (pieces,) `Artery` codes
    notes
        Probability and reason of each piece.
    ledger
        What each rule removed, in order; see `heartlens.calcium.exclusion`.
    """

    pieces: Pieces
    left: NDArray[np.bool_]
    arteries: NDArray[np.uint8]
    notes: Sequence[LesionNote]
    ledger: tuple[Removed, ...]

    @cached_property
    def probability(self) -> NDArray[np.float64]:
        """(pieces,) how likely coronary; 0 for what was removed, one half for what is large and removed by shape."""
        probability = np.array([note.probability or 0 for note in self.notes], np.float64)
        return np.where(self.left, probability, np.where(self._contested, 0.5, 0.0))

    @cached_property
    def _contested(self) -> NDArray[np.bool_]:
        by_shape = np.zeros(len(self.pieces.flat), bool)
        for removed in self.ledger:
            if removed.rule in CONTESTABLE:
                by_shape |= np.isin(self.pieces.flat, removed.flat)
        return (self.pieces.mean(by_shape) > 0.5) & (self.pieces.largest_area_mm2 > LARGE_MM2)

    @cached_property
    def disputes(self) -> NDArray[np.float64]:
        """(pieces,) how likely coronary is what nobody may refuse without a word; nan for all other pieces.

        That is what the rules believe in, with its probability; and what is large and was removed by shape alone, with
        one half.
        """
        has_word = self._contested | (self.left & (self.probability >= BELIEVED_FROM))
        return np.where(has_word, self.probability, np.nan)

    @cached_property
    def large_disputes(self) -> NDArray[np.float64]:
        """(pieces,) `disputes` of what is larger than `LARGE_MM2` in a slice; nan for all other pieces."""
        return np.where(self.pieces.largest_area_mm2 > LARGE_MM2, self.disputes, np.nan)

    def mean_of_groups(
        self, of_piece: NDArray[np.float64], flat: NDArray[np.int64], group: NDArray[np.int64], groups: int
    ) -> NDArray[np.float64]:
        """A value of pieces as one of groups of voxels that somebody else has made.

        Parameters
        ----------
        of_piece
            (pieces,); nan where there is none
        flat
            (n,) C-order indices into the CT
        group
            (n,) of each voxel, 0-based
        groups
            How many there are, each with a voxel.

        Returns
        -------
        NDArray[np.float64]
            (groups,) mean over a group's voxels that have a value; nan where half of them or more have none
        """
        judged = np.flatnonzero(np.isin(flat, self.pieces.flat))
        value = np.full(len(flat), np.nan)
        value[judged] = of_piece[self.pieces.piece[np.searchsorted(self.pieces.flat, flat[judged])]]
        has_value = np.isfinite(value)
        voxels, valued = np.bincount(group, minlength=groups), np.bincount(group, has_value, groups)
        summed = np.bincount(group, np.where(has_value, value, 0), groups)
        return np.where(2 * valued > voxels, summed / np.maximum(valued, 1), np.nan)


def judge_by_rules(ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol) -> RulesOpinion:
    """What the exclusion rules leave, named by where it lies in the heart; and what is left out as unlikely."""
    # Wider than the zone, so that a rib that reaches into it is seen as a rib.
    pieces = find_pieces(ct, region, candidate_mask(ct, protocol, region.box(ct, margin_mm=8)), protocol)
    left, ledger = apply_rules(pieces)
    arteries, notes = name_pieces_by_rules(pieces, left)
    unlikely = left & np.array([(note.probability or 0) < LEAST_PROBABILITY for note in notes], bool)
    because = f"The probability from surroundings, place and density is below {LEAST_PROBABILITY}"
    ledger = (*ledger, charge(pieces, "unlikely", because, unlikely))
    return RulesOpinion(pieces, left & ~unlikely, arteries, notes, ledger)


def find_lesions(ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol) -> tuple[LesionMap, tuple[Removed, ...]]:
    """Coronary lesions by rules alone.

    Returns
    -------
    lesions : LesionMap
        Each with a probability and a reason.
    ledger : tuple[Removed, ...]
        What each rule removed, in order; see `heartlens.calcium.exclusion`.
    """
    judged = judge_by_rules(ct, region, protocol)
    pieces = judged.pieces
    voxels = judged.left[pieces.piece]
    piece = pieces.piece[voxels]
    lesions = extract_lesions(
        ct, pieces.flat[voxels], judged.arteries[piece], protocol, notes=judged.notes, note_of_voxel=piece
    )
    return lesions, judged.ledger
