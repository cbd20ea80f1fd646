"""Which artery a piece of calcium lies in, and how likely it is coronary at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import artery_likelihood, course_fit
from heartlens.calcium.pieces import Pieces
from heartlens.core.lesions import CORONARY, Artery, LesionNote
from heartlens.core.provenance import LabelSource

LEAST_SHARE = 0.45
"""Of the likelihood that the best artery must have over the four; less is named UNASSIGNED."""

LOGISTIC = (-3.5, 4.5, 1.3, 5.0, 0.6, 0.2)
"""Weights of `probability_features`: ridge logistic regression on the 1064 pieces near the hearts of 30 phantoms (seeds
1000 to 1029), 215 of them coronary, pieces of noise counted a fifth; air around was dropped, it told nothing more."""

NEIGHBOR_WEIGHT = 1.0
NEIGHBOR_MM = 12.0
"""Plaques close to one another lie in one artery more often than not: how much, and how close."""


def name_pieces_by_rules(pieces: Pieces, left: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], list[LesionNote]]:
    """Artery, probability and reason of each piece, from its place relative to the aortic root.

    Parameters
    ----------
    pieces
        All pieces above the threshold.
    left
        (pieces,) the ones that are named; only they support one another

    Returns
    -------
    tuple[NDArray[np.uint8], list[LesionNote]]
        (pieces,) `Artery` codes, and a note for each; those not in `left` are UNASSIGNED with an empty note
    """
    codes = np.full(pieces.count, int(Artery.UNASSIGNED), np.uint8)
    notes = [LesionNote(0.0, LabelSource.RULES)] * pieces.count
    named = np.flatnonzero(left)
    if not named.size:
        return codes, notes
    offset = pieces.center_mm[named] - root_mm(pieces)
    likelihood = artery_likelihood(offset, level_known=not pieces.region.is_short)
    table = np.stack([likelihood[artery] for artery in CORONARY], axis=1)
    size = (pieces.volume_mm3 * pieces.accepted)[named]
    # Far from every course all likelihoods underflow; such a piece belongs to no artery more than to another.
    total = np.maximum(table.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    share = with_neighbors(table / total, offset, size)
    best = share.argmax(axis=1)
    sure = share.max(axis=1) >= LEAST_SHARE
    codes[named[sure]] = np.array([int(artery) for artery in CORONARY], np.uint8)[best[sure]]
    fit = np.stack([course_fit(offset, a, level_known=not pieces.region.is_short) for a in CORONARY]).max(axis=0)
    probability = coronary_probability(pieces, named, fit)
    distance = np.linalg.norm(offset, axis=1)
    for n, index in enumerate(named):
        name = CORONARY[best[n]].name
        course = f"near the course of the {name}" if sure[n] else f"between the course of the {name} and another"
        fat = 100 * pieces.fat_share[index]
        why = f"{course}, {distance[n]:.0f} mm from the aortic root, {fat:.0f} % of its surroundings fat"
        notes[index] = LesionNote(float(probability[n]), LabelSource.RULES, why)
    return codes, notes


def root_mm(pieces: Pieces) -> NDArray[np.float64]:
    """(3,) LPS of the aortic root; on a scan of a few slices a calcified ring shows it best."""
    root = np.array(pieces.region.root_mm)
    if pieces.rings and (pieces.region.is_short or not pieces.region.ascending.found.any()):
        root[:2] = np.median([(ring.x_mm, ring.y_mm) for ring in pieces.rings], axis=0)
    return root


def with_neighbors(
    share: NDArray[np.float64], place_mm: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares of the arteries after each piece has listened to those near it.

    Parameters
    ----------
    share
        (n, 4)
    place_mm
        (n, 3)
    size
        (n,) of each piece, 0 for those that have no say; a larger neighbor counts more, at most twice

    Returns
    -------
    NDArray[np.float64]
        (n, 4), rows sum to 1
    """
    log_share = np.log(np.maximum(share, 1e-4))
    speakers = np.flatnonzero(size > 0)
    gap = np.linalg.norm(place_mm[:, None] - place_mm[None, speakers], axis=2)
    influence = np.sqrt(size[None, speakers] / np.maximum(size[:, None], 1e-3)).clip(0.5, 2)
    weight = np.exp(-((gap / NEIGHBOR_MM) ** 2)) * influence
    weight[speakers, np.arange(speakers.size)] = 0
    weight *= NEIGHBOR_WEIGHT / np.maximum(weight.sum(axis=1, keepdims=True), 1)
    log_share = log_share + weight @ log_share[speakers]
    out = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    return out / out.sum(axis=1, keepdims=True)


def coronary_probability(
    pieces: Pieces, which: NDArray[np.integer], course_fit_: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) that a piece is coronary calcium, by `LOGISTIC`."""
    logit = probability_features(pieces, which, course_fit_) @ np.array(LOGISTIC)
    return 1 / (1 + np.exp(-logit))


def probability_features(
    pieces: Pieces, which: NDArray[np.integer], course_fit_: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n, 6) constant, fat around, depth in the heart, fit to a course, density, size; each 0 to 1 or so."""
    return np.stack(
        [
            np.ones(len(which)),
            np.minimum(pieces.fat_share[which], 0.2) / 0.2,
            np.minimum(pieces.depth_mm[which], 4) / 4,
            np.maximum(course_fit_, -6) / 6,
            np.minimum((pieces.peak_hu[which] - 130) / 150, 1),
            np.minimum(np.log2(np.maximum(pieces.volume_mm3[which], 3) / 3) / 3, 1),
        ],
        axis=1,
    )
