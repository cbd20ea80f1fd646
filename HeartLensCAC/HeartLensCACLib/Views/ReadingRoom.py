"""The layout for reading calcium: one large axial view, a linked slab of maximum intensity, and a view in 3-D.

It is there on the reader's word alone, and goes back to the layout that was there before.
"""

import math
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from heartlens.core.lesions import CORONARY, Artery
from HeartLensCACLib.Timers import singleShot
from HeartLensCACLib.Views.CalciumSurfaces import CalciumSurfaces
from HeartLensCACLib.Views.Surroundings import Surroundings

LAYOUT_ID, LAYOUT_WITH_CHART_ID = 51730, 51731
"""Slicer's own are below 100."""

AXIAL, SLAB, SPACE, PLOT = "Red", "HeartLensSlab", "1", "PlotView1"
"""Names of the slice views, of the view in 3-D, and of the view for charts."""

SLAB_MM = 10.0

LAYOUT = f"""
<layout type="horizontal" split="true">
 <item splitSize="650">
  <view class="vtkMRMLSliceNode" singletontag="{AXIAL}">
   <property name="orientation" action="default">Axial</property>
   <property name="viewlabel" action="default">R</property>
   <property name="viewcolor" action="default">#F34A33</property>
  </view>
 </item>
 <item splitSize="350">
  <layout type="vertical" split="true">
   <item>
    <view class="vtkMRMLSliceNode" singletontag="{SLAB}">
     <property name="orientation" action="default">Axial</property>
     <property name="viewlabel" action="default">MIP</property>
     <property name="viewcolor" action="default">#8C8C8C</property>
    </view>
   </item>
   <item>
    <view class="vtkMRMLViewNode" singletontag="{SPACE}">
     <property name="viewlabel" action="default">1</property>
    </view>
   </item>
   <!--chart-->
  </layout>
 </item>
</layout>
"""

CHART_ITEM = f"""
   <item>
    <view class="vtkMRMLPlotViewNode" singletontag="{PLOT}">
     <property name="viewlabel" action="default">1</property>
    </view>
   </item>
"""

LAYOUTS = {LAYOUT_ID: LAYOUT, LAYOUT_WITH_CHART_ID: LAYOUT.replace("<!--chart-->", CHART_ITEM)}
"""Number and description; the second has the chart of the score along z below the view in 3-D."""

WINDOWS = {"W": (_("calcium"), 800.0, 180.0), "E": (_("dense calcium"), 1500.0, 450.0)}
"""Key, name, width and level in HU. In the wide one dense plaque still has shades, and blooms less."""

MARGIN_MM = 25.0
"""Around the coronary calcium, when the views are zoomed to it."""

LEAST_MM = 150.0
"""Of the field of view then: about a heart."""

SURFACES_MS = 300
"""The surfaces follow an edit at this distance."""


class ReadingRoom:
    """The layout, its zoom, and the window of the CT.

    Parameters
    ----------
    shown
        With `reading`, a ReviewSession or None, `nodes` that show it, and `unheard`.
    """

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._before: int | None = None
        self._timer = singleShot(SURFACES_MS, self._makeSurfaces)
        self._surroundings = Surroundings()
        self._calcium = CalciumSurfaces(shown.unheard)

    @property
    def isShown(self) -> bool:
        """Whether the views are laid out for reading now."""
        manager = slicer.app.layoutManager()
        return manager is not None and manager.layoutLogic().GetLayoutNode().GetViewArrangement() in LAYOUTS

    def toggle(self) -> None:
        """Lay the views out for reading, or as they were before."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        layout = manager.layoutLogic().GetLayoutNode()
        if self.isShown:
            self._timer.stop()
            self._calcium.forget()
            self._surroundings.remove()
            manager.setLayout(layout.SlicerLayoutFourUpView if self._before is None else self._before)
            return
        if self._shown.reading is None:
            return
        self._before = layout.GetViewArrangement()
        addLayouts(layout)
        manager.setLayout(LAYOUT_ID)
        self.arrange()

    def arrange(self) -> None:
        """The views of the layout show the case: the CT in all, the slab, both linked, and zoomed to the calcium."""
        manager = slicer.app.layoutManager()
        slab = manager.sliceWidget(SLAB).mrmlSliceNode()
        slab.SetSlabReconstructionType(vtk.VTK_IMAGE_SLAB_MAX)
        slab.SetSlabReconstructionThickness(SLAB_MM)
        slab.SetSlabReconstructionEnabled(True)
        slicer.util.setSliceViewerLayers(background=self._shown.nodes.volume, fit=True)
        center, width = calciumBox(self._shown.reading.case)
        for name in (AXIAL, SLAB):
            widget = manager.sliceWidget(name)
            node = widget.mrmlSliceNode()
            node.SetOrientationToAxial()
            if center is not None:
                node.JumpSliceByCentering(*center)
                zoomTo(node, width)
            widget.mrmlSliceCompositeNode().SetLinkedControl(True)
            widget.mrmlSliceCompositeNode().SetHotLinkedControl(True)
        if center is not None:
            lookAt(center, width)
        self._timer.start()  # calcium in 3-D comes when the slices are there
        self._surroundings.show(self._shown.reading.case)

    def refresh(self) -> None:
        """After an edit the surfaces follow, a little later."""
        if self._shown.reading is not None and self.isShown:
            self._timer.start()

    def forget(self) -> "Callable[[], None]":
        """The case goes; what is returned takes heart and aorta out of the scene."""
        self._timer.stop()
        self._calcium.forget()
        leaving, self._surroundings = self._surroundings, Surroundings()
        leaving.forget()
        return leaving.remove

    def window(self, key: str) -> None:
        """Give the CT one of `WINDOWS`."""
        if self._shown.nodes is None:
            return
        _name, width, level = WINDOWS[key]
        display = self._shown.nodes.volume.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(width, level)

    def _makeSurfaces(self) -> None:
        self._timer.stop()
        if self._shown.nodes is not None:
            self._calcium.follow(self._shown.reading.case, self._shown.nodes.segmentation)


def addLayouts(layout: Any) -> None:
    """Make the layouts for reading known to Slicer's layout node."""
    for number, description in LAYOUTS.items():
        if not layout.IsLayoutDescription(number):
            layout.AddLayoutDescription(number, description)


def calciumBox(case: Any) -> "tuple[tuple[float, float, float] | None, float]":
    """Center of the coronary calcium, RAS in mm, and the width in mm of a view that holds all of it; None for none."""
    counted = (*CORONARY, Artery.UNASSIGNED)
    places = [row.centroid_lps_mm for row in case.report.lesions if row.artery in counted]
    if not places:
        return None, 0.0
    low = [min(at[axis] for at in places) for axis in range(3)]
    high = [max(at[axis] for at in places) for axis in range(3)]
    x, y, z = ((a + b) / 2 for a, b in zip(low, high, strict=True))
    width = max(high[axis] - low[axis] for axis in (0, 1)) + 2 * MARGIN_MM
    return (-x, -y, z), max(LEAST_MM, width)


def zoomTo(node: Any, width: float) -> None:
    """A slice view whose shorter side shows that many mm."""
    columns, rows, _slices = node.GetDimensions()
    _x, _y, depth = node.GetFieldOfView()
    perPixel = width / max(1, min(columns, rows))
    node.SetFieldOfView(columns * perPixel, rows * perPixel, depth)


def lookAt(center: "tuple[float, float, float]", width: float) -> None:
    """The view in 3-D shows that many mm around a point, RAS in mm, from the front, head up."""
    for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
        if camera.GetLayoutName() == SPACE:
            r, a, s = center
            angle = math.radians(camera.GetViewAngle())
            camera.SetFocalPoint(r, a, s)
            camera.SetPosition(r, a + width / 2 / math.tan(angle / 2), s)
            camera.SetViewUp(0.0, 0.0, 1.0)
            camera.ResetClippingRange()
