"""Markers: the number and the artery of each lesion, written beside it in the views.

One node of Slicer's Markups for each artery, because a node has one color. They cannot be moved, are no result, and
are not saved with a scene.
"""

from typing import Any

import numpy as np
import qt
import slicer

from heartlens.case.case import Case
from heartlens.core.lesions import ARTERY_COLORS, Artery
from HeartLensCACLib.Sections.Tables import LETTERS

TEXT_SCALE = 3.0
GLYPH_SCALE = 1.0
"""Of Slicer's display: percent of the view's size."""


class Markers:
    """The markers of one case.

    Parameters
    ----------
    case
        As it is shown first.
    """

    def __init__(self, case: Case) -> None:
        self._nodes: dict[Artery, Any] = {}
        self._shown: dict[Artery, list[tuple[int, tuple[float, ...]]]] = {}
        self._isVisible = True
        self.refresh(case)

    def refresh(self, case: Case) -> None:
        """Another state of the case; nodes whose lesions are as they were are left alone."""
        wanted: dict[Artery, list[tuple[int, tuple[float, ...]]]] = {}
        for lesion, place in peaks(case).items():
            wanted.setdefault(case.lesions.arteries[lesion], []).append((lesion, place))
        for artery in wanted.keys() | self._shown.keys():
            points = wanted.get(artery, [])
            if points != self._shown.get(artery, []):
                self._write(artery, points)
        self._shown = wanted

    def setVisible(self, visible: bool) -> None:
        """Show them or not."""
        self._isVisible = visible
        for node in self._nodes.values():
            node.SetDisplayVisibility(visible)

    def remove(self) -> None:
        """Take them out of the scene; those that a closed scene took are no matter."""
        for node in self._nodes.values():
            removeShown(node)
        self._nodes, self._shown = {}, {}

    def _write(self, artery: Artery, points: "list[tuple[int, tuple[float, ...]]]") -> None:
        node = self._nodes.get(artery)
        if node is None or not slicer.mrmlScene.IsNodePresent(node):
            node = self._nodes[artery] = self._made(artery)
        wasModifying = node.StartModify()
        node.RemoveAllControlPoints()
        for lesion, place in points:
            node.AddControlPoint(*place, f"{lesion} {LETTERS[artery]}")
        node.EndModify(wasModifying)

    def _made(self, artery: Artery) -> Any:
        node = newMarkers(f"HeartLens {artery.name}", ARTERY_COLORS[artery])
        node.SetDisplayVisibility(self._isVisible)
        return node


def newMarkers(name: str, color: str) -> Any:
    """A node for points with text, in a color: nobody can move them, no list offers them, and no scene keeps them."""
    node = slicer.vtkMRMLMarkupsFiducialNode()
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetLocked(True)  # so that a click on it is a click on the calcium
    node = slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    shade = qt.QColor(color)
    rgb = (shade.red() / 255, shade.green() / 255, shade.blue() / 255)
    display.SetColor(*rgb)
    display.SetSelectedColor(*rgb)  # a point is selected when it is made
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
    display.SetTextScale(TEXT_SCALE)
    display.SetGlyphScale(GLYPH_SCALE)
    return node


def removeShown(node: Any) -> None:
    """Take a node and what displays it out of the scene; one that a closed scene took is no matter."""
    if slicer.mrmlScene.IsNodePresent(node):
        display = node.GetDisplayNode()
        slicer.mrmlScene.RemoveNode(node)
        if display is not None and slicer.mrmlScene.IsNodePresent(display):
            slicer.mrmlScene.RemoveNode(display)


def peaks(case: Case) -> "dict[int, tuple[float, ...]]":
    """The brightest voxel of each lesion, RAS in mm: it is within the lesion, which its center need not be."""
    voxels, hu = case.lesions.voxels, case.ct.hu.reshape(-1)
    order = np.lexsort((-hu[voxels.flat], voxels.ids))
    ids, first = np.unique(voxels.ids[order], return_index=True)
    kji = np.stack(np.unravel_index(voxels.flat[order][first], case.ct.shape), axis=-1).astype(float)
    shown = {row.id for row in case.report.lesions}
    ras = case.ct.lps_mm(kji) * (-1.0, -1.0, 1.0)
    return {int(n): tuple(map(float, at)) for n, at in zip(ids, ras, strict=True) if int(n) in shown}
