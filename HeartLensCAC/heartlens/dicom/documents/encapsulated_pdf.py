"""DICOM Encapsulated PDF: the page of a result as a document that a PACS stores beside the scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from heartlens.core.atomic import atomic_file
from heartlens.core.codes import Code
from heartlens.core.ct import CTVolume
from heartlens.dicom.documents.envelope import envelope, references
from heartlens.dicom.source.images import SourceImages, concept, undisturbed
from heartlens.dicom.source.uids import ObjectUids

SERIES_NUMBER = 9004
SERIES_DESCRIPTION = "HeartLens report"
TITLE = "Coronary calcium report; research use, not for diagnosis"
CONCEPT = Code("18747-6", "LN", "CT Report")  # CID 7000


def write_pdf_object(
    path: str | Path,
    pdf: bytes,
    *,
    ct: CTVolume,
    sources: Sequence[Dataset],
    uids: ObjectUids,
    made_from: Sequence[Dataset] = (),
    names_patient: bool = False,
    is_verified: bool = False,
) -> Dataset:
    """Put a PDF into a DICOM object.

    Parameters
    ----------
    path
        File to write.
    pdf
        The whole file.
    ct
        The scan that was scored.
    sources
        Headers of the images that `ct` was read from, one per slice.
    uids
        Of this version of the result.
    made_from
        Further objects that hold what the document says, such as the SR.
    names_patient
        The document shows who was scanned.
    is_verified
        Somebody has signed what it says.

    Returns
    -------
    Dataset
        The object.

    Raises
    ------
    NotWritten
        The images cannot be referred to.
    ValueError
        It is no PDF.
    """
    if not pdf.startswith(b"%PDF-"):
        raise ValueError(f"expected a PDF, got {len(pdf)} bytes that begin with {pdf[:8]!r}")
    images = SourceImages(ct, sources)
    with undisturbed():
        document = envelope(
            images,
            uids,
            kind="PDF",
            sop_class_uid=EncapsulatedPDFStorage,
            modality="DOC",
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            names_patient=names_patient,
        )
        document.AcquisitionDateTime = ""
        document.DocumentTitle = TITLE
        document.ConceptNameCodeSequence = [concept(CONCEPT)]
        document.VerificationFlag = "VERIFIED" if is_verified else "UNVERIFIED"
        document.SourceInstanceSequence = references([*images.images, *made_from])
        document.MIMETypeOfEncapsulatedDocument = "application/pdf"
        document.EncapsulatedDocumentLength = len(pdf)
        document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
        with atomic_file(Path(path)) as sibling:
            document.save_as(sibling)
    return document
