"""Views of a CT slice for self-distillation: multi-crop, Table 1 of the paper, label guidance. Sizes are in mm.

What is done to a slice is drawn first, on the CPU, from (seed, epoch, sample) alone, and applied afterwards to the
whole batch on the device. So a view can be shown again, and does not depend on batch, rank or device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from heartlens.networks.view import AIR_HU, SUPERSAMPLING
from training.engine.config import since_version

PLACEMENTS = ("centre", "random")

GUIDES = ("coronary", "traps", "shuffled")
"""What guided crops look at: coronary calcium (the method), or one of two wrong places, to ask what guidance is worth:
other bright spots, or the coronary calcium of another slice."""


@dataclass(frozen=True)
class AugmentConfig:
    """How views are drawn; the defaults are the paper's DINO (Table 1 medical, Table 3: 16 random, 0 guided).

    Parameters
    ----------
    window_hu
        HU that become -1 and 1; around soft tissue, because inputs far from 0 make all embeddings alike
    global_size, local_size
        Pixels of the two kinds of view.
    global_mm, local_mm
        Range of a view's side, mm; the paper gives none, these are DINO's 25-100 % and 5-25 % of the area of a gated
        slice of 200 mm.
    random_local_crops, guided_local_crops
        How many; on a slice without labels all are random.
    guided_placement
        "centre" puts the lesion in the middle (the paper); "random" anywhere within the view
    guided_by
        One of `GUIDES`.
    guided_mm
        Range of a guided view's side, mm: the dose of guidance, as calcium fills little of a large view; None draws
        guided views as large as the other local ones (the paper).
    field_mm
        Side of the square around the middle of the heart in which all views but the guided lie, mm; 0 is the whole
        slice. In a wide field two global views of the whole slice may share nothing, as heart and shoulder.
    aspect
        The largest ratio of a view's sides before they are made equal.
    resized_probability
        Of a random resized crop; else a random crop of the middle size, unstretched.
    flip_probability
        Of each of the horizontal and the vertical flip.
    blur_probability
        Of the first global, the second global, and each local view.
    blur_mm
        Range of the Gaussian's standard deviation.
    brightness_probability, gain, offset_hu
        HU become gain * HU + offset; ranges
    noise_probability, noise_hu
        Range of the standard deviation of added noise.
    """

    window_hu: tuple[float, float] = (-460.0, 540.0)
    global_size: int = 224
    local_size: int = 96
    global_mm: tuple[float, float] = (100.0, 200.0)
    local_mm: tuple[float, float] = (45.0, 100.0)
    random_local_crops: int = 16
    guided_local_crops: int = 0
    guided_placement: str = "centre"
    guided_by: str = "coronary"
    guided_mm: tuple[float, float] | None = since_version(None)
    field_mm: float = since_version(0.0)
    aspect: float = 4 / 3
    resized_probability: float = 0.8
    flip_probability: float = 0.5
    blur_probability: tuple[float, float, float] = (1.0, 0.1, 0.5)
    blur_mm: tuple[float, float] = (0.1, 1.5)
    brightness_probability: float = 0.8
    gain: tuple[float, float] = (0.9, 1.1)
    offset_hu: tuple[float, float] = (-40.0, 40.0)
    noise_probability: float = 0.5
    noise_hu: tuple[float, float] = (2.0, 30.0)

    def __post_init__(self) -> None:
        if self.guided_placement not in PLACEMENTS:
            raise ValueError(f"guided_placement must be one of {', '.join(PLACEMENTS)}, got {self.guided_placement!r}")
        if self.guided_by not in GUIDES:
            raise ValueError(f"guided_by must be one of {', '.join(GUIDES)}, got {self.guided_by!r}")
        for name in ("window_hu", "global_mm", "local_mm", "guided_mm", "blur_mm", "gain", "offset_hu", "noise_hu"):
            low, high = getattr(self, name) or self.local_mm
            if not low <= high or (name.endswith("_mm") and low <= 0):
                raise ValueError(f"{name} must be a range (low, high) of sensible values, got {(low, high)}")
        if self.random_local_crops < 0 or self.guided_local_crops < 0:
            raise ValueError("the numbers of crops must not be negative")
        if self.field_mm < 0:
            raise ValueError(f"field_mm must not be negative, got {self.field_mm}")
        if self.aspect < 1:
            raise ValueError(f"aspect must be 1 or more, got {self.aspect}")

    @property
    def local_crops(self) -> int:
        """Number of local views of an image, random and guided."""
        return self.random_local_crops + self.guided_local_crops


class Views(NamedTuple):
    """Everything that decides some views of some slices; leading shape (views,) or (batch, views).

    Parameters
    ----------
    center_mm
        (..., 2), row and column of the middle, from the outer corner of the first pixel
    side_mm
        (..., 2), extent along rows and columns
    flip
        (..., 2) bool
    blur_mm, gain, offset_hu, noise_hu
        (...)
    noise_seed
        (...) int64, 32 bits
    guided
        (...) bool, drawn around a lesion
    """

    center_mm: NDArray[np.float64]
    side_mm: NDArray[np.float64]
    flip: NDArray[np.bool_]
    blur_mm: NDArray[np.float64]
    gain: NDArray[np.float64]
    offset_hu: NDArray[np.float64]
    noise_hu: NDArray[np.float64]
    noise_seed: NDArray[np.int64]
    guided: NDArray[np.bool_]


def stack(views: Sequence[Views]) -> Views:
    """Views of several slices -> one record with a batch axis in front."""
    return Views(*(np.stack(parts) for parts in zip(*views, strict=True)))


def draw_views(
    config: AugmentConfig,
    extent_mm: tuple[float, float],
    boxes_mm: NDArray[np.float64],
    *,
    seed: int,
    epoch: int,
    sample: int,
    middle_mm: tuple[float, float] | None = None,
) -> tuple[Views, Views]:
    """Draw the global and the local views of one slice.

    Parameters
    ----------
    extent_mm
        Rows, columns of the slice.
    boxes_mm
        (lesions, 4), top, left, bottom, right of annotated areas; empty when there is none
    middle_mm
        Row and column of the middle of the heart; None is that of the slice. Asked for with `config.field_mm`.

    Returns
    -------
    tuple[Views, Views]
        2 global views, `config.local_crops` local views; the guided ones last
    """
    # One stream a purpose: views that ignore the labels are the same whether there are labels or not.
    plain = np.random.default_rng([seed, epoch, sample, 0])
    blur = config.blur_probability
    field = _field(config, np.array(extent_mm), middle_mm)
    global_views = _draw(config, field, config.global_mm, np.array(blur[:2]), plain)
    local_views = _draw(config, field, config.local_mm, np.full(config.local_crops, blur[2]), plain)
    guide = np.random.default_rng([seed, epoch, sample, 1])
    if len(boxes_mm):
        for index in range(config.random_local_crops, config.local_crops):
            box = boxes_mm[guide.integers(len(boxes_mm))]
            wanted_mm = local_views.side_mm[index]
            if config.guided_mm is not None:
                wanted_mm = np.full(2, np.exp(guide.uniform(*np.log(config.guided_mm))))
            center, side = _around_lesion(box, wanted_mm, extent_mm, config.guided_placement, guide)
            local_views.center_mm[index], local_views.side_mm[index] = center, side
            local_views.guided[index] = True
    return global_views, local_views


def _field(
    config: AugmentConfig, extent_mm: NDArray[np.float64], middle_mm: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First corner and extent of the part of a slice in which views are drawn."""
    if not config.field_mm:
        return np.zeros(2), extent_mm
    size = np.minimum(config.field_mm, extent_mm)
    middle = extent_mm / 2 if middle_mm is None else np.array(middle_mm)
    return np.clip(middle - size / 2, 0, extent_mm - size), size


def _draw(
    config: AugmentConfig,
    field_mm: tuple[NDArray[np.float64], NDArray[np.float64]],
    range_mm: tuple[float, float],
    blur_probability: NDArray[np.float64],
    rng: np.random.Generator,
) -> Views:
    n = len(blur_probability)
    corner, extent = field_mm
    resized = rng.random(n) < config.resized_probability
    middle_mm = np.sqrt(range_mm[0] * range_mm[1])
    least, largest = np.log(range_mm)
    area_side = np.exp(rng.uniform(least, largest, n))
    stretch = np.exp(rng.uniform(-0.5, 0.5, n) * np.log(config.aspect))
    side = np.where(resized, area_side, middle_mm)[:, None] * np.ones((1, 2))
    side[resized] *= np.stack([stretch, 1 / stretch], axis=1)[resized]
    side = np.minimum(side, extent)
    center = corner + side / 2 + rng.random((n, 2)) * (extent - side)
    return Views(
        center_mm=center,
        side_mm=side,
        flip=rng.random((n, 2)) < config.flip_probability,
        blur_mm=_sometimes(rng, blur_probability, config.blur_mm, n, 0.0),
        gain=_sometimes(rng, gate := rng.random(n) < config.brightness_probability, config.gain, n, 1.0),
        offset_hu=_sometimes(rng, gate, config.offset_hu, n, 0.0),
        noise_hu=_sometimes(rng, config.noise_probability, config.noise_hu, n, 0.0),
        noise_seed=rng.integers(0, 2**32, n),
        guided=np.zeros(n, dtype=bool),
    )


def _sometimes(
    rng: np.random.Generator,
    chance: float | NDArray[np.float64] | NDArray[np.bool_],
    values: tuple[float, float],
    n: int,
    otherwise: float,
) -> NDArray[np.float64]:
    """`n` values of a range, each with a chance, or a decision already taken; else `otherwise`."""
    drawn, dice = rng.uniform(*values, n), rng.random(n)
    return np.where(dice < chance, drawn, otherwise)  # a decision is 0 or 1, dice lie in [0, 1)


def _around_lesion(
    box_mm: NDArray[np.float64],
    side_mm: NDArray[np.float64],
    extent_mm: tuple[float, float],
    placement: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Center and side of a view that shows all of a lesion."""
    top_left, bottom_right = box_mm[:2], box_mm[2:]
    if placement == "centre":
        # No clipping at the edge of the slice: the lesion would leave the middle, and the edge shows where it was.
        return (top_left + bottom_right) / 2, np.maximum(side_mm, bottom_right - top_left)
    side = np.maximum(side_mm, bottom_right - top_left)
    lowest, highest = bottom_right - side / 2, top_left + side / 2  # the lesion just fits
    # Within the slice where that is possible; a lesion within the slice always leaves a place.
    lowest = np.maximum(lowest, np.minimum(side / 2, highest))
    highest = np.minimum(highest, np.maximum(np.array(extent_mm) - side / 2, lowest))
    return lowest + rng.random(2) * (highest - lowest), side


def render_views(
    slices: Tensor, spacing_mm: Tensor, views: Views, *, size: int, window_hu: tuple[float, float]
) -> Tensor:
    """Apply drawn views to a batch, on the device of the batch.

    Parameters
    ----------
    slices
        (batch, rows, columns), HU, int16 or float
    spacing_mm
        (batch, 2), row and column
    views
        Leading shape (batch, views).
    size
        Pixels of the square result.
    window_hu
        HU that become -1 and 1; what lies beyond is clipped

    Returns
    -------
    Tensor
        (views, batch, 1, size, size) float32
    """
    device = slices.device
    v = {name: torch.as_tensor(array).to(device, non_blocking=True) for name, array in views._asdict().items()}
    image = cut(slices, spacing_mm.to(device), v["center_mm"], v["side_mm"], v["flip"], size=size)
    pixel_mm = v["side_mm"] / size
    across, along = (blur_weights(v["blur_mm"] / pixel_mm[..., axis], size) for axis in (0, 1))
    image = across @ image @ along.transpose(-2, -1)  # (batch, views, size, size)
    image = v["gain"].float()[..., None, None] * image + v["offset_hu"].float()[..., None, None]
    noisy = v["noise_hu"] > 0
    image[noisy] += v["noise_hu"][noisy].float()[:, None, None] * hashed_normal(v["noise_seed"][noisy], size)
    low, high = window_hu
    image = ((image - low) * (2 / (high - low)) - 1).clamp_(-1, 1)
    return image.transpose(0, 1).unsqueeze(2).contiguous()


def cut(
    slices: Tensor,
    spacing_mm: Tensor,
    center_mm: Tensor,
    side_mm: Tensor,
    flip: Tensor,
    *,
    size: int,
    outside_hu: float = AIR_HU,
) -> Tensor:
    """Cut views out of slices, scaled to `size` pixels and flipped; beyond the edge there is air.

    Parameters
    ----------
    slices
        (batch, rows, columns), HU
    spacing_mm
        (batch, 2)
    center_mm, side_mm, flip
        (batch, views, 2)

    Returns
    -------
    Tensor
        (batch, views, size, size) float32, HU
    """
    batch, views = side_mm.shape[:2]
    fine = size * SUPERSAMPLING
    step = (torch.arange(fine, device=slices.device, dtype=torch.float64) + 0.5) / fine - 0.5  # of a side
    step = torch.where(flip[..., None], -step, step)  # (batch, views, 2, fine)
    place_mm = center_mm[..., None] + step * side_mm[..., None]
    extent_mm = spacing_mm.double() * torch.tensor(slices.shape[1:], device=slices.device)
    place = (2 * place_mm / extent_mm[:, None, :, None] - 1).float()  # -1 and 1 are the outer edges of the slice
    rows, columns = place.unbind(2)  # (batch, views, fine)
    grid = torch.stack(torch.broadcast_tensors(columns[:, :, None, :], rows[:, :, :, None]), dim=-1)
    image = functional.grid_sample(
        slices.float().sub_(outside_hu).unsqueeze(1),  # air is 0, and so is what grid_sample finds outside
        grid.flatten(1, 2),  # all views of a slice below each other, so that the slice is not copied for each
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    image = functional.avg_pool2d(image, SUPERSAMPLING)  # (batch, 1, views * size, size)
    return image.view(batch, views, size, size) + outside_hu


def blur_weights(sigma_px: Tensor, size: int) -> Tensor:
    """Gaussian blur along one axis as a matrix, (...) -> (..., size, size); rows sum to 1, sigma 0 changes nothing."""
    pixel = torch.arange(size, device=sigma_px.device, dtype=torch.float32)
    squared = (pixel[:, None] - pixel) ** 2
    weights = torch.exp(-squared / (2 * sigma_px.float().clamp_min(1e-2)[..., None, None] ** 2))
    return weights / weights.sum(-1, keepdim=True)


def hashed_normal(seed: Tensor, size: int) -> Tensor:
    """Standard normal noise that is a function of its seed alone: no generator, so no order and no device matters.

    Parameters
    ----------
    seed
        (...) int64, 32 bits
    size
        Even.

    Returns
    -------
    Tensor
        (..., size, size) float32
    """
    pair = torch.arange(size * size // 2, device=seed.device)
    bits = _scramble(_scramble(seed)[..., None] ^ pair)  # one number makes two values (Box and Muller)
    high, low = (bits >> 16).float(), (bits & 0xFFFF).float()
    radius = torch.sqrt(-2 * torch.log((high + 0.5) / 65536))  # at most 4.9
    angle = low * (2 * torch.pi / 65536)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).view(*seed.shape, size, size)


def _scramble(x: Tensor) -> Tensor:
    """Scramble 32 bits (Wellons, "Prospecting for hash functions", lowbias32); int64 holds them without sign."""
    mask = 0xFFFFFFFF
    x = (x ^ (x >> 16)) * 0x7FEB352D & mask
    x = (x ^ (x >> 15)) * 0x846CA68B & mask
    return x ^ (x >> 16)
