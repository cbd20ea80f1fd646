"""Real slices are read as their notices say; what is missing is said; the true sets hold the islands that were read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.dicom.write import write_ct_series
from training.evaluation.answers import Known, KnownIsland
from training.evaluation.results import Failure
from training.evaluation.sources import hearts
from training.evaluation.sources.hearts import SETS, sharp_slices, soft_slices, transferred, unify_frames
from training.evaluation.sources.judged import open_scan

REPOSITORY = Path(__file__).resolve().parents[4]
DATA = REPOSITORY.parent / "shared" / "data"

BY_NAME = {s.name: s for s in SETS}


def blank_ct(slices: int, size: int = 48) -> CTVolume:
    uids = tuple(f"2.25.9{n}" for n in range(slices + 3))
    header = CTHeader(
        study_uid=uids[0], series_uid=uids[1], frame_of_reference_uid=uids[2], sop_instance_uids=uids[3:],
        slice_thickness_mm=3.0, kvp=120.0,
    )  # fmt: skip
    hu = np.full((slices, size, size), -80, np.int16)
    hu[:, :8] = -900  # lung, by which a reader knows HU
    return CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]), header)


@pytest.fixture
def heart_set(tmp_path) -> Path:
    """Three slices, one of them prone and one full of contrast; a block of 300 HU, stored with the set's factor."""
    folder = tmp_path / "real_heart_slices"
    folder.mkdir()
    stored = np.full((64, 64), -900, np.int16)
    stored[10:54, 10:54] = 30
    stored[20:25, 30:36] = round(300 * hearts.HU_FACTOR)
    np.savez(folder / "slices_int16.npz", **{"0001": stored, "0002": stored[::-1, ::-1], "0014": stored})
    island = {"xy_px": [32.5, 22.0], "artery": "LAD", "area_px": 30, "peak": 300}
    turned = {"0002": [[63 - 32.5, 63 - 22.0]]}
    expected = {
        "islands": [{"slice": "0001", **island}], "uncertain": turned, "prone": ["0002"],
        "non_contrast": ["0001", "0002", "0014"],
    }  # fmt: skip
    (folder / "expected.json").write_text(json.dumps(expected))
    (folder / "NOTICE.md").write_text("made up")
    return tmp_path


def test_heart_slices_are_divided_smoothed_and_laid_on_the_back(heart_set, tmp_path):
    supine, prone = soft_slices(heart_set / "real_heart_slices", tmp_path)
    assert [supine.name, prone.name] == ["heart-0001-soft", "heart-0002-soft"]  # 0014 is full of contrast
    assert np.array_equal(supine.ct.hu, prone.ct.hu)
    assert np.array_equal(open_scan(supine.source).hu, supine.ct.hu)
    assert supine.ct.hu.max() < 300  # smoothed
    ((island,), (doubt,)) = supine.known.islands, [prone.known.uncertain]
    assert (island.artery, np.array_equal(island.flat, doubt)) == ("LAD", True)
    raw, _ = sharp_slices(heart_set / "real_heart_slices", tmp_path)
    assert raw.ct.hu[0, 22, 32] == 300
    assert raw.is_sharp
    assert raw.known.islands[0].flat.size == 30


def test_a_place_without_an_island_is_refused(heart_set, tmp_path):
    path = heart_set / "real_heart_slices" / "expected.json"
    expected = json.loads(path.read_text())
    expected["islands"][0]["xy_px"] = [50.0, 50.0]
    path.write_text(json.dumps(expected))
    with pytest.raises(InputRefused, match=r"0001 LAD: expected an island at .* pixels away"):
        list(soft_slices(path.parent, tmp_path))


def test_a_set_that_is_not_there_or_has_no_notice_is_left_out_with_the_reason(heart_set, tmp_path):
    (nowhere,) = BY_NAME["TCGA slices"].scans(heart_set, tmp_path)
    assert isinstance(nowhere, Failure)
    assert "is not there" in nowhere.reason
    (heart_set / "real_heart_slices" / "NOTICE.md").unlink()
    (unknown,) = BY_NAME["heart slices, soft"].scans(heart_set, tmp_path)
    assert "no NOTICE.md" in unknown.reason


def test_islands_on_another_image_are_what_is_dense_there_up_to_a_voxel_around_them():
    soft, sharp = blank_ct(1, size=16), blank_ct(1, size=16)
    hu = np.array(sharp.hu)
    hu[0, 4:9, 4:9], hu[0, 12, 12] = 400, 400
    sharp = type(sharp)(hu, sharp.affine, sharp.header)
    mask = np.zeros(soft.shape, bool)
    mask[0, 5:7, 5:7] = True
    known = transferred(Known((KnownIsland("RCA", np.flatnonzero(mask)),)), sharp)
    kji = np.unravel_index(known.islands[0].flat, sharp.shape)
    assert (kji[1].min(), kji[1].max(), kji[2].min(), kji[2].max()) == (4, 7, 4, 7)
    assert transferred(known, soft).islands == ()


def test_frames_of_reference_become_one_in_a_copy(tmp_path):
    (tmp_path / "ct").mkdir()
    write_ct_series(tmp_path / "ct", blank_ct(3), patient_name="Nobody", patient_id="none", description="made up")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for n, path in enumerate(sorted((tmp_path / "ct").iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.FrameOfReferenceUID = f"2.25.77{n}"
            dataset.save_as(path)
            archive.write(path, f"folder/{path.name}")
    folder = unify_frames(tmp_path / "series.zip", tmp_path / "copy")
    assert len({pydicom.dcmread(path).FrameOfReferenceUID for path in folder.iterdir()}) == 1
    assert open_scan(folder).shape == (3, 48, 48)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real CT data beside the repository, which is not distributed")
def test_the_real_sets_hold_the_islands_that_were_read(tmp_path, monkeypatch):
    monkeypatch.setattr(hearts, "written", lambda folder, name, ct: folder / name)  # nothing is scored here
    counts = {}
    for name in ("heart slices, soft", "TCGA slices", "NY-SBU slices"):
        scans = list(BY_NAME[name].scans(DATA, tmp_path / name))
        counts[name] = (len(scans), sum(len(scan.known.islands) for scan in scans))
        assert not {scan.name[-4:] for scan in scans} & hearts.TCGA_BACKGROUNDS
    assert counts == {"heart slices, soft": (88, 34), "TCGA slices": (4, 6), "NY-SBU slices": (4, 3)}
