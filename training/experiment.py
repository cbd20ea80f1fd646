"""Is label guidance worth anything? DINO-LG against DINO, and against guidance at wrong places, at one budget.

python -m training.experiment --out DIR [--recipe training/runs/experiment.toml] [--device auto] [KEY=VALUE ...]

Makes the phantoms, pre-trains every arm with every seed, fits the same linear head on each, and writes
experiment.json, table.md and experiment.png. The same command again goes on where it was stopped. The question, the
arms and the least effect that counts are in docs/models.md; they were written down before the first run.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from heartlens.anatomy import heart_region
from heartlens.calcium import candidate_mask
from heartlens.core.atomic import whole_file
from heartlens.core.errors import Refused
from heartlens.core.lesions import CORONARY
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.phantom import PhantomParameters, make_phantom
from training.datasets.sampling import balanced_order, batch_at
from training.datasets.scans import LabelledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.sources import pseudonym
from training.datasets.splits import Splits, pretraining_scans, scans_of
from training.dino.distillation import rise_then_cosine
from training.dino.features import embed_slices, knn_probability, look_at
from training.dino.recipe import DinoRecipe, build_learner
from training.dino.training import train
from training.engine.cli import CANCELLED, DONE, run_command
from training.engine.config import fingerprint, load_recipe, write_recipe
from training.engine.distributed import Ranks, process_group
from training.engine.monitor import DeadRun
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.experiment_summary import Answers, Asked, draw_figure, summarize, table
from training.slice_classifier.linear_probe import SlicesRecipe, crops_of, fit_head, head_probability, read_features
from training.slice_classifier.weights import load_teacher

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).parent / "runs" / "experiment.toml"

ARMS = ("dino", "dino-lg", "traps", "shuffled")
"""No guidance; guided by coronary calcium; by other bright spots; by where another slice has its calcium."""

RANDOM, SUPERVISED, THRESHOLD = "random", "supervised", "threshold"
"""Floor: a network as it was drawn. Ceiling: the same network trained through with the labels. Floor: no network."""

FEATURES = "features"
"""Folder of a run's embeddings."""

ALONE = Ranks()
"""One process, on the CPU."""


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
class Data:
    """Slices of the three parts; the network learns without labels from `training` alone."""

    training: SliceSet
    validation: SliceSet
    test: SliceSet


# Data


def phantoms(recipe: ExperimentRecipe, workers: int = 1) -> Iterator[LabelledScan]:
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


def _scan(recipe: ExperimentRecipe, seed: int) -> LabelledScan:
    parameters = PhantomParameters.varied(
        seed,
        field_of_view="heart",
        matrix=recipe.matrix,
        slice_thickness_mm=recipe.slice_mm,
        increment_mm=recipe.slice_mm,
    )
    phantom = make_phantom(parameters)
    return LabelledScan(
        f"phantom/{seed}",
        pseudonym("phantom", str(seed)),
        "phantom",
        phantom.ct,
        phantom.labels,
        provenance={"made_by": "phantom", "parameters": phantom.truth["parameters"]},
    )


def open_data(recipe: ExperimentRecipe, out: Path, workers: int = 1) -> Data:
    """Make the phantoms, or open those of an earlier start; who is in which part is decided by the seed alone."""
    folder = out / "shards"
    shards = ShardSet.open(folder) if folder.exists() else write_shards(folder, phantoms(recipe, workers))
    if len(shards.scans) != sum(recipe.patients):
        raise Refused("input", f"{folder} holds {len(shards.scans)} scans, expected {sum(recipe.patients)}; delete it")
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
        raise Refused("input", f"{folder}: a patient of validation or test would be seen in training; delete it")
    return Data(*(SliceSet(shards, scans_of(shards, part)) for part in (splits.train, splits.validation, splits.test)))


def ask(data: Data) -> Asked:
    """What the test asks: the truth of every slice of validation and test."""
    return Asked(
        validation=data.validation.is_calcified,
        test=data.test.is_calcified,
        patient=data.test.places[:, 0],
        area_mm2=_calcified_mm2(data.test),
    )


def _calcified_mm2(slices: SliceSet) -> NDArray[np.float64]:
    """(n,) area of coronary calcium on each slice."""
    found = np.zeros(len(slices))
    coronary = [int(artery) for artery in CORONARY]
    for n in np.flatnonzero(slices.is_calcified):
        scan, k = slices.places[n]
        row_mm, column_mm = slices.spacing_mm(n)
        found[n] = np.isin(slices.shards.labels(scan)[k], coronary).sum() * row_mm * column_mm
    return found


# Answers


def answers_of_backbone(
    recipe: ExperimentRecipe, backbone: Backbone, data: Data, seed: int, folder: Path, ranks: Ranks = ALONE
) -> Answers:
    """Of a linear head on frozen embeddings, and of their neighbors.

    Parameters
    ----------
    folder
        Keeps the embeddings.
    """
    head_recipe = replace(recipe.head, seed=seed)
    backbone = backbone.eval().requires_grad_(False)
    features = read_features(head_recipe, backbone, data.training, data.validation, ranks.device, folder)
    test = embed_slices(backbone, data.test, np.arange(len(data.test)), head_recipe.view, device=ranks.device)
    head = fit_head(head_recipe, features)
    near = (features.training[0], features.training_labels[0])
    return Answers(
        validation=head_probability(head, features.validation),
        test=head_probability(head, test),
        neighbors_validation=knn_probability(*near, features.validation, neighbors=recipe.head.neighbors),
        neighbors_test=knn_probability(*near, test, neighbors=recipe.head.neighbors),
    )


def pretrained(
    recipe: ExperimentRecipe, arm: str, seed: int, data: Data, run: Path, ranks: Ranks = ALONE
) -> Answers | None:
    """Pre-train one arm and ask it; None when it was asked to stop."""
    if not train(recipe.arm(arm, seed), data.training, run, ranks=ranks):
        return None
    return answers_of_backbone(recipe, load_teacher(run), data, seed, run / FEATURES, ranks)


def supervised(recipe: ExperimentRecipe, seed: int, data: Data, ranks: Ranks = ALONE) -> Answers:
    """The same network, trained through with the labels of the same patients."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SliceClassifier(Backbone(BackboneShape.named(recipe.dino.backbone))).to(ranks.device)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    slices, how, batch = data.training, replace(recipe.head, seed=seed), recipe.dino.batch
    steps, peak = recipe.supervised_steps, recipe.supervised_learning_rate
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rise_then_cosine(step, steps, rise=steps // 10, peak=peak, end=0.0)
        length = len(balanced_order(slices.is_calcified, seed, 0))
        epoch, places = batch_at(step, batch, length)
        numbers = balanced_order(slices.is_calcified, seed, epoch)[places].tolist()
        crops = [crops_of(how, slices, n, epoch + 1) for n in numbers]
        images, spacing_mm = slices.read(numbers)
        center_mm, side_mm = (
            torch.tensor([getattr(place, part) for place, _ in crops], dtype=torch.float64, device=ranks.device)
            for part in ("center_mm", "side_mm")
        )
        seen = look_at(images.to(ranks.device), spacing_mm.to(ranks.device), how.view, center_mm, side_mm)
        truth = torch.tensor([float(is_calcified) for _, is_calcified in crops], device=ranks.device)
        loss = functional.binary_cross_entropy_with_logits(network.logits(seen), truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.dino.clip)
        optimizer.step()
    network.eval().requires_grad_(False)
    return Answers(*(
        embed_slices(network, part, np.arange(len(part)), how.view, device=ranks.device).astype(np.float64)
        for part in (data.validation, data.test)
    ))  # fmt: skip


def threshold_rule(data: Data) -> Answers:
    """Without a network: how much of the heart's box reaches the threshold on each slice, in islands that count."""
    return Answers(*(_bright_mm2(part) for part in (data.validation, data.test)))


def _bright_mm2(slices: SliceSet) -> NDArray[np.float64]:
    protocol = ScoringProtocol()
    found = []
    for n in slices.scans:
        ct = slices.shards.ct(n)
        region = heart_region(ct)
        candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
        counted = candidates.flat[candidates.accepted[candidates.island]]
        pixels = np.bincount(counted // (ct.shape[1] * ct.shape[2]), minlength=ct.shape[0])
        found.append(pixels * ct.pixel_area_mm2)
    return np.concatenate(found)


# The journey


def run(recipe: ExperimentRecipe, out: Path, *, ranks: Ranks = ALONE, workers: int = 1) -> bool:
    """Everything; returns whether it is complete."""
    make_run_folder(out)
    write_recipe(recipe, out / "recipe.toml")
    data = open_data(recipe, out, workers)
    jobs: list[tuple[str, int, Callable[[], Answers | None]]] = [(THRESHOLD, 0, lambda: threshold_rule(data))]
    for seed in range(recipe.seeds):  # seed by seed, so that an experiment cut short is still a fair one
        for arm in ARMS:
            job = _bound(pretrained, recipe, arm, seed, data, out / "runs" / f"{arm}-{seed}", ranks)
            jobs.append((arm, seed, job))
        jobs.append((RANDOM, seed, _bound(_untrained, recipe, seed, data, out / "runs" / f"{RANDOM}-{seed}", ranks)))
        jobs.append((SUPERVISED, seed, _bound(supervised, recipe, seed, data, ranks)))
    identity = json.dumps([fingerprint(recipe)["sha256"], data.training.identity(), data.test.identity()])
    found: dict[str, list[Answers]] = {}
    died: dict[str, str] = {}
    for name, seed, job in jobs:
        path = out / "answers" / f"{name}-{seed}.npz"
        answers = Answers.load(path, identity)
        if answers is None:
            try:
                answers = job()
            except DeadRun as death:
                died[f"{name}-{seed}"] = str(death)
                logger.warning("%s, seed %d: %s", name, seed, death)
                continue
            if answers is None:
                return False
            answers.save(path, identity)
        logger.info("%s, seed %d: done", name, seed)
        found.setdefault(name, []).append(answers)
    write_result(recipe, data, found, died, out)
    return True


def write_result(
    recipe: ExperimentRecipe, data: Data, found: dict[str, list[Answers]], died: dict[str, str], out: Path
) -> None:
    """experiment.json, table.md and experiment.png."""
    asked = ask(data)
    summary = summarize(asked, found)
    parts = {"training": data.training, "validation": data.validation, "test": data.test}
    document = {
        "schema": "heartlens.experiment/1",
        "commit": source_commit(),
        "machine": machine(),
        "recipe": fingerprint(recipe),
        "phantom_seeds": [recipe.first_seed, recipe.first_seed + sum(recipe.patients) - 1],
        "data": {
            name: {"patients": len(part.scans), "slices": len(part), "calcified": int(part.is_calcified.sum())}
            for name, part in parts.items()
        },
        "died": died,
        **summary,
    }
    with whole_file(out / "experiment.json") as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    text = table(document)
    with whole_file(out / "table.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    draw_figure(document, out / "experiment.png")
    print(text)


def _untrained(recipe: ExperimentRecipe, seed: int, data: Data, run: Path, ranks: Ranks) -> Answers:
    learner = build_learner(replace(recipe.dino, seed=seed), recipe.dino.prototypes or 2)
    return answers_of_backbone(recipe, learner.backbone, data, seed, run / FEATURES, ranks)


def _bound(function: Callable[..., Answers | None], *arguments: object) -> Callable[[], Answers | None]:
    return lambda: function(*arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.experiment", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the recipe")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="TOML file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment; one begun is gone on with")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=1, help="processes that make phantoms (default 1)")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    recipe = load_recipe(ExperimentRecipe, options.recipe, options.changes)
    with process_group(options.device) as ranks:
        is_complete = run(recipe, options.out, ranks=ranks, workers=options.workers)
    if not is_complete:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return CANCELLED
    print(f"Experiment: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
