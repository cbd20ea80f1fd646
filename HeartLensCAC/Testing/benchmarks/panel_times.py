"""How the panel feels: gaps while it scores, totals after an edit, growth of Slicer's process. Part of `make bench`.

    python panel_times.py SERIES RUNS      # prints a JSON list of (what, measured, budget, unit)

It is a process of its own, because it has Qt in it and its memory is measured. The widgets are the desktop tests'
stand-ins; drawing in Slicer's views is not part of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

TESTING = Path(__file__).resolve().parents[1]

BEAT_MS = 2
"""How often the event loop is asked whether it is alive."""


def can_run() -> bool:
    """Qt, Slicer's classes, and a system that tells the memory of a process."""
    return all(find_spec(name) for name in ("slicer", "vtk", "PySide6")) and Path("/proc/self/status").exists()


def panel_times(series: Path, runs: int) -> list[tuple[str, float, float, str]]:
    """(what, measured, budget, unit), measured in a process of its own."""
    paths = os.pathsep.join([str(TESTING), str(TESTING.parent), os.environ.get("PYTHONPATH", "")])
    completed = subprocess.run(
        [sys.executable, __file__, str(series), str(runs)],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise RuntimeError(f"the panel could not be timed: {completed.stderr[-2000:]}")
    return [tuple(row) for row in json.loads(completed.stdout.splitlines()[-1])]


def main(series: Path, runs: int) -> None:
    with TemporaryDirectory() as folder:
        print(json.dumps(measure(series, runs, Path(folder))))


def measure(series: Path, runs: int, folder: Path) -> list[tuple[str, float, float, str]]:
    from desktop import slicer_app

    slicer_app.boot(folder / "slicer")
    import qt
    import slicer

    from heartlens.core.lesions import Artery
    from HeartLensCACLib import SampleCT

    slicer_app.fresh_dialogs()
    slicer.app.slice_widgets = {name: slicer_app.SliceView(name) for name in ("Red", "Green", "Yellow")}
    volume = SampleCT.loadSeries(series, name="CT")
    loaded_mb = memory_mb()
    widget = slicer_app.load_module().HeartLensCACWidget()
    widget.setup()
    ui, panel = widget.ui, widget.panel
    ui.casesPathEdit.currentPath = str(folder / "cases")
    widget.parent.show()
    widget.enter()
    ui.volumeSelector.setCurrentNode(volume)
    ui.bundleComboBox.setCurrentIndex(ui.bundleComboBox.findData("none"))

    beats: list[float] = []
    heart = qt.QTimer()
    heart.setInterval(BEAT_MS)
    heart.connect("timeout()", lambda: beats.append(time.perf_counter()))
    opened = SimpleNamespace(at=0.0, seconds=0.0)
    open_case = panel.openCase

    def timed_open(*arguments: Any) -> None:
        opened.at = time.perf_counter()
        open_case(*arguments)
        opened.seconds = time.perf_counter() - opened.at

    panel.scoring._opened = timed_open
    heart.start()
    pump(lambda: len(beats) > 10)
    pressed = time.perf_counter()
    ui.scoreButton.click()
    pump(lambda: panel.reading is not None)
    heart.stop()
    running = [beat for beat in beats if pressed <= beat <= opened.at]
    gaps = [b - a for a, b in zip(running, [*running[1:], opened.at], strict=True)]

    assigned, painted = [], []
    for n in range(2 * runs):
        lesion = panel.reading.case.report.lesions[0].id
        artery = (Artery.LCX, Artery.RCA)[n % 2]
        start = time.perf_counter()
        panel.assign(lesion, artery)
        qt.QApplication.processEvents()
        assigned.append(time.perf_counter() - start)
    for n in range(2 * runs):
        start = stroke(panel, (Artery.LM, Artery.LAD)[n % 2])
        edit_count = len(panel.reading.case.edits)
        pump(lambda edit_count=edit_count: len(panel.reading.case.edits) > edit_count)
        qt.QApplication.processEvents()
        painted.append(time.perf_counter() - start)
    edited_mb = memory_mb()
    panel.sign.export()
    exported_mb = memory_mb()
    imported = {name.split(".")[0] for name in sys.modules} & {"torch", "onnxruntime"}
    if imported:
        raise RuntimeError(f"the panel's process imported {', '.join(imported)}")
    widget.cleanup()
    return [
        ("panel: pressing Score", 1e3 * (running[0] - pressed), 100.0, "ms"),
        ("panel: longest gap while the worker runs", 1e3 * max(gaps), 50.0, "ms"),
        ("panel: the result read, checked and shown", opened.seconds, 1.0, "s"),
        ("panel: totals on the panel after a key", 1e3 * statistics.median(assigned), 100.0, "ms"),
        ("panel: the same, longest", 1e3 * max(assigned), 100.0, "ms"),
        ("panel: totals on the panel after a stroke", 1e3 * statistics.median(painted), 100.0, "ms"),
        ("panel: Slicer's process grows by, after edits", edited_mb - loaded_mb, 300.0, "MB"),
        ("panel: the same, after an export", exported_mb - loaded_mb, 300.0, "MB"),
    ]


def stroke(panel: Any, artery: Any) -> float:
    """Half of the first lesion's voxels go to another artery, as a brush leaves them; returns when that was done."""
    import numpy as np

    from heartlens.scene.geometry import array_of
    from heartlens.scene.segmentation import BINARY

    segment = panel.nodes.segmentation.GetSegmentation().GetSegment(artery.name)
    image = segment.GetRepresentation(BINARY)
    values = array_of(image)
    mine = np.argwhere((values > 0) & (values != int(artery)))
    start = time.perf_counter()
    values[tuple(mine[: max(1, len(mine) // 2)].T)] = int(artery)
    image.Modified()
    segment.Modified()
    return start


def pump(until: Callable[[], Any]) -> None:
    """Qt's event loop, until something is true."""
    import qt

    end = time.monotonic() + 300
    while not until():
        qt.QApplication.processEvents(qt.QEventLoop.AllEvents, 20)
        if time.monotonic() > end:
            raise RuntimeError("the panel never came so far")


def memory_mb() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
