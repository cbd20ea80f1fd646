"""The bench times the real loops and says honestly what it could not time; how fast they are is no test."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from needed import torch

from heartlens.networks.backbone import Backbone, BackboneShape
from training.bench import (
    as_json,
    bench_dino,
    bench_loaders,
    bench_slices,
    bench_unet,
    bfloat16_in_hardware,
    main,
    make_data,
)
from training.datasets.slice_dataset import SliceSet
from training.engine.stopwatch import BenchRow, GpuUse, Laps, Rate, busy_percent
from training.slice_classifier.linear_probe import SlicesRecipe
from training.tests.test_train_dino import TINY
from training.tests.test_train_unet import tiny

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small phantom as shards and as DICOM."""
    return make_data(tmp_path_factory.mktemp("bench"), ["matrix=64", "field_of_view=heart", "category=101-400"])


def test_a_rate_is_of_the_quickest_step_without_the_first():
    laps = Laps(CPU)
    laps._read = [(0.0, 0.0), (9.0, 9.0), (11.0, 10.0), (12.0, 10.5)]  # steps of 9, 2 and 1 seconds
    assert laps.rate(8) == Rate(wall=8.0, cpu=16.0)
    laps._read = laps._read[:2]
    with pytest.raises(ValueError, match="three readings"):
        laps.rate(8)


def test_a_gain_is_our_quickest_precision_against_the_plain_form():
    row = BenchRow("stage", Rate(wall=9, cpu=2), {"float32": Rate(wall=1, cpu=3), "bfloat16": Rate(wall=1, cpu=5)})
    assert row.gain == 2.5
    assert row.text().split() == ["stage", "2.0", "3.0", "5.0", "2.5", "x"]
    assert json.loads(json.dumps(as_json(row)))["plain"] == {"wall": 9, "cpu": 2, "gpu_percent": None}
    alone = BenchRow("loader", None, {"float32": Rate(wall=4)})
    assert alone.gain is None
    assert alone.text().split() == ["loader", "4.0"]


def test_gpu_use_is_the_median_of_what_nvidia_smi_says():
    assert busy_percent("97\n99\n\n98\n") == 98.0
    assert busy_percent("[N/A]\n") is None
    with GpuUse(CPU) as use:
        pass
    assert use.percent is None


def test_each_stage_is_timed_in_its_own_loop(data):
    shards, series = data
    slices = SliceSet(shards, range(len(shards.scans)))
    dino = replace(TINY, freeze_epochs=0)
    backbone = Backbone(BackboneShape.named(dino.backbone)).requires_grad_(False)
    few = SliceSet(shards, range(len(shards.scans)))
    few.places, few.is_calcified = few.places[::8], few.is_calcified[::8]
    head = SlicesRecipe(size=32, epochs=2, views=2, batch=4)
    unet = tiny()
    rows = [
        bench_dino("dino", dino, slices, CPU, 1),
        bench_slices("slices", backbone, head, few, CPU),
        bench_unet("unet", unet, shards, CPU, 1),
    ]
    for row in rows:
        assert set(row.ours) == {"float32", "bfloat16"}
        rates = [row.plain, *row.ours.values()]
        assert all(rate is not None and rate.cpu is not None and np.isfinite(rate.cpu) for rate in rates)
        assert all(rate.wall > 0 and rate.cpu > 0 for rate in rates)
    loaders = bench_loaders(dino, slices, unet, series)
    assert [row.plain is None for row in loaders] == [False, True]
    assert all(row.ours["float32"].wall > 0 for row in loaders)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused_and_not_made_up(capsys):
    assert main(["--device", "cuda"]) == 3
    assert "torch finds no GPU here; leave --device out to measure the CPU" in capsys.readouterr().err
    assert main(["--steps", "0"]) == 3
    assert "bfloat16" in bfloat16_in_hardware()
