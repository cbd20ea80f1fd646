"""Coronary calcium by rules alone: candidates, what the exclusion rules leave, and the artery of each piece."""

from __future__ import annotations

import numpy as np

from heartlens.anatomy import HeartRegion
from heartlens.calcium.arteries_by_rules import name_pieces_by_rules
from heartlens.calcium.exclusion import Removed, apply_rules, charge
from heartlens.calcium.extraction import candidate_mask, extract_lesions
from heartlens.calcium.pieces import find_pieces
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import LesionMap
from heartlens.core.protocol import ScoringProtocol

LEAST_PROBABILITY = 0.4
"""A piece less likely coronary than this is left out."""


def find_lesions(ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol) -> tuple[LesionMap, tuple[Removed, ...]]:
    """Coronary lesions by rules alone: what the exclusion rules leave, named by where it lies in the heart.

    Returns
    -------
    lesions : LesionMap
        Each with a probability and a reason.
    ledger : tuple[Removed, ...]
        What each rule removed, in order; see `heartlens.calcium.exclusion`.
    """
    # Wider than the zone, so that a rib that reaches into it is seen as a rib.
    pieces = find_pieces(ct, region, candidate_mask(ct, protocol, region.box(ct, margin_mm=8)), protocol)
    left, ledger = apply_rules(pieces)
    arteries, notes = name_pieces_by_rules(pieces, left)
    unlikely = left & np.array([(note.probability or 0) < LEAST_PROBABILITY for note in notes], bool)
    left &= ~unlikely
    because = f"The probability from surroundings, place and density is below {LEAST_PROBABILITY}"
    ledger = (*ledger, charge(pieces, "unlikely", because, unlikely))
    voxels = left[pieces.piece]
    piece = pieces.piece[voxels]
    lesions = extract_lesions(ct, pieces.flat[voxels], arteries[piece], protocol, notes=notes, note_of_voxel=piece)
    return lesions, ledger
