"""A cohort from a real archive. `test_archive.py` runs this where there is no other network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import small_chest
from cohort_scans import table
from orthanc_archive import PROFILES, Orthanc, program
from page_commands import blocks, shell

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.cohort.cluster import Workers
from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.run import run_cohort
from heartlens.cohort.settings import settings_of

PAGE = "cohort-tutorial.md"
PATIENT, NAME = "SECRET-7", "Secret^Sara"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An archive with two studies of the small chest, and pacs.toml."""
    archive = Orthanc(tmp_path)
    for n in (1, 2):
        who = {"PatientID": f"{PATIENT}{n}", "PatientName": NAME, "StudyDate": f"2020010{n}"}
        uids = {"StudyInstanceUID": f"1.2.{n}", "SeriesInstanceUID": f"1.2.{n}.1"}
        archive.store(small_chest.write_series(tmp_path / "ct" / str(n), **who, **uids))
    (tmp_path / "pacs.toml").write_text(PROFILES)
    monkeypatch.setenv("HEARTLENS_PACS", str(tmp_path / "pacs.toml"))
    yield tmp_path, archive
    archive.end()


def plan(place: Path, *words: str) -> int:
    return main(["cohort", "plan", "--out", str(place / "cohort"), "--bundle", "none", *words])


@pytest.mark.parametrize("name", ["web", "old"])
def test_what_an_archive_finds_is_fetched_planned_and_scored_and_opens_when_it_is_gone(place, capfd, name):
    folder, _ = place
    assert plan(folder, "--pacs", name) == 0
    out, err = capfd.readouterr()
    assert "2 series found" in out
    assert PATIENT not in out + err
    assert len(list((folder / "cohort" / "scans").rglob("*.dcm"))) == 40
    cohort = CohortFolder.open(folder / "cohort")
    assert run_cohort(cohort, Workers(0)) == {"scored": 2}
    shutil.rmtree(cohort.path / "scans")
    assert main(["verify", str(cohort.results)]) == 0


def test_a_second_plan_fetches_what_is_new_alone(place, capfd):
    folder, _ = place
    assert plan(folder, "--pacs", "web", "--date", "20200101") == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "cohort" / "scans").rglob("*.dcm")}
    assert len(before) == 20
    capfd.readouterr()
    assert plan(folder, "--pacs", "web", "--force") == 0
    out, err = capfd.readouterr()
    assert err.count("fetching series") == 1
    assert "2 series found" in out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_series_that_got_more_images_is_fetched_again(place, capfd):
    folder, archive = place
    assert plan(folder, "--pacs", "web", "--study", "1.2.1") == 0
    files = small_chest.write_series(
        folder / "more", StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1", PatientID=f"{PATIENT}1",
    )  # fmt: skip
    archive.store(files[:1])
    capfd.readouterr()
    assert plan(folder, "--pacs", "web", "--study", "1.2.1", "--force") == 0
    assert "21 images" in capfd.readouterr().err
    assert len(list((folder / "cohort" / "scans").rglob("*.dcm"))) == 21


def test_an_archive_that_is_down_or_finds_nothing_is_told_and_the_next_plan_can_be_made(place, capfd):
    folder, archive = place
    assert plan(folder, "--pacs", "web", "--patient-id", "NOBODY") == 3
    assert "finds no such study" in capfd.readouterr().err
    assert plan(folder, "--pacs", "nobody") == 3
    archive.end()
    assert plan(folder, "--pacs", "web") == 3
    assert "Traceback" not in capfd.readouterr().err
    assert not (folder / "cohort" / "cohort.json").exists()
    archive.start()
    assert plan(folder, "--pacs", "web") == 0


def test_the_tutorial_word_for_word(tmp_path, tmp_path_factory):
    """Its blocks one after the other in an empty folder; then a reader signs a case, and the last block again."""
    if program() is None:
        pytest.skip("needs Orthanc")
    environment = shell(tmp_path_factory.mktemp("programs") / "bin")
    environment.pop("HEARTLENS_PACS", None)
    script = "\n".join(["set -eu", *blocks(PAGE, "sh")[:-1]])
    run = subprocess.Popen(
        ["sh", "-c", script], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = run.communicate(timeout=900)
        assert run.returncode == 0, said
        assert "QIDO-RS answers" in said
        assert "3 series found" in said
        assert said.count("3 scored") >= 2, said
        cohort = CohortFolder.open(tmp_path / "cohort")
        settings, _ = settings_of(cohort.document["options"])
        first = sorted(cohort.results.iterdir())[0]
        _look(tmp_path, environment)
        with ReviewSession.open(first / settings, reader="Reader^Rita") as session:
            for lesion in session.case.assessment.undecided:
                session.assign(lesion, session.case.lesions.arteries[lesion])
            session.sign("Reader^Rita", "Hospital", confirmed=True)
        last = subprocess.run(
            ["sh", "-euc", blocks(PAGE, "sh")[-1]], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert last.returncode == 0, last.stdout + last.stderr
        rows = table(cohort, "state, reader, patient_key", order="key")
        assert sorted(row[:2] for row in rows) == [("draft", None), ("draft", None), ("signed", "Reader^Rita")]
        assert all(len(row[2]) == 24 for row in rows)
    finally:
        os.killpg(run.pid, signal.SIGTERM)  # Orthanc, as the page says, with the shell that started it


def _look(place: Path, environment: dict[str, str]) -> None:
    """The command that opens the results in a browser serves a page."""
    (command,) = [text for text in blocks(PAGE, "text") if "review" in text]
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command}"], cwd=place, env={**environment, "BROWSER": "true"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        end, said = time.monotonic() + 60, ""
        while "http://127.0.0.1:" not in said and time.monotonic() < end and process.poll() is None:
            said += process.stdout.readline()
        assert re.search(r"http://127\.0\.0\.1:\d+", said), said
    finally:
        process.terminate()
        process.communicate(timeout=30)
