"""The recipe of the bundle that ships: a frozen generator, seeds kept apart, and what is kept of a scan."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future

import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.phantom import PhantomParameters, make_phantom
from training import build_default_bundle as embedded
from training.datasets import phantom_sets
from training.datasets.hearts import find_hearts
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.dino.recipe import DinoRecipe
from training.engine.checkpoint import stop_signals
from training.engine.cli import CANCELLED
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.segmentation.recipe import SegmentationRecipe
from training.slice_classifier.candidates import find_candidate_slices
from training.slice_classifier.finetune import TuneRecipe
from training.slice_classifier.linear_probe import SlicesRecipe

pytestmark = pytest.mark.slow


def test_the_phantom_is_the_one_that_the_shipped_networks_were_trained_on():
    """When this fails, train again (`python -m training.build_default_bundle`) or undo the change of the phantom."""
    assert phantom_sets.generator_hash() == phantom_sets.GENERATOR


def test_no_seed_has_two_purposes():
    trained = [*phantom_sets.TRAINING.range, *phantom_sets.VALIDATION.range, *phantom_sets.SPARE.range]
    every = [*trained, *phantom_sets.CALIBRATION.range, *phantom_sets.TEST.range]
    assert len(set(every)) == len(every)
    work = embedded.Path("work")
    assert sorted(s for seeds in embedded.parts(work).values() for s in seeds) == sorted(trained)
    assert [s for seeds in embedded.calibration_parts(work).values() for s in seeds] == [
        *phantom_sets.CALIBRATION.range
    ]


def test_phantoms_of_validation_are_drawn_as_any_other_and_those_of_training_hold_more():
    assert phantom_sets.training_phantom(embedded.VALIDATION.first) == PhantomParameters.varied(
        embedded.VALIDATION.first
    )
    first = phantom_sets.CALIBRATION.first
    assert phantom_sets.training_phantom(first) == PhantomParameters.varied(first, matrix=512)
    burdens = {
        phantom_sets.training_phantom(seed).matched_burden
        for seed in phantom_sets.TRAINING.range
        if seed % phantom_sets.PLAIN
    }
    assert burdens == {">400"}


def test_what_is_kept_of_a_training_scan_lies_where_it_lay(monkeypatch):
    small = PhantomParameters.random(
        3, field_of_view="chest", cover="heart", matrix=160, pixel_mm=2.2, slice_thickness_mm=8.0, increment_mm=8.0
    )
    monkeypatch.setattr(embedded, "training_phantom", lambda seed: small)
    phantom = make_phantom(small)
    scan, ((row, column, low, high), candidate_slices) = embedded.make_scan(embedded.TRAINING.first)
    whole, ((whole_row, whole_column, whole_low, _), whole_candidate_slices) = embedded.make_scan(
        phantom_sets.VALIDATION.first
    )
    assert candidate_slices is None
    assert whole_candidate_slices is not None
    assert scan.ct.shape[1:] == (96, 96)  # 82 pixels are 180 mm; the next multiple of 32
    assert np.array_equal(whole.ct.hu, phantom.ct.hu)
    offset = np.rint(phantom.ct.index_kji(scan.ct.affine[:3, 3])).astype(int)
    window = tuple(slice(o, o + n) for o, n in zip(offset, scan.ct.shape, strict=True))
    assert np.array_equal(scan.ct.hu, phantom.ct.hu[window])
    assert np.array_equal(scan.labels, phantom.labels[window])
    assert (row + offset[1], column + offset[2], low + offset[0]) == (whole_row, whole_column, whole_low)
    assert 0 <= low < high <= scan.ct.shape[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unet", SegmentationRecipe),
        ("dino", DinoRecipe),
        ("slices", SlicesRecipe),
        ("tuned", TuneRecipe),
    ],
)
def test_every_recipe_can_be_read(name, kind):
    assert load_recipe(kind, embedded.RECIPES / f"embedded-{name}.toml") != kind()


@pytest.fixture
def small(monkeypatch):
    """Five people in as many parts, of phantoms that are made in a moment."""
    monkeypatch.setattr(embedded, "TRAINING", phantom_sets.Seeds(500_000, 2))
    monkeypatch.setattr(embedded, "VALIDATION", phantom_sets.Seeds(600_000, 1))
    monkeypatch.setattr(embedded, "SPARE", phantom_sets.Seeds(690_000, 1))
    monkeypatch.setattr(embedded, "CALIBRATION", phantom_sets.Seeds(720_000, 1))
    monkeypatch.setattr(embedded, "PART", 1)
    monkeypatch.setattr(embedded, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(embedded, "training_phantom", lambda seed: PhantomParameters.random(
        seed, field_of_view="heart", cover="heart", matrix=64, pixel_mm=3.2, slice_thickness_mm=8.0, increment_mm=8.0
    ))  # fmt: skip


class InThisProcess:
    """A pool of one, so that what a test has changed holds in it; it counts what was begun."""

    begun = 0

    def __init__(self, workers, mp_context):
        pass

    def submit(self, make, seed):
        InThisProcess.begun += 1
        future: Future = Future()
        future.set_result(make(seed))
        return future

    def shutdown(self, cancel_futures):
        assert cancel_futures


def test_a_part_that_was_cut_short_is_made_anew_and_the_others_are_left(small, tmp_path):
    InThisProcess.begun = 0
    assert embedded.main([str(tmp_path), "--stages", "data"]) == 0
    assert InThisProcess.begun == 5
    whole = (tmp_path / "shards-00" / "index.json").read_bytes()
    (tmp_path / "shards-00" / embedded.HEARTS).unlink()  # killed between the shards and what was found in them
    other = (tmp_path / "shards-01" / "index.json").stat()
    assert embedded.main([str(tmp_path), "--stages", "data"]) == 0
    assert InThisProcess.begun == 6
    assert (tmp_path / "shards-00" / "index.json").read_bytes() == whole
    assert (tmp_path / "shards-01" / "index.json").stat() == other
    hearts = json.loads((tmp_path / "shards-00" / embedded.HEARTS).read_text())
    candidate_slices = json.loads((tmp_path / "shards-validation" / embedded.CANDIDATE_SLICES).read_text())
    assert [len(heart) for heart in hearts.values()] == [4]
    assert len(candidate_slices) == 1
    assert json.loads((tmp_path / "shards-00" / embedded.CANDIDATE_SLICES).read_text()) == {}


def test_what_was_found_is_what_training_would_find_itself(small, tmp_path):
    assert embedded.main([str(tmp_path), "--stages", "data"]) == 0
    folder = tmp_path / "shards-validation"
    shards = ShardSet.open(folder)
    hearts = find_hearts(shards, [0], tmp_path / "hearts.json", Ranks())
    assert json.loads((folder / embedded.HEARTS).read_text()) == hearts
    slices = SliceSet(shards, [0], hearts)
    candidate_slices = find_candidate_slices(shards, slices, tmp_path / "asked.json")
    assert np.flatnonzero(candidate_slices).tolist() == next(
        iter(json.loads((folder / embedded.CANDIDATE_SLICES).read_text()).values())
    )


def test_a_sitting_that_is_over_begins_no_other_stage_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    """The first stage is in its last step when the time is over: it hears the signal, and ends as if it had not."""
    begun = []

    def deaf(work, workers):
        begun.append("data")
        with stop_signals() as stop:
            end = time.monotonic() + 20
            while not stop.requested and time.monotonic() < end:
                time.sleep(0.01)
            assert stop.requested

    monkeypatch.setitem(embedded.STAGES, "data", deaf)
    monkeypatch.setitem(embedded.STAGES, "unet", lambda work, workers: begun.append("unet"))
    assert embedded.main([str(tmp_path), "--stages", "data", "unet", "--minutes", "0.002"]) == CANCELLED
    assert begun == ["data"]
    assert "run the same command to resume" in capsys.readouterr().err


def test_a_sitting_ends_a_stage_that_knows_no_signals(tmp_path, monkeypatch):
    monkeypatch.setitem(embedded.STAGES, "data", lambda work, workers: [time.sleep(0.01) for _ in range(2000)])
    assert embedded.main([str(tmp_path), "--stages", "data", "--minutes", "0.002"]) == CANCELLED


def test_a_bundle_that_is_there_is_left_and_no_workers_are_refused(tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    assert embedded.main([str(tmp_path), "--stages", "bundle"]) == 0
    assert "already exists" in capsys.readouterr().out
    assert embedded.main([str(tmp_path), "--workers", "0"]) == 3
