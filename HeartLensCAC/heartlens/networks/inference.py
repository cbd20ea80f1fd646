"""The networks of a bundle on one device, which slices they are asked about, and which of them show calcium."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium import candidate_mask
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import CORONARY, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import SLICES, VESSEL, Bundle
from heartlens.networks.runtime import (
    OnnxNetwork,
    OutOfDeviceMemory,
    TorchNetwork,
    cpu_threads,
    sees_cuda,
    torch_can_run,
)
from heartlens.networks.view import NetworkView, place_crop

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, channels, size, size) -> (n, classes, size, size) logits or (n,) probabilities, on whatever runs it."""

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
                if _kept is not None:
                    _kept.clear()  # what is kept on the GPU takes the memory that the next scan needs
                text = "the GPU ran out of memory; the networks ran on the CPU, slower, with the same result"
                self.cautions.append(WarningRecord("device", text))
        return np.concatenate([self._network(role)(image[n : n + BATCH]) for n in range(0, len(image), BATCH)])

    def _network(self, role: str) -> Network:
        if role not in self._loaded:
            self._loaded[role] = self._load(role) if _kept is None else self._load_once(_kept, role)
        return self._loaded[role]

    def _load_once(self, kept: dict[tuple[str, ...], Network], role: str) -> Network:
        form = "safetensors" if self.device == "cuda" else "onnx"
        key = (str(self.bundle.folder), role, self.device, self.bundle.file(role, form).sha256)
        if key not in kept:
            kept[key] = self._load(role)
        return kept[key]

    def _load(self, role: str) -> Network:
        if self.device == "cuda":
            return TorchNetwork(self.bundle, role, device="cuda")
        return OnnxNetwork(self.bundle, role, threads=cpu_threads())


_kept: dict[tuple[str, ...], Network] | None = None
"""Loaded networks by bundle, role, device and checksum of their file; None in a process that scores one scan."""


def keep_networks(keep: bool = True) -> None:
    """Keep every network that is loaded from now on for the later scans of this process.

    Parameters
    ----------
    keep
        False lets go of all of them.
    """
    global _kept
    _kept = (_kept or {}) if keep else None


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
        require_finite(answer, "slice classifier")  # nan would read as not asked, and the slice as free of calcium
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
    sure[np.unravel_index(named, lesions.shape)[0]] = False
    return np.flatnonzero(sure)


def discordance_cautions(
    ct: CTVolume, probability: NDArray[np.float64], lesions: LesionMap
) -> tuple[WarningRecord, ...]:
    """Where slice classifier and vessel network contradict each other, the likeliest slice first.

    Parameters
    ----------
    ct
        The scan.
    probability
        (k,) p(calcified), nan where it was not asked
    lesions
        What was found and how it was named.

    Returns
    -------
    tuple[WarningRecord, ...]
        One, "unsettled", or none.
    """
    slices = discordant_slices(probability, lesions)
    if not slices.size:
        return ()
    z_mm = ct.lps_mm(np.stack([slices, 0 * slices, 0 * slices], axis=-1))[:, 2]
    order = np.argsort(-probability[slices], kind="stable")
    listing = ", ".join(f"{slices[n]} (z {z_mm[n]:.1f} mm, {probability[slices[n]]:.2f})" for n in order[:5])
    more = f" and {slices.size - 5} more" if slices.size > 5 else ""
    return (
        WarningRecord(
            "unsettled",
            f"the slice classifier sees coronary calcium where no island was called coronary, on slice index "
            f"{listing}{more}: look at these slices, and take back what belongs to an artery",
        ),
    )


def network_caution(bundle: Bundle) -> WarningRecord:
    """Who found the calcium, in the words of the bundle."""
    texts = {name: text.rstrip(". ") for name, text in bundle.texts.items()}
    return WarningRecord(
        "network",
        f"calcium was found and named by networks, not by a reader: bundle {bundle.title}, trained on "
        f"{texts['trained_on']}. {texts['intended_use']}. Check every lesion, and every slice for what was missed",
    )


def require_finite(answer: NDArray, what: str) -> None:
    """Refuse an answer of a network that holds something that is no number."""
    if not np.isfinite(answer).all():
        raise InputRefused("unreadable", f"the {what} answered something that is no number; export the bundle again")
