"""What a scanner can make and a body can be: one gate for the geometry of every CT, whatever door it came through."""

from __future__ import annotations

from collections.abc import Sequence

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused

PIXEL_MM = (0.1, 6.0)
"""Scanners make 0.15 to 1.4 mm; volumes that were resampled for networks have up to 4 mm."""

INCREMENT_MM = (0.1, 20.0)

FIELD_MM = (80.0, 700.0)
"""Side of the image: a heart is 80 mm wide, the widest bore shows 700 mm (PET/CT, extended field of view)."""

LENGTH_MM = 2200.0
"""No scan is longer than a person."""

SQUARE = 0.02
"""By this share the sides of a pixel may differ; reconstruction makes them equal."""


def require_possible_extent(ct: CTVolume, *, is_axial: bool = True, is_part: bool = False) -> None:
    """Refuse a geometry that no scanner makes; scores follow the area of a pixel, so a wrong one gives a wrong score.

    Parameters
    ----------
    ct
        A volume whose axes are the patient's.
    is_axial
        Whether its slices are the scanner's: those of a coronal stack have pixels that are not square.
    is_part
        Whether it may be cut out of an image: given labels need no body around them.

    Raises
    ------
    InputRefused
        ``geometry``, with the number, what it should be, and the way out
    """
    dz, dy, dx = ct.spacing_mm
    slices, rows, columns = ct.shape
    _require("pixels", (dx, dy), PIXEL_MM)
    _require("steps between slices", (dz,), INCREMENT_MM)
    _require("a scan", (slices * dz,), (0.0, LENGTH_MM))
    if is_axial:
        least = 0.0 if is_part else FIELD_MM[0]
        _require("an image with a side", (rows * dy, columns * dx), (least, FIELD_MM[1]))
    if is_axial and max(dx, dy) > (1 + SQUARE) * min(dx, dy):
        raise _refused(f"expected square pixels, found {dx:.4g} x {dy:.4g} mm")


def _require(what: str, lengths_mm: Sequence[float], limits_mm: tuple[float, float]) -> None:
    low, high = limits_mm
    for found in lengths_mm:
        if not low <= found <= high:
            raise _refused(f"expected {what} of {low:g} to {high:g} mm, found {found:.4g} mm")


def _refused(text: str) -> InputRefused:
    return InputRefused(
        "geometry",
        f"{text}, which no CT scanner makes: the spacing or its unit is wrong; export the CT again, or read the "
        "original DICOM series",
    )
