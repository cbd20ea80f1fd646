"""Images per second of each training stage, ours against the plain form of the same step: a part of `make bench`.

python -m training.bench [--threads N] [--steps N] [--device cpu|cuda] [--json FILE]

Pre-training and the U-Net are timed inside their own loops, reading and logging included. CPU-seconds are what other
work on the machine changes least; the quickest of a few steps counts, because other work can only slow one down.
On a GPU steps are timed by the clock on the wall, and nvidia-smi is asked how busy the GPU is meanwhile.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from torch import nn

from heartlens.core.errors import InputRefused
from heartlens.dicom.write import write_ct_series
from heartlens.networks.backbone import Backbone, BackboneShape
from training.datasets.hearts import find_hearts
from training.datasets.segmentation_dataset import SliceSamples
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.datasets.sources import phantom_scans
from training.dino.recipe import DinoRecipe, build_dino_model, build_optimizer, plan
from training.dino.reference import (
    ReferenceDino,
    reference_crops,
    reference_head_epoch,
    reference_unet_step,
    reference_views,
)
from training.dino.training import pretrain_backbone as train_dino
from training.dino.view_batches import ViewBatches
from training.engine.cli import DONE, run_command
from training.engine.config import load_recipe
from training.engine.distributed import Ranks
from training.engine.stopwatch import BenchRow, GpuUse, Laps, timed
from training.segmentation.recipe import SegmentationRecipe
from training.segmentation.training import SegmentationData, build
from training.segmentation.training import train_segmentation as train_unet
from training.slice_classifier.linear_probe import SlicesRecipe, fit_head, read_features

RUNS = Path(__file__).parent / "runs"

VIEWS = ["prototypes=4096", "augment.random_local_crops=6", "augment.guided_local_crops=2"]
ON_CPU = ("ViT-T/16", ["backbone=vit_tiny_patch16_224", "batch=4", "workers=0", *VIEWS])
ON_GPU = ("ViT-S/16", ["backbone=vit_small_patch16_224", "batch=128", "workers=8", *VIEWS])


# Stages


class StepClock:
    """In the place of a probe of pre-training, which is asked after each step."""

    def __init__(self, laps: Laps) -> None:
        self.laps = laps

    def evaluate(self, *_: object) -> dict[str, float]:
        """Read the clocks; there are no figures to tell."""
        self.laps.note()
        return {}


class ClockedSamples(SliceSamples):
    """Samples that read the clock when a batch has come: its samples are then asked for their names."""

    laps: Laps | None = None
    batch: int = 1
    _names: int = 0

    def name(self, n: int) -> str:
        """Name of a sample; the first of each batch reads the clocks."""
        if self.laps is not None:
            if self._names % self.batch == 0:
                self.laps.note()
            self._names += 1
        return super().name(n)


def bench_dino(stage: str, recipe: DinoRecipe, slices: SliceSet, device: torch.device, steps: int) -> BenchRow:
    """A step of pre-training, from reading slices to the teacher's move."""
    recipe = replace(recipe, log_every=10**6, check_every=10**6, probe=replace(recipe.probe, every=1), steps=10**6)
    ours = {}
    for precision, bf16 in (("float32", False), ("bfloat16", True)):
        laps = Laps(device)
        with tempfile.TemporaryDirectory() as run, GpuUse(device) as use:
            clock: Any = StepClock(laps)
            train_dino(
                replace(recipe, bf16=bf16), slices, Path(run), ranks=Ranks(device=device), probe=clock, until=steps + 2
            )
        ours[precision] = laps.rate(recipe.batch, use.percent)
    schedule, prototypes = plan(recipe, len(slices))
    student = build_dino_model(recipe, prototypes).to(device)
    plain = ReferenceDino(student, copy.deepcopy(student).requires_grad_(False), unfused(build_optimizer(student)))
    batches = ViewBatches(slices, recipe.augment, batch=recipe.batch, seed=recipe.seed)
    count = iter(range(10**6))

    def step() -> None:
        n = next(count)
        crops = reference_crops(batches[n], recipe.augment)
        plain.step(crops, teacher_temperature=schedule.teacher_temperature(n), momentum=schedule.momentum(n))

    return BenchRow(stage, timed(step, recipe.batch, device, steps), ours)


def bench_unet(stage: str, recipe: SegmentationRecipe, shards: ShardSet, device: torch.device, steps: int) -> BenchRow:
    """A step of segmentation, from reading slices to the weights' move."""
    with tempfile.TemporaryDirectory() as folder:
        hearts = find_hearts(shards, range(len(shards.scans)), Path(folder) / "hearts.json", Ranks())
    scans = range(len(shards.scans))
    samples = ClockedSamples(shards, scans, recipe.view, recipe.samples, hearts, recipe.seed)
    samples.batch = recipe.batch
    recipe = replace(recipe, steps=10**6, validate_every=10**6, save_every=10**6, log_every=10**6)
    ours = {}
    for precision, bf16 in (("float32", False), ("bfloat16", True)):
        laps = samples.laps = Laps(device)
        samples._names = 0
        with tempfile.TemporaryDirectory() as run, GpuUse(device) as use:
            data = SegmentationData(samples, samples)
            train_unet(replace(recipe, bf16=bf16), data, Path(run), ranks=Ranks(device=device), until=steps + 2)
        ours[precision] = laps.rate(recipe.batch, use.percent)
    samples.laps = None
    network, _, optimizer = build(recipe, Ranks(device=device))
    network.to(memory_format=torch.contiguous_format)
    optimizer = unfused(optimizer)
    order, loss = samples.epoch(0), recipe.loss
    count = iter(range(10**6))

    def step() -> None:
        places = [(0, int(order[(next(count)) % len(order)])) for _ in range(recipe.batch)]
        chosen = [samples[place] for place in places]
        reference_unet_step(
            network, optimizer, chosen, alpha=loss.alpha, beta=loss.beta, clip=recipe.optimizer.clip or 1e9
        )

    return BenchRow(stage, timed(step, recipe.batch, device, steps), ours)


def bench_slices(
    stage: str, backbone: Backbone, recipe: SlicesRecipe, slices: SliceSet, device: torch.device
) -> BenchRow:
    """Features and linear head of a whole fit; a slice seen in one epoch counts as one image.

    Ours embeds each slice once for each of a few crops (and validation, here the same slices, once) and fits on what
    is kept; the plain form runs the backbone in every epoch.
    """
    ours = {}
    backbone.to(device).eval()
    for precision, bf16 in (("float32", False), ("bfloat16", True)):
        chosen = replace(recipe, bf16=bf16)

        def fit(chosen: SlicesRecipe = chosen) -> None:
            with tempfile.TemporaryDirectory() as run:
                fit_head(chosen, read_features(chosen, backbone, slices, slices, device, Path(run)))

        ours[precision] = timed(fit, len(slices) * recipe.epochs, device, 1)
    head = nn.Linear(backbone.shape.dim, 1).to(device)
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-3, momentum=0.9)
    images, spacing_mm = slices.read(range(len(slices)))

    def epoch() -> None:
        views = [
            torch.from_numpy(recipe.view.render_slice(image, tuple(spacing.tolist())))[None].to(device)
            for image, spacing in zip(images.numpy(), spacing_mm, strict=True)
        ]
        reference_head_epoch(backbone, head, optimizer, views, slices.is_calcified, recipe.batch)

    return BenchRow(stage, timed(epoch, len(slices), device, 1), ours)


def bench_loaders(dino: DinoRecipe, slices: SliceSet, unet: SegmentationRecipe, folder: Path) -> list[BenchRow]:
    """What one loader process delivers: with us slices and what is drawn, plainly whole views from DICOM files."""
    cpu = torch.device("cpu")
    batches = ViewBatches(slices, dino.augment, batch=16, seed=0)
    count = iter(range(10**6))
    ours = timed(lambda: batches[next(count)], 16, cpu, 10)
    files = sorted(folder.glob("*.dcm")) or sorted(path for path in folder.rglob("*") if path.is_file())
    draws = batches[0]

    def plain() -> None:
        for n in range(4):
            header = pydicom.dcmread(files[n])
            image = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
            for kind, size in (
                (draws.global_views, dino.augment.global_size),
                (draws.local_views, dino.augment.local_size),
            ):
                own = type(kind)(*(part[n] for part in kind))
                spacing_mm = [float(s) for s in header.PixelSpacing]
                reference_views(image.astype(np.int16), spacing_mm, own, size=size, window_hu=dino.augment.window_hu)

    crops = f"2 + {dino.augment.local_crops} views"
    rows = [BenchRow(f"loader process: slices for {crops}", timed(plain, 4, cpu, 3), {"float32": ours})]
    shards = slices.shards
    with tempfile.TemporaryDirectory() as scratch:
        hearts = find_hearts(shards, range(len(shards.scans)), Path(scratch) / "hearts.json", Ranks())
    samples = SliceSamples(shards, range(len(shards.scans)), unet.view, unet.samples, hearts, 0)
    numbers = iter(range(10**6))

    def read() -> None:
        for _ in range(8):
            samples[(0, next(numbers) % len(samples))]

    rows.append(BenchRow(f"loader process: U-Net, {unet.view.size_px} px", None, {"float32": timed(read, 8, cpu, 5)}))
    return rows


def unfused(optimizer: torch.optim.Optimizer) -> torch.optim.AdamW:
    """The same groups moved by torch's loop over parameters."""
    groups = [{k: v for k, v in g.items() if k in ("params", "lr", "weight_decay")} for g in optimizer.param_groups]
    return torch.optim.AdamW(groups, foreach=False)


# The command


def make_data(folder: Path, settings: Sequence[str]) -> tuple[ShardSet, Path]:
    """A phantom as shards, and as a DICOM series."""
    scans = list(phantom_scans([7], settings))
    shards = write_shards(folder / "shards", scans)
    series = folder / "dicom"
    series.mkdir()
    write_ct_series(series, scans[0].ct, patient_name="HeartLens^Bench", patient_id="BENCH", description="phantom")  # type: ignore[union-attr]
    return shards, series


def measure(device: torch.device, steps: int) -> Iterator[BenchRow]:
    """All stages on one device, one after the other."""
    on_gpu = device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        large, series = make_data(Path(folder), ["matrix=512", "field_of_view=heart", "category=101-400"])
        every = SliceSet(large, range(len(large.scans)))
        stage, changes = ON_GPU if on_gpu else ON_CPU
        dino = load_recipe(DinoRecipe, RUNS / "paper-dino-lg.toml", changes)
        yield bench_dino(f"DINO-LG, {stage}, 2 x 224 + 8 x 96", dino, every, device, steps)
        few = SliceSet(large, range(len(large.scans)))
        few.places, few.is_calcified = few.places[::4], few.is_calcified[::4]
        slices = load_recipe(SlicesRecipe, RUNS / "paper-slices.toml")
        backbone = Backbone(BackboneShape.named(dino.backbone)).requires_grad_(False)
        yield bench_slices(f"slices, {stage}, 224, 10 epochs", backbone, slices, few, device)
        batch = ["batch=64", "workers=8"] if on_gpu else ["batch=4", "workers=0"]
        unet = load_recipe(SegmentationRecipe, RUNS / "heart-unet.toml", batch)
        yield bench_unet("U-Net, 16 filters, 256 px (heart-unet)", unet, large, device, steps)
        yield from bench_loaders(dino, every, unet, series)
        if not on_gpu:
            small, _ = make_data(Path(folder) / "small", ["matrix=128", "field_of_view=heart", "category=101-400"])
            mini = load_recipe(DinoRecipe, RUNS / "mini-dino-lg.toml", ["batch=8"])
            miniature = SliceSet(small, range(len(small.scans)))
            yield bench_dino("DINO-LG, miniature, 2 x 64 + 6 x 32", mini, miniature, device, steps)
            unet = load_recipe(SegmentationRecipe, RUNS / "mini-unet.toml")
            yield bench_unet("U-Net, miniature, 96 px (mini-unet)", unet, small, device, steps)


def machine(device: torch.device) -> str:
    """What it was measured on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {bfloat16_in_hardware()}"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def bfloat16_in_hardware() -> str:
    """How this CPU multiplies in bfloat16."""
    for name, test in (("AMX", "_is_amx_tile_supported"), ("AVX-512", "_is_avx512_bf16_supported")):
        if getattr(torch.cpu, test, lambda: False)():
            return f"bfloat16 by {name}"
    return "no bfloat16 in hardware"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1: comparable on a shared machine)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each loop; the quickest counts")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if min(options.threads, options.steps) < 1:
        raise InputRefused("input", "--threads and --steps must be 1 or more")
    torch.set_num_threads(options.threads)
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise InputRefused("input", "--device cuda: torch finds no GPU here; leave --device out to measure the CPU")
    devices = [torch.device("cpu")] if options.device != "cuda" else []
    if has_gpu and options.device != "cpu":
        devices.append(torch.device("cuda", 0))
    documents = []
    for device in devices:
        unit = "CPU-second" if device.type == "cpu" else "second"
        print(f"\nTraining on {machine(device)}; images per {unit}, the best of {options.steps} steps")
        busy = "  GPU use" if device.type == "cuda" else ""
        print(f"{'':<50}{'plain':>11}{'float32':>11}{'bfloat16':>11}{'gain':>9}{busy}", flush=True)
        rows = []
        for row in measure(device, options.steps):
            print(row.text(), flush=True)  # also: a process that forks would print what waits in the buffer again
            rows.append(row)
        documents.append({"machine": machine(device), "unit": unit, "stages": [as_json(row) for row in rows]})
    if not has_gpu and options.device == "auto":
        print("No GPU here: nothing was measured on one.")
    if options.json:
        options.json.write_text(json.dumps({"training": documents}, indent=1) + "\n")
    return DONE


def as_json(row: BenchRow) -> dict[str, Any]:
    """Plain values of a row."""
    rates = {"plain": row.plain, **row.ours}
    return {"stage": row.stage, "gain": row.gain, **{name: r and vars(r) for name, r in rates.items()}}


if __name__ == "__main__":
    sys.exit(main())
