"""An earlier scan beside the current one: the same place in both, and the words of `heartlens progress`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from two_scans import AGATSTON, LAD_4, LAD_MM, RCA_MM, opened, scan
from viewer.page import WAIT_MS, Reader
from viewer.reviewed_chest import Server, other_hu, write_case

from heartlens.__main__ import main
from heartlens.case.comparison.progress import compare_scans
from heartlens.case.folder import save_case
from heartlens.core.lesions import Artery
from heartlens.viewer.prior import Prior, index_map

pytestmark = pytest.mark.slow

SHIFT_MM = (9.0, -6.0, 15.0)
"""How the person lies in the later scan: 15 mm are 5 slices."""

SHARE_DRAWN = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let n = 0; n < data.length; n += 4) if (data[n] + data[n + 1] + data[n + 2] > 60) count++;
  return count / (data.length / 4);
}"""
"""Of a picture, that is not black."""

PRIOR = scan(LAD_4, (Artery.RCA, RCA_MM, 2), acquired="2020-01-01")
CURRENT = scan((Artery.LAD, LAD_MM, 8), seed=1, shift_mm=SHIFT_MM, acquired="2022-01-01")


@pytest.fixture(scope="module")
def beside():
    """What a page gets of the two: 4 voxels in the LAD became 8, 2 in the RCA are gone."""
    place = Prior(Path())
    place._prior = opened(PRIOR)
    return place.beside(opened(CURRENT))


@pytest.fixture
def scans(tmp_path) -> Path:
    """A folder with the results `prior` and `current`."""
    for name, case in (("prior", PRIOR), ("current", CURRENT)):
        (tmp_path / name).mkdir()
        save_case(case, tmp_path / name / "case")
    return tmp_path


def test_a_voxel_lies_at_the_same_place_of_the_heart_in_the_prior_scan(beside):
    rows = np.array(beside["to_prior"])
    plaque = CURRENT.ct.index_kji(np.array(LAD_MM) + SHIFT_MM)
    assert rows @ [*plaque, 1] == pytest.approx(PRIOR.ct.index_kji(LAD_MM), abs=0.3)
    assert index_map(PRIOR, CURRENT, None) is None


def test_each_lesion_of_both_scans_is_a_row_with_its_place_in_the_current_one(beside):
    assert [(row["kind"], row["arteries"], row["agatston"]) for row in beside["changes"]] == [
        ("matched", ["LAD"], [str(round(4 * AGATSTON)), str(round(8 * AGATSTON))]),
        ("gone", ["RCA"], [str(round(2 * AGATSTON)), "–"]),
    ]
    gone = CURRENT.ct.lps_mm([beside["changes"][1]["kji"]])[0]
    assert gone == pytest.approx(np.array(RCA_MM) + SHIFT_MM, abs=4)  # the middle of a voxel, and which of two


def test_the_hearts_are_laid_on_each_other_once(monkeypatch):
    place = Prior(Path())
    place._prior = opened(PRIOR)
    first = place.beside(opened(CURRENT))
    monkeypatch.setattr("heartlens.case.comparison.progress.align_hearts", None)
    edited = CURRENT.reassign(1, Artery.OTHER, who="Rita")
    again = place.beside(opened(edited))
    assert again["to_prior"] == first["to_prior"]
    assert (first["version"], again["version"]) == (0, 1)
    assert again["lines"][1] == "Agatston 94, then 0: -94 (LAD -63, RCA -31)."


def test_two_hearts_that_are_not_laid_on_each_other_are_not_linked():
    found = compare_scans(opened(PRIOR), opened(CURRENT))
    weak = type(found.alignment)(found.alignment.matrix, 1.0, 0.2, 9.0)
    assert index_map(PRIOR, CURRENT, weak) is None


def refused(*words) -> tuple[int, str]:
    """Exit code and message of `heartlens review` in a process of its own: one that is not refused serves for ever.

    It gives no address before it refuses.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "heartlens", "review", *map(str, words)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout == ""
    return run.returncode, run.stderr


def test_the_prior_scan_of_another_person_is_refused_as_progress_does(written_once, other_once, tmp_path, capsys):
    for name, place in (("prior", other_once), ("current", written_once)):
        shutil.copytree(place / "result", tmp_path / name)
    words = [str(tmp_path / "current"), "--prior", str(tmp_path / "prior")]
    assert main(["progress", str(tmp_path / "prior"), str(tmp_path / "current")]) == 3
    told = capsys.readouterr().err
    assert "name two patients" in told
    code, said = refused(*words)
    assert (code, said) == (3, told)
    with Server(*words, "--same-person") as server:
        assert server.ask("api/cases/0")[1]["scan"]["has_prior"]
        status, answer, _ = server.ask("api/cases/0/prior")
        assert status == 200
        assert any("the user said that they are one person" in line for line in answer["lines"])


def test_one_scan_twice_and_the_later_scan_as_prior_are_refused(scans):
    for current, prior, told in (
        ("current", "current", "both cases are of one scan"),
        ("prior", "current", "name the earlier one first"),
    ):
        turned = ["--prior-date", "2022-01-01", "--current-date", "2020-01-01"]
        code, said = refused(scans / current, "--prior", scans / prior, *turned)
        assert (code, told in said) == (3, True), said
    code, said = refused(scans / "current", "--prior", scans / "nothing")
    assert (code, "holds no HeartLens case" in said) == (3, True), said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prior", "P", "--second", "S", "--reader", "Rita", "A"], "--prior is shown beside one case"),
        (["--prior", "P", "--export-html", "H", "A"], "--prior is shown beside one case"),
        (["--prior", "P", "A", "B"], "--prior is shown beside one case"),
        (["--same-person", "A"], "--same-person is said of two scans: name the earlier one with --prior"),
        (["--prior-date", "2020-01-01", "A"], "--prior-date is said of two scans"),
    ],
)
def test_a_prior_scan_with_what_it_does_not_go_with_is_refused_by_name(capsys, words, told):
    assert main(["review", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_prior_scan_beside_a_list_is_refused(written_once, tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copytree(written_once / "result", tmp_path / "list" / name)
    assert main(["review", str(tmp_path / "list"), "--prior", str(tmp_path / "list" / "a")]) == 2
    assert "here are 2: name one of them" in capsys.readouterr().err


def test_a_case_without_a_prior_scan_has_none(server):
    for path in ("prior", "prior/ct"):
        assert server.ask(f"api/cases/0/{path}")[0] == 404


def test_a_chest_in_which_no_heart_is_found_says_so_on_the_page(browser, written_once, tmp_path):
    (tmp_path / "x").mkdir()
    write_case(tmp_path / "x", image=np.full_like(other_hu(), -1000), is_empty=True)
    with Server(written_once / "result", "--prior", tmp_path / "x" / "result") as server:
        reader = Reader(browser, server)
        reader.page.locator("#priorLines").get_by_text("No heart was found in the prior scan").wait_for()
        reader.complaints = [line for line in reader.complaints if "422" not in line]
        reader.close()


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_a_reader_sees_both_scans_and_what_has_changed(browser, scans, capsys, size):
    days = ["--prior-date", "2020-01-01", "--current-date", "2022-01-01"]
    assert main(["progress", str(scans / "prior"), str(scans / "current"), *days]) == 0
    said = capsys.readouterr().out.splitlines()
    with Server("--reader", "Rita", scans / "current", "--prior", scans / "prior", *days) as server:
        reader = Reader(browser, server, size)
        page = reader.page
        page.locator("body[data-prior=yes]").wait_for(timeout=WAIT_MS)
        lines = [line.inner_text() for line in page.locator("#priorLines p").all()]
        assert lines == said[: len(lines)]
        assert lines[0] == "No change beyond measurement noise."
        changes = [" ".join(row.inner_text().split()) for row in page.locator("#changes tr").all()]
        assert changes == ["matched LAD 63 125", "gone RCA 31 –"]
        page.locator("#axial").focus()
        reader.key("d")
        page.evaluate("new Promise(requestAnimationFrame)")
        k = round(float(PRIOR.ct.index_kji(LAD_MM)[0]))
        assert page.locator("#prior").get_attribute("aria-label") == f"Prior, 2020-01-01: slice {k + 1} of 52"
        assert reader.slice() == round(float(CURRENT.ct.index_kji(np.array(LAD_MM) + SHIFT_MM)[0]))
        assert "Lesion 1" in reader.text("#selected h3")
        assert reader.version == 0, "choosing edits nothing"
        assert page.locator("#prior").evaluate(SHARE_DRAWN) > 0.2, "a chest is drawn there"
        reader.key("0")
        reader.wait('body[data-version="1"]')
        page.locator("#priorLines").get_by_text("Agatston 94, then 0: -94").wait_for()
        reader.key("r")
        assert page.locator("#prior").is_hidden()
        assert page.locator("#coronal").is_visible()
        reader.close()
