"""HU of the slices of a volume, in one array, and what of it is padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.core.components import label_components
from heartlens.core.ct import hu_array
from heartlens.core.errors import InputRefused
from heartlens.dicom.header import Frame, Instance
from heartlens.dicom.pixels import whole_number

PADDING_HU = -1024
"""What becomes of padding that would otherwise pass the calcium threshold: air."""

CALCIUM_HU = 130
"""Padding below this cannot be taken for calcium and is left as stored."""

BONE_HU = 1000.0
"""The densest that a chest is made of."""


class HUStack:
    """Slices of HU, gathered in one array: int16 as long as every value is integral, then float32.

    The array is what `hu_array` would make of all slices in float64, without holding them.

    Parameters
    ----------
    shape
        (slice, row, column)
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.hu: NDArray = np.empty(shape, np.int16)

    def put(self, k: int, stored: NDArray, slope: float, intercept: float, padding: tuple[int, int] | None) -> None:
        """Rescale one slice: stored x slope + intercept.

        Parameters
        ----------
        k
            Slice index.
        stored
            (row, column), stored values
        slope, intercept
            RescaleSlope, RescaleIntercept of this slice
        padding
            Lowest and highest stored value that means "no measurement", or None.
        """
        outside = _false_calcium(stored, slope, intercept, padding)
        low, high = int(stored.min()) + intercept, int(stored.max()) + intercept
        if (
            slope == 1 and intercept == int(intercept) and low >= -32768 and high <= 32767
            and stored.dtype.itemsize == 2 and self.hu.dtype == np.int16 and outside is None
        ):  # fmt: skip
            # Sums modulo 2**16 are exact here, since the true result fits into 16 bits.
            np.add(stored.view(np.int16), np.array(int(intercept)).astype(np.int16), out=self.hu[k])
            return
        values = stored * np.float64(slope) + np.float64(intercept)
        if outside is not None:
            values[outside] = PADDING_HU
        slice_hu = hu_array(values)
        if slice_hu.dtype != self.hu.dtype and self.hu.dtype == np.int16:
            whole = np.empty(self.hu.shape, np.float32)
            whole[...] = self.hu  # every int16 is exact in float32; slices not yet put are overwritten later
            self.hu = whole
        self.hu[k] = slice_hu


def padding_range(frame: Frame, slope: float, intercept: float) -> tuple[int, int] | None:
    """Stored values that mean "outside the reconstruction" (PS3.3 C.7.5.1.1.2), lowest and highest.

    Parameters
    ----------
    frame
        A slice.
    slope, intercept
        Of its rescale.

    Raises
    ------
    InputRefused
        ``unreadable``: a range that reaches from lung, tissue or bone to calcium would erase what was measured
    """
    value = _stored_integer(frame.instance, "PixelPaddingValue")
    if value is None:
        return None
    limit = _stored_integer(frame.instance, "PixelPaddingRangeLimit")
    if limit is None or limit == value:
        return (value, value)
    low, high = sorted((value, limit))
    hu = sorted((low * slope + intercept, high * slope + intercept))
    if hu[0] < BONE_HU and hu[1] >= CALCIUM_HU:
        raise InputRefused(
            "unreadable",
            f"{frame.name}: PixelPaddingValue and PixelPaddingRangeLimit (0028,0120-0121) call everything from "
            f"{hu[0]:g} to {hu[1]:g} HU padding, tissue and calcium among it; correct or remove them",
        )
    return low, high


def _stored_integer(instance: Instance, keyword: str) -> int | None:
    """A tag that has the pixels' own type; some writers store -2000 as 63536."""
    value = instance.value(keyword)
    signed = instance.value("PixelRepresentation") == 1
    bits = whole_number(instance, "BitsAllocated", 16)
    if isinstance(value, bytes):
        value = int.from_bytes(value[: bits // 8], "little", signed=signed)
    if not isinstance(value, int):
        return None
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _false_calcium(
    stored: NDArray, slope: float, intercept: float, padding: tuple[int, int] | None
) -> NDArray[np.bool_] | None:
    """Padding voxels that would read as calcium, or None.

    Padding usually lies far below air and is left as it is. Where its value would be 130 HU or more, only what is
    connected to the image's border through padding is padding: it lies outside the reconstruction circle. A voxel
    inside the patient that happens to hold the same number has been measured and keeps its value.
    """
    if padding is None or max(padding[0] * slope, padding[1] * slope) + intercept < CALCIUM_HU:
        return None
    marked = (stored >= padding[0]) & (stored <= padding[1])
    if not marked.any():
        return None
    rows, columns = stored.shape
    flat = np.flatnonzero(marked)
    island = label_components(flat, (1, rows, columns), connectivity=4)
    row, column = flat // columns, flat % columns
    at_border = (row == 0) | (row == rows - 1) | (column == 0) | (column == columns - 1)
    outside = np.zeros(rows * columns, bool)
    outside[flat[np.isin(island, island[at_border])]] = True
    return outside.reshape(rows, columns) if outside.any() else None
