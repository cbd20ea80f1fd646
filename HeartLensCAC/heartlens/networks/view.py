"""How a CT is laid before a network: a square in millimeters, a window of HU, some slices and a mask.

One value for both networks, and for training, desktop and browser alike; its numbers travel in the bundle's manifest.
Only the grid within the slice is resampled: a field of view of 160 mm and one of 400 mm then look alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.ct import CTVolume

if TYPE_CHECKING:
    from heartlens.anatomy import HeartRegion

AIR_HU = -1024.0
"""What lies outside the image, as scanners fill what they did not measure."""

AIR_HU_OF_VERSION_1 = -1000.0
"""Of vessel networks whose bundle does not say it: they were trained with this."""

SUPERSAMPLING = 2
"""Samples along each side of a pixel: a 200 mm view of 224 pixels reduces a 0.4 mm slice by 2.2."""


MOST_PX, MOST_NEIGHBORS, MOST_MM = 4096, 64, 1e4
"""No network here sees a tenth of it; a view of 100,000 pixels would ask for 186 GiB."""


@dataclass(frozen=True)
class NetworkView:
    """What a network sees.

    Parameters
    ----------
    size_px
        Rows and columns.
    spacing_mm
        Of its pixels; 0 fits the whole field of view into `size_px`, whatever that makes of a millimeter.
    window_hu
        Becomes the two numbers of `scaled_to`; what lies outside is cut off.
    neighbors
        Slices below and above that are seen too; the first and last slice are repeated.
    with_mask
        The last channel is the share of each pixel that is at or above `threshold_hu`.
    threshold_hu
        Of the mask.
    neighbor_mm
        From one of these to the next, as nearly as whole slices allow; 0 takes adjacent slices, and what a network sees
        of the third dimension depends on the scan's increment.
    center
        Where the square is laid: "slice" is the middle of the slice, "heart" that of the zone of the coronaries.
    scaled_to
        Numbers that the ends of `window_hu` become.
    resampling
        "mean" is linear between pixels and the mean of larger ones; "supersampled" is the mean of a few linear
        interpolations, which torch does alike on a whole batch.
    outside_hu
        What lies beyond the edge of a slice.

    Raises
    ------
    ValueError
        Numbers that no view can have.
    """

    size_px: int = 256
    spacing_mm: float = 0.6
    window_hu: tuple[float, float] = (-200.0, 1000.0)
    neighbors: int = 1
    with_mask: bool = True
    threshold_hu: float = 130.0
    neighbor_mm: float = 0.0
    center: Literal["slice", "heart"] = "heart"
    scaled_to: tuple[float, float] = (0.0, 1.0)
    resampling: Literal["mean", "supersampled"] = "mean"
    outside_hu: float = AIR_HU

    def __post_init__(self) -> None:
        object.__setattr__(self, "window_hu", tuple(map(float, self.window_hu)))
        object.__setattr__(self, "scaled_to", tuple(map(float, self.scaled_to)))
        ends = (*self.window_hu, *self.scaled_to)
        lengths = (self.spacing_mm, self.threshold_hu, self.neighbor_mm, self.outside_hu)
        if len(ends) != 4 or len(self.window_hu) != 2 or not all(map(math.isfinite, (*ends, *lengths))):
            raise ValueError(f"window_hu and scaled_to must be two numbers each, and every number finite, got {self}")
        if self.size_px < 1 or min(self.spacing_mm, self.neighbors, self.neighbor_mm) < 0:
            raise ValueError(f"size_px must be positive, spacing_mm and neighbors not negative, got {self}")
        if self.size_px > MOST_PX or self.neighbors > MOST_NEIGHBORS or max(self.field_mm, self.neighbor_mm) > MOST_MM:
            raise ValueError(f"at most {MOST_PX} pixels, {MOST_NEIGHBORS} neighbors and {MOST_MM:g} mm, got {self}")
        if self.window_hu[1] <= self.window_hu[0]:
            raise ValueError(f"window_hu must ascend, got {self.window_hu}")
        for name, words in (("center", ("slice", "heart")), ("resampling", ("mean", "supersampled"))):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be {' or '.join(words)}, got {getattr(self, name)!r}")

    @property
    def channels(self) -> int:
        """How many channels the network takes: the slices, and the mask where there is one."""
        return 2 * self.neighbors + 1 + self.with_mask

    @property
    def field_mm(self) -> float:
        """Side of the square; 0 when it is the whole field of view."""
        return self.size_px * self.spacing_mm

    @property
    def is_whole_field(self) -> bool:
        """Whether the view is the whole field of view of a scan, whatever its size."""
        return self.spacing_mm == 0

    def at_size(self, size_px: int) -> NetworkView:
        """The same square in other pixels."""
        return replace(self, size_px=size_px, spacing_mm=self.field_mm / size_px)

    def center_px(self, ct: CTVolume, region: HeartRegion) -> tuple[float, float] | None:
        """(row, column) of the view's middle in every slice of a CT; None is the middle of the slice."""
        return heart_center(ct, region) if self.center == "heart" else None

    def render(self, hu: NDArray, k: int, crop: Crop) -> NDArray[np.float32]:
        """What the network sees of one slice.

        Parameters
        ----------
        hu
            (k, j, i) of the whole CT; only the slices needed are read
        k
            Index of the slice.
        crop
            Where the view lies; see `place_crop`.

        Returns
        -------
        NDArray[np.float32]
            (channels, size_px, size_px): slices from foot to head in the window, then the mask, 0 to 1
        """
        around = np.clip(k + crop.slice_step * np.arange(-self.neighbors, self.neighbors + 1), 0, hu.shape[0] - 1)
        slices = np.asarray(hu[around]).astype(np.float32)
        channels = self._windowed(resample(slices, crop, outside=self.outside_hu, how=self.resampling))
        if self.with_mask:
            dense = (slices[self.neighbors : self.neighbors + 1] >= self.threshold_hu).astype(np.float32)
            channels = np.concatenate([channels, resample(dense, crop, outside=0.0, how=self.resampling)])
        return channels.astype(np.float32, copy=False)

    def render_slice(
        self, hu: ArrayLike, spacing_mm: tuple[float, float], center_mm: tuple[float, float] | None = None
    ) -> NDArray[np.float32]:
        """One slice without its neighbors, anywhere.

        Parameters
        ----------
        hu
            (rows, columns)
        spacing_mm
            Row and column distance.
        center_mm
            Row and column of the view's middle, from the outer corner of the first pixel; None is the middle of the
            slice.

        Returns
        -------
        NDArray[np.float32]
            (size_px, size_px), the first channel that a network sees
        """
        volume = np.asarray(hu)[None]
        dy, dx = spacing_mm
        middle = None if center_mm is None else (center_mm[0] / dy - 0.5, center_mm[1] / dx - 0.5)
        crop = place_crop((1, *volume.shape[1:]), (1.0, dy, dx), self, middle)
        image: NDArray[np.float32] = replace(self, neighbors=0, with_mask=False).render(volume, 0, crop)[0]
        return image

    def _windowed(self, image: NDArray) -> NDArray:
        (low, high), (first, last) = self.window_hu, self.scaled_to
        share = np.clip((image - low) / (high - low), 0, 1)
        return share if (first, last) == (0.0, 1.0) else share * (last - first) + first

    def to_json(self) -> dict[str, Any]:
        """Plain values, by the names of the fields."""
        return {**asdict(self), "window_hu": list(self.window_hu), "scaled_to": list(self.scaled_to)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NetworkView:
        """Read what `to_json` made of a view, or what bundles held before both networks shared one.

        Raises
        ------
        KeyError
            A field is missing.
        ValueError
            Numbers that no view can have.
        """
        window_hu = tuple(document["window_hu"])
        if "field_mm" in document:
            return classifier_view(document["field_mm"], document["size"], window_hu, document["center"])
        scaled_to = tuple(document.get("scaled_to", (0.0, 1.0)))
        known = {"outside_hu": AIR_HU_OF_VERSION_1, **document}
        return cls(**{**known, "window_hu": window_hu, "scaled_to": scaled_to})


def classifier_view(
    field_mm: float = 200.0,
    size_px: int = 224,
    window_hu: tuple[float, float] = (-460.0, 540.0),
    center: Literal["slice", "heart"] = "slice",
) -> NetworkView:
    """The view of a slice classifier: one slice, -1 to 1, a heart of the same size whatever the field of view.

    Parameters
    ----------
    field_mm
        Side of the square.
    size_px
        Its pixels.
    window_hu
        HU that become -1 and 1.
    center
        See `NetworkView`.

    Raises
    ------
    ValueError
        Numbers that no view can have.
    """
    if not (field_mm > 0 and size_px > 0):
        raise ValueError(f"a view needs a positive field and size, got {field_mm:g} mm and {size_px}")
    return NetworkView(
        size_px,
        field_mm / size_px,
        window_hu,
        neighbors=0,
        with_mask=False,
        center=center,
        scaled_to=(-1.0, 1.0),
        resampling="supersampled",
    )


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
    view: NetworkView,
    center: tuple[float, float] | None = None,
) -> Crop:
    """Lay a view over the slices of a CT.

    Parameters
    ----------
    shape, spacing_mm
        Of the CT, (slice, row, column).
    view
        What a network sees.
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


def resample(
    slices: NDArray[np.float32], crop: Crop, *, outside: float, how: Literal["mean", "supersampled"] = "mean"
) -> NDArray:
    """Slices on the view's grid: linear between pixels; where pixels are larger than the CT's, their mean.

    Parameters
    ----------
    slices
        (n, rows, columns)
    crop
        Where the view lies.
    outside
        Value beyond the edge.
    how
        See `NetworkView`.

    Returns
    -------
    NDArray
        (n, size_px, size_px), float32, or float64 when supersampled
    """
    # Rows and columns are independent, so two small matrices do it; a matrix product is the fastest sum numpy has.
    weights = _mean_weights if how == "mean" else _supersampled_weights
    over_rows, over_columns = weights(slices.shape[1], crop, 0), weights(slices.shape[2], crop, 1)
    used = [slice(*_span(w)) for w in (over_rows, over_columns)]
    beyond = over_rows.dtype.type(outside)
    part = slices[:, used[0], used[1]] - beyond  # what lies outside is 0 then, and needs no weight
    return over_rows[:, used[0]] @ part @ over_columns[:, used[1]].T + beyond


def nearest(values: NDArray, crop: Crop) -> NDArray:
    """Codes of one slice on the view's grid: each pixel takes the nearest of the CT; 0 outside.

    Parameters
    ----------
    values
        (rows, columns)
    crop
        Where the view lies.
    """
    sampled = np.zeros((crop.size_px, crop.size_px), values.dtype)
    rows, columns = (np.rint(crop.in_slice(axis)).astype(np.int64) for axis in (0, 1))
    inside = [(places >= 0) & (places < n) for places, n in zip((rows, columns), values.shape, strict=True)]
    sampled[np.ix_(*inside)] = values[np.ix_(rows[inside[0]], columns[inside[1]])]
    return sampled


@lru_cache(maxsize=8)  # the slices of a scan, and the mask of each, lie under the same crop
def _mean_weights(pixels: int, crop: Crop, axis: int) -> NDArray[np.float32]:
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


@lru_cache(maxsize=8)
def _supersampled_weights(pixels: int, crop: Crop, axis: int) -> NDArray[np.float64]:
    """(size_px, pixels): each pixel of the view is the mean of a few linear interpolations."""
    within = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    places = (np.arange(crop.size_px)[:, None] + within).reshape(-1) * crop.step[axis] + crop.first[axis]
    linear = np.clip(1 - np.abs(places[:, None] - np.arange(pixels)), 0, None)
    weights: NDArray[np.float64] = linear.reshape(crop.size_px, SUPERSAMPLING, pixels).mean(axis=1)
    weights.setflags(write=False)
    return weights


def _grid_around(places: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """(size_px, m) every whole number within reach of each place, also beyond the image."""
    width = int(np.ceil(reach))
    return np.floor(places)[:, None] + np.arange(-width, width + 2)


def _span(weights: NDArray) -> tuple[int, int]:
    """First and last + 1 of the columns that have any weight; at least one, so that products stay defined."""
    used = np.flatnonzero(weights.any(axis=0))
    return (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
