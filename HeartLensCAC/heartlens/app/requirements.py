"""The libraries that HeartLens needs, and which are missing here. Looks at what is installed, imports nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
"""Beside the library in a checkout and in Slicer; a wheel carries the same lines in its own metadata."""

PURPOSES = {
    "numpy": "everything", "scipy": "finding the heart", "pydicom": "DICOM", "highdicom": "SEG and SR",
    "jinja2": "report.html", "pillow": "key pages, PDF", "onnxruntime": "networks", "nibabel": "NIfTI",
    "pylibjpeg-openjpeg": "JPEG 2000", "pyjpegls": "JPEG-LS", "python-gdcm": "JPEG",
}  # fmt: skip


@dataclass(frozen=True)
class Requirement:
    """One library.

    Parameters
    ----------
    name
        As pip knows it.
    least
        Lowest version that will do.
    installed
        Version that is installed; None for none.
    """

    name: str
    least: str
    installed: str | None

    @property
    def is_met(self) -> bool:
        """Whether the library is installed, and new enough."""
        return self.installed is not None and _numbers(self.installed) >= _numbers(self.least)

    @property
    def purpose(self) -> str:
        """What HeartLens needs the library for."""
        return PURPOSES.get(self.name, "a part of HeartLens")

    @property
    def word(self) -> str:
        """What pip is told."""
        return f"{self.name}>={self.least}"

    @property
    def line(self) -> str:
        """What a person is told."""
        if self.is_met:
            return f"{self.name:<20}{self.installed}"
        state = "missing" if self.installed is None else f"{self.installed} is too old"
        return f"{self.name:<20}{state}; needed for {self.purpose}: {pip_line([self])}"


def requirements() -> tuple[Requirement, ...]:
    """Every library that HeartLens is installed with, as it is here."""
    lines = FILE.read_text().splitlines() if FILE.is_file() else metadata.requires("heartlens") or []
    named = (re.fullmatch(r"([\w.-]+?)\s*>=\s*([\d.]+)", line.strip()) for line in lines)
    return tuple(Requirement(match[1], match[2], installed_version(match[1])) for match in named if match)


def missing(names: Iterable[str] | None = None) -> tuple[Requirement, ...]:
    """The requirements that are not met here.

    Parameters
    ----------
    names
        To look at; None looks at all.
    """
    wanted = None if names is None else {name.lower() for name in names}
    return tuple(r for r in requirements() if not r.is_met and (wanted is None or r.name.lower() in wanted))


def pip_line(wanted: Iterable[Requirement]) -> str:
    """What to type to get them; quoted, because a shell takes ``>`` for itself."""
    return "pip install " + " ".join(f'"{requirement.word}"' for requirement in wanted)


def is_installed(name: str) -> bool:
    """Whether a library that is no requirement is here all the same, such as torch."""
    return installed_version(name) is not None


def installed_version(name: str) -> str | None:
    """By its metadata: nothing is imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """(3, 0, 1) of "3.0.1rc2+cpu": enough to compare releases, which are all that is asked for."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(word) for word in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:  # 2 is 2.0
        numbers.pop()
    return tuple(numbers)
