"""What the experiment learns from and is judged on: its recipe, its phantoms and their truth."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.phantom import PhantomParameters, make_phantom
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.sources import pseudonym
from training.datasets.splits import Splits, pretraining_scans, scans_of
from training.dino.recipe import DinoRecipe
from training.evaluation.experiment_summary import (
    SliceTruth,
)
from training.slice_classifier.linear_probe import SlicesRecipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExperimentRecipe:
    """Everything that the answer depends on.

    Parameters
    ----------
    patients
        Phantoms of training, validation and test.
    first_seed
        Of the phantoms; the others follow.
    matrix, slice_mm
        Of the scans; all show the heart.
    seeds
        Runs of every arm.
    dino
        of every arm; its guided crops become random ones in arm "dino"
    head
        Of every arm.
    supervised_steps, supervised_learning_rate
        Of the ceiling; its batch is that of `dino`.
    """

    patients: tuple[int, int, int] = (72, 18, 36)
    first_seed: int = 800000
    matrix: int = 128
    slice_mm: float = 4.0
    seeds: int = 3
    dino: DinoRecipe = field(default_factory=DinoRecipe)
    head: SlicesRecipe = field(default_factory=SlicesRecipe)
    supervised_steps: int = 250
    supervised_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.patients) < 2 or self.seeds < 1 or self.supervised_steps < 1:
            raise ValueError("patients must be 2 or more in each part, seeds and supervised_steps 1 or more")

    def arm(self, name: str, seed: int) -> DinoRecipe:
        """The pre-training of one arm: all have the same number of crops, steps and slices."""
        augment = self.dino.augment
        if name == "dino":
            augment = replace(augment, random_local_crops=augment.local_crops, guided_local_crops=0)
        else:
            augment = replace(augment, guided_by="coronary" if name == "dino-lg" else name)
        return replace(self.dino, augment=augment, seed=seed)


@dataclass(frozen=True, eq=False)
class ExperimentData:
    """Slices of the three parts; the network learns without labels from `training` alone."""

    training: SliceSet
    validation: SliceSet
    test: SliceSet


def phantoms(recipe: ExperimentRecipe, workers: int = 1) -> Iterator[LabeledScan]:
    """Scans in which as many bright spots lie off the coronary arteries as on them, alike in size and density."""
    seeds = range(recipe.first_seed, recipe.first_seed + sum(recipe.patients))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers > 1 else None
    try:
        made = (map if pool is None else pool.map)(partial(_scan, recipe), seeds)
        for seed, scan in zip(seeds, made, strict=True):
            logger.info("phantom %d", seed)
            yield scan
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _scan(recipe: ExperimentRecipe, seed: int) -> LabeledScan:
    parameters = PhantomParameters.varied(
        seed,
        field_of_view="heart",
        matrix=recipe.matrix,
        slice_thickness_mm=recipe.slice_mm,
        increment_mm=recipe.slice_mm,
    )
    phantom = make_phantom(parameters)
    return LabeledScan(
        f"phantom/{seed}",
        pseudonym("phantom", str(seed)),
        "phantom",
        phantom.ct,
        phantom.labels,
        provenance={"made_by": "phantom", "parameters": phantom.truth["parameters"]},
    )


def open_data(recipe: ExperimentRecipe, out: Path, workers: int = 1) -> ExperimentData:
    """Make the phantoms, or open those of an earlier start; who is in which part is decided by the seed alone."""
    folder = out / "shards"
    shards = ShardSet.open(folder) if folder.exists() else write_shards(folder, phantoms(recipe, workers))
    if len(shards.scans) != sum(recipe.patients):
        raise InputRefused(
            "input", f"{folder} holds {len(shards.scans)} scans, expected {sum(recipe.patients)}; delete it"
        )
    patients = [scan.patient for scan in shards.scans]
    first, second = recipe.patients[0], sum(recipe.patients[:2])
    a, b, c = recipe.patients
    splits = Splits(
        tuple(patients[:first]),
        tuple(patients[first:second]),
        tuple(patients[second:]),
        0,
        (float(a), float(b), float(c)),
    )
    seen = pretraining_scans(shards, splits)
    if set(seen) != set(scans_of(shards, splits.train)):
        raise InputRefused("input", f"{folder}: a patient of validation or test would be seen in training; delete it")
    return ExperimentData(
        *(SliceSet(shards, scans_of(shards, part)) for part in (splits.train, splits.validation, splits.test))
    )


def read_truth(data: ExperimentData) -> SliceTruth:
    """What the test asks: the truth of every slice of validation and test."""
    return SliceTruth(
        validation=data.validation.is_calcified,
        test=data.test.is_calcified,
        patient=data.test.places[:, 0],
        area_mm2=_calcified_mm2(data.test),
    )


def _calcified_mm2(slices: SliceSet) -> NDArray[np.float64]:
    """(n,) area of coronary calcium on each slice."""
    area_mm2 = np.zeros(len(slices))
    coronary = [int(artery) for artery in CORONARY]
    for n in np.flatnonzero(slices.is_calcified):
        scan, k = slices.places[n]
        row_mm, column_mm = slices.spacing_mm(n)
        area_mm2[n] = np.isin(slices.shards.labels(scan)[k], coronary).sum() * row_mm * column_mm
    return area_mm2
