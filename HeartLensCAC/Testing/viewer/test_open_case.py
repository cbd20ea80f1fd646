"""A case that a server holds open: what it tells when a disk, another program or another window comes between."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
from viewer.reviewed_chest import LAD, RCA, write_case

from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import load_case
from heartlens.case.looked_at import VIEWED, LookedAt
from heartlens.viewer import app
from heartlens.viewer.app import Worklist
from heartlens.viewer.listed import Listed
from heartlens.viewer.open_case import OpenCase
from heartlens.viewer.refusals import Stale

SIGN = {"observer": "Reader^Rita", "organization": "Clinic", "confirmed": True}


@pytest.fixture
def decided(case) -> Path:
    """The case folder, with nothing left to decide: one edit was made."""
    with ReviewSession.open(case) as session:
        assert session.assign(RCA, load_case(case).lesions.arteries[RCA])
    return case


# Exports


def test_an_export_that_is_moved_away_costs_its_list_and_no_answer(decided):
    held = OpenCase(decided)
    held.export({"version": 1})
    out = decided.parent / "unsigned"
    files = {path.name for path in out.iterdir() if path.is_file()}
    assert held.state()["exports"] == {"unsigned": sorted(files)}
    assert {name for name in files if held.exported_file("unsigned", name) == out / name} == files
    out.rename(decided.parent / "taken")
    assert held.state()["exports"] == {}
    assert held.exported_file("unsigned", "report.dcm") is None
    assert held.edit({"version": 1, "kind": "remove", "lesion": LAD})["version"] == 2
    held.close()


def test_a_file_of_an_export_is_asked_for_by_its_own_name_alone(decided):
    held = OpenCase(decided)
    held.export({"version": 1})
    for name in (
        "case",
        "case/case.json",
        "../case/case.json",
        "..",
        ".",
        "",
        "nothing.dcm",
        str(decided / "case.json"),
    ):
        assert held.exported_file("unsigned", name) is None, name
    assert held.exported_file("unsigned/case", "case.json") is None
    assert held.exported_file("unsigned", "report.dcm").is_file()
    held.close()


# Signing


def test_a_signature_whose_export_fails_is_told_as_signed_and_not_written(tmp_path):
    case = write_case(tmp_path)
    held = OpenCase(case)
    held.edit({"version": 0, "kind": "assign", "lesion": RCA, "artery": "RCA"})
    (tmp_path / "ct").rename(tmp_path / "moved")  # the headers that SEG and SR need
    answer = held.sign({**SIGN, "version": 1})
    assert answer["is_signed"]
    assert answer["not_written"].startswith("No such file or folder: ")
    assert "written" not in answer
    assert not (case.parent / "signed").exists()
    (tmp_path / "moved").rename(tmp_path / "ct")
    assert held.export({"version": 1})["written"]["name"] == "signed", "as soon as it can be"
    held.close()


def test_a_failure_that_nobody_foresaw_does_not_hide_the_signature(decided, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("of a library")

    monkeypatch.setattr(ReviewSession, "export", fail)
    held = OpenCase(decided)
    answer = held.sign({**SIGN, "version": 1})
    assert answer["is_signed"]
    assert answer["not_written"].startswith("Ended unexpectedly by RuntimeError")
    held.close()


def test_what_is_signed_is_not_signed_again(decided):
    held = OpenCase(decided)
    held.sign({**SIGN, "version": 1})
    seal = {path.name: path.read_bytes() for path in decided.iterdir() if path.is_file()}
    with pytest.raises(Stale, match="signed already"):
        held.sign({**SIGN, "observer": "Reader^Ravi", "version": 1})
    assert {path.name: path.read_bytes() for path in decided.iterdir() if path.is_file()} == seal
    assert not (decided.parent / "signed-2").exists()
    held.edit({"version": 1, "kind": "remove", "lesion": LAD})
    assert held.sign({**SIGN, "observer": "Reader^Ravi", "version": 2})["is_signed"], "another result is"
    held.close()


# Who holds it


def test_a_case_that_was_held_elsewhere_is_opened_anew_when_it_is_free(case):
    worklist = Worklist([Listed(case)])
    with ReviewSession.open(case) as other:
        assert "open elsewhere" in worklist.open(0).state()["read_only"]
        assert "open elsewhere" in worklist.open(0, anew=True).state()["read_only"]
        other.remove(LAD)
    state = worklist.open(0, anew=True).state()
    assert state["read_only"] is None
    assert [row["id"] for row in state["lesions"]] == [RCA], "with what was edited there"
    held = worklist.open(0)
    assert worklist.open(0, anew=True) is held, "what can be edited stays open"
    assert held.edit({"version": 1, "kind": "undo"})["version"] == 2
    worklist.close()


def test_a_server_does_not_lock_itself_out_of_a_case_that_it_puts_away(written_once, tmp_path, monkeypatch):
    folders = []
    for name in ("a", "b"):
        shutil.copytree(written_once / "result", tmp_path / name)
        folders.append(Listed(tmp_path / name / "case"))
    monkeypatch.setattr(app, "KEPT_OPEN", 1)
    closing = threading.Event()
    close = OpenCase.close

    def slowly(self):
        closing.set()
        time.sleep(0.3)  # a disk that takes its time with report.json
        close(self)

    worklist = Worklist(folders)
    worklist.open(0)
    monkeypatch.setattr(OpenCase, "close", slowly)
    other = threading.Thread(target=lambda: worklist.open(1))
    other.start()
    assert closing.wait(60)
    assert worklist.open(0).state()["read_only"] is None
    other.join(60)
    worklist.close()


def test_a_case_that_is_closed_is_not_written_by_a_timer_that_was_waiting(case):
    held = OpenCase(case, reader="Rita")
    held.edit({"version": 0, "kind": "remove", "lesion": LAD})
    timer = next(one for one in threading.enumerate() if isinstance(one, threading.Timer))
    held.close()
    assert json.loads((case / "report.json").read_text())["edits"] == 1, "brought up to date as it closes"
    (case / "report.json").write_text("of who has it now")
    timer.function()
    assert (case / "report.json").read_text() == "of who has it now"
    with pytest.raises(Stale):
        held.look({"slices": [1], "lesions": []})
    assert not (case / VIEWED).exists()


# Looking


def test_who_gives_no_name_has_looked_for_this_server_alone(case):
    look = {"slices": [0, 1], "lesions": [LAD]}
    held = OpenCase(case)
    assert held.look(look) == {"look_through": ""}
    assert held.state()["viewed"] == {"slices": [0, 1], "lesions": [LAD]}
    held.close()
    assert not (case / VIEWED).exists()
    (case / VIEWED).write_text('{"readers": {"": {"slices": [0, 1, 2], "lesions": []}, "Rita": {"slices": [7]}}}')
    assert LookedAt(case, "").slices == set(), "not what another without a name saw"
    assert LookedAt(case, "Rita").slices == {7}
