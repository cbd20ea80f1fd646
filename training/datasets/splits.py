"""Which patient is trained on, which decides when to stop, and which is only ever tested on.

Splits are by patient, never by scan or slice, and stratified by risk category as in the paper's Table 2. A patient
of validation or test is not seen by pre-training either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.risk.categories import SCHEMES
from training.datasets.shards import ScanRecord, ShardSet

SCHEMA = "heartlens.splits/1"
SPLITS = ("train", "validation", "test")

PAPER_PROPORTIONS = (354, 44, 45)
"""Patients in training, validation and test; DINO-LG (arXiv 2411.07976), Table 2."""

SCHEME = "dino-lg"


@dataclass(frozen=True)
class Splits:
    """Patients of each part; those without complete labels are in none.

    Parameters
    ----------
    train, validation, test
        Pseudonyms, sorted.
    seed, proportions
        How they were drawn.

    Raises
    ------
    InputRefused
        "input": a patient in two parts, or a part without any
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    seed: int = 0
    proportions: tuple[float, float, float] = PAPER_PROPORTIONS

    def __post_init__(self) -> None:
        for name in SPLITS:
            patients = tuple(sorted(getattr(self, name)))
            object.__setattr__(self, name, patients)
            if not patients:
                raise InputRefused(
                    "input", f"the {name} split has no patient; give more patients, or other proportions"
                )
            if len(set(patients)) < len(patients):
                raise InputRefused("input", f"the {name} split names a patient twice; make the splits again")
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            both = set(getattr(self, one)) & set(getattr(self, other))
            if both:
                raise InputRefused(
                    "input",
                    f"{len(both)} patients are in both {one} and {other} (first {min(both)}): results on them would "
                    "be worthless; make the splits again",
                )

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        document = {
            "schema": SCHEMA,
            "seed": self.seed,
            "proportions": list(self.proportions),
            **{name: list(getattr(self, name)) for name in SPLITS},
        }
        with atomic_file(Path(path)) as sibling:
            sibling.write_text(json.dumps(document, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Splits:
        """Read splits and check them again.

        Raises
        ------
        InputRefused
            "input" or "unreadable"
        """
        try:
            document = json.loads(Path(path).read_text())
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r}, expected {SCHEMA}")
            parts = {name: tuple(map(str, document[name])) for name in SPLITS}
            a, b, c = document["proportions"]
            return cls(**parts, seed=int(document["seed"]), proportions=(a, b, c))
        except OSError as error:
            raise InputRefused("input", f"cannot read {path}: {error.strerror or error}; check the path") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputRefused("unreadable", f"{path}: expected splits, found {error}; make them again") from None


def split_patients(
    shards: ShardSet, *, seed: int, proportions: tuple[float, float, float] = PAPER_PROPORTIONS
) -> Splits:
    """Share out the labeled patients, each risk category in the same proportions, as far as whole patients allow.

    Patients who share a scan (the same voxels under two names) count as one. The outcome depends on the set of
    patients and the seed, not on the order of the scans.

    Parameters
    ----------
    proportions
        Of training, validation and test.

    Raises
    ------
    InputRefused
        "input": a part would be empty; the paper's proportions need 7 patients
    """
    same = _same_patient(shards.scans)
    groups: dict[str, list[str]] = {}
    category_of: dict[str, int] = {}
    order = [row.category for row in SCHEMES[SCHEME].categories]
    for scan in shards.scans:
        if scan.is_labeled and scan.category is not None:
            group = same[scan.patient]
            # A patient with several scans counts by the worst of them.
            category_of[group] = max(category_of.get(group, 0), order.index(scan.category))
    for patient, group in same.items():
        groups.setdefault(group, []).append(patient)
    strata = [sorted(g for g, row in category_of.items() if row == n) for n in range(len(order))]
    counts = share_out([len(stratum) for stratum in strata], proportions)
    parts: dict[str, list[str]] = {name: [] for name in SPLITS}
    for n, (stratum, row) in enumerate(zip(strata, counts, strict=True)):
        shuffled = [stratum[i] for i in np.random.default_rng([seed, n]).permutation(len(stratum))]
        first = 0
        for name, count in zip(SPLITS, row, strict=True):
            for group in shuffled[first : first + count]:
                parts[name] += groups[group]
            first += count
    if not category_of:
        raise InputRefused("input", "no patient has complete labels; splits need labeled scans")
    return Splits(tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]), seed, proportions)


def share_out(sizes: Sequence[int], proportions: Sequence[float]) -> list[list[int]]:
    """Whole numbers with the given row sums, whose columns have the given proportions (largest remainder).

    The columns' totals are fixed first, so that many small strata do not all round in favor of training.

    Parameters
    ----------
    sizes
        Of each stratum.
    proportions
        Of each part.

    Returns
    -------
    list[list[int]]
        One row per stratum, one column per part.

    Examples
    --------
    The paper's Table 2:

    >>> share_out([56, 147, 122, 118], (354, 44, 45))
    [[45, 5, 6], [117, 15, 15], [98, 12, 12], [94, 12, 12]]
    """
    whole = math.fsum(proportions)
    if len(proportions) < 1 or min(proportions) < 0 or not whole > 0:
        raise ValueError(f"proportions must be 0 or more and not all 0, got {tuple(proportions)}")
    totals = _largest_remainder([sum(sizes) * p / whole for p in proportions], sum(sizes))
    shares = [[size * p / whole for p in proportions] for size in sizes]
    counts = [[math.floor(share) for share in row] for row in shares]
    row_left = [size - sum(row) for size, row in zip(sizes, counts, strict=True)]
    column_left = [total - sum(row[c] for row in counts) for c, total in enumerate(totals)]
    while any(row_left):
        cells = [
            (shares[r][c] - counts[r][c], -r, -c)
            for r in range(len(sizes))
            for c in range(len(totals))
            if row_left[r] > 0 and column_left[c] > 0
        ]
        _, r, c = max(cells)
        counts[-r][-c] += 1
        row_left[-r] -= 1
        column_left[-c] -= 1
    return counts


def scans_of(shards: ShardSet, patients: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the labeled scans of some patients, ascending.

    Raises
    ------
    InputRefused
        "input": a patient who is not in these shards
    """
    wanted = set(patients)
    lost = wanted - {scan.patient for scan in shards.scans}
    if lost:
        raise InputRefused(
            "input", f"{len(lost)} patients of the splits are not in the shards (first {min(lost)}); make them again"
        )
    return tuple(n for n, scan in enumerate(shards.scans) if scan.patient in wanted and scan.is_labeled)


def check_splits(shards: ShardSet, splits: Splits) -> None:
    """Refuse splits that do not fit the shards or let a scan leak.

    Raises
    ------
    InputRefused
        "input": unknown patients, or the same voxels under names in two parts
    """
    part_of = {patient: name for name in SPLITS for patient in getattr(splits, name)}
    for name in SPLITS:
        scans_of(shards, getattr(splits, name))
    known: dict[str, tuple[str, str]] = {}
    for scan in shards.scans:
        part = part_of.get(scan.patient)
        if part is None:
            continue
        other, name = known.setdefault(scan.voxels_sha256, (part, scan.name))
        if other != part:
            raise InputRefused(
                "input", f"{scan.name} ({part}) and {name} ({other}) hold the same voxels; make the splits again"
            )


def pretraining_patients(shards: ShardSet, splits: Splits) -> tuple[str, ...]:
    """Everybody whose images pre-training may see: all patients, labeled or not, except validation and test.

    Patients who share a scan with one of validation or test are left out too.
    """
    check_splits(shards, splits)
    same = _same_patient(shards.scans)
    held_out = {same[patient] for patient in (*splits.validation, *splits.test) if patient in same}
    return tuple(sorted(patient for patient, group in same.items() if group not in held_out))


def pretraining_scans(shards: ShardSet, splits: Splits) -> tuple[int, ...]:
    """Numbers of all scans of `pretraining_patients`, ascending."""
    patients = set(pretraining_patients(shards, splits))
    return tuple(n for n, scan in enumerate(shards.scans) if scan.patient in patients)


def _largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda n: (counts[n] - shares[n], n))
    for n in by_remainder[: total - sum(counts)]:
        counts[n] += 1
    return counts


def _same_patient(scans: Sequence[ScanRecord]) -> Mapping[str, str]:
    """Representative of each patient: the smallest of all who are linked by equal voxels."""
    root = {scan.patient: scan.patient for scan in scans}

    def find(patient: str) -> str:
        while root[patient] != patient:
            patient = root[patient]
        return patient

    first: dict[str, str] = {}
    for scan in scans:
        other = first.setdefault(scan.voxels_sha256, scan.patient)
        a, b = sorted((find(scan.patient), find(other)))
        root[b] = a
    return {patient: find(patient) for patient in root}
