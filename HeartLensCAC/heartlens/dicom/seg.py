"""DICOM Segmentation: scored calcium per artery, on the pixels of the source images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from heartlens import __version__
from heartlens.ct import CTVolume
from heartlens.dicom.codes import CALCIFICATION, CATEGORY, PLAQUE, REGIONS, Code
from heartlens.dicom.source import MANUFACTURER, MODEL, SERIAL_NUMBER, SourceImages, quiet
from heartlens.grid import ijk_of, index_map
from heartlens.lesions import ARTERY_COLORS, Artery
from heartlens.refusal import Refused
from heartlens.segments import put_artery, segment_artery
from heartlens.whole_file import whole_file

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"

ALGORITHM = "HeartLens coronary calcium"
_FAMILIES = {
    "AUTOMATIC": Code("123105", "DCM", "Histogram Analysis"),  # CID 7162: thresholding; the closest there is
    "SEMIAUTOMATIC": Code("123105", "DCM", "Histogram Analysis"),
}

SERIES_NUMBER = 9001
SERIES_DESCRIPTION = "HeartLens coronary calcium"


def write_seg(
    path: str | Path,
    *,
    ct: CTVolume,
    codes: NDArray[np.uint8],
    sources: Sequence[Dataset],
    algorithm_type: str = "AUTOMATIC",
    tracking_uids: Mapping[Artery, str] | None = None,
) -> Dataset | None:
    """Write one binary segment per artery that has voxels.

    Parameters
    ----------
    codes : (k, j, i) `Artery` codes of the scored voxels, 0 elsewhere
    sources : headers of the images that `ct` was read from, one per slice
    algorithm_type : AUTOMATIC, SEMIAUTOMATIC after edits, MANUAL
    tracking_uids : of segments that were written before, so that a later version refers to the same findings

    Returns
    -------
    The segmentation, for the report to refer to; None, and no file, when there are no voxels
    """
    if codes.shape != ct.shape:
        raise ValueError(f"codes must have the shape of the CT, {ct.shape}, got {codes.shape}")
    slices = np.flatnonzero(codes.reshape(codes.shape[0], -1).any(axis=1))
    if slices.size == 0:
        return None
    import highdicom as hd

    images = SourceImages(ct, sources)
    arteries = [artery for artery in Artery if (codes[slices] == artery).any()]
    number_of = np.zeros(max(Artery) + 1, np.uint8)
    for number, artery in enumerate(arteries, 1):
        number_of[artery] = number
    frames = {int(k): number_of[images.stored(codes, int(k))] for k in slices}
    source_images, pixels, places = _frames_for_highdicom(images, frames)
    with quiet():
        seg = hd.seg.Segmentation(
            source_images=source_images,
            pixel_array=pixels,
            segmentation_type="BINARY",
            segment_descriptions=[
                _description(number, artery, algorithm_type, (tracking_uids or {}).get(artery))
                for number, artery in enumerate(arteries, 1)
            ],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=SERIAL_NUMBER,
            content_label="CALCIUM",
            content_description="Scored coronary calcium; research use, not for diagnosis",
            series_description=SERIES_DESCRIPTION,
            **places,
        )
    with quiet(), whole_file(Path(path)) as sibling:
        seg.save_as(sibling)
    return seg


def read_seg(path: str | Path, ct: CTVolume) -> NDArray[np.uint8]:
    """Read a DICOM Segmentation made by HeartLens or by another program.

    Returns
    -------
    (k, j, i) `Artery` codes on the grid of `ct`, 0 where nothing is labelled

    Raises
    ------
    Refused : ``grid``, ``labels`` or ``unreadable``
    """
    path = Path(path)
    seg, pixels = _read(path)
    theirs, ours = seg.get("FrameOfReferenceUID"), ct.header.frame_of_reference_uid
    if theirs and ours and theirs != ours:
        raise Refused(
            "grid",
            f"{path}: expected the frame of reference of the CT, found another (0020,0052); it was made on "
            "another scan",
        )
    described = {int(item.SegmentNumber): item for item in seg.get("SegmentSequence", [])}
    shared = list(seg.get("SharedFunctionalGroupsSequence") or [])
    per_frame = seg.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) != len(pixels):
        raise Refused("unreadable", f"{path}: expected {len(pixels)} frame descriptions, found {len(per_frame)}")
    arteries: dict[int, Artery] = {}
    codes = np.zeros(ct.shape, np.uint8)
    for frame, group in zip(pixels, per_frame, strict=True):
        groups = [group, *shared]
        if seg.SOPClassUID == LABEL_MAP_STORAGE:
            numbers = [int(n) for n in np.unique(frame) if n]
        else:
            numbers = [int(_value(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber", path))]
        for number in numbers:
            labelled = frame == number if seg.SOPClassUID == LABEL_MAP_STORAGE else frame != 0
            flat = np.flatnonzero(labelled)
            if flat.size == 0:
                continue
            if number not in arteries:
                arteries[number] = _artery(described.get(number), number, path)
            affine = _frame_affine(groups, ct, path)
            rows, columns = frame.shape
            mapping = index_map((1, rows, columns), affine, ct, f"{path}, a frame")
            flat = mapping.flat(ijk_of(flat, (1, rows, columns)), ct, str(path))
            put_artery(codes.reshape(-1), flat, arteries[number], path)
    return codes


def _frames_for_highdicom(
    images: SourceImages, frames: Mapping[int, NDArray[np.uint8]]
) -> tuple[list[Dataset], NDArray[np.uint8], dict[str, Any]]:
    """Source images, (frame, row, column) segment numbers and their places, the way highdicom wants them."""
    if not images.is_multiframe:
        return [images.images[images.slices[k][0]] for k in frames], np.stack(list(frames.values())), {}
    # One multi-frame image: highdicom expects an array for all of its frames and drops the empty ones.
    image = images.images[images.slices[next(iter(frames))][0]]
    pixels = np.zeros((int(image.NumberOfFrames), int(image.Rows), int(image.Columns)), np.uint8)
    for k, plane in frames.items():
        number = images.slices[k][1]
        assert number is not None
        pixels[number - 1] = plane
    return [image], pixels, {}


def _description(number: int, artery: Artery, algorithm_type: str, tracking_uid: str | None) -> Dataset:
    import highdicom as hd

    algorithm = None
    if algorithm_type in _FAMILIES:
        algorithm = hd.AlgorithmIdentificationSequence(
            name=ALGORITHM, family=_concept(_FAMILIES[algorithm_type]), version=__version__, source=MANUFACTURER
        )
    region = REGIONS.get(artery)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=artery.name,
        segmented_property_category=_concept(CATEGORY),
        segmented_property_type=_concept(CALCIFICATION if region is None else PLAQUE),
        algorithm_type=algorithm_type,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid or hd.UID(),
        tracking_id=artery.name,
        anatomic_regions=None if region is None else [_concept(region)],
        display_color=hd.color.CIELabColor.from_string(ARTERY_COLORS[artery]),
    )


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _read(path: Path) -> tuple[Dataset, NDArray]:
    """The dataset and its frames, (frame, row, column)."""
    try:
        seg = pydicom.dcmread(path)
    except OSError as error:
        raise Refused("input", f"cannot read {path}: {error.strerror or error}; check the path") from None
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise Refused("unreadable", f"{path}: expected a DICOM file, found: {error}; copy it again") from None
    if seg.get("SOPClassUID") not in (SEGMENTATION_STORAGE, LABEL_MAP_STORAGE):
        found = getattr(seg.get("SOPClassUID"), "name", "no SOP class")
        raise Refused("labels", f"{path}: expected a DICOM Segmentation, found {found}; give a SEG or a label map")
    try:
        pixels = seg.pixel_array
    except Exception as error:
        raise Refused("truncated", f"{path}: the frames cannot be decoded ({error}); copy the file again") from None
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if seg.get("SegmentationType") == "FRACTIONAL" and not np.isin(pixels, (0, seg.MaximumFractionalValue)).all():
        raise Refused(
            "labels",
            f"{path}: expected every voxel in or out of a segment, found fractions (SegmentationType FRACTIONAL); "
            "export a binary segmentation",
        )
    return seg, pixels


def _artery(segment: Dataset | None, number: int, path: Path) -> Artery:
    if segment is None:
        raise Refused("labels", f"{path}: frames refer to segment {number}, which is not described; export it again")
    regions = [
        str(item.get("CodeValue", ""))
        for item in segment.get("AnatomicRegionSequence") or []
        if item.get("CodingSchemeDesignator") == "SCT"
    ]
    return segment_artery(path, str(segment.get("SegmentLabel", "")), regions)


def _frame_affine(groups: Sequence[Dataset], ct: CTVolume, path: Path) -> NDArray[np.float64]:
    orientation = np.array(
        _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient", path), dtype=np.float64
    )
    dy, dx = (float(d) for d in _value(groups, "PixelMeasuresSequence", "PixelSpacing", path))
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * dx
    affine[:3, 1] = orientation[3:] * dy
    affine[:3, 2] = np.cross(orientation[:3], orientation[3:]) * ct.increment_mm
    affine[:3, 3] = [float(x) for x in _value(groups, "PlanePositionSequence", "ImagePositionPatient", path)]
    return affine


def _value(groups: Sequence[Dataset], sequence: str, keyword: str, path: Path) -> Any:
    for group in groups:
        items = group.get(sequence)
        if items and keyword in items[0]:
            return items[0][keyword].value
    raise Refused("unreadable", f"{path}: expected {keyword} for every frame, found none; export it again")
