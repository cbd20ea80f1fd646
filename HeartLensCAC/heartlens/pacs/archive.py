"""What an archive can be asked, whichever way it is reached, and what may go wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heartlens.core.disk.renaming import sync_file
from heartlens.core.errors import InputRefused

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
UID_LENGTH = 64

MOST_COUNTED = 1_000_000
"""No series and no study has more; a larger number is none that may be believed."""

SENT_FILES = ("segmentation.dcm", "report.dcm", "key-page*.dcm", "report-pdf.dcm")
"""Of a result, in the order in which they are sent: what is referred to first."""


class ArchiveError(Exception):
    """An archive did not do what it was asked for.

    Parameters
    ----------
    code
        "down": nobody answers; "refused": it will not; "garbage": what it says makes no sense; "missing": it has less
        than it said.
    text
        One line: which archive, what happened, the way out. Never an identity, never what the archive said in words.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Query:
    """Which studies are looked for; "" asks for all.

    Parameters
    ----------
    date
        A day or a range, such as "20240101-20240131"
    modality
        That some series of the study must have.
    patient_id
        As the archive has it.
    study_uid
        Of one study.
    limit
        So many studies at most.
    """

    date: str = ""
    modality: str = ""
    patient_id: str = ""
    study_uid: str = ""
    limit: int = 200


@dataclass(frozen=True)
class FoundStudy:
    """A study as an archive lists it.

    Parameters
    ----------
    study_uid, date, description, modalities
        As it says; "" where it does not.
    series
        How many; None where it does not say.
    patient_id, patient_name
        Who it is; shown only where somebody asked for it.
    """

    study_uid: str
    date: str = ""
    description: str = ""
    modalities: str = ""
    series: int | None = None
    patient_id: str = ""
    patient_name: str = ""


@dataclass(frozen=True)
class FoundSeries:
    """A series as an archive lists it.

    Parameters
    ----------
    study_uid, series_uid, modality, description
        As it says; "" where it does not.
    images
        How many it holds; None where it does not say.
    """

    study_uid: str
    series_uid: str
    modality: str = ""
    description: str = ""
    images: int | None = None


class Archive(Protocol):
    """An archive. Every method raises `ArchiveError` where it does not do what it should."""

    name: str

    def check(self) -> list[str]:
        """Try everything that changes nothing; a line for each thing that works."""

    def studies(self, query: Query) -> list[FoundStudy]:
        """Studies, newest first as far as the archive sorts them."""

    def series(self, study_uid: str, series_uid: str = "") -> list[FoundSeries]:
        """The series of a study, or one of them."""

    def fetch(self, series: FoundSeries, folder: Path) -> int:
        """Bring all images of a series into a folder; how many they are, which is what the archive says it holds."""

    def send(self, path: Path) -> None:
        """Store one DICOM file; that it is there already is no error."""

    def close(self) -> None:
        """Let go of what is open."""


def image_count(archive: Archive, study_uid: str, series_uid: str) -> int | None:
    """How many images an archive says a series has; None where it has it not, or does not say."""
    found: Sequence[FoundSeries] = archive.series(study_uid, series_uid)
    counts = {one.images for one in found if one.series_uid == series_uid}
    return (counts.pop() or None) if len(counts) == 1 else None  # two answers are none


def count_of(value: object) -> int | None:
    """A number of images or series as an archive or a header says it; None where it is no number that can be.

    Parameters
    ----------
    value
        As it was read.

    Examples
    --------
    >>> [count_of(value) for value in (41, "41 ", 41.0, 0)]
    [41, 41, 41, 0]
    >>> [count_of(value) for value in (None, "", "abc", -5, 4.5, 10**30, "9" * 5000, [41, 41], True)]
    [None, None, None, None, None, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = str(value).strip().removesuffix(".0")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST_COUNTED))):
        return None
    return int(text) if int(text) <= MOST_COUNTED else None


def write_image(folder: Path, number: int, data: bytes) -> None:
    """Put an image that was fetched on the disk; it has its name only when all of it is there."""
    part = folder / f".{number:05d}.part"
    part.write_bytes(data)
    sync_file(part)
    os.replace(part, folder / f"{number:05d}.dcm")


def files_to_send(result: Path) -> list[Path]:
    """The files of a result folder that an archive gets, in their order."""
    return [path for pattern in SENT_FILES for path in sorted(result.glob(pattern))]


def require_uid(uid: str, what: str) -> str:
    """A UID that somebody typed.

    Raises
    ------
    InputRefused
        ``input``: it is none.
    """
    if not is_uid(uid):
        raise InputRefused(
            "input", f"{what} must be a UID such as 1.2.840.1, got {uid!r}; heartlens pacs find lists them"
        )
    return uid


def is_uid(text: object) -> bool:
    """Whether a text is a UID, and so may stand in an address and in the log."""
    return isinstance(text, str) and len(text) <= UID_LENGTH and UID.fullmatch(text) is not None
