"""Where the slices lie: from positions and orientations only, with the gates that keep a wrong volume out.

PS3.3 C.7.6.2. SliceThickness, SpacingBetweenSlices, SliceLocation and InstanceNumber put no slice anywhere: each of
them has been seen to contradict the positions. What the last two say against some positions is heard (`slices.order`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import AXIAL_COSINE, SKEW_TOLERANCE
from heartlens.core.errors import InputRefused, WarningRecord, refuse_or_warn
from heartlens.dicom.acquisition import common_number
from heartlens.dicom.header import Frame
from heartlens.dicom.slices.order import order_cautions

SAME_POSITION_MM = 0.01
"""Slices closer than this lie at one place."""

UNEVEN_MM = 0.1
UNEVEN_FRACTION = 0.05
ROUNDED_MM = 0.08
"""A slice may lie off the even grid by 5 % of a step, by 0.1 mm at most (spec 6.1), and by 0.08 mm at least: some
scanners write positions with one decimal, which moves them by 0.05 mm and the grid that fits them by half as much."""

SIDEWAYS_MM = 0.1
"""Slices may be shifted within their plane by this much against each other: positions are rounded in the text."""

MIN_SLICES = 3

COSINE_TOLERANCE = 1e-3
"""Orientations of the slices of one volume agree to this."""


@dataclass(frozen=True)
class Stack:
    """Slices in order along their normal, and the affine of the array they form.

    Parameters
    ----------
    order
        Indices into the given frames, towards the head.
    affine
        (4, 4), (i, j, k, 1) = column, row, slice to LPS mm; not yet canonical
    cautions
        Refusals that the user has allowed.
    """

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    cautions: tuple[WarningRecord, ...]


def stack_slices(
    frames: Sequence[Frame], *, allow: frozenset[str] = frozenset(), slice_thickness_mm: float | None = None
) -> Stack:
    """Order the slices of one volume and find its affine.

    Parameters
    ----------
    frames
        Every slice, in any order.
    allow
        refusals lifted by the user: "not-axial", "few-slices"
    slice_thickness_mm
        Stands in for the increment of a single slice without SliceThickness.

    Raises
    ------
    InputRefused
        "mixed", "tilt", "not-axial", "duplicate", "gap", "uneven" or "few-slices", naming the slices
    """
    cautions: list[WarningRecord] = []
    orientation, spacing = _common_plane(frames)
    row_direction, column_direction = orientation[:3], orientation[3:]
    normal = slice_normal(orientation)
    normal /= np.linalg.norm(normal)
    corners = np.array([_vector(frame, "ImagePositionPatient", 3) for frame in frames])
    along = corners @ normal
    order = np.argsort(along, kind="stable")
    names = [frames[n].name for n in order]
    sideways = corners[order] - np.outer(along[order], normal)
    cautions += _tilt(frames, names, along[order], sideways)
    if abs(normal[2]) <= AXIAL_COSINE:
        text = (
            f"slices are not axial, ImageOrientationPatient (0020,0037) gives a normal at cosine "
            f"{abs(normal[2]):.3f} to the long axis, expected more than {AXIAL_COSINE}"
        )
        cautions.append(refuse_or_warn("not-axial", text, allow, where=names[0]))
    increment, more = _increment_mm(frames, names, along[order])
    cautions += more
    cautions += order_cautions([frames[n] for n in order], along[order])
    if len(frames) < MIN_SLICES:
        count_text = "1 slice" if len(frames) == 1 else f"{len(frames)} slices"
        cautions.append(refuse_or_warn("few-slices", f"found {count_text}, expected at least {MIN_SLICES}", allow))
    if increment is None:
        increment = slice_thickness_mm or common_number(frames, "SliceThickness")
        if increment is None:
            text = f"{names[0]} is a single slice without SliceThickness (0018,0050); say it with --thickness-mm"
            raise InputRefused("few-slices", text)
    affine = np.eye(4)
    affine[:3, 0] = row_direction / np.linalg.norm(row_direction) * spacing[1]
    affine[:3, 1] = column_direction / np.linalg.norm(column_direction) * spacing[0]
    affine[:3, 2] = normal * increment
    affine[:3, 3] = corners[order[0]]
    return Stack(tuple(int(n) for n in order), affine, tuple(cautions))


def _common_plane(frames: Sequence[Frame]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orientation (6,) and pixel spacing (row, column) that all slices share."""
    first = frames[0]
    orientation = _vector(first, "ImageOrientationPatient", 6)
    spacing = _vector(first, "PixelSpacing", 2)
    lengths = np.linalg.norm(orientation.reshape(2, 3), axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(orientation[:3] @ orientation[3:]) > SKEW_TOLERANCE:
        raise InputRefused(
            "unreadable",
            f"{first.name}: ImageOrientationPatient (0020,0037) must be two unit vectors at right angles, "
            f"found {orientation.tolist()}",
        )
    if spacing.min() <= 0:
        raise InputRefused(
            "unreadable", f"{first.name}: PixelSpacing (0028,0030) must be positive, found {spacing.tolist()}"
        )
    for frame in frames:
        for keyword in ("Rows", "Columns"):
            if frame.value(keyword) != first.value(keyword):
                raise _mixed(first, frame, keyword)
        if np.abs(_vector(frame, "ImageOrientationPatient", 6) - orientation).max() > COSINE_TOLERANCE:
            raise _mixed(first, frame, "ImageOrientationPatient")
        if np.abs(_vector(frame, "PixelSpacing", 2) / spacing - 1).max() > COSINE_TOLERANCE:
            raise _mixed(first, frame, "PixelSpacing")
    return orientation, spacing


def _tilt(
    frames: Sequence[Frame], names: Sequence[str], along: NDArray[np.float64], sideways: NDArray[np.float64]
) -> list[WarningRecord]:
    """Refuse slices whose positions shear the volume; warn of a tag that says so while positions are straight."""
    length = float(along[-1] - along[0])
    drift = sideways[-1] - sideways[0]
    distance = float(np.linalg.norm(drift))
    if distance > max(SIDEWAYS_MM, SKEW_TOLERANCE * length) and length > SAME_POSITION_MM:
        straight = sideways[0] + np.outer((along - along[0]) / length, drift)
        if np.abs(sideways - straight).max() <= SIDEWAYS_MM:
            angle = math.degrees(math.atan2(distance, length))
            raise InputRefused(
                "tilt",
                f"positions of {names[0]} to {names[-1]} drift {distance:.1f} mm sideways over {length:.1f} mm "
                f"({angle:.1f} degrees): a tilted gantry, expected a right angle; reconstruct it untilted",
            )
    shift = np.linalg.norm(sideways - np.median(sideways, axis=0), axis=1)
    worst = int(np.argmax(shift))
    if shift[worst] > max(SIDEWAYS_MM, SKEW_TOLERANCE * length):
        raise InputRefused(
            "mixed",
            f"{names[worst]} is shifted {shift[worst]:.1f} mm within its plane against the other slices: "
            f"ImagePositionPatient (0020,0032) must differ along the normal only",
        )
    for frame in frames:
        tilt = frame.number_of("GantryDetectorTilt")
        if tilt is None or abs(math.sin(math.radians(tilt))) <= SKEW_TOLERANCE:
            continue
        text = f"GantryDetectorTilt (0018,1120) is {tilt:g} degrees"
        if len(frames) < MIN_SLICES:
            told = f"{frame.name}: {text}, expected 0, and too few positions prove otherwise; reconstruct it untilted"
            raise InputRefused("tilt", told)
        return [WarningRecord("tilt", f"{text}, but the positions lie at right angles: the volume is not sheared")]
    return []


def off_grid_mm(along: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each position lies from the even grid that fits all of them best; ascending positions, least squares."""
    if len(along) < 3:
        return np.zeros(len(along))
    k = np.arange(len(along), dtype=np.float64)
    return np.abs(np.polyval(np.polyfit(k, along, 1), k) - along)


def tolerance_mm(along: NDArray[np.float64]) -> float:
    """How far a position may lie from the even grid."""
    step = float(along[-1] - along[0]) / max(1, len(along) - 1)
    return max(ROUNDED_MM, min(UNEVEN_MM, UNEVEN_FRACTION * step))


def _increment_mm(
    frames: Sequence[Frame], names: Sequence[str], along: NDArray[np.float64]
) -> tuple[float | None, list[WarningRecord]]:
    """The one distance between neighboring slices, None for a single slice; and what is odd and does no harm."""
    if len(along) < 2:
        return None, []
    steps = np.diff(along)
    same = np.flatnonzero(steps < SAME_POSITION_MM)
    if same.size:
        pairs = [f"{names[n]} and {names[n + 1]}" for n in same[:3]]
        more = f" and {same.size - 3} more pairs" if same.size > 3 else ""
        raise InputRefused(
            "duplicate",
            f"{', '.join(pairs)}{more} lie at the same position ({along[same[0]]:.2f} mm), expected one slice each, "
            f"and their headers do not tell two stacks apart; remove one of each",
        )
    spaces = {frame.text("FrameOfReferenceUID") for frame in frames}
    off, tolerance = off_grid_mm(along), tolerance_mm(along)
    if off.max() > tolerance:
        if len(spaces) > 1:
            raise InputRefused(
                "mixed",
                f"slices of one volume must share FrameOfReferenceUID (0020,0052), found {len(spaces)}, and positions "
                f"form no even grid, which would prove one space; copy the slices of one into a folder of their own",
            )
        raise _uneven(names, along, off, tolerance)
    cautions = []
    if len(spaces) > 1:
        text = f"FrameOfReferenceUID (0020,0052) has {len(spaces)} values; positions form one even grid, so one volume"
        cautions.append(WarningRecord("frame-of-reference", text))
    usual = float(median_low(steps.tolist()))
    if np.abs(steps - usual).max() > min(UNEVEN_MM, UNEVEN_FRACTION * usual):
        text = f"steps between slices differ, as rounded positions do; none is {off.max() + 0.005:.2f} mm off a grid"
        cautions.append(WarningRecord("positions", text))
    return float(along[-1] - along[0]) / len(steps), cautions


def _uneven(
    names: Sequence[str], along: NDArray[np.float64], off_grid: NDArray[np.float64], tolerance: float
) -> InputRefused:
    """The refusal of positions that are no grid: of a gap where a few steps are multiples of the usual one."""
    steps = np.diff(along)
    usual = float(median_low(steps.tolist()))
    off = np.flatnonzero(np.abs(steps - usual) > min(UNEVEN_MM, UNEVEN_FRACTION * usual))
    if not off.size:  # each step is usual and yet they add up
        worst = int(np.argmax(off_grid))
        where = f"{names[worst]} lies {off_grid[worst]:.2f} mm off the even grid through all slices"
        return InputRefused("uneven", f"{where}, expected at most {tolerance:.2f} mm; copy the whole series")
    ratios = steps[off] / usual
    missing = np.rint(ratios).astype(int) - 1
    # Few steps that are multiples of the usual one: slices are missing. Many: two scans joined, say.
    is_gap = bool((missing >= 1).all() and np.abs(ratios - np.rint(ratios)).max() < 0.1)
    is_gap = is_gap and off.size <= max(1, steps.size // 4)
    places = [
        (f"{missing[m]} between " if is_gap else f"{steps[n]:.2f} mm between ")
        + f"{names[n]} and {names[n + 1]} ({along[n]:.2f} and {along[n + 1]:.2f} mm)"
        for m, n in enumerate(off[:3])
    ]
    where = ", ".join(places) + (f" and {off.size - 3} more" if off.size > 3 else "")
    if is_gap:
        return InputRefused(
            "gap", f"slices are missing: {where}; increment elsewhere {usual:.2f} mm; copy the whole series"
        )
    return InputRefused(
        "uneven",
        f"increments {where}; elsewhere {usual:.2f} mm, expected every slice within {tolerance:.2f} mm of an even "
        f"grid; copy the whole series",
    )


def _vector(frame: Frame, keyword: str, size: int) -> NDArray[np.float64]:
    numbers = frame.numbers(keyword)
    if len(numbers) != size:
        actual = frame.text(keyword) or "nothing"
        raise InputRefused("unreadable", f"{frame.name}: {keyword} must be {size} numbers, found {actual}")
    return np.array(numbers)


def _mixed(first: Frame, other: Frame, keyword: str) -> InputRefused:
    return InputRefused(
        "mixed",
        f"slices of one volume must share {keyword}: {first.name} has {first.text(keyword)}, "
        f"{other.name} has {other.text(keyword)}",
    )


def slice_normal(orientation: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal of a slice by its rows and columns, toward the head (the left, the back) whichever way these run.

    Parameters
    ----------
    orientation
        (6,) ImageOrientationPatient

    Returns
    -------
    NDArray[np.float64]
        (3,), of length 1 where rows and columns have it and stand upright on each other
    """
    normal: NDArray[np.float64] = np.cross(orientation[:3], orientation[3:])
    return -normal if normal[np.argmax(np.abs(normal))] < 0 else normal


def positions_mm(frames: Sequence[Frame]) -> tuple[np.ndarray, float | None]:
    """Different positions along the first slice's normal, ascending, and the normal's cosine with the long axis."""
    orientation = frames[0].numbers("ImageOrientationPatient") if frames else ()
    if len(orientation) != 6:
        return np.empty(0), None
    normal = slice_normal(orientation)
    corners = [c for c in (frame.numbers("ImagePositionPatient") for frame in frames) if len(c) == 3]
    along = np.unique(np.round([np.dot(corner, normal) for corner in corners], 2))
    length = float(np.linalg.norm(normal))
    return along, abs(float(normal[2])) / length if length else None
