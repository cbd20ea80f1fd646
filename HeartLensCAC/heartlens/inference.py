"""The one door to the networks: which slices show calcium, and which islands on them are whose.

The island is the lesion, because a reader clicks islands; so the networks' opinion of pixels becomes a vote of islands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium import candidate_mask, extract_lesions
from heartlens.ct import CTVolume
from heartlens.islands import find_islands
from heartlens.lesions import CORONARY, Artery, LesionMap, LesionNote
from heartlens.models.bundle import SLICES, VESSEL, Bundle, Calibration, Together, logit
from heartlens.models.networks import (
    OnnxNetwork,
    OutOfDeviceMemory,
    TorchNetwork,
    cpu_threads,
    sees_cuda,
    torch_can_run,
)
from heartlens.models.preprocess import Crop, View, heart_center, network_input, place_crop
from heartlens.models.slice_view import SliceView
from heartlens.protocol import ScoringProtocol
from heartlens.refusal import Caution, Refused

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, channels, size, size) -> (n, classes, size, size) logits or (n,) probabilities, on whatever runs it."""

KEPT_IN_DOUBT = 0.05
"""Islands that are not called coronary stay on the map, as OTHER, from this calibrated probability on: a reader can see
them and take them back, and the probability of a category counts them."""

EDGE_LOG_ODDS = float(np.log(3))
"""Nearer than this to the cut-off, in calibrated log odds, a lesion is marked for review. At a cut-off of one half that
is a probability of 0.25 to 0.75: where the networks are wrong in one of four or more."""

SURE_OF_SLICE = 0.9
"""From this p(calcified) on, a slice without any lesion called coronary is told of: one of the two networks is wrong
there. A choice, not a fitted value."""

WORTH_A_GPU = 200
"""Slices from which "auto" starts torch for a GPU. On one scan the CPU was done in 5 s where an H200 took 11, 6 of them
to import torch and wake the GPU; a CPU of two cores does some 200 slices in that time."""

Told = Callable[[float], None]
"""Called between batches with the fraction that is done; what it raises ends the work."""

BATCH = 4
"""Slices at a time on a CPU: more would save nothing, and a cancelled job would wait for them."""

BATCH_ON_GPU = 32


class Networks:
    """A bundle's networks on one device. When the GPU runs out of memory, the CPU takes over and a caution says so.

    Parameters
    ----------
    device : "cpu", "cuda", or "auto": cuda where torch is installed, sees one and knows the bundle's architectures, and
        it is worth waking it: torch is loaded already, or there are `WORTH_A_GPU` slices
    slices : how many there are to look at, for "auto"; None is many

    Attributes
    ----------
    vessel, slices : see `Network`; `slices` is None when the bundle has no such stage
    device : "cpu" or "cuda", whatever ran last
    cautions : what went otherwise than asked

    Raises
    ------
    Refused : "input": cuda was asked for and there is none, or a file that cannot be run
    """

    def __init__(self, bundle: Bundle, device: str = "auto", *, slices: int | None = None) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
        is_worth_it = slices is None or slices >= WORTH_A_GPU or "torch" in sys.modules
        has_cuda = device == "cuda" or (device == "auto" and is_worth_it and torch_can_run(bundle))
        if has_cuda and not sees_cuda():
            if device == "cuda":
                raise Refused(
                    "input", "--device cuda: torch is not installed or sees no GPU (heartlens doctor); use --device cpu"
                )
            has_cuda = False
        self.bundle = bundle
        self.device = "cuda" if has_cuda else "cpu"
        self.cautions: list[Caution] = []
        self._loaded: dict[str, Network] = {}

    @property
    def batch(self) -> int:
        return BATCH_ON_GPU if self.device == "cuda" else BATCH

    def vessel(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._run(VESSEL, image)

    @property
    def slices(self) -> Network | None:
        return None if self.bundle.slices is None else lambda image: self._run(SLICES, image)

    def _run(self, role: str, image: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.device == "cuda":
            try:
                return self._network(role)(image)
            except OutOfDeviceMemory:
                self.device = "cpu"
                self._loaded.clear()
                text = "the GPU ran out of memory; the networks ran on the CPU, slower, with the same result"
                self.cautions.append(Caution("device", text))
        return np.concatenate([self._network(role)(image[n : n + BATCH]) for n in range(0, len(image), BATCH)])

    def _network(self, role: str) -> Network:
        if role not in self._loaded:
            if self.device == "cuda":
                self._loaded[role] = TorchNetwork(self.bundle, role, device="cuda")
            else:
                self._loaded[role] = OnnxNetwork(self.bundle, role, threads=cpu_threads())
        return self._loaded[role]


def slices_to_ask(ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol) -> NDArray[np.bool_]:
    """(k,) slices with an island that is large enough to count and reaches into the zone of the coronary arteries.

    The others go to no network.
    """
    asked = np.zeros(ct.shape[0], bool)
    if region.in_view:
        candidates = candidate_mask(ct, protocol, region.box(ct))
        counts = candidates.flat[candidates.accepted[candidates.island]]
        k, j, i = np.unravel_index(counts, ct.shape)
        asked[k[region.grid.sample(region.zone, np.stack([k, j, i], axis=-1))]] = True
    return asked


def classify_slices(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    view: SliceView,
    asked: NDArray[np.bool_],
    *,
    batch: int = BATCH,
    told: Told | None = None,
) -> NDArray[np.float64]:
    """How likely each slice shows coronary calcium.

    Parameters
    ----------
    network : (n, 1, size, size) -> (n,)
    asked : (k,) slices to look at

    Returns
    -------
    (k,) p(calcified); nan where it was not asked
    """
    found = np.full(ct.shape[0], np.nan)
    center_mm = view.center_mm(ct, region)
    wanted = np.flatnonzero(asked)
    for first in range(0, wanted.size, batch):
        chunk = wanted[first : first + batch]
        if told:
            told(first / wanted.size)
        seen = [view.look(ct.hu[k], ct.spacing_mm[1:], center_mm) for k in chunk]
        found[chunk] = network(np.stack(seen)[:, None])
    return found


def unsettled_slices(probability: NDArray[np.float64], lesions: LesionMap) -> NDArray[np.int64]:
    """Slices that the classifier is sure of (`SURE_OF_SLICE`) and on which no lesion is called coronary.

    Parameters
    ----------
    probability : (k,) p(calcified), nan where it was not asked

    Returns
    -------
    (n,) slice indices, ascending
    """
    coronary = [lesion for lesion, artery in lesions.arteries.items() if artery in CORONARY]
    named = lesions.voxels.flat[np.isin(lesions.voxels.ids, coronary)]
    sure = np.nan_to_num(probability, nan=0.0) >= SURE_OF_SLICE
    sure[np.unravel_index(named, lesions.labels.shape)[0]] = False
    return np.flatnonzero(sure)


class Votes(NamedTuple):
    """What the vessel network says of islands: every one of dense voxels that the view shows, whole or in part.

    Parameters
    ----------
    flat, member : (voxels,) of the islands, whole, and the number of the island of each
    vote : (islands, classes) mean probability over the island's voxels that were seen
    slice_log_odds : (islands,) mean over the same voxels of their slice's log odds; nan where nobody asked
    counts : (islands,) bool, it is large enough to count
    """

    flat: NDArray[np.int64]
    member: NDArray[np.int64]
    vote: NDArray[np.float64]
    slice_log_odds: NDArray[np.float64]
    counts: NDArray[np.bool_]


def vote_islands(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    view: View,
    classes: int,
    protocol: ScoringProtocol,
    *,
    slices: NDArray[np.bool_] | None = None,
    slice_probability: NDArray[np.float64] | None = None,
    batch: int = BATCH,
    told: Told | None = None,
) -> Votes | None:
    """Ask the vessel network about every island of dense voxels; parameters as in `segment_vessels`.

    Returns
    -------
    None when there is no island to ask about
    """
    candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
    k, j, i = np.unravel_index(candidates.flat, ct.shape)
    crop = place_crop(ct.shape, ct.spacing_mm, view, heart_center(ct, region))
    row, column = crop.in_view(j, 0), crop.in_view(i, 1)
    seen = (row >= 0) & (row < view.size_px) & (column >= 0) & (column < view.size_px)
    island = find_islands(candidates.flat, ct.shape, connectivity=26)
    votes = seen if slices is None else seen & slices[k]
    has_vote = np.zeros(island.max(initial=-1) + 1, bool)
    has_vote[island[votes]] = True
    if not has_vote.any():
        return None
    opinion = _opinions(ct, network, view, crop, (k[votes], row[votes], column[votes]), classes, batch, told)
    number = np.cumsum(has_vote) - 1  # of the islands that have a vote
    voter, named = number[island[votes]], has_vote[island]
    voters = np.bincount(voter)
    vote = np.stack([np.bincount(voter, weights=of_class) for of_class in opinion.T], axis=1) / voters[:, None]
    of_slice = np.full(ct.shape[0], np.nan) if slice_probability is None else logit(slice_probability)
    member = number[island[named]]
    counts = np.zeros(len(vote), bool)
    counts[member[candidates.accepted[candidates.island[named]]]] = True
    return Votes(candidates.flat[named], member, vote, np.bincount(voter, of_slice[k[votes]]) / voters, counts)


def segment_vessels(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    view: View,
    classes: Sequence[str],
    protocol: ScoringProtocol,
    *,
    coronary_cut_off: float = 0.5,
    calibration: Calibration | None = None,
    slices: NDArray[np.bool_] | None = None,
    together: Together | None = None,
    slice_probability: NDArray[np.float64] | None = None,
    batch: int = BATCH,
    told: Told | None = None,
) -> LesionMap:
    """Name every island of dense voxels that the view shows, whole or in part.

    Parameters
    ----------
    classes : of the network's outputs; the first is "none", the others are names of `Artery`
    coronary_cut_off : least probability of all arteries together that makes an island coronary
    calibration : makes the probability that is noted; None leaves the vote as it is
    slices : (k,) slices to look at; None looks at all with dense voxels in the heart. An island that reaches one of
        them is named as a whole, by its voxels there
    together : decides in the place of `coronary_cut_off` and `calibration`, by both networks
    slice_probability : (k,) p(calcified) of `slices`, for `together`

    Returns
    -------
    Lesions with the probability that they are coronary; the other islands are left out, save those that are OTHER or
    in doubt (`KEPT_IN_DOUBT`). What is near the cut-off is marked for review (`EDGE_LOG_ODDS`).
    """
    if together is not None and slice_probability is None:
        raise ValueError("together needs slice_probability: the classifier has to be asked first")
    votes = vote_islands(
        ct, region, network, view, len(classes), protocol, slices=slices, slice_probability=slice_probability,
        batch=batch, told=told,
    )  # fmt: skip
    if votes is None:
        return LesionMap.empty(ct.shape)
    p_coronary = coronary_probability(votes.vote, classes)
    if together is None:
        calibration = calibration or Calibration()
        is_coronary, edge = p_coronary >= coronary_cut_off, calibration.log_odds(coronary_cut_off)
        log_odds = calibration.log_odds(p_coronary)
    else:
        log_odds, edge = together.log_odds(p_coronary, votes.slice_log_odds), logit(together.cut_off)
        is_coronary = log_odds >= edge
    p_true = 1 / (1 + np.exp(-log_odds))
    artery = name_islands(votes.vote, classes, is_coronary)
    artery[(artery == 0) & votes.counts & (p_true >= KEPT_IN_DOUBT)] = Artery.OTHER
    near = np.abs(log_odds - edge) <= EDGE_LOG_ODDS
    cut_off = float(1 / (1 + np.exp(-edge)))
    of_slices = np.full(len(p_true), np.nan) if together is None else 1 / (1 + np.exp(-votes.slice_log_odds))
    notes = [
        _note(p, v, classes, of_slice, cut_off if n else None)
        for p, v, of_slice, n in zip(p_true, votes.vote, of_slices, near, strict=True)
    ]
    return extract_lesions(
        ct, votes.flat, artery[votes.member], protocol, notes=notes, note_of_voxel=votes.member
    )  # fmt: skip


def coronary_probability(vote: NDArray, classes: Sequence[str]) -> NDArray[np.float64]:
    """(islands,) probability of all arteries together.

    Parameters
    ----------
    vote : (islands, classes) mean probabilities
    """
    arteries = [n for n, name in enumerate(classes) if n and Artery[name] is not Artery.OTHER]
    total: NDArray[np.float64] = vote[:, arteries].sum(axis=1)
    return total


def name_islands(vote: NDArray, classes: Sequence[str], is_coronary: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The artery of each island from its mean probabilities.

    The likeliest artery names a coronary island. Any other is OTHER where the network has that class and finds it
    likelier than none.

    Parameters
    ----------
    vote : (islands, classes)
    is_coronary : (islands,)

    Returns
    -------
    (islands,) `Artery` code, 0 for none

    Examples
    --------
    >>> votes = np.array([[0.1, 0.3, 0.5, 0.1], [0.1, 0.1, 0.3, 0.5]])
    >>> [Artery(n).name for n in name_islands(votes, ("none", "LM", "LAD", "OTHER"), np.array([True, False]))]
    ['LAD', 'OTHER']
    """
    codes = np.array([0, *(Artery[name] for name in classes[1:])], np.uint8)
    coronary = np.flatnonzero((codes > 0) & (codes != Artery.OTHER))
    rest = np.flatnonzero((codes == 0) | (codes == Artery.OTHER))
    named = codes[coronary[vote[:, coronary].argmax(axis=1)]]
    left = codes[rest[vote[:, rest].argmax(axis=1)]]
    return np.where(is_coronary, named, left).astype(np.uint8)


def _opinions(
    ct: CTVolume,
    network: Network,
    view: View,
    crop: Crop,
    places: tuple[NDArray, NDArray, NDArray],
    classes: int,
    batch: int,
    told: Told | None,
) -> NDArray[np.float32]:
    """(voxels, classes) probabilities; each slice with candidates goes through the network once."""
    k, row, column = places
    found = np.zeros((k.size, classes), np.float32)
    wanted = np.unique(k)
    for first in range(0, wanted.size, batch):
        chunk = wanted[first : first + batch]
        if told:
            told(first / wanted.size)
        logits = network(np.stack([network_input(ct.hu, int(n), crop, view) for n in chunk]))
        here = np.flatnonzero(np.isin(k, chunk))
        heard = logits[np.searchsorted(chunk, k[here]), :, row[here], column[here]]
        heard = np.exp(heard - heard.max(axis=1, keepdims=True))
        found[here] = heard / heard.sum(axis=1, keepdims=True)
    return found


def _note(p_coronary: float, vote: NDArray, classes: Sequence[str], of_slice: float, near: float | None) -> LesionNote:
    """What is said of an island.

    Parameters
    ----------
    of_slice : p(calcified) of its slices; nan where it has no say
    near : the cut-off when it is close
    """
    order = np.argsort(-vote)[:2]
    why = "its voxels vote " + ", ".join(f"{classes[n]} {vote[n]:.2f}" for n in order)
    if np.isfinite(of_slice):
        why += f"; its slices {of_slice:.2f}"
    if near is not None:
        why += f"; close to the cut-off of {near:.2f}: review"
    return LesionNote(float(np.clip(p_coronary, 0, 1)), "network", why, near is not None)
