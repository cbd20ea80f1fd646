"""The third bundle's recipe: seeds of its own, parts that a short budget leaves, and nobody on both sides."""

from __future__ import annotations

import json
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery
from heartlens.networks.bundle import find_bundle
from training import build_third_bundle as third
from training.datasets import lifelike_sets, phantom_sets
from training.datasets.scans import LabeledScan
from training.datasets.sources import pseudonym
from training.engine.cli import CANCELLED, DONE, REFUSED
from training.engine.config import load_recipe
from training.segmentation.recipe import SegmentationRecipe
from training.slice_classifier.finetune import TuneRecipe

SPENT = [range(700_000, 700_200), range(720_000, 720_200), range(800_000, 800_126), range(810_000, 810_500)]


def test_no_seed_has_two_purposes_nor_one_that_was_spent():
    sets = [getattr(lifelike_sets, name).range for name in ("TRAINING", "VALIDATION", "CALIBRATION", "TEST")]
    others = [getattr(phantom_sets, n).range for n in ("TRAINING", "VALIDATION", "SPARE", "CALIBRATION", "TEST")]
    for one, other in combinations([*sets, *others], 2):
        assert not set(one) & set(other)
    for one in sets:
        assert not any(set(one) & set(spent) for spent in SPENT)
    planned = [seed for seeds in third.parts(third.Path("work")).values() for seed in seeds]
    assert sorted(planned) == sorted(seed for one in sets[:3] for seed in one)


def test_draws_of_a_person_differ_in_calcium_alone_and_those_of_training_are_heavier():
    first, second, third_draw = lifelike_sets.people(lifelike_sets.TRAINING.first + 1)
    assert first.anatomy == 2
    assert {p.draw for p in (first, second, third_draw)} == {0, 1, 2}
    assert first.category == ">400"
    assert third_draw.category is None
    assert sum(third_draw.plaques) >= 2
    (alone,) = lifelike_sets.people(lifelike_sets.CALIBRATION.first)
    assert alone.draw == 0


def test_every_recipe_can_be_read():
    assert load_recipe(SegmentationRecipe, third.RECIPES / "third-unet.toml").network.base == 24
    assert load_recipe(TuneRecipe, third.RECIPES / "third-slices.toml").least_sensitivity > 0.99


@pytest.fixture
def small(monkeypatch):
    """Two people a part, as cubes of 8 slices; a fake that lays one plaque."""
    monkeypatch.setattr(third, "TRAINING", phantom_sets.Seeds(1_000_000, 2))
    monkeypatch.setattr(third, "VALIDATION", phantom_sets.Seeds(1_100_000, 3))
    monkeypatch.setattr(third, "CALIBRATION", phantom_sets.Seeds(1_120_000, 1))
    monkeypatch.setattr(third, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(third, "made", cube)


class InThisProcess:
    def __init__(self, workers, mp_context):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, make, seeds):
        return map(make, seeds)


def cube(seed):
    hu = np.full((8, 64, 64), -80, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[3, 20 + seed % 20, 20:24] = 300 + seed % 7
    labels[3, 20 + seed % 20, 20:24] = Artery.LAD
    header = CTHeader(kvp=120.0, slice_thickness_mm=3.0, sop_instance_uids=tuple(f"2.25.{n + 1}" for n in range(8)))
    ct = CTVolume(hu, np.diag([2.5, 2.5, 3.0, 1.0]), header)
    scan = LabeledScan(f"lifelike/{seed}/0", pseudonym("phantom", str(seed)), "phantom", ct, labels)
    return [(scan, [32.0, 32.0, 0.0, 8.0])]


def test_what_is_made_stays_a_budget_that_is_over_ends_it_and_no_person_is_on_both_sides(small, tmp_path):
    bundle = str(find_bundle("heartlens-embedded"))
    words = [str(tmp_path), "--from", bundle, "--stages", "data"]
    assert third.main([*words, "--minutes", "0.000001"]) == CANCELLED
    assert third.whole_parts(tmp_path, "training") == []
    assert third.main([str(tmp_path), "--from", bundle, "--stages", "unet"]) == REFUSED  # nothing to train on
    assert third.main(words) == DONE  # without --data, and so without backgrounds
    before = {f: (f / "index.json").stat().st_mtime_ns for f in third.whole_parts(tmp_path, *third._kinds())}
    assert len(before) == 3
    (tmp_path / "training-00" / third.HEARTS).unlink()  # killed between the shards and where the hearts lie
    assert third.main(words) == DONE
    after = {f: (f / "index.json").stat().st_mtime_ns for f in third.whole_parts(tmp_path, *third._kinds())}
    assert [f.name for f in after if after[f] != before[f]] == ["training-00"]
    third._data_of(tmp_path, tmp_path / "unet")
    splits = json.loads((tmp_path / "unet" / "splits.json").read_text())
    assert [len(splits[part]) for part in ("train", "validation", "test")] == [2, 2, 1]
    assert "no real scan" in third._texts(tmp_path)["trained_on"]


def test_cut_offs_are_fitted_to_phantoms_and_to_those_real_people_who_were_not_trained_on():
    held_out, trained_on = (pseudonym("background", person) for person in (lifelike_sets.HELD_OUT[0], "somebody else"))
    scans = [
        SimpleNamespace(source="phantom", patient="p"),
        SimpleNamespace(source="background", patient=trained_on),
        SimpleNamespace(source="background", patient=held_out),
    ]
    assert third.mixture(SimpleNamespace(scans=scans)) == [0, 2]
