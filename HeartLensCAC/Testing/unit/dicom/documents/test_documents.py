"""Key page and Encapsulated PDF as other programs see them: pydicom, dciodvfy, and dcmtk's own readers."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_builder import write_ct_series, write_enhanced_ct
from PIL import Image
from pydicom import dcmread

from heartlens.core.errors import NotWritten
from heartlens.dicom.documents.encapsulated_pdf import write_pdf_object
from heartlens.dicom.documents.key_page import write_key_page
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.dicom.source.uids import ObjectUids

UIDS = ObjectUids("this scan", "what was found", "what was found")
PIXELS = np.zeros((31, 21, 3), np.uint8)
PIXELS[3:9, 2:7] = (200, 10, 60)
PIXELS[30, 20] = (1, 2, 3)
PDF = b"%PDF-1.4\nnot a page, but as many bytes as one may have: odd\n%%EOF"
KINDS = ("classic", "enhanced")


@pytest.fixture(params=KINDS)
def scan(request, tmp_path):
    hu = np.full((4, 40, 12), -50, np.int16)
    hu[0, 0, 0] = -1000
    paths = write_ct_series(tmp_path / "ct", hu, PatientName="Doe^Jane", PatientSex="F")
    source = tmp_path / "ct"
    if request.param == "enhanced":
        source = tmp_path / "multi.dcm"
        write_enhanced_ct(paths, source)
    series = choose_series(rank_series(find_series(source)), None)
    ct, _ = read_series(series)
    return {"ct": ct, "sources": source_datasets(series, ct)}


def write_both(folder: Path, scan, **more):
    write_key_page(folder / "page.dcm", PIXELS, uids=UIDS, **scan, **more)
    write_pdf_object(folder / "pdf.dcm", PDF, uids=UIDS, **scan, **more)
    return folder / "page.dcm", folder / "pdf.dcm"


def complaints(tool, path):
    """All that dciodvfy says beside the name of the kind of object, and beside what the source does not say."""
    run = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False, timeout=60)
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.startswith(("Error", "Warning", "Abort"))]
    return [line for line in lines if not line.endswith("needed to build DICOMDIR - Study ID")]


def test_dciodvfy_has_no_word_to_say(tmp_path, require_tool, scan):
    for path in write_both(tmp_path, scan):
        assert complaints(require_tool("dciodvfy"), path) == []


def test_dciodvfy_would_complain(tmp_path, require_tool, scan):
    page, _ = write_both(tmp_path, scan)
    dataset = dcmread(page)
    del dataset.ConversionType
    dataset.save_as(page)
    assert any("ConversionType" in line for line in complaints(require_tool("dciodvfy"), page))


def test_what_was_written_is_read_again(tmp_path, scan):
    page, pdf = map(dcmread, write_both(tmp_path, scan))
    assert np.array_equal(page.pixel_array, PIXELS)
    assert (page.SOPClassUID.name, page.PhotometricInterpretation) == ("Secondary Capture Image Storage", "RGB")
    assert pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength] == PDF
    assert len(pdf.EncapsulatedDocument) % 2 == 0 != len(PDF) % 2
    assert pdf.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_both_belong_to_the_patient_and_the_study_and_each_to_a_series_of_its_own(tmp_path, scan):
    objects = [dcmread(path) for path in write_both(tmp_path, scan)]
    header = scan["ct"].header
    for one in objects:
        assert (one.PatientName, one.PatientSex, one.PatientID) == ("Doe^Jane", "F", "P1")
        assert one.StudyInstanceUID == header.study_uid
    assert len({header.series_uid, *(one.SeriesInstanceUID for one in objects)}) == 3
    referred = [
        {item.ReferencedSOPInstanceUID for item in items}
        for items in (objects[0].SourceImageSequence, objects[1].SourceInstanceSequence)
    ]
    assert referred == [{str(one.SOPInstanceUID) for one in scan["sources"]}] * 2


def test_a_name_in_the_picture_is_said_and_makes_another_object(tmp_path, scan):
    (tmp_path / "named").mkdir()
    plain = [dcmread(path) for path in write_both(tmp_path, scan)]
    named = [dcmread(path) for path in write_both(tmp_path / "named", scan, names_patient=True)]
    assert [one.BurnedInAnnotation for one in (*plain, *named)] == ["NO", "NO", "YES", "YES"]
    assert not {one.SOPInstanceUID for one in plain} & {one.SOPInstanceUID for one in named}


def test_pages_of_one_result_are_instances_of_one_series(tmp_path, scan):
    pages = [write_key_page(tmp_path / f"{n}.dcm", PIXELS, uids=UIDS, page=n, **scan) for n in (1, 2, 1)]
    assert [page.InstanceNumber for page in pages] == [1, 2, 1]
    assert len({page.SeriesInstanceUID for page in pages}) == 1
    assert pages[0].SOPInstanceUID == pages[2].SOPInstanceUID != pages[1].SOPInstanceUID
    later = write_key_page(tmp_path / "later.dcm", PIXELS, uids=replace(UIDS, number=2), page=1, **scan)
    assert later.InstanceNumber == 1001, "after every page of the version before"


def test_a_signed_document_is_verified_and_names_what_holds_its_numbers(tmp_path, scan):
    sr = write_key_page(tmp_path / "stands for the SR.dcm", PIXELS, uids=UIDS, **scan)
    write_pdf_object(tmp_path / "pdf.dcm", PDF, uids=UIDS, made_from=[sr], is_verified=True, **scan)
    pdf = dcmread(tmp_path / "pdf.dcm")
    assert pdf.VerificationFlag == "VERIFIED"
    assert sr.SOPInstanceUID in {item.ReferencedSOPInstanceUID for item in pdf.SourceInstanceSequence}


@pytest.mark.parametrize("scan", KINDS[:1], indirect=True)
def test_dcmtk_shows_the_page_and_hands_out_the_document(tmp_path, require_tool, scan):
    page, pdf = write_both(tmp_path, scan)
    subprocess.run([require_tool("dcmj2pnm"), "+on", page, tmp_path / "page.png"], check=True, timeout=60)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "page.png")), PIXELS)
    subprocess.run([require_tool("dcm2pdf"), pdf, tmp_path / "out.pdf"], check=True, timeout=60)
    assert (tmp_path / "out.pdf").read_bytes().rstrip(b"\0") == PDF


@pytest.mark.parametrize("scan", KINDS[:1], indirect=True)
def test_what_is_no_page_and_no_pdf_is_not_written(tmp_path, scan):
    with pytest.raises(ValueError, match=r"expected \(rows, columns, 3\) uint8, got \(31, 21\) uint8"):
        write_key_page(tmp_path / "page.dcm", PIXELS[..., 0], uids=UIDS, **scan)
    with pytest.raises(ValueError, match="expected a PDF, got 6 bytes"):
        write_pdf_object(tmp_path / "pdf.dcm", b"<html>", uids=UIDS, **scan)
    del scan["sources"][0].StudyInstanceUID
    with pytest.raises(NotWritten, match="no StudyInstanceUID"):
        write_key_page(tmp_path / "page.dcm", PIXELS, uids=UIDS, **scan)
    assert not list(tmp_path.glob("*.dcm"))
