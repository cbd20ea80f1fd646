"""Which case next: in what order cases are corrected, so that the first ones teach most."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np

from heartlens.case.case import Case
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.io.volumes import write_volume
from heartlens.pipeline import Request, score_series
from training.datasets.shards import ShardSet
from training.datasets.splits import scans_of

Order = Literal["random", "active"]
"""As they come; or those first about which the bundle is least decided, as a worklist has them."""

ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True, order=True)
class Doubt:
    """How undecided a bundle is about a scan, without anybody's labels; the larger one is looked at first.

    Parameters
    ----------
    score
        Agatston that depends on what is undecided.
    lesions
        How many lesions are undecided.
    nearness
        Of the probability nearest to one half: 1 at one half, 0 where all are sure.
    """

    score: float = 0.0
    lesions: int = 0
    nearness: float = 0.0


def doubt_of(case: Case) -> Doubt:
    """The doubt of a scored case.

    Parameters
    ----------
    case
        As the program made it.
    """
    notes = list(case.lesions.notes.values())
    known = [note.probability for note in notes if note.probability is not None]
    return Doubt(
        float(case.assessment.total_high - case.assessment.total_low),
        sum(note.undecided for note in notes),
        max((1 - 2 * abs(p - 0.5) for p in known), default=0.0),
    )


def read_doubts(
    bundle: Path, shards: ShardSet, scans: Sequence[int], path: Path, on_progress: Callable[[str], None] | None = None
) -> dict[int, Doubt]:
    """What a bundle is in doubt about, of scans that it scores as a user's; kept in a file.

    Parameters
    ----------
    bundle
        Its folder.
    shards
        Of the scans.
    scans
        Their numbers.
    path
        Keeps what is known, by the checksum of the voxels.
    on_progress
        Called with the name of each scan that is scored.
    """
    known = {key: Doubt(one["score"], int(one["lesions"]), one["nearness"]) for key, one in _read(path).items()}
    for n in scans:
        record = shards.scans[n]
        if record.voxels_sha256 in known:
            continue
        if on_progress is not None:
            on_progress(record.name)
        known[record.voxels_sha256] = _score(bundle, shards, n)
        with atomic_file(path) as sibling:
            sibling.write_text(json.dumps({key: asdict(one) for key, one in known.items()}), encoding="utf-8")
    return {n: known[shards.scans[n].voxels_sha256] for n in scans}


def _score(bundle: Path, shards: ShardSet, scan: int) -> Doubt:
    with TemporaryDirectory() as folder:
        place = Path(folder) / "ct.nrrd"
        write_volume(place, shards.ct(scan))
        try:
            return doubt_of(score_series(place, Request(bundle=str(bundle), allow=OVERRIDABLE)).case)
        except InputRefused:
            return Doubt()  # what it cannot score, it has no opinion on


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def order_patients(
    patients: Sequence[str],
    order: Order,
    seed: int,
    *,
    shards: ShardSet,
    doubts: Callable[[Sequence[int]], dict[int, Doubt]],
) -> list[str]:
    """Patients in the order in which they are corrected.

    Parameters
    ----------
    patients
        Those who may teach.
    order
        Random draws; active takes the most doubtful scan of each, and draws among equals.
    seed
        Of the draws.
    shards
        Of their scans.
    doubts
        Gives those of some scans; only asked in active order.
    """
    drawn = [sorted(patients)[n] for n in np.random.default_rng([seed, 2]).permutation(len(patients)).tolist()]
    if order == "random":
        return drawn
    scans = {patient: scans_of(shards, (patient,)) for patient in drawn}
    known = doubts([n for own in scans.values() for n in own])
    return sorted(drawn, key=lambda patient: max(known[n] for n in scans[patient]), reverse=True)
