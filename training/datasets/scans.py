"""A scan with its labels, on its way into the shards or into an export."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.case.folder import case_in, read_json
from heartlens.core.ct import CTVolume

UNREVIEWED = 7
"""Label of a dense voxel of which no reader said anything: it is neither calcium nor none, and teaches nothing."""


@dataclass(frozen=True, eq=False)
class LabeledScan:
    """One scan.

    Parameters
    ----------
    name
        unique, without identity, such as "phantom/17" or "coca-gated/306"
    patient
        Pseudonym; equal for scans of one person.
    source
        "phantom", "coca-gated", "coca-nongated" or "case"
    ct
        HU and geometry
    labels
        (k, j, i) `Artery` codes, or `UNREVIEWED`; None where nobody has drawn any
    agatston
        Of each artery and "total", where only a score is known.
    why_unlabelled
        "" when the labels are complete
    notes
        What a user of the data should know.
    provenance
        Who made the labels, when, with which version, automatic or edited.
    """

    name: str
    patient: str
    source: str
    ct: CTVolume
    labels: NDArray[np.uint8] | None
    agatston: Mapping[str, float] | None = None
    why_unlabelled: str = ""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels is not None and (self.labels.shape != self.ct.shape or self.labels.dtype != np.uint8):
            raise ValueError(
                f"labels must be uint8 on the CT's grid {self.ct.shape}, got {self.labels.dtype} {self.labels.shape}"
            )
        if self.labels is None and not self.why_unlabelled:
            raise ValueError("a scan without labels must say why: why_unlabelled is empty")

    @property
    def is_labeled(self) -> bool:
        """Whether the labels are complete."""
        return not self.why_unlabelled


@dataclass(frozen=True)
class Skipped:
    """A scan that could not be used: its name, and the refusal's code and text."""

    name: str
    code: str
    text: str


OWN_NAMES = frozenset({"case", "ct", "case.json", "ct.nrrd", "auto.seg.nrrd", "edits.jsonl", "report.json"})
"""Names that HeartLens gives in a case folder; they are nobody's."""

MOST_FILES = 20_000
"""Below a case and its CT that are looked through for the names in a message."""


def without_places(text: str, place: Path, name: str) -> str:
    """A refusal of a case without any name of a folder or file: they are often patients' names, and an index stays.

    Parameters
    ----------
    text
        Of the refusal.
    place
        Folder of the case, or of the report around it, as it was given.
    name
        What stands for it, such as "case 3".

    Returns
    -------
    str
        In the place of the case, of its CT and of whatever lies below them `name`; "a file" for every other path.
    """
    roots = [root for known in (place, *_sources(place)) for root in (known, known.absolute(), known.resolve())]
    below = chain.from_iterable(root.rglob("*") for root in dict.fromkeys(roots) if root.is_dir())
    paths = [*roots, *islice(below, MOST_FILES)]
    words = {str(path) for path in paths} | {path.name for path in paths if path.name not in OWN_NAMES}
    for word in sorted(words - {"", ".", "/"}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w/\\]){re.escape(word)}(?!\w)", name, text)
    text = re.sub(r"(?<![\w/])(?:[A-Za-z]:)?(?:[/\\][^\s/\\:;,]+){2,}", "a file", text)
    return text.replace(f"case folder {name}", name)


def _sources(place: Path) -> Iterator[Path]:
    """Where the CT of a case was read from, as far as it can say so."""
    folder = case_in(place)
    try:
        listed: Iterable[object] = () if folder is None else read_json(folder / "case.json")["source"]
        for path in listed:
            yield (folder or place).absolute() / str(path)
    except (OSError, ValueError, LookupError, TypeError):
        return
