"""Of the objects of a result each fails alone: what can be written is written, and a note says what is missing."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pypdfium2
import pytest
import small_chest
from pydicom import dcmread
from report_cases import BOXES, make_case

import heartlens.report.html
import heartlens.report.outputs as outputs
import heartlens.report.sheet.pdf
import heartlens.report.sheet.pixels
from heartlens.app.review_session import ReviewSession
from heartlens.case.result import Result
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import More, write_outputs
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


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A small chest from DICOM with labels that were given."""
    folder = tmp_path_factory.mktemp("chest")
    small_chest.write_series(folder / "ct", PatientName="Doe^Jane")
    labels = small_chest.write_labels(folder / "labels.nrrd")
    return score_series(folder / "ct", Request(segmentation=labels))


def names(folder):
    return {path.name for path in folder.iterdir()}


OF_DICOM = {"segmentation.dcm", "report.dcm"}


def test_key_pages_pdf_and_fhir_are_written_where_they_are_asked_for(tmp_path, scored):
    assert write_outputs(scored, tmp_path / "plain") == []
    assert names(tmp_path / "plain") == ALWAYS | OF_DICOM
    assert write_outputs(scored, tmp_path / "out", more=tuple(More)) == []
    pages = {name for name in names(tmp_path / "out") if name.startswith("key-page")}
    assert names(tmp_path / "out") - pages == ALWAYS | OF_DICOM | {"report.pdf", "report-pdf.dcm", "report.fhir.json"}
    assert {"key-page.dcm", "key-page-2.dcm"} <= pages
    objects = [dcmread(path) for path in (tmp_path / "out").glob("*.dcm")]
    assert len({one.SeriesInstanceUID for one in objects}) == 4  # SEG, SR, pages, PDF
    assert len({one.SOPInstanceUID for one in objects}) == len(objects)
    assert {str(one.PatientName) for one in objects} == {"Doe^Jane"}
    for name in OF_DICOM:  # written once more, an archive gets the same objects
        assert len({dcmread(tmp_path / folder / name).SOPInstanceUID for folder in ("plain", "out")}) == 1
    sr = dcmread(tmp_path / "out" / "report.dcm").SOPInstanceUID
    document = dcmread(tmp_path / "out" / "report-pdf.dcm")
    assert sr in {item.ReferencedSOPInstanceUID for item in document.SourceInstanceSequence}
    assert document.EncapsulatedDocument.startswith((tmp_path / "out" / "report.pdf").read_bytes())


def test_who_was_scanned_stands_on_them_only_where_it_was_asked_for(tmp_path, scored):
    write_outputs(scored, tmp_path / "plain", more=(More.PDF, More.FHIR))
    write_outputs(scored, tmp_path / "named", more=(More.PDF, More.FHIR), identify=True)
    texts = {}
    for name in ("plain", "named"):
        pdf = pypdfium2.PdfDocument((tmp_path / name / "report.pdf").read_bytes())
        texts[name] = pdf[0].get_textpage().get_text_bounded(), (tmp_path / name / "report.fhir.json").read_text()
    assert all("Jane Doe" in text for text in texts["named"])
    assert not any("Doe" in text for text in texts["plain"])


def test_a_volume_without_a_patient_has_pdf_and_fhir_and_no_object_of_dicom(tmp_path):
    notes = write_outputs(Result(make_case(BOXES), ()), tmp_path / "out", more=tuple(More))
    assert names(tmp_path / "out") == ALWAYS | {"report.pdf", "report.fhir.json"}
    assert notes == ["key-page.dcm was not written: the CT is not DICOM, and has no study that it could be put into"]


def test_without_the_extra_a_note_says_how_to_get_it_and_the_rest_stands(tmp_path, scored, monkeypatch):
    monkeypatch.setitem(sys.modules, "reportlab.lib.colors", None)
    (note,) = write_outputs(scored, tmp_path / "out", more=(More.PDF, More.FHIR))
    assert note == "report.pdf was not written: it needs reportlab (pip install 'heartlens[pdf]')"
    assert names(tmp_path / "out") == ALWAYS | OF_DICOM | {"report.fhir.json"}


def test_a_page_that_cannot_be_drawn_costs_all_key_pages_and_nothing_else(tmp_path, scored, monkeypatch):
    """Two of three pages would pass for all."""
    drawn = []

    def fails_at_the_second(sheet):
        drawn.append(sheet)
        return failing() if len(drawn) == 2 else np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(heartlens.report.sheet.pixels, "sheet_pixels", fails_at_the_second)
    (note,) = write_outputs(scored, tmp_path / "out", more=(More.KEY_PAGE,))
    assert note.startswith("key-page.dcm was not written: ValueError in test_outputs.py")
    assert names(tmp_path / "out") == ALWAYS | OF_DICOM


def test_a_disk_that_fills_up_at_the_pdf_costs_the_whole(tmp_path, scored, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heartlens.report.sheet.pdf, "sheets_pdf", full)
    with pytest.raises(InputRefused, match="No space"):
        write_outputs(scored, tmp_path / "out", more=(More.PDF,))
    assert list(tmp_path.iterdir()) == []


def test_without_the_page_what_is_set_from_it_says_so(tmp_path, scored, monkeypatch):
    monkeypatch.setattr(heartlens.report.html, "write_report", failing)
    notes = write_outputs(scored, tmp_path / "out", more=(More.KEY_PAGE, More.PDF))
    assert notes[1:] == [
        "key-page.dcm was not written: it is set from report.html",
        "report.pdf was not written: it is set from report.html",
    ]


def test_what_a_reader_signed_is_written_in_as_many_forms_and_in_the_same_series(tmp_path, scored):
    write_outputs(scored, tmp_path / "auto", more=(More.KEY_PAGE, More.FHIR))
    with ReviewSession.open(tmp_path / "auto") as session:
        session.sign("Reader^Rita", "Clinic", confirmed=True)
        assert session.export(tmp_path / "signed") == []
    assert names(tmp_path / "signed") >= {"key-page.dcm", "report.fhir.json"}
    assert "report.pdf" not in names(tmp_path / "signed")
    assert (
        json.loads((tmp_path / "signed" / "report.fhir.json").read_text())["entry"][0]["resource"]["status"] == "final"
    )
    for name in ("key-page.dcm", "report.dcm"):
        before, after = (dcmread(tmp_path / folder / name) for folder in ("auto", "signed"))
        assert before.SeriesInstanceUID == after.SeriesInstanceUID
        assert before.SOPInstanceUID != after.SOPInstanceUID
    (study,) = after.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID


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
