r"""Is label guidance worth anything? DINO-LG against DINO, and against guidance at wrong places, at one budget.

python -m training.experiment --out DIR [--recipe training/runs/experiment.toml] [--device auto] [KEY=VALUE ...]
python -m training.experiment --out DIR foundation.weights=FILE foundation.backbone=vit_small_patch14_518 \
    foundation.size=224        one arm more: a backbone that was pre-trained on photographs, from a local file

Makes the phantoms, pre-trains every arm with every seed, fits the same linear head on each, and writes
experiment.json, table.md and experiment.png. Run the same command to resume a stopped run. The question, the
arms and the least effect that counts are in docs/label-guidance.md; they were written down before the first run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import heart_region
from heartlens.calcium import candidate_mask
from heartlens.core.atomic import atomic_file
from heartlens.core.disk.reading import open_regular
from heartlens.core.protocol import ScoringProtocol
from training.datasets.slice_dataset import SliceSet
from training.dino.features import embed_slices
from training.dino.published_weights import FoundationRecipe, load_foundation
from training.dino.recipe import build_dino_model
from training.dino.training import pretrain_backbone
from training.engine.cli import CANCELLED, DONE, run_command
from training.engine.config import fingerprint, load_recipe, write_recipe
from training.engine.distributed import Ranks, process_group
from training.engine.monitor import TrainingFailed
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.plots import methods_figure, save_png
from training.evaluation.results import Estimate
from training.evaluation.sources.arms import (
    ALONE,
    WORDS,
    ExperimentData,
    ExperimentRecipe,
    SlicePredictions,
    open_data,
    predict_with_backbone,
    read_truth,
    summarize_experiment,
)
from training.evaluation.tables import experiment_table
from training.slice_classifier.supervised import SupervisedRecipe, train_supervised
from training.slice_classifier.weights import load_teacher

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).parent / "runs" / "experiment.toml"

ARMS = ("dino", "dino-lg", "traps", "shuffled")
"""No guidance; guided by coronary calcium; by other bright spots; by where another slice has its calcium."""

RANDOM, SUPERVISED, THRESHOLD, FOUNDATION = "random", "supervised", "threshold", "foundation"
"""Floor: a network as it was drawn. Ceiling: the same network trained through with the labels. Floor: no network. And
one that was pre-trained elsewhere, where the recipe names its weights."""

FEATURES = "features"
"""Folder of a run's embeddings."""

# Answers


def pretrained(
    recipe: ExperimentRecipe, arm: str, seed: int, data: ExperimentData, run: Path, ranks: Ranks = ALONE
) -> SlicePredictions | None:
    """Pre-train one arm and ask it; None when it was asked to stop."""
    if not pretrain_backbone(recipe.arm(arm, seed), data.training, run, ranks=ranks):
        return None
    return predict_with_backbone(recipe.head, load_teacher(run), data, seed, run / FEATURES, ranks)


def supervised(
    recipe: ExperimentRecipe, seed: int, data: ExperimentData, run: Path, ranks: Ranks = ALONE
) -> SlicePredictions | None:
    """The same network, trained through with the labels of the same patients; None when it was asked to stop."""
    how = replace(recipe.head, seed=seed)
    training_recipe = SupervisedRecipe(
        recipe.dino.backbone, recipe.supervised_steps, recipe.dino.batch, recipe.supervised_learning_rate,
        clip=recipe.dino.clip, views=how, seed=seed, save_every=recipe.dino.save_every,
    )  # fmt: skip
    network = train_supervised(training_recipe, data.training, run, ranks=ranks)
    if network is None:
        return None
    return SlicePredictions(*(
        embed_slices(network, part, np.arange(len(part)), how.view, device=ranks.device).astype(np.float64)
        for part in (data.validation, data.test)
    ))  # fmt: skip


def threshold_rule(data: ExperimentData) -> SlicePredictions:
    """Without a network: how much of the heart's box reaches the threshold on each slice, in islands that count."""
    return SlicePredictions(*(_bright_mm2(part) for part in (data.validation, data.test)))


def foundation(
    recipe: ExperimentRecipe, seed: int, data: ExperimentData, run: Path, ranks: Ranks = ALONE
) -> SlicePredictions:
    """A backbone that was pre-trained elsewhere, as it is, shown the same field in pixels of its own."""
    own = replace(recipe.head, size=recipe.foundation.size)
    return predict_with_backbone(own, load_foundation(recipe.foundation), data, seed, run / FEATURES, ranks)


def _bright_mm2(slices: SliceSet) -> NDArray[np.float64]:
    protocol = ScoringProtocol()
    area_mm2 = []
    for n in slices.scans:
        ct = slices.shards.ct(n)
        region = heart_region(ct)
        candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
        counted = candidates.flat[candidates.accepted[candidates.island]]
        pixels = np.bincount(counted // (ct.shape[1] * ct.shape[2]), minlength=ct.shape[0])
        area_mm2.append(pixels * ct.pixel_area_mm2)
    return np.concatenate(area_mm2)


# The journey


def run(recipe: ExperimentRecipe, out: Path, *, ranks: Ranks = ALONE, workers: int = 1) -> bool:
    """Everything; returns whether it is complete."""
    make_run_folder(out)
    write_recipe(recipe, out / "recipe.toml")
    data = open_data(recipe, out, workers)
    jobs: list[tuple[str, int, Callable[[], SlicePredictions | None]]] = [(THRESHOLD, 0, lambda: threshold_rule(data))]
    for seed in range(recipe.seeds):  # seed by seed, so that an experiment cut short is still a fair one
        for arm in ARMS:
            job = _bound(pretrained, recipe, arm, seed, data, out / "runs" / f"{arm}-{seed}", ranks)
            jobs.append((arm, seed, job))
        jobs.append((RANDOM, seed, _bound(_untrained, recipe, seed, data, out / "runs" / f"{RANDOM}-{seed}", ranks)))
        job = _bound(supervised, recipe, seed, data, out / "runs" / f"{SUPERVISED}-{seed}", ranks)
        jobs.append((SUPERVISED, seed, job))
        if recipe.foundation.weights is not None:
            job = _bound(foundation, recipe, seed, data, out / "runs" / f"{FOUNDATION}-{seed}", ranks)
            jobs.append((FOUNDATION, seed, job))
    predictions: dict[str, list[SlicePredictions]] = {}
    died: dict[str, str] = {}
    for name, seed, job in jobs:
        path = out / "answers" / f"{name}-{seed}.npz"
        identity = _identity(recipe, data, name)
        answers = SlicePredictions.load(path, identity)
        if answers is None:
            try:
                answers = job()
            except TrainingFailed as death:
                died[f"{name}-{seed}"] = str(death)
                logger.warning("%s, seed %d: %s", name, seed, death)
                continue
            if answers is None:
                return False
            answers.save(path, identity)
        logger.info("%s, seed %d: done", name, seed)
        predictions.setdefault(name, []).append(answers)
    write_result(recipe, data, predictions, died, out)
    return True


def _identity(recipe: ExperimentRecipe, data: ExperimentData, arm: str) -> str:
    """What the answers of an arm hang on; the other arms do not hang on the weights that came from elsewhere."""
    parts = [fingerprint(replace(recipe, foundation=FoundationRecipe()))["sha256"]]
    if arm == FOUNDATION:
        parts += [fingerprint(recipe.foundation)["sha256"], weights_checksum(recipe)]
    return json.dumps([*parts, data.training.identity(), data.test.identity()])


def weights_checksum(recipe: ExperimentRecipe) -> str | None:
    """SHA-256 of the file of the foundation arm; None where there is no such arm."""
    path = recipe.foundation.weights
    if path is None:
        return None
    with open_regular(path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def write_result(
    recipe: ExperimentRecipe,
    data: ExperimentData,
    predictions: dict[str, list[SlicePredictions]],
    died: dict[str, str],
    out: Path,
) -> None:
    """experiment.json, table.md and experiment.png."""
    truth = read_truth(data)
    summary = summarize_experiment(truth, predictions)
    parts = {"training": data.training, "validation": data.validation, "test": data.test}
    document = {
        "schema": "heartlens.experiment/2",
        "commit": source_commit(),
        "machine": machine(),
        "recipe": fingerprint(recipe),
        "foundation_sha256": weights_checksum(recipe),
        "phantom_seeds": [recipe.first_seed, recipe.first_seed + sum(recipe.patients) - 1],
        "data": {
            name: {"patients": len(part.scans), "slices": len(part), "calcified": int(part.is_calcified.sum())}
            for name, part in parts.items()
        },
        "died": died,
        **summary,
    }
    with atomic_file(out / "experiment.json") as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    text = experiment_table(document, WORDS)
    with atomic_file(out / "table.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    draw_figure(document, out / "experiment.png")
    print(text)


def draw_figure(document: Mapping[str, Any], path: Path) -> None:
    """F1 and AUROC of every arm with intervals; small marks are seeds."""
    titles = {"slices.f1": "Slice F1", "probability.area_under_roc": "AUROC"}
    methods = {
        words: [
            (Estimate(**method["estimates"][key]), [v for seed in method["seeds"] if (v := seed[key]) is not None])
            for key in titles
        ]
        for name, words in WORDS.items()
        if (method := document["methods"].get(name))
    }
    save_png(methods_figure(methods, list(titles.values()), accented=[WORDS[arm] for arm in ARMS]), path)


def _untrained(recipe: ExperimentRecipe, seed: int, data: ExperimentData, run: Path, ranks: Ranks) -> SlicePredictions:
    learner = build_dino_model(replace(recipe.dino, seed=seed), recipe.dino.prototypes or 2)
    return predict_with_backbone(recipe.head, learner.backbone, data, seed, run / FEATURES, ranks)


def _bound(
    function: Callable[..., SlicePredictions | None], *arguments: object
) -> Callable[[], SlicePredictions | None]:
    return lambda: function(*arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.experiment", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the recipe")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="TOML file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment; resumes an existing run")
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
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(f"Experiment: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
