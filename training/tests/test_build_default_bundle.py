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
from training.datasets.hearts import find_hearts
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.dino.recipe import DinoRecipe
from training.engine.checkpoint import stop_signals
from training.engine.cli import CANCELLED
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.segmentation.recipe import SegmentationRecipe
from training.slice_classifier.finetune import TuneRecipe, find_asked
from training.slice_classifier.linear_probe import SlicesRecipe


def test_the_phantom_is_the_one_that_the_shipped_networks_were_trained_on():
    """When this fails, train again (`python -m training.build_default_bundle`) or undo the change of the phantom."""
    assert embedded.generator_hash() == embedded.GENERATOR


def test_no_seed_has_two_purposes():
    trained = [*embedded.TRAINING.range, *embedded.VALIDATION.range, *embedded.SPARE.range]
    every = [*trained, *embedded.CALIBRATION.range, *embedded.TEST.range]
    assert len(set(every)) == len(every)
    work = embedded.Path("work")
    assert sorted(s for seeds in embedded.parts(work).values() for s in seeds) == sorted(trained)
    assert [s for seeds in embedded.calibration_parts(work).values() for s in seeds] == [*embedded.CALIBRATION.range]


def test_phantoms_of_validation_are_drawn_as_any_other_and_those_of_training_hold_more():
    assert embedded.parameters_of(embedded.VALIDATION.first) == PhantomParameters.varied(embedded.VALIDATION.first)
    first = embedded.CALIBRATION.first
    assert embedded.parameters_of(first) == PhantomParameters.varied(first, matrix=512)
    burdens = {embedded.parameters_of(seed).matched_burden for seed in embedded.TRAINING.range if seed % embedded.PLAIN}
    assert burdens == {">400"}


def test_what_is_kept_of_a_training_scan_lies_where_it_lay(monkeypatch):
    small = PhantomParameters.random(
        3, field_of_view="chest", cover="heart", matrix=160, pixel_mm=2.2, slice_thickness_mm=8.0, increment_mm=8.0
    )
    monkeypatch.setattr(embedded, "parameters_of", lambda seed: small)
    phantom = make_phantom(small)
    scan, ((row, column, low, high), asked) = embedded.make_scan(embedded.TRAINING.first)
    whole, ((whole_row, whole_column, whole_low, _), whole_asked) = embedded.make_scan(embedded.VALIDATION.first)
    assert asked is None
    assert whole_asked is not None
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
    monkeypatch.setattr(embedded, "TRAINING", embedded.Seeds(500_000, 2))
    monkeypatch.setattr(embedded, "VALIDATION", embedded.Seeds(600_000, 1))
    monkeypatch.setattr(embedded, "SPARE", embedded.Seeds(690_000, 1))
    monkeypatch.setattr(embedded, "CALIBRATION", embedded.Seeds(720_000, 1))
    monkeypatch.setattr(embedded, "PART", 1)
    monkeypatch.setattr(embedded, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(embedded, "parameters_of", lambda seed: PhantomParameters.random(
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
    asked = json.loads((tmp_path / "shards-validation" / embedded.ASKED).read_text())
    assert [len(found) for found in hearts.values()] == [4]
    assert len(asked) == 1
    assert json.loads((tmp_path / "shards-00" / embedded.ASKED).read_text()) == {}


def test_what_was_found_is_what_training_would_find_itself(small, tmp_path):
    assert embedded.main([str(tmp_path), "--stages", "data"]) == 0
    folder = tmp_path / "shards-validation"
    shards = ShardSet.open(folder)
    hearts = find_hearts(shards, [0], tmp_path / "hearts.json", Ranks())
    assert json.loads((folder / embedded.HEARTS).read_text()) == hearts
    slices = SliceSet(shards, [0], hearts)
    asked = find_asked(shards, slices, tmp_path / "asked.json")
    assert np.flatnonzero(asked).tolist() == next(iter(json.loads((folder / embedded.ASKED).read_text()).values()))


def test_a_sitting_that_is_over_begins_no_other_stage_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    """The first stage is in its last step when the time is over: it hears the signal, and ends as if it had not."""
    begun = []

    def deaf(work, workers):
        begun.append("data")
        with stop_signals() as stop:
            end = time.monotonic() + 20
            while not stop.came and time.monotonic() < end:
                time.sleep(0.01)
            assert stop.came

    monkeypatch.setitem(embedded.STAGES, "data", deaf)
    monkeypatch.setitem(embedded.STAGES, "unet", lambda work, workers: begun.append("unet"))
    assert embedded.main([str(tmp_path), "--stages", "data", "unet", "--minutes", "0.002"]) == CANCELLED
    assert begun == ["data"]
    assert "the same command goes on" in capsys.readouterr().err


def test_a_sitting_ends_a_stage_that_knows_no_signals(tmp_path, monkeypatch):
    monkeypatch.setitem(embedded.STAGES, "data", lambda work, workers: [time.sleep(0.01) for _ in range(2000)])
    assert embedded.main([str(tmp_path), "--stages", "data", "--minutes", "0.002"]) == CANCELLED


def test_a_bundle_that_is_there_is_left_and_no_workers_are_refused(tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    assert embedded.main([str(tmp_path), "--stages", "bundle"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert embedded.main([str(tmp_path), "--workers", "0"]) == 3
