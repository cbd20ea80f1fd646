"""Stacks below a series: one series may hold a scout, two cardiac phases, two reconstructions or a dose report.

A slice is left out of a stack only where it cannot be a slice of it: another plane, another kind of image, or a place
that is taken. What would fill a place of the stack stays with it, and reading says what is wrong with it: a scan is
never scored without a slice that belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from heartlens.core.ct import AXIAL_COSINE
from heartlens.core.errors import WarningRecord
from heartlens.dicom import words
from heartlens.dicom.header import Frame, Instance
from heartlens.dicom.stack import MIN_SLICES, SAME_POSITION_MM, slice_normal
from heartlens.dicom.stacks.series import Series, ct_stack, other_objects

NEIGHBOR_STEPS = 1.5
"""A slice within so many steps of a stack, and at no place of it, is one of its slices."""


class Trait(NamedTuple):
    """What may tell stacks of the same places apart.

    Parameters
    ----------
    of
        Its value for a slice.
    says
        How a value is written in messages; no free text of a header.
    """

    of: Callable[[Frame], Hashable]
    says: Callable[[Hashable], str]


def _number(keyword: str, *more: str) -> Callable[[Frame], Hashable]:
    return lambda frame: next((n for n in (frame.number_of(k) for k in (keyword, *more)) if n is not None), None)


def _said(before: str, after: str = "") -> Callable[[Hashable], str]:
    return lambda value: f"{before}not stated" if value is None else f"{before}{value:g}{after}"


def _type(value: Hashable) -> str:
    return f"image type {words.joined(value if isinstance(value, tuple) else ())}"


TRAITS = (
    Trait(lambda f: (f.text("Rows"), f.text("Columns"), f.text("PixelSpacing")), lambda v: "matrix " + _x(v)),
    Trait(lambda f: tuple(round(n, 3) for n in f.numbers("ImageOrientationPatient")), lambda v: f"orientation {v}"),
    Trait(_number("NominalPercentageOfCardiacPhase"), _said("phase ", " %")),
    Trait(_number("TemporalPositionIdentifier", "TemporalPositionIndex"), _said("time point ")),
    Trait(lambda f: f.text("ConvolutionKernel"), lambda v: f"kernel {v or 'not stated'}"),
    Trait(_number("SliceThickness"), _said("thickness ", " mm")),
    Trait(_number("KVP"), _said("", " kV")),
    Trait(lambda f: f.image_type, _type),
    Trait(lambda f: f.contrast or "", lambda v: "with contrast agent" if v else "no contrast agent"),
    Trait(_number("AcquisitionNumber", "FrameAcquisitionNumber"), _said("acquisition ")),
    Trait(_number("TriggerTime"), _said("trigger ", " ms")),
)
"""In the order in which they are tried; the first that leaves every place to one slice decides."""


def _x(value: Hashable) -> str:
    rows, columns = value[:2] if isinstance(value, tuple) else (None, None)
    return f"{columns} x {rows}"


def stacks_of(study_uid: str, series_uid: str, instances: Sequence[Instance]) -> list[Series]:
    """The stacks of one series, the largest first, and the objects in it that are no CT image.

    Parameters
    ----------
    study_uid, series_uid
        Of the series.
    instances
        Its files.
    """
    frames = [frame for instance in instances if instance.is_ct for frame in instance.frames]
    others = [instance for instance in instances if not instance.is_ct]
    if not frames:
        return [other_objects(study_uid, series_uid, others)]
    parts = [piece for group in _groups(frames) for piece in _told_apart(group, "", TRAITS)]
    parts.sort(key=lambda part: (-len(part[0]), part[1]))
    if len(parts) == 1 and not others:
        return [ct_stack(study_uid, series_uid, frames)]
    titles = [f"{len(part)} slices{f' ({traits})' if traits else ''}" for part, traits in parts]
    found = []
    for n, (part, traits) in enumerate(parts):
        rest = [title for m, title in enumerate(titles) if m != n]
        rest += [f"{len(others)} objects that are no CT image"] if others else []
        number = n + 1 if len(parts) > 1 else None
        which = f"stack {number} of {len(parts)}" if number else "the CT images"
        text = f"of the series {which} were scored, {titles[n]}; left out: {', '.join(rest)}"
        caution = [WarningRecord("stacks", text)]
        found.append(ct_stack(study_uid, series_uid, part, stack=number, traits=traits, cautions=caution))
    return found


def _groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Slices by patient, plane and kind of image; those that fill a place of a larger group stay with it."""
    by_kind: dict[Hashable, list[Frame]] = {}
    for frame in frames:
        kind = words.derived_type(frame.image_type)
        by_kind.setdefault((frame.instance.patient, _plane(frame), kind), []).append(frame)
    groups = sorted(by_kind.values(), key=len, reverse=True)
    kept: list[list[Frame]] = []
    for group in groups:
        home = next((larger for larger in kept if _continues(group, larger)), None)
        if home is None:
            kept.append(group)
        else:
            home.extend(group)
    return kept


def _plane(frame: Frame) -> str:
    orientation = frame.numbers("ImageOrientationPatient")
    if len(orientation) != 6 or len(frame.numbers("ImagePositionPatient")) != 3:
        return "unplaced"
    normal = slice_normal(orientation)
    length = float(np.linalg.norm(normal))
    if not length:
        return "unplaced"
    return "axial" if abs(normal[2]) / length > AXIAL_COSINE else "other"


def _continues(group: Sequence[Frame], larger: Sequence[Frame]) -> bool:
    """Whether a slice of a group lies where a slice of the larger one could lie, or nobody can say where it lies."""
    planes = {_plane(group[0]), _plane(larger[0])}
    if planes == {"axial", "unplaced"}:
        return words.derived_type(group[0].image_type) is None
    if planes != {"axial"}:
        return False
    placed = [frame for frame in larger if _plane(frame) == "axial"]  # others may have joined it before
    normal = slice_normal(placed[0].numbers("ImageOrientationPatient"))
    theirs, ours = _along(group, normal), np.unique(_along(placed, normal))
    steps = np.diff(ours)
    if steps.size == 0:
        return False
    step = float(np.median(steps))
    near = (theirs > ours[0] - NEIGHBOR_STEPS * step) & (theirs < ours[-1] + NEIGHBOR_STEPS * step)
    free = np.abs(theirs[:, None] - ours[None, :]).min(axis=1) > step / 4
    return bool((near & free).any())


def _along(frames: Sequence[Frame], normal: np.ndarray) -> np.ndarray:
    return np.array([np.dot(frame.numbers("ImagePositionPatient"), normal) for frame in frames])


def _told_apart(frames: list[Frame], said: str, traits: Sequence[Trait]) -> Iterator[tuple[list[Frame], str]]:
    """The stacks among slices of which several lie at one place, by the first trait that tells them apart."""
    most = _most_at_one_place(frames)
    if most > 1:
        for n, trait in enumerate(traits):
            parts: dict[Hashable, list[Frame]] = {}
            for frame in frames:
                parts.setdefault(trait.of(frame), []).append(frame)
            largest = max(map(len, parts.values()))
            if (
                1 < len(parts) <= 2 * most
                and largest >= MIN_SLICES
                and all(_most_at_one_place(part) < most for part in parts.values())
            ):
                for value, part in parts.items():
                    text = ", ".join(filter(None, (said, trait.says(value))))
                    yield from _told_apart(part, text, traits[n + 1 :])
                return
    yield frames, said


def _most_at_one_place(frames: Sequence[Frame]) -> int:
    if _plane(frames[0]) == "unplaced":
        return 1
    normal = slice_normal(frames[0].numbers("ImageOrientationPatient"))
    placed = [frame for frame in frames if len(frame.numbers("ImagePositionPatient")) == 3]
    along = np.sort(_along(placed, normal))
    starts = np.concatenate([[True], np.diff(along) >= SAME_POSITION_MM])
    return int(np.diff(np.flatnonzero([*starts, True])).max())
