"""How a CT is laid before the vessel network: a square around the heart, in millimeters, three slices and a mask.

The same view is used in training, in the desktop and in the browser; its numbers travel in the bundle's manifest.
Only the grid within the slice is resampled: a field of view of 160 mm and one of 400 mm then look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume

if TYPE_CHECKING:
    from heartlens.anatomy import HeartRegion

AIR_HU = -1000.0
"""What lies outside the image."""


@dataclass(frozen=True)
class View:
    """What a network sees.

    Parameters
    ----------
    size_px
        Rows and columns.
    spacing_mm
        Of its pixels; 0 fits the whole field of view into `size_px`, whatever that makes of a millimeter.
    window_hu
        Becomes 0 to 1; what lies outside is cut off.
    neighbors
        Slices below and above that are seen too; the first and last slice are repeated.
    neighbor_mm
        From one of these to the next, as nearly as whole slices allow; 0 takes adjacent slices, and what a network sees
        of the third dimension depends on the scan's increment.
    with_mask
        The last channel is the share of each pixel that is at or above `threshold_hu`.
    threshold_hu
        Of the mask.
    """

    size_px: int = 256
    spacing_mm: float = 0.6
    window_hu: tuple[float, float] = (-200.0, 1000.0)
    neighbors: int = 1
    with_mask: bool = True
    threshold_hu: float = 130.0
    neighbor_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.size_px < 1 or min(self.spacing_mm, self.neighbors, self.neighbor_mm) < 0:
            raise ValueError(f"size_px must be positive, spacing_mm and neighbors not negative, got {self}")
        if self.window_hu[1] <= self.window_hu[0]:
            raise ValueError(f"window_hu must ascend, got {self.window_hu}")

    @property
    def channels(self) -> int:
        """How many channels the network takes: the slices, and the mask where there is one."""
        return 2 * self.neighbors + 1 + self.with_mask

    @property
    def is_whole_field(self) -> bool:
        """Whether the view is the whole field of view of a scan, whatever its size."""
        return self.spacing_mm == 0


@dataclass(frozen=True)
class Crop:
    """Where the view lies in the slices of one CT.

    Parameters
    ----------
    first
        (row, column) of the CT, with fractions, under the center of the view's first pixel
    step
        (rows, columns) of the CT from one pixel of the view to the next
    size_px
        Of the view.
    slice_step
        Slices of the CT from one neighbor to the next.
    """

    first: tuple[float, float]
    step: tuple[float, float]
    size_px: int
    slice_step: int = 1

    def in_slice(self, axis: int) -> NDArray[np.float64]:
        """(size_px,) fractional row (`axis` 0) or column (1) of the CT under each pixel of the view."""
        places: NDArray[np.float64] = self.first[axis] + self.step[axis] * np.arange(self.size_px, dtype=np.float64)
        return places

    def in_view(self, places: NDArray, axis: int) -> NDArray[np.int64]:
        """(n,) nearest row or column of the view over rows or columns of the CT; may lie outside of it."""
        return np.rint((places - self.first[axis]) / self.step[axis]).astype(np.int64)


def place_crop(
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    view: View,
    center: tuple[float, float] | None = None,
) -> Crop:
    """Lay a view over the slices of a CT.

    Parameters
    ----------
    shape, spacing_mm
        Of the CT, (slice, row, column).
    center
        (row, column) of the CT in the middle of the view; None is the middle of the slice
    """
    if view.is_whole_field:
        step = shape[1] / view.size_px, shape[2] / view.size_px
    else:
        step = view.spacing_mm / spacing_mm[1], view.spacing_mm / spacing_mm[2]
    middle = center if center is not None and not view.is_whole_field else ((shape[1] - 1) / 2, (shape[2] - 1) / 2)
    half = (view.size_px - 1) / 2
    slice_step = max(1, round(view.neighbor_mm / spacing_mm[0]))
    return Crop((middle[0] - half * step[0], middle[1] - half * step[1]), step, view.size_px, slice_step)


def heart_center(ct: CTVolume, region: HeartRegion) -> tuple[float, float]:
    """(row, column) of the middle of the zone where coronary arteries can be; of the slice when there is none."""
    if not region.in_view:
        return (ct.shape[1] - 1) / 2, (ct.shape[2] - 1) / 2
    _, rows, columns = region.box(ct)
    middle = [(sum(axis.indices(n)[:2]) - 1) / 2 for axis, n in zip((rows, columns), ct.shape[1:], strict=True)]
    return middle[0], middle[1]


def network_input(hu: NDArray, k: int, crop: Crop, view: View) -> NDArray[np.float32]:
    """What the network sees of one slice.

    Parameters
    ----------
    hu
        (k, j, i) of the whole CT; only the slices needed are read

    Returns
    -------
    NDArray[np.float32]
        (channels, size_px, size_px): slices from foot to head, 0 to 1, then the mask
    """
    around = np.clip(k + crop.slice_step * np.arange(-view.neighbors, view.neighbors + 1), 0, hu.shape[0] - 1)
    slices = np.asarray(hu[around]).astype(np.float32)
    low, high = view.window_hu
    image = (resample(slices, crop, outside=AIR_HU) - low) / (high - low)
    channels = np.clip(image, 0, 1, out=image)
    if view.with_mask:
        dense = (slices[view.neighbors : view.neighbors + 1] >= view.threshold_hu).astype(np.float32)
        channels = np.concatenate([channels, resample(dense, crop, outside=0.0)])
    return channels


def resample(slices: NDArray[np.float32], crop: Crop, *, outside: float) -> NDArray[np.float32]:
    """Slices on the view's grid: linear between pixels; where pixels are larger than the CT's, their mean.

    Parameters
    ----------
    slices
        (n, rows, columns)
    outside
        Value beyond the edge.

    Returns
    -------
    NDArray[np.float32]
        (n, size_px, size_px)
    """
    # Rows and columns are independent, so two small matrices do it; a matrix product is the fastest sum numpy has.
    over_rows = _weights(slices.shape[1], crop, 0)
    over_columns = _weights(slices.shape[2], crop, 1)
    used = [slice(*_span(w)) for w in (over_rows, over_columns)]
    part = slices[:, used[0], used[1]] - np.float32(outside)
    return over_rows[:, used[0]] @ part @ over_columns[:, used[1]].T + np.float32(outside)


def nearest(values: NDArray, crop: Crop) -> NDArray:
    """Codes of one slice on the view's grid: each pixel takes the nearest of the CT; 0 outside.

    Parameters
    ----------
    values
        (rows, columns)
    """
    sampled = np.zeros((crop.size_px, crop.size_px), values.dtype)
    rows, columns = (np.rint(crop.in_slice(axis)).astype(np.int64) for axis in (0, 1))
    inside = [(places >= 0) & (places < n) for places, n in zip((rows, columns), values.shape, strict=True)]
    sampled[np.ix_(*inside)] = values[np.ix_(rows[inside[0]], columns[inside[1]])]
    return sampled


@lru_cache(maxsize=8)  # the slices of a scan, and the mask of each, lie under the same crop
def _weights(pixels: int, crop: Crop, axis: int) -> NDArray[np.float32]:
    """(size_px, pixels) share of each CT row or column in each of the view's: a triangle at least one pixel wide."""
    places = crop.in_slice(axis)
    reach = max(1.0, crop.step[axis])
    near = np.maximum(0.0, 1 - np.abs(places[:, None] - np.arange(pixels)) / reach) / reach
    # For linear interpolation the shares already sum to 1; a wider triangle meets the grid unevenly. At the edge
    # what is missing is air.
    whole = np.maximum(0.0, 1 - np.abs(places[:, None] - _grid_around(places, reach)) / reach).sum(axis=1) / reach
    weights = (near / whole[:, None]).astype(np.float32)
    weights.setflags(write=False)
    return weights


def _grid_around(places: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """(size_px, m) every whole number within reach of each place, also beyond the image."""
    width = int(np.ceil(reach))
    return np.floor(places)[:, None] + np.arange(-width, width + 2)


def _span(weights: NDArray[np.float32]) -> tuple[int, int]:
    """First and last + 1 of the columns that have any weight; at least one, so that products stay defined."""
    used = np.flatnonzero(weights.any(axis=0))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
