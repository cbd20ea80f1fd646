"""The reader's journey at the real panel: Reload and Test in developer mode, and Testing/in_slicer.

Buttons are clicked, rows selected, and the brush is moved in the Red view; nothing stands in for Slicer here.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import slicer

from heartlens.app.requirements import missing
from heartlens.core.lesions import CORONARY, Artery
from HeartLensCACLib import Requirements, SampleCT

PHANTOM = {"seed": 7, "matrix": 192}
"""Small and quick, with plaques in LAD, LCX and RCA."""

LIMIT_SECONDS = 300
"""Only keeps a hung test from hanging Slicer."""

BRUSH_MM = 4.0
ERASER_MM = 25.0


class Hands:
    """What a person does with the mouse.

    Parameters
    ----------
    widget
        The module's widget.
    """

    def __init__(self, widget: Any) -> None:
        self.widget, self.ui = widget, widget.ui

    @property
    def panel(self) -> Any:
        """The `Panel` of the module's widget."""
        return self.widget.panel

    def wait(self, until: Callable[[], Any], what: str) -> None:
        """Let Slicer work until something is true."""
        end = time.monotonic() + LIMIT_SECONDS
        while not until():
            slicer.app.processEvents()
            assert time.monotonic() < end, f"it never happened: {what}"
            time.sleep(0.005)

    def click(self, button: Any) -> None:
        """Click a button, which must be enabled, and let Slicer react."""
        assert button.enabled, f"{button.name} cannot be clicked"
        button.click()
        slicer.app.processEvents()

    def choose(self, lesion: int) -> None:
        """A click on the lesion's row, and on Hold."""
        table = self.ui.lesionTable
        ids = [int(table.verticalHeaderItem(r).text()) for r in range(table.rowCount)]
        table.selectRow(ids.index(lesion))
        assert self.panel.review.selectedLesion() == lesion
        self.click(self.ui.holdButton)
        assert self.panel.review.heldLesion == lesion

    def at(self, kji: Any) -> "tuple[int, int]":
        """Where a voxel lies in the Red view, after the view went there."""
        import vtk

        x, y, z = self.panel.reading.case.source_ct.lps_mm(np.asarray(kji, float))
        node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
        node.SetOrientationToAxial()
        node.JumpSliceByCentering(-x, -y, z)
        slicer.app.processEvents()
        toView = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), toView)
        column, row, *_rest = toView.MultiplyPoint((-x, -y, z, 1.0))
        return round(column), round(row)

    def clickView(self, kji: Any, ctrl: bool = False) -> None:
        """Click a voxel (k, j, i) in the Red view, with or without Ctrl."""
        place = self.at(kji)
        interactor = slicer.app.layoutManager().sliceWidget("Red").sliceView().interactor()
        interactor.SetEventInformation(*place, int(ctrl), 0)
        for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            interactor.InvokeEvent(event)
        slicer.app.processEvents()

    def brush(self, effect: str, artery: Artery, kji: Any, diameterMm: float) -> None:
        """One dab with Paint or Erase."""
        editCount = len(self.panel.reading.case.edits)
        editor = self.ui.segmentEditor
        editor.setActiveEffectByName(effect)
        editor.setCurrentSegmentID(artery.name)
        tool = editor.activeEffect()
        tool.setCommonParameter("BrushDiameterIsRelative", 0)
        tool.setCommonParameter("BrushAbsoluteDiameter", diameterMm)
        tool.setCommonParameter("BrushSphere", 0)
        self.clickView(kji)
        self.wait(lambda: len(self.panel.reading.case.edits) > editCount, f"{effect} changes the case")
        editor.setActiveEffectByName("")


def journey(widget: Any, report: Callable[[str], Any] = print, hands: "Hands | None" = None) -> None:
    """Phantom, score, cancel, score, correct, sign, export, close, re-open.

    Parameters
    ----------
    widget
        The module's widget.
    report
        Tells the person who watches.
    hands
        Who does it; a `Hands` where Slicer has views and effects.

    Raises
    ------
    AssertionError
        At the first step that did not do what it should.
    """
    hands = hands or Hands(widget)
    with TemporaryDirectory(dir=slicer.app.temporaryPath) as folder:
        kept = widget.ui.casesPathEdit.currentPath
        declined = set(Requirements._declined)
        Requirements._declined.update(Requirements.OPTIONAL)  # a test installs nothing
        try:
            widget.ui.casesPathEdit.currentPath = str(Path(folder) / "cases")
            _journey(hands, Path(folder), report)
        finally:
            Requirements._declined.clear()
            Requirements._declined.update(declined)
            widget.panel.score.stop()
            widget.ui.casesPathEdit.currentPath = kept
            slicer.mrmlScene.Clear()  # the case leaves the panel before its folder goes


def _journey(hands: Hands, folder: Path, report: Callable[[str], Any]) -> None:
    panel, ui = hands.panel, hands.ui

    report("A synthetic CT is made and loaded")
    volume = SampleCT.load(folder / "phantom", **PHANTOM)
    ui.volumeSelector.setCurrentNode(volume)
    ui.bundleComboBox.setCurrentIndex(ui.bundleComboBox.findData("none"))

    report("Score, cancel, score")
    hands.click(ui.scoreButton)
    hands.wait(lambda: ui.progressBar.value > 0, "the worker says how far it is")
    hands.click(ui.scoreButton)
    hands.wait(lambda: panel.score.state == "idle", "the run is cancelled")
    assert panel.reading is None, "a cancelled run shows nothing"
    hands.click(ui.scoreButton)
    hands.wait(lambda: panel.score.state == "idle", "the run ends")
    assert panel.reading is not None, ui.logText.toPlainText()
    automatic = panel.reading.case.report
    assert automatic.total.agatston > 0

    report("Two lesions go to other arteries")
    first, second = (row.id for row in automatic.lesions[:2])
    hands.choose(first)
    hands.click(ui.lcxButton)
    hands.choose(second)
    hands.click(ui.rcaButton)
    arteries = panel.reading.case.lesions.arteries
    assert (arteries[first], arteries[second]) == (Artery.LCX, Artery.RCA)

    report("A click in a view gives an island to the active artery")
    panel.review.select(None)
    hands.click(ui.ladButton)
    hands.clickView(_voxelOf(panel.reading.case, second))
    assert panel.reading.case.lesions.arteries[second] is Artery.LAD

    report("A Ctrl-click gives its part in the slice, and nothing else")
    long = next(row for row in panel.reading.case.report.lesions if row.slices[1] > row.slices[0])
    total = panel.reading.case.report.total.agatston
    hands.click(ui.rcaButton)
    hands.clickView(_voxelOf(panel.reading.case, long.id), ctrl=True)
    parts = [row.slices for row in panel.reading.case.report.lesions if row.artery is Artery.RCA]
    assert [last - first for first, last in parts if last == first] == [0], "one slice of it went to RCA"
    shared = panel.reading.case.report.total.agatston
    assert abs(shared - total) <= 1e-6 * total, f"a lesion in two arteries counts as before: {shared} and {total}"
    hands.click(ui.undoButton)

    report("Calcium that nobody took is painted, a lesion is erased, and the erasing undone")
    free = _freeCalcium(panel.reading.case)
    before = panel.reading.case.report.arteries[Artery.LM].agatston
    hands.brush("Paint", Artery.LM, free, BRUSH_MM)
    painted = panel.reading.case.report
    assert painted.arteries[Artery.LM].agatston > before
    dense = panel.reading.case.lesions.labels > 0
    assert panel.reading.case.ct.hu[dense].min() >= 130, "the brush takes calcium alone"
    target = panel.reading.case.report.lesions[0]
    hands.brush("Erase", target.artery, _voxelOf(panel.reading.case, target.id), ERASER_MM)
    assert panel.reading.case.report.total.agatston < painted.total.agatston
    hands.click(ui.undoButton)
    assert panel.reading.case.report == painted
    hands.wait(lambda: not panel.report.isWaiting, "the report is on the disk")

    report("The totals are those of the voxels on the screen")
    plain = scoreOfSegmentation(panel.nodes, panel.reading.case)
    for artery in CORONARY:
        got = painted.arteries[artery].agatston
        assert abs(got - plain[artery]) <= 1e-6 * max(1.0, got), f"{artery.name}: {got} and {plain[artery]}"

    report("Sign and export")
    assert not ui.signButton.enabled
    ui.observerEdit.setText("Reader^Rita")
    ui.organizationEdit.setText("Phantom Hospital")
    assert not ui.signButton.enabled
    hands.click(ui.confirmCheckBox)
    hands.click(ui.signButton)
    signed = panel.reading.folder.parent / "signed"
    written = {path.name for path in signed.iterdir()}
    assert {"report.json", "lesions.csv", "segmentation.seg.nrrd", "labels.nrrd", "case"} <= written, written
    if not missing(["highdicom"]):
        assert {"segmentation.dcm", "report.dcm"} <= written, written
    if not missing(["jinja2"]):
        assert "report.html" in written, written

    report("Close and re-open: the same numbers, bit for bit")
    opened = panel.reading.folder
    slicer.mrmlScene.Clear()
    assert panel.reading is None
    assert ui.lesionTable.rowCount == 0
    panel.openCaseFolder(opened)
    assert panel.reading.case.report == painted
    assert panel.reading.signature.observer == "Reader^Rita"


def scoreOfSegmentation(nodes: Any, case: Any) -> "dict[Artery, float]":
    """Agatston of each artery's segment, slice by slice from the voxels on the screen, without HeartLens's scorer.

    A second way to the number: 4-connected islands on each slice by scipy, area times the weight of the peak.
    """
    from scipy import ndimage

    ct = case.source_ct
    out = {}
    for artery in CORONARY:
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(nodes.segmentation, artery.name, nodes.volume)
        total = 0.0
        for k in range(ct.shape[0]) if mask is not None else ():
            components, count = ndimage.label((np.asarray(mask[k]) > 0) & (ct.hu[k] >= 130))
            for n in range(1, count + 1):
                hu = ct.hu[k][components == n]
                area = hu.size * ct.pixel_area_mm2
                if area >= 1.0 - 1e-6:
                    total += area * sum(hu.max() >= edge for edge in (130, 200, 300, 400))
        out[artery] = total * ct.increment_mm / 3.0
    return out


def _voxelOf(case: Any, lesion: int) -> "tuple[int, int, int]":
    """A voxel in the middle of a lesion."""
    at = np.argwhere(case.lesions.labels == lesion)
    return tuple(int(n) for n in at[len(at) // 2])


def _freeCalcium(case: Any) -> "tuple[int, int, int]":
    """A bright voxel that no lesion has, such as one of a rib."""
    at = np.argwhere((case.ct.hu >= 200) & (case.lesions.labels == 0))
    return tuple(int(n) for n in at[len(at) // 2])
