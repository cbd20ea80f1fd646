"""A box drawn around calcium in a slice: every island in it goes to the artery. The box points, the threshold cuts.

It is armed for one box, and takes the mouse from Slicer until that is drawn.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from heartlens.core.errors import InputRefused

PRIORITY = 3.0
"""Before the clicks of the panel and everything of Slicer's: a press that begins a box means nothing else."""

ALIGNED = 0.25
"""Slices by which the corners of a box may lie apart: more is an oblique view, in which a box is no box of voxels."""


class BoxPrompt:
    """One box at a time, in whichever slice view it is drawn.

    Parameters
    ----------
    drawn
        Called with the four corners, RAS in mm, and the slice node when a box was drawn.
    changed
        Called when it is armed, and when it no longer is.
    isWanted
        Whether a press is a box: not while a brush is in hand.
    """

    def __init__(
        self, drawn: "Callable[[list[Any], Any], None]", changed: Callable[[], None], isWanted: Callable[[], bool]
    ) -> None:
        self._drawn, self._changed, self._isWanted = drawn, changed, isWanted
        self._observed: list[tuple[Any, int]] = []
        self._start: tuple[int, int] | None = None
        self._outline: Any = None

    @property
    def isArmed(self) -> bool:
        """Whether the next drag is a box."""
        return bool(self._observed)

    def arm(self) -> None:
        """The next drag in a slice view is a box, but in a slab, which has no depth."""
        self.disarm()
        manager = slicer.app.layoutManager()
        for name in () if manager is None else manager.sliceViewNames():
            widget = manager.sliceWidget(name)
            if not widget.mrmlSliceNode().GetSlabReconstructionEnabled():
                self._observe(widget.sliceView(), widget.mrmlSliceNode())
        self._changed()

    def disarm(self) -> None:
        """Give the mouse back to Slicer."""
        wasArmed = self.isArmed
        for interactor, tag in self._observed:
            interactor.RemoveObserver(tag)
        self._observed, self._start = [], None
        self._dropOutline()
        if wasArmed:
            self._changed()

    def _observe(self, view: Any, node: Any) -> None:
        interactor = view.interactor()
        tags: dict[str, int] = {}

        def take(event: str) -> None:
            interactor.GetCommand(tags[event]).SetAbortFlag(1)

        def onPress(caller: Any, event: str) -> None:
            if not self._isWanted():
                self.disarm()
                return
            self._start = tuple(caller.GetEventPosition())
            self._outline = _Outline(view)
            take(event)

        def onMove(caller: Any, event: str) -> None:
            if self._start is not None:
                self._outline.draw(self._start, caller.GetEventPosition())
                take(event)

        def onRelease(caller: Any, event: str) -> None:
            start, end = self._start, caller.GetEventPosition()
            if start is None:
                return
            take(event)
            self.disarm()
            if start[0] != end[0] and start[1] != end[1]:
                self._drawn(_corners(node, start, end), node)

        for event, slot in (
            ("LeftButtonPressEvent", onPress),
            ("MouseMoveEvent", onMove),
            ("LeftButtonReleaseEvent", onRelease),
        ):
            tags[event] = interactor.AddObserver(event, slot, PRIORITY)
            self._observed.append((interactor, tags[event]))

    def _dropOutline(self) -> None:
        if self._outline is not None:
            self._outline.remove()
            self._outline = None


class _Outline:
    """The box while it is drawn."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._points = vtk.vtkPoints()
        self._points.SetNumberOfPoints(4)
        lines = vtk.vtkCellArray()
        lines.InsertNextCell(5)
        for n in (0, 1, 2, 3, 0):
            lines.InsertCellPoint(n)
        self._data = vtk.vtkPolyData()
        self._data.SetPoints(self._points)
        self._data.SetLines(lines)
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.SetVisibility(False)
        self._renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
        self._renderer.AddViewProp(self._actor)

    def draw(self, start: Any, end: Any) -> None:
        """From one corner to the other, in pixels of the view."""
        (x, y), (u, v) = start, end
        for n, (column, row) in enumerate(((x, y), (u, y), (u, v), (x, v))):
            self._points.SetPoint(n, column, row, 0.0)
        self._points.Modified()
        self._actor.SetVisibility(True)
        self._view.scheduleRender()

    def remove(self) -> None:
        """Take it off the view."""
        self._renderer.RemoveViewProp(self._actor)
        self._view.scheduleRender()


def _corners(node: Any, start: Any, end: Any) -> "list[Any]":
    (x, y), (u, v) = start, end
    toRas = node.GetXYToRAS()
    return [toRas.MultiplyPoint((float(a), float(b), 0.0, 1.0))[:3] for a, b in ((x, y), (u, y), (u, v), (x, v))]


def extentOf(volume: Any, corners: "list[Any]") -> "tuple[int, int, int, int, int, int]":
    """First and last column, row and slice of a volume node that a box of a slice view covers, in its own IJK.

    Raises
    ------
    InputRefused
        ``input``: the view cuts the volume obliquely
    """
    toIjk = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(toIjk)
    ijk = np.array([toIjk.MultiplyPoint((*corner, 1.0))[:3] for corner in corners])
    if np.ptp(ijk, axis=0).min() > ALIGNED:
        raise InputRefused("input", _("boxes are drawn in axial, coronal and sagittal views; choose one of them"))
    low, high = np.rint(ijk.min(axis=0)).astype(int), np.rint(ijk.max(axis=0)).astype(int)
    return (int(low[0]), int(high[0]), int(low[1]), int(high[1]), int(low[2]), int(high[2]))
