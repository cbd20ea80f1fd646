"""The calcium in 3-D, in the colors of the arteries: a closed surface around each island that counts.

Slicer can make it from the segmentation, and goes through all of its grid for each segment then, while nothing else
moves. Here each island is looked at by itself, aside.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from heartlens.core.lesions import Artery
from HeartLensCACLib.Timers import Aside

CLOSED = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()

SMOOTHING, PASS_BAND = 40, 0.01
"""As Slicer smooths where nobody says otherwise (vtkBinaryLabelmapToClosedSurfaceConversionRule, factor 0.5)."""


class CalciumSurfaces:
    """The surfaces of the case that is shown.

    Parameters
    ----------
    unheard
        Makes a call that changes the segmentation and is no edit of it.
    """

    def __init__(self, unheard: "Callable[[Callable[[], None]], None]") -> None:
        self._unheard = unheard
        self._node: Any = None
        self._aside = Aside(self._show)

    def follow(self, case: Any, node: Any) -> None:
        """Another state of a case: its surfaces take the place of the ones before, as soon as they are there.

        Parameters
        ----------
        case
            As it is now.
        node
            vtkMRMLSegmentationNode that shows it
        """
        self._node = node
        self._aside.do(partial(_surfaces, case))

    def forget(self) -> None:
        """None come any more."""
        self._aside.forget()
        self._node = None

    def _show(self, surfaces: "dict[Artery, Any]") -> None:
        if slicer.mrmlScene.IsNodePresent(self._node):
            self._unheard(partial(self._put, surfaces))

    def _put(self, surfaces: "dict[Artery, Any]") -> None:
        segmentation = self._node.GetSegmentation()
        for artery, surface in surfaces.items():
            segment = segmentation.GetSegment(artery.name)
            if segment is not None:
                segment.RemoveRepresentation(CLOSED)
                segment.AddRepresentation(CLOSED, surface)
        segmentation.InvokeEvent(slicer.vtkSegmentation.ContainedRepresentationNamesModified)
        self._node.GetDisplayNode().SetVisibility3D(True)


def _surfaces(case: Any) -> "dict[Artery, Any]":
    """Closed surface of each artery, RAS in mm; empty where it has no calcium."""
    from heartlens.scene.geometry import ras_matrix

    labels, ct = case.shown, case.source_ct
    toRas = vtk.vtkTransform()
    toRas.SetMatrix(ras_matrix(ct.affine))
    found = {}
    for artery in Artery:
        pieces = vtk.vtkAppendPolyData()
        pieces.AddInputData(vtk.vtkPolyData())
        for kji in _islands(labels.flat[labels.codes == artery], ct.shape):
            pieces.AddInputData(_surface(kji, toRas))
        pieces.Update()
        found[artery] = pieces.GetOutput()
    return found


def _islands(flat: Any, shape: "tuple[int, int, int]") -> "Iterator[Any]":
    """(n, 3) slice, row and column of the voxels of each island."""
    from heartlens.core.components import label_components

    if not flat.size:
        return
    numbers = label_components(flat, shape, connectivity=26)
    order = np.argsort(numbers, kind="stable")
    kji = np.stack(np.unravel_index(flat[order], shape), axis=-1)
    yield from np.split(kji, np.flatnonzero(np.diff(numbers[order])) + 1)


def _surface(kji: Any, toRas: Any) -> Any:
    """Closed surface around some voxels, RAS in mm, as vtkPolyData."""
    low = kji.min(axis=0) - 1
    mask = np.zeros(kji.max(axis=0) - low + 2, np.uint8)
    mask[tuple((kji - low).T)] = 1
    image = vtk.vtkImageData()
    image.SetDimensions(*mask.shape[::-1])
    image.SetOrigin(*low[::-1].astype(float))
    image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.5)
    edges.ComputeNormalsOff()
    edges.ComputeScalarsOff()  # the segment's color is meant
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetTransform(toRas)
    placed.SetInputConnection(edges.GetOutputPort())
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(placed.GetOutputPort())
    smooth.SetNumberOfIterations(SMOOTHING)
    smooth.SetPassBand(PASS_BAND)
    smooth.BoundarySmoothingOff()
    smooth.FeatureEdgeSmoothingOff()
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    normals.AutoOrientNormalsOn()
    normals.SplittingOff()
    normals.Update()
    return normals.GetOutput()
