"""A scan made by arithmetic, whose answers a bundle carries: the networks here say what they said at the export.

Checksums prove that the weights are those that were exported; only an answer proves that this machine, this runtime and
this code make the same of them. The scan holds a chest's rough shapes and plaques of several sizes; it is no phantom,
nothing is scored on it, and no network was fitted to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import Bundle
from heartlens.networks.inference import BATCH, Network, require_finite
from heartlens.networks.view import NetworkView, place_crop

SCAN = "heartlens.canary/1"
"""Another scan gets another name: its answers would be others."""

SHAPE = (8, 96, 96)
PIXEL_MM, INCREMENT_MM = 2, 3

PLAQUES = (
    # slice, x mm, y mm, radius mm, HU
    (1, 18, -26, 5, 320), (1, -22, 8, 6, 700), (2, 30, -12, 4, 250), (3, 4, -34, 7, 1100),
    (4, -30, -8, 5, 450), (4, 36, 10, 6, 900), (5, 12, 22, 4, 200), (6, -8, -28, 8, 600),
)  # fmt: skip

TOLERANCE = 2e-3
"""Largest difference of a probability that rounding explains: twice what the export allows between its two runtimes."""


@dataclass(frozen=True)
class Canary:
    """What a bundle's networks answered at the export.

    Parameters
    ----------
    scan
        Name of the scan, `SCAN`.
    slices
        p(calcified) of each slice; None without a slice stage.
    votes
        For each plaque, the mean probability of each class over its voxels.

    Raises
    ------
    ValueError
        No answers.
    """

    scan: str
    slices: tuple[float, ...] | None
    votes: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        numbers = [*(self.slices or ()), *(p for vote in self.votes for p in vote)]
        if not all(isinstance(p, (int, float)) and 0 <= p <= 1 for p in numbers) or not self.votes:
            raise ValueError("canary: expected probabilities")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {
            "scan": self.scan,
            "slices": None if self.slices is None else list(self.slices),
            "votes": [list(vote) for vote in self.votes],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Canary:
        """Read what `to_json` made.

        Raises
        ------
        KeyError
            A part is missing.
        TypeError
            A part is of another kind.
        ValueError
            Numbers that are no probabilities.
        """
        slices = document["slices"]
        return cls(
            str(document["scan"]),
            None if slices is None else tuple(slices),
            tuple(tuple(vote) for vote in document["votes"]),
        )


def canary_scan() -> CTVolume:
    """The scan: whole numbers alone, so that every machine makes the same."""
    k, row, column = np.indices(SHAPE, dtype=np.int64)
    x, y = (PIXEL_MM * index - PIXEL_MM * n // 2 for index, n in ((column, SHAPE[2]), (row, SHAPE[1])))
    hu = np.full(SHAPE, -1000, np.int64)
    hu[4 * x**2 + 9 * y**2 <= 180**2] = 40  # body
    for side in (-1, 1):  # lungs, lower ones wider
        hu[4 * (x - 54 * side) ** 2 + (y + 4) ** 2 <= (56 - k) ** 2] = -850
    hu[(x - 4) ** 2 + (y + 4) ** 2 <= 46**2] = 45  # heart
    hu[x**2 + (y - 46) ** 2 <= 12**2] = 250  # spine
    hu += (7919 * column + 104729 * row + 1299709 * k) % 31 - 15  # something like noise
    for slice_, x_mm, y_mm, radius_mm, value in PLAQUES:
        hu[(k == slice_) & ((x - x_mm) ** 2 + (y - y_mm) ** 2 <= radius_mm**2)] = value
    affine = np.diag([float(PIXEL_MM), float(PIXEL_MM), float(INCREMENT_MM), 1.0])
    return CTVolume(hu.astype(np.int16), affine, CTHeader(kvp=120.0, slice_thickness_mm=float(INCREMENT_MM)))


def canary_answer(bundle: Bundle, vessel: Network, slices: Network | None) -> Canary:
    """What networks answer.

    Parameters
    ----------
    bundle
        Says what the networks see.
    vessel, slices
        They run: on ONNX Runtime, or on torch.

    Raises
    ------
    InputRefused
        "unreadable": an answer that is no answer
    """
    ct = canary_scan()
    p = None
    if bundle.slices is not None and slices is not None:
        p = tuple(round(float(value), 6) for value in _run(slices, ct, bundle.slices.view))
    logits = _run(vessel, ct, bundle.vessel.view).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = odds / odds.sum(axis=1, keepdims=True)
    crop = place_crop(ct.shape, ct.spacing_mm, bundle.vessel.view)
    votes = []
    for slice_, x_mm, y_mm, radius_mm, _ in PLAQUES:
        row, column = np.indices(SHAPE[1:])
        x, y = PIXEL_MM * column - PIXEL_MM * SHAPE[2] // 2, PIXEL_MM * row - PIXEL_MM * SHAPE[1] // 2
        j, i = np.nonzero((x - x_mm) ** 2 + (y - y_mm) ** 2 <= radius_mm**2)
        places = [np.clip(crop.in_view(at, axis), 0, crop.size_px - 1) for axis, at in enumerate((j, i))]
        mean = probability[slice_][:, places[0], places[1]].mean(axis=1)
        votes.append(tuple(round(float(value), 6) for value in mean))
    return Canary(SCAN, p, tuple(votes))


def check_canary(bundle: Bundle, vessel: Network, slices: Network | None) -> float | None:
    """Compare what networks answer with what they answered at the export.

    Returns
    -------
    float | None
        Largest difference of a probability; None when the bundle carries no answers, or those of a scan that this
        version does not know

    Raises
    ------
    InputRefused
        "checksum": they answer something else; "unreadable": they give no answer
    """
    found, expected = canary_answer(bundle, vessel, slices), bundle.canary
    if expected is None or expected.get("scan") != SCAN:
        return None
    try:
        was = Canary.from_json(expected)
        difference = max(_difference(found.slices, was.slices), _difference(found.votes, was.votes))
    except (KeyError, TypeError, ValueError) as error:
        raise InputRefused("unreadable", f"{bundle.folder}: its canary is damaged: {error}; export it again") from None
    if not difference <= TOLERANCE:
        raise InputRefused(
            "checksum",
            f"{bundle.folder}: the networks answer the canary scan otherwise than at the export (a probability differs "
            f"by {difference:.3g}, expected at most {TOLERANCE:g}); do not score with this installation",
        )
    return difference


def scan_checksum() -> str:
    """SHA-256 of the scan's voxels."""
    return hashlib.sha256(np.ascontiguousarray(canary_scan().hu, "<i2").tobytes()).hexdigest()


def _run(network: Network, ct: CTVolume, view: NetworkView) -> NDArray:
    crop = place_crop(ct.shape, ct.spacing_mm, view)
    images = np.stack([view.render(ct.hu, k, crop) for k in range(ct.shape[0])])
    answer = np.concatenate([network(images[n : n + BATCH]) for n in range(0, len(images), BATCH)])
    require_finite(answer, "network that was shown the canary scan")
    return answer


def _difference(one: Sequence[Any] | None, other: Sequence[Any] | None) -> float:
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
