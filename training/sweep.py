"""Run one training loop with many settings, and rank them by validation: a grid, a random search, or both.

python -m training.sweep SWEEP.toml --shards DIR --splits FILE --out DIR [--workers N [--slurm FILE.toml]]
python -m training.sweep training/runs/sweep-chew-tversky.toml ...     # Chew's search of Tversky's alpha and beta

Cells run one after the other, or on workers of Dask: processes here, jobs of SLURM, or a scheduler that runs already.
The same command resumes: a finished cell is not run again, one that was cut short goes on from its checkpoint, and a
file with more values or more draws adds cells. Writes sweep.json and table.md.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heartlens.cohort.cluster import Cluster, Workers, read_slurm
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, check_splits
from training.deploy.lineage import lineage_of
from training.dino.recipe import DinoRecipe
from training.engine.cli import CANCELLED, DONE, FAILED, add_data, deadline_after, run_command
from training.engine.config import fingerprint, load_recipe
from training.engine.json_records import write_json
from training.engine.provenance import source_commit
from training.engine.run_log import begin_folder
from training.engine.sweeps.cells import Cell, SweepRecipe, read_sweep
from training.engine.sweeps.processes import Ending, run_process
from training.engine.sweeps.results import RUN, CellResult, best_validation, rank_cells, read_result, write_result
from training.evaluation.tables import number, table
from training.segmentation.recipe import SegmentationRecipe
from training.slice_classifier.finetune import TuneRecipe
from training.slice_classifier.linear_probe import SlicesRecipe

LOOPS: Mapping[str, type] = {
    "train_unet": SegmentationRecipe,
    "train_dino": DinoRecipe,
    "train_slices": SlicesRecipe,
    "finetune_slices": TuneRecipe,
}
"""Commands that a sweep may run, and what their recipes are."""

RECORD, TABLE, CELLS = "sweep.json", "table.md", "cells"

SCHEMA = "heartlens.sweep/1"

LOG, STOP = "output.txt", "stop"
"""What the process of a cell says; and the file that asks all of them to stop."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweep", type=Path, help="TOML file, see training/runs/sweep-*.toml")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweep; resumes an existing one")
    parser.add_argument("--backbone", type=Path, metavar="RUN", help="of train_slices, as there")
    parser.add_argument("--from", dest="start", type=Path, metavar="RUN", help="of train_unet and finetune_slices")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, default=0, metavar="N",
                        help="cells at a time, by Dask (default 0: one after the other, without Dask)")  # fmt: skip
    parser.add_argument("--memory", default="8GiB", help="of each worker (default 8GiB)")
    parser.add_argument("--scheduler", default="", metavar="tcp://HOST:PORT", help="a Dask scheduler that runs already")
    parser.add_argument("--slurm", type=Path, metavar="FILE.toml", help="workers are jobs of SLURM, by dask-jobqueue")
    parser.add_argument("--minutes", dest="deadline", type=deadline_after, metavar="N",
                        help="time budget: cells that run then save and stop; the same command resumes")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the cells, run nothing")
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    sweep = read_sweep(options.sweep)
    cells = checked_cells(sweep)
    if options.list:
        print("\n".join(f"{cell.name}  {' '.join(cell.changes)}" for cell in cells))
        return DONE
    workers = _workers(options)
    shards, splits = ShardSet.open(*options.shards), Splits.load(options.splits)
    check_splits(shards, splits)
    out = options.out.absolute()
    begin(sweep, shards, splits, options, out)
    missing = [cell for cell in cells if read_result(out / CELLS / cell.name) is None]
    print(f"{len(cells)} cells, {len(cells) - len(missing)} of them finished", flush=True)
    endings: dict[str, Ending] = {}
    commands = {cell.name: words_of(cell, sweep, options, out) for cell in missing}
    (out / STOP).unlink(missing_ok=True)
    with _ended_by_sigterm():
        try:
            for cell, ending in run_cells(missing, commands, workers, options.deadline, out):
                endings[cell.name] = ending
                print(f"{' '.join(cell.changes)}: {take_ending(cell, ending, sweep, out)}", flush=True)
        except KeyboardInterrupt:
            pass  # what is finished is kept, and the rest goes on another time
    write_table(sweep, cells, out)
    missing = [cell for cell in cells if read_result(out / CELLS / cell.name) is None]
    broken = [cell for cell in missing if cell.name in endings and endings[cell.name].code != CANCELLED]
    if broken:
        names = ", ".join(cell.name for cell in broken[:3])
        print(f"error: {len(broken)} cells ended in an error ({names}); see {LOG} in their folders", file=sys.stderr)
        return FAILED
    if missing:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(f"Sweep: {out}")
    return DONE


def _workers(options: argparse.Namespace) -> Workers:
    if options.scheduler and options.slurm:
        raise InputRefused("input", "--scheduler and --slurm exclude each other; give one")
    if options.slurm and options.workers < 1:
        raise InputRefused("input", "--slurm needs --workers: how many jobs to ask for")
    slurm = {} if options.slurm is None else read_slurm(options.slurm)
    return Workers(max(options.workers, 0), options.memory, options.scheduler, slurm, preload=())


def checked_cells(sweep: SweepRecipe) -> tuple[Cell, ...]:
    """The cells of a sweep, each a recipe that its loop takes.

    Parameters
    ----------
    sweep
        Of which.

    Raises
    ------
    InputRefused
        ``input``: no such loop, or a setting that the recipe does not take, before anything runs
    """
    if sweep.command not in LOOPS:
        raise InputRefused("input", f"command: expected one of {', '.join(LOOPS)}, found {sweep.command!r}")
    cells = sweep.cells()
    for cell in cells:
        load_recipe(LOOPS[sweep.command], sweep.recipe, [*sweep.changes, *cell.changes])
    return cells


def begin(sweep: SweepRecipe, shards: ShardSet, splits: Splits, options: argparse.Namespace, out: Path) -> None:
    """Begin a sweep, or refuse to go on with one of other data or another base: its cells would not compare.

    Parameters
    ----------
    sweep
        What runs.
    shards, splits
        Of the scans and their patients.
    options
        Of the command line.
    out
        Folder of the sweep, which is made.

    Raises
    ------
    InputRefused
        ``input``: the folder holds another sweep
    """
    lineage = lineage_of(shards, splits)
    base = fingerprint(load_recipe(LOOPS[sweep.command], sweep.recipe, sweep.changes))
    starts = [None if path is None else str(path.absolute()) for path in (options.backbone, options.start)]
    now = {
        "schema": SCHEMA, "command": sweep.command, "figure": sweep.figure, "better": sweep.better,
        "base": base["recipe"], "starts": starts, "data": lineage["data"], "splits_sha256": lineage["splits_sha256"],
    }  # fmt: skip
    begin_folder(out / RECORD, now, "sweep", commit=source_commit(), cells=[])


def words_of(cell: Cell, sweep: SweepRecipe, options: argparse.Namespace, out: Path) -> list[str]:
    """Module and arguments that run a cell.

    Parameters
    ----------
    cell
        Which.
    sweep
        Of which.
    options
        Of the command line.
    out
        Folder of the sweep.
    """
    words = [f"training.{sweep.command}", str(sweep.recipe.absolute()), *sweep.changes, *cell.changes, "--shards"]
    words += [str(folder.absolute()) for folder in options.shards]
    words += ["--splits", str(options.splits.absolute()), "--out", str(out / CELLS / cell.name / RUN)]
    words += ["--device", options.device]
    for name, path in (("--backbone", options.backbone), ("--from", options.start)):
        words += [] if path is None else [name, str(path.absolute())]
    return words


def run_cells(
    cells: Sequence[Cell], commands: Mapping[str, Sequence[str]], workers: Workers, deadline: float | None, out: Path
) -> Iterator[tuple[Cell, Ending]]:
    """Run cells here or on workers, and give each with how it ended, as soon as it has.

    Parameters
    ----------
    cells
        That are not finished.
    commands
        Words of each, by its name.
    workers
        Where they run.
    deadline
        No cell begins later, in seconds of `time.monotonic`; one that runs then saves and stops.
    out
        Folder of the sweep.
    """
    logs = {cell.name: out / CELLS / cell.name / LOG for cell in cells}
    if workers.is_here:
        for cell in cells:
            if deadline is not None and time.monotonic() >= deadline:
                return
            yield cell, run_process([*commands[cell.name], *_minutes(deadline)], logs[cell.name], out / STOP)
        return
    ends_at = None if deadline is None else time.time() + deadline - time.monotonic()
    with Cluster(workers) as cluster:
        from distributed import as_completed

        tasks = {}
        for cell in cells:
            words = list(commands[cell.name])
            task = cluster.client.submit(run_on_worker, words, logs[cell.name], out / STOP, ends_at, pure=False)
            tasks[task] = cell
        try:
            for task in as_completed(tasks, loop=cluster.client.loop):
                yield tasks[task], task.result()
        except BaseException:  # the cells that run save first
            (out / STOP).touch()
            for task in tasks:
                task.result()
            raise


def run_on_worker(words: Sequence[str], log: Path, stop: Path, ends_at: float | None) -> Ending:
    """Run a cell on a worker, unless the time is over.

    Parameters
    ----------
    words
        Module and arguments.
    log
        Takes what it says.
    stop
        Where this file is, no cell begins, and one that runs stops.
    ends_at
        In seconds of `time.time`; None is never.
    """
    left = math.inf if ends_at is None else ends_at - time.time()
    if left <= 0 or stop.exists():
        return Ending(CANCELLED, "not begun")
    return run_process([*words, *(["--minutes", f"{left / 60:.4f}"] if math.isfinite(left) else [])], log, stop)


def take_ending(cell: Cell, ending: Ending, sweep: SweepRecipe, out: Path) -> str:
    """Keep the result of a cell that is over; a run that died would die again, and is over too.

    Parameters
    ----------
    cell
        Which.
    ending
        How its process ended.
    sweep
        Of which.
    out
        Folder of the sweep.

    Returns
    -------
    str
        What came of it, in words.
    """
    folder = out / CELLS / cell.name
    settings = dict(cell.settings)
    if ending.code == DONE:
        step, figures = best_validation(folder / RUN, sweep.figure, sweep.better)
        write_result(folder, CellResult(settings, figures[sweep.figure], step, figures))
        return f"{sweep.figure} {number(figures[sweep.figure], 4)}"
    if ending.code == FAILED and (reason := ending.said.removeprefix(DEAD)) != ending.said:
        write_result(folder, CellResult(settings, None, died=reason))
        return f"died: {reason}"
    return "stopped" if ending.code == CANCELLED else f"ended with {ending.code}: {ending.said[:200]}"


DEAD = "error: dead-run: "
"""Begins what `training.engine.cli.run_training` says of a run that died."""


def write_table(sweep: SweepRecipe, cells: Sequence[Cell], out: Path) -> None:
    """Write sweep.json and table.md of the finished cells, and print the table.

    Parameters
    ----------
    sweep
        What ran.
    cells
        All of them.
    out
        Folder of the sweep.
    """
    results = [one for cell in cells if (one := read_result(out / CELLS / cell.name)) is not None]
    rows = rank_cells(results, sweep.better)
    keys = [key for key in sweep.varied if any(key in row.settings for row in rows)]
    many = any(len(row.values) > 1 for row in rows)
    head = [*keys, f"{sweep.figure}, {'mean of seeds' if many else 'best validation'}", *(["by seed"] if many else [])]
    lines = []
    for row in rows:
        each = ", ".join("died" if value is None else number(value, 4) for value in row.values)
        mean = "died" if row.mean is None else number(row.mean, 4)
        lines.append([*(row.settings[key] for key in keys), mean, *([each] if many else [])])
    document = json.loads((out / RECORD).read_text(encoding="utf-8"))
    write_json(out / RECORD, {**document, "cells": [asdict(one) for one in results]})
    text = (
        f"{sweep.command}, {len(results)} of {len(cells)} cells; {sweep.better} is better. The best of many is better "
        f"here than it will be on other patients.\n\n{table(head, lines)}\n"
    )
    with atomic_file(out / TABLE) as sibling:
        sibling.write_text(text, encoding="utf-8")
    print(text, end="")


def _minutes(deadline: float | None) -> list[str]:
    left = math.inf if deadline is None else (deadline - time.monotonic()) / 60
    return ["--minutes", f"{max(left, 1e-4):.4f}"] if math.isfinite(left) else []


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A queue's SIGTERM ends the sweep as Ctrl-C does: the cell that runs saves first."""
    before: Callable[..., Any] | int | None = None
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
