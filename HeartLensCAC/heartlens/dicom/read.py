"""Read one CT series into HU: gates first, then voxels, in the order of their positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from pydicom.dataset import Dataset

from heartlens.core.ct import CTHeader, CTVolume, canonical_axes
from heartlens.core.errors import InputRefused, WarningRecord, refuse_or_warn
from heartlens.dicom import words
from heartlens.dicom.acquisition import ct_header
from heartlens.dicom.header import Frame, one_line, pydicom_warnings_logged, whole_header
from heartlens.dicom.pixels import is_lossy, stored_frames
from heartlens.dicom.slices.agreement import agreement_cautions, require_explained_rescale
from heartlens.dicom.slices.hu_stack import HUStack, padding_range
from heartlens.dicom.stack import Stack, stack_slices
from heartlens.dicom.stacks.series import Series

NUMBERS = (
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "RescaleSlope",
    "RescaleIntercept", "KVP", "GantryDetectorTilt",
)  # fmt: skip
"""What is read as numbers, whatever the spelling."""

PRONE = frozenset({"HFP", "FFP"})
"""PatientPosition of people who lie on their face; PS3.3 C.7.3.1.1.2."""


def read_series(
    series: Series,
    *,
    allow: frozenset[str] = frozenset(),
    kvp: float | None = None,
    slice_thickness_mm: float | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[CTVolume, list[WarningRecord]]:
    """Read a series into a volume, or refuse it with the slice or tag that stands in the way.

    Parameters
    ----------
    series
        From `heartlens.dicom.series`.
    allow
        Refusals lifted by the user; each becomes a caution.
    kvp
        kV, what the user says the tube voltage was
    slice_thickness_mm
        mm, what the user says the slice thickness was
    on_progress
        Hears before each slice which part of them is read.

    Returns
    -------
    ct : CTVolume
        HU and geometry, slices foot to head
    cautions : list[WarningRecord]
        allowed refusals, and what every gate that lets the series through has to say

    Raises
    ------
    InputRefused
        See spec 6.1; "truncated" and "unreadable" name the file.
    """
    with pydicom_warnings_logged():
        frames, stack, slopes, cautions = _through_the_gates(series, allow, slice_thickness_mm)
        hu = _read_hu(frames, stack.order, slopes, on_progress or (lambda done: None))
        require_explained_rescale(frames, slopes, stack.order, hu)
        hu, affine = canonical_axes(hu, stack.affine)
        if not hu.flags.c_contiguous:
            hu = np.ascontiguousarray(hu)
        ordered = [frames[n] for n in stack.order]
        # Rows of an image that is not axial run head to foot: then no array slice is a DICOM slice.
        slices_kept = np.argmax(np.abs(stack.affine[:3, 2])) == 2
        uids = [words.one_uid(frame.instance.value("SOPInstanceUID")) or "" for frame in ordered] if slices_kept else []
        header = ct_header(
            ordered,
            sop_instance_uids=uids if _tell_apart(uids, ordered) else [],
            frame_numbers=[frame.number for frame in ordered] if slices_kept and frames[0].groups else [],
        )
    header, given_values = _user_values(header, kvp, slice_thickness_mm)
    try:
        ct = CTVolume(hu, affine, header, allow_oblique="not-axial" in allow)
    except ValueError as error:  # planes halfway between two axes, which no gate above can put in order
        raise InputRefused("not-axial", f"{ordered[0].name}: {one_line(error)}; choose the axial series") from error
    return ct, cautions + given_values


def header_verdict(
    series: Series, allow: frozenset[str] = frozenset()
) -> tuple[InputRefused | None, list[WarningRecord]]:
    """What reading a series would say before it looks at a pixel: its refusal, or None and its cautions."""
    with pydicom_warnings_logged():
        try:
            *_, cautions = _through_the_gates(series, allow, None)
        except InputRefused as refusal:
            return refusal, []
    return None, cautions


def _through_the_gates(
    series: Series, allow: frozenset[str], slice_thickness_mm: float | None
) -> tuple[list[Frame], Stack, list[tuple[float, float]], list[WarningRecord]]:
    """Slices, their order, slope and intercept of each, and what is to be said; the first gate that is shut refuses."""
    frames = _ct_frames(series)
    cautions = [*series.cautions, *_image_type_cautions(frames, allow)]
    stack = stack_slices(frames, allow=allow, slice_thickness_mm=slice_thickness_mm)
    cautions += stack.cautions
    cautions += _contrast_cautions(frames, allow)
    slopes, hu_cautions = _rescale(frames, allow)
    cautions += hu_cautions
    cautions += _acquisition_cautions(frames) + _spelling_cautions(frames) + agreement_cautions(frames)
    return frames, stack, slopes, cautions


def _tell_apart(uids: Sequence[str], frames: Sequence[Frame]) -> bool:
    """Whether SOP Instance UIDs name the files that slices came from: every file has one, and one of its own."""
    return all(uids) and len(set(uids)) == len({id(frame.instance) for frame in frames})


def source_datasets(series: Series, ct: CTVolume) -> list[Dataset]:
    """Whole headers without pixel data of the files a volume came from, for writers of SEG and SR.

    Parameters
    ----------
    series
        What was read.
    ct
        What `read_series` made of it.

    Returns
    -------
    list[Dataset]
        One dataset per slice of `ct`, foot to head; one per file for multi-frame CT, and where `ct` names no slices.
    """
    files = {words.one_uid(instance.value("SOPInstanceUID")): instance.path for instance in series.instances}
    wanted = dict.fromkeys(ct.header.sop_instance_uids)  # keeps the order, drops the repeats of multi-frame CT
    paths = [files[uid] for uid in wanted if uid in files] if wanted else list(series.files)
    if len(paths) != (len(wanted) or len(series.files)):
        raise ValueError("the volume was not read from this series: its SOP Instance UIDs are not among the files")
    with pydicom_warnings_logged():
        try:
            return [whole_header(path) for path in paths]
        except InputRefused as refusal:
            raise InputRefused(
                refusal.code, f"a file of the series has changed since it was read: {refusal.text}"
            ) from refusal


def _ct_frames(series: Series) -> list[Frame]:
    if not series.is_ct:
        raise InputRefused(
            "modality", f"series {series.series_uid} is not CT: expected CT images, found {series.modality}"
        )
    if len(series.patient_keys) > 1:
        raise InputRefused(
            "ambiguous", f"series {series.series_uid} holds slices of {len(series.patient_keys)} patients, expected one"
        )
    for instance in series.instances:
        if instance.ends_early:
            raise InputRefused("truncated", f"{instance.name} ends before its pixel data (7FE0,0010); copy it again")
    return list(series.frames)


def _image_type_cautions(frames: Sequence[Frame], allow: frozenset[str]) -> list[WarningRecord]:
    """Spec 6.1: localizers, projections and reformats are no stack of scanned slices."""
    for frame in frames:
        if part := words.derived_type(frame.image_type):
            text = (
                f"ImageType (0008,0008) says {part}: not a stack of scanned slices, expected ORIGINAL or "
                f"DERIVED\\PRIMARY; choose the axial series"
            )
            found = words.joined(frame.image_type)
            return [refuse_or_warn("derived", text, allow, where=frame.name, found=found)]
    if any(frame.image_type[:1] == ("DERIVED",) for frame in frames):
        text = "ImageType (0008,0008) says DERIVED: slices were computed from other slices"
        return [WarningRecord("reformatted", text)]
    return []


def _contrast_cautions(frames: Sequence[Frame], allow: frozenset[str]) -> list[WarningRecord]:
    for frame in frames:
        if agent := frame.contrast:
            text = (
                "ContrastBolusAgent (0018,0010) names an agent, expected none: contrast in the blood reads as calcium; "
                "choose the series without contrast"
            )
            return [refuse_or_warn("contrast", text, allow, where=frame.name, found=agent)]
    return []


def _rescale(frames: Sequence[Frame], allow: frozenset[str]) -> tuple[list[tuple[float, float]], list[WarningRecord]]:
    """(slope, intercept) of every slice; PS3.3 C.11.1.1.2: they may differ from slice to slice."""
    types: dict[str, Frame] = {}
    refused: tuple[Frame, str, str] | None = None
    pairs = []
    for frame in frames:
        stated = frame.text("RescaleType") or "HU"
        types.setdefault("HU" if words.is_hu(stated) else stated.upper(), frame)
        slope, intercept = frame.number_of("RescaleSlope"), frame.number_of("RescaleIntercept")
        if slope is None or intercept is None or not 0 < slope <= 1e4 or abs(intercept) > 1e6:
            lut = (
                ", a ModalityLUTSequence (0028,3000) stands in their place"
                if frame.value("ModalityLUTSequence")
                else ""
            )
            text = (
                "RescaleSlope (0028,1053), a positive number, and RescaleIntercept (0028,1052) must turn pixels into "
                f"HU, but do not{lut}"
            )
            found = f"{frame.text('RescaleSlope')} and {frame.text('RescaleIntercept')}"
            refused = refused or (frame, text, found)
            slope, intercept = 1.0, 0.0
        pairs.append((slope, intercept))
    if len(types) > 1:
        listing = ", ".join(f"{unit} in {frame.name}" for unit, frame in types.items())
        raise InputRefused("mixed", f"slices of one volume must share RescaleType (0028,1054), found {listing}")
    (unit, frame), *_ = types.items()
    if refused is None and unit == words.UNSPECIFIED_UNIT:
        text = f"RescaleType (0028,1054) is {unit}, unspecified; taken as HU, as where the tag is missing"
        return pairs, [WarningRecord("unit", text)]
    if refused is None and unit != "HU":
        refused = frame, "RescaleType (0028,1054) must be HU, but is not", unit
    if refused is None:
        return pairs, []
    frame, text, found = refused
    return pairs, [refuse_or_warn("no-hu", text, allow, where=frame.name, found=found)]


def _acquisition_cautions(frames: Sequence[Frame]) -> list[WarningRecord]:
    """What makes HU less than the scanner measured at 120 kVp."""
    cautions = []
    lossy = [frame for frame in frames if is_lossy(frame.instance)]
    if lossy:
        cautions.append(WarningRecord("lossy", f"{len(lossy)} of {len(frames)} slices were compressed with loss"))
    for frame in frames:
        is_multienergy = (frame.text("MultienergyCTAcquisition") or "").upper() == "YES"
        types = sorted(words.SPECTRAL_TYPES.intersection(frame.image_type))
        if is_multienergy or types:
            says = f"ImageType (0008,0008) {words.joined(types)}" if types else "MultienergyCTAcquisition (0018,9361)"
            text = f"slices come from spectral CT, as {says} says: a virtual image is not a 120 kVp image"
            cautions.append(WarningRecord("spectral", text))
            break
    if any((frame.text("PatientPosition") or "").upper() in PRONE for frame in frames):
        text = "the patient lay prone (PatientPosition (0018,5100)): the heart lies further forward than usual"
        cautions.append(WarningRecord("prone", text))
    return cautions


def _spelling_cautions(frames: Sequence[Frame]) -> list[WarningRecord]:
    """Numbers that were read although the standard would write them otherwise."""
    odd = [keyword for keyword in NUMBERS if any(frame.is_misspelled(keyword) for frame in frames)]
    if not odd:
        return []
    text = f"{', '.join(odd)}: written with a decimal comma or as free text, read as the numbers they show"
    return [WarningRecord("header", text)]


def _read_hu(
    frames: Sequence[Frame],
    order: Sequence[int],
    rescale: Sequence[tuple[float, float]],
    on_progress: Callable[[float], None],
) -> np.ndarray:
    """HU of all slices, (k, j, i) with k in `order`; j, i as stored."""
    instances = list(dict.fromkeys(frame.instance for frame in frames))
    rows, columns = (int(frames[0].number_of(keyword) or 0) for keyword in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise InputRefused("truncated", f"{frames[0].name} holds no image: Rows and Columns are {rows} and {columns}")
    k_of = {n: k for k, n in enumerate(order)}
    try:
        stack = HUStack((len(frames), rows, columns))
    except (MemoryError, ValueError) as error:
        size = f"{len(frames)} slices of {rows} x {columns}"
        raise InputRefused(
            "unreadable", f"{frames[0].name}: {size} do not fit into memory; is the header damaged?"
        ) from error
    n_of = {(id(frame.instance), frame.number): n for n, frame in enumerate(frames)}
    done = 0
    for instance in instances:
        for number, stored in enumerate(stored_frames(instance), 1):
            n = n_of.get((id(instance), number))
            if n is None:  # a frame of another stack
                continue
            on_progress(done / len(frames))
            stack.put(k_of[n], stored, *rescale[n], padding_range(frames[n], *rescale[n]))
            done += 1
    return stack.hu


def _user_values(
    header: CTHeader, kvp: float | None, slice_thickness_mm: float | None
) -> tuple[CTHeader, list[WarningRecord]]:
    """The user's word stands in for a missing tag and wins over a present one, which is then said."""
    cautions = []
    if kvp is not None:
        if header.kvp is not None and header.kvp != kvp:
            text = f"KVP (0018,0060) is {header.kvp:g}, the user said {kvp:g}, which is used"
            cautions.append(WarningRecord("header", text))
        header = replace(header, kvp=float(kvp))
    if slice_thickness_mm is not None:
        stated = header.slice_thickness_mm
        if stated is not None and abs(stated - slice_thickness_mm) > 1e-6:
            text = f"SliceThickness (0018,0050) is {stated:g}, the user said {slice_thickness_mm:g}, which is used"
            cautions.append(WarningRecord("header", text))
        header = replace(header, slice_thickness_mm=float(slice_thickness_mm))
    return header, cautions
