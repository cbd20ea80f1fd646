"""Heart and aorta in 3-D, as far as the scan shows them: where the calcium lies, and no measurement of anything.

They are the regions by which calcium is judged (`heartlens.anatomy`), on a grid of some millimeters; at the diaphragm
the region of the heart takes in parts of liver and stomach. The nodes are hidden from
lists, cannot be chosen, and are not saved with a scene.
"""

from functools import partial
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from HeartLensCACLib.Timers import Aside
from HeartLensCACLib.Views.Markers import removeShown

LOOKS = {"heart": ((0.80, 0.47, 0.42), 0.15), "aorta": ((0.75, 0.30, 0.30), 0.25)}
"""Color and opacity: the calcium within stays in sight."""

SMOOTHING = 25
"""Passes over a surface of blocks."""

PASS_BAND = 0.05


class Surroundings:
    """The surfaces of one case, made when they are first shown; until they are there the layout does without."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._case: Any = None
        self._aside = Aside(self._make)

    @property
    def isLooking(self) -> bool:
        """Whether heart and aorta are being looked for."""
        return self._aside.isWorking

    def show(self, case: Any) -> None:
        """Show those of a case, as soon as they are found; of a scan without a heart there are none."""
        if self._case is not None and self._case.inputs is case.inputs and (self.isLooking or self._areThere()):
            return
        self.remove()
        self._case = case
        self._aside.do(partial(surfaces, case))

    def forget(self) -> None:
        """None come any more."""
        self._aside.forget()

    def remove(self) -> None:
        """Take them out of the scene; those that a closed scene took are no matter."""
        self._aside.forget()
        for node in self._nodes:
            removeShown(node)
        self._nodes, self._case = [], None

    def _make(self, found: "list[tuple[str, Any]]") -> None:
        self._nodes = [_model(name, shape) for name, shape in found]

    def _areThere(self) -> bool:
        return all(slicer.mrmlScene.IsNodePresent(node) for node in self._nodes)


def surfaces(case: Any) -> "list[tuple[str, Any]]":
    """Name and closed surface of what the scan shows of heart and aorta; it touches no node."""
    return [(name, surface(mask, grid)) for name, mask, grid in regions(case)]


def regions(case: Any) -> "list[tuple[str, Any, Any]]":
    """Name, mask (K, J, I) and coarse grid of what the scan shows of heart and aorta."""
    from heartlens.anatomy.region import heart_region

    region = heart_region(case.ct)
    grid = region.grid
    if not region.in_view:
        return []
    aorta = np.zeros(grid.shape, bool)
    x, y = grid.x_mm[None, :], grid.y_mm[:, None]
    for course in (region.ascending, region.descending):
        for k in np.flatnonzero(course.found):
            aorta[k] |= np.hypot(x - course.center_mm[k, 0], y - course.center_mm[k, 1]) <= course.radius_mm[k]
    masks = {"heart": region.heart & ~aorta, "aorta": aorta}
    return [(name, mask, grid) for name, mask in masks.items() if mask.any()]


def surface(mask: Any, grid: Any) -> Any:
    """Closed surface of a mask on a coarse grid, RAS in mm, as vtkPolyData."""
    padded = np.pad(mask, 1).astype(np.float32)  # closed where the scan ends, too
    image = vtk.vtkImageData()
    image.SetDimensions(*padded.shape[::-1])
    step_z, step_y, step_x = grid.spacing_mm
    image.SetSpacing(step_x, step_y, step_z)
    image.SetOrigin(grid.x_mm[0] - step_x, grid.y_mm[0] - step_y, grid.z_mm[0] - step_z)
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel(), deep=True))
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.5)
    edges.ComputeNormalsOff()
    edges.ComputeScalarsOff()  # the display's color is meant
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(edges.GetOutputPort())
    smooth.SetNumberOfIterations(SMOOTHING)
    smooth.SetPassBand(PASS_BAND)
    smooth.NormalizeCoordinatesOn()
    toRas = vtk.vtkTransform()
    toRas.Scale(-1.0, -1.0, 1.0)  # from LPS
    turned = vtk.vtkTransformPolyDataFilter()
    turned.SetTransform(toRas)
    turned.SetInputConnection(smooth.GetOutputPort())
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(turned.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    return normals.GetOutput()


def _model(name: str, shape: Any) -> Any:
    node = slicer.vtkMRMLModelNode()
    node.SetName(f"HeartLens {name}")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    node.SetAndObserveMesh(shape)
    node = slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    color, opacity = LOOKS[name]
    display.SetColor(*color)
    display.SetOpacity(opacity)
    display.SetVisibility2D(False)
    display.SetVisibility(True)
    return node
