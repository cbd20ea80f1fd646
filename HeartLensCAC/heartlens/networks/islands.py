"""Which islands of dense voxels are whose, by the votes of the vessel network.

The island is the lesion, because a reader clicks islands; so the network's opinion of pixels becomes a vote of islands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium import RulesOpinion, candidate_mask, extract_lesions
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.networks.bundle import VesselStage
from heartlens.networks.inference import BATCH, Network, ProgressCallback, require_finite
from heartlens.networks.view import Crop, NetworkView, place_crop

KEPT_AS_BORDERLINE = 0.05
"""Islands that are not called coronary stay on the map, as OTHER, from this calibrated probability on: a reader can see
them and take them back, and the probability of a category counts them."""

EDGE_LOG_ODDS = float(np.log(3))
"""Nearer than this to the cut-off, in calibrated log odds, a lesion is marked for review. At a cut-off of one half that
is a probability of 0.25 to 0.75: where the networks are wrong in one of four or more."""

SURE_OF_NOTHING = 0.5
"""Votes for "none" from which the rules are not heard: bone, lung and edges are known to the networks. What they call
OTHER they may have learned by its place, and places differ from heart to heart."""


CLEAR_SHARE = 0.6
"""Of a piece's votes for arteries: with less it keeps the name of its island."""

LEAST_PART_MM3 = 15.0
"""Of an island that takes another artery's name; less is a change of the network's mind, no fork."""


def segment_vessels(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    stage: VesselStage,
    protocol: ScoringProtocol,
    *,
    chosen_slices: NDArray[np.bool_] | None = None,
    rules: RulesOpinion | None = None,
    batch: int = BATCH,
    on_progress: ProgressCallback | None = None,
) -> LesionMap:
    """Name every island of dense voxels that the view shows, whole or in part.

    Parameters
    ----------
    ct, region
        The scan on its scored grid, and its heart.
    network
        (n, channels, size, size) -> (n, classes, size, size) logits
    stage
        What the network sees, its classes, its cut-off, and what makes its votes the probability that is noted.
    protocol
        What an island is.
    chosen_slices
        (k,) slices to look at; None looks at all with dense voxels in the heart. An island that reaches one of them is
        named as a whole, by its voxels there
    rules
        A second opinion: an island that the network refuses as something else, and not as nothing, stays as OTHER and
        undecided where the rules dispute it (`RulesOpinion.disputes`).
    batch
        Slices at a time.
    on_progress
        Called between batches.

    Returns
    -------
    LesionMap
        Lesions with the probability that they are coronary; the other islands are left out, save those that are OTHER
        or in doubt (`KEPT_AS_BORDERLINE`). What is near the cut-off is undecided (`EDGE_LOG_ODDS`).
    """
    candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
    island = label_components(candidates.flat, ct.shape, connectivity=26)
    seen = _Seen.of(ct, region, stage.view, candidates.flat, chosen_slices)
    has_vote = np.zeros(island.max(initial=-1) + 1, bool)
    has_vote[island[seen.voxels]] = True
    if not has_vote.any():
        return LesionMap.empty(ct.shape)
    number = np.cumsum(has_vote) - 1  # of the islands that have a vote
    voter = number[island[seen.voxels]]
    probability = _pixel_probability(ct, network, stage, seen, batch, on_progress)
    summed = np.stack([np.bincount(voter, weights=of_class) for of_class in probability.T], axis=1)
    vote = summed / np.bincount(voter)[:, None]

    artery, p_coronary = name_islands_by_votes(vote, stage.classes, stage.cut_off)
    named = has_vote[island]
    member = number[island[named]]
    counts = np.zeros(len(vote), bool)
    counts[member[candidates.accepted[candidates.island[named]]]] = True
    log_odds, p_true = stage.calibration.log_odds, stage.calibration(p_coronary)
    artery[(artery == 0) & counts & (p_true >= KEPT_AS_BORDERLINE)] = Artery.OTHER
    near = np.abs(log_odds(p_coronary) - log_odds(stage.cut_off)) <= EDGE_LOG_ODDS
    reasons = np.where(near, f"close to the cut-off of {float(stage.calibration(stage.cut_off)):.2f}", "").astype(
        object
    )
    if rules is not None:
        p_rules = rules.disputed(candidates.flat[named], member, len(vote))
        disputed = counts & ~near & (p_coronary < stage.cut_off) & (vote[:, 0] < SURE_OF_NOTHING) & np.isfinite(p_rules)
        artery[disputed] = Artery.OTHER
        p_true = np.where(disputed, (p_true + p_rules) / 2, p_true)  # a linear opinion pool of two (Stone 1961)
        reasons[disputed] = "by place and surroundings it may be coronary"
    notes = [_note(p, v, stage.classes, reason) for p, v, reason in zip(p_true, vote, reasons, strict=True)]
    piece = np.unique(candidates.island[named], return_inverse=True)[1]
    votes = np.zeros((named.size, len(stage.classes)), np.float32)
    votes[seen.voxels] = probability
    codes = name_along_islands(ct, candidates.flat[named], piece, artery[member], votes[named], stage.classes)
    return extract_lesions(ct, candidates.flat[named], codes, protocol, notes=notes, note_of_voxel=member)


def name_along_islands(
    ct: CTVolume,
    flat: NDArray[np.int64],
    piece: NDArray[np.int64],
    artery: NDArray[np.uint8],
    votes: NDArray[np.float32],
    classes: Sequence[str],
) -> NDArray[np.uint8]:
    """Share a long coronary island out among the arteries that it runs through, slice by slice.

    Only whole pieces within a slice change their artery, so that every score stays what it is and the total with it; a
    fork that lies within one slice keeps one name.

    Parameters
    ----------
    ct
        The scan.
    flat
        (n,) C-order indices of dense voxels into it, ascending
    piece
        (n,) piece within its slice of each, 0-based
    artery
        (n,) code of each voxel's island
    votes
        (n, classes) of each voxel; 0 where the network was not asked
    classes
        Of the votes; the first is "none", the others are names of `Artery`.

    Returns
    -------
    NDArray[np.uint8]
        (n,) `Artery` codes: a piece whose votes for another artery are `CLEAR_SHARE` of its votes for arteries takes
        its name, when what takes it hangs together and has `LEAST_PART_MM3`
    """
    is_coronary = np.isin(artery, CORONARY)
    columns = [n for n, name in enumerate(classes) if name in Artery.__members__ and Artery[name] in CORONARY]
    codes = np.array([Artery[classes[n]] for n in columns], np.uint8)
    summed = np.stack([np.bincount(piece, votes[:, n]) for n in columns], axis=1)
    total = summed.sum(axis=1)
    is_clear = summed.max(axis=1) >= CLEAR_SHARE * np.maximum(total, np.finfo(float).tiny)
    own = np.where(is_clear, codes[summed.argmax(axis=1)], 0)[piece]
    changed = is_coronary & (own > 0) & (own != artery)
    proposed = np.where(changed, own, artery).astype(np.uint8)
    group = proposed.astype(np.int64) * 2 + is_coronary
    part = label_components(flat, ct.shape, connectivity=26, group=group)
    too_small = np.bincount(part) * ct.voxel_volume_mm3 < LEAST_PART_MM3
    return np.where(changed & too_small[part], artery, proposed).astype(np.uint8)


def name_islands_by_votes(
    vote: NDArray, classes: Sequence[str], coronary_cut_off: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The artery of each island from its mean probabilities.

    An island is coronary when the arteries together reach the cut-off; then the likeliest of them names it. Otherwise
    it is OTHER where the network has that class and finds it likelier than none.

    Parameters
    ----------
    vote
        (islands, classes)
    classes
        Of the votes; the first is "none", the others are names of `Artery`.
    coronary_cut_off
        Least probability of all arteries together that makes an island coronary.

    Returns
    -------
    artery : NDArray[np.uint8]
        (islands,) `Artery` code, 0 for none
    p_coronary : NDArray[np.float64]
        (islands,)
    """
    codes = np.array([0, *(Artery[name] for name in classes[1:])], np.uint8)
    coronary = np.flatnonzero((codes > 0) & (codes != Artery.OTHER))
    p_coronary = vote[:, coronary].sum(axis=1)
    rest = np.flatnonzero((codes == 0) | (codes == Artery.OTHER))
    named = codes[coronary[vote[:, coronary].argmax(axis=1)]]
    left = codes[rest[vote[:, rest].argmax(axis=1)]]
    return np.where(p_coronary >= coronary_cut_off, named, left).astype(np.uint8), p_coronary


@dataclass(frozen=True)
class _Seen:
    """Candidate voxels that a view shows on the slices that are looked at.

    Parameters
    ----------
    crop
        Where the view lies.
    voxels
        (n,) positions among the candidates
    k, row, column
        (n,) slice of each, and its pixel of the view
    """

    crop: Crop
    voxels: NDArray[np.int64]
    k: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        ct: CTVolume,
        region: HeartRegion,
        view: NetworkView,
        flat: NDArray[np.int64],
        chosen_slices: NDArray[np.bool_] | None,
    ) -> _Seen:
        crop = place_crop(ct.shape, ct.spacing_mm, view, view.center_px(ct, region))
        k, j, i = np.unravel_index(flat, ct.shape)
        row, column = crop.in_view(j, 0), crop.in_view(i, 1)
        is_seen = (row >= 0) & (row < view.size_px) & (column >= 0) & (column < view.size_px)
        if chosen_slices is not None:
            is_seen &= chosen_slices[k]
        return cls(crop, np.flatnonzero(is_seen), k[is_seen], row[is_seen], column[is_seen])


def _pixel_probability(
    ct: CTVolume, network: Network, stage: VesselStage, seen: _Seen, batch: int, on_progress: ProgressCallback | None
) -> NDArray[np.float32]:
    """(voxels, classes) probabilities; each slice with candidates goes through the network once."""
    probability = np.zeros((seen.k.size, len(stage.classes)), np.float32)
    wanted = np.unique(seen.k)
    for first in range(0, wanted.size, batch):
        chunk = wanted[first : first + batch]
        if on_progress:
            on_progress(first / wanted.size)
        logits = network(np.stack([stage.view.render(ct.hu, int(n), seen.crop) for n in chunk]))
        require_finite(logits, "vessel network")
        here = np.flatnonzero(np.isin(seen.k, chunk))
        at_voxels = logits[np.searchsorted(chunk, seen.k[here]), :, seen.row[here], seen.column[here]]
        odds = np.exp(at_voxels - at_voxels.max(axis=1, keepdims=True))
        probability[here] = odds / odds.sum(axis=1, keepdims=True)
    return probability


def _note(p_coronary: float, vote: NDArray, classes: Sequence[str], doubt: str) -> LesionNote:
    """What is said of an island; it is undecided when there is a reason to doubt its name."""
    order = np.argsort(-vote)[:2]
    why = "network votes: " + ", ".join(f"{classes[n]} {vote[n]:.2f}" for n in order)
    if doubt:
        why += f"; {doubt}: review"
    return LesionNote(float(np.clip(p_coronary, 0, 1)), LabelSource.NETWORK, why, bool(doubt))
