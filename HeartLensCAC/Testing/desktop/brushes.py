"""Slicer's Paint, Erase and Scissors at the mouse: what they make of the events of a slice view.

The effects are C++ of Slicer's application, and no package has them. Here they take the same events in the same order
and at the same priority (numbers in brackets are lines of qSlicerSegmentEditorPaintEffect.cxx; with S, of
qSlicerSegmentEditorScissorsEffect.cxx; with E, of qMRMLSegmentEditorWidget.cxx); a brush is tried voxel by voxel, not
through a stencil, and what is cut out goes through VTK's. What it comes to is said by Slicer's own
vtkSlicerSegmentEditorLogic, with the masks that the panel has set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from desktop.slicer_facts import default
from vtk.util.numpy_support import vtk_to_numpy

COMMON = {
    "BrushDiameterIsRelative": 1, "BrushAbsoluteDiameter": 5.0, "BrushRelativeDiameter": 3.0, "BrushSphere": 0,
}  # fmt: skip
"""What holds where nobody has set anything (1448)."""

SCREEN_ROWS = 1080
"""A relative diameter is percent of the screen's height (632)."""

STEP = 0.2
"""Of the diameter: so far two points of a stroke lie apart (213)."""

HIDDEN = "The currently selected segment is hidden. Would you like to make it visible?"

EVENTS = ("LeftButtonPressEvent", "LeftButtonReleaseEvent", "MouseMoveEvent")


class Effect:
    """What Paint, Erase and Scissors have in common.

    Parameters
    ----------
    name : as the editor's node calls it
    node : vtkMRMLSegmentEditorNode
    """

    def __init__(self, name: str, node: Any) -> None:
        self._name, self._node = name, node
        self._points: list[Any] = []  # of the stroke that is being made

    def process(self, event: str, interactor: Any, view: Any) -> bool:
        """One event; whether it is kept from everybody else (1050, S 1441)."""
        x, y = interactor.GetEventPosition()
        isHeld = interactor.GetShiftKey() or interactor.GetControlKey() or interactor.GetAltKey()
        if event == "LeftButtonPressEvent" and not isHeld:
            if not self._is_visible():  # the box has the release: nothing is painted
                slicer.util.messageBox(HIDDEN)
                return True
            self._points = [self._place(x, y, view)]
            return True
        if not self._points:
            return False
        self._add(self._place(x, y, view), view)
        if event == "LeftButtonReleaseEvent":
            self._apply(view)
            self._points = []
            return True
        return self.KEEPS_MOVES

    KEEPS_MOVES = False

    def _is_visible(self) -> bool:
        segmentation = self._node.GetSegmentationNode()
        display = None if segmentation is None else segmentation.GetDisplayNode()
        if display is None:
            return True
        return bool(display.GetVisibility() and display.GetSegmentVisibility(self._node.GetSelectedSegmentID()))

    def _apply(self, view: Any) -> None:
        """The stroke becomes voxels, and these the segment's, or nobody's (1643, S 919)."""
        node = self._node
        segmentation = node.GetSegmentationNode()
        if segmentation is None or not node.GetSelectedSegmentID():
            return
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSegmentEditorNode(node)
        logic.SetSegmentationNode(segmentation)
        logic.SetSourceVolumeNode(node.GetSourceVolumeNode())
        logic.UpdateReferenceGeometryImage()
        logic.UpdateMaskLabelmap()
        assert logic.ResetModifierLabelmapToDefault()
        modifier = logic.GetModifierLabelmap()
        self._fill(modifier, view)
        segment = node.GetSelectedSegmentID()
        mode = self._mode(logic)
        logic.ModifySegmentByLabelmap(segmentation, segment, modifier, mode, modifier.GetExtent(), True, False)


class PaintEffect(Effect):
    """qSlicerSegmentEditorPaintEffect, as Paint or as Erase."""

    def setCommonParameter(self, name: str, value: float) -> None:
        assert name in COMMON, name
        self._node.SetAttribute(name, str(value))

    def _place(self, x: int, y: int, view: Any) -> Any:
        """RAS in mm."""
        return np.array(view.mrmlSliceNode().GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3])

    def _add(self, place: Any, view: Any) -> None:
        """To there, without a gap (317)."""
        last = self._points[-1]
        between = int(np.linalg.norm(place - last) / (STEP * self._diameter_mm(view)))
        self._points += [last + (place - last) * n / between for n in range(1, between)]
        self._points.append(place)

    def _common(self, name: str) -> float:
        return float(self._node.GetAttribute(name) or COMMON[name])

    def _diameter_mm(self, view: Any) -> float:
        if not self._common("BrushDiameterIsRelative"):
            return self._common("BrushAbsoluteDiameter")
        to_slice = view.mrmlSliceNode().GetXYToSlice()
        pixel_mm = float(np.linalg.norm([to_slice.GetElement(row, 1) for row in range(3)]))
        return SCREEN_ROWS * self._common("BrushRelativeDiameter") / 100 * pixel_mm

    def _mode(self, logic: Any) -> Any:
        if self._name != "Erase":
            return logic.ModificationModeAdd
        every = self._node.GetAttribute("Erase.EraseAllSegments") or default("Erase.EraseAllSegments")
        return logic.ModificationModeRemoveAll if every == "1" else logic.ModificationModeRemove

    def _fill(self, modifier: Any, view: Any) -> None:
        """A disk as thick as a slice of the view, or a ball, at the voxel of each point (699)."""
        to_world = vtk.vtkMatrix4x4()
        modifier.GetImageToWorldMatrix(to_world)
        matrix = np.array([[to_world.GetElement(r, c) for c in range(4)] for r in range(4)])
        radius = self._diameter_mm(view) / 2
        half = np.ceil(radius / np.linalg.norm(matrix[:3, :3], axis=0)).astype(int) + 1
        offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"), axis=-1).reshape(-1, 3)
        mm = offsets @ matrix[:3, :3].T
        slice_to_ras = view.mrmlSliceNode().GetSliceToRAS()
        depth = mm @ np.array([slice_to_ras.GetElement(row, 2) for row in range(3)])
        thick = view.logic.GetLowestVolumeSliceSpacing()[2]
        radial = np.sqrt(np.maximum((mm**2).sum(axis=1) - depth**2, 0))
        disk = (radial <= radius) & (np.abs(depth) < thick / 2)
        brush = offsets[np.linalg.norm(mm, axis=1) <= radius if self._common("BrushSphere") else disk]
        low = np.array(modifier.GetExtent()[::2])
        columns, rows, slices = modifier.GetDimensions()
        values = vtk_to_numpy(modifier.GetPointData().GetScalars()).reshape(slices, rows, columns)
        inverse = np.linalg.inv(matrix)
        for point in self._points:
            at = np.rint(inverse @ (*point, 1.0)).astype(int)[:3]
            i, j, k = (brush + at - low).T
            inside = (i >= 0) & (i < columns) & (j >= 0) & (j < rows) & (k >= 0) & (k < slices)
            values[k[inside], j[inside], i[inside]] = 1
        modifier.Modified()


class ScissorsEffect(Effect):
    """qSlicerSegmentEditorScissorsEffect with a line drawn by hand, which cuts out what lies within it (S 1298)."""

    KEEPS_MOVES = True

    DEFAULTS = {"Operation": "EraseInside", "SliceCutMode": "Unlimited", "SliceCutDepthMm": "0"}  # noqa: RUF012

    def setParameter(self, name: str, value: object) -> None:
        assert name in self.DEFAULTS, name
        self._node.SetAttribute(f"Scissors.{name}", str(value))

    def _parameter(self, name: str) -> str:
        return str(self._node.GetAttribute(f"Scissors.{name}") or self.DEFAULTS[name])

    def _place(self, x: int, y: int, _view: Any) -> Any:
        return x, y

    def _add(self, place: Any, _view: Any) -> None:
        """Each event is a corner, the release as well; the line back to the first is drawn at the end (S 463)."""
        self._points.append(place)

    def _mode(self, logic: Any) -> Any:
        return logic.ModificationModeRemove

    def _fill(self, modifier: Any, view: Any) -> None:
        """A prism whose base is the line, through all slices or some, on the grid of the modifier (S 502, S 865)."""
        assert self._parameter("Operation") == "EraseInside"
        if len(self._points) < 3:
            return
        to_ijk = vtk.vtkMatrix4x4()
        modifier.GetWorldToImageMatrix(to_ijk)
        to_ras = view.mrmlSliceNode().GetXYToRAS()
        normals = vtk.vtkPolyDataNormals()
        normals.AutoOrientNormalsOn()
        normals.SetInputData(prism(self._points, self._depths(modifier, to_ras), to_ras))
        transform = vtk.vtkTransform()
        transform.SetMatrix(to_ijk)
        on_grid = vtk.vtkTransformPolyDataFilter()
        on_grid.SetTransform(transform)
        on_grid.SetInputConnection(normals.GetOutputPort())
        stencil = vtk.vtkPolyDataToImageStencil()
        stencil.SetInputConnection(on_grid.GetOutputPort())
        stencil.SetOutputSpacing(1.0, 1.0, 1.0)
        stencil.SetOutputWholeExtent(modifier.GetExtent())
        image = vtk.vtkImageStencilToImage()
        image.SetInputConnection(stencil.GetOutputPort())
        image.SetInsideValue(1)
        image.SetOutsideValue(0)
        image.SetOutputScalarType(modifier.GetScalarType())
        image.Update()
        vtk_to_numpy(modifier.GetPointData().GetScalars())[:] = vtk_to_numpy(
            image.GetOutput().GetPointData().GetScalars()
        )
        modifier.Modified()

    def _depths(self, modifier: Any, to_ras: Any) -> tuple[float, float]:
        """From where to where, in slices of the view, the one that is shown being 0 (S 552)."""
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(to_ras, to_xy)
        if self._parameter("SliceCutMode") == "Symmetric":
            slice_mm = np.linalg.norm([to_ras.GetElement(row, 2) for row in range(3)])
            half = max(0.5, float(self._parameter("SliceCutDepthMm")) / slice_mm / 2)
            return -half, half
        assert self._parameter("SliceCutMode") == "Unlimited"
        to_world = vtk.vtkMatrix4x4()
        modifier.GetImageToWorldMatrix(to_world)
        extent = np.array(modifier.GetExtent()).reshape(3, 2) + np.array([-0.5, 0.5])
        corners = np.stack(np.meshgrid(*extent), axis=-1).reshape(-1, 3)
        z = [to_xy.MultiplyPoint(to_world.MultiplyPoint((*corner, 1.0)))[2] for corner in corners]
        return min(z) - 0.5, max(z) + 0.5


def prism(points: Any, depths: tuple[float, float], to_ras: Any) -> Any:
    """Closed surface over a line in a view, RAS in mm: a skirt of strips, and two caps (S 810)."""
    corners = vtk.vtkPoints()
    for x, y in points:
        for z in depths:
            corners.InsertNextPoint(to_ras.MultiplyPoint((x, y, z, 1.0))[:3])
    count = len(points)
    strips, caps = vtk.vtkCellArray(), vtk.vtkCellArray()
    strips.InsertNextCell(2 * count + 2)
    for n in (*range(2 * count), 0, 1):
        strips.InsertCellPoint(n)
    for side in (0, 1):
        caps.InsertNextCell(count)
        for n in range(count):
            caps.InsertCellPoint(2 * n + side)
    surface = vtk.vtkPolyData()
    surface.SetPoints(corners)
    surface.SetStrips(strips)
    surface.SetPolys(caps)
    return surface


EFFECTS = {"Paint": PaintEffect, "Erase": PaintEffect, "Scissors": ScissorsEffect}


class EffectViews:
    """The editor's observers on the slice views: they hand events to the effect at work (E 1826, E 2086)."""

    PRIORITY = float(default("qMRMLSegmentEditorWidget.priority"))

    def __init__(self) -> None:
        self._observed: list[tuple[Any, int]] = []
        self.effect: Effect | None = None

    def observe(self, *_layout: Any) -> None:
        """The views of the layout that is shown, and of those that come."""
        self.leave()
        manager = slicer.app.layoutManager()
        manager.connect("layoutChanged(int)", self.observe)
        for name in manager.sliceViewNames():
            self._observe(manager.sliceWidget(name))

    def leave(self) -> None:
        """Observe none."""
        if self._observed:
            slicer.app.layoutManager().disconnect("layoutChanged(int)", self.observe)
        for interactor, tag in self._observed:
            interactor.RemoveObserver(tag)
        self._observed = []

    def _observe(self, view: Any) -> None:
        interactor = view.interactor()
        tags: dict[str, int] = {}

        def on_event(caller: Any, event: str) -> None:
            if self.effect is not None and self.effect.process(event, caller, view):
                caller.GetCommand(tags[event]).SetAbortFlag(1)

        for event in EVENTS:
            tags[event] = interactor.AddObserver(event, on_event, self.PRIORITY)
            self._observed.append((interactor, tags[event]))
