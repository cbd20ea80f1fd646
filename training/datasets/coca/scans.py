"""The images of one COCA patient: pick the series, drop doubled slices, read HU, keep the way back to the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import dcmread

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.dicom.header import PARSE_ERRORS, Frame, Instance, pydicom_warnings_logged
from heartlens.dicom.read import read_series
from heartlens.dicom.series import find_series
from heartlens.dicom.stack import SAME_POSITION_MM
from heartlens.dicom.stacks.series import Series


@dataclass(frozen=True, eq=False)
class CocaScan:
    """A scan and how the outlines' pixel coordinates lie in it.

    Parameters
    ----------
    ct
        HU, slices foot to head
    plane
        (4, 4), maps (column, row, 0, 1) of the first stored image to LPS mm; the volume may be flipped against it
    slice_of_index
        Slice of `ct` for each stored image in ascending order, doubled images included.
    notes
        What was left out or chosen, and cautions of the reader.
    """

    ct: CTVolume
    plane: NDArray[np.float64]
    slice_of_index: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def volume_pixels(self, points_px: ArrayLike) -> NDArray[np.float64]:
        """(n, 2) (column, row) in the volume of (n, 2) (column, row) in the stored image."""
        xy = np.asarray(points_px, dtype=np.float64).reshape(-1, 2)
        stored = np.column_stack([xy, np.zeros(len(xy)), np.ones(len(xy))])
        return self.ct.index_kji((stored @ self.plane.T)[:, :3])[:, :0:-1]


def read_scan(folder: Path, *, is_gated: bool | None = None, allow: frozenset[str] = frozenset()) -> CocaScan:
    """Read the scan in a patient's folder, whatever lies beside it.

    Of several series the one with most slice positions is taken, then the lowest SeriesNumber, then the first UID.
    Files that are damaged or belong to no series, and exact doubles of a slice, are left out and noted.

    Parameters
    ----------
    folder
        Searched recursively.
    is_gated
        Which part of COCA it is; the files themselves lost the words that say so. None asks the files.
    allow
        Refusals that the user has lifted.

    Raises
    ------
    InputRefused
        No CT, or one that cannot be read as a volume; see `heartlens.dicom.read.read_series`.
    """
    all_series, notes = _find(folder)
    images = [series for series in all_series if series.is_ct]
    if not images:
        raise InputRefused("modality", f"no CT image in {folder.name}: expected a CT series, found none")
    ranked = sorted(images, key=lambda s: (-s.n_positions, _series_number(s), s.series_uid))
    series = ranked[0]
    if len(ranked) > 1:
        others = ", ".join(str(s.n_slices) for s in ranked[1:])
        notes.append(f"{len(ranked)} series: took the one of {series.n_slices} slices, left out those of {others}")
    kept, slice_of_index, dropped = _without_doubles(series)
    if dropped:
        notes.append(f"{len(dropped)} doubled slices left out: {', '.join(dropped[:3])}")
        frames = tuple(frame for instance in kept for frame in instance.frames)
        series = replace(series, instances=kept, frames=frames)
    ct, cautions = read_series(series, allow=allow)
    notes += [f"{caution.code}: {caution.text}" for caution in cautions]
    if is_gated is not None:
        ct = replace(ct, header=replace(ct.header, is_gated=is_gated))
    return CocaScan(ct, _plane(kept), slice_of_index, tuple(notes))


def _find(folder: Path) -> tuple[list[Series], list[str]]:
    try:
        return find_series(folder), []
    except InputRefused as refusal:
        if refusal.code not in ("unreadable", "truncated"):
            raise
    # One bad file (no SeriesInstanceUID, cut off) must not cost the whole scan: try the files one by one.
    good: list[Path] = []
    notes: list[str] = []
    with pydicom_warnings_logged():
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                if Instance.read(path) is not None:
                    good.append(path)
            except InputRefused as refusal:
                notes.append(f"left out: {refusal.text}")
    if not good:
        raise InputRefused("unreadable", f"no readable DICOM file in {folder.name}: {'; '.join(notes[:3])}")
    return find_series(good), notes


def _series_number(series: Series) -> float:
    try:
        with pydicom_warnings_logged():
            number = dcmread(series.files[0], stop_before_pixels=True, specific_tags=["SeriesNumber"], force=True)
            return float(number.SeriesNumber)
    except PARSE_ERRORS:
        return float("inf")


def _without_doubles(series: Series) -> tuple[tuple[Instance, ...], tuple[int, ...], list[str]]:
    """Instances without exact doubles, slice of each stored image in ascending z, and names of what was dropped.

    Images at one place that differ stay, so that reading them refuses: which of them is meant is not ours to guess.
    """
    if any(instance.is_multiframe for instance in series.instances):
        frames = sum(len(instance.frames) for instance in series.instances)
        return series.instances, tuple(range(frames)), []
    order = sorted(series.instances, key=lambda instance: (_height_mm(instance.frames[0]), instance.path))
    kept: list[Instance] = []
    slice_of_index: list[int] = []
    dropped: list[str] = []
    for instance in order:
        if kept and _same_image(kept[-1], instance):
            dropped.append(instance.name)
        else:
            kept.append(instance)
        slice_of_index.append(len(kept) - 1)
    return tuple(kept), tuple(slice_of_index), dropped


def _height_mm(frame: Frame) -> float:
    position = frame.numbers("ImagePositionPatient")
    return position[2] if len(position) == 3 else float("inf")


def _same_image(one: Instance, other: Instance) -> bool:
    corners = [np.array(i.frames[0].numbers("ImagePositionPatient")) for i in (one, other)]
    if any(corner.size != 3 for corner in corners) or np.abs(corners[0] - corners[1]).max() >= SAME_POSITION_MM:
        return False
    with pydicom_warnings_logged():
        try:
            a, b = (dcmread(instance.path, force=True) for instance in (one, other))
            keywords = ("PixelData", "RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImageOrientationPatient")
            return all(a.get(keyword) == b.get(keyword) for keyword in keywords)
        except PARSE_ERRORS:
            return False


def _plane(instances: Sequence[Instance]) -> NDArray[np.float64]:
    """The stored image plane, PS3.3 C.7.6.2.1.1; `read_series` has checked that all slices share it."""
    frame = instances[0].frames[0]
    orientation = np.array(frame.numbers("ImageOrientationPatient"))
    row_mm, column_mm = frame.numbers("PixelSpacing")
    plane = np.eye(4)
    plane[:3, 0] = orientation[:3] * column_mm
    plane[:3, 1] = orientation[3:] * row_mm
    plane[:3, 3] = frame.numbers("ImagePositionPatient")
    return plane
