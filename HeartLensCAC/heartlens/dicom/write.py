"""A CT volume as a classic DICOM series: one CT Image object a slice, with every attribute the standard asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from heartlens.core.ct import CTVolume

IMPLEMENTATION_UID = "2.25.158604720637431869153364208117925346481"
"""Names the writer in the file meta information (PS3.10 7.1); drawn once at random."""

_INTERCEPT = -1024
"""Stored values are unsigned; -1024 HU is 0, as most scanners store it."""

_STORED_MAXIMUM = 65535


def write_ct_series(
    folder: Path,
    ct: CTVolume,
    *,
    patient_name: str,
    patient_id: str,
    description: str,
    study_date: str = "20260101",
    study_time: str = "090000",
) -> list[Path]:
    """Write a volume as CT Image objects, slice 1 at the feet.

    Parameters
    ----------
    folder
        Exists; gets ``slice-0001.dcm`` and so on.
    ct
        int16; its header's UIDs become those of the files
    patient_name, patient_id
        Of nobody; a real patient's scan is never written by HeartLens.
    description
        Of study and series.
    study_date, study_time
        YYYYMMDD, HHMMSS

    Returns
    -------
    list[Path]
        The files, foot to head.

    Raises
    ------
    ValueError
        The volume has no UIDs, or HU that the pixels cannot hold.
    """
    header = ct.header
    if ct.hu.dtype != np.int16 or ct.hu.min() < _INTERCEPT or int(ct.hu.max()) - _INTERCEPT > _STORED_MAXIMUM:
        raise ValueError(f"expected int16 HU from {_INTERCEPT}, got {ct.hu.dtype} {ct.hu.min()} to {ct.hu.max()}")
    if not (header.study_uid and header.series_uid and header.frame_of_reference_uid and header.sop_instance_uids):
        raise ValueError("a series needs study, series, frame of reference and SOP instance UIDs; found none")
    common = _series_attributes(ct, patient_name, patient_id, description, study_date, study_time)
    affine, (dz, _, _) = ct.affine, ct.spacing_mm
    files = []
    for k, sop_uid in enumerate(header.sop_instance_uids):
        dataset = Dataset()
        dataset.update(common)
        position = affine[:3, 3] + k * affine[:3, 2]
        dataset.SOPInstanceUID = sop_uid
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [_decimal(v) for v in position]
        dataset.SliceLocation = _decimal(float(position @ affine[:3, 2] / dz))
        dataset.PixelData = (ct.hu[k].astype(np.int32) - _INTERCEPT).astype("<u2").tobytes()
        dataset.file_meta = _file_meta(sop_uid)
        path = folder / f"slice-{k + 1:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _series_attributes(
    ct: CTVolume, patient_name: str, patient_id: str, description: str, study_date: str, study_time: str
) -> Dataset:
    """What all slices share, module by module (PS3.3 A.3)."""
    header, affine = ct.header, ct.affine
    dz, dy, dx = ct.spacing_mm
    _, rows, columns = ct.shape
    d = Dataset()
    # Patient, General Study, Patient Study
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = (
        patient_name,
        patient_id,
        "",
        header.patient_sex or "",
    )
    if header.patient_age_years is not None:
        d.PatientAge = f"{int(header.patient_age_years):03d}Y"
    d.StudyInstanceUID, d.StudyID, d.AccessionNumber, d.ReferringPhysicianName = header.study_uid, "1", "", ""
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = study_date
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = study_time
    d.StudyDescription = d.SeriesDescription = d.ProtocolName = description
    # General Series, Frame of Reference, General Equipment
    d.Modality, d.SeriesInstanceUID, d.SeriesNumber = "CT", header.series_uid, 2
    d.BodyPartExamined = "HEART" if header.is_gated else "CHEST"
    d.PatientPosition = "HFS"
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = header.frame_of_reference_uid, ""
    d.Manufacturer, d.ManufacturerModelName = header.manufacturer or "", header.model or ""
    digest = hashlib.sha256((header.series_uid or "").encode()).hexdigest()
    d.DeviceSerialNumber, d.SoftwareVersions = digest[:8], "1"
    # General Image, Image Plane
    d.ImageType = list(header.image_type) or ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.AcquisitionNumber, d.PatientOrientation = 1, ["L", "P"]
    d.PixelSpacing = [_decimal(dy), _decimal(dx)]
    cosines = (affine[:3, :2] / [dx, dy]).T.ravel()
    d.ImageOrientationPatient = [_decimal(v) for v in cosines]
    d.SliceThickness = "" if header.slice_thickness_mm is None else _decimal(header.slice_thickness_mm)
    d.SpacingBetweenSlices = _decimal(dz)
    # Image Pixel
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = rows, columns
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    # CT Image
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = _INTERCEPT, 1, "HU"
    d.KVP = "" if header.kvp is None else _decimal(header.kvp)
    d.ConvolutionKernel = header.kernel or ""
    d.GantryDetectorTilt = 0
    if header.reconstruction_diameter_mm is not None:
        d.ReconstructionDiameter = _decimal(header.reconstruction_diameter_mm)
    if header.is_gated is not None:
        d.CardiacSynchronizationTechnique = "PROSPECTIVE" if header.is_gated else "NONE"
    if header.contrast is not None:
        d.ContrastBolusAgent = header.contrast or "NONE"
    # VOI LUT, SOP Common
    d.WindowCenter, d.WindowWidth = 40, 350
    d.SOPClassUID = CTImageStorage
    return d


def _file_meta(sop_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    return meta


def _decimal(value: float) -> str:
    """A Decimal String: at most 16 characters (PS3.5 6.2)."""
    value = float(value) + 0.0  # no minus zero
    text = repr(value)
    return text if len(text) <= 16 else f"{value:.10g}"
