"""Which islands of dense voxels are whose, by the votes of the vessel network.

The island is the lesion, because a reader clicks islands; so the network's opinion of pixels becomes a vote of islands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

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

TORN = 0.5
"""Of a called island's votes for arteries, as many for OTHER leave it to a reader, however sure the rules are: stents
look like plaque to the rules. Of 15 held-out islands that were called falsely for certain this takes back 8, of 116
that were called rightly 13, all of these on real scans."""

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
        A second opinion. A bundle with a fusion weighs it (`heartlens.networks.fusion`). Without one, an island that
        the network refuses as something else, and not as nothing, stays as OTHER and undecided where the rules dispute
        it (`RulesOpinion.disputes`).
    batch
        Slices at a time.
    on_progress
        Called between batches.

    Returns
    -------
    LesionMap
        Lesions with the probability that they are coronary; the other islands are left out, save those that are OTHER
        or in doubt (`KEPT_AS_BORDERLINE`). What is near the cut-off (`EDGE_LOG_ODDS`), or in the fusion's band, is
        undecided.
    """
    islands = vote_of_islands(
        ct, region, network, stage, protocol, chosen_slices=chosen_slices, batch=batch, on_progress=on_progress
    )
    if islands is None:
        return LesionMap.empty(ct.shape)
    said = _by_network(islands, stage)
    if rules is not None:
        said = _by_both(islands, stage, rules) if stage.fusion else _with_disputes(said, islands, rules)
    artery = name_islands_by_votes(islands.vote, stage.classes, said.is_called)
    is_kept = islands.counts & ((said.doubt != "") | (said.probability >= KEPT_AS_BORDERLINE))
    artery[(artery == 0) & is_kept] = Artery.OTHER
    notes = [
        _note(p, v, stage.classes, why)
        for p, v, why in zip(said.probability, islands.vote, said.doubt.tolist(), strict=True)
    ]
    codes = name_along_islands(
        ct, islands.flat, islands.piece, artery[islands.member], islands.voxel_votes, stage.classes
    )
    return extract_lesions(ct, islands.flat, codes, protocol, notes=notes, note_of_voxel=islands.member)


class _Said(NamedTuple):
    """What is said of each island: whether it is coronary, how likely, and why a reader has to look, or ""."""

    is_called: NDArray[np.bool_]
    probability: NDArray[np.float64]
    doubt: NDArray[np.str_]


def _by_network(islands: IslandVotes, stage: VesselStage) -> _Said:
    log_odds = stage.calibration.log_odds
    near = np.abs(log_odds(islands.p_coronary) - log_odds(stage.cut_off)) <= EDGE_LOG_ODDS
    doubt = f"close to the cut-off of {float(stage.calibration(stage.cut_off)):.2f}"
    is_called = islands.p_coronary >= stage.cut_off
    return _Said(is_called, stage.calibration(islands.p_coronary), np.where(near, doubt, ""))


def _with_disputes(said: _Said, islands: IslandVotes, rules: RulesOpinion) -> _Said:
    """The network's word, and a doubt where the rules dispute what it refuses as something else."""
    p_rules = islands.mean_by_rules(rules, rules.disputes)
    disputed = islands.is_something & (said.doubt == "") & ~said.is_called & np.isfinite(p_rules)
    pooled = (said.probability + p_rules) / 2  # a linear opinion pool of two (Stone 1961)
    doubt = np.where(disputed, "by place and surroundings it may be coronary", said.doubt)
    return said._replace(probability=np.where(disputed, pooled, said.probability), doubt=doubt)


def _by_both(islands: IslandVotes, stage: VesselStage, rules: RulesOpinion) -> _Said:
    assert stage.fusion is not None
    p = stage.fusion(islands.p_coronary, islands.vote[:, 0], islands.mean_by_rules(rules, rules.probability))
    is_called = p >= stage.fusion.cut_off
    other = [n for n, name in enumerate(stage.classes) if name == Artery.OTHER.name]
    is_torn = is_called & (islands.vote[:, other].sum(axis=1) >= TORN * islands.p_coronary)
    is_large = islands.is_something & ~is_called & np.isfinite(islands.mean_by_rules(rules, rules.large_disputes))
    in_doubt = stage.fusion.is_undecided(p) | is_torn | is_large
    return _Said(is_called, p, np.where(in_doubt, "networks and rules do not agree for certain", ""))


@dataclass(frozen=True, eq=False)
class IslandVotes:
    """What the vessel network says of every island of dense voxels that its view shows, whole or in part.

    Parameters
    ----------
    flat
        (n,) C-order indices of their voxels, ascending
    piece
        (n,) piece within its slice of each, 0-based
    member
        (n,) island of each, 0-based
    voxel_votes
        (n, classes); 0 where the network was not asked
    vote
        (islands, classes) mean over the voxels of which it was asked
    p_coronary
        (islands,) votes for all arteries together
    counts
        (islands,) bool, large enough to be scored
    """

    flat: NDArray[np.int64]
    piece: NDArray[np.int64]
    member: NDArray[np.int64]
    voxel_votes: NDArray[np.float32]
    vote: NDArray[np.float64]
    p_coronary: NDArray[np.float64]
    counts: NDArray[np.bool_]

    @property
    def is_something(self) -> NDArray[np.bool_]:
        """(islands,) that count and that the network does not take for nothing."""
        return self.counts & (self.vote[:, 0] < SURE_OF_NOTHING)

    def mean_by_rules(self, rules: RulesOpinion, of_piece: NDArray[np.float64]) -> NDArray[np.float64]:
        """(islands,) a value of the rules' pieces as one of these islands; see `RulesOpinion.mean_of_groups`."""
        return rules.mean_of_groups(of_piece, self.flat, self.member, len(self.vote))


def vote_of_islands(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    stage: VesselStage,
    protocol: ScoringProtocol,
    *,
    chosen_slices: NDArray[np.bool_] | None = None,
    batch: int = BATCH,
    on_progress: ProgressCallback | None = None,
) -> IslandVotes | None:
    """Ask the network about every island that its view shows; None where there is none. See `segment_vessels`."""
    candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
    island = label_components(candidates.flat, ct.shape, connectivity=26)
    seen = _Seen.of(ct, region, stage.view, candidates.flat, chosen_slices)
    has_vote = np.zeros(island.max(initial=-1) + 1, bool)
    has_vote[island[seen.voxels]] = True
    if not has_vote.any():
        return None
    number = np.cumsum(has_vote) - 1  # of the islands that have a vote
    voter = number[island[seen.voxels]]
    probability = _pixel_probability(ct, network, stage, seen, batch, on_progress)
    summed = np.stack([np.bincount(voter, weights=of_class) for of_class in probability.T], axis=1)
    vote = summed / np.bincount(voter)[:, None]
    named = has_vote[island]
    member = number[island[named]]
    counts = np.zeros(len(vote), bool)
    counts[member[candidates.accepted[candidates.island[named]]]] = True
    votes = np.zeros((island.size, len(stage.classes)), np.float32)
    votes[seen.voxels] = probability
    return IslandVotes(
        flat=candidates.flat[named],
        piece=np.unique(candidates.island[named], return_inverse=True)[1],
        member=member,
        voxel_votes=votes[named],
        vote=vote,
        p_coronary=vote[:, _coronary_columns(stage.classes)].sum(axis=1),
        counts=counts,
    )


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
    columns = _coronary_columns(classes)
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
    vote: NDArray[np.float64], classes: Sequence[str], is_called: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The artery of each island from its mean probabilities.

    The likeliest artery names what is called coronary. What is not is OTHER where the network has that class and finds
    it likelier than none.

    Parameters
    ----------
    vote
        (islands, classes)
    classes
        Of the votes; the first is "none", the others are names of `Artery`.
    is_called
        (islands,) which are coronary

    Returns
    -------
    NDArray[np.uint8]
        (islands,) `Artery` code, 0 for none
    """
    codes = np.array([0, *(Artery[name] for name in classes[1:])], np.uint8)
    coronary = _coronary_columns(classes)
    rest = np.flatnonzero((codes == 0) | (codes == Artery.OTHER))
    named = codes[coronary[vote[:, coronary].argmax(axis=1)]]
    left = codes[rest[vote[:, rest].argmax(axis=1)]]
    return np.where(is_called, named, left).astype(np.uint8)


def _coronary_columns(classes: Sequence[str]) -> NDArray[np.int64]:
    codes = np.array([0, *(Artery[name] for name in classes[1:])], np.uint8)
    return np.flatnonzero((codes > 0) & (codes != Artery.OTHER))


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
