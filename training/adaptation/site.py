"""The cases of a site as data: shards of what its readers signed, split by patient, with other scans beside them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from training.adaptation.judged import LEAST_JUDGED
from training.datasets.readings import Contradiction, signed_scans, state_of_cases
from training.datasets.shard_writer import write_shards
from training.datasets.shards import INDEX, ScanRecord, ShardSet
from training.datasets.splits import Splits, check_splits, scans_of, split_patients
from training.engine.cli import Progress

PROPORTIONS = (5.0, 2.0, 3.0)
"""Patients who teach, who choose the best step and the cut-off, and who judge."""

SITE, CASES, SPLITS_FILE = "site", "cases.json", "splits.json"


class Site(NamedTuple):
    """What the readers of a site gave.

    Parameters
    ----------
    shards
        Of its usable cases.
    splits
        Of its patients.
    contradictions
        Between its readers.
    given
        How many cases there were.
    """

    shards: ShardSet
    splits: Splits
    contradictions: tuple[Contradiction, ...]
    given: int

    def learned_from(self) -> dict[str, Any]:
        """Who taught, and what was left out and why, as the bundle says it."""
        train = [self.shards.scans[n] for n in scans_of(self.shards, self.splits.train)]
        readers: dict[str, int] = {}
        for scan in train:
            signer = scan.provenance["signed"]
            name = f"{signer['observer']}, {signer['organization']}"
            readers[name] = readers.get(name, 0) + 1
        skipped: dict[str, int] = {}
        for skip in self.shards.skipped:
            skipped[skip.code] = skipped.get(skip.code, 0) + 1
        return {
            "cases": {"given": self.given, "used": len(self.shards.scans), "taught": len(train), "skipped": skipped},
            "patients": {part: len(getattr(self.splits, part)) for part in ("train", "validation", "test")},
            "readers": dict(sorted(readers.items())),
            "emptied": sum(any("left none" in note for note in scan.notes) for scan in self.shards.scans),
            "contradictions": [one._asdict() for one in self.contradictions],
            "before_them": sorted({str(scan.provenance["bundle"]) for scan in train}),
        }


def read_site(places: Sequence[Path], work: Path, seed: int) -> Site:
    """Make, or find again, the shards and the splits of a site.

    Parameters
    ----------
    places
        Case folders, or report folders with one.
    work
        Folder that keeps them.
    seed
        Of the splits.

    Raises
    ------
    InputRefused
        ``input``: no case, too few patients, or the cases are not those that `work` was begun with
    """
    record, state = work / CASES, state_of_cases(places)
    has_shards = (work / SITE / INDEX).exists()
    document = json.loads(record.read_text(encoding="utf-8")) if has_shards and record.exists() else {}
    if document.get("state") == state:
        contradictions = [
            Contradiction(**{**one, "cases": tuple(one["cases"]), "readers": tuple(one["readers"])})
            for one in document["contradictions"]
        ]
        shards = ShardSet.open(work / SITE)
    else:
        if (work / SPLITS_FILE).exists():
            raise InputRefused(
                "input", f"{work} was begun with other cases, or these were edited since; give another --work"
            )
        if has_shards:  # of cases that were too few, or cut short: nothing was learned from them
            shutil.rmtree(work / SITE)
        contradictions = []
        bar = Progress("case", len(places))
        try:
            shards = write_shards(work / SITE, signed_scans(places, contradictions), progress=bar.step)
        finally:
            bar.close()
        document = {"state": state, "contradictions": [one._asdict() for one in contradictions]}
        with atomic_file(record) as sibling:
            sibling.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Site(shards, split_site(shards, work / SPLITS_FILE, seed), tuple(contradictions), len(places))


def split_site(shards: ShardSet, path: Path, seed: int) -> Splits:
    """The splits that were drawn first: who judges never changes in one folder.

    Parameters
    ----------
    shards
        Of the site.
    path
        Keeps them.
    seed
        Of the draw.

    Raises
    ------
    InputRefused
        ``input``: too few patients, nobody with calcium would teach, or the file is of another seed
    """
    if path.exists():
        splits = Splits.load(path)
        if splits.seed != seed:
            raise InputRefused(
                "input",
                f"{path} was drawn with --seed {splits.seed}, and who judges does not change in one folder; give that "
                "seed, or another --work",
            )
        check_splits(shards, splits)
        return splits
    patients = len({scan.patient for scan in shards.scans})
    least = patients_needed()
    if patients < least:
        raise InputRefused(
            "input",
            f"{patients} patients with a signed case; expected {least} or more, so that {LEAST_JUDGED} judge whom "
            "nothing was learned from; sign cases of more people and give them too",
        )
    splits = split_patients(shards, seed=seed, proportions=PROPORTIONS)
    taught = [shards.scans[n] for n in scans_of(shards, splits.train)]
    if not any(scan.calcified_slices for scan in taught):
        raise InputRefused(
            "input",
            "no patient who would teach has coronary calcium; sign cases with some and give them too, or give another "
            "--seed",
        )
    splits.save(path)
    return splits


def patients_needed() -> int:
    """The fewest patients of whom `PROPORTIONS` leave `LEAST_JUDGED` to judge.

    Examples
    --------
    >>> patients_needed()
    17
    """
    share, patients = PROPORTIONS[2] / sum(PROPORTIONS), LEAST_JUDGED
    while np.floor(share * patients + 1e-9) < LEAST_JUDGED:
        patients += 1
    return patients


def with_replay(
    site: Site, folders: Sequence[Path], seed: int, judges: Sequence[ScanRecord] = ()
) -> tuple[ShardSet, Splits]:
    """The site's scans, and labeled ones from elsewhere beside them, against forgetting.

    People are drawn until they have as many scans as teach from the site, or nobody is left. Nobody who gave a case
    here is drawn, and nobody who judges, under whatever name: a scan's voxels tell.

    Parameters
    ----------
    site
        Its data.
    folders
        Shards from elsewhere; none is the site alone.
    seed
        Chooses among them.
    judges
        Scans that the bundle will be judged by.

    Raises
    ------
    InputRefused
        ``input``: nobody is left to be drawn
    """
    if not folders:
        return site.shards, site.splits
    shards = ShardSet.open(*site.shards.folders, *folders)
    taken = same_people(shards.scans, (*site.shards.scans, *judges))
    counts = Counter(scan.patient for scan in shards.scans if scan.is_labeled and scan.patient not in taken)
    if not counts:
        raise InputRefused(
            "input",
            "--replay: expected labeled scans of people who neither gave a case here nor judge (--judge), found none; "
            "give other scans, or leave --replay out",
        )
    others, wanted = sorted(counts), len(scans_of(site.shards, site.splits.train))
    chosen: list[str] = []
    for n in np.random.default_rng([seed, 1]).permutation(len(others)).tolist():
        if sum(counts[patient] for patient in chosen) < wanted:
            chosen.append(others[n])
    parts = site.splits
    splits = Splits((*parts.train, *chosen), parts.validation, parts.test, parts.seed, parts.proportions)
    check_splits(shards, splits)
    return shards, splits


def same_people(scans: Sequence[ScanRecord], known: Sequence[ScanRecord]) -> set[str]:
    """Patients of some scans who are among those of others, by their pseudonym or because they share a scan's voxels.

    Parameters
    ----------
    scans
        Whose patients are told apart.
    known
        Of the others.
    """
    names = {scan.patient for scan in known}
    voxels = {scan.voxels_sha256 for scan in known}
    return {scan.patient for scan in scans if scan.patient in names or scan.voxels_sha256 in voxels}
