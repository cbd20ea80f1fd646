"""Saved cases as a site's own truth: signed ones alone, each scan once, and of it only what its reader looked at."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.case.comparison.adjudication import is_adjudicated
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.case.comparison.readers import compare_readings
from heartlens.case.correction import island_ids
from heartlens.case.folder import case_in, find_case, read_json
from heartlens.case.journal import JOURNAL
from heartlens.case.seal import SIGNATURE
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.risk.evaluable import State
from training.datasets.scans import UNREVIEWED, LabeledScan, Skipped, without_places
from training.datasets.sources import scan_of_case

UNSIGNED, AGREES, CONTRADICTS, ADJUDICATED = "unsigned", "second-reading", "disagreement", "adjudicated"
"""Why a case that can be opened is left out, beside the codes of refusals."""


class Contradiction(NamedTuple):
    """Two readers of one scan who do not say the same of its calcium.

    Parameters
    ----------
    cases
        Their places in the list that was given, from 1.
    readers
        Who signed each.
    dice
        Overlap of what the two call coronary; None where neither calls any.
    lesions
        How many lesions of each kind, see `heartlens.case.comparison.readers.ComparedLesion`.
    settled_by
        Place of the signed third case that decides between them; None where there is none.
    """

    cases: tuple[int, ...]
    readers: tuple[str, ...]
    dice: float | None
    lesions: dict[str, int]
    settled_by: int | None = None


def signed_scans(
    places: Sequence[Path], contradictions: list[Contradiction] | None = None
) -> Iterator[LabeledScan | Skipped]:
    """What signed cases teach; every other one is named and skipped, by its place in the list and not by its folder.

    Of two readings of one scan that agree, the first counts. Where readings contradict each other a signed third case
    made of two of them (`heartlens compare --adjudicate`) decides; without one none counts, since nobody but the
    readers can say who is right.

    Parameters
    ----------
    places
        Case folders, or report folders with one.
    contradictions
        Takes one for every scan whose readers contradict each other.
    """
    numbered = [(n, Path(place)) for n, place in enumerate(places, 1)]
    readings: dict[str, list[tuple[int, Path]]] = {}
    for n, place in numbered:
        readings.setdefault(_scan_key(place) or f"case {n}", []).append((n, place))
    for group in readings.values():
        signed: list[tuple[int, OpenedCase]] = []
        for n, place in group:
            try:
                opened = open_case(place)
                scan_of_case(opened)  # refuses one that was altered
                if opened.state is State.SIGNED:
                    signed.append((n, opened))
                    continue
                skip = Skipped(
                    _name(n, places), UNSIGNED, "nobody has signed it as it is now; look through it and sign"
                )
            except InputRefused as refusal:
                skip = Skipped(_name(n, places), refusal.code, without_places(refusal.text, place, f"case {n}"))
            yield skip
        yield from _agreed(signed, places, contradictions if contradictions is not None else [])


Numbered = tuple[int, OpenedCase]
"""A case with its place in the list."""


def _agreed(
    signed: list[Numbered], places: Sequence[Path], contradictions: list[Contradiction]
) -> Iterator[LabeledScan | Skipped]:
    """The scan of some readings of it, or none where they contradict each other and no third case decides."""
    third = [one for one in signed if is_adjudicated(one[1].case)]
    readings = [one for one in signed if one not in third]
    among_third = _contradictions(third)
    settled_by = third[0][0] if third and not among_third else None
    among_readings = [one._replace(settled_by=settled_by) for one in _contradictions(readings)]
    contradictions += among_readings + among_third
    if among_third or (among_readings and not third):
        way_out = (
            "leave all of these third cases out but one"
            if among_third
            else "adjudicate them (heartlens compare --adjudicate), sign the third case and give it too"
        )
        for n, _ in signed:
            others = " and ".join(str(m) for m, _ in signed if m != n)
            yield Skipped(_name(n, places), CONTRADICTS, f"contradicts case {others} of the same scan; {way_out}")
        return
    kept, code = (third, ADJUDICATED) if third else (readings, AGREES)
    for n, _ in signed:
        if kept and n != kept[0][0]:
            text = f"case {kept[0][0]} of the same scan decides" if third else f"says what case {kept[0][0]} says"
            yield Skipped(_name(n, places), code, f"{text}; a scan counts once")
    if kept:
        scan = reviewed_scan(kept[0][1])
        yield _with_agreed(scan, readings) if third else scan


def _contradictions(readings: list[Numbered]) -> list[Contradiction]:
    """Between the first of some readings of one scan and each of the others."""
    found = []
    for n, opened in readings[1:]:
        comparison = compare_readings(readings[0][1], opened)
        if any(lesion.kind != "both" for lesion in comparison.lesions):
            pair = (readings[0][1], opened)
            names = tuple(one.signature.observer for one in pair if one.signature is not None)
            kinds = dict(Counter(lesion.kind for lesion in comparison.lesions))
            found.append(Contradiction((readings[0][0], n), names, comparison.dice, kinds))
    return found


def _with_agreed(third: LabeledScan, readings: list[Numbered]) -> LabeledScan:
    """A third case with what it does not list because both readings say the same of it: that it is not coronary."""
    if len(readings) < 2 or third.labels is None:
        return third
    first, *others = (reviewed_scan(opened).labels for _, opened in readings)
    assert first is not None
    is_agreed = (third.labels == UNREVIEWED) & np.all([first == other for other in others], axis=0)
    return replace(third, labels=np.where(is_agreed, first, third.labels))


def reviewed_scan(opened: OpenedCase) -> LabeledScan:
    """A signed case with `UNREVIEWED` wherever something dense was never put before the reader as a lesion.

    A reader signs for lesions: for those that are listed, and for those that were taken out. Ribs, spine and pieces too
    small to count are neither, and a network must not learn from them that they are nothing.

    Parameters
    ----------
    opened
        The case.

    Raises
    ------
    InputRefused
        ``checksum``: it was altered after it was signed
    """
    scan, case = scan_of_case(opened), opened.case
    labels = case.scored_codes
    is_dense = case.source_ct.hu >= case.protocol.threshold_hu
    labels[is_dense & (labels == 0) & ~_taken_out(case)] = UNREVIEWED
    notes = scan.notes
    if _has_coronary(case.auto.arteries.values()) and not _has_coronary(case.lesions.arteries.values()):
        notes = (*notes, "its reader left none of the coronary lesions that the program had found")
    return replace(scan, labels=labels, notes=notes)


def _taken_out(case: Case) -> NDArray[np.bool_]:
    """(k, j, i) voxels of lesions that the program had found and that are in none now."""
    gone = np.zeros(case.source_ct.shape, bool)
    if case.slab_count == 1:
        gone.reshape(-1)[case.auto.voxels.flat] = True
        gone[case.lesions.labels > 0] = False
        gone[island_ids(case) > 0] = False
    return gone


def _has_coronary(arteries: object) -> bool:
    return any(artery in CORONARY for artery in arteries)  # type: ignore[attr-defined]


def state_of_cases(places: Sequence[Path]) -> str:
    """Checksum of what some cases say now, so that work that was begun with them can tell whether it still may go on.

    Parameters
    ----------
    places
        Case folders, or report folders with one.
    """
    digest = hashlib.sha256()
    for place in places:
        folder = case_in(Path(place))
        for name in ("case.json", JOURNAL, SIGNATURE):
            try:
                content = b"" if folder is None else (folder / name).read_bytes()
            except OSError:
                content = b""
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _scan_key(place: Path) -> str | None:
    """Checksum of the voxels that were scored; None where the case cannot say it."""
    try:
        return str(read_json(find_case(place) / "case.json")["checksums"]["voxels_sha256"])
    except (InputRefused, OSError, ValueError, LookupError, TypeError):
        return None


def _name(n: int, places: Sequence[Path]) -> str:
    return f"case {n} of {len(places)}"
