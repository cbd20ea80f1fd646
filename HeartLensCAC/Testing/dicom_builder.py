"""Small CT series on disk for tests: classic, enhanced and converted, in every transfer syntax, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openjpeg
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    generate_uid,
)

Plane = tuple[tuple[int, int], tuple[int, int]]
"""((axis, sign), (axis, sign)) of an image's columns and rows: axis 0 runs left, 1 back, 2 to the head."""

AXIAL: Plane = ((0, 1), (1, 1))


def write_ct_series(
    folder: Path,
    hu: NDArray,
    *,
    spacing_mm: tuple[float, float, float] = (3.0, 0.5, 0.5),
    corner_lps_mm: tuple[float, float, float] = (-50.0, -60.0, -100.0),
    plane: Plane = AXIAL,
    syntax: str = ExplicitVRLittleEndian,
    edit: Callable[[Dataset, int], None] | None = None,
    names: Sequence[str] | None = None,
    **tags: Any,
) -> list[Path]:
    """Write HU as a series of single-frame CT files; the same volume whichever plane it is cut in.

    Parameters
    ----------
    folder : made when missing
    hu : (k, j, i) = (to the head, to the back, to the left), HU
    spacing_mm : in that order
    corner_lps_mm : position of voxel (0, 0, 0)
    plane : which way the columns and rows of each image run
    syntax : transfer syntax UID
    edit : changes the dataset of file n before it is written; None for the pixels removes them
    names : file names; by default 0000.dcm and so on
    tags : attributes of every file, None removes one; PixelRepresentation, RescaleSlope and so on apply to the pixels

    Returns
    -------
    paths, in the order of the files' slices
    """
    folder.mkdir(parents=True, exist_ok=True)
    step = np.array(spacing_mm[::-1])
    (i_axis, i_sign), (j_axis, j_sign) = plane
    k_axis = 3 - i_axis - j_axis
    directions = np.zeros((2, 3))
    directions[0, i_axis], directions[1, j_axis] = i_sign, j_sign
    images = np.transpose(hu, [2 - k_axis, 2 - j_axis, 2 - i_axis])
    images = images[:, :: int(j_sign), :: int(i_sign)]
    corner = np.array(corner_lps_mm, dtype=float)
    for axis, sign, n in ((i_axis, i_sign, images.shape[2]), (j_axis, j_sign, images.shape[1])):
        if sign < 0:
            corner[axis] += step[axis] * (n - 1)
    series, study, space = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for n, image in enumerate(images):
        position = corner.copy()
        position[k_axis] += step[k_axis] * n
        dataset = ct_dataset(image, tags)
        dataset.SeriesInstanceUID = tags.get("SeriesInstanceUID", series)
        dataset.StudyInstanceUID = tags.get("StudyInstanceUID", study)
        dataset.FrameOfReferenceUID = tags.get("FrameOfReferenceUID", space)
        dataset.InstanceNumber = len(images) - n
        dataset.ImagePositionPatient = [round(float(x), 6) for x in position]
        dataset.ImageOrientationPatient = [*directions[0].tolist(), *directions[1].tolist()]
        dataset.PixelSpacing = [float(step[j_axis]), float(step[i_axis])]
        if "SliceThickness" not in tags:
            dataset.SliceThickness = float(step[k_axis])
        if edit is not None:
            edit(dataset, n)
        path = folder / (names[n] if names else f"{n:04d}.dcm")
        write(dataset, path, syntax)
        paths.append(path)
    return paths


def ct_dataset(image: NDArray, tags: dict[str, Any]) -> Dataset:
    """A classic CT slice without its place in space."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.Manufacturer = "HeartLens test"
    dataset.ManufacturerModelName = "Phantom 1"
    dataset.PatientName = "Test^Phantom"
    dataset.PatientID = "P1"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.PatientAge = "063Y"
    dataset.StudyDate = "20240229"
    dataset.StudyTime = "101112"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.SeriesNumber = 2
    dataset.KVP = 120
    dataset.ConvolutionKernel = "B35f"
    dataset.PatientPosition = "HFS"
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.PixelRepresentation = 1
    dataset.RescaleSlope = 1
    dataset.RescaleIntercept = -1024
    dataset.RescaleType = "HU"
    for keyword, value in tags.items():
        if value is None:
            if keyword in dataset:
                delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.HighBit = tags.get("HighBit", dataset.BitsStored - 1)
    dataset.Rows, dataset.Columns = image.shape
    set_pixels(dataset, image)
    return dataset


def set_pixels(dataset: Dataset, hu: NDArray) -> None:
    """Store HU as the dataset's own rescale, sign and depth say; exact where the rescale allows."""
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    stored = np.rint((hu - intercept) / slope).astype(np.int64)
    kind = "i" if dataset.PixelRepresentation else "u"
    dtype = np.dtype(f"<{kind}{dataset.BitsAllocated // 8}")
    if stored.min() < np.iinfo(dtype).min or stored.max() > np.iinfo(dtype).max:
        raise ValueError(f"HU {hu.min()} to {hu.max()} do not fit into {dtype}")
    dataset.PixelData = stored.astype(dtype).tobytes()
    dataset["PixelData"].VR = "OW"


def write(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a dataset that holds uncompressed little-endian pixels in any transfer syntax."""
    source, dataset = dataset, Dataset()  # pydicom keeps what was read in the byte order it was read in
    for element in source:
        dataset.add(element)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    syntax = UID(syntax)
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        dataset.save_as(path, enforce_file_format=True)
        _change_syntax_with_gdcm(path, syntax)
        return
    if syntax in (JPEG2000, JPEG2000Lossless):
        ratios = [8] if syntax == JPEG2000 else None
        frames = [
            openjpeg.encode(np.ascontiguousarray(frame), bits_stored=dataset.BitsStored, compression_ratios=ratios)
            for frame in _frames(dataset)
        ]
        dataset.PixelData = encapsulate(frames)
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        if ratios:
            dataset.LossyImageCompression = "01"
    elif syntax.is_compressed and syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    else:
        if syntax == ExplicitVRBigEndian and "PixelData" in dataset:
            size = dataset.BitsAllocated // 8
            dataset.PixelData = np.frombuffer(dataset.PixelData, f"<u{size}").astype(f">u{size}").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)


def write_encoded(paths: Sequence[Path], streams: Sequence[bytes], syntax: str) -> None:
    """Put streams of an encoder that is not at hand into files."""
    for path, stream in zip(paths, streams, strict=True):
        dataset = dcmread(path)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.save_as(path)


def write_converted_ct(paths: Sequence[Path], target: Path) -> None:
    """Legacy Converted Enhanced CT of a classic series, by highdicom."""
    sources = [dcmread(path) for path in paths]
    for source in sources:
        source.PatientName = "Test^Phantom"  # highdicom warns of names without a caret
    LegacyConvertedEnhancedCTImage(
        legacy_datasets=sources,
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    ).save_as(target)


def write_enhanced_ct(paths: Sequence[Path], target: Path, *, syntax: str = ExplicitVRLittleEndian) -> None:
    """True Enhanced CT of a classic series: what all frames share once, the rest per frame; frames in files' order."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = [dcmread(path) for path in paths]
    first = sources[0]
    dataset = Dataset()
    for keyword in (
        "Modality", "Manufacturer", "ManufacturerModelName", "PatientName", "PatientID", "PatientBirthDate",
        "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyInstanceUID", "FrameOfReferenceUID", "Rows",
        "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
        "PixelRepresentation",
    ):  # fmt: skip
        setattr(dataset, keyword, first.get(keyword))
    dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.CardiacSynchronizationTechnique = "PROSPECTIVE"
    dataset.NumberOfFrames = len(sources)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=first.ImageOrientationPatient)]
    shared.CTXRayDetailsSequence = [_item(KVP=120.0, CalciumScoringMassFactorPatient=0.81)]
    field_mm = max(float(first.PixelSpacing[0]) * first.Rows, float(first.PixelSpacing[1]) * first.Columns)
    shared.CTReconstructionSequence = [_item(ConvolutionKernel="Qr36", ReconstructionDiameter=round(field_mm, 3))]
    shared.CTAcquisitionDetailsSequence = [_item(GantryDetectorTilt=0.0)]
    shared.CTImageFrameTypeSequence = [_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=source.ImagePositionPatient)],
            PixelValueTransformationSequence=[
                _item(
                    RescaleSlope=source.RescaleSlope, RescaleIntercept=source.RescaleIntercept, RescaleType="HU"
                )
            ],
        )
        for source in sources
    ]  # fmt: skip
    dataset.PixelData = b"".join(source.PixelData for source in sources)
    dataset["PixelData"].VR = "OW"
    write(dataset, target, syntax)


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _frames(dataset: Dataset) -> NDArray:
    kind = "i" if dataset.PixelRepresentation else "u"
    values = np.frombuffer(dataset.PixelData, f"<{kind}{dataset.BitsAllocated // 8}")
    return values.reshape(-1, dataset.Rows, dataset.Columns)


def _change_syntax_with_gdcm(path: Path, syntax: UID) -> None:
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise RuntimeError(f"gdcm cannot read {path}")
    kind = {
        JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }[syntax]
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise RuntimeError(f"gdcm cannot encode {syntax.name}")
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(path))
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise RuntimeError(f"gdcm cannot write {path}")
