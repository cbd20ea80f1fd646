"""COCA-shaped folders made from nothing, and what other tests share. No file of COCA is part of HeartLens."""

from __future__ import annotations

import plistlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.dicom.write import write_ct_series

SERIES_FOLDER = "Pro_Gated_CS_3.0_I30f_3_70% (1)"
LAD, LCX = "Left Anterior Descending Artery", "Left Circumflex Artery"
RCA, LEFT_MAIN = "Right Coronary Artery", "Left Coronary Artery"


def blank_ct(slices: int = 8, *, size: int = 48, step_mm: float = 3.0, uid: int = 1, z_mm: float = -120.0) -> CTVolume:
    """Fat everywhere; `blob` puts calcium into a writable copy of `hu` before the CT is made."""
    return make_coca_ct(np.full((slices, size, size), -80, np.int16), step_mm=step_mm, uid=uid, z_mm=z_mm)


def make_coca_ct(hu: np.ndarray, *, step_mm: float = 3.0, uid: int = 1, z_mm: float = -120.0) -> CTVolume:
    affine = np.diag([0.4, 0.4, step_mm, 1.0])
    affine[:3, 3] = (-90.0, -230.0, z_mm)
    root = f"2.25.{uid}"
    header = CTHeader(
        study_uid=f"{root}.1",
        series_uid=f"{root}.2",
        frame_of_reference_uid=f"{root}.3",
        sop_instance_uids=tuple(f"{root}.4.{k + 1}" for k in range(len(hu))),
        kvp=120.0,
        slice_thickness_mm=step_mm,
        kernel="I30f\\3",
        is_gated=True,
    )
    return CTVolume(hu, affine, header)


def roi(
    ct: CTVolume, name: str, k: int, rows: tuple[int, int], columns: tuple[int, int], **changes: Any
) -> dict[str, Any]:
    """One ROI entry: a box around whole pixels, first and last inclusive, with the numbers OsiriX would write."""
    (top, bottom), (left, right) = rows, columns
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    grow = [(-0.4, -0.4), (0.4, -0.4), (0.4, 0.4), (-0.4, 0.4)]
    points = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(corners, grow, strict=True)]
    inside = ct.hu[k, top : bottom + 1, left : right + 1].astype(float)
    place = [tuple(float(v) for v in ct.lps_mm([k, y, x])) for x, y in points]
    center = tuple(float(v) for v in ct.lps_mm([k, (top + bottom) / 2, (left + right) / 2]))
    area_px = (right - left + 0.8) * (bottom - top + 0.8)
    entry = {
        "Name": name,
        "Area": area_px * ct.pixel_area_mm2 / 100,
        "Mean": float(inside.mean()),
        "Min": float(inside.min()),
        "Max": float(inside.max()),
        "Dev": float(inside.std()),
        "Total": float(inside.sum()),
        "Length": 1.0,
        "IndexInImage": 0,
        "Type": 11,
        "NumberOfPoints": len(points),
        "Point_px": [f"({x:f}, {y:f})" for x, y in points],
        "Point_mm": [f"({x:f}, {y:f}, {z:f})" for x, y, z in place],
        "Center": "({:f}, {:f}, {:f})".format(*center),
    }
    entry.update(changes)
    return {key: value for key, value in entry.items() if value is not None}


def image(index: int, *rois: dict[str, Any]) -> dict[str, Any]:
    return {"ImageIndex": index, "NumberOfROIs": len(rois), "ROIs": list(rois)}


class CocaFolder:
    """Writes a download in COCA's shape."""

    def __init__(self, root: Path, *, nested: bool = False) -> None:
        self.root = root
        release = root / "cocacoronarycalciumandchestcts-2" / "Gated_release_final"
        self.release = release / "Gated_release_final" if nested else release
        self.nongated = root / "cocacoronarycalciumandchestcts-2" / "deidentified_nongated"
        (self.release / "patient").mkdir(parents=True)
        (self.release / "calcium_xml").mkdir()

    def images(self, number: int, ct: CTVolume, *, folder: str = SERIES_FOLDER, series: int = 6130) -> Path:
        target = self.release / "patient" / str(number) / folder
        return self._write(target, ct, series)

    def nongated_images(self, number: int, ct: CTVolume, *, inner: str) -> Path:
        return self._write(self.nongated / str(number) / inner, ct, 1)

    def annotations(self, number: int, images: Sequence[dict[str, Any]]) -> Path:
        path = self.release / "calcium_xml" / f"{number}.xml"
        path.write_bytes(plistlib.dumps({"Images": list(images)}))
        return path

    def scores(self, rows: Sequence[Sequence[object]]) -> Path:
        from openpyxl import Workbook

        self.nongated.mkdir(parents=True, exist_ok=True)
        book = Workbook()
        for row in rows:
            book.active.append(list(row))
        book.save(self.nongated / "scores.xlsx")
        return self.nongated / "scores.xlsx"

    @staticmethod
    def _write(target: Path, ct: CTVolume, series: int) -> Path:
        target.mkdir(parents=True)
        files = write_ct_series(target, ct, patient_name="Nobody", patient_id="none", description="made up")
        for n, path in enumerate(files):
            path.rename(target / f"IM-{series:04d}-{n + 1:04d}.dcm")
        return target


@pytest.fixture
def coca(tmp_path: Path) -> CocaFolder:
    return CocaFolder(tmp_path)


@pytest.fixture
def a_coca() -> Callable[..., CocaFolder]:
    return CocaFolder


@pytest.fixture(name="roi")
def roi_fixture() -> Callable[..., dict[str, Any]]:
    """`roi(ct, name, k, rows, columns, **changes)` is one entry of ROIs; a change to None takes the key away."""
    return roi


@pytest.fixture(name="image")
def image_fixture() -> Callable[..., dict[str, Any]]:
    return image


@pytest.fixture
def plaque_ct() -> CTVolume:
    """Eight slices; on slice 5 two plaques, on slice 2 one of nine pixels with maximum 420 at its center."""
    hu = blank_ct().hu.copy()
    hu[2, 10:13, 20:23] = 200
    hu[2, 11, 21] = 420
    hu[5, 30:34, 8:10] = 300
    hu[5, 30, 8] = 511
    hu[5, 5:7, 40:44] = 150
    hu[5, 5, 43] = 188
    return make_coca_ct(hu)


@pytest.fixture
def coca_ct() -> Callable[..., CTVolume]:
    return make_coca_ct


@pytest.fixture(scope="session")
def timm():
    """What our networks are held against; it asks torchvision for operators that a CPU build may lack."""
    from needed import need

    from training.engine.torchvision_shim import declare_missing_operators

    with warnings.catch_warnings():  # torchvision's own, about its missing image codecs
        warnings.simplefilter("ignore")
        declare_missing_operators()
        return need("timm")
