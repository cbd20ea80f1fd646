"""What a segment is that somebody else made: its artery, by name and by anatomic region code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from heartlens.core.codes import REGIONS
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, Artery

ARTERY_OF_CODE: Mapping[str, Artery] = MappingProxyType(
    {
        **{code.value: artery for artery, code in REGIONS.items()},
        **dict.fromkeys(("91083009", "450960006", "41879009"), Artery.RCA),  # proximal, mid, distal; CID 3014
        **dict.fromkeys(("53655008", "17269004", "12800002"), Artery.RCA),  # its descending, lateral, AV node branches
        **dict.fromkeys(("68787002", "91748002", "36672000"), Artery.LAD),
        **dict.fromkeys(("91750005", "91751009", "91752002", "244251006"), Artery.LAD),  # diagonals, first septal
        **dict.fromkeys(("52433000", "91753007", "6511003"), Artery.LCX),
        **dict.fromkeys(("91754001", "91755000", "91756004", "91760001", "57823005"), Artery.LCX),  # obtuse marginals
        # Ramus: readers give it to LAD or to LCX, so it is left to them. The left artery as a whole, and a posterior
        # descending one of either side, are not one of the four.
        **dict.fromkeys(("244252004", "50018008", "443113009"), Artery.UNASSIGNED),
        **dict.fromkeys(("34202007", "77583004", "91134007", "65197004"), Artery.OTHER),  # valves and their rings
        **dict.fromkeys(("113262008", "15825003", "54247002", "57034009", "281130003", "32672002", "8128003"),
                        Artery.OTHER),  # aorta
    }
)  # fmt: skip
"""What a segment made elsewhere is, by its SCT code: as its anatomic region, or as its type, which is where Slicer,
dcmqi and TotalSegmentator write a structure by default."""

SCT_OF_SRT: Mapping[str, str] = MappingProxyType(
    {
        "T-43107": "3227004", "T-43110": "59438005", "T-43120": "57396003", "T-43200": "13647002",
        "T-43203": "13647002", "T-43000": "41801008", "T-43201": "91083009", "T-D6515": "450960006",
        "T-43202": "41879009", "T-43210": "53655008", "T-43211": "17269004", "T-43212": "12800002",
        "T-43111": "68787002", "T-43115": "91748002", "T-43112": "36672000", "T-43117": "91750005",
        "T-43118": "91751009", "T-43119": "91752002", "T-43002": "244251006", "T-43121": "52433000",
        "T-43127": "91753007", "T-43122": "6511003", "T-43128": "91754001", "T-43129": "91755000",
        "T-4312A": "91756004", "T-4312E": "91760001", "T-43125": "57823005", "T-43003": "244252004",
        "T-43100": "50018008", "T-D0878": "443113009", "T-35400": "34202007", "T-35410": "77583004",
        "T-35300": "91134007", "T-35310": "65197004", "T-42070": "113262008", "T-42000": "15825003",
        "T-42100": "54247002", "T-42300": "57034009", "T-D0765": "281130003", "T-42400": "32672002",
        "T-42110": "8128003",
    }
)  # fmt: skip
"""The same places in SNOMED-RT, the scheme of DICOM before 2013 and of files that are still written; PS3.16 annex O."""

_SRT_SCHEMES = frozenset({"SRT", "SNM3", "99SDM"})
"""Designators of SNOMED-RT, the last two retired; PS3.16 8."""

_NAMES: tuple[tuple[Artery, str], ...] = (
    (Artery.LM, r"lm\d*|lmca\d*|left main.*"),
    (Artery.LAD, r"lad\d*|.*anterior descending.*"),
    (Artery.LCX, r"lcx\d*|cx\d*|lcca\d*|.*circumflex.*"),
    (Artery.RCA, r"rca\d*|.*right coronary.*"),
    (Artery.OTHER, r"other\d*|not coronary|non coronary|excluded"),
    (Artery.UNASSIGNED, r"unassigned\d*|.*not assigned|coronary arter(y|ies)|coronaries|cac"),
)


def artery_of_name(name: str) -> Artery | None:
    """The artery that a segment's name says, or None when it says none, or two.

    Examples
    --------
    >>> artery_of_name("LAD-03"), artery_of_name("Left circumflex coronary artery"), artery_of_name("LM/LAD")
    (<Artery.LAD: 2>, <Artery.LCX: 3>, None)
    """
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).strip()
    arteries = {artery for artery, pattern in _NAMES if re.fullmatch(pattern, words)}
    if not arteries:
        arteries = {artery for artery, pattern in _NAMES for word in words.split() if re.fullmatch(pattern, word)}
    if len(arteries) > 1:
        arteries &= set(CORONARY)  # "CAC LAD" says LAD
    return arteries.pop() if len(arteries) == 1 else None


def artery_of_codes(codes: Iterable[tuple[str, str]]) -> set[Artery]:
    """The arteries that codes say, each a scheme and a value; one of the four goes before the coronary tree.

    Examples
    --------
    >>> artery_of_codes([("SCT", "41801008"), ("SRT", "T-43110")]), artery_of_codes([("SCT", "29483008")])
    ({<Artery.LAD: 2>}, set())
    """
    sct = {SCT_OF_SRT.get(value, value) if scheme in _SRT_SCHEMES else value for scheme, value in codes}
    arteries = {ARTERY_OF_CODE[value] for value in sct if value in ARTERY_OF_CODE}
    return arteries - {Artery.UNASSIGNED} if len(arteries) > 1 else arteries


def segment_artery(path: Path | str, name: str, codes: Iterable[tuple[str, str]]) -> Artery:
    """The artery that a segment's name or its codes say.

    Parameters
    ----------
    path
        For the message.
    name
        Of the segment.
    codes
        Scheme and value of its anatomic region and of its type.

    Raises
    ------
    InputRefused
        ``labels``, when they say none, or when they contradict each other
    """
    by_name, by_code = artery_of_name(name), artery_of_codes(codes)
    said = {artery for artery in by_code | {by_name} if artery is not None}
    if len(said) > 1 and by_name is Artery.UNASSIGNED:
        said -= {Artery.UNASSIGNED}
    if len(said) > 1 and by_code == {Artery.UNASSIGNED}:
        said -= by_code
    if len(said) > 1:
        told = " and ".join(sorted(artery.name for artery in by_code))
        beside = f"is named {by_name.name}, but its codes say {told}" if by_name else f"has codes that say {told}"
        raise InputRefused("labels", f"{path}: segment {name!r} {beside}; make name and terminology agree")
    if not said:
        raise unknown_labels(path, [f"segment {name!r}"])
    return said.pop()


def put_artery(flat_codes: NDArray[np.uint8], flat: NDArray[np.int64], artery: Artery, path: Path | str) -> None:
    """Label voxels with an artery, in place.

    Raises
    ------
    InputRefused
        ``labels``, when some of them belong to another artery already
    """
    taken = flat_codes[flat]
    clash = (taken != 0) & (taken != artery)
    if clash.any():
        other = Artery(int(taken[clash][0]))
        raise InputRefused(
            "labels",
            f"{path}: expected every voxel in one artery, found {int(clash.sum())} in both {other.name} and "
            f"{artery.name}; remove the overlap",
        )
    flat_codes[flat] = artery


def unknown_labels(path: Path | str, names: Iterable[str]) -> InputRefused:
    """The refusal of labels that name no artery."""
    meaning = ", ".join(f"{int(artery)} {artery.name}" for artery in Artery)
    return InputRefused("labels", f"{path}: expected {meaning} (or segments of these names), found {', '.join(names)}")
