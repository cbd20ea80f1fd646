"""Time HeartLens against its budgets and say where it stands: `make bench`.

Whole processes are timed from start to exit, peak memory is the kernel's figure for the process; parts are
timed in this process. Every figure is the median of several runs. Nothing fails here: a slow machine is not a bug.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cohort_runs
import cohort_times
import node_times
import numpy as np
import panel_opening
import panel_times
import scene_times
import viewer_times

from heartlens.app.messages import Event, Run
from heartlens.case.case import Case
from heartlens.core.lesions import Artery
from heartlens.dicom.write import write_ct_series
from heartlens.networks.bundle import RULES, find_bundle, load_bundle
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.pipeline import Request, score_series
from heartlens.scoring.report import score_lesions


@dataclass(frozen=True)
class Figure:
    """One measured figure and its budget, in the same unit."""

    what: str
    value: float
    budget: float
    unit: str

    def row(self) -> str:
        mark = "ok" if self.value <= self.budget else "OVER"
        return f"{self.what:<58}{self.value:>10.3f}{self.budget:>10.3f} {self.unit:<4}{mark}"


MEASURE = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss]))
"""


def run_process(arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MB of one process.

    It is started by a small process of its own: Linux counts the peak of whoever starts a process as that process's
    own, and this one has held a phantom.
    """
    completed = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    code, wall, peak = json.loads(completed.stdout)
    if code != 0:
        raise RuntimeError(f"exit {code}: {' '.join(arguments)}: {completed.stderr}")
    return wall, peak / (1024 if sys.platform != "darwin" else 1024 * 1024)


def median_process(arguments: list[str], runs: int) -> tuple[float, float]:
    run_process(arguments)  # warm the disk cache
    measured = [run_process(arguments) for _ in range(runs)]
    return statistics.median(w for w, _ in measured), max(m for _, m in measured)


def median_seconds(work: Callable[[], object], runs: int) -> float:
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def scan(folder: Path, slices: int, **parameters: object) -> Path:
    """A phantom as a DICOM series with exactly that many slices of 512 x 512."""
    phantom = make_phantom(PhantomParameters.random(7, matrix=512, **parameters))
    ct = phantom.ct
    start = max(0, (ct.shape[0] - slices) // 2)
    chosen = slice(start, start + slices)
    if ct.shape[0] < slices:
        raise RuntimeError(f"the phantom has {ct.shape[0]} slices, the benchmark wants {slices}")
    header = replace(ct.header, sop_instance_uids=ct.header.sop_instance_uids[chosen])
    affine = np.array(ct.affine)
    affine[:3, 3] += affine[:3, 2] * start
    folder.mkdir()
    write_ct_series(
        folder, type(ct)(ct.hu[chosen], affine, header), patient_name="HeartLens^Bench", patient_id="BENCH",
        description="phantom",
    )  # fmt: skip
    return folder


def score_in_process(
    what: str, series: Path, seconds: float, megabytes: float, runs: int, *, bundle: str = RULES
) -> list[Figure]:
    with tempfile.TemporaryDirectory() as out:
        arguments = ["-m", "heartlens", "score", str(series), "--bundle", bundle, "--out", f"{out}/result", "--force"]
        wall, peak = median_process(arguments, runs)
        figures = [
            Figure(f"{what}: process start to last file", wall, seconds, "s"),
            Figure(f"{what}: peak memory", peak, megabytes, "MB"),
        ]
        if bundle != RULES:
            laps = json.loads((Path(out) / "result" / "report.json").read_text())["provenance"]["seconds"]
            return [*figures, Figure(f"{what}: candidates and networks (last run)", laps["calcium"], 3.0, "s")]
        bare, _ = median_process(arguments[:-3], runs)
    return [*figures, Figure(f"{what}: the same without --out", bare, seconds, "s")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bundle", help="name or folder of the bundle to time (default: the installed one)")
    parser.add_argument("--cohort-scans", type=int, default=cohort_runs.SCANS, help="scored on two workers (0: none)")
    options = parser.parse_args()
    figures = []
    wall, _ = median_process(["-c", "pass"], options.runs)
    bare = wall
    wall, _ = median_process(["-c", "import heartlens"], options.runs)
    figures.append(Figure("import heartlens (beyond an empty Python)", max(0.0, wall - bare), 0.2, "s"))
    figures.append(Figure("heartlens --help", median_process(["-m", "heartlens", "--help"], options.runs)[0], 0.4, "s"))
    with tempfile.TemporaryDirectory() as folder:
        small = scan(
            Path(folder) / "gated", 48, field_of_view="heart", category="101-400",
            slice_thickness_mm=2.5, increment_mm=2.5,
        )  # fmt: skip
        figures += score_in_process("48 slices of 512x512, DICOM", small, 4.0, 600.0, options.runs)
        bundle = find_bundle(options.bundle)
        if bundle is None:
            print("no bundle is installed: scoring with networks was not timed", file=sys.stderr)
        else:
            figures += score_in_process(
                f"the same by bundle {load_bundle(bundle).title}", small, 6.0, 1200.0, options.runs, bundle=str(bundle)
            )
        figures += worker_times("48 slices", small, options.runs)
        case = score_series(small, Request(bundle="none")).case
        figures += in_this_process(case, options.runs)
        if scene_times.can_run():
            figures += [Figure(*row) for row in scene_times.scene_times(case, options.runs)]
        if panel_times.can_run():
            figures += [Figure(*row) for row in panel_times.panel_times(small, options.runs)]
            figures += [Figure(*row) for row in panel_opening.opening_times("48 slices", small, options.runs, 100.0)]
        if cohort_times.can_run():
            figures += [Figure(*row) for row in cohort_times.cohort_times(small, options.runs)]
        if cohort_runs.can_run() and options.cohort_scans:
            rows, _ = cohort_runs.run_times(small, options.cohort_scans)
            figures += [Figure(*row) for row in rows]
        if node_times.can_run():
            figures += [Figure(*row) for row in node_times.node_times(small, options.runs)]
        large = scan(
            Path(folder) / "chest", 300, field_of_view="chest", slice_thickness_mm=1.0, increment_mm=0.8,
        )  # fmt: skip
        figures += score_in_process("300 slices of 512x512, DICOM", large, 12.0, 1500.0, max(1, options.runs // 2))
        figures += worker_times("300 slices", large, options.runs)
        if viewer_times.can_run():
            figures += [Figure(*row) for row in viewer_times.viewer_times(small, large, options.runs)]
        if panel_times.can_run():
            runs = max(1, options.runs // 2)
            figures += [Figure(*row) for row in panel_opening.opening_times("300 slices", large, runs, 200.0)]
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(f"{machine}; median of {options.runs} runs\n{'':<58}{'measured':>10}{'budget':>10}")
    print("\n".join(figure.row() for figure in figures))
    if not (scene_times.can_run() and panel_times.can_run()):
        print(f"\n{scene_times.LEFT_OUT}")
    if not cohort_times.can_run():
        print(f"\n{cohort_times.LEFT_OUT}")
    if not cohort_runs.can_run():
        print(f"\n{cohort_runs.LEFT_OUT}")
    if not node_times.can_run():
        print(f"\n{node_times.LEFT_OUT}")
    if not viewer_times.can_run():
        print(f"\n{viewer_times.LEFT_OUT}")
    if options.json:
        document = {"machine": machine, "runs": options.runs, "figures": [vars(figure) for figure in figures]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


class Worker:
    """The worker with one job, and the moments of what it says."""

    def __init__(self, series: Path, out: Path) -> None:
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "heartlens", "worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.run = Run(input=series, out=out, options={"bundle": RULES})
        self.send(self.run.command)

    def send(self, line: bytes) -> None:
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def moments(self) -> Iterator[tuple[float, Event]]:
        """Seconds since the start, and what was said then, to the end of the job."""
        while not self.run.is_over and (data := os.read(self.process.stdout.fileno(), 1 << 16)):
            yield from ((time.perf_counter() - self.start, event) for event in self.run.feed(data))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def worker_times(what: str, series: Path, runs: int) -> list[Figure]:
    """From the start of the process to its first progress, and from a cancellation at any moment to its end."""
    first, waited = [], []
    with tempfile.TemporaryDirectory() as folder:
        whole = Worker(series, Path(folder) / "whole")
        progress_times = [at for at, event in whole.moments() if event.kind == "progress"]
        whole.close()
        for n in range(2 * runs):
            worker = Worker(series, Path(folder) / "cancelled")
            wanted = progress_times[0] + (progress_times[-1] - progress_times[0]) * n / (
                2 * runs
            )  # moments spread over the whole job
            timer = None
            cancelled_at: list[float] = []

            def cancel(worker: Worker = worker, cancelled_at: list[float] = cancelled_at) -> None:
                cancelled_at.append(time.perf_counter() - worker.start)
                worker.send(worker.run.cancellation)

            for at, event in worker.moments():
                if event.kind == "progress" and timer is None:
                    first.append(at)
                    timer = threading.Timer(max(0.0, wanted - at), cancel)
                    timer.start()
            if worker.run.last is not None and worker.run.last.kind == "cancelled":
                waited.append(at - cancelled_at[0])
            elif timer is not None:
                timer.cancel()  # it was done before the moment came
            worker.close()
            shutil.rmtree(Path(folder) / "cancelled", ignore_errors=True)
    return [
        Figure(f"{what}: worker's start to first progress", statistics.median(first), 2.0, "s"),
        Figure(f"{what}: slowest of {len(waited)} cancellations", max(waited), 2.0, "s"),
    ]


def in_this_process(case: Case, runs: int) -> list[Figure]:
    """Scoring alone: a labeled volume, and again after one lesion was reassigned."""
    from heartlens.core.lesions import LesionMap

    labels = np.array(case.lesions.labels)
    arteries, notes = dict(case.lesions.arteries), dict(case.lesions.notes)

    def score_labels() -> object:
        return score_lesions(case.ct, LesionMap(labels, arteries, notes), case.protocol)

    def reassign_and_score() -> object:
        return case.reassign(next(iter(arteries)), Artery.LCX).report

    return [
        Figure(
            f"scoring a labeled volume ({len(arteries)} lesions)",
            1e3 * median_seconds(score_labels, runs * 4),
            30.0,
            "ms",
        ),
        Figure(
            "scoring again after one lesion changed", 1e3 * median_seconds(reassign_and_score, runs * 4), 10.0, "ms"
        ),
    ]


if __name__ == "__main__":
    main()
