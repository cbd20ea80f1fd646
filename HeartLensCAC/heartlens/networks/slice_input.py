"""How a slice is laid before the slice classifier: a square of fixed size in mm, a fixed HU window."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.ct import CTVolume
from heartlens.networks.input import heart_center

if TYPE_CHECKING:
    from heartlens.anatomy import HeartRegion

OUTSIDE_HU = -1024.0
"""What lies beyond the edge of a slice."""

SUPERSAMPLING = 2
"""Samples along each side of a pixel of a view: a 200 mm view of 224 pixels reduces a 0.4 mm slice by 2.2."""


@dataclass(frozen=True)
class SliceView:
    """Whatever the field of view of a scan, a heart has the same size in every view.

    Parameters
    ----------
    field_mm
        Side of the square.
    size
        Its pixels.
    window_hu
        HU that become -1 and 1; what lies beyond is clipped
    center
        Where the square is laid: "slice" is the middle of the slice, "heart" that of the zone of the coronaries.
    """

    field_mm: float = 200.0
    size: int = 224
    window_hu: tuple[float, float] = (-460.0, 540.0)
    center: Literal["slice", "heart"] = "slice"

    def __post_init__(self) -> None:
        object.__setattr__(self, "window_hu", tuple(map(float, self.window_hu)))
        if self.center not in ("slice", "heart"):
            raise ValueError(f"center must be slice or heart, got {self.center!r}")
        if not (self.field_mm > 0 and self.size > 0 and self.window_hu[0] < self.window_hu[1]):
            raise ValueError(f"a view needs a positive field and size and an ascending window, got {self}")

    def render(
        self, hu: ArrayLike, spacing_mm: tuple[float, float], center_mm: tuple[float, float] | None = None
    ) -> NDArray[np.float32]:
        """One slice as the network sees it.

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
            (size, size), -1 to 1
        """
        image = np.asarray(hu, dtype=np.float64) - OUTSIDE_HU  # air is 0, and so is what lies outside
        middle = center_mm or tuple(n * s / 2 for n, s in zip(image.shape, spacing_mm, strict=True))
        rows, columns = (self._weights(n, s, m) for n, s, m in zip(image.shape, spacing_mm, middle, strict=True))
        view = rows @ image @ columns.T + OUTSIDE_HU
        low, high = self.window_hu
        return np.clip((view - low) * (2 / (high - low)) - 1, -1, 1).astype(np.float32)

    def center_mm(self, ct: CTVolume, region: HeartRegion) -> tuple[float, float] | None:
        """Row and column of the view's middle in every slice of a CT, as `look` takes it; None for the slice's own."""
        if self.center == "slice":
            return None
        _, row_mm, column_mm = ct.spacing_mm
        row, column = heart_center(ct, region)
        return (row + 0.5) * row_mm, (column + 0.5) * column_mm

    def _weights(self, length: int, spacing_mm: float, center_mm: float) -> NDArray[np.float64]:
        """(size, length): each pixel of the view is the mean of a few linear interpolations."""
        fine = self.size * SUPERSAMPLING
        place_mm = center_mm + ((np.arange(fine) + 0.5) / fine - 0.5) * self.field_mm
        place = place_mm / spacing_mm - 0.5  # in pixels, 0 = middle of the first
        weights = np.clip(1 - np.abs(place[:, None] - np.arange(length)), 0, None)
        return weights.reshape(self.size, SUPERSAMPLING, length).mean(axis=1)

    def to_json(self) -> dict[str, Any]:
        """Plain values, by the names of the fields."""
        return {**asdict(self), "window_hu": list(self.window_hu)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SliceView:
        """A view from what `to_json` made of it."""
        return cls(**{**document, "window_hu": tuple(document["window_hu"])})
