"""The one interface to the networks: which slices show calcium, and which islands on them are whose.

The island is the lesion, because a reader clicks islands; so the networks' opinion of pixels becomes a vote of islands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium import RulesOpinion, candidate_mask, extract_lesions
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import CORONARY, Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.networks.bundle import SLICES, VESSEL, Bundle, VesselStage
from heartlens.networks.runtime import (
    OnnxNetwork,
    OutOfDeviceMemory,
    TorchNetwork,
    cpu_threads,
    sees_cuda,
    torch_can_run,
)
from heartlens.networks.view import Crop, NetworkView, place_crop

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, channels, size, size) -> (n, classes, size, size) logits or (n,) probabilities, on whatever runs it."""

KEPT_AS_BORDERLINE = 0.05
"""Islands that are not called coronary stay on the map, as OTHER, from this calibrated probability on: a reader can see
them and take them back, and the probability of a category counts them."""

EDGE_LOG_ODDS = float(np.log(3))
"""Nearer than this to the cut-off, in calibrated log odds, a lesion is marked for review. At a cut-off of one half that
is a probability of 0.25 to 0.75: where the networks are wrong in one of four or more."""

SURE_OF_NOTHING = 0.5
"""Votes for "none" from which the rules are not heard: bone, lung and edges are known to the networks. What they call
OTHER they may have learned by its place, and places differ from heart to heart."""

CONFIDENT_SLICE = 0.9
"""From this p(calcified) on, a slice without any lesion called coronary is told of: one of the two networks is wrong
there. A choice, not a fitted value."""

MIN_SLICES_FOR_GPU = 100
"""Slices from which "auto" starts torch for a GPU. One scan took 5 s on the CPU and 6 s more with an H200, which had
torch to import and a GPU to wake; two CPU cores take some 20 slices a second through both networks."""

ProgressCallback = Callable[[float], None]
"""Called between batches with the fraction that is done; what it raises ends the work."""

BATCH = 4
"""Slices at a time on a CPU: more would save nothing, and a cancelled job would wait for them."""

BATCH_ON_GPU = 32


class Networks:
    """A bundle's networks on one device. When the GPU runs out of memory, the CPU takes over and a caution says so.

    Parameters
    ----------
    bundle
        Whose networks.
    device
        "cpu", "cuda", or "auto": cuda where torch is installed, sees one and knows the bundle's architectures, and it
        is worth waking it: torch is loaded already, or there are `MIN_SLICES_FOR_GPU` slices
    slices
        How many there are to look at, for "auto"; None is many.

    Attributes
    ----------
    vessel, slices
        See `Network`; `slices` is None when the bundle has no such stage.
    device
        "cpu" or "cuda", whatever ran last
    cautions
        What went otherwise than asked.

    Raises
    ------
    InputRefused
        "input": cuda was asked for and there is none, or a file that cannot be run
    """

    def __init__(self, bundle: Bundle, device: str = "auto", *, slices: int | None = None) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
        is_worth_it = slices is None or slices >= MIN_SLICES_FOR_GPU or "torch" in sys.modules
        has_cuda = device == "cuda" or (device == "auto" and is_worth_it and torch_can_run(bundle))
        if has_cuda and not sees_cuda():
            if device == "cuda":
                raise InputRefused(
                    "input", "--device cuda: torch is not installed or sees no GPU (heartlens doctor); use --device cpu"
                )
            has_cuda = False
        self.bundle = bundle
        self.device = "cuda" if has_cuda else "cpu"
        self.cautions: list[WarningRecord] = []
        self._loaded: dict[str, Network] = {}

    @property
    def batch(self) -> int:
        """How many images go through a network at once on the device in use."""
        return BATCH_ON_GPU if self.device == "cuda" else BATCH

    def vessel(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network that names islands."""
        return self._run(VESSEL, image)

    @property
    def slices(self) -> Network | None:
        """Call that runs the slice classifier; None when the bundle has none."""
        return None if self.bundle.slices is None else lambda image: self._run(SLICES, image)

    def _run(self, role: str, image: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.device == "cuda":
            try:
                return self._network(role)(image)
            except OutOfDeviceMemory:
                self.device = "cpu"
                self._loaded.clear()
                text = "the GPU ran out of memory; the networks ran on the CPU, slower, with the same result"
                self.cautions.append(WarningRecord("device", text))
        return np.concatenate([self._network(role)(image[n : n + BATCH]) for n in range(0, len(image), BATCH)])

    def _network(self, role: str) -> Network:
        if role not in self._loaded:
            if self.device == "cuda":
                self._loaded[role] = TorchNetwork(self.bundle, role, device="cuda")
            else:
                self._loaded[role] = OnnxNetwork(self.bundle, role, threads=cpu_threads())
        return self._loaded[role]


def slices_with_candidates(ct: CTVolume, region: HeartRegion, protocol: ScoringProtocol) -> NDArray[np.bool_]:
    """(k,) slices with an island that is large enough to count and reaches into the zone of the coronary arteries.

    The others go to no network.
    """
    candidate_slices = np.zeros(ct.shape[0], bool)
    if region.in_view:
        candidates = candidate_mask(ct, protocol, region.box(ct))
        counts = candidates.flat[candidates.accepted[candidates.island]]
        k, j, i = np.unravel_index(counts, ct.shape)
        candidate_slices[k[region.grid.sample(region.zone, np.stack([k, j, i], axis=-1))]] = True
    return candidate_slices


def classify_slices(
    ct: CTVolume,
    region: HeartRegion,
    network: Network,
    view: NetworkView,
    candidate_slices: NDArray[np.bool_],
    *,
    batch: int = BATCH,
    on_progress: ProgressCallback | None = None,
) -> NDArray[np.float64]:
    """How likely each slice shows coronary calcium.

    Parameters
    ----------
    ct
        The scan.
    region
        Heart and aorta of the scan, for the center of the view.
    network
        (n, 1, size, size) -> (n,)
    view
        How a slice is laid before the network.
    candidate_slices
        (k,) slices to look at
    batch
        Slices per call of the network.
    on_progress
        Hears before each batch which part is done.

    Returns
    -------
    NDArray[np.float64]
        (k,) p(calcified); nan where it was not asked, and only there

    Raises
    ------
    InputRefused
        "unreadable": the network's answer is no number
    """
    probability = np.full(ct.shape[0], np.nan)
    crop = place_crop(ct.shape, ct.spacing_mm, view, view.center_px(ct, region))
    wanted = np.flatnonzero(candidate_slices)
    for first in range(0, wanted.size, batch):
        chunk = wanted[first : first + batch]
        if on_progress:
            on_progress(first / wanted.size)
        answer = network(np.stack([view.render(ct.hu, int(k), crop) for k in chunk]))
        _require_finite(answer, "slice classifier")  # nan would read as not asked, and the slice as free of calcium
        probability[chunk] = answer
    return probability


def discordant_slices(probability: NDArray[np.float64], lesions: LesionMap) -> NDArray[np.int64]:
    """Slices that the classifier is sure of (`CONFIDENT_SLICE`) and on which no lesion is called coronary.

    Parameters
    ----------
    probability
        (k,) p(calcified), nan where it was not asked
    lesions
        What was found and how it was named.

    Returns
    -------
    NDArray[np.int64]
        (n,) slice indices, ascending
    """
    coronary = [lesion for lesion, artery in lesions.arteries.items() if artery in CORONARY]
    named = lesions.voxels.flat[np.isin(lesions.voxels.ids, coronary)]
    sure = np.nan_to_num(probability, nan=0.0) >= CONFIDENT_SLICE
    sure[np.unravel_index(named, lesions.labels.shape)[0]] = False
    return np.flatnonzero(sure)


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
    return extract_lesions(ct, candidates.flat[named], artery[member], protocol, notes=notes, note_of_voxel=member)


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
        _require_finite(logits, "vessel network")
        here = np.flatnonzero(np.isin(seen.k, chunk))
        at_voxels = logits[np.searchsorted(chunk, seen.k[here]), :, seen.row[here], seen.column[here]]
        odds = np.exp(at_voxels - at_voxels.max(axis=1, keepdims=True))
        probability[here] = odds / odds.sum(axis=1, keepdims=True)
    return probability


def _require_finite(answer: NDArray, what: str) -> None:
    if not np.isfinite(answer).all():
        raise InputRefused("unreadable", f"the {what} answered something that is no number; export the bundle again")


def _note(p_coronary: float, vote: NDArray, classes: Sequence[str], doubt: str) -> LesionNote:
    """What is said of an island; it is undecided when there is a reason to doubt its name."""
    order = np.argsort(-vote)[:2]
    why = "network votes: " + ", ".join(f"{classes[n]} {vote[n]:.2f}" for n in order)
    if doubt:
        why += f"; {doubt}: review"
    return LesionNote(float(np.clip(p_coronary, 0, 1)), LabelSource.NETWORK, why, bool(doubt))
