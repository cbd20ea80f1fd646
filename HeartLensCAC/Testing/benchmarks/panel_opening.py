"""How long the panel keeps Slicer waiting when a case is opened and edited, step by step. Part of `make bench`.

    python panel_opening.py CASE RUNS BUDGET_MS      # prints a JSON list of (what, measured, budget, unit)

A step is what the event loop does without a pause: nothing moves on the screen meanwhile. Drawing is not part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TESTING = Path(__file__).resolve().parents[1]

STEP_MS = 50.0
"""Nothing may keep the interface waiting for longer."""

BEAT_MS = 1

QUIET_S = 1.0
"""After an edit, until everything that follows it at a distance is done: report, surfaces in 3-D."""


def opening_times(what: str, series: Path, runs: int, budget_ms: float) -> list[tuple[str, float, float, str]]:
    """(what, measured, budget, unit), measured in a process of its own.

    Parameters
    ----------
    what : of which scan, in words
    series : DICOM folder; it is scored by rules first
    runs : openings, and half as many edits of each kind
    budget_ms : for totals and markers after an edit
    """
    paths = os.pathsep.join([str(TESTING), str(TESTING.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": paths}
    with TemporaryDirectory() as folder:
        scored = Path(folder) / "result"
        score = ["-m", "heartlens", "score", str(series), "--bundle", "none", "--out", str(scored)]
        subprocess.run([sys.executable, *score], env=environment, capture_output=True, check=True)
        words = [sys.executable, __file__, str(scored / "case"), str(runs), str(budget_ms)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"opening a case could not be timed: {done.stderr[-2000:]}")
    return [(f"panel, {what}: {row[0]}", *row[1:]) for row in json.loads(done.stdout.splitlines()[-1])]


class Loop:
    """Qt's event loop, with a heart that beats in it: between two beats nothing else is drawn or heard."""

    def __init__(self) -> None:
        import qt

        self._beats: list[float] = []
        self._heart = qt.QTimer()
        self._heart.setInterval(BEAT_MS)
        self._heart.connect("timeout()", lambda: self._beats.append(time.perf_counter()))
        self._heart.start()

    def run(self, until: Callable[[], Any]) -> None:
        """Until something is true."""
        import qt

        end = time.monotonic() + 300
        while not until():
            qt.QApplication.processEvents(qt.QEventLoop.AllEvents, 5)
            if time.monotonic() > end:
                raise RuntimeError("the panel never came so far")

    def quiet(self) -> None:
        """Until what follows an edit is done."""
        end = time.perf_counter() + QUIET_S
        self.run(lambda: time.perf_counter() > end)

    def longest_ms(self) -> float:
        """Between two beats, since the last call."""
        count = len(self._beats)
        self.run(lambda: len(self._beats) > count)
        beats, self._beats = self._beats, self._beats[-1:]
        return 1e3 * max(b - a for a, b in pairwise(beats))


def measure(case: Path, runs: int, budget_ms: float, folder: Path) -> list[tuple[str, float, float, str]]:
    from desktop import slicer_app
    from desktop.slice_view import slice_view

    slicer_app.boot(folder / "slicer")
    import slicer

    from heartlens.core.lesions import Artery

    slicer_app.fresh_dialogs()
    slicer.app.slice_widgets = {name: slice_view(name) for name in ("Red", "Green", "Yellow")}
    widget = slicer_app.load_module().HeartLensCACWidget()
    widget.setup()
    widget.parent.show()
    widget.enter()
    panel, loop = widget.panel, Loop()
    kinds = ("opened", "laid_out", "edited", "exported")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    steps_ms: dict[str, list[float]] = {kind: [] for kind in kinds}

    def timed(kind: str, do: Callable[[], Any], until: Callable[[], Any] = lambda: True) -> None:
        loop.quiet()
        loop.longest_ms()
        begin = time.perf_counter()
        do()
        loop.run(until)
        seconds[kind].append(time.perf_counter() - begin)
        loop.quiet()
        steps_ms[kind].append(loop.longest_ms())

    for n in range(runs):
        timed("opened", lambda: panel.openCaseFolder(case), lambda: panel.reading is not None)
        if not panel.reading.case.report.lesions:
            put_lesions(panel)
        timed("opened", lambda: panel.openCaseFolder(case))  # in the place of the one that is open, on its volume
        timed("laid_out", panel.views.toggleRoom)
        for k in range(max(1, runs // 2)):
            lesion, artery = panel.reading.case.report.lesions[0], (Artery.LCX, Artery.RCA)[(n + k) % 2]
            timed("edited", partial(panel.assign, lesion.id, artery))
            timed("edited", partial(panel.remove, lesion.id))
            timed("edited", panel.undo)
        timed("exported", panel.sign.export)
        panel.views.toggleRoom()
        slicer.mrmlScene.Clear()
    widget.cleanup()
    return [
        ("a case opened and shown, slowest", max(seconds["opened"]), 2.0, "s"),
        ("longest step while it opens", max(steps_ms["opened"]), STEP_MS, "ms"),
        ("the reading layout, slowest", max(seconds["laid_out"]), 2.0, "s"),
        ("longest step of it", max(steps_ms["laid_out"]), STEP_MS, "ms"),
        ("totals and markers after an edit, slowest", 1e3 * max(seconds["edited"]), budget_ms, "ms"),
        ("longest step of an edit and what follows it", max(steps_ms["edited"]), STEP_MS, "ms"),
        ("longest step while it is exported", max(steps_ms["exported"]), STEP_MS, "ms"),
    ]


def put_lesions(panel: Any) -> None:
    """Eight small ones on bright voxels near the middle, where the rules have found none: an edit costs the same."""
    import numpy as np

    from heartlens.core.lesions import Artery

    case = panel.reading.case
    bright = case.ct.hu >= 200
    blocks = bright[:, :-1, :-1] & bright[:, 1:, :-1] & bright[:, :-1, 1:] & bright[:, 1:, 1:]
    places = np.argwhere(blocks)
    far_mm = np.linalg.norm((places - np.array(case.ct.shape) / 2) * case.ct.spacing_mm, axis=1)
    k, j, i = places[np.argsort(far_mm)[:400:50]].T
    corners = [np.ravel_multi_index((k, j + dj, i + di), case.ct.shape) for dj in (0, 1) for di in (0, 1)]
    flat = np.unique(np.concatenate(corners))
    panel._edit(lambda reading: reading.relabel(flat, np.full(flat.size, Artery.LAD, np.uint8)))


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(place))))
