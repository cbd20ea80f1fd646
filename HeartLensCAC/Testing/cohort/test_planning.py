"""A plan has one row a series: chosen, or why not; and nothing in it but the plan itself names a path or a person."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small_chest
from installed import need

need("duckdb", "pip install 'heartlens[cohort]'")

from cohort_scans import plan  # noqa: E402

from heartlens.__main__ import main  # noqa: E402
from heartlens.cohort.folder import CohortFolder  # noqa: E402
from heartlens.cohort.identity import pseudonym, read_key, without_identity  # noqa: E402
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


def test_options_that_mean_one_person_are_for_the_list(tmp_path, capsys):
    assert main(["cohort", "plan", str(tmp_path), "--out", str(tmp_path / "cohort"), "--age", "60"]) == 2
    assert "CSV list" in capsys.readouterr().err


def test_a_person_is_a_pseudonym_by_the_key_and_nothing_else(series, tmp_path, monkeypatch):
    series("a", PatientID="MRN-4711", PatientName="Doe^Jane")
    monkeypatch.setenv("HEARTLENS_COHORT_KEY", KEY)
    (row,) = plan(tmp_path / "scans", out=tmp_path / "one").planned()
    assert row["patient_key"] == pseudonym(KEY.encode(), "id\0MRN-4711")
    monkeypatch.setenv("HEARTLENS_COHORT_KEY", KEY[::-1])
    (other,) = plan(tmp_path / "scans", out=tmp_path / "two").planned()
    assert other["patient_key"] != row["patient_key"]
    for file in (tmp_path / "one").rglob("*"):
        assert file.is_dir() or not any(word in file.read_bytes() for word in (b"4711", b"Doe", b"Jane"))
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
