"""The phantoms that published figures come from: made once, kept, and looked at by nothing that learns.

A phantom lies in ``CACHE/<generator>/<seed>/`` as ``ct.nrrd``, ``labels.nrrd`` and ``truth.json``; another generator
gives another folder, so that figures never mix two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import OVERRIDABLE
from heartlens.io.volumes import read_labels
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import is_phantom, write_phantom
from heartlens.pipeline import Request, read_ct
from training.datasets.phantom_sets import MATRIX, generator_hash


@dataclass(frozen=True)
class EvaluationPhantom:
    """One phantom on disk.

    Parameters
    ----------
    seed
        Of its person and scan.
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
        """Path of the CT."""
        return self.folder / "ct.nrrd"

    @property
    def acquisition(self) -> dict[str, float]:
        """What a volume file does not say and a DICOM header would: tube voltage and slice thickness."""
        parameters = self.truth["parameters"]
        return {"kvp": parameters["kvp"], "thickness_mm": parameters["slice_thickness_mm"]}

    def read(self) -> tuple[CTVolume, NDArray[np.uint8]]:
        """The scan and its labels."""
        ct, _, _ = read_ct(self.scan, Request(allow=OVERRIDABLE, **self.acquisition))
        return ct, read_labels(self.folder / "labels.nrrd", ct)


def test_phantom(seed: int, **overrides: Any) -> PhantomParameters:
    """Drawn as widely as the phantoms of training are, but for the matrix."""
    return PhantomParameters.varied(seed, **{"matrix": MATRIX, **overrides})


def make_phantoms(
    cache: Path,
    seeds: Iterable[int],
    *,
    workers: int = 1,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[EvaluationPhantom]:
    """The phantoms of some seeds, in order; those that are there already are left as they are.

    Parameters
    ----------
    cache
        Folder to keep them in.
    workers
        Processes.
    overrides
        Of their parameters, for a small trial.
    """
    home = Path(cache) / generator_hash()[:12]
    home.mkdir(parents=True, exist_ok=True)
    make = partial(_make, home, dict(overrides or {}))
    chosen = list(seeds)
    if workers <= 1:
        made: Iterable[int] = map(make, chosen)
        yield from _opened(home, made, progress)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from _opened(home, pool.map(make, chosen), progress)


def _make(home: Path, overrides: dict[str, Any], seed: int) -> int:
    folder = home / str(seed)
    if not is_phantom(folder):
        write_phantom(folder, make_phantom(test_phantom(seed, **overrides)), format="nrrd")
    return seed


def _opened(home: Path, seeds: Iterable[int], progress: Callable[[str], None] | None) -> Iterator[EvaluationPhantom]:
    for seed in seeds:
        folder = home / str(seed)
        if progress is not None:
            progress(str(seed))
        yield EvaluationPhantom(seed, folder, json.loads((folder / "truth.json").read_text()))
