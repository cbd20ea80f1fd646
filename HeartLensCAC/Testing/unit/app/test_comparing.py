"""`heartlens progress` and `heartlens compare`: what is printed, what is written, what is refused."""

from __future__ import annotations

import html
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import small_chest
from report_cases import BOXES, make_case
from two_scans import LAD_4, LAD_MM, opened, scan

from heartlens.__main__ import main
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.case.comparison.persons import check_same_person
from heartlens.case.folder import append_edit, load_case, save_case
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.io.nrrd import read_nrrd
from heartlens.pipeline import Request, score_series


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


def test_a_case_that_only_one_side_has_is_told_and_no_scan_in_common_is_refused(run, readings):
    code, out, _ = run("compare", readings / "a", readings / "b" / "one")
    assert code == 0
    assert "two has no case of the same scan" not in out  # one pair: nothing is counted
    code, _, err = run("compare", readings / "a" / "one", readings / "b" / "two")
    assert (code, "no scan is in both" in err) == (3, True)


def test_adjudicate_makes_a_report_that_cannot_be_signed_yet(run, readings):
    code, _, err = run("compare", readings / "a" / "one", readings / "b" / "one", "--adjudicate", readings / "third")
    assert (code, err) == (0, "")
    third = load_case(readings / "third" / "case")
    assert (third.assessment.total_low, third.assessment.total_high) == (17, 67)
    code, _, err = run("compare", readings / "a", readings / "b", "--adjudicate", readings / "fourth")
    assert (code, (readings / "fourth").exists()) == (2, False)


def scored(folder, patient):
    small_chest.write_series(folder / "ct", PatientID=patient)
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
