"""What an archive can be asked, whichever way it is reached, and what may go wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heartlens.core.errors import InputRefused

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
UID_LENGTH = 64


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
    counts = [one.images for one in found if one.series_uid == series_uid]
    return counts[0] if counts else None


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
