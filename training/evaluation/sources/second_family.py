"""Patients of the second family of phantoms, through the whole pipeline: nothing that learns has ever seen one.

A case lies in ``CACHE/<generator>/<size>/<seed>/`` as a DICOM series ``ct/``, ``labels.nrrd`` and ``truth.json``. It
goes in as a scan goes in from a scanner, with the name of its kernel and whether it was gated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import training.evaluation.second_family
from heartlens.core.atomic import atomic_folder
from heartlens.dicom.write import write_ct_series
from heartlens.io.nrrd import write_nrrd
from training.datasets.phantom_sets import JUDGE
from training.datasets.scans import LabeledScan
from training.datasets.sources import pseudonym
from training.evaluation.second_family.cases import Case, make_case

GENERATOR = "6a25c4d556378afc6c15b778c1c34ed7791d01953bc3b9d712d4dd3a5f162b16"
"""SHA-256 of the family's source (`generator_hash`). A change makes other cases: figures from before count no more."""

RANGE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class SecondFamilyCase:
    """One case on disk.

    Parameters
    ----------
    seed
        Of person and scan.
    folder
        Where it lies.
    truth
        Its truth.json.
    """

    seed: int
    folder: Path
    truth: Mapping[str, Any]

    @property
    def scan(self) -> Path:
        """Folder of the DICOM series."""
        return self.folder / "ct"


def generator_hash() -> str:
    """SHA-256 over the source files of the second family, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(Path(training.evaluation.second_family.__path__[0]).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def make_cases(
    cache: Path,
    seeds: Iterable[int],
    *,
    size: str = "full",
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Iterator[SecondFamilyCase]:
    """The cases of some seeds, in order; those that are there already are left as they are.

    Parameters
    ----------
    cache
        Folder to keep them in.
    seeds
        Of the cases.
    size
        "full" as scanners give it, or "small" for quick tests.
    workers
        Processes.
    progress
        Hears each seed.
    """
    home = Path(cache) / generator_hash()[:12] / size
    home.mkdir(parents=True, exist_ok=True)
    make = partial(_make, home, size)
    if workers <= 1:
        yield from _opened(home, map(make, seeds), progress)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from _opened(home, pool.map(make, seeds), progress)


def _make(home: Path, size: str, seed: int) -> int:
    if not (home / str(seed) / "truth.json").is_file():
        write_case(home / str(seed), make_case(seed, size=size))
    return seed


def _opened(home: Path, seeds: Iterable[int], progress: Callable[[str], None] | None) -> Iterator[SecondFamilyCase]:
    for seed in seeds:
        if progress is not None:
            progress(str(seed))
        yield SecondFamilyCase(seed, home / str(seed), json.loads((home / str(seed) / "truth.json").read_text()))


def write_case(out: Path, case: Case) -> None:
    """Write ``ct/``, ``labels.nrrd`` and ``truth.json``, all or nothing."""
    seed = case.truth["seed"]
    uids = [f"{_uid(seed, case.ct.shape)}.{n}" for n in range(3 + len(case.ct.hu))]
    header = replace(
        case.ct.header, study_uid=uids[0], series_uid=uids[1], frame_of_reference_uid=uids[2],
        sop_instance_uids=tuple(uids[3:]),
    )  # fmt: skip
    with atomic_folder(out) as folder:
        (folder / "ct").mkdir()
        write_ct_series(
            folder / "ct",
            replace(case.ct, header=header),
            patient_name="Second^Family",
            patient_id=f"SECOND-{seed}",
            description="Synthetic",
        )
        write_nrrd(folder / "labels.nrrd", case.lesions.artery_map(), case.ct.affine)
        (folder / "truth.json").write_text(json.dumps(case.truth, indent=1) + "\n")


def _uid(*identity: object) -> str:
    """The same for the same case, so that a study is one study wherever it is made."""
    digest = hashlib.sha256(repr((JUDGE, identity)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:12], 'big')}"


def as_labeled_scan(case: Case) -> LabeledScan:
    """For experiments on other sites; shards refuse it where its seed judges."""
    seed = case.truth["seed"]
    return LabeledScan(
        name=f"second-family/{seed}",
        patient=pseudonym(JUDGE, str(seed)),
        source="phantom",
        ct=case.ct,
        labels=case.lesions.artery_map(),
        provenance={"made_by": JUDGE, "seed": seed},
    )
