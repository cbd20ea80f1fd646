"""A third case of two readings: what both call coronary stands, the rest is left to a reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heartlens import __version__
from heartlens.calcium import extract_lesions
from heartlens.case.case import Case
from heartlens.case.comparison.opened import OpenedCase
from heartlens.case.comparison.readers import compare_readings
from heartlens.case.inputs import ADJUDICATION
from heartlens.case.signature import now
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import SCORED_ARTERIES, Artery, LesionMap, LesionNote
from heartlens.core.provenance import LabelSource, Provenance

NAMED_BY_ONE = ("network", "rules", "no-bundle")
"""Warnings that say who named the calcium of one reading."""


def is_adjudicated(case: Case) -> bool:
    """Whether a case was made of two readings."""
    return any(caution.code == ADJUDICATION for caution in case.cautions)


def adjudicated(a: OpenedCase, b: OpenedCase) -> Case:
    """A third case: what both readings call coronary, and as undecided what one of them alone does, or leaves open.

    Where they name two arteries the calcium has none; that, too, has to be settled before anybody signs. What neither
    calls coronary and one of them has not decided is there as well: no range of the third case is narrower than that
    of a reading by what was left out.

    Parameters
    ----------
    a, b
        The two cases.

    Raises
    ------
    InputRefused
        ``input``: they are of two scans, were scored by two protocols, or one was itself made of two readings.
    """
    for one in (a, b):
        if is_adjudicated(one.case):
            raise InputRefused(
                "input",
                f"the case in {one.folder} was made of two readings: expected a reading by one person; "
                "name one of the two readings",
            )
    compared = compare_readings(a, b)
    decisive = [one.what for one in compared.differences if one.decides]
    if decisive:
        raise InputRefused(
            "input", f"the two readings were scored differently ({', '.join(decisive)}): score both in one way first"
        )
    ct = a.case.ct
    labels = tuple(one.case.lesions.artery_map().reshape(-1) for one in (a, b))
    coronary = tuple(np.isin(codes, SCORED_ARTERIES) for codes in labels)
    # Undecided in both readings stays so: two who do not know agree on nothing.
    open_in = [np.isin(one.case.lesions.labels.reshape(-1), _undecided(one.case)) for one in (a, b)]
    flat = np.flatnonzero(coronary[0] | coronary[1] | open_in[0] | open_in[1])
    by_a, by_b = labels[0][flat], labels[1][flat]
    is_a, is_b = coronary[0][flat], coronary[1][flat]
    is_open = open_in[0][flat] | open_in[1][flat]
    two_arteries = is_a & is_b & (by_a != by_b)
    codes = np.select([two_arteries, is_a, is_b], [np.uint8(Artery.UNASSIGNED), by_a, by_b], np.uint8(Artery.OTHER))
    note = np.select([is_a & ~is_b, is_b & ~is_a, is_open, two_arteries], [2, 3, 4, 1], 0)
    notes = (
        LesionNote(source=LabelSource.READER, why="both readings agree"),
        LesionNote(source=LabelSource.READER, why="both readings call it coronary and name two arteries"),
        LesionNote(source=LabelSource.READER, why="coronary in reading A alone", undecided=True),
        LesionNote(source=LabelSource.READER, why="coronary in reading B alone", undecided=True),
        LesionNote(source=LabelSource.READER, why="undecided in one reading or in both", undecided=True),
    )
    parts: list[LesionMap] = [
        extract_lesions(ct, flat[note == n], codes[note == n], a.case.protocol, notes=(one,))
        for n, one in enumerate(notes)
        if (note == n).any()
    ]
    lesions = _together(parts, ct.shape)
    cautions = tuple(caution for caution in a.case.cautions if caution.code not in NAMED_BY_ONE)
    told = WarningRecord(ADJUDICATION, "two readings were joined; what one of them alone calls coronary is undecided")
    return Case.of(
        a.case.source_ct,
        lesions,
        a.case.protocol,
        slice_probability=a.case.slice_probability,
        risk_inputs=a.case.risk_inputs,
        cautions=(*cautions, told),
        provenance=Provenance(
            LabelSource.READER, version=__version__, source=a.case.provenance.source, scored_at=now()
        ),
    )


def _together(parts: Sequence[LesionMap], shape: tuple[int, int, int]) -> LesionMap:
    """Lesion maps without a common voxel as one."""
    labels = np.zeros(shape, np.uint16)
    arteries: dict[int, Artery] = {}
    notes: dict[int, LesionNote] = {}
    for part in parts:
        offset = max(arteries, default=0)
        labels.reshape(-1)[part.voxels.flat] = part.voxels.ids + offset
        arteries |= {number + offset: artery for number, artery in part.arteries.items()}
        notes |= {number + offset: note for number, note in part.notes.items()}
    return LesionMap(labels, arteries, notes)


def _undecided(case: Case) -> list[int]:
    return [number for number, note in case.lesions.notes.items() if note.undecided]
