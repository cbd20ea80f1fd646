"""From a network's opinion of each pixel to named lesions: islands vote, because the island is the lesion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium import candidate_mask, extract_lesions
from heartlens.ct import CTVolume
from heartlens.islands import find_islands
from heartlens.lesions import Artery, LesionMap, LesionNote
from heartlens.models.preprocess import Crop, View, heart_center, network_input, place_crop
from heartlens.protocol import ScoringProtocol

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, channels, size, size) -> (n, classes, size, size) logits, on whatever runs it."""

BATCH = 8
"""Slices at a time; more would take memory and save nothing on a CPU."""


def segment_vessels(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    view: View,
    classes: Sequence[str],
    protocol: ScoringProtocol,
    *,
    coronary_cut_off: float = 0.5,
    slices: NDArray[np.bool_] | None = None,
) -> LesionMap:
    """Name every island of dense voxels that the view shows.

    Parameters
    ----------
    classes : of the network's outputs; the first is "none", the others are names of `Artery`
    coronary_cut_off : least probability of all arteries together that makes an island coronary
    slices : (k,) slices to look at; None looks at all with dense voxels in the heart

    Returns
    -------
    Lesions with the probability that they are coronary; islands that are none of it are left out
    """
    candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
    k, j, i = np.unravel_index(candidates.flat, ct.shape)
    crop = place_crop(ct.shape, ct.spacing_mm, view, heart_center(ct, region))
    row, column = crop.in_view(j, 0), crop.in_view(i, 1)
    seen = (row >= 0) & (row < view.size_px) & (column >= 0) & (column < view.size_px)
    if slices is not None:
        seen &= slices[k]
    flat = candidates.flat[seen]
    if not flat.size:
        return LesionMap.empty(ct.shape)
    opinion = _opinions(ct, network, view, crop, (k[seen], row[seen], column[seen]), len(classes))

    island = find_islands(flat, ct.shape, connectivity=26)
    voters = np.bincount(island).astype(np.float32)
    vote = np.stack([np.bincount(island, weights=column_of) for column_of in opinion.T], axis=1) / voters[:, None]
    artery, p_coronary = decide(vote, classes, coronary_cut_off)
    notes = [_note(p, v, classes) for p, v in zip(p_coronary, vote, strict=True)]
    return extract_lesions(ct, flat, artery[island], protocol, notes=notes, note_of_voxel=island)


def decide(
    vote: NDArray, classes: Sequence[str], coronary_cut_off: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The artery of each island from its mean probabilities.

    An island is coronary when the arteries together reach the cut-off; then the likeliest of them names it. Otherwise
    it is OTHER where the network has that class and finds it likelier than none.

    Parameters
    ----------
    vote : (islands, classes)

    Returns
    -------
    artery : (islands,) `Artery` code, 0 for none
    p_coronary : (islands,)
    """
    codes = np.array([0, *(Artery[name] for name in classes[1:])], np.uint8)
    coronary = np.flatnonzero((codes > 0) & (codes != Artery.OTHER))
    p_coronary = vote[:, coronary].sum(axis=1)
    rest = np.flatnonzero((codes == 0) | (codes == Artery.OTHER))
    named = codes[coronary[vote[:, coronary].argmax(axis=1)]]
    left = codes[rest[vote[:, rest].argmax(axis=1)]]
    return np.where(p_coronary >= coronary_cut_off, named, left).astype(np.uint8), p_coronary


def _opinions(
    ct: CTVolume,
    network: Network,
    view: View,
    crop: Crop,
    places: tuple[NDArray, NDArray, NDArray],
    classes: int,
) -> NDArray[np.float32]:
    """(voxels, classes) probabilities; each slice with candidates goes through the network once."""
    k, row, column = places
    found = np.zeros((k.size, classes), np.float32)
    wanted = np.unique(k)
    for first in range(0, wanted.size, BATCH):
        chunk = wanted[first : first + BATCH]
        logits = network(np.stack([network_input(ct.hu, int(n), crop, view) for n in chunk]))
        here = np.flatnonzero(np.isin(k, chunk))
        told = logits[np.searchsorted(chunk, k[here]), :, row[here], column[here]]
        told = np.exp(told - told.max(axis=1, keepdims=True))
        found[here] = told / told.sum(axis=1, keepdims=True)
    return found


def _note(p_coronary: float, vote: NDArray, classes: Sequence[str]) -> LesionNote:
    order = np.argsort(-vote)[:2]
    why = ", ".join(f"{classes[n]} {vote[n]:.2f}" for n in order)
    return LesionNote(float(np.clip(p_coronary, 0, 1)), "network", f"its voxels vote {why}")
