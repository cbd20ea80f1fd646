"""Of the objects of a result each fails alone: what can be written is written, and a note says what is missing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import small_chest
from report_cases import BOXES, make_case

import heartlens.report.html
import heartlens.report.outputs as outputs
from heartlens.app.review_session import ReviewSession
from heartlens.case.result import Result
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs
from heartlens.risk.evaluable import State

ALWAYS = {"report.json", "lesions.csv", "segmentation.seg.nrrd", "report.html", "case"}


def failing(*_arguments, **_options):
    raise ValueError("the name DOE^JANE cannot be encoded")


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [(outputs, "write_lesions_csv", "lesions.csv"), (heartlens.report.html, "write_report", "report.html")],
)
def test_what_fails_is_left_out_and_named_without_what_it_said(monkeypatch, tmp_path, module, function, name):
    monkeypatch.setattr(module, function, failing)
    (note,) = write_outputs(Result(make_case(BOXES), ()), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == ALWAYS - {name}
    assert note.startswith(f"{name} was not written: ValueError in test_outputs.py, line ")
    assert "DOE" not in note


def test_a_full_disk_costs_the_whole_and_leaves_nothing(monkeypatch, tmp_path):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "write_lesions_csv", full)
    with pytest.raises(InputRefused, match="No space"):
        write_outputs(Result(make_case(BOXES), ()), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("led_by", [OSError(28, "No space left on device"), MemoryError()], ids=["disk", "memory"])
def test_a_full_disk_in_a_librarys_words_costs_the_whole_too(monkeypatch, tmp_path, led_by):
    def full(*_arguments, **_options):
        try:
            raise led_by
        except (OSError, MemoryError) as error:
            raise ValueError("With tag (0010,0010) DOE^JANE Traceback") from error

    monkeypatch.setattr(outputs, "write_lesions_csv", full)
    with pytest.raises((InputRefused, MemoryError)) as stopped:
        write_outputs(Result(make_case(BOXES), ()), tmp_path / "out")
    assert "DOE" not in str(stopped.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_a_library_looked_for_in_vain_costs_that_object_alone(monkeypatch, tmp_path):
    def look_and_fail(*_arguments, **_options):
        try:
            (tmp_path / "a library's own settings").read_text()
        except OSError:
            raise ValueError("without settings") from None

    monkeypatch.setattr(outputs, "write_lesions_csv", look_and_fail)
    (note,) = write_outputs(Result(make_case(BOXES), ()), tmp_path / "out")
    assert note.startswith("lesions.csv was not written: ValueError")


@pytest.mark.skipif(os.name != "posix", reason="Windows has access lists")
@pytest.mark.parametrize(("shared", "modes"), [(False, {0o600, 0o700}), (True, {0o640, 0o750})])
def test_results_are_for_the_user_alone_unless_they_are_to_be_shared(tmp_path, shared, modes):
    mask = os.umask(0o027)
    try:
        write_outputs(Result(make_case(BOXES), ()), tmp_path / "out", shared_mode=shared)
    finally:
        os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]} == modes


def test_a_name_that_is_no_utf_8_costs_letters_and_no_file(tmp_path):
    """A file called Schädel by a program that wrote Latin-1, in a sentence of a warning."""
    case = replace(make_case(BOXES), cautions=(WarningRecord("reformatted", "Sch\udce4del.dcm is reformatted"),))
    assert write_outputs(Result(case, ()), tmp_path / "out") == []
    assert "Sch\\udce4del.dcm" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    with ReviewSession.open(tmp_path / "out") as session:
        assert session.case.cautions == case.cautions


def test_a_header_without_a_study_costs_the_dicom_objects_and_not_the_result(tmp_path):
    small_chest.write_series(tmp_path / "ct", edit=lambda dataset, n: delattr(dataset, "StudyInstanceUID"))
    labels = small_chest.write_labels(tmp_path / "labels.nrrd")
    result = score_series(tmp_path / "ct", Request(segmentation=labels))
    notes = write_outputs(result, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == ALWAYS
    why = "was not written: the CT's header has no StudyInstanceUID, by which it would refer to the images"
    assert notes == [f"segmentation.dcm {why}", f"report.dcm {why}"]


def test_an_altered_case_names_no_signer_on_its_page(tmp_path):
    write_outputs(Result(make_case(BOXES), ()), tmp_path / "out", state=State.ALTERED)
    assert "ALTERED after it was signed: no signature is valid" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["assessment"]["state"] == "altered"


@pytest.fixture
def result(tmp_path):
    """A result of which nobody has edited anything."""
    write_outputs(Result(make_case(BOXES), ()), tmp_path / "out")
    return tmp_path / "out"


def test_a_case_that_somebody_has_open_is_not_replaced_and_the_reader_is_named(result):
    before = sorted(result.rglob("*"))
    with ReviewSession.open(result, reader="Rita"), pytest.raises(InputRefused, match=r"is open \(Rita on .* since"):
        write_outputs(Result(make_case(BOXES), ()), result, force=True)
    assert sorted(result.rglob("*")) == before
    write_outputs(Result(make_case(BOXES), ()), result, force=True)


def test_edits_that_were_made_while_another_run_was_writing_are_kept(result):
    """Whether a result may be replaced is asked again at the end: a scan takes minutes, and readers are quick."""
    edited = []

    def edit_in_the_midst(done):
        if done > 0.5 and not edited:
            with ReviewSession.open(result, reader="Rita") as session:
                edited.append(session.remove(next(iter(session.case.lesions.arteries))))

    with pytest.raises(InputRefused, match="holds a reader's edits"):
        write_outputs(Result(make_case(BOXES), ()), result, force=True, on_progress=edit_in_the_midst)
    with ReviewSession.open(result) as session:
        assert len(session.case.edits) == 1
    assert [path.name for path in result.parent.iterdir()] == ["out"]


def test_a_signature_is_a_readers_work_too(result):
    with ReviewSession.open(result) as session:
        session.sign("Rita", "Clinic", confirmed=True)
    with pytest.raises(InputRefused, match="holds a reader's signature"):
        write_outputs(Result(make_case(BOXES), ()), result, force=True)


def test_of_two_plain_runs_at_once_one_is_refused_and_no_edit_is_lost(tmp_path):
    """The slower run finds, at its end, a result that a reader has edited already."""

    def finish_another_run(done):
        out = tmp_path / "out"
        if done >= 1.0 and not out.exists():
            write_outputs(Result(make_case(BOXES), ()), out)
            with ReviewSession.open(out) as session:
                session.remove(next(iter(session.case.lesions.arteries)))

    with pytest.raises(InputRefused, match="made by another program meanwhile"):
        write_outputs(Result(make_case(BOXES), ()), tmp_path / "out", on_progress=finish_another_run)
    with ReviewSession.open(tmp_path / "out") as session:
        assert len(session.case.edits) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_on_windows_the_lock_is_let_go_before_the_folder_is_renamed(result, monkeypatch):
    """There no folder is renamed in which a file is open."""
    with monkeypatch.context() as patched:
        patched.setattr(outputs.sys, "platform", "linux")
        with outputs.hold_for_replacing(result):
            assert (result / "case" / ".lock").exists()
        patched.setattr(outputs, "sys", SimpleNamespace(platform="win32"))
        with outputs.hold_for_replacing(result):
            assert not (result / "case" / ".lock").exists()
