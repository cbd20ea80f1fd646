"""Which real scans may serve as backgrounds, where their arteries run, and what refuses one."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.dicom.read import read_series
from heartlens.dicom.series import find_series

MARKS = Path(__file__).with_name("marks.json")
SCHEMA = "heartlens.backgrounds/1"

NOTICE = "NOTICE.md"
"""The file beside a background that says where it comes from and under which licence."""

LICENCES = {
    "CC BY 3.0": r"CC[ -]BY[ -]3\.0|Attribution 3\.0",
    "CC BY 4.0": r"CC[ -]BY[ -]4\.0|Attribution 4\.0",
    "CC0": r"\bCC0\b",
}
"""Licences under which a network may be trained and passed on with attribution, and how a notice writes each."""

FORBIDDEN = r"non-?\s?commercial|\bBY-NC|\bNC-(SA|ND)\b|\bBY-ND"
"""What no background's notice may say: not for trade, or no derivatives."""

JUDGES = (
    "real_heart_slices", "covid19_nysbu_slices", "lidc_idri_0314", "lidc_idri_0001_contrast", "qrm_cci_canon",
    "totalsegmentator_tests", "deepcac_reference",
)  # fmt: skip
"""Folders that judge: nothing in them may be trained on."""

JUDGING_PERSONS = (
    "TCGA-17-Z028", "TCGA-17-Z048", "TCGA-34-8455", "TCGA-17-Z051", "TCGA-17-Z034", "TCGA-17-Z045", "TCGA-17-Z043",
    "TCGA-17-Z052",
)  # fmt: skip
"""People of `tcga_lung_slices` of whom some slice judges. Their other slices judge as well: one of them (Z048) has a
slice that was listed as free of calcium and another, ten days older, with it in the left main."""

AIR_HU, BONE_HU = -300.0, 230.0
"""Below and above, the surroundings of a marked point are no fat and no muscle: air, or bone."""

AROUND_MM = 2.0
"""Radius of those surroundings in the plane."""


@dataclass(frozen=True, eq=False)
class Mark:
    """One background.

    Parameters
    ----------
    name
        Unique.
    file
        Below the folder of data: a DICOM file, or a zip of one series.
    sha256
        Of that file: courses were marked on these bytes.
    licence
        One of `LICENCES`.
    person
        The collection's own pseudonym.
    attribution
        What must be cited.
    fwhm_mm
        In-plane blur of its kernel, an estimate.
    courses
        (n, 3) LPS mm along each artery that was seen; empty where a background gives negatives alone
    """

    name: str
    file: str
    sha256: str
    licence: str
    person: str
    attribution: str
    fwhm_mm: float
    courses: Mapping[Artery, NDArray[np.float64]]


def read_marks(path: Path = MARKS) -> tuple[Mark, ...]:
    """The marked backgrounds, in their order.

    Raises
    ------
    InputRefused
        "unreadable": no marks; "input": one of a folder or a person that judges
    """
    try:
        document = json.loads(Path(path).read_text())
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}, expected {SCHEMA}")
        marks = []
        for entry in document["backgrounds"]:
            courses = {Artery[a]: np.array(points, float).reshape(-1, 3) for a, points in entry["courses"].items()}
            marks.append(Mark(**{**entry, "courses": courses}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputRefused("unreadable", f"{path}: expected marked backgrounds, found {error}") from None
    for mark in marks:
        if Path(mark.file).parts[0] in JUDGES or mark.person in JUDGING_PERSONS:
            raise InputRefused("input", f"{mark.name} judges and cannot be trained on; take it out of {path}")
    return tuple(marks)


def licence_of(notice: Path) -> str:
    """The licence that a notice gives.

    Raises
    ------
    InputRefused
        "input": there is no notice, it names none of `LICENCES`, or it forbids trade or derivatives
    """
    try:
        text = notice.read_text()
    except OSError:
        raise InputRefused("input", f"{notice}: no notice; a background needs one that names its licence") from None
    if found := re.search(FORBIDDEN, text, re.IGNORECASE):
        raise InputRefused("input", f"{notice} says {found[0]!r}; such a background is not trained on")
    for name, written in LICENCES.items():
        if re.search(written, text):
            return name
    raise InputRefused("input", f"{notice} names none of {', '.join(LICENCES)}; say its licence there")


def open_background(mark: Mark, data: Path) -> CTVolume:
    """The scan of a background, from the very bytes that were marked.

    Parameters
    ----------
    mark
        Which.
    data
        The folder that `Mark.file` is relative to.

    Raises
    ------
    InputRefused
        "input": it is not there, has no notice, or another licence; "checksum": other bytes; or what reading refuses
    """
    path = Path(data) / mark.file
    if not path.is_file():
        raise InputRefused("input", f"{mark.name}: no such file: {path}")
    found = licence_of(path.parent / NOTICE)
    if found != mark.licence:
        raise InputRefused(
            "input", f"{mark.name}: marked under {mark.licence}, its notice says {found}; see which holds"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != mark.sha256:
        raise InputRefused("checksum", f"{path} is not the file that {mark.name} was marked on; mark it anew")
    allow = frozenset({"few-slices", "derived"})
    if path.suffix != ".zip":
        return read_series(find_series([path])[0], allow=allow)[0]
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        return read_series(find_series([Path(folder)])[0], allow=allow)[0]


def check_course(ct: CTVolume, points: NDArray[np.float64]) -> tuple[NDArray[np.bool_], list[tuple[int, str]]]:
    """Which points of a course plaques may be laid at.

    Parameters
    ----------
    points
        (n, 3) LPS mm

    Returns
    -------
    usable : NDArray[np.bool_]
        (n,)
    refused : list[tuple[int, str]]
        Nearest slice and reason of each of the others: "outside the volume", "on air" or "in bone"
    """
    index = np.rint(ct.index_kji(points)).astype(int).reshape(-1, 3)
    inside: NDArray[np.bool_] = np.all((index >= 0) & (index < ct.shape), axis=1)
    usable, refused = inside.copy(), []
    reach = [max(round(AROUND_MM / d), 1) for d in ct.spacing_mm[1:]]
    for n, (k, j, i) in enumerate(index.tolist()):
        if not inside[n]:
            refused.append((k, "outside the volume"))
            continue
        patch = ct.hu[k, max(j - reach[0], 0) : j + reach[0] + 1, max(i - reach[1], 0) : i + reach[1] + 1]
        level = float(np.median(patch))
        if not AIR_HU <= level <= BONE_HU:
            usable[n] = False
            refused.append((k, "on air" if level < AIR_HU else "in bone"))
    return usable, refused


def skeleton(ct: CTVolume) -> NDArray[np.bool_]:
    """(k, j, i) what is at or above 130 HU and too large for calcium in a chest: bone, most of it."""
    bright = ct.hu >= 130
    islands, count = ndimage.label(bright, np.ones((3, 3, 3)))
    area_mm2 = ct.spacing_mm[1] * ct.spacing_mm[2]
    size = np.bincount(islands.reshape(-1), minlength=count + 1)
    least_mm2 = 250.0 if ct.shape[0] == 1 else 700.0  # in a slice, or summed over slices
    large: NDArray[np.bool_] = np.greater(size, least_mm2 / area_mm2)
    large[0] = False
    return np.asarray(large[islands])
