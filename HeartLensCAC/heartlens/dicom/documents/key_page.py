"""DICOM Secondary Capture: the page of a result as pictures, one object a page, which every viewer shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTVolume
from heartlens.dicom.documents.envelope import SOURCE_PURPOSE, envelope, references
from heartlens.dicom.source.images import SourceImages, undisturbed
from heartlens.dicom.source.uids import ObjectUids

SERIES_NUMBER = 9003
SERIES_DESCRIPTION = "HeartLens key pages"


def write_key_page(
    path: str | Path,
    pixels: NDArray[np.uint8],
    *,
    ct: CTVolume,
    sources: Sequence[Dataset],
    uids: ObjectUids,
    page: int = 1,
    names_patient: bool = False,
) -> Dataset:
    """Write one page as a single-frame color image; several frames would be a film in some viewers.

    Parameters
    ----------
    path
        File to write.
    pixels
        (rows, columns, 3) red, green, blue
    ct
        The scan that was scored.
    sources
        Headers of the images that `ct` was read from, one per slice.
    uids
        Of this version of the result.
    page
        Counted from 1.
    names_patient
        The pixels show who was scanned.

    Returns
    -------
    Dataset
        The image.

    Raises
    ------
    NotWritten
        The images cannot be referred to.
    ValueError
        Pixels that are no colors.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"expected (rows, columns, 3) uint8, got {pixels.shape} {pixels.dtype}")
    images = SourceImages(ct, sources)
    with undisturbed():
        image = envelope(
            images,
            uids,
            kind="key page",
            sop_class_uid=SecondaryCaptureImageStorage,
            modality="OT",
            series_number=SERIES_NUMBER,
            series_description=SERIES_DESCRIPTION,
            page=page,
            names_patient=names_patient,
        )
        image.ImageType = ["DERIVED", "SECONDARY"]
        image.DerivationDescription = "Page of a calcium report; research use, not for diagnosis"
        image.SourceImageSequence = references(images.images, SOURCE_PURPOSE)
        image.BodyPartExamined = "HEART"  # which is no pair, and needs no laterality
        image.PatientOrientation = ""
        image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = image.ContentDate, image.ContentTime
        image.Rows, image.Columns = pixels.shape[:2]
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
        data = np.ascontiguousarray(pixels).tobytes()
        image.PixelData = data + b"\0" * (len(data) % 2)
        with atomic_file(Path(path)) as sibling:
            image.save_as(sibling)
    return image
