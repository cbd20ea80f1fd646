"""Do guided crops help? Continuations of one pre-training that differ in them alone, with power to see an answer.

python -m training.fork --out DIR [--recipe training/runs/fork.toml] [--device auto] [--minutes N] [KEY=VALUE ...]

Makes the phantoms, pre-trains one ancestor with random crops, continues it in every arm with every seed, fits the same
linear heads on each at every share of the labels, and writes fork.json and table.md: areas under the ROC curve over
slices with candidates, paired differences with intervals over persons and seeds, and the smallest effect that would
have been seen. The same command resumes. The question and its rule are in docs/label-guidance.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone
from training.datasets.slice_dataset import PartlyLabeled, SliceSet
from training.dino.recipe import build_dino_model
from training.dino.training import pretrain_backbone
from training.engine.cli import CANCELLED, DONE, deadline_after, run_command
from training.engine.config import fingerprint, load_recipe, write_recipe
from training.engine.distributed import Ranks, process_group
from training.engine.monitor import TrainingFailed
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.sources.arms import (
    ALONE,
    ExperimentData,
    ExperimentRecipe,
    SlicePredictions,
    open_data,
    predict_with_backbone,
    read_truth,
)
from training.evaluation.sources.forks import (
    ANCESTOR,
    ARMS,
    COMPARED,
    GUIDED_ARMS,
    LABELS,
    RANDOM_CROPS,
    UNTRAINED,
    WORDS,
    ForkRecipe,
    arm_name,
    by_seed,
    compare_arms,
    keep_result,
    on_candidates,
    to_json,
    verdict,
)
from training.slice_classifier.candidates import find_candidate_slices
from training.slice_classifier.supervised import SupervisedRecipe, train_supervised
from training.slice_classifier.weights import load_teacher

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).parent / "runs" / "fork.toml"

SCHEMA = "heartlens.fork/1"


class Job(NamedTuple):
    """One arm with one seed at one share of the labels.

    Parameters
    ----------
    arm, seed, share
        Which.
    """

    arm: str
    seed: int
    share: float

    @property
    def name(self) -> str:
        """Of its answers."""
        return f"{self.arm}-{self.seed}-{self.share:g}"

    @property
    def run(self) -> str:
        """Of its continuation, which arms without guides have in common at all shares."""
        return self.name if self.arm in (*GUIDED_ARMS, LABELS) else f"{self.arm}-{self.seed}"


class Forks:
    """One experiment in its folder.

    Parameters
    ----------
    recipe
        What it is.
    out
        Its folder.
    data
        Phantoms.
    ranks
        The processes that share each training.
    deadline
        No step begins later, in seconds of `time.monotonic`.
    """

    def __init__(
        self, recipe: ForkRecipe, out: Path, data: ExperimentData, ranks: Ranks, deadline: float | None
    ) -> None:
        self.recipe, self.out, self.data, self.ranks, self.deadline = recipe, out, data, ranks, deadline

    def jobs(self) -> list[Job]:
        """Seed by seed, so that an experiment that is cut short is still a fair one."""
        arms = (UNTRAINED, ANCESTOR, *ARMS)
        return [Job(arm, n, share) for n in range(self.recipe.seeds) for share in self.recipe.shares for arm in arms]

    def train_ancestor(self) -> bool:
        """Pre-train what all continuations go on from; whether it is complete."""
        return pretrain_backbone(
            self.recipe.ancestor, self.data.training, self._run(ANCESTOR), ranks=self.ranks, deadline=self.deadline
        )

    def answers(self, job: Job) -> SlicePredictions | None:
        """What a job says of the slices, kept for the next start; None where its training was asked to stop."""
        path = self.out / "answers" / f"{job.name}.npz"
        known = SlicePredictions.load(path, self.identity())
        if known is None:
            backbone = self.backbone(job)
            if backbone is None:
                return None
            labeled = SliceSet(self.data.training.shards, self._labeled(job.share))
            data = replace(self.data, training=labeled)
            folder = self._run(job.run) / f"features-{job.name}"
            known = predict_with_backbone(self.recipe.head, backbone, data, job.seed, folder, self.ranks)
            known.save(path, self.identity())
        return known

    def backbone(self, job: Job) -> Backbone | None:
        """The frozen network of a job; None where its training was asked to stop."""
        recipe, run = self.recipe, self._run(job.run)
        if job.arm == UNTRAINED:
            drawn = replace(recipe.ancestor, seed=1000 + job.seed)
            return build_dino_model(drawn, recipe.ancestor.prototypes or 2).backbone
        if job.arm == ANCESTOR:
            return load_teacher(self._run(ANCESTOR))
        if job.arm == LABELS:
            return self._with_labels(job, run)
        shards, scans = self.data.training.shards, self.data.training.scans
        slices = self.data.training if job.arm == RANDOM_CROPS else PartlyLabeled(
            shards, scans, self._labeled(job.share)
        )  # fmt: skip
        is_complete = pretrain_backbone(
            recipe.arm(job.arm, job.seed), slices, run, start=self._run(ANCESTOR), ranks=self.ranks,
            deadline=self.deadline,
        )  # fmt: skip
        return load_teacher(run) if is_complete else None

    def _with_labels(self, job: Job, run: Path) -> Backbone | None:
        a = self.recipe.ancestor
        how = SupervisedRecipe(
            a.backbone, self.recipe.steps, a.batch, self.recipe.labels_learning_rate, clip=a.clip,
            views=replace(self.recipe.head, seed=job.seed), seed=job.seed, save_every=a.save_every,
        )  # fmt: skip
        labeled = SliceSet(self.data.training.shards, self._labeled(job.share))
        network = train_supervised(
            how, labeled, run, start=load_teacher(self._run(ANCESTOR)), ranks=self.ranks, deadline=self.deadline
        )
        return None if network is None else network.backbone

    def _labeled(self, share: float) -> tuple[int, ...]:
        return self.data.training.scans[: self.recipe.labeled(share)]

    def _run(self, name: str) -> Path:
        return self.out / "runs" / name

    def identity(self) -> str:
        """What answers hang on."""
        parts = [fingerprint(self.recipe)["sha256"], self.data.training.identity(), self.data.test.identity()]
        return json.dumps(parts)


def run(
    recipe: ForkRecipe, out: Path, *, ranks: Ranks = ALONE, workers: int = 1, deadline: float | None = None
) -> bool:
    """Everything; returns whether it is complete.

    Parameters
    ----------
    recipe
        What is asked.
    out
        Folder of the experiment.
    ranks, workers
        Processes that share each training, and that make phantoms.
    deadline
        No step begins later, in seconds of `time.monotonic`.
    """
    make_run_folder(out)
    write_recipe(recipe, out / "recipe.toml")
    people = ExperimentRecipe(recipe.patients, recipe.first_seed, recipe.matrix, recipe.slice_mm)
    forks = Forks(recipe, out, open_data(people, out, workers), ranks, deadline)
    if not forks.train_ancestor():
        return False
    predictions: dict[str, list[SlicePredictions]] = {}
    died: dict[str, str] = {}
    for job in forks.jobs():
        try:
            answers = forks.answers(job)
        except TrainingFailed as death:
            died[job.name] = str(death)
            logger.warning("%s: %s", job.name, death)
            continue
        if answers is None:
            return False
        logger.info("%s: done", job.name)
        predictions.setdefault(arm_name(job.arm, job.share), []).append(answers)
    if ranks.is_first:
        write_result(forks, predictions, died)
    return True


def write_result(forks: Forks, predictions: dict[str, list[SlicePredictions]], died: dict[str, str]) -> None:
    """fork.json and table.md; an arm of which a seed died is in no difference.

    Parameters
    ----------
    forks
        The experiment.
    predictions
        Of each arm and share, one for each seed.
    died
        Why, by the name of the job.
    """
    recipe, data = forks.recipe, forks.data
    truth = read_truth(data)
    find: Callable[[SliceSet], NDArray[np.bool_]] = partial(_candidates, path=forks.out / "candidates.json")
    whole = {name: runs for name, runs in predictions.items() if len(runs) == recipe.seeds}
    asked, answers = on_candidates(truth, whole, find(data.validation), find(data.test))
    if not asked.test.any() or asked.test.all():
        raise InputRefused(
            "input",
            "expected slices with candidates of the persons who test, some with coronary calcium and some without; "
            f"found {asked.test.size}, {int(asked.test.sum())} of them with; give more patients",
        )
    named = [(arm_name(a, share), arm_name(b, share)) for share in recipe.shares for a, b in COMPARED]
    pairs = [pair for pair in named if set(pair) <= set(answers)]
    by_arm, effects = compare_arms(asked, answers, pairs, draws=recipe.draws)
    plain = to_json(by_arm, effects)
    methods: dict[str, Any] = {}
    for arm in WORDS:
        for share in recipe.shares:
            name = arm_name(arm, share)
            if name in by_arm:
                method = {"words": WORDS[arm], "labels": f"{share:.0%}", "estimate": plain["estimates"][name]}
                methods[name] = {**method, "by_seed": by_seed(asked, answers[name])}
    document = {
        "schema": SCHEMA,
        "commit": source_commit(),
        "machine": machine(),
        "recipe": fingerprint(recipe),
        "phantom_seeds": [recipe.first_seed, recipe.first_seed + sum(recipe.patients) - 1],
        "slices": {
            "test": len(data.test), "candidates": len(asked.test), "calcified": int(asked.test.sum()),
        },
        "draws": recipe.draws,
        "died": died,
        "methods": methods,
        "differences": plain["differences"],
        "verdicts": {f"{share:.0%}": verdict(effects, share) for share in recipe.shares},
    }  # fmt: skip
    keep_result(document, forks.out / "fork.json")


def _candidates(slices: SliceSet, path: Path) -> NDArray[np.bool_]:
    return find_candidate_slices(slices.shards, slices, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.fork", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the recipe")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="TOML file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment; resumes an existing run")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=1, help="processes that make phantoms (default 1)")
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget: save and stop after the first step that ends later; the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    recipe = load_recipe(ForkRecipe, options.recipe, options.changes)
    with process_group(options.device) as ranks:
        is_complete = run(recipe, options.out, ranks=ranks, workers=options.workers, deadline=options.deadline)
    if not is_complete:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(f"Fork: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
