"""Real backgrounds: who refuses one, which points of a course are refused, and what is laid and labeled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, Artery
from training.datasets.backgrounds.insertion import inserted
from training.datasets.backgrounds.marks import (
    JUDGES,
    JUDGING_PERSONS,
    Mark,
    check_course,
    licence_of,
    open_background,
    read_marks,
)
from training.datasets.lifelike_sets import HELD_OUT, laid
from training.datasets.scans import Skipped


def made_up_chest(slices: int = 12) -> CTVolume:
    """Fat with a heart of 40 HU in it, lung around, a rib of 600 HU, and a calcified node of 400 HU."""
    hu = np.full((slices, 120, 120), -850, np.int16)
    hu[:, 20:100, 20:100] = -90
    hu[:, 35:85, 35:85] = 40
    hu[:, 2:10, :] = 600
    hu[4:6, 70:74, 25:29] = 400
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    header = CTHeader(
        kvp=120.0, slice_thickness_mm=3.0, sop_instance_uids=tuple(f"2.25.{n + 1}" for n in range(slices))
    )
    return CTVolume(hu, affine, header)


def mark(**changes) -> Mark:
    courses = {
        Artery.LAD: np.array([[40.0, 28.0, 3.0], [60.0, 28.0, 15.0], [75.0, 28.0, 27.0]]),
        Artery.RCA: np.array([[28.0, 40.0, 6.0], [28.0, 60.0, 18.0]]),
    }
    plain = {
        "name": "chest", "file": "chest/series.zip", "sha256": "", "licence": "CC BY 4.0", "person": "nobody",
        "attribution": "made up", "fwhm_mm": 1.3, "courses": courses,
    }  # fmt: skip
    return Mark(**{**plain, **changes})


def test_a_notice_gives_its_licence(tmp_path: Path):
    notice = tmp_path / "NOTICE.md"
    notice.write_text("Licence: Creative Commons Attribution 4.0 International")
    assert licence_of(notice) == "CC BY 4.0"
    notice.write_text("Licence of the images: CC BY 3.0 (TCIA)")
    assert licence_of(notice) == "CC BY 3.0"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no notice"),
        ("CC BY-NC-SA 4.0: judging alone", "BY-NC"),
        ("CC BY 4.0 for the text, images for non-commercial use", "non-commercial"),
        ("CC BY-ND 4.0", "BY-ND"),
        ("Ask the author.", "names none of"),
    ],
)
def test_a_background_that_may_not_be_trained_on_is_refused(tmp_path: Path, text, says):
    if text is not None:
        (tmp_path / "NOTICE.md").write_text(text)
    with pytest.raises(InputRefused, match=says):
        licence_of(tmp_path / "NOTICE.md")


def test_another_licence_or_other_bytes_than_were_marked_are_refused(tmp_path: Path):
    (tmp_path / "chest").mkdir()
    (tmp_path / "chest" / "series.zip").write_bytes(b"other")
    (tmp_path / "chest" / "NOTICE.md").write_text("CC BY 3.0")
    with pytest.raises(InputRefused, match=r"marked under CC BY 4\.0, its notice says CC BY 3\.0"):
        open_background(mark(), tmp_path)
    with pytest.raises(InputRefused, match="not the file"):
        open_background(mark(licence="CC BY 3.0"), tmp_path)


def test_nothing_that_judges_is_marked():
    marks = read_marks()
    assert len(marks) == len({m.name for m in marks}) >= 15
    assert not {m.person for m in marks} & set(JUDGING_PERSONS)
    assert not {Path(m.file).parts[0] for m in marks} & set(JUDGES)
    assert {m.person for m in marks} >= set(HELD_OUT)
    assert {artery for m in marks for artery in m.courses} == set(CORONARY)


@pytest.mark.parametrize(("key", "value"), [("file", "real_heart_slices/one.dcm"), ("person", "TCGA-17-Z048")])
def test_marks_of_what_judges_are_refused(tmp_path: Path, key, value):
    document = json.loads(Path(read_marks.__globals__["MARKS"]).read_text())
    document["backgrounds"][2][key] = value
    (tmp_path / "marks.json").write_text(json.dumps(document))
    with pytest.raises(InputRefused, match="judges and cannot be trained on"):
        read_marks(tmp_path / "marks.json")


def test_points_outside_on_air_and_in_bone_are_refused_by_slice():
    points = np.array([[40.0, 28.0, 3.0], [40.0, 28.0, 90.0], [110.0, 60.0, 9.0], [60.0, 5.0, 12.0]])
    usable, refused = check_course(made_up_chest(), points)
    assert usable.tolist() == [True, False, False, False]
    assert refused == [(30, "outside the volume"), (3, "on air"), (4, "in bone")]


def test_what_is_laid_has_the_name_of_its_course_and_the_real_node_is_other():
    ct = made_up_chest()
    scans = [inserted(mark(), ct, draw) for draw in range(8)]
    found = {int(code) for scan in scans for code in np.unique(scan.labels)}
    assert {Artery.LAD, Artery.RCA, Artery.OTHER} <= found <= {0, Artery.LAD, Artery.RCA, Artery.OTHER}
    for scan in scans:
        assert scan.ct.hu[scan.labels > 0].min() >= 130
        assert scan.labels[4, 72, 27] == Artery.OTHER
        assert (scan.labels[:, 2:8] == 0).all()  # the rib
    where = np.argwhere(np.isin([scan.labels for scan in scans], (Artery.LAD,)))
    assert np.median(where[:, 2]) == pytest.approx(28, abs=4)  # row of its course
    assert scans[0].provenance["attribution"] == "made up"


def test_the_same_draw_gives_the_same_bits_and_another_does_not():
    one, again, other = (inserted(mark(), made_up_chest(), draw) for draw in (3, 3, 4))
    assert np.array_equal(one.ct.hu, again.ct.hu)
    assert np.array_equal(one.labels, again.labels)
    assert not np.array_equal(one.ct.hu, other.ct.hu)


def test_a_course_on_air_gets_nothing_and_is_told_of():
    on_air = mark(courses={Artery.LCX: np.array([[110.0, 50.0, 6.0], [110.0, 60.0, 18.0]])})
    scan = inserted(on_air, made_up_chest(), 1)
    assert not np.isin(scan.labels, CORONARY).any()
    assert scan.notes
    assert scan.notes[0].startswith("LCX on air on slices 2")


def test_backgrounds_that_are_not_there_are_skipped_with_the_reason(tmp_path: Path):
    found = list(laid(read_marks(), tmp_path))
    assert len(found) == len(read_marks())
    assert all(isinstance(one, Skipped) and "no such file" in one.text for one in found)
