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

ARTERY_OF_REGION: Mapping[str, Artery] = MappingProxyType(
    {
        **{code.value: artery for artery, code in REGIONS.items()},
        **dict.fromkeys(("91083009", "450960006", "41879009"), Artery.RCA),  # proximal, mid, distal; CID 3014
        **dict.fromkeys(("68787002", "91748002", "36672000"), Artery.LAD),
        **dict.fromkeys(("52433000", "91753007", "6511003"), Artery.LCX),
        "244252004": Artery.UNASSIGNED,  # ramus: readers give it to LAD or to LCX, so it is left to them
        **dict.fromkeys(("34202007", "65197004", "113262008"), Artery.OTHER),  # aortic valve, mitral annulus, aorta
    }
)
"""What a segment made elsewhere is, by its SCT anatomic region."""

_NAMES: tuple[tuple[Artery, str], ...] = (
    (Artery.LM, r"lm\d*|lmca\d*|left main.*"),
    (Artery.LAD, r"lad\d*|.*anterior descending.*"),
    (Artery.LCX, r"lcx\d*|cx\d*|lcca\d*|.*circumflex.*"),
    (Artery.RCA, r"rca\d*|.*right coronary.*"),
    (Artery.OTHER, r"other\d*|not coronary|non coronary|excluded"),
    (Artery.UNASSIGNED, r"unassigned\d*|.*not assigned|coronary artery|cac"),
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


def artery_of_regions(values: Iterable[str]) -> Artery | None:
    """The artery that SCT anatomic region codes say, or None."""
    arteries = {ARTERY_OF_REGION[value] for value in values if value in ARTERY_OF_REGION}
    return arteries.pop() if len(arteries) == 1 else None


def segment_artery(path: Path | str, name: str, regions: list[str]) -> Artery:
    """The artery that a segment's name or anatomic region codes say.

    Raises
    ------
    InputRefused
        ``labels``, when they say none, or when they contradict each other
    """
    by_name, by_region = artery_of_name(name), artery_of_regions(regions)
    if by_name is not None and by_region is not None and by_name != by_region:
        raise InputRefused(
            "labels",
            f"{path}: segment {name!r} is named {by_name.name}, but its anatomic region is {by_region.name}; "
            "make name and terminology agree",
        )
    artery = by_name if by_name is not None else by_region
    if artery is None:
        raise unknown_labels(path, [f"segment {name!r}"])
    return artery


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
