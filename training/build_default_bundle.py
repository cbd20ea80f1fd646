"""Build the bundle that HeartLens ships, from phantoms alone.

python -m training.build_default_bundle WORK [--stages data unet dino slices tuned bundle] [--workers N] [--minutes M]

Each stage resumes where it stopped: --minutes sets a time budget, and the same command continues.
What is already there is left as it is; delete a folder to make it again. A GPU is used where there is one.
"""

from __future__ import annotations

import _thread
import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heartlens import __version__
from heartlens.anatomy import heart_region
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import MANIFEST, load_bundle
from heartlens.networks.inference import slices_with_candidates
from heartlens.phantom import make_phantom
from training.datasets.hearts import HEARTS, around_heart, cut, heart_of
from training.datasets.phantom_sets import CALIBRATION, SPARE, TRAINING, VALIDATION, Seeds, training_phantom
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import INDEX, ShardSet
from training.datasets.sources import pseudonym
from training.datasets.splits import Splits
from training.deploy.calibration import calibrate, write_manifest
from training.engine.cli import CANCELLED, DONE, command_named, run_command
from training.slice_classifier.candidates import CANDIDATE_SLICES

RECIPES = Path(__file__).parent / "runs"


NAME = "heartlens-embedded"

TEXTS = {
    "version": "2",
    "licence": "Apache-2.0",
    "trained_on": "Synthetic phantoms of HeartLens alone (560 for training, 300 for validation); no patient was seen "
    "in training. What it does on patients is not known.",
    "intended_use": "Research and teaching. Not for diagnosis; every lesion is to be checked by a reader.",
    "field_of_view": "CT without contrast that shows the whole heart; fields of 150 to 420 mm, increments of 1 to "
    "5 mm.",
}

DOMAIN = {
    "pixel_mm": (0.29, 1.32),
    "increment_mm": (1.0, 5.0),
    "kvp": (80.0, 140.0),
    "field_of_view_mm": (150.0, 420.0),
}
"""What `PhantomParameters.varied` draws from."""


PART = 40
"""Phantoms of one shard folder: what a kill loses at most."""


Made = Future[tuple["LabeledScan", "ScanFacts"]]
"""What `make_scan` will give."""


class ScanFacts(NamedTuple):
    """What training would otherwise look for in a phantom, on one core; found on the whole scan.

    Parameters
    ----------
    heart
        As `training.datasets.hearts.find_hearts` tells it.
    asked
        As `training.slice_classifier.candidates.find_candidate_slices` tells it; None for training, where nobody asks.
    """

    heart: list[float]
    candidate_slices: list[int] | None


def make_scan(seed: int) -> tuple[LabeledScan, ScanFacts]:
    """One phantom for the shards; of a training scan only the surroundings of the heart are kept."""
    phantom = make_phantom(training_phantom(seed))
    ct, labels = phantom.ct, phantom.labels
    heart = heart_of(ct)
    candidate_slices: list[int] | None = None
    if seed in VALIDATION.range:
        candidates = slices_with_candidates(ct, heart_region(ct), ScoringProtocol())
        candidate_slices = np.flatnonzero(candidates).tolist()
    if seed in TRAINING.range:
        window, heart = around_heart(ct, heart)
        ct, labels = cut(ct, window), np.ascontiguousarray(labels[window])
    scan = LabeledScan(
        name=f"phantom/{seed}",
        patient=pseudonym("phantom", str(seed)),
        source="phantom",
        ct=ct,
        labels=labels,
        provenance={"made_by": "phantom", "version": __version__, "parameters": phantom.truth["parameters"]},
    )
    return scan, ScanFacts(heart, candidate_slices)


def training_folders(work: Path) -> list[Path]:
    """Shard folders of training, in their order."""
    return [work / f"shards-{n:02d}" for n in range(-(-TRAINING.count // PART))]


def parts(work: Path) -> dict[Path, range]:
    """Shard folders and the seeds in each; validation comes early, so that it is there when training begins."""
    first, *rest = (
        (folder, TRAINING.range[n * PART : (n + 1) * PART]) for n, folder in enumerate(training_folders(work))
    )
    held_out = [(work / "shards-validation", VALIDATION.range), (work / "shards-spare", SPARE.range)]
    return dict([first, *held_out, *rest])


def calibration_parts(work: Path) -> dict[Path, range]:
    """The same for calibration, which no training sees."""
    firsts = range(0, CALIBRATION.count, PART)
    return {work / f"calibration-{n:02d}": CALIBRATION.range[f : f + PART] for n, f in enumerate(firsts)}


def make_data(work: Path, workers: int) -> None:
    """Shards, the place of each heart, and splits."""
    wanted = parts(work) | calibration_parts(work)
    missing = [part for part in wanted.items() if not _is_whole(part[0])]
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        begun: list[list[Made]] = []
        for n, (folder, seeds) in enumerate(missing):
            # The next part is made while this one is written; more would only wait in memory.
            begun += [[pool.submit(make_scan, s) for s in later] for _, later in missing[len(begun) : n + 2]]
            shutil.rmtree(folder, ignore_errors=True)  # a part that was cut short between its shards and what was found
            by_seed: dict[int, ScanFacts] = {}
            shards = write_shards(folder, _as_made(seeds, begun[n], by_seed))
            facts = {scan.voxels_sha256: by_seed[int(scan.name.split("/")[1])] for scan in shards.scans}
            _write(folder / HEARTS, {voxels: f.heart for voxels, f in facts.items()})
            _write(
                folder / CANDIDATE_SLICES,
                {voxels: f.candidate_slices for voxels, f in facts.items() if f.candidate_slices is not None},
            )
            print(f"{folder.name}: {len(shards.scans)} phantoms", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    Splits(_patients(TRAINING), _patients(VALIDATION), _patients(SPARE)).save(work / "splits.json")


def _is_whole(part: Path) -> bool:
    return all((part / name).exists() for name in (INDEX, HEARTS, CANDIDATE_SLICES))


def _as_made(seeds: range, futures: list[Made], facts: dict[int, ScanFacts]) -> Iterator[LabeledScan]:
    """Scans in order as they are done, each let go of once it is written; `facts` is filled on the way."""
    for seed in seeds:
        scan, facts[seed] = futures.pop(0).result()
        yield scan


def _write(path: Path, content: dict[str, list[Any]]) -> None:
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps(content))


def train_unet(work: Path, workers: int) -> None:
    """The network that names islands."""
    _run_command("train_unet", work, "unet", f"workers={workers}")


def pretrain(work: Path, workers: int) -> None:
    """The backbone of the slice classifier, by label-guided DINO."""
    _run_command("train_dino", work, "dino", f"workers={workers}")


def fit_slices(work: Path, _: int) -> None:
    """The slice classifier as in the paper: a linear head on frozen features."""
    _run_command("train_slices", work, "slices", "--backbone", str(work / "dino"))


def tune_slices(work: Path, _: int) -> None:
    """The slice classifier that ships: trained on end to end."""
    _run_command("finetune_slices", work, "tuned", "--from", str(work / "slices"))


def export_bundle(work: Path, _: int) -> None:
    """The bundle, calibrated, in the folder `bundle`; one that is there is left as it is."""
    if (work / "bundle" / MANIFEST).exists():
        print(f"{work / 'bundle'} already exists")
        return
    uncalibrated = work / "uncalibrated"
    shutil.rmtree(uncalibrated, ignore_errors=True)
    domain = [f"--domain={name}={low:g},{high:g}" for name, (low, high) in DOMAIN.items()]
    texts = [f"--text={name}={text}" for name, text in TEXTS.items()]
    data = ["--shards", str(work / "shards-validation"), "--splits", str(work / "splits.json")]
    runs = [str(work / "unet"), "--slices", str(work / "tuned")]
    code = command_named("export")(
        [*runs, "--out", str(uncalibrated), "--name", NAME, "--half", *data, *domain, *texts]
    )
    if code != DONE:
        raise SystemExit(code)
    bundle, shards = load_bundle(uncalibrated), ShardSet.open(*calibration_parts(work))
    write_manifest(bundle, calibrate(bundle, range(len(shards.scans)), shards, cut_off="balanced"))
    uncalibrated.rename(work / "bundle")


STAGES: dict[str, Callable[[Path, int], None]] = {
    "data": make_data,
    "unet": train_unet,
    "dino": pretrain,
    "slices": fit_slices,
    "tuned": tune_slices,
    "bundle": export_bundle,
}


def _run_command(command: str, work: Path, name: str, *more: str) -> None:
    """Run a training command with its recipe in its folder, where what `make_scan` found is laid before it."""
    run = work / name
    run.mkdir(exist_ok=True)
    for file in (HEARTS, CANDIDATE_SLICES):
        merged: dict[str, list[Any]] = {}
        for folder in parts(work):
            merged |= json.loads((folder / file).read_text())
        _write(run / file, merged)
    data = ["--shards", *map(str, parts(work)), "--splits", str(work / "splits.json")]
    code = command_named(command)([str(RECIPES / f"embedded-{name}.toml"), *more, *data, "--out", str(run)])
    if code != DONE:
        raise SystemExit(code)


def _patients(seeds: Seeds) -> tuple[str, ...]:
    return tuple(pseudonym("phantom", str(seed)) for seed in seeds.range)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.build_default_bundle", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("work", type=Path, help="folder for shards, runs and the bundle")
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES), default=tuple(STAGES))
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that make phantoms and read slices (default 2)"
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, help="time budget; work is kept, and the same command resumes"
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    if options.workers < 1:
        raise InputRefused("input", f"--workers must be 1 or more, got {options.workers}")
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        with _time_budget(options.minutes) as is_over:
            for stage in STAGES:
                if stage in options.stages:
                    STAGES[stage](options.work, options.workers)
                    if is_over():  # a stage that was in its last step has ended as if nobody had asked it to stop
                        raise KeyboardInterrupt
    except KeyboardInterrupt:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    return DONE


@contextmanager
def _time_budget(minutes: float | None) -> Iterator[Callable[[], bool]]:
    """After so long, as if somebody had pressed Ctrl+C: training saves where it is.

    Yields
    ------
    Callable[[], bool]
        Whether the time is over.
    """
    if minutes is None:
        yield lambda: False
        return
    end = time.monotonic() + 60 * minutes
    clock = threading.Timer(60 * minutes, _thread.interrupt_main)  # os.kill would end the process at once on Windows
    clock.daemon = True
    clock.start()
    try:
        yield lambda: time.monotonic() >= end
    finally:
        clock.cancel()


if __name__ == "__main__":
    sys.exit(main())
