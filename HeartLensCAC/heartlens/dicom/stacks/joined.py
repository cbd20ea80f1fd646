"""Series that were one: an anonymizer drew a new UID for every file, and every slice became a series of its own."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from heartlens.core.errors import WarningRecord
from heartlens.dicom.header import Frame
from heartlens.dicom.stack import off_grid_mm, positions_mm, tolerance_mm
from heartlens.dicom.stacks.series import Series, ct_stack

FEWEST_SLICES = 10
"""So many series of one slice that lie evenly and agree in all else were one series."""

_SHARED = (
    "Rows", "Columns", "PixelSpacing", "SliceThickness", "KVP", "ConvolutionKernel", "Manufacturer",
    "ManufacturerModelName", "SeriesDescription", "ProtocolName", "RescaleSlope", "RescaleIntercept", "StudyDate",
)  # fmt: skip


def joined(series: Sequence[Series]) -> list[Series]:
    """The series, those that are one scan put together.

    Parameters
    ----------
    series
        Of one folder.
    """
    single: dict[Hashable, list[Series]] = {}
    for one in series:
        if one.is_ct and one.n_slices == 1 and one.stack is None:
            single.setdefault(_signature(one.frames[0]), []).append(one)
    gone: set[int] = set()
    made = []
    for group in single.values():
        frames = [one.frames[0] for one in group]
        along, _ = positions_mm(frames)
        if len(group) < FEWEST_SLICES or len(along) != len(group):
            continue
        if off_grid_mm(along).max() > tolerance_mm(along):
            continue
        gone |= {id(one) for one in group}
        made.append(_one(group))
    return [*(one for one in series if id(one) not in gone), *made]


def _one(group: Sequence[Series]) -> Series:
    height = [one.frames[0].numbers("ImagePositionPatient")[2] for one in group]
    lowest = group[int(np.argmin(height))]
    what = (
        "StudyInstanceUID and SeriesInstanceUID" if len({one.study_uid for one in group}) > 1 else "SeriesInstanceUID"
    )
    text = (
        f"{len(group)} series of one slice each agree in all but {what}, which was changed file by file: "
        "scored as one scan"
    )
    frames = [one.frames[0] for one in group]
    return ct_stack(lowest.study_uid, lowest.series_uid, frames, cautions=[WarningRecord("uids", text)])


def _signature(frame: Frame) -> Hashable:
    orientation = tuple(round(n, 3) for n in frame.numbers("ImageOrientationPatient"))
    return (
        frame.instance.patient, frame.image_type, orientation, *(frame.text(keyword) for keyword in _SHARED),
    )  # fmt: skip
