"""`heartlens progress` and `heartlens compare`: what is printed, what is written, what is refused."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import replace
from importlib.resources import files

import highdicom as hd
import jsonschema
import numpy as np
import pytest
import small_chest
from dicom_builder import write_ct_series
from pydicom import dcmread
from report_cases import BOXES, make_case
from two_scans import LAD_4, LAD_MM, opened, scan

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.case.comparison.persons import check_same_person
from heartlens.case.comparison.progress import compare_scans
from heartlens.case.comparison.protocols import protocol_differences
from heartlens.case.folder import append_edit, load_case, save_case
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.nrrd import read_nrrd
from heartlens.pipeline import Request, score_series
from heartlens.report.comparison.write import write_progress


def is_valid(name, document):
    schema = json.loads((files("heartlens.report.comparison") / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)] == []


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(one) for one in arguments])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A prior and a current case folder of one chest, the plaque grown from 63 to 125."""
    folder = tmp_path_factory.mktemp("two")
    save_case(scan(LAD_4), folder / "prior")
    save_case(scan((Artery.LAD, LAD_MM, 8), seed=1), folder / "current")
    return folder


def test_progress_prints_and_writes_the_same_sentences(run, two, tmp_path):
    dates = ("--prior-date", "2020-01-01", "--current-date", "2022-01-01")
    code, out, err = run("progress", two / "prior", two / "current", *dates, "--out", tmp_path / "p")
    assert (code, err) == (0, "")
    document = json.loads((tmp_path / "p" / "progress.json").read_text())
    assert is_valid("progress", document)
    assert document["verdict"] == "increase"
    assert document["total_agatston"]["change"] == pytest.approx([62.72, 62.72])
    page = (tmp_path / "p" / "progress.html").read_text()
    for sentence in document["sentences"]:
        assert sentence in out
        assert sentence in html.unescape(page)
    code, _, err = run("progress", two / "prior", two / "current", "--out", tmp_path / "p")
    assert (code, err.startswith("error: output:")) == (3, True)


def test_progress_refuses_what_is_no_case_and_a_day_that_is_none(run, two, tmp_path):
    code, out, err = run("progress", two / "prior", tmp_path)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "no case.json" in err
    with pytest.raises(SystemExit) as stop:
        run("progress", two / "prior", two / "current", "--prior-date", "yesterday")
    assert stop.value.code == 2


@pytest.fixture
def readings(tmp_path):
    """Two folders of two scans each, read twice; the second reader has excluded the LAD of the first scan."""
    other = make_case([(Artery.RCA, 5, 10, 10, 10, 251)])
    for reader in "ab":
        (tmp_path / reader).mkdir()
        save_case(make_case(BOXES), tmp_path / reader / "one")
        save_case(other, tmp_path / reader / "two")
    case = load_case(tmp_path / "b" / "one").reassign(1, Artery.OTHER, who="Ben")
    append_edit(tmp_path / "b" / "one", *case.edits)
    return tmp_path


def test_compare_pairs_cases_by_their_scan_and_counts_agreement(run, readings, tmp_path):
    code, out, err = run("compare", readings / "a", readings / "b", "--out", tmp_path / "c")
    assert (code, err) == (0, "")
    assert "2 scans; category the same in 2 of 2" in out  # 67 and 17 are mild both
    assert "only A: lesion 1 of A: LAD, Agatston 50 and 0, named and not coronary in the other" in out
    document = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert is_valid("compare", document)
    assert [one["kinds"] for one in document["cases"]] == [{"only A": 1, "both": 2}, {"both": 1}]
    image = read_nrrd(tmp_path / "c" / document["cases"][0]["difference_map"])
    assert np.bincount(image.values.reshape(-1))[1:].tolist() == [20, 0, 100]
    (disputed,) = document["cases"][0]["disputed"]
    assert (disputed["what"], disputed["says_other"], disputed["arteries_a"]) == ("A alone", True, ["LAD"])
    voxels = np.concatenate([np.arange(start, start + count) for start, count in disputed["runs"]])
    assert voxels.tolist() == np.flatnonzero(image.values.reshape(-1) == 3).tolist()
    for sentence in document["cases"][0]["sentences"]:
        assert sentence in out
    assert document["cases"][1]["disputed"] == []
    assert f"Comparison: {tmp_path / 'c' / 'compare.json'}" in out


def test_a_case_that_only_one_side_has_is_told_and_no_scan_in_common_is_refused(run, readings):
    code, out, _ = run("compare", readings / "a", readings / "b" / "one")
    assert code == 0
    assert f"{readings / 'a' / 'two'} has no case of the same scan on the other side." in out
    code, _, err = run("compare", readings / "a" / "one", readings / "b" / "two")
    assert (code, "no scan is in both" in err) == (3, True)


def test_what_was_exported_of_a_case_into_its_own_report_is_no_second_reading(run, readings):
    """A signed result lies within the report folder of its case; two cases side by side are still two."""
    for reader in "ab":
        (readings / reader / "one").rename(readings / reader / "case")
        (readings / reader / "one").mkdir()
        (readings / reader / "case").rename(readings / reader / "one" / "case")
        shutil.copytree(readings / reader / "one" / "case", readings / reader / "one" / "signed" / "case")
    code, out, err = run("compare", readings / "a", readings / "b")
    assert (code, err) == (0, "")
    assert "2 scans; category the same in 2 of 2" in out
    shutil.copytree(readings / "a" / "one" / "case", readings / "a" / "three" / "case")
    code, _, err = run("compare", readings / "a", readings / "b")
    assert (code, "two cases of one scan" in err) == (3, True)


def test_adjudicate_makes_a_report_that_cannot_be_signed_yet(run, readings):
    code, _, err = run("compare", readings / "a" / "one", readings / "b" / "one", "--adjudicate", readings / "third")
    assert (code, err) == (0, "")
    third = load_case(readings / "third" / "case")
    assert (third.assessment.total_low, third.assessment.total_high) == (17, 67)
    code, _, err = run("compare", readings / "a", readings / "b", "--adjudicate", readings / "fourth")
    assert (code, (readings / "fourth").exists()) == (2, False)


def test_no_path_of_this_machine_is_in_what_compare_writes_or_prints_as_json(run, readings, tmp_path):
    out = tmp_path / "c"
    assert run("compare", readings / "a" / "one", readings / "b", "--out", out)[0] == 0
    printed = run("compare", readings / "a" / "one", readings / "b", "--json")[1]
    texts = ((out / "compare.json").read_text(), printed)
    two = load_case(readings / "b" / "two").voxel_checksum
    for text in texts:
        assert str(readings) not in text
        assert is_valid("compare", json.loads(text))
        assert json.loads(text)["unmatched"] == [{"side": "b", "voxels_sha256": two}]


def test_a_third_case_that_cannot_be_made_is_refused_before_anything_is_written(run, readings, tmp_path):
    one = (readings / "a" / "one", readings / "b" / "one")
    out, third = tmp_path / "c", tmp_path / "third"
    third.mkdir()
    code, _, err = run("compare", *one, "--out", out, "--adjudicate", third)
    assert (code, "exists" in err, out.exists()) == (3, True, False)
    third.rmdir()
    for other in (out, out / "third", tmp_path):
        code, _, err = run("compare", *one, "--out", out, "--adjudicate", other)
        assert (code, out.exists()) == (2, False), other
    save_case(make_case(BOXES, protocol=ScoringProtocol(minimum_area_mm2=0.5)), readings / "otherwise")
    code, _, err = run("compare", one[0], readings / "otherwise", "--out", out, "--adjudicate", third)
    assert (code, "score both in one way" in err) == (3, True)
    assert (out.exists(), third.exists()) == (False, False)


def test_readings_that_were_scored_differently_have_no_category_to_compare(run, readings):
    save_case(make_case(BOXES, protocol=ScoringProtocol(minimum_area_mm2=0.5)), readings / "otherwise")
    code, out, _ = run("compare", readings / "a" / "one", readings / "otherwise")
    assert code == 0
    assert "Category: not compared, because the two were scored differently (minimum area mm2)." in out


def test_what_could_not_be_written_is_noted_and_the_folder_that_was_made_is_named(run, readings, two, monkeypatch):
    def without(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("heartlens.report.outputs.write_lesions_csv", lambda path, case: without("highdicom"))
    third = readings / "third"
    code, out, err = run("compare", readings / "a" / "one", readings / "b" / "one", "--adjudicate", third)
    assert (code, f"Third case: {third}" in out) == (0, True)
    assert err.startswith("note: lesions.csv was not written")
    monkeypatch.setattr("heartlens.report.comparison.write.progress_page", lambda progress: without("jinja2"))
    code, out, err = run("progress", two / "prior", two / "current", "--out", readings / "p")
    assert (code, str(readings / "p" / "progress.json") in out) == (0, True)
    assert err.startswith("note: progress.html was not written")


def test_a_kernel_that_steers_a_terminal_or_is_no_text_is_written_out(run, two, tmp_path):
    found = compare_scans(open_case(two / "prior"), open_case(two / "current"))
    odd = replace(found, notes=("of \udc80",))  # a file name that is no UTF-8 may stand in a sentence
    write_progress(tmp_path / "p", odd)
    assert "of \\udc80" in (tmp_path / "p" / "progress.html").read_text(encoding="utf-8")
    of_scanner = scan(LAD_4, kernel="B\x1b[2J\udc80")
    differences = protocol_differences(opened(scan(LAD_4)), opened(of_scanner))
    assert "B\\x1b[2J\\udc80" in [one.current for one in differences if one.what == "kernel"]


def scored(folder, patient, **tags):
    small_chest.write_series(folder / "ct", PatientID=patient, **tags)
    labels = small_chest.write_labels(folder / "labels.nrrd")
    case = score_series(folder / "ct", Request(segmentation=labels)).case
    save_case(case, folder / "case")
    return open_case(folder)


def test_the_headers_of_two_patients_are_refused_and_name_nobody(tmp_path):
    a, b, c = (scored(tmp_path / name, patient) for name, patient in (("a", "P-ONE"), ("b", "P-TWO"), ("c", "P-ONE")))
    with pytest.raises(InputRefused, match="two patients") as refused:
        check_same_person(a, b, asserted=False)
    assert "P-ONE" not in refused.value.text
    assert "P-TWO" not in refused.value.text
    assert check_same_person(a, c, asserted=False) == ()
    assert check_same_person(a, b, asserted=True) == (
        "The headers name two patients; the user said that they are one person.",
    )
    assert isinstance(a, OpenedCase)
    assert opened(a.case).patients == a.patients


def test_two_scans_without_a_name_are_not_taken_for_one_persons_by_that(tmp_path):
    a, b = (scored(tmp_path / name, "", PatientName="", PatientBirthDate="") for name in "ab")
    assert a.patients == frozenset()
    assert check_same_person(a, b, asserted=False) == (
        "No header says whose both scans are: that they are of one person is the user's word.",
    )


@pytest.fixture
def years(tmp_path, run):
    """A chest with its LAD plaque of 900, scored as DICOM; and the same one four years later with an RCA of 1800."""
    hu, codes = small_chest.hu(), small_chest.codes()
    was = {"hu": np.where(codes == Artery.RCA, np.int16(42), hu), "codes": np.where(codes == Artery.RCA, 0, codes)}
    for name, year, values in (("prior", 2020, was), ("current", 2024, {"hu": hu, "codes": codes})):
        write_ct_series(
            tmp_path / name / "ct", values["hu"], spacing_mm=small_chest.SPACING_MM,
            corner_lps_mm=small_chest.CORNER_MM, PatientID="P-7731", AcquisitionDate=f"{year}0301",
            StudyDate=f"{year}0301", StudyInstanceUID=f"1.2.{year}", SeriesInstanceUID=f"1.2.{year}.1",
        )  # fmt: skip
        labels = small_chest.write_labels(tmp_path / name / "labels.nrrd", values["codes"].astype(np.uint8))
        code, _, err = run("score", tmp_path / name / "ct", "--segmentation", labels, "--out", tmp_path / name / "r")
        assert code == 0, err
    return tmp_path


def test_a_change_is_verified_by_nobody_also_where_the_scores_are_signed(run, years, tmp_path):
    with ReviewSession.open(years / "current" / "r" / "case") as reading:
        reading.sign("Doe^Jane", "Clinic", confirmed=True)
    code, _, err = run("progress", years / "prior" / "r", years / "current" / "r", "--out", tmp_path / "p")
    assert (code, err) == (0, "")
    compared = dcmread(tmp_path / "p" / "progress.dcm")
    assert compared.VerificationFlag == "UNVERIFIED"
    assert "VerifyingObserverSequence" not in compared
    words = [item.TextValue for item in compared.ContentSequence if item.ValueType == "TEXT"]
    assert any(text.startswith("SIGNED by Jane Doe") for text in words), "true of the scores"


def test_progress_of_dicom_scans_writes_the_later_report_once_more_with_the_change(run, years, tmp_path):
    """1800 in four years, 450 a year; the new document takes the place of the plain one and stands in its series."""
    code, out, err = run("progress", years / "prior" / "r", years / "current" / "r", "--out", tmp_path / "p")
    assert (code, err) == (0, ""), err
    plain, compared = dcmread(years / "current" / "r" / "report.dcm"), dcmread(tmp_path / "p" / "progress.dcm")
    total = next(
        group for group in hd.sr.srread(tmp_path / "p" / "progress.dcm").content.get_image_measurement_groups()
        if group.tracking_identifier == "Total"
    )  # fmt: skip
    numbers = {one.name.meaning: one.value for one in total.get_measurements()}
    assert numbers["Change of the Agatston score since an earlier scan"] == 1800
    years_between = 1461 / 365.2425
    assert numbers["Change of the Agatston score a year"] == pytest.approx(1800 / years_between)
    words = [item.TextValue for item in compared.ContentSequence if item.ValueType == "TEXT"]
    sentences = json.loads((tmp_path / "p" / "progress.json").read_text())["sentences"]
    assert words[words.index(f"Compared with an earlier scan (study 1.2.2020): {sentences[0]}") + 1] == sentences[1]
    assert compared.StudyInstanceUID == plain.StudyInstanceUID == "1.2.2024"
    assert compared.SeriesInstanceUID == plain.SeriesInstanceUID
    (replaced,) = compared.PredecessorDocumentsSequence
    (of_series,) = replaced.ReferencedSeriesSequence
    assert of_series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == plain.SOPInstanceUID
    assert "P-7731" not in out
    again = run("progress", years / "prior" / "r", years / "current" / "r", "--out", tmp_path / "p", "--force")
    assert again[0] == 0
    assert dcmread(tmp_path / "p" / "progress.dcm").SOPInstanceUID == compared.SOPInstanceUID
