"""A plan has one row a series: chosen, or why not; and nothing in it but the plan itself names a path or a person."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_chest
from installed import need
from pydicom import dcmread

need("duckdb", "pip install 'heartlens[cohort]'")

from cohort_scans import AGATSTON_OF_A_VOXEL, plan, table, texts_of  # noqa: E402

from heartlens.__main__ import main  # noqa: E402
from heartlens.case.folder import load_case  # noqa: E402
from heartlens.cohort.cluster import Workers  # noqa: E402
from heartlens.cohort.folder import CohortFolder  # noqa: E402
from heartlens.cohort.identity import pseudonym, read_key, without_identity  # noqa: E402
from heartlens.cohort.run import run_cohort  # noqa: E402
from heartlens.cohort.settings import settings_of  # noqa: E402
from heartlens.core.errors import InputRefused  # noqa: E402

KEY = "0123456789abcdef0123"


def rows_of(folder: CohortFolder) -> dict[str, dict]:
    return {Path(row["folder"]).name: row for row in folder.planned()}


@pytest.fixture
def series(tmp_path):
    """`series(name, **tags)` writes the small chest into a folder of that name."""

    def write(name: str, **tags):
        return small_chest.write_series(tmp_path / "scans" / name, **tags)

    return write


def test_each_study_gives_one_series_and_the_others_say_why_not(series, tmp_path):
    series(
        "gated",
        StudyInstanceUID="1.2.3",
        SeriesDescription="Calcium score",
        CardiacSynchronizationTechnique="PROSPECTIVE",
    )
    series("lung", StudyInstanceUID="1.2.3", ConvolutionKernel="B70f")
    series("contrast", StudyInstanceUID="1.2.3", ContrastBolusAgent="some")
    rows = rows_of(plan(tmp_path / "scans", out=tmp_path / "cohort"))
    assert {name: (row["status"], row["code"]) for name, row in rows.items()} == {
        "gated": ("planned", None), "lung": ("not chosen", "not-chosen"), "contrast": ("refused", "contrast"),
    }  # fmt: skip
    assert "suits better" in rows["lung"]["text"]


def test_all_series_of_a_study_are_planned_where_that_is_asked(series, tmp_path):
    for name in "ab":
        series(name, StudyInstanceUID="1.2.3")
    asked = ("--one-per", "all")
    assert [row["status"] for row in plan(tmp_path / "scans", out=tmp_path / "all", options=asked).planned()] == [
        "planned"
    ] * 2
    alike = list(plan(tmp_path / "scans", out=tmp_path / "one").planned())
    assert [(row["status"], row["code"]) for row in alike] == [("refused", "ambiguous")] * 2


def test_the_same_images_in_two_places_are_named_once(series, tmp_path):
    series("first")
    shutil.copytree(tmp_path / "scans" / "first", tmp_path / "scans" / "second")
    shutil.copytree(tmp_path / "scans" / "first", tmp_path / "scans" / "third")
    (tmp_path / "scans" / "third" / "0003.dcm").unlink()
    rows = rows_of(plan(tmp_path / "scans", out=tmp_path / "cohort"))
    assert rows["first"]["status"] == "planned"
    assert {rows[name]["status"] for name in ("second", "third")} == {"duplicate"}
    assert {rows[name]["duplicate_of"] for name in ("second", "third")} == {rows["first"]["key"]}
    assert rows["third"]["text"] == "holds 19 of the 20 images of another copy"


def test_a_damaged_copy_has_another_key_than_the_good_one(series, tmp_path):
    good = series("good")[0]
    shutil.copytree(good.parent, tmp_path / "other" / "bad")
    cut = tmp_path / "other" / "bad" / good.name
    cut.write_bytes(cut.read_bytes()[:-100])
    keys = [
        next(iter(plan(place, out=tmp_path / f"c{n}").planned()))["key"]
        for n, place in enumerate((good.parent, cut.parent))
    ]
    assert keys[0] != keys[1]


def test_a_series_whose_files_lie_in_two_folders_is_one_series(series, tmp_path):
    files = series("whole")
    half = tmp_path / "scans" / "half"
    half.mkdir()
    for file in files[10:]:
        file.rename(half / file.name)
    (row,) = plan(tmp_path / "scans", out=tmp_path / "cohort").planned()
    assert (row["status"], len(row["files"]), Path(row["folder"]).name) == ("planned", 20, "scans")


def test_a_broken_file_refuses_its_folder_and_names_no_file(series, tmp_path):
    series("DOE_JANE")
    (tmp_path / "scans" / "DOE_JANE" / "DOE_JANE_7.dcm").write_bytes(b"no DICOM")
    (row,) = plan(tmp_path / "scans", out=tmp_path / "cohort").planned()
    assert (row["status"], row["code"]) == ("refused", "unreadable")
    assert "DOE" not in row["text"]


def test_two_broken_folders_are_two_rows(series, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        (tmp_path / "scans" / name / "1.dcm").write_bytes(b"no DICOM")
    rows = list(plan(tmp_path / "scans", out=tmp_path / "cohort").planned())
    assert [(row["status"], row["code"]) for row in rows] == [("refused", "unreadable")] * 2
    assert len({row["key"] for row in rows}) == 2


def test_two_lines_of_a_list_that_lead_nowhere_are_two_rows(tmp_path):
    (tmp_path / "list.csv").write_text("path,subject\nnowhere,S1\nnowhere,S2\n")
    rows = list(plan(tmp_path / "list.csv", out=tmp_path / "cohort").planned())
    assert [(row["subject"], row["status"], row["code"]) for row in rows] == [
        ("S1", "refused", "input"), ("S2", "refused", "input"),
    ]  # fmt: skip


def test_images_without_a_uid_are_told_apart_by_their_content(series, tmp_path):
    for n, name in enumerate("ab"):
        for file in series(name, PatientID=f"P{n}", StudyInstanceUID=f"1.{n}", SeriesInstanceUID=f"1.{n}.1"):
            image = dcmread(file)
            del image.SOPInstanceUID, image.file_meta.MediaStorageSOPInstanceUID
            image.save_as(file, enforce_file_format=False)
    rows = rows_of(plan(tmp_path / "scans", out=tmp_path / "cohort"))
    assert rows["a"]["key"] != rows["b"]["key"]
    assert "duplicate" not in {row["status"] for row in rows.values()}


def test_a_broken_file_of_a_part_refuses_the_series_that_lies_in_two_folders(series, tmp_path):
    files = series("whole")
    half = tmp_path / "scans" / "half"
    half.mkdir()
    for file in files[10:]:
        file.rename(half / file.name)
    (half / files[-1].name).write_bytes(b"cut")  # the last slice: without it the rest is a shorter scan
    (row,) = plan(tmp_path / "scans", out=tmp_path / "cohort").planned()
    assert (row["status"], row["code"]) == ("refused", "unreadable")


def test_a_header_that_cannot_be_is_a_row_and_the_other_series_are_planned(series, tmp_path):
    files = series("bad")
    image = dcmread(files[3])
    image.NumberOfFrames = 2
    image.save_as(files[3])
    series("good")
    rows = rows_of(plan(tmp_path / "scans", out=tmp_path / "cohort"))
    assert {name: (row["status"], row["code"]) for name, row in rows.items()} == {
        "bad": ("refused", "unreadable"), "good": ("planned", None),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"garbage of some length"])
def test_a_volume_file_that_is_none_is_not_planned(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (row,) = plan(tmp_path / name, out=tmp_path / "cohort").planned()
    assert (row["status"], row["code"]) == ("refused", "unreadable")


def test_what_no_series_is_made_of_is_counted(series, tmp_path, capsys):
    series("scan")
    for name in ("notes.txt", "volume.nrrd", "zipped.zip"):
        (tmp_path / "scans" / name).write_text("x")
    (tmp_path / "scans" / ".trash").mkdir()
    (tmp_path / "scans" / "result").mkdir()
    (tmp_path / "scans" / "result" / "report.json").write_text('{"schema": "heartlens.report/2"}')
    plan(tmp_path / "scans", out=tmp_path / "cohort")
    said = capsys.readouterr().err
    for text in (
        "1 volume files were passed over", "2 files that are no DICOM were passed over",
        "1 hidden folders were passed over", "1 folders of HeartLens' own results were passed over",
    ):  # fmt: skip
        assert text in said


def test_a_file_of_others_that_is_called_like_ours_hides_no_scan(series, tmp_path):
    series("patient/scan")
    (tmp_path / "scans" / "labels.json").write_text('{"1": "calcium"}')
    (tmp_path / "scans" / "patient" / "report.json").write_text("[]")
    (row,) = plan(tmp_path / "scans", out=tmp_path / "cohort").planned()
    assert row["status"] == "planned"


BOUND_BY_RIGHTS = """
import ctypes, sys
libc, head, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(head, sets) == 0
for n in (0, 1):  # of what is in force and what is permitted: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    sets[n] &= ~0b110
assert libc.capset(head, sets) == 0
from heartlens.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""Root, too, is then held by the rights of files."""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux'")
def test_a_folder_that_cannot_be_read_is_a_row(series, tmp_path):
    series("good")
    closed = series("DOE_JANE")[0].parent
    closed.chmod(0)
    try:
        words = ["cohort", "plan", str(tmp_path / "scans"), "--out", str(tmp_path / "cohort"), "--bundle", "none"]
        run = subprocess.run(
            [sys.executable, "-c", BOUND_BY_RIGHTS, *words], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    finally:
        closed.chmod(0o700)
    assert run.returncode == 0, run.stderr
    rows = rows_of(CohortFolder.open(tmp_path / "cohort"))
    assert {name: (row["status"], row["code"]) for name, row in rows.items()} == {
        "good": ("planned", None), "DOE_JANE": ("refused", "input"),
    }  # fmt: skip
    assert rows["DOE_JANE"]["text"] == "a folder cannot be read (Permission denied); allow it, or bring it back"


def test_of_one_patient_the_earliest_study_is_planned_and_scans_of_nobody_are_not_of_one_person(series, tmp_path):
    for n, who in enumerate(("P1", "P1", None, None)):
        name = {"PatientID": who, "PatientName": None, "PatientBirthDate": None, "AcquisitionDate": f"2020010{n + 1}"}
        series(f"s{n}", StudyInstanceUID=f"1.2.{n}", StudyDate=f"2020010{n + 1}", **name)
    folder = plan(tmp_path / "scans", out=tmp_path / "cohort", options=("--one-per", "patient"))
    assert {name: row["status"] for name, row in rows_of(folder).items()} == {
        "s0": "planned", "s1": "not chosen", "s2": "planned", "s3": "planned",
    }  # fmt: skip


def test_a_list_says_what_is_known_of_each_scan(series, tmp_path):
    series("a", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1")
    series("b", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.2")
    lines = [
        "Path,series,subject,exam,age,sex,race,center",
        "scans,1.2.3.2,S7,1,61,f,Chinese,4",
        "scans/nowhere,,S8,1,,,,",
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    rows = {row["subject"]: row for row in plan(tmp_path / "list.csv", out=tmp_path / "cohort").planned()}
    assert (rows["S7"]["status"], rows["S7"]["series_uid"], rows["S7"]["exam"]) == ("planned", "1.2.3.2", "1")
    assert (rows["S7"]["age"], rows["S7"]["sex"], rows["S7"]["race"]) == (61.0, "F", "chinese")
    assert (rows["S8"]["status"], rows["S8"]["code"]) == ("refused", "input")


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["folder", "a"], "column path"),
        (["path,age", "a,old"], "line 2: age"),
        (["path,sex", "a,X"], "line 2: sex"),
        (["path,race", "a,any"], "line 2: race"),
        (["path,age", "a"], "line 2: expected 2 cells"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_by_its_line(tmp_path, capsys, lines, what):
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert main(["cohort", "plan", str(tmp_path / "list.csv"), "--out", str(tmp_path / "cohort")]) == 3
    assert what in capsys.readouterr().err
    assert not (tmp_path / "cohort").exists()


def test_a_plan_is_replaced_only_when_asked_and_other_folders_never(series, tmp_path, capsys):
    series("a")
    folder = plan(tmp_path / "scans", out=tmp_path / "cohort")
    (folder.rows / "kept").touch()
    again = ["cohort", "plan", str(tmp_path / "scans"), "--out", str(folder.path)]
    assert main(again) == 3
    assert main([*again, "--force"]) == 0
    assert (folder.rows / "kept").exists()
    assert main(["cohort", "plan", str(tmp_path / "scans"), "--out", str(tmp_path / "scans"), "--force"]) == 3
    assert "is no cohort" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["--age", "60"], "a CSV list says of each what is known (column age)"),
        (["--series", "1.2"], "column series"),
        (["--predecessor", "report.dcm"], "heartlens score takes it"),
        (["--segmentation", "labels.nrrd"], "heartlens score takes it"),
        (["--risk-factors", "one.json"], "heartlens score takes it"),
        (["--pdf"], "heartlens score makes it of one scan"),
        (["--key-page"], "heartlens score makes it of one scan"),
        (["--fhir"], "heartlens score makes it of one scan"),
        (["--identify"], "heartlens score makes it of one scan"),
        (["--study", "1.2"], "give --pacs NAME"),
        (["--pacs", "hospital"], "or --pacs NAME"),
    ],
)
def test_options_that_mean_one_scan_or_nothing_here_are_refused_with_the_way_out(tmp_path, capsys, words, way_out):
    assert main(["cohort", "plan", str(tmp_path), "--out", str(tmp_path / "cohort"), *words]) == 2
    assert way_out in capsys.readouterr().err
    assert not (tmp_path / "cohort").exists()


def test_the_ct_is_copied_into_the_cases_where_that_is_asked_and_nothing_else_changes(chests, tmp_path):
    shutil.copytree(chests / "chest-1", tmp_path / "scans")
    folders = [plan(tmp_path / "scans", out=tmp_path / f"c{n}", options=("--embed-ct",) * n) for n in range(2)]
    settings = {settings_of(folder.document["options"])[0] for folder in folders}
    assert len(settings) == 1, "copying a CT is no other way of scoring"
    for folder in folders:
        run_cohort(folder, Workers(0))
    shutil.rmtree(tmp_path / "scans")
    (row,) = folders[0].planned()
    results = [folder.result_path(row["key"], *settings) for folder in folders]
    assert load_case(results[1] / "case").report.total.agatston == pytest.approx(AGATSTON_OF_A_VOXEL)
    with pytest.raises(InputRefused):
        load_case(results[0] / "case")


def test_a_person_is_a_pseudonym_by_the_key_and_nothing_else(series, tmp_path, monkeypatch):
    series("a", PatientID="MRN-4711", PatientName="Doe^Jane")
    monkeypatch.setenv("HEARTLENS_COHORT_KEY", KEY)
    (row,) = plan(tmp_path / "scans", out=tmp_path / "one").planned()
    assert row["patient_key"] == pseudonym(KEY.encode(), "id\0MRN-4711")
    monkeypatch.setenv("HEARTLENS_COHORT_KEY", KEY[::-1])
    (other,) = plan(tmp_path / "scans", out=tmp_path / "two").planned()
    assert other["patient_key"] != row["patient_key"]
    assert main(["cohort", "table", str(tmp_path / "one")]) == 0
    for name in ("plan.parquet", "series.parquet", "cohort.duckdb"):
        said = texts_of(tmp_path / "one" / name)
        assert row["patient_key"] in said
        assert not any(word in said for word in ("4711", "Doe", "Jane"))
    monkeypatch.setenv("HEARTLENS_COHORT_KEY", "short")
    with pytest.raises(InputRefused, match="16 bytes"):
        read_key()


def test_a_key_comes_from_a_file_too(tmp_path):
    (tmp_path / "key").write_text(KEY + "\n")
    assert read_key(tmp_path / "key") == KEY.encode()
    assert read_key() is None


def test_a_sentence_keeps_its_words_and_loses_names():
    places = [Path("/data/doe_jane/IM 7.dcm")]
    text = "IM 7.dcm: expected 40 files in doe_jane; --allow contrast scores it anyway"
    assert without_identity(text, places) == "…: expected 40 files in …; --allow contrast scores it anyway"


def test_a_cohort_of_nobody_has_a_plan_a_status_and_tables(tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    folder = plan(tmp_path / "scans", out=tmp_path / "cohort")
    for step in (["status"], ["run", "--workers", "0"], ["table"]):
        assert main(["cohort", step[0], str(folder.path), *step[1:]]) == 0
    assert "0 series planned" in capsys.readouterr().out
    assert "Nothing is scored yet" in (folder.path / "report.html").read_text()


def test_a_cohort_of_one_whose_files_went_and_came_back_has_a_row_a_table_and_a_page(chests, tmp_path, capsys):
    shutil.copytree(chests / "chest-2", tmp_path / "scans" / "chest")
    folder = plan(tmp_path / "scans", out=tmp_path / "cohort")
    (tmp_path / "scans" / "chest").rename(tmp_path / "gone")
    assert main(["cohort", "run", str(folder.path), "--workers", "0"]) == 0
    assert main(["cohort", "table", str(folder.path)]) == 0
    ((status, code, text),) = table(folder, "status, code, text")
    assert (status, code) == ("refused", "input")
    assert "bring them back, then run again with --retry input" in text
    (tmp_path / "gone").rename(tmp_path / "scans" / "chest")
    assert main(["cohort", "run", str(folder.path), "--workers", "0"]) == 0
    assert table(folder, "status") == [("refused",)], "what has a row is not made again unless it is asked for"
    assert main(["cohort", "run", str(folder.path), "--workers", "0", "--retry", "input"]) == 0
    known = tmp_path / "known.csv"
    (uid,) = (row["series_uid"] for row in folder.planned(("series_uid",)))
    known.write_text(f"series_uid,agatston\n{uid},{2 * AGATSTON_OF_A_VOXEL - 1}\n")
    assert main(["cohort", "table", str(folder.path), "--truth", str(known)]) == 0
    assert table(folder, "status, agatston") == [("scored", pytest.approx(2 * AGATSTON_OF_A_VOXEL))]
    page = (folder.path / "report.html").read_text()
    for words in ("<b>1</b>series found", "<b>1</b>planned", "<b>1</b>scored", "Bias +1.0"):
        assert words in page, words
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    capsys.readouterr()
    assert main(["cohort", "status", str(folder.path)]) == 0
    assert "1 series planned" in capsys.readouterr().out
