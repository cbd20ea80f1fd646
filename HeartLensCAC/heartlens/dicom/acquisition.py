"""How the CT was acquired, from the headers of its slices. Unknown is None, never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from heartlens.core.ct import CTHeader
from heartlens.dicom.header import Frame

AGENT_NAMED = "agent named"
"""What is kept of a contrast tag that says that something was given."""


def ct_header(frames: Sequence[Frame], *, sop_instance_uids: Sequence[str], frame_numbers: Sequence[int]) -> CTHeader:
    """What is known about the acquisition, from the slices' tags.

    Parameters
    ----------
    frames
        Every slice; a fact on which they differ is unknown.
    sop_instance_uids, frame_numbers
        Per slice, foot to head.
    """
    first = frames[0]
    kernel, space = first.text("ConvolutionKernel"), first.text("FrameOfReferenceUID")
    contrasts = [c for c in (frame.contrast for frame in frames) if c is not None]
    return CTHeader(
        study_uid=first.text("StudyInstanceUID"),
        series_uid=first.text("SeriesInstanceUID"),
        frame_of_reference_uid=space if all(frame.text("FrameOfReferenceUID") == space for frame in frames) else None,
        sop_instance_uids=tuple(sop_instance_uids),
        frame_numbers=tuple(frame_numbers),
        instance_numbers=() if not sop_instance_uids else instance_numbers(frames),
        acquired=None if (day := acquisition_day(first)) is None else day.isoformat(),
        kvp=common_number(frames, "KVP"),
        slice_thickness_mm=common_number(frames, "SliceThickness"),
        kernel=kernel if all(frame.text("ConvolutionKernel") == kernel for frame in frames) else None,
        patient_age_years=age_years(first),
        patient_sex=sex if (sex := (first.text("PatientSex") or "").upper()) in ("M", "F") else None,
        is_gated=first.is_gated,
        # An agent in any slice counts. Its name is free text, and the header of a CT goes into reports.
        contrast=AGENT_NAMED if any(contrasts) else max(contrasts, default=None),
        manufacturer=first.text("Manufacturer"),
        model=first.text("ManufacturerModelName"),
        reconstruction_diameter_mm=common_number(frames, "ReconstructionDiameter"),
        image_type=first.image_type,
        mass_factor_patient=common_number(frames, "CalciumScoringMassFactorPatient"),
        mass_factors_device=first.numbers("CalciumScoringMassFactorDevice"),
    )


def instance_numbers(frames: Sequence[Frame]) -> tuple[int, ...]:
    """InstanceNumber of each slice, the frame's number in multi-frame CT; empty where a slice has none."""
    numbers = [float(frame.number) if frame.groups else frame.number_of("InstanceNumber") for frame in frames]
    return tuple(int(n) for n in numbers if n is not None) if None not in numbers else ()


def acquisition_day(frame: Frame) -> date | None:
    """When the slice was acquired, as precisely as the header says it."""
    return next(filter(None, (_date(frame.text(k)) for k in ("AcquisitionDate", "SeriesDate", "StudyDate"))), None)


def common_number(frames: Sequence[Frame], keyword: str) -> float | None:
    """The positive number that all slices which state one agree on, else None."""
    numbers = {n for n in (frame.number_of(keyword) for frame in frames) if n is not None and n > 0}
    if numbers and max(numbers) - min(numbers) <= 0.01 * max(numbers):  # rounding in the text, 2.998 beside 3.000
        return min(numbers) if len(numbers) == 1 else sorted(numbers)[len(numbers) // 2]
    return None


def age_years(frame: Frame) -> float | None:
    """Age at the examination: PatientAge ("090Y", "018M"), else whole years from birth date to study date."""
    stated = (frame.text("PatientAge") or "").upper()
    years_per_unit = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
    # "000Y" stands where an age was removed or never known.
    # `isdigit` is true for "²" as well, which is no number.
    if stated[:-1].isdecimal() and int(stated[:-1]) > 0 and stated[-1] in years_per_unit:
        return int(stated[:-1]) * years_per_unit[stated[-1]]
    born = _date(frame.text("PatientBirthDate"))
    examined = next(filter(None, (_date(frame.text(k)) for k in ("StudyDate", "SeriesDate", "AcquisitionDate"))), None)
    if born is None or examined is None:
        return None
    years = examined.year - born.year - ((examined.month, examined.day) < (born.month, born.day))
    return float(years) if 0 <= years <= 120 else None


def _date(text: str | None) -> date | None:
    digits = (text or "").replace(".", "")  # ACR-NEMA wrote 1993.08.22
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None
