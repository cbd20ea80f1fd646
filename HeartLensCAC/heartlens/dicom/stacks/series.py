"""One stack of CT slices, or what else a series holds, with the facts by which it is ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from heartlens.core.errors import WarningRecord, visible
from heartlens.dicom.acquisition import common_number
from heartlens.dicom.header import Frame, Instance
from heartlens.dicom.stack import positions_mm


@dataclass(frozen=True, eq=False)
class Series:
    """One DICOM series, or one stack of it: its files and what ranking needs. No identity.

    Parameters
    ----------
    series_uid, study_uid
        "" when the files do not say
    description
        SeriesDescription
    n_slices
        Number of files, or of frames.
    n_positions
        Different positions along the slice normal; 0 when positions are missing.
    increment_mm, length_mm
        Median step between positions, and first to last; None below two positions.
    slice_thickness_mm, kvp, kernel, contrast, image_type, is_gated
        As in `CTHeader`.
    field_of_view_mm
        Shorter side of the image.
    axial_cosine
        Absolute cosine between slice normal and the patient's long axis; None without orientation
    protocol
        ProtocolName
    is_ct
        Every file is a CT image.
    instances
        The headers of its files; one for a multi-frame CT.
    frames
        The slices; of a multi-frame file perhaps not all.
    stack
        Its number within the series, from 1; None where the series is one stack.
    traits
        What tells it from the other stacks of its series.
    reach_mm
        Lowest and highest position along the normal; None without positions.
    cautions
        What a result must say of how the slices came together.
    """

    series_uid: str
    study_uid: str
    description: str | None
    n_slices: int
    n_positions: int
    increment_mm: float | None
    length_mm: float | None
    slice_thickness_mm: float | None
    kvp: float | None
    kernel: str | None
    contrast: str | None
    image_type: tuple[str, ...]
    is_gated: bool | None
    field_of_view_mm: float | None
    axial_cosine: float | None
    protocol: str | None
    is_ct: bool
    instances: tuple[Instance, ...] = field(repr=False)
    frames: tuple[Frame, ...] = field(repr=False, default=())
    stack: int | None = None
    traits: str = ""
    reach_mm: tuple[float, float] | None = None
    cautions: tuple[WarningRecord, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of its files."""
        return tuple(instance.path for instance in self.instances)

    @property
    def modality(self) -> str:
        """`ImageType`, or the kind of object where it is not a CT image."""
        return ", ".join(sorted({instance.kind for instance in self.instances}))

    @property
    def patient_keys(self) -> frozenset[str]:
        """Opaque, one per patient in the series."""
        return frozenset(instance.patient for instance in self.instances)

    @property
    def address(self) -> str:
        """What `--series` takes: the UID, and the number of the stack where there are several."""
        return self.series_uid if self.stack is None else f"{self.series_uid}#{self.stack}"

    @property
    def title(self) -> str:
        """For messages: what it is, and its address."""
        name = visible(self.description or "no description")
        slices = "1 slice" if self.n_slices == 1 else f"{self.n_slices} slices"
        told = f", {self.traits}" if self.traits else ""
        return f"{name} ({self.modality}, {slices}{told}), UID {self.address}"


def ct_stack(
    study_uid: str,
    series_uid: str,
    frames: Sequence[Frame],
    *,
    stack: int | None = None,
    traits: str = "",
    cautions: Sequence[WarningRecord] = (),
) -> Series:
    """A stack of CT slices.

    Parameters
    ----------
    study_uid, series_uid
        As the files say.
    frames
        At least one.
    stack, traits, cautions
        As in `Series`.
    """
    first = frames[0]
    instances = tuple(dict.fromkeys(frame.instance for frame in frames))
    positions, cosine = positions_mm(frames)
    steps = np.diff(positions)
    spacing, rows, columns = first.numbers("PixelSpacing"), first.number_of("Rows"), first.number_of("Columns")
    contrasts = [c for c in (frame.contrast for frame in frames) if c is not None]
    return Series(
        series_uid=series_uid,
        study_uid=study_uid,
        description=first.text("SeriesDescription"),
        n_slices=len(frames),
        n_positions=len(positions),
        increment_mm=float(np.median(steps)) if steps.size else None,
        length_mm=float(positions[-1] - positions[0]) if steps.size else None,
        slice_thickness_mm=common_number(frames, "SliceThickness"),
        kvp=common_number(frames, "KVP"),
        kernel=first.text("ConvolutionKernel"),
        contrast=max(contrasts, default=None),
        image_type=first.image_type,
        is_gated=first.is_gated,
        field_of_view_mm=min(spacing[0] * rows, spacing[1] * columns)
        if len(spacing) == 2 and rows and columns
        else None,
        axial_cosine=cosine,
        protocol=first.text("ProtocolName"),
        is_ct=True,
        instances=instances,
        frames=tuple(frames),
        stack=stack,
        traits=traits,
        reach_mm=(float(positions[0]), float(positions[-1])) if len(positions) else None,
        cautions=(*cautions, *_patient_cautions(instances)),
    )


def other_objects(study_uid: str, series_uid: str, instances: Sequence[Instance]) -> Series:
    """What is no CT image: reports, structures, screenshots, other modalities."""
    first = Frame(instances[0], 1, ())
    return Series(
        series_uid=series_uid,
        study_uid=study_uid,
        description=first.text("SeriesDescription"),
        n_slices=len(instances),
        n_positions=0,
        increment_mm=None,
        length_mm=None,
        slice_thickness_mm=first.number_of("SliceThickness"),
        kvp=first.number_of("KVP"),
        kernel=first.text("ConvolutionKernel"),
        contrast=None,
        image_type=first.image_type,
        is_gated=first.is_gated,
        field_of_view_mm=None,
        axial_cosine=None,
        protocol=first.text("ProtocolName"),
        is_ct=False,
        instances=tuple(instances),
    )


def _patient_cautions(instances: Sequence[Instance]) -> Iterator[WarningRecord]:
    """One ID, and yet not all slices say the same of whose they are."""
    issuers = {str(instance.value("IssuerOfPatientID") or "").strip() for instance in instances}
    if len(issuers) > 1:
        text = "slices of one PatientID differ in IssuerOfPatientID (0010,0021); taken for one patient's"
        yield WarningRecord("patient", text)
