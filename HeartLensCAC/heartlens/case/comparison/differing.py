"""Where two readings of one scan differ, lesion by lesion, with the voxels: what views and pages show of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.case.comparison.readers import Agreement, ComparedLesion, Comparison
from heartlens.case.correction import island_ids
from heartlens.case.edits import runs_of


class Dispute(str, Enum):
    """In what two readings differ."""

    ARTERY = "artery"
    A_ALONE = "A alone"
    B_ALONE = "B alone"
    EXTENT = "extent"
    UNDECIDED = "undecided"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class Differing:
    """Lesions of two readings that share a voxel and are not the same in both, or one of one reading alone.

    Parameters
    ----------
    what
        In what they differ.
    lesion
        What was compared.
    undecided_a, undecided_b
        The reading has not decided on a lesion of its own there.
    flat
        (n,) C-order indices into the CT as it was read, ascending: the voxels on which the readings differ; where they
        differ in what is undecided alone, all of the lesions
    place_kji
        Of the brightest of them.
    place_lps_mm
        The same place in the patient.
    """

    what: Dispute
    lesion: ComparedLesion
    undecided_a: bool
    undecided_b: bool
    flat: NDArray[np.int64]
    place_kji: tuple[int, int, int]
    place_lps_mm: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """What compare.json holds of it."""
        told = self.lesion.to_json()
        del told["kind"], told["undecided"]
        return {
            "what": self.what.value,
            **told,
            "undecided_a": self.undecided_a,
            "undecided_b": self.undecided_b,
            "place_lps_mm": list(self.place_lps_mm),
            "runs": [list(run) for run in runs_of(self.flat)],
        }


def differing(a: Case, b: Case, compared: Comparison) -> Iterator[Differing]:
    """Where two readings differ, the highest score first: in the artery, the extent, or what is undecided.

    Parameters
    ----------
    a, b
        The two readings.
    compared
        Of them.

    Yields
    ------
    Differing
        Nothing for lesions that are the same voxel by voxel.
    """
    islands = [island_ids(case).reshape(-1) for case in (a, b)]
    there = np.flatnonzero((islands[0] > 0) | (islands[1] > 0))  # calcium is a small part of a scan
    of_a, of_b = (one[there] for one in islands)
    agreed = compared.map.reshape(-1)[there] == Agreement.BOTH
    for lesion in compared.lesions:
        mine = np.isin(of_a, lesion.a) | np.isin(of_b, lesion.b)
        disputed = there[mine & ~agreed]
        if not disputed.size and not lesion.undecided:
            continue
        flat = disputed if disputed.size else there[mine]
        ct = a.source_ct
        k, j, i = np.unravel_index(int(flat[np.argmax(ct.hu.reshape(-1)[flat])]), ct.shape)
        x, y, z = ct.lps_mm([float(k), float(j), float(i)])
        yield Differing(
            _dispute(lesion), lesion, _is_open(a, lesion.a), _is_open(b, lesion.b), flat,
            (int(k), int(j), int(i)), (float(x), float(y), float(z)),
        )  # fmt: skip


def _dispute(lesion: ComparedLesion) -> Dispute:
    if lesion.kind == "open" or (lesion.kind == "both" and lesion.undecided):
        return Dispute.UNDECIDED
    kinds = {"both": Dispute.EXTENT, "other artery": Dispute.ARTERY, "only A": Dispute.A_ALONE}
    return kinds.get(lesion.kind, Dispute.B_ALONE)


def _is_open(case: Case, ids: tuple[int, ...]) -> bool:
    return any(case.lesions.notes[n].undecided for n in ids)
