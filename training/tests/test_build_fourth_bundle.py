"""The fourth bundle's recipe: seeds of its own, parts that a short budget leaves, and nobody on both sides."""

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
from training import build_fourth_bundle as fourth
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
    replayed = [getattr(lifelike_sets, f"REPLAYED{part}").range for part in ("", "_VALIDATION", "_CALIBRATION")]
    for one, other in combinations([*sets, *others], 2):
        assert not set(one) & set(other)
    for one in sets:
        assert not any(set(one) & set(spent) for spent in SPENT)
    planned = [seed for seeds in fourth.parts(fourth.Path("work")).values() for seed in seeds]
    assert sorted(planned) == sorted(seed for one in [*sets[:3], *replayed] for seed in one)
    for part, of in zip(replayed, (others[0], others[1], others[3]), strict=True):
        assert set(part) <= set(of)


def test_what_a_short_budget_leaves_holds_both_anatomies_of_each_part():
    early = [folder.name.rsplit("-", 1)[0] for folder in list(fourth.parts(fourth.Path("work")))[:14]]
    assert {name: early.count(name) for name in sorted(set(early))} == {
        "calibration-1": 2, "calibration-2": 2, "training-1": 4, "training-2": 4, "validation-1": 1, "validation-2": 1,
    }  # fmt: skip


def test_a_quarter_of_those_trained_on_have_a_heavy_ring_and_a_third_of_the_others_an_ordinary_one():
    for seeds, draw in (
        (lifelike_sets.TRAINING, lambda s: lifelike_sets.people(s)[0]),
        (lifelike_sets.REPLAYED, lifelike_sets.replayed),
    ):
        drawn = [draw(seed) for seed in seeds.range[:24]]
        heavy = [p.seed for p in drawn if "mitral_annulus_heavy" in p.traps]
        assert heavy == [seed for seed in seeds.range[:24] if seed % 4 == 1]
        assert not any({"mitral_annulus", "mitral_annulus_heavy"} <= set(p.traps) for p in drawn)
        assert all("mitral_annulus" in p.traps for p in drawn if p.seed % 3 == 1 and p.seed % 4 != 1)


def test_what_calibrates_is_as_it_was_drawn():
    for seeds in (lifelike_sets.REPLAYED_CALIBRATION, lifelike_sets.REPLAYED_VALIDATION):
        for seed in seeds.range[:8]:
            assert lifelike_sets.replayed(seed) == phantom_sets.training_phantom(seed)


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
    assert load_recipe(SegmentationRecipe, fourth.RECIPES / "fourth-unet.toml").network.base == 24
    assert load_recipe(TuneRecipe, fourth.RECIPES / "fourth-slices.toml").least_sensitivity > 0.99


@pytest.fixture
def small(monkeypatch):
    """Two people a part, as cubes of 8 slices; a fake that lays one plaque."""
    monkeypatch.setattr(fourth, "TRAINING", phantom_sets.Seeds(1_000_000, 2))
    monkeypatch.setattr(fourth, "VALIDATION", phantom_sets.Seeds(1_100_000, 3))
    monkeypatch.setattr(fourth, "CALIBRATION", phantom_sets.Seeds(1_120_000, 1))
    for name in ("REPLAYED", "REPLAYED_VALIDATION", "REPLAYED_CALIBRATION"):
        monkeypatch.setattr(fourth, name, phantom_sets.Seeds(1, 0))
    monkeypatch.setattr(fourth, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(fourth, "made", cube)


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
    assert fourth.main([*words, "--minutes", "0.000001"]) == CANCELLED
    assert fourth.whole_parts(tmp_path, "training") == []
    assert fourth.main([str(tmp_path), "--from", bundle, "--stages", "unet"]) == REFUSED  # nothing to train on
    assert fourth.main(words) == DONE  # without --data, and so without backgrounds
    before = {f: (f / "index.json").stat().st_mtime_ns for f in fourth.whole_parts(tmp_path, *fourth._kinds())}
    assert len(before) == 3
    (tmp_path / "training-2-00" / fourth.HEARTS).unlink()  # killed between the shards and where the hearts lie
    assert fourth.main(words) == DONE
    after = {f: (f / "index.json").stat().st_mtime_ns for f in fourth.whole_parts(tmp_path, *fourth._kinds())}
    assert [f.name for f in after if after[f] != before[f]] == ["training-2-00"]
    fourth._data_of(tmp_path, tmp_path / "unet")
    splits = json.loads((tmp_path / "unet" / "splits.json").read_text())
    assert [len(splits[part]) for part in ("train", "validation", "test")] == [2, 2, 1]
    assert "no real scan" in fourth._texts(tmp_path)["trained_on"]


def test_cut_offs_are_fitted_to_phantoms_and_to_those_real_people_who_were_not_trained_on():
    held_out, trained_on = (pseudonym("background", person) for person in (lifelike_sets.HELD_OUT[0], "somebody else"))
    first, second = ({"parameters": {"anatomy": anatomy}} for anatomy in (1, 2))
    scans = [
        SimpleNamespace(source="phantom", patient="p", provenance=second),
        SimpleNamespace(source="background", patient=trained_on),
        SimpleNamespace(source="background", patient=held_out),
    ]
    scans.append(SimpleNamespace(source="phantom", patient="q", provenance=first))
    assert fourth.mixture(SimpleNamespace(scans=scans)) == [0, 2, 3]
    assert fourth.by_origin(SimpleNamespace(scans=scans), [0, 2, 3]) == [[0], [3], [2]]
