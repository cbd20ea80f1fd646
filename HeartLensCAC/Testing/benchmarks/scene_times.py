"""How long a reader waits: a case put into a scene, and its totals after an edit. Part of `make bench`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from heartlens.case.case import Case
from heartlens.core.lesions import Artery

LEFT_OUT = "Scene and panel need Slicer's classes and Qt (0.9 GB). To time them too: make bench SLICER_CORE=true"


def can_run() -> bool:
    return find_spec("slicer") is not None and find_spec("vtk") is not None


def scene_times(case: Case, runs: int) -> list[tuple[str, float, float, str]]:
    """(what, measured, budget, unit) of showing a case and of edits on it.

    An edit is timed from the moment its voxels are on the screen to the moment its totals are: read back, scored,
    graded and written to tables and segments. Drawing is not part of it: here is no window.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from headless_scene import HeadlessScene

    from heartlens.case.correction import assign_at
    from heartlens.scene import read_segmentation, remove_case, show_case, update_lesions
    from heartlens.scene.geometry import array_of
    from heartlens.scene.segmentation import BINARY

    cache = TemporaryDirectory()
    headless = HeadlessScene(Path(cache.name))
    scene = headless.scene
    shown, clicked, painted, undone = [], [], [], []
    for _ in range(runs):
        case = Case.of(case.source_ct, case.auto, case.protocol, risk_inputs=case.risk_inputs)
        # The worker's result comes with its numbers: they are saved in the case folder, and computed when it is opened.
        _ = case.report, case.auto_report, case.risk
        nodes = timed(shown, lambda case=case: show_case(scene, case))
        inside = nodes.segmentation.GetSegmentation()
        lesion = case.report.lesions[0]
        place = case.source_ct.index_kji(lesion.centroid_lps_mm)
        kji = np.argwhere(case.lesions.labels == lesion.id)
        voxel = kji[np.argmin(np.abs(kji - place).sum(axis=1))]

        def click(case: Case = case, nodes: object = nodes, voxel: np.ndarray = voxel) -> Case:
            after = assign_at(case, voxel, Artery.UNASSIGNED)
            update_lesions(scene, nodes, after)
            return after

        after = timed(clicked, click)

        image = inside.GetSegment(Artery.LM.name).GetRepresentation(BINARY)
        values = array_of(image)
        mine = np.argwhere(values == Artery.UNASSIGNED)
        left = mine[:, 2] < np.median(mine[:, 2])  # one half goes to another artery, the other half away
        values[tuple(mine.T)] = np.where(left, int(Artery.LM), 0)
        image.Modified()

        def commit(case: Case = after, nodes: object = nodes) -> Case:
            after = read_segmentation(scene, nodes, case)
            update_lesions(scene, nodes, after)
            return after

        stroke = timed(painted, commit)
        assert stroke is not after

        def undo(case: Case = stroke, nodes: object = nodes) -> None:
            update_lesions(scene, nodes, case.undo())

        timed(undone, undo)
        remove_case(scene, nodes, with_volume=True)
    cache.cleanup()
    lesions = len(case.lesions.arteries)
    return [
        (f"scene: showing a case of {lesions} lesions", statistics.median(shown), 1.0, "s"),
        ("scene: totals after a click", 1e3 * statistics.median(clicked), 100.0, "ms"),
        ("scene: totals after a stroke that erases and paints", 1e3 * statistics.median(painted), 100.0, "ms"),
        ("scene: totals after undo", 1e3 * statistics.median(undone), 100.0, "ms"),
    ]


def timed(seconds: list[float], work: Callable[[], object]) -> object:
    start = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - start)
    return result
