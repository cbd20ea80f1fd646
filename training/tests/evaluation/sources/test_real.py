"""What counts as a miss on a real scan: found nothing, named wrong, or called coronary where it is not."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.dicom.write import write_ct_series
from training.evaluate_real import main
from training.evaluation.sources import real
from training.evaluation.sources.real import RealScan, find_misses, reference_codes

SCAN = RealScan("made up", "none", lad=((0, 4), (0, 4)), not_coronary=(("aortic root", ((4, 8), (0, 4))),))

CLEAN = RealScan("clean", "none")


@pytest.mark.parametrize(
    ("scan", "labeled", "misses"),
    [
        (SCAN, [(1, 1, 2)], ()),
        (SCAN, [(1, 1, 2), (5, 1, 5)], ()),
        (SCAN, [], ("calcium of the LAD not found",)),
        (SCAN, [(1, 1, 5)], ("calcium of the LAD not found",)),
        (SCAN, [(1, 1, 4)], ("calcium of the LAD called RCA",)),
        (SCAN, [(1, 1, 2), (5, 1, 2), (5, 2, 1)], ("aortic root called coronary (2 voxels)",)),
        (SCAN, [(1, 1, 2), (6, 6, 3)], ("called coronary elsewhere: LCX (1 voxels)",)),
        (CLEAN, [(6, 6, 5)], ()),
        (CLEAN, [(6, 6, 6)], ("called coronary elsewhere: UNASSIGNED (1 voxels)",)),
    ],
)
def test_misses_are_said_in_words(scan, labeled, misses):
    codes = np.zeros((1, 8, 8), np.uint8)
    for row, column, code in labeled:
        codes[0, row, column] = code
    assert find_misses(scan, codes) == misses


def test_the_reference_is_what_is_dense_inside_the_boxes():
    hu = np.full((1, 8, 8), 129, np.int16)
    hu[0, 1, 1], hu[0, 5, 1], hu[0, 6, 6] = 130, 400, 900
    codes = reference_codes(SCAN, CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0])))
    assert {(int(r), int(c)): int(codes[0, r, c]) for r, c in np.argwhere(codes[0])} == {(1, 1): 2, (5, 1): 5}


@pytest.mark.slow
def test_the_command_writes_a_table_a_picture_of_a_miss_and_the_statistics_of_every_report(tmp_path, monkeypatch):
    """One scan without a heart: the rules find nothing, so that the calcium in its box is missed."""
    hu = np.full((4, 64, 64), -100, np.int16)
    hu[:, :8] = -900  # lung, by which a reader knows HU
    hu[1, 30:34, 30:34] = 300
    uids = [f"1.2.826.0.1.3680043.8.498.{n}" for n in range(7)]
    header = CTHeader(
        study_uid=uids[0], series_uid=uids[1], frame_of_reference_uid=uids[2], sop_instance_uids=tuple(uids[3:]),
        slice_thickness_mm=3.0, kvp=120.0,
    )  # fmt: skip
    (tmp_path / "dicom").mkdir()
    ct = CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]), header)
    write_ct_series(tmp_path / "dicom", ct, patient_name="Nobody", patient_id="none", description="made up")
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "series.zip", "w") as archive:
        for path in (tmp_path / "dicom").iterdir():
            archive.write(path, path.name)
    scan = RealScan("four slices", "series.zip", lad=((28, 36), (28, 36)))
    monkeypatch.setattr(real, "SCANS", (scan,))
    monkeypatch.setattr("training.evaluate_real.SCANS", (scan,))
    assert main([str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--bundle", "none"]) == 0
    assert (tmp_path / "out" / "real.md").read_text() == (
        "| scan | expected | rules |\n|---|---|---|\n"
        "| four slices | LAD, and nothing else | 0.0: **calcium of the LAD not found** |\n"
    )
    assert (tmp_path / "out" / "miss-1-rules.png").stat().st_size > 1000
    document = json.loads((tmp_path / "out" / "real.json").read_text())
    comparison = document["patients"][0]["stages"]["rules"]
    assert comparison["reference_agatston"]["LAD"] == pytest.approx(16 * 3)  # 16 mm2 of 300 HU
    estimates = document["summary"]["stages"]["rules"]["estimates"]
    assert estimates["zero.false_zero_rate"]["value"] == 1
    assert estimates["lesions.same vessel.LAD.f1_by_count"]["value"] == 0
