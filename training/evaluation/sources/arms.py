"""Patients of the experiment: its recipe and phantoms, what each arm says of their slices, and what that amounts to."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.networks.backbone import Backbone
from heartlens.phantom import PhantomParameters, make_phantom
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.sources import pseudonym
from training.datasets.splits import Splits, pretraining_scans, scans_of
from training.dino.features import embed_slices, knn_probability
from training.dino.published_weights import FoundationRecipe
from training.dino.recipe import DinoRecipe
from training.engine.config import since_version
from training.engine.distributed import Ranks
from training.engine.json_records import to_plain
from training.evaluation.estimates import MeanOfRuns, estimate_all
from training.evaluation.results import NEIGHBORS, Estimate, Patient, SyntheticTruth
from training.evaluation.statistics import AREA_EDGES_MM2, stage_statistics
from training.metrics import intervals
from training.metrics.cutoff import choose_cut_off
from training.metrics.overlap import Comparison
from training.slice_classifier.linear_probe import SlicesRecipe, fit_head, head_probability, read_features

logger = logging.getLogger(__name__)

STATISTICS = (
    "slices.f1", "probability.area_under_roc", "probability.sensitivity_at_90", f"{NEIGHBORS}.area_under_roc",
    *(f"slices.area.{n}.recall" for n in range(len(AREA_EDGES_MM2) - 1)),
)  # fmt: skip
"""F1 at the cut-off that is best on validation, area under the ROC curve, sensitivity where specificity is 90 %, the
area under the curve of neighbors in the embedding, and recall in each bin of the calcified area of a slice."""

PRIMARY = "slices.f1"

COMPARED = (
    ("dino-lg", "dino"), ("dino-lg", "traps"), ("dino-lg", "shuffled"), ("traps", "dino"),
    ("dino-lg", "foundation"), ("foundation", "random"),
)  # fmt: skip

LEAST_EFFECT = 0.03
"""Of F1, DINO-LG over DINO; written down before the first run."""

DRAWS, SEED = 1000, intervals.BOOTSTRAP_SEED

ALONE = Ranks()
"""One process, on the CPU."""

WORDS = {
    "supervised": "same network, supervised (ceiling)",
    "dino-lg": "DINO-LG: guided by coronary calcium",
    "traps": "guided by other bright spots",
    "shuffled": "guided by labels of other slices",
    "dino": "DINO: random crops",
    "foundation": "foundation: pre-trained on photographs, frozen",
    "random": "random frozen network (floor)",
    "threshold": "threshold in the heart's box (floor)",
}
"""Of each method, in the order in which it is shown."""


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
    foundation
        A backbone that was pre-trained elsewhere and is one arm more, where it has weights.
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
    foundation: FoundationRecipe = since_version(FoundationRecipe())  # noqa: RUF009  - it is a field

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
        row_mm, column_mm = slices.spacing_mm(int(n))
        area_mm2[n] = np.isin(slices.shards.labels(scan)[k], coronary).sum() * row_mm * column_mm
    return area_mm2


# What arms say


@dataclass(frozen=True, eq=False)
class SliceTruth:
    """The truth.

    Parameters
    ----------
    validation, test
        (m,), (n,) bool, whether each slice is calcified
    patient
        (n,) of each test slice
    area_mm2
        (n,) coronary calcium on it
    """

    validation: NDArray[np.bool_]
    test: NDArray[np.bool_]
    patient: NDArray[np.int64]
    area_mm2: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SlicePredictions:
    """What one run says of each slice; larger is more likely calcified.

    Parameters
    ----------
    validation, test
        (m,), (n,)
    neighbors_validation, neighbors_test
        Of neighbors in the embedding; None where there is no embedding.
    """

    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    neighbors_validation: NDArray[np.float64] | None = None
    neighbors_test: NDArray[np.float64] | None = None

    def save(self, path: Path, identity: str) -> None:
        """Keep them for the next start."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: values for name, values in vars(self).items() if values is not None}
        with atomic_file(path) as sibling, open(sibling, "wb") as file:
            np.savez(file, identity=np.array(identity), **kept)

    @classmethod
    def load(cls, path: Path, identity: str) -> SlicePredictions | None:
        """Answers of an earlier start; None when there are none, or they belong to another recipe or other data."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["identity"]) != identity:
                    return None
                return cls(**{name: file[name] for name in file.files if name != "identity"})
        except (OSError, ValueError, KeyError, EOFError):
            return None


def predict_with_backbone(
    head: SlicesRecipe, backbone: Backbone, data: ExperimentData, seed: int, folder: Path, ranks: Ranks = ALONE
) -> SlicePredictions:
    """Of a linear head on frozen embeddings, and of their neighbors.

    Parameters
    ----------
    head
        Recipe of the head, and the view in which slices are embedded.
    seed
        Of the head.
    folder
        Keeps the embeddings.
    """
    head_recipe = replace(head, seed=seed)
    backbone = backbone.eval().requires_grad_(False)
    features = read_features(head_recipe, backbone, data.training, data.validation, ranks.device, folder)
    test = embed_slices(backbone, data.test, np.arange(len(data.test)), head_recipe.view, device=ranks.device)
    fitted = fit_head(head_recipe, features)
    near = (features.training[0], features.training_labels[0])
    return SlicePredictions(
        validation=head_probability(fitted, features.validation),
        test=head_probability(fitted, test),
        neighbors_validation=knn_probability(*near, features.validation, neighbors=head.neighbors),
        neighbors_test=knn_probability(*near, test, neighbors=head.neighbors),
    )


def arm_patients(
    truth: SliceTruth, predictions: Mapping[str, Sequence[SlicePredictions]], cut_offs: Mapping[str, Sequence[float]]
) -> list[Patient]:
    """The patients of the test; each run of each arm is a stage, of which only slices are known."""
    patients = []
    for number in np.unique(truth.patient):
        chosen = truth.patient == number
        stages, probabilities = {}, {}
        for name, runs in predictions.items():
            for n, (run, cut_off) in enumerate(zip(runs, cut_offs[name], strict=True)):
                stage = stage_name(name, n)
                called = (run.test[chosen] >= cut_off).tolist()
                stages[stage] = Comparison({}, {}, tuple(truth.test[chosen].tolist()), tuple(called), {}, 0.0, (), ())
                probabilities[stage] = tuple(run.test[chosen].tolist())
                if run.neighbors_test is not None:
                    probabilities[f"{stage} {NEIGHBORS}"] = tuple(run.neighbors_test[chosen].tolist())
        known = SyntheticTruth(slice_area_mm2=tuple(truth.area_mm2[chosen].tolist()))
        patients.append(Patient(str(number), stages, probabilities, synthetic=known))
    return patients


def stage_name(arm: str, run: int) -> str:
    """Name of one run of one arm."""
    return f"{arm}-{run}"


def summarize_experiment(truth: SliceTruth, predictions: Mapping[str, Sequence[SlicePredictions]]) -> dict[str, Any]:
    """Methods, paired differences and the verdict, as JSON. Statistics of an arm are means over its seeds."""
    cut_offs = {
        name: [choose_cut_off(truth.validation, run.validation, "f1") for run in runs]
        for name, runs in predictions.items()
    }
    patients = arm_patients(truth, predictions, cut_offs)
    runs = {
        name: [stage_statistics(patients, stage_name(name, n), STATISTICS)[0] for n in range(len(cut_offs[name]))]
        for name in predictions
    }
    pairs = [pair for pair in COMPARED if set(pair) <= set(predictions)]
    arms = {name: MeanOfRuns(of, STATISTICS) for name, of in runs.items()}
    by_arm, differences = estimate_all(arms, differences=pairs, draws=DRAWS, seed=SEED)
    everyone = np.arange(len(patients))
    methods = {
        name: {
            "seeds": [
                {key: v if np.isfinite(v) else None for key, v in zip(run.names, run.values(everyone), strict=True)}
                for run in runs[name]
            ],
            "cut_offs": cut_offs[name],
            "estimates": to_plain(by_arm[name]),
        }
        for name in predictions
    }
    return {
        "bootstrap": {"draws": DRAWS, "seed": SEED, "patients": len(patients)},
        "area_edges_mm2": [edge for edge in AREA_EDGES_MM2 if np.isfinite(edge)],
        "least_effect": LEAST_EFFECT,
        "methods": methods,
        "differences": to_plain(differences),
        "verdict": verdict(differences),
    }


def verdict(differences: Mapping[str, Mapping[str, Estimate]]) -> str:
    """In words, by the rule that was written down before."""
    if "dino-lg - dino" not in differences:
        return "no verdict: an arm is missing"
    effect = differences["dino-lg - dino"][PRIMARY]
    if effect.value is None or effect.low is None or effect.low <= 0 or effect.value < LEAST_EFFECT:
        return "null result: DINO-LG is not shown to be better than DINO by the effect that counts"
    wrong = [differences.get(f"dino-lg - {arm}", {}).get(PRIMARY) for arm in ("traps", "shuffled")]
    if all(d is not None and d.low is not None and d.low > 0 for d in wrong):
        return "DINO-LG is better than DINO, and than guidance at wrong places"
    return "DINO-LG is better than DINO, but not than guidance at wrong places: zooming in may be what helps"
