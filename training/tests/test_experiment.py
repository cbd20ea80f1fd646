"""The experiment on guidance: arms that differ in the guides alone, figures by hand, a verdict by its rule."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from needed import torch

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.dino.augment import AugmentConfig
from training.dino.recipe import DinoRecipe
from training.engine.config import as_dict, load_recipe
from training.evaluation.results import Estimate
from training.evaluation.sources.arms import (
    WORDS,
    ExperimentRecipe,
    SlicePredictions,
    SliceTruth,
    arm_patients,
    open_data,
    summarize_experiment,
    verdict,
)
from training.evaluation.statistics import summarize
from training.evaluation.tables import experiment_table
from training.experiment import ARMS, RECIPE, run
from training.slice_classifier.linear_probe import SlicesRecipe

pytestmark = pytest.mark.slow

TINY = ExperimentRecipe(
    patients=(4, 2, 2),
    seeds=1,
    supervised_steps=2,
    dino=DinoRecipe(
        backbone="vit_mini_patch8_32", hidden=16, bottleneck=8, prototypes=12, teacher_temperature=0.04, steps=2,
        batch=8, bf16=False, save_every=1,
        augment=AugmentConfig(global_size=32, local_size=16, random_local_crops=1, guided_local_crops=2),
    ),
    head=SlicesRecipe(size=32, views=1, field_mm=120.0),
)  # fmt: skip


def scan(number: int) -> LabeledScan:
    """Six slices of 160 mm: coronary calcium on two, a trap on two."""
    rng = np.random.default_rng(number)
    hu = rng.integers(-100, 100, (6, 40, 40)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    for k, code in ((1, 4), (2, 5), (3, 2), (5, 5)):
        row, column = rng.integers(8, 26, 2)
        hu[k, row : row + 6, column : column + 6] = 900
        labels[k, row : row + 6, column : column + 6] = code
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", CTVolume(hu, np.diag([4.0, 4, 3, 1])), labels)


def test_arms_have_one_budget_and_differ_in_the_guides_alone():
    recipe = load_recipe(ExperimentRecipe, RECIPE)
    recipes = {arm: as_dict(recipe.arm(arm, 2)) for arm in ARMS}
    crops = {(a["augment"]["random_local_crops"], a["augment"]["guided_local_crops"]) for a in recipes.values()}
    assert crops == {(4, 0), (2, 2)}
    assert [recipes[arm]["augment"]["guided_by"] for arm in ARMS[1:]] == ["coronary", "traps", "shuffled"]
    for arm in recipes.values():
        for name in ("random_local_crops", "guided_local_crops", "guided_by"):
            del arm["augment"][name]
    assert all(arm == recipes["dino"] for arm in recipes.values())


def test_the_experiment_runs_goes_on_and_tells_every_arm(tmp_path, capsys):
    write_shards(tmp_path / "shards", (scan(n) for n in range(8)))
    assert run(TINY, tmp_path)
    document = json.loads((tmp_path / "experiment.json").read_text())
    assert set(document["methods"]) == {*ARMS, "random", "supervised", "threshold"}
    assert document["data"]["test"] == {"patients": 2, "slices": 12, "calcified": 4}
    assert document["died"] == {}
    assert (tmp_path / "experiment.png").stat().st_size > 1000
    answers = sorted((tmp_path / "answers").iterdir())
    times = [path.stat().st_mtime_ns for path in answers]
    (tmp_path / "answers" / "traps-0.npz").unlink()
    assert run(TINY, tmp_path)
    again = json.loads((tmp_path / "experiment.json").read_text())
    assert again["methods"] == document["methods"]
    assert [p.stat().st_mtime_ns == t for p, t in zip(answers, times, strict=True)].count(False) == 1
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out


def test_a_backbone_from_elsewhere_is_one_arm_more_and_takes_no_answer_of_the_others_away(tmp_path, capsys):
    """Its weights are drawn here; what counts is that the arm is asked, frozen, in its own number of pixels."""
    from safetensors.torch import save_file

    from heartlens.networks.backbone import Backbone, BackboneShape
    from training.dino.published_weights import FoundationRecipe

    write_shards(tmp_path / "shards", (scan(n) for n in range(8)))
    assert run(TINY, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "answers").iterdir()}
    torch.manual_seed(0)
    weights = Backbone(BackboneShape.named("vit_mini_patch16_48")).state_dict()
    save_file({n: t for n, t in weights.items() if not n.startswith("gray")}, tmp_path / "w.safetensors")
    recipe = replace(TINY, foundation=FoundationRecipe(tmp_path / "w.safetensors", "vit_mini_patch16_48", size=48))
    assert run(recipe, tmp_path)
    document = json.loads((tmp_path / "experiment.json").read_text())
    assert set(document["methods"]) == {*ARMS, "random", "supervised", "threshold", "foundation"}
    assert {"dino-lg - foundation", "foundation - random"} <= set(document["differences"])
    assert "foundation: pre-trained on photographs, frozen" in (tmp_path / "table.md").read_text()
    assert str(tmp_path) not in json.dumps(document)  # the file is known by its checksum alone
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "answers").iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"foundation-0.npz"}
    save_file({n: t + 0.1 for n, t in weights.items() if not n.startswith("gray")}, tmp_path / "w.safetensors")
    assert run(recipe, tmp_path)
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "answers").iterdir()}
    assert {name for name in again if again[name] != after[name]} == {"foundation-0.npz"}  # other weights, asked anew


def test_other_data_than_the_recipe_asks_for_is_refused(tmp_path):
    write_shards(tmp_path / "shards", (scan(n) for n in range(7)))
    with pytest.raises(InputRefused, match="holds 7 scans, expected 8"):
        open_data(TINY, tmp_path)


# Figures

TRUTH = SliceTruth(
    validation=np.array([True, False, True, False]),
    test=np.array([True, True, True, False, False, False, False, False]),
    patient=np.array([0, 0, 1, 0, 0, 1, 1, 1]),
    area_mm2=np.array([5.0, 20.0, 50.0, 0, 0, 0, 0, 0]),
)


def answers(test) -> SlicePredictions:
    return SlicePredictions(np.array([0.9, 0.1, 0.8, 0.2]), np.array(test))


def test_runs_of_an_arm_become_stages_of_patients():
    """At 0.5 patient 0 has one of two found, patient 1 its one, and one of five others is called."""
    one = answers([0.3, 0.5, 0.9, 0.1, 0.2, 0.4, 0.6, 0.05])
    patients = arm_patients(TRUTH, {"dino": [one, answers([0.9] * 8)]}, {"dino": [0.5, 0.95]})
    assert [p.name for p in patients] == ["0", "1"]
    assert patients[0].stages["dino-0"].predicted_slices == (False, True, False, False)
    assert patients[1].slice_probability["dino-0"] == (0.9, 0.4, 0.6, 0.05)
    assert patients[0].synthetic.slice_area_mm2 == (5, 20, 0, 0)
    assert not any(called for p in patients for called in p.stages["dino-1"].predicted_slices)
    estimates = summarize(patients, draws=5, seed=1).stages["dino-0"].estimates
    assert estimates["slices.f1"].value == pytest.approx(4 / 6)
    assert [estimates[f"slices.area.{n}.recall"].value for n in range(3)] == [0, 1, 1]


def test_differences_are_paired_and_means_over_seeds():
    good, bad = answers([0.9] * 3 + [0.1] * 5), answers([0.1] * 3 + [0.9] * 5)
    summary = summarize_experiment(TRUTH, {"dino": [bad, bad], "dino-lg": [good, bad]})
    assert summary["methods"]["dino-lg"]["estimates"]["slices.f1"]["value"] == pytest.approx(0.5)
    assert summary["differences"]["dino-lg - dino"]["slices.f1"]["value"] == pytest.approx(0.5)
    assert [seed["slices.f1"] for seed in summary["methods"]["dino-lg"]["seeds"]] == [1, 0]
    same = summarize_experiment(TRUTH, {"dino": [good], "dino-lg": [good]})["differences"]["dino-lg - dino"][
        "slices.f1"
    ]
    assert same == {"value": 0, "low": 0, "high": 0}


@pytest.mark.parametrize(
    ("value", "low", "traps", "words"),
    [
        (0.05, 0.01, 0.01, "better than DINO, and than guidance at wrong places"),
        (0.05, 0.01, -0.01, "but not than guidance at wrong places"),
        (0.05, -0.01, 0.01, "null result"),
        (0.02, 0.01, 0.01, "null result"),
    ],
)
def test_the_verdict_follows_the_rule(value, low, traps, words):
    effect = {"slices.f1": Estimate(value, low, 0.1)}
    wrong = {"slices.f1": Estimate(0.02, traps, 0.1)}
    differences = {"dino-lg - dino": effect, "dino-lg - traps": wrong, "dino-lg - shuffled": wrong}
    assert words in verdict(differences)


def test_a_dead_run_is_told():
    summary = summarize_experiment(TRUTH, {"dino": [answers([0.9] * 8)]})
    document = {
        "phantom_seeds": [1, 2], "data": {}, "commit": "none", "died": {"traps-0": "embeddings collapsed"}, **summary,
    }  # fmt: skip
    assert "Runs that died: traps-0: embeddings collapsed." in experiment_table(document, WORDS)
    assert "no verdict: an arm is missing" in experiment_table(document, WORDS)


def test_answers_of_another_recipe_are_not_taken(tmp_path):
    answers([0.5] * 8).save(tmp_path / "a.npz", "one")
    assert SlicePredictions.load(tmp_path / "a.npz", "other") is None
    kept = SlicePredictions.load(tmp_path / "a.npz", "one")
    assert kept is not None
    assert kept.test.tolist() == [0.5] * 8
    assert replace(kept).neighbors_test is None
