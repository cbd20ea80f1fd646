"""What the slices of one volume must share, and what one header must not say twice or against itself.

A header is not believed alone: one slice of 45 with another intercept turned a score of 1075 into 347.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy.continuity import LEAST_STEP_HU, median_steps_hu
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.dicom import words
from heartlens.dicom.acquisition import common_number
from heartlens.dicom.header import Frame

SAME_LENGTH = 0.01
"""Lengths that are written with few digits differ by less than this share of themselves."""

FIELD_TOLERANCE = 0.05
"""By how much the image may be wider than ReconstructionDiameter says; scanners write the same number twice."""

Stated = str | float | None


def agreement_cautions(frames: Sequence[Frame]) -> list[WarningRecord]:
    """Refuse slices that differ in what one reconstruction shares; a slice that is silent about it agrees.

    Raises
    ------
    InputRefused
        ``mixed``, naming two slices and the tag; ``geometry``, the image is wider than it was reconstructed
    """
    for keyword, tag, read in _SHARED:
        first: tuple[Frame, Stated] | None = None
        for frame in frames:
            value = read(frame)
            if value is None:
                continue
            if first is None:
                first = frame, value
            elif not _is_same(first[1], value):
                said = "" if keyword in _NAMES_A_PERSON else f" ({first[1]} and {value})"
                raise InputRefused(
                    "mixed",
                    f"slices of one volume must share {keyword} {tag}: {first[0].name} and {frame.name} "
                    f"differ{said}; send the series again from one source, or copy the slices of one into a folder of "
                    "their own",
                )
    for frame in frames:
        for keyword in ("RescaleSlope", "RescaleIntercept", "PixelSpacing"):
            stated = frame.stated(keyword)
            if len(stated) > 1 and any(value != stated[0] for value in stated[1:]):
                raise InputRefused(
                    "mixed",
                    f"{frame.name}: {keyword} is said for all frames and for this one, and differs; convert it again",
                )
    return _field_cautions(frames)


def _field_cautions(frames: Sequence[Frame]) -> list[WarningRecord]:
    """Rows and Columns times PixelSpacing against ReconstructionDiameter."""
    diameter_mm = common_number(frames, "ReconstructionDiameter")
    spacing = frames[0].numbers("PixelSpacing")
    rows, columns = (frames[0].number_of(keyword) or 0 for keyword in ("Rows", "Columns"))
    if diameter_mm is None or len(spacing) != 2 or rows < 1 or columns < 1:
        return []
    # Of an image with two sides the longer one is what was reconstructed; a wrong spacing makes both too long.
    shorter_mm, field_mm = sorted((spacing[0] * rows, spacing[1] * columns))
    text = (
        f"Rows and Columns times PixelSpacing (0028,0030) make an image of {field_mm:.0f} mm, "
        f"ReconstructionDiameter (0018,1100) says {diameter_mm:.0f} mm"
    )
    if shorter_mm > (1 + FIELD_TOLERANCE) * diameter_mm:
        raise InputRefused(
            "geometry", f"{frames[0].name}: {text}: one of them is wrong, and the score with it; send the series again"
        )
    if field_mm < (1 - FIELD_TOLERANCE) * diameter_mm:
        return [WarningRecord("field", f"{text}: a part of the image, or a spacing that is wrong")]
    return []


def require_explained_rescale(
    frames: Sequence[Frame], rescale: Sequence[tuple[float, float]], order: Sequence[int], hu: NDArray
) -> None:
    """Refuse a rescale that changes from slice to slice when the change shows in the HU.

    A rescale of its own for each slice is allowed (PS3.3 C.11.1.1.2), and then HU go on from slice to slice. When
    they jump by what the change makes of tissue, one of the two slices has a wrong rescale.

    Parameters
    ----------
    frames, rescale
        Slices, and (slope, intercept) of each.
    order
        Foot to head.
    hu
        (k, j, i) in that order, HU

    Raises
    ------
    InputRefused
        ``mixed``
    """
    changes = [k for k in range(1, len(order)) if rescale[order[k]] != rescale[order[k - 1]]]
    if not changes:
        return
    steps = median_steps_hu(hu, changes)
    for k, step in zip(changes, steps, strict=True):
        if not np.isfinite(step):
            continue
        (slope_0, intercept_0), (slope_1, intercept_1) = rescale[order[k - 1]], rescale[order[k]]
        # What tissue of 40 HU, as the lower slice has it, would measure with the rescale of the upper one.
        stored = (40.0 - intercept_0) / slope_0
        expected = stored * slope_1 + intercept_1 - 40.0
        if abs(expected) >= LEAST_STEP_HU and abs(step - expected) < abs(step):
            low, high = frames[order[k - 1]].name, frames[order[k]].name
            raise InputRefused(
                "mixed",
                f"RescaleSlope and RescaleIntercept (0028,1052-1053) change from {low} ({slope_0:g}, {intercept_0:g}) "
                f"to {high} ({slope_1:g}, {intercept_1:g}) and tissue with them, by {step:.0f} HU: one of the two is "
                f"wrong; send the series again",
            )


def _is_same(one: Stated, other: Stated) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= SAME_LENGTH * max(abs(one), abs(other))
    return one == other


def _kernel(frame: Frame) -> Stated:
    return (frame.text("ConvolutionKernel") or "").strip().upper() or None


def _thickness(frame: Frame) -> Stated:
    number = frame.number_of("SliceThickness")
    return number if number is not None and number > 0 else None


def _kvp(frame: Frame) -> Stated:
    number = frame.number_of("KVP")
    return number if number is not None and number > 0 else None


def _image_type(frame: Frame) -> Stated:
    """Pixel data characteristics and examination: what was measured is not mixed with what was computed."""
    return words.joined(frame.image_type[:2]) if frame.image_type else None


def _patient(frame: Frame) -> Stated:
    """Family and given name in any order and writing: "Miller^Ann" is "ANN MILLER^^MRS"."""
    name = " ".join((frame.text("PatientName") or "").split("=")[0].split("^")[:2])
    return " ".join(sorted("".join(c if c.isalnum() else " " for c in name).casefold().split())) or None


def _padding(frame: Frame) -> Stated:
    limit = frame.value("PixelPaddingRangeLimit")
    return None if limit is None else f"{frame.value('PixelPaddingValue')} to {limit}"


_NAMES_A_PERSON = frozenset({"PatientName"})

_SHARED: tuple[tuple[str, str, Callable[[Frame], Stated]], ...] = (
    ("ConvolutionKernel", "(0018,1210)", _kernel),
    ("SliceThickness", "(0018,0050)", _thickness),
    ("KVP", "(0018,0060)", _kvp),
    ("ImageType", "(0008,0008)", _image_type),
    ("PatientName", "(0010,0010)", _patient),
    ("PixelPaddingRangeLimit", "(0028,0121)", _padding),
)
"""Keyword, tag, and how it is read for comparison."""
