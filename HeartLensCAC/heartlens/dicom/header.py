"""The header of one DICOM file, and of each of its frames, whether the CT is single-frame or multi-frame.

Enhanced CT keeps in functional groups what classic CT keeps at the top (PS3.3 C.7.6.16, C.8.15.3). `Frame.value` asks
in that order, so that nobody above this file needs to know which kind of CT it is.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import UID

from heartlens.core.disk.reading import require_fetched
from heartlens.core.errors import InputRefused
from heartlens.dicom import words
from heartlens.dicom.compressed import is_dicom, opened
from heartlens.dicom.slices.elements import read_elements
from heartlens.dicom.stacks.patient import patient_mark

logger = logging.getLogger(__name__)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CONVERTED_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
CT_SOP_CLASSES = frozenset({CT_IMAGE, ENHANCED_CT, LEGACY_CONVERTED_ENHANCED_CT})
"""The SOP classes that hold CT slices; Modality alone is not enough: dose reports and screenshots also say CT."""

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

FUNCTIONAL_GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "KVP": "CTXRayDetailsSequence",
    "CalciumScoringMassFactorPatient": "CTXRayDetailsSequence",
    "CalciumScoringMassFactorDevice": "CTXRayDetailsSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "ReconstructionDiameter": "CTReconstructionSequence",
    "GantryDetectorTilt": "CTAcquisitionDetailsSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "ContrastBolusAgentAdministered": "ContrastBolusUsageSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "MultienergyCTAcquisition": "MultienergyCTCharacteristicsSequence",
}
"""Where an enhanced CT keeps an attribute; PS3.3 C.7.6.16.2 and C.8.15.3."""

UNASSIGNED_GROUPS = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")
"""Where a converted legacy CT keeps what has no functional group; PS3.3 C.7.6.16.2.25."""

HEADER_KEYWORDS = (
    *FUNCTIONAL_GROUPS,
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType",
    "Modality", "SeriesDescription", "StudyDescription", "ProtocolName", "Manufacturer", "ManufacturerModelName",
    "StudyDate", "SeriesDate", "AcquisitionDate", "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "PatientAge", "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusVolume",
    "CardiacSynchronizationTechnique", "TriggerTime", "AcquisitionNumber",
    "TemporalPositionIdentifier", "LossyImageCompression", "ModalityLUTSequence",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "SliceLocation", "InstanceNumber",
    "PatientPosition",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip

_OVERLAY_BIT_POSITIONS = tuple(0x60000102 + (group << 16) for group in range(0, 0x20, 2))
_HEADER_TAGS = [Tag(keyword) for keyword in HEADER_KEYWORDS] + [Tag(tag) for tag in _OVERLAY_BIT_POSITIONS]

PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError,
    NotImplementedError, OSError, OverflowError, RecursionError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom raises on a broken file; there is no common base class."""


@contextmanager
def pydicom_warnings_logged() -> Iterator[None]:
    """Send pydicom's warnings about odd files to the log: stderr belongs to the command line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        logger.debug("pydicom: %s", warning.category.__name__)  # its text may quote a name


@dataclass(frozen=True, eq=False)
class Instance:
    """One DICOM file without its pixels.

    Parameters
    ----------
    path
        The file.
    dataset
        The attributes that HeartLens reads, and no others.
    pixel_offset
        Byte at which the pixel data element begins; None where the file is deflated.
    ends_early
        The file ends where the pixel data should begin.
    """

    path: Path
    dataset: Dataset
    pixel_offset: int | None
    ends_early: bool

    @classmethod
    def read(cls, path: Path) -> Instance | None:
        """Read the header of a file; None when the file is not DICOM.

        Raises
        ------
        InputRefused
            "unreadable", the file cannot be opened, or is DICOM that cannot be parsed; "truncated"
        """
        try:
            with opened(path, shown=path.name) as (file, is_deflated):
                start = file.read(132)
                if not is_dicom(start):
                    require_fetched(start, path.name)
                    return None
                file.seek(0)
                dataset, twice = read_elements(file, _HEADER_TAGS)
                offset = None if is_deflated else file.tell()
                instance = cls(path, dataset, offset, ends_early=not is_deflated and not file.read(1))
        except PARSE_ERRORS as error:
            raise InputRefused(
                "unreadable", f"{path.name} cannot be read as DICOM ({kind_of(error)}); copy it again or remove it"
            ) from error
        if instance.sop_class is None and not instance.value("Modality"):
            if start[128:132] != b"DICM":
                return None
            raise InputRefused("unreadable", f"{path.name} begins as DICOM but does not say what it is; copy it again")
        if instance.sop_class != MEDIA_DIRECTORY and not instance.value("SeriesInstanceUID"):
            raise InputRefused(
                "unreadable",
                f"{path.name} belongs to no series: SeriesInstanceUID (0020,000E) is missing; copy it again",
            )
        if instance.is_ct and twice:
            raise InputRefused("unreadable", f"{path.name} says {twice} twice; send it again, or remove it")
        if instance.is_ct and instance.ends_early and not instance.value("Rows"):
            raise InputRefused(
                "truncated", f"{path.name} is a CT that ends within its header; copy it again, or remove it"
            )
        return instance

    @property
    def name(self) -> str:
        """The file's name without its folder: folders are often named after patients."""
        return self.path.name

    @cached_property
    def sop_class(self) -> str | None:
        """SOP class of the object, or of the file meta information where the object's is missing or damaged."""
        meta = _value(self.dataset.file_meta, "MediaStorageSOPClassUID")
        named = [str(_as_list(uid)[0]) for uid in (self.value("SOPClassUID"), meta) if uid]
        return next((uid for uid in named if UID(uid).type == "SOP Class"), named[0] if named else None)

    @property
    def is_ct(self) -> bool:
        """A CT image by SOP class: what may be scored."""
        return self.sop_class in CT_SOP_CLASSES and self.value("Modality") in (None, "CT")

    @property
    def is_multiframe(self) -> bool:
        """Whether the file is an Enhanced CT or a Legacy Converted Enhanced CT."""
        return self.sop_class in (ENHANCED_CT, LEGACY_CONVERTED_ENHANCED_CT)

    @property
    def kind(self) -> str:
        """Modality, with the name of the SOP class where that says more (a screenshot of a CT, say)."""
        modality = str(self.value("Modality") or "no modality")
        if self.is_ct or modality != "CT":
            return modality
        return f"CT stored as {UID(self.sop_class).name if self.sop_class else 'no SOP class'}"

    @property
    def transfer_syntax(self) -> str | None:
        """UID of the transfer syntax; None when the header does not say."""
        uid = _value(self.dataset.file_meta, "TransferSyntaxUID")
        return str(uid) if uid else None

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Every frame; one for single-frame CT."""
        # Made anew each time: a file that keeps its frames, which keep the file, is garbage that waits for a
        # collection, and one that looks through all objects of a program stops it for a tenth of a second.
        if not self.is_multiframe:
            stated = self.value("NumberOfFrames")
            if stated not in (None, 1):
                raise InputRefused(
                    "unreadable",
                    f"{self.name}: NumberOfFrames (0028,0008) is {stated}, but a CT Image holds 1 frame; only Enhanced "
                    f"CT says where each of several frames lies",
                )
            return (Frame(self, 1, ()),)
        per_frame = [item for item in _as_list(self.value("PerFrameFunctionalGroupsSequence")) if _is_item(item)]
        number = self.value("NumberOfFrames")
        if number != len(per_frame) or not per_frame:
            raise InputRefused(
                "unreadable",
                f"{self.name}: NumberOfFrames (0028,0008) is {number}, but the file describes {len(per_frame)} frames",
            )
        shared = _first_item(self.dataset, "SharedFunctionalGroupsSequence")
        common = () if shared is None else (shared,)
        return tuple(Frame(self, n + 1, (groups, *common)) for n, groups in enumerate(per_frame))

    @property
    def has_embedded_overlay(self) -> bool:
        """An overlay lies in the unused bits of the pixels (retired; PS3.3 C.9.2)."""
        return any(tag in self.dataset and bool(self.dataset[tag].value) for tag in _OVERLAY_BIT_POSITIONS)

    @cached_property
    def patient(self) -> str:
        """An opaque mark of whose it is, different in every run."""
        return patient_mark(self.value)

    def value(self, keyword: str) -> Any:
        """An attribute of the file itself; None when absent, empty or not readable as its type."""
        if keyword not in self._asked:  # the gates ask for some a dozen times, and pydicom looks each up anew
            self._asked[keyword] = _value(self.dataset, keyword)
        return self._asked[keyword]

    @cached_property
    def _asked(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: a single-frame file, or one frame of a multi-frame file.

    Parameters
    ----------
    instance
        The file.
    number
        1-based frame number
    groups
        Its functional groups, per-frame before shared; empty for single-frame CT.
    """

    instance: Instance
    number: int
    groups: tuple[Dataset, ...]

    @property
    def name(self) -> str:
        """Name of the file, with the frame number where it is multi-frame."""
        return f"{self.instance.name} frame {self.number}" if self.groups else self.instance.name

    def value(self, keyword: str) -> Any:
        """An attribute of this slice, wherever its kind of CT keeps it; None when absent, empty or not readable."""
        for groups in self.groups:
            for group in (FUNCTIONAL_GROUPS.get(keyword), *UNASSIGNED_GROUPS):
                item = _first_item(groups, group) if group else None
                if item is not None and (inherited := _value(item, keyword)) is not None:
                    return inherited
        return self.instance.value(keyword)

    def stated(self, keyword: str) -> list[Any]:
        """What each functional group that holds an attribute says of it; at most one should."""
        items = [_first_item(groups, FUNCTIONAL_GROUPS[keyword]) for groups in self.groups]
        return [v for v in (_value(item, keyword) for item in items if item is not None) if v is not None]

    def text(self, keyword: str) -> str | None:
        """As one string; several values stay divided by a backslash."""
        value = self.value(keyword)
        return None if value is None else "\\".join(str(v) for v in _as_list(value)).strip() or None

    def number_of(self, keyword: str) -> float | None:
        """The first value as a finite number, else None."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else None

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """All values as finite numbers, also in another spelling than the standard's; empty when one is not."""
        value = self.value(keyword)
        try:
            numbers = tuple(float(v) for v in _as_list(value))
        except TypeError:
            return ()
        except ValueError:
            return words.numbers_in("\\".join(map(str, _as_list(value))))
        return numbers if all(math.isfinite(n) for n in numbers) else ()

    def is_misspelled(self, keyword: str) -> bool:
        """Whether numbers are there that pydicom does not read as such, and `numbers` does."""
        return any(isinstance(v, str) for v in _as_list(self.value(keyword))) and bool(self.numbers(keyword))

    @property
    def image_type(self) -> tuple[str, ...]:
        """FrameType of a multi-frame CT, else ImageType; upper case."""
        value = self.value("FrameType") if self.groups else None
        return tuple(
            str(v).strip().upper() for v in _as_list(value or self.instance.value("ImageType")) if str(v).strip()
        )

    @property
    def is_gated(self) -> bool | None:
        """ECG-gated: by the cardiac tags, then by the series' words; None when nothing speaks of it."""
        technique = (self.text("CardiacSynchronizationTechnique") or "").upper()
        if technique:
            return technique != "NONE"
        if self.number_of("NominalPercentageOfCardiacPhase") is not None or (self.number_of("TriggerTime") or 0) > 0:
            return True
        return words.names_gating(" / ".join(filter(None, (self.text("SeriesDescription"), self.text("ProtocolName")))))

    @property
    def contrast(self) -> str | None:
        """What the contrast tags say was given; "" when they say nothing was; None when they are silent."""
        agent = self.text("ContrastBolusAgent")
        if agent is not None:
            return "" if words.says_no_contrast(agent) else agent
        # Enhanced CT: agents at the top, whether each was running in the frame's usage group (PS3.3 C.7.6.16.2.12).
        item = _first_item(self.instance.dataset, "ContrastBolusAgentSequence")
        if item is not None:
            if (self.text("ContrastBolusAgentAdministered") or "").upper() == "NO":
                return ""
            return str(_value(item, "CodeMeaning") or "agent given by code")
        volume = self.number_of("ContrastBolusVolume")
        return f"{volume:g} ml of an unnamed agent" if volume else None


def whole_header(path: Path) -> Dataset:
    """All attributes of a file but its pixels.

    Raises
    ------
    InputRefused
        "input", "unreadable"
    """
    try:
        with opened(path, shown=path.name) as (file, _):
            return dcmread(file, stop_before_pixels=True, force=True)
    except PARSE_ERRORS as error:
        raise InputRefused("unreadable", f"{path.name} cannot be read as DICOM ({kind_of(error)})") from error


def _value(dataset: Dataset, keyword: str) -> Any:
    try:
        value = dataset.get(keyword)
    except PARSE_ERRORS:
        return None
    return None if value is None or (isinstance(value, (str, bytes, Sequence)) and len(value) == 0) else value


def _is_item(value: Any) -> bool:
    return isinstance(value, Dataset)


def _first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    """The first item of a sequence; None when there is none, or the element is damaged and no sequence."""
    items = _as_list(_value(dataset, keyword))
    return items[0] if items and _is_item(items[0]) else None


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def kind_of(error: BaseException) -> str:
    """What went wrong, without the library's words: they may quote a path, or a value of the header."""
    return getattr(error, "strerror", None) or type(error).__name__


def one_line(error: BaseException) -> str:
    """An exception's first line, short enough for a message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
