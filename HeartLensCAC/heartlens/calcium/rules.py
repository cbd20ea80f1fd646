"""Coronary calcium by rules alone: candidates, what the exclusion rules leave, and the artery of each piece."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion, artery_likelihood
from heartlens.calcium.exclusion import Pieces, Removed, apply_rules, find_pieces
from heartlens.calcium.extraction import candidate_mask, extract_lesions
from heartlens.ct import CTVolume
from heartlens.lesions import CORONARY, Artery, LesionMap, LesionNote
from heartlens.protocol import ScoringProtocol

LEAST_SHARE = 0.5
"""Of the likelihood that the best artery must have over the four; less is named UNASSIGNED."""


def find_lesions(ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol) -> tuple[LesionMap, tuple[Removed, ...]]:
    """Coronary lesions by rules alone: what the exclusion rules leave, named by where it lies in the heart.

    Returns
    -------
    lesions : each with a probability and a reason
    ledger : what each rule removed, in order; see `heartlens.exclusion`
    """
    # Wider than the zone, so that a rib that reaches into it is seen as a rib.
    pieces = find_pieces(ct, region, candidate_mask(ct, protocol, region.box(ct, margin_mm=8)), protocol)
    left, ledger = apply_rules(pieces)
    if not left.any():
        return LesionMap.empty(ct.shape), ledger
    arteries, notes = name_pieces(pieces, region)
    voxels = left[pieces.piece]
    piece = pieces.piece[voxels]
    lesions = extract_lesions(ct, pieces.flat[voxels], arteries[piece], protocol, notes=notes, note_of_voxel=piece)
    return lesions, ledger


def name_pieces(pieces: Pieces, region: HeartRegion) -> tuple[NDArray[np.uint8], list[LesionNote]]:
    """Artery, probability and reason of each piece, from its place relative to the aortic root."""
    offset = pieces.center_mm - region.root_mm
    level_known = not (region.cut_top and region.cut_bottom)
    likelihood = artery_likelihood(offset, level_known=level_known)
    table = np.stack([likelihood[artery] for artery in CORONARY], axis=1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300)
    best = share.argmax(axis=1)
    codes = np.array([int(artery) for artery in CORONARY], np.uint8)[best]
    sure = share[np.arange(len(best)), best]
    codes[sure < LEAST_SHARE] = Artery.UNASSIGNED
    probability = coronary_probability(pieces, table.max(axis=1))
    distance = np.linalg.norm(pieces.center_mm - region.root_mm, axis=1)
    notes = []
    for n in range(pieces.count):
        where = f"{distance[n]:.0f} mm from the aortic root"
        around = f"fat around {100 * pieces.fat_share[n]:.0f} %"
        name = CORONARY[best[n]].name
        course = (
            f"on the course of the {name}"
            if codes[n] != Artery.UNASSIGNED
            else f"between the courses of {name} and another artery"
        )
        notes.append(LesionNote(float(probability[n]), "rules", f"{course}, {where}, {around}"))
    return codes, notes


def coronary_probability(pieces: Pieces, likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """(pieces,) that a piece is coronary calcium; logistic in fat, density and fit to the courses."""
    logit = (
        -1.0
        + 4.0 * np.minimum(pieces.fat_share, 0.5)
        + 1.0 * np.log10(np.maximum(likelihood, 1e-6) * 100)
        + 1.5 * np.log2(np.maximum(pieces.peak_hu, 130) / 130)
    )
    return 1 / (1 + np.exp(-logit))
