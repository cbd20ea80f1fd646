"""DICOM Segmentation: scored calcium per artery, on the pixels of the source images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from heartlens import __version__
from heartlens.core.atomic import atomic_file
from heartlens.core.codes import CALCIFICATION, CATEGORY, PLAQUE, REGIONS, Code
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.grid import ijk_of, index_map
from heartlens.core.lesions import ARTERY_COLORS, Artery
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.core.segment_names import put_artery, segment_artery
from heartlens.dicom.compressed import HEADER_BYTES, opened
from heartlens.dicom.header import PARSE_ERRORS, pydicom_warnings_logged
from heartlens.dicom.source.attributes import CHARACTER_SET
from heartlens.dicom.source.images import (
    FRAME_TOLERANCE,
    MANUFACTURER,
    MODEL,
    SERIAL_NUMBER,
    SourceImages,
    StoredFrame,
    concept,
    group_value,
    plane_affine,
    undisturbed,
)
from heartlens.dicom.source.uids import ObjectUids, unrelated_uids
from heartlens.dicom.stacks.patient import patient_mark

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"

ALGORITHM = "HeartLens coronary calcium"
_BY_NETWORKS = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
_BY_THRESHOLD = Code("123105", "DCM", "Histogram Analysis")  # CID 7162: thresholding; the closest there is

MOST_VOXELS = 1 << 32
"""Of all frames together: six segments of 2,700 slices of 512 x 512."""

LONGEST_NAME = 64
"""Characters of a long string, PS3.5 6.2."""

SERIES_NUMBER = 9001
SERIES_DESCRIPTION = "HeartLens coronary calcium"


def write_seg(
    path: str | Path,
    *,
    ct: CTVolume,
    codes: NDArray[np.uint8],
    sources: Sequence[Dataset],
    algorithm_type: str = "AUTOMATIC",
    provenance: Provenance | None = None,
    reader: str | None = None,
    uids: ObjectUids | None = None,
) -> Dataset | None:
    """Write one binary segment per artery that has voxels.

    Parameters
    ----------
    path
        File to write.
    ct
        The scan that is segmented.
    codes
        (k, j, i) `Artery` codes of the scored voxels, 0 elsewhere
    sources
        Headers of the images that `ct` was read from, one per slice.
    algorithm_type
        AUTOMATIC, SEMIAUTOMATIC after edits and for labels that were given, MANUAL
    provenance
        What found the calcium; networks are named with their bundle, its version and checksums.
    reader
        Who has signed.
    uids
        Of the object and of its segments, which are known by them in a later version, too; None draws new ones.

    Returns
    -------
    Dataset | None
        The segmentation, for the report to refer to; None, and no file, when there are no voxels.
    """
    if codes.shape != ct.shape:
        raise ValueError(f"codes must have the shape of the CT, {ct.shape}, got {codes.shape}")
    present = np.flatnonzero(np.bincount(codes[codes != 0], minlength=max(Artery) + 1))
    if present.size == 0:
        return None
    import highdicom as hd

    images = SourceImages(ct, sources)
    uids = uids or unrelated_uids()
    algorithm = None if algorithm_type == "MANUAL" else _algorithm(provenance)
    arteries = [Artery(int(code)) for code in present]
    number_of = np.zeros(max(Artery) + 1, np.uint8)
    number_of[present] = np.arange(1, present.size + 1)
    with undisturbed():
        where = _where_for_highdicom(images, list(images.stored(number_of[codes])))
        seg = hd.seg.Segmentation(
            segmentation_type="BINARY",
            segment_descriptions=[
                _description(number, artery, algorithm_type, algorithm, uids.finding(artery.name))
                for number, artery in enumerate(arteries, 1)
            ],
            series_instance_uid=uids.series("seg"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids.instance("seg"),
            instance_number=uids.number,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=SERIAL_NUMBER,
            content_label="CALCIUM",
            content_description="Scored coronary calcium; research use, not for diagnosis",
            content_creator_name=reader,
            series_description=SERIES_DESCRIPTION,
            **where,
        )
        seg.SpecificCharacterSet = CHARACTER_SET
        with atomic_file(Path(path)) as sibling:
            seg.save_as(sibling)
    return seg


def read_seg(path: str | Path, ct: CTVolume) -> NDArray[np.uint8]:
    """Read a DICOM Segmentation made by HeartLens or by another program.

    Returns
    -------
    NDArray[np.uint8]
        (k, j, i) `Artery` codes on the grid of `ct`, 0 where nothing is labeled

    Raises
    ------
    InputRefused
        ``grid``, ``labels`` or ``unreadable``
    """
    path = Path(path)
    try:
        with pydicom_warnings_logged():
            seg, pixels = _read(path)
            return _placed(path, seg, pixels, ct)
    except PARSE_ERRORS as error:  # its text is not repeated: it may quote the patient's name
        raise InputRefused(
            "unreadable",
            f"{path}: expected a DICOM Segmentation with segment and place of every frame, found a damaged file "
            f"({type(error).__name__}); export it again",
        ) from None


def origin_cautions(path: Path, ct: CTVolume, patients: frozenset[str]) -> list[WarningRecord]:
    """Whether a segmentation was made on this CT, by what it says it was made on.

    Parameters
    ----------
    path
        A DICOM file.
    ct
        The scan that is scored.
    patients
        Marks of whose the scan is; see `heartlens.dicom.stacks.patient`.

    Raises
    ------
    InputRefused
        ``labels``: it was made on another study, or on another patient's images
    """
    with pydicom_warnings_logged(), opened(path) as (file, _):
        try:
            seg = dcmread(file, stop_before_pixels=True)
            named = {
                str(item.ReferencedSOPInstanceUID)
                for series in seg.get("ReferencedSeriesSequence") or []
                for item in series.get("ReferencedInstanceSequence") or []
            }
            series_uids = {str(series.SeriesInstanceUID) for series in seg.get("ReferencedSeriesSequence") or []}
            is_same_patient = patient_mark(seg.get) in patients
            study_uid = str(seg.get("StudyInstanceUID") or "")
        except PARSE_ERRORS:
            return []  # reading its voxels says what is damaged
    if named & set(ct.header.sop_instance_uids):
        # The images are these. Patients then differ where one of the two was de-identified with its UIDs kept.
        text = "the segmentation names these images and another patient than they do; is one of them de-identified?"
        return [] if is_same_patient else [WarningRecord("labels", text)]
    if ct.header.study_uid and study_uid != ct.header.study_uid:
        what = "the study" if is_same_patient else "patient and study"
        raise InputRefused(
            "labels",
            f"{path}: expected {what} of the CT, found a segmentation of another one that names none of these images; "
            "give the CT it was made on, or export it as a label map on this one",
        )
    if not is_same_patient:
        raise InputRefused(
            "labels", f"{path}: expected the patient of the CT, found another; give the CT it was made on"
        )
    if named and ct.header.series_uid not in series_uids:
        text = "the segmentation was made on another series of this study: do its labels lie on this one?"
        return [WarningRecord("labels", text)]
    return []


def _placed(path: Path, seg: Dataset, pixels: NDArray, ct: CTVolume) -> NDArray[np.uint8]:
    """(k, j, i) `Artery` codes of the frames of a segmentation."""
    theirs, ours = seg.get("FrameOfReferenceUID"), ct.header.frame_of_reference_uid
    if theirs and ours and theirs != ours:
        raise InputRefused(
            "grid",
            f"{path}: expected the frame of reference of the CT, found another (0020,0052); it was made on "
            "another scan",
        )
    is_label_map = seg.SOPClassUID == LABEL_MAP_STORAGE
    described = {int(item.SegmentNumber): item for item in seg.get("SegmentSequence", [])}
    shared = list(seg.get("SharedFunctionalGroupsSequence") or [])
    per_frame = seg.get("PerFrameFunctionalGroupsSequence") or []
    if len(per_frame) != len(pixels):
        raise ValueError(f"{len(pixels)} frames, {len(per_frame)} descriptions")
    arteries: dict[int, Artery] = {}
    codes = np.zeros(ct.shape, np.uint8)
    for frame, group in zip(pixels, per_frame, strict=True):
        groups = [group, *shared]
        if is_label_map:
            numbers = [int(n) for n in np.unique(frame) if n]
        else:
            numbers = [int(group_value(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber"))]
        for number in numbers:
            labeled = frame == number if is_label_map else frame != 0
            flat = np.flatnonzero(labeled)
            if flat.size == 0:
                continue
            if number not in arteries:
                arteries[number] = _artery(described.get(number), number, path)
            rows, columns = frame.shape
            affine = plane_affine(groups, ct)
            mapping = index_map((1, rows, columns), affine, ct, f"{path}, a frame", tolerance=FRAME_TOLERANCE)
            flat = mapping.flat(ijk_of(flat, (1, rows, columns)), ct, str(path))
            put_artery(codes.reshape(-1), flat, arteries[number], path)
    return codes


def _where_for_highdicom(images: SourceImages, frames: Sequence[StoredFrame]) -> dict[str, Any]:
    """Source images, pixels and their places, the way highdicom wants them."""
    import highdicom as hd

    planes = np.stack([frame.plane for frame in frames])
    used = [images.described(frames[0].image), *(images.images[frame.image] for frame in frames[1:])]
    if frames[0].number is None:
        return {"source_images": used, "pixel_array": planes}
    if len(images.images) == 1:
        # highdicom expects an array for all frames of a multi-frame image and drops the empty ones.
        image = used[0]
        pixels = np.zeros((int(image.NumberOfFrames), *planes.shape[1:]), np.uint8)
        pixels[[frame.number - 1 for frame in frames if frame.number is not None]] = planes
        return {"source_images": [image], "pixel_array": pixels, "pixel_measures": _pixel_measures(images)}
    # Slices spread over several multi-frame images: highdicom takes one, so places are said and the others named.
    positions = [images.affine_of(frame.image, frame.number)[:3, 3] for frame in frames]
    return {
        "source_images": [used[0]],
        "further_source_images": [x for n, x in enumerate(images.images) if n != frames[0].image],
        "pixel_array": planes,
        "plane_positions": [hd.PlanePositionSequence("PATIENT", tuple(position)) for position in positions],
        "pixel_measures": _pixel_measures(images),
    }


def _pixel_measures(images: SourceImages) -> Any:
    """Pixel size and slice thickness of a multi-frame image, said anew: its own may lack the thickness."""
    import highdicom as hd

    ct = images.ct
    spacing = np.linalg.norm(images.affine_of(0, 1)[:3, :2], axis=0)[::-1]
    return hd.PixelMeasuresSequence(
        pixel_spacing=tuple(spacing), slice_thickness=ct.header.slice_thickness_mm or ct.increment_mm
    )


def _algorithm(provenance: Provenance | None) -> Any:
    """What found the calcium: networks by bundle, version and checksums, else the threshold."""
    import highdicom as hd

    if provenance is None or provenance.labels is not LabelSource.NETWORK or not provenance.bundle:
        return hd.AlgorithmIdentificationSequence(
            name=ALGORITHM, family=concept(_BY_THRESHOLD), version=__version__, source=MANUFACTURER
        )
    name, _, version = provenance.bundle.rpartition(" ")
    checksums = {f"SHA-256 {file}": value for file, value in sorted(provenance.checksums.items())}
    return hd.AlgorithmIdentificationSequence(
        name=(name or version)[:LONGEST_NAME],
        family=concept(_BY_NETWORKS),
        version=version[:LONGEST_NAME],
        source=MANUFACTURER,
        parameters=checksums or None,
    )


def _description(number: int, artery: Artery, algorithm_type: str, algorithm: Any, tracking_uid: str) -> Dataset:
    import highdicom as hd

    region = REGIONS.get(artery)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=artery.name,
        segmented_property_category=concept(CATEGORY),
        segmented_property_type=concept(CALCIFICATION if region is None else PLAQUE),
        algorithm_type=algorithm_type,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid,
        tracking_id=artery.name,
        anatomic_regions=None if region is None else [concept(region)],
        display_color=hd.color.CIELabColor.from_string(ARTERY_COLORS[artery]),
    )


def _read(path: Path) -> tuple[Dataset, NDArray]:
    """The dataset and its frames, (frame, row, column)."""
    with opened(path) as (file, _):
        header = dcmread(file, stop_before_pixels=True)
    voxels = math.prod(int(header.get(keyword) or 1) for keyword in ("NumberOfFrames", "Rows", "Columns"))
    if voxels > MOST_VOXELS:
        raise ValueError(f"{voxels} voxels")
    with opened(path, HEADER_BYTES + 2 * voxels) as (file, _):
        seg = dcmread(file)
    if seg.get("SOPClassUID") not in (SEGMENTATION_STORAGE, LABEL_MAP_STORAGE):
        actual = getattr(seg.get("SOPClassUID"), "name", "no SOP class")
        raise InputRefused(
            "labels", f"{path}: expected a DICOM Segmentation, found {actual}; give a SEG or a label map"
        )
    try:
        pixels = seg.pixel_array.reshape(-1, int(seg.Rows), int(seg.Columns))
    except PARSE_ERRORS as error:
        actual = f"frames that cannot be decoded ({type(error).__name__})"
        raise InputRefused("truncated", f"{path}: expected whole frames, found {actual}; copy the file again") from None
    if seg.get("SegmentationType") == "FRACTIONAL" and not np.isin(pixels, (0, seg.MaximumFractionalValue)).all():
        raise InputRefused(
            "labels",
            f"{path}: expected every voxel in or out of a segment, found fractions (SegmentationType FRACTIONAL); "
            "export a binary segmentation",
        )
    return seg, pixels


def _artery(segment: Dataset | None, number: int, path: Path) -> Artery:
    if segment is None:
        raise InputRefused(
            "labels", f"{path}: frames refer to segment {number}, which is not described; export it again"
        )
    codes = [
        (str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeValue", "")))
        for sequence in ("AnatomicRegionSequence", "SegmentedPropertyTypeCodeSequence")
        for item in segment.get(sequence) or []
    ]
    return segment_artery(path, str(segment.get("SegmentLabel", "")), codes)
