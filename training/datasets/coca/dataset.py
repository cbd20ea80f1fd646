"""A COCA download as a whole: where its parts lie, which patients it has, and one patient at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.datasets.coca.annotations import read_annotations
from training.datasets.coca.proof import RoiCheck, prove_rois
from training.datasets.coca.scans import read_scan
from training.datasets.coca.scores import NongatedScore, read_scores


@dataclass(frozen=True, eq=False)
class CocaPatient:
    """One patient.

    Parameters
    ----------
    number
        Of the patient's folder.
    is_gated
        From the gated part of COCA.
    ct
        The scan.
    labels
        (k, j, i) `Artery` codes from the proven outlines; None without an XML file
    checks
        One per outline.
    score
        The row of scores.xlsx, non-gated patients only.
    notes
        What was left out, chosen, or contradicts itself.
    """

    number: int
    is_gated: bool
    ct: CTVolume
    labels: NDArray[np.uint8] | None
    checks: tuple[RoiCheck, ...] = ()
    score: NongatedScore | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[RoiCheck, ...]:
        """Checks of the outlines whose proof failed."""
        return tuple(check for check in self.checks if check.verdict == "failed")

    @property
    def is_labeled(self) -> bool:
        """Every outline is proven: what has no label has no annotated calcium."""
        return self.labels is not None and not self.failed


@dataclass(frozen=True)
class CocaDataset:
    """Where the parts of a download lie.

    Parameters
    ----------
    gated
        Folder of each gated patient that has images.
    annotations
        XML file of each gated patient that has one
    nongated
        Folder of each non-gated patient.
    scores
        Rows of scores.xlsx by patient.
    notes
        Entries that are no patient, and notes on the sheet.
    root
        The folder that was searched.
    """

    gated: Mapping[int, Path]
    annotations: Mapping[int, Path]
    nongated: Mapping[int, Path]
    scores: Mapping[int, NongatedScore] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    root: Path = Path()

    @classmethod
    def find(cls, root: Path) -> CocaDataset:
        """Look for ``patient/``, ``calcium_xml/`` and ``scores.xlsx`` at any depth; downloads nest them differently.

        Raises
        ------
        InputRefused
            "input", nothing of COCA here; "ambiguous", a part is there twice
        """
        root = Path(root)
        if not root.is_dir():
            raise InputRefused("input", f"no such folder: {root}; give the folder that holds the COCA download")
        parts: dict[str, list[Path]] = {"patient": [], "calcium_xml": [], "nongated": []}
        visited: set[str] = set()  # downloads are often put together of links; a link may lead in a circle
        for folder, subfolders, files in os.walk(root, followlinks=True):
            here = Path(folder)
            if os.path.realpath(folder) in visited:
                subfolders.clear()
                continue
            visited.add(os.path.realpath(folder))
            subfolders[:] = sorted(s for s in subfolders if s != "__MACOSX" and not s.startswith("."))
            name = here.name.lower()
            if name in ("patient", "calcium_xml"):
                parts[name].append(here)
                subfolders.clear()  # thousands of images lie below; nothing else is looked for there
            elif "scores.xlsx" in files or (name == "deidentified_nongated" and not _has_below(here, "scores.xlsx")):
                parts["nongated"].append(here)
                subfolders.clear()
        for name, matches in parts.items():
            if len(matches) > 1:
                where = ", ".join(str(path.relative_to(root)) for path in matches)
                raise InputRefused("ambiguous", f"{root}: expected one {name} folder, found {where}; give one of them")
        if not any(parts.values()):
            raise InputRefused(
                "input", f"{root} holds no COCA download: expected patient/ and calcium_xml/, or scores.xlsx, in it"
            )
        notes: list[str] = []
        gated = _numbered(parts["patient"], notes, is_file=False)
        annotations = _numbered(parts["calcium_xml"], notes, is_file=True)
        nongated = _numbered(parts["nongated"], notes, is_file=False)
        scores: dict[int, NongatedScore] = {}
        if parts["nongated"] and (parts["nongated"][0] / "scores.xlsx").is_file():
            scores, score_notes = read_scores(parts["nongated"][0] / "scores.xlsx")
            notes += score_notes
        return cls(gated, annotations, nongated, MappingProxyType(scores), tuple(notes), root)

    @property
    def gated_numbers(self) -> tuple[int, ...]:
        """Every gated patient that has images or an XML file, ascending."""
        return tuple(sorted({*self.gated, *self.annotations}))

    @property
    def nongated_numbers(self) -> tuple[int, ...]:
        """Every non-gated patient that has images or a score, ascending."""
        return tuple(sorted({*self.nongated, *self.scores}))

    def read_gated(self, number: int, *, allow: frozenset[str] = frozenset()) -> CocaPatient:
        """Images and proven outlines of one gated patient.

        Raises
        ------
        InputRefused
            No images, images that are no volume, or a damaged XML file.
        """
        scan = read_scan(_folder(self.gated, number, "gated"), is_gated=True, allow=allow)
        if number not in self.annotations:
            return CocaPatient(number, True, scan.ct, None, notes=scan.notes)
        annotations = read_annotations(self.annotations[number])
        labels, checks = prove_rois(scan, annotations.rois)
        return CocaPatient(number, True, scan.ct, labels, checks, None, (*scan.notes, *annotations.notes))

    def read_nongated(self, number: int, *, allow: frozenset[str] = frozenset()) -> CocaPatient:
        """Images and score of one non-gated patient.

        Raises
        ------
        InputRefused
            No images, or images that are no volume.
        """
        scan = read_scan(_folder(self.nongated, number, "non-gated"), is_gated=False, allow=allow)
        return CocaPatient(number, False, scan.ct, None, score=self.scores.get(number), notes=scan.notes)


def _folder(folders: Mapping[int, Path], number: int, part: str) -> Path:
    if number not in folders:
        raise InputRefused("input", f"{part} patient {number} has labels but no images; download its folder")
    return folders[number]


def _has_below(folder: Path, name: str) -> bool:
    return any(folder.glob(f"*/{name}"))


def _numbered(folders: list[Path], notes: list[str], *, is_file: bool) -> Mapping[int, Path]:
    """Entries of a folder that are named by a number, in the order of the numbers."""
    by_number: dict[int, Path] = {}
    for path in sorted(folders[0].iterdir()) if folders else []:
        if path.name.startswith(".") or path.name in ("scores.xlsx", "__MACOSX"):
            continue
        text = path.stem if is_file else path.name
        is_ours = path.suffix.lower() == ".xml" if is_file else path.is_dir()
        if not is_ours or not re.fullmatch(r"\d+", text):
            notes.append(f"{folders[0].name}/{path.name} is no patient; left out")
        elif int(text) in by_number:
            notes.append(f"{folders[0].name}/{path.name} names a patient that is there already; left out")
        else:
            by_number[int(text)] = path
    return MappingProxyType(dict(sorted(by_number.items())))
