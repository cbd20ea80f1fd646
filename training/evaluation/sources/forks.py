"""The fork design: continuations of one pre-training that differ in guided crops alone, and what their heads say.

Runs from scratch differ by their seeds more than by their crops. Forks of one ancestor share what it knows, their
heads share their seeds, and differences are taken in pairs; intervals draw persons and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.atomic import atomic_file
from training.dino.augment import AugmentConfig
from training.dino.recipe import DinoRecipe
from training.engine.json_records import to_plain, write_json
from training.evaluation.estimates import MeanOfRuns, estimate_all
from training.evaluation.results import Estimate
from training.evaluation.sources.arms import SlicePredictions, SliceTruth, arm_patients, stage_name
from training.evaluation.statistics import stage_statistics
from training.evaluation.tables import number, shown, table
from training.metrics.intervals import BOOTSTRAP_SEED, LIMIT_SD
from training.slice_classifier.linear_probe import SlicesRecipe

PRIMARY = "probability.area_under_roc"
"""Over slices with candidates: those that HeartLens asks a classifier about."""

RANDOM_CROPS, GUIDED, ZOOM, DECOYS, SHUFFLED, LABELS = (
    "random", "guided", "zoom", "zoom-decoys", "zoom-shuffled", "labels",
)  # fmt: skip
ANCESTOR, UNTRAINED = "ancestor", "untrained"

GUIDED_ARMS = (GUIDED, ZOOM, DECOYS, SHUFFLED)

ARMS = (RANDOM_CROPS, *GUIDED_ARMS, LABELS)

WORDS = {
    LABELS: "no pre-training: as many steps with the labels",
    ZOOM: "guided by coronary calcium, close",
    GUIDED: "guided by coronary calcium, as published",
    DECOYS: "as close, at other bright spots",
    SHUFFLED: "as close, at labels of other slices",
    RANDOM_CROPS: "random crops",
    ANCESTOR: "the ancestor, not continued",
    UNTRAINED: "random frozen network (floor)",
}
"""Of each method, in the order of the table."""

COMPARED = (
    (ZOOM, RANDOM_CROPS), (ZOOM, DECOYS), (ZOOM, SHUFFLED), (GUIDED, RANDOM_CROPS), (ZOOM, GUIDED), (ZOOM, LABELS),
    (ANCESTOR, UNTRAINED),
)  # fmt: skip

LEAST_EFFECT = 0.02
"""Of the area under the curve; set before the first run."""

POWER_SD = LIMIT_SD + 0.84
"""An effect of so many standard errors is found by a 95 % interval in four of five experiments."""


@dataclass(frozen=True)
class ForkRecipe:
    """Everything that the answer depends on.

    Parameters
    ----------
    patients, first_seed, matrix, slice_mm
        Of the phantoms, as in `training.evaluation.sources.arms.ExperimentRecipe`.
    ancestor
        The pre-training that all continuations go on from, with random crops alone.
    steps
        Of each continuation.
    learning_rate
        Of each continuation, for a batch of 256, as in `DinoRecipe`; it falls to 0 by a cosine after a short rise.
    crops
        Random and guided local crops of a continuation; without guides all are random.
    zoom_mm
        Range of a close guided crop's side; one as published is as large as the random ones.
    seeds
        Continuations of each arm, and of the heads.
    shares
        Of the training persons, whose labels are known; guides and heads take these alone.
    head
        Of every arm.
    labels_learning_rate
        Of the arm that has labels in the place of pre-training.
    draws
        Of the bootstrap.
    """

    patients: tuple[int, int, int] = (72, 18, 36)
    first_seed: int = 890000
    matrix: int = 128
    slice_mm: float = 4.0
    ancestor: DinoRecipe = field(default_factory=DinoRecipe)
    steps: int = 150
    learning_rate: float = 4e-3
    crops: tuple[int, int] = (2, 2)
    zoom_mm: tuple[float, float] = (12.0, 30.0)
    seeds: int = 6
    shares: tuple[float, ...] = (0.1, 1.0)
    head: SlicesRecipe = field(default_factory=SlicesRecipe)
    labels_learning_rate: float = 3e-4
    draws: int = 1000

    def __post_init__(self) -> None:
        if min(self.patients) < 2 or self.seeds < 2 or self.steps < 1 or min(self.crops) < 1:
            raise ValueError("patients and seeds must be 2 or more, steps and both kinds of crops 1 or more")
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must lie above 0 and at most at 1, got {self.shares}")
        if self.ancestor.augment.guided_local_crops:
            raise ValueError("ancestor.augment.guided_local_crops must be 0: no continuation may have seen guides")

    def arm(self, name: str, seed: int) -> DinoRecipe:
        """The continuation of one arm; all have the same number of crops, steps and slices.

        Parameters
        ----------
        name
            One of `ARMS` but the one with labels.
        seed
            Of the continuation.
        """
        plain, guided = self.crops
        augment: AugmentConfig = replace(
            self.ancestor.augment, random_local_crops=plain, guided_local_crops=guided, guided_placement="random"
        )
        if name == RANDOM_CROPS:
            augment = replace(augment, random_local_crops=plain + guided, guided_local_crops=0)
        elif name == GUIDED:
            augment = replace(augment, guided_placement="centre")
        else:
            by = {ZOOM: "coronary", DECOYS: "traps", SHUFFLED: "shuffled"}[name]
            augment = replace(augment, guided_by=by, guided_mm=self.zoom_mm)
        last = self.ancestor.momentum[1]
        return replace(
            self.ancestor, augment=augment, steps=self.steps, seed=1 + seed, learning_rate=self.learning_rate,
            freeze_epochs=0, teacher_temperature_epochs=0, momentum=(self.ancestor.momentum[0], last),
        )  # fmt: skip

    def labeled(self, share: float) -> int:
        """How many training persons' labels are known."""
        return max(2, round(share * self.patients[0]))


def arm_name(arm: str, share: float) -> str:
    """Name of an arm at a share of the labels."""
    return f"{arm} {share:.0%}"


class Effect(NamedTuple):
    """A paired difference.

    Parameters
    ----------
    estimate
        Mean over the seeds, with its interval over persons and seeds.
    by_seed
        Of all persons.
    smallest_seen
        What this experiment would have found in four of five repetitions; None where there is no interval.
    """

    estimate: Estimate
    by_seed: tuple[float, ...]
    smallest_seen: float | None

    @property
    def is_above_0(self) -> bool:
        """The whole interval lies above 0."""
        return self.estimate.low is not None and self.estimate.low > 0


def on_candidates(
    truth: SliceTruth,
    predictions: Mapping[str, Sequence[SlicePredictions]],
    validation: NDArray[np.bool_],
    test: NDArray[np.bool_],
) -> tuple[SliceTruth, dict[str, list[SlicePredictions]]]:
    """Truth and answers of those slices alone that HeartLens asks about.

    Parameters
    ----------
    truth, predictions
        Of all slices.
    validation, test
        (m,), (n,) those with candidates
    """
    kept = SliceTruth(truth.validation[validation], truth.test[test], truth.patient[test], truth.area_mm2[test])
    return kept, {
        name: [SlicePredictions(run.validation[validation], run.test[test]) for run in runs]
        for name, runs in predictions.items()
    }


def compare_arms(
    truth: SliceTruth,
    predictions: Mapping[str, Sequence[SlicePredictions]],
    pairs: Sequence[tuple[str, str]],
    *,
    draws: int,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[dict[str, Estimate], dict[str, Effect]]:
    """Areas under the curve of arms, and their paired differences, by bootstrap of persons and of seeds.

    Parameters
    ----------
    truth
        Of slices with candidates.
    predictions
        By name, one for each seed; arms that are compared have as many.
    pairs
        Names; the second is taken from the first.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    by_arm : dict[str, Estimate]
        Mean over the seeds.
    effects : dict[str, Effect]
        By "one - other".
    """
    cut_offs = {name: [0.5] * len(runs) for name, runs in predictions.items()}
    patients = arm_patients(truth, predictions, cut_offs)
    runs = {
        name: [stage_statistics(patients, stage_name(name, n), (PRIMARY,))[0] for n in range(len(of))]
        for name, of in predictions.items()
    }
    arms = {name: MeanOfRuns(of, (PRIMARY,)) for name, of in runs.items()}
    by_arm, differences = estimate_all(arms, differences=pairs, draws=draws, seed=seed)
    everyone = np.arange(len(patients))
    each = {name: [run.values(everyone)[0] for run in of] for name, of in runs.items()}
    effects = {}
    for one, other in pairs:
        estimate = differences[f"{one} - {other}"][PRIMARY]
        by_seed = tuple(a - b for a, b in zip(each[one], each[other], strict=True))
        effects[f"{one} - {other}"] = Effect(estimate, by_seed, smallest_seen(estimate, len(by_seed)))
    return {name: of[PRIMARY] for name, of in by_arm.items()}, effects


def smallest_seen(estimate: Estimate, seeds: int) -> float | None:
    """The effect that would have been found in four of five such experiments.

    A bootstrap of a few seeds knows their spread too small by sqrt((n - 1) / n); that is put back here.

    Parameters
    ----------
    estimate
        A paired difference with its 95 % interval.
    seeds
        How many there were.

    Examples
    --------
    >>> round(smallest_seen(Estimate(0.0, -0.0196, 0.0196), 1_000_000), 3)
    0.028
    """
    if estimate.low is None or estimate.high is None or seeds < 2:
        return None
    error = (estimate.high - estimate.low) / (2 * LIMIT_SD) * math.sqrt(seeds / (seeds - 1))
    return POWER_SD * error


def verdict(effects: Mapping[str, Effect], share: float) -> str:
    """In words, by the rule that was set before the first run.

    Parameters
    ----------
    effects
        Of `compare_arms`.
    share
        Of the labels.
    """

    def effect(one: str, other: str) -> Effect | None:
        return effects.get(f"{arm_name(one, share)} - {arm_name(other, share)}")

    floor, help_of_zoom = effect(ANCESTOR, UNTRAINED), effect(ZOOM, RANDOM_CROPS)
    if floor is None or help_of_zoom is None:
        return "no verdict: an arm is missing"
    if not floor.is_above_0:
        return (
            "no answer: the ancestor is not shown to be better than a network as it was drawn, so what its "
            "continuations learn says little about guidance; pre-train it for longer"
        )
    value = help_of_zoom.estimate.value
    if not help_of_zoom.is_above_0 or value is None or value < LEAST_EFFECT:
        seen = help_of_zoom.smallest_seen
        return (
            f"null result: close guided crops are not shown to help by {LEAST_EFFECT:g} or more; an effect of "
            f"{number(seen)} would have been found in four of five such experiments"
        )
    wrong = [effect(ZOOM, arm) for arm in (DECOYS, SHUFFLED)]
    if all(one is not None and one.is_above_0 for one in wrong):
        return "close guided crops help, and it is the calcium that they show"
    return "close guided crops help, but not more than crops as close at wrong places: zooming in may be what helps"


def fork_table(document: Mapping[str, Any]) -> str:
    """Arms, differences and verdicts as Markdown.

    Parameters
    ----------
    document
        fork.json
    """
    rows, differences = [], []
    for method in document["methods"].values():
        seeds = ", ".join(number(value) for value in method["by_seed"])
        rows.append([method["words"], method["labels"], shown(Estimate(**method["estimate"])), seeds])
    for name, effect in document["differences"].items():
        seeds = ", ".join(number(value, sign=True) for value in effect["by_seed"])
        seen = number(effect["smallest_seen"])
        differences.append([name, shown(Estimate(**effect["estimate"]), sign=True), seeds, seen])
    text = (
        f"Phantoms {document['phantom_seeds'][0]} to {document['phantom_seeds'][1]}; "
        f"{document['slices']['candidates']} of {document['slices']['test']} test slices have candidates, "
        f"{document['slices']['calcified']} of these calcium. Commit {document['commit']}. Area under the ROC curve "
        f"over slices with candidates; 95 % intervals by {document['draws']} draws of persons and seeds."
    )
    verdicts = [f"At {share} of the labels: **{words}**." for share, words in document["verdicts"].items()]
    died = [f"Runs that died: {'; '.join(f'{k}: {v}' for k, v in document['died'].items())}."]
    return "\n\n".join([
        text, table(["arm", "labels", "area under ROC", "by seed"], rows),
        table(["difference", "mean of seeds", "by seed", "smallest effect that would have been seen"], differences),
        *verdicts, *(died if document["died"] else []),
    ]) + "\n"  # fmt: skip


def to_json(by_arm: Mapping[str, Estimate], effects: Mapping[str, Effect]) -> dict[str, Any]:
    """Estimates and differences as plain values.

    Parameters
    ----------
    by_arm, effects
        Of `compare_arms`.
    """
    return {
        "estimates": {name: to_plain(one) for name, one in by_arm.items()},
        "differences": {
            name: {
                "estimate": to_plain(one.estimate), "by_seed": list(one.by_seed), "smallest_seen": one.smallest_seen,
            }
            for name, one in effects.items()
        },
    }  # fmt: skip


def by_seed(asked: SliceTruth, runs: Sequence[SlicePredictions]) -> list[float | None]:
    """The area under the curve of each run alone.

    Parameters
    ----------
    asked, runs
        Of `on_candidates`: the truth, and what the runs of one arm say.
    """
    return [compare_arms(asked, {"": [one]}, (), draws=1)[0][""].value for one in runs]


def keep_result(document: Mapping[str, Any], record: Path) -> None:
    """Write the record of an experiment and ``table.md`` beside it, and print the table.

    Parameters
    ----------
    document
        As `fork_table` takes it.
    record
        JSON file to write.
    """
    write_json(record, document)
    text = fork_table(document)
    with atomic_file(record.with_name("table.md")) as sibling:
        sibling.write_text(text, encoding="utf-8")
    print(text)
