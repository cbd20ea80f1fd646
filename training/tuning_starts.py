"""What is a start worth? A slice classifier tuned with labels from random weights, from DINO and from DINO-LG.

python -m training.tuning_starts --fork DIR --out DIR [--recipe training/runs/tuning-starts.toml] [--device auto]
    [--minutes N] [KEY=VALUE ...]

Takes phantoms, ancestor (DINO) and guided continuations (DINO-LG, guided by all persons' labels) of a folder of
training.fork, tunes the whole network from each start with the labels of a share of the persons, and writes
tuning.json and table.md: areas under the ROC curve over slices with candidates, and paired differences with
intervals over persons and seeds. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone
from training.datasets.slice_dataset import SliceSet
from training.dino.features import embed_slices
from training.engine.cli import CANCELLED, DONE, deadline_after, run_command
from training.engine.config import fingerprint, load_recipe, write_recipe
from training.engine.distributed import Ranks, process_group
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.sources.arms import ExperimentRecipe, SlicePredictions, open_data, read_truth
from training.evaluation.sources.forks import (
    ANCESTOR,
    GUIDED,
    ForkRecipe,
    arm_name,
    by_seed,
    compare_arms,
    keep_result,
    on_candidates,
    to_json,
)
from training.metrics.classification import area_under_roc
from training.slice_classifier.candidates import find_candidate_slices
from training.slice_classifier.supervised import SupervisedRecipe, train_supervised
from training.slice_classifier.weights import load_teacher

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).parent / "runs" / "tuning-starts.toml"

SCHEMA = "heartlens.tuning-starts/1"

NOTHING, DINO, DINO_LG = "random weights", "DINO", "DINO-LG"

STARTS = (NOTHING, DINO, DINO_LG)

COMPARED = ((DINO_LG, NOTHING), (DINO, NOTHING), (DINO_LG, DINO))


@dataclass(frozen=True)
class StartsRecipe:
    """Everything that the answer depends on, beside the fork.

    Parameters
    ----------
    seeds
        Tunings of each start.
    steps
        Of each.
    learning_rates
        Tried by each start; the one that is better on validation, mean of the seeds, is asked about the test.
    shares
        Of the training persons, whose labels tune.
    draws
        Of the bootstrap.
    """

    seeds: int = 2
    steps: int = 250
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    shares: tuple[float, ...] = (0.1, 0.3, 1.0)
    draws: int = 1000

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.steps < 1 or not self.learning_rates:
            raise ValueError("seeds must be 2 or more, steps 1 or more, and learning_rates not empty")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must lie above 0 and at most at 1, got {self.shares}")


class Tuning(NamedTuple):
    """One training.

    Parameters
    ----------
    start, seed, share, rate
        Which.
    """

    start: str
    seed: int
    share: float
    rate: float

    @property
    def name(self) -> str:
        """Of its folder and answers."""
        return f"{self.start.replace(' ', '-')}-{self.seed}-{self.share:g}-{self.rate:g}"


class Starts:
    """One experiment in its folder.

    Parameters
    ----------
    recipe
        What it is.
    fork
        Folder of a fork whose ancestor and guided continuations are there.
    out
        Its own folder.
    ranks
        The processes that share each training.
    deadline
        No step begins later, in seconds of `time.monotonic`.
    """

    def __init__(self, recipe: StartsRecipe, fork: Path, out: Path, ranks: Ranks, deadline: float | None) -> None:
        self.recipe, self.fork, self.out, self.ranks, self.deadline = recipe, fork, out, ranks, deadline
        self.forked = load_recipe(ForkRecipe, fork / "recipe.toml")
        f = self.forked
        people = ExperimentRecipe(f.patients, f.first_seed, f.matrix, f.slice_mm)
        if not (fork / "shards").exists():
            raise InputRefused("input", f"{fork} holds no shards; give the folder of a run of training.fork")
        self.data = open_data(people, fork)

    def tunings(self) -> list[Tuning]:
        """Seed by seed, so that an experiment that is cut short is still a fair one."""
        r = self.recipe
        return [
            Tuning(start, seed, share, rate)
            for seed in range(r.seeds) for share in r.shares for start in STARTS for rate in r.learning_rates
        ]  # fmt: skip

    def answers(self, tuning: Tuning) -> SlicePredictions | None:
        """What a tuned classifier says of the slices, kept for the next start; None where it was asked to stop."""
        path, identity = self.out / "answers" / f"{tuning.name}.npz", self.identity()
        known = SlicePredictions.load(path, identity)
        if known is not None:
            return known
        a, view = self.forked.ancestor, replace(self.forked.head, seed=tuning.seed)
        how = SupervisedRecipe(
            a.backbone, self.recipe.steps, a.batch, tuning.rate, clip=a.clip, views=view, seed=tuning.seed,
            save_every=a.save_every,
        )  # fmt: skip
        training = self.data.training
        labeled = SliceSet(training.shards, training.scans[: max(2, round(tuning.share * self.forked.patients[0]))])
        run = self.out / "runs" / tuning.name
        network = train_supervised(
            how, labeled, run, start=self._start(tuning), ranks=self.ranks, deadline=self.deadline
        )
        if network is None:
            return None
        said = (
            embed_slices(network, part, np.arange(len(part)), view.view, device=self.ranks.device).astype(np.float64)
            for part in (self.data.validation, self.data.test)
        )
        answers = SlicePredictions(*said)
        answers.save(path, identity)
        return answers

    def _start(self, tuning: Tuning) -> Backbone | None:
        if tuning.start == NOTHING:
            return None
        name = ANCESTOR if tuning.start == DINO else f"{GUIDED}-{tuning.seed % self.forked.seeds}-1"
        return load_teacher(self.fork / "runs" / name)

    def identity(self) -> str:
        """What answers hang on."""
        parts = [fingerprint(one)["sha256"] for one in (self.recipe, self.forked)]
        return json.dumps([*parts, self.data.training.identity(), self.data.test.identity()])


def run(starts: Starts) -> bool:
    """Everything; returns whether it is complete.

    Parameters
    ----------
    starts
        The experiment.
    """
    make_run_folder(starts.out)
    write_recipe(starts.recipe, starts.out / "recipe.toml")
    answers: dict[Tuning, SlicePredictions] = {}
    for tuning in starts.tunings():
        said = starts.answers(tuning)
        if said is None:
            return False
        logger.info("%s: done", tuning.name)
        answers[tuning] = said
    if starts.ranks.is_first:
        write_result(starts, answers)
    return True


def write_result(starts: Starts, answers: dict[Tuning, SlicePredictions]) -> None:
    """tuning.json and table.md.

    Parameters
    ----------
    starts
        The experiment.
    answers
        Of each training.
    """
    recipe, data = starts.recipe, starts.data
    truth = read_truth(data)
    candidates = starts.out / "candidates.json"
    is_asked = [find_candidate_slices(part.shards, part, candidates) for part in (data.validation, data.test)]
    chosen: dict[str, list[SlicePredictions]] = {}
    rates: dict[str, float] = {}
    for share in recipe.shares:
        for start in STARTS:
            name = arm_name(start, share)
            by_rate = {
                rate: [answers[Tuning(start, seed, share, rate)] for seed in range(recipe.seeds)]
                for rate in recipe.learning_rates
            }

            def on_validation(rate: float, runs: dict[float, list[SlicePredictions]] = by_rate) -> float:
                right = truth.validation[is_asked[0]]
                areas = [area_under_roc(right, one.validation[is_asked[0]]) for one in runs[rate]]
                mean = sum(areas) / len(areas)
                return -math.inf if math.isnan(mean) else mean

            rates[name] = max(recipe.learning_rates, key=on_validation)
            chosen[name] = by_rate[rates[name]]
    asked, said = on_candidates(truth, chosen, *is_asked)
    pairs = [(arm_name(a, share), arm_name(b, share)) for share in recipe.shares for a, b in COMPARED]
    by_arm, effects = compare_arms(asked, said, pairs, draws=recipe.draws)
    plain = to_json(by_arm, effects)
    methods: dict[str, Any] = {}
    for share in recipe.shares:
        for start in STARTS:
            name = arm_name(start, share)
            methods[name] = {
                "words": f"tuned from {start} (rate {rates[name]:g})", "labels": f"{share:.0%}",
                "estimate": plain["estimates"][name], "by_seed": by_seed(asked, said[name]),
                "learning_rate": rates[name],
            }  # fmt: skip
    f = starts.forked
    document = {
        "schema": SCHEMA,
        "commit": source_commit(),
        "machine": machine(),
        "recipe": fingerprint(recipe),
        "fork": fingerprint(f),
        "phantom_seeds": [f.first_seed, f.first_seed + sum(f.patients) - 1],
        "slices": {"test": len(data.test), "candidates": len(asked.test), "calcified": int(asked.test.sum())},
        "draws": recipe.draws,
        "died": {},
        "methods": methods,
        "differences": plain["differences"],
        "verdicts": {},
    }
    keep_result(document, starts.out / "tuning.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.tuning_starts", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings that differ from the recipe")
    parser.add_argument("--fork", type=Path, required=True, help="folder of a run of training.fork")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="TOML file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment; resumes an existing run")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget: save and stop after the first step that ends later; the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    recipe = load_recipe(StartsRecipe, options.recipe, options.changes)
    with process_group(options.device) as ranks:
        is_complete = run(Starts(recipe, options.fork, options.out, ranks, options.deadline))
    if not is_complete:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(f"Starts: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
