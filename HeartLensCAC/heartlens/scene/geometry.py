"""Volumes: a MRML volume node as a `CTVolume`, and where a point of a view lies in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import ArrayLike, NDArray
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from heartlens.calcium import candidate_mask
from heartlens.case.case import Case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused, WarningRecord, refuse_or_warn
from heartlens.core.grid import IndexMap, index_map, require_same_extent
from heartlens.io.volumes import checked_volume

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Slicer works in RAS, DICOM in LPS: the one matrix that turns one into the other, either way."""

LOW_HU = -200
"""A CT of the chest holds lung or air, and fat at the least; without anything this dark the numbers are not HU."""

SAME_HU = 0.01
"""Slicer may keep rescaled values as double where we keep float32; more than this is another value."""

Aside = Callable[[Callable[[], Any]], Any]
"""Makes a call that touches no node, and returns what it returns; it may let an interface live meanwhile."""

_INSTANCES = "DICOM.instanceUIDs"


def at_once(do: Callable[[], Any]) -> Any:
    """Call and return; who has an interface to keep alive passes something else that does (`Aside`)."""
    return do()


def case_ct(
    volume: Any,
    *,
    kvp: float | None = None,
    slice_thickness_mm: float | None = None,
    allow: frozenset[str] | set[str] = frozenset(),
    is_kept: bool = True,
    aside: Aside = at_once,
) -> tuple[CTVolume, list[WarningRecord]]:
    """A scalar volume node as a CT, for scoring what is on the screen.

    Nothing of the DICOM header is on the node: an unchanged volume is better scored from its files (`dicom_instances`),
    which know tube voltage and slice thickness and can be referred to by SEG and SR.

    Parameters
    ----------
    volume
        vtkMRMLScalarVolumeNode
    kvp, slice_thickness_mm
        What the node does not say.
    allow
        Overridable refusals that the user has lifted.
    is_kept
        It holds a copy of the voxels. False, for who looks at it at once: it may change with the node.
    aside
        Calls what goes through the voxels, and touches no node.

    Returns
    -------
    ct : CTVolume
        Axes nearest to (S, P, L); no voxel resampled or changed.
    cautions : list[WarningRecord]
        What was allowed or had to be assumed; ``changed`` when the node came from DICOM and no longer has the slices of
        its series.

    Raises
    ------
    InputRefused
        ``input`` (no volume, a label map, several components, no voxels, a transform on it), ``tilt``, ``not-axial``,
        ``few-slices``, ``no-hu``, ``unreadable``
    """
    values = _values(volume)
    header = CTHeader(kvp=kvp, slice_thickness_mm=slice_thickness_mm)
    affine = lps_affine(volume)

    def checked() -> tuple[CTVolume, list[WarningRecord]]:
        voxels = values.copy() if is_kept else values
        ct, cautions = checked_volume(voxels, affine, header, where="the volume", allow=allow)
        if ct.hu.min() > LOW_HU:  # a label map, or one that was windowed: said before a worker is started for it
            text = f"expected HU with air or lung below {LOW_HU}, found values from {ct.hu.min():g} to {ct.hu.max():g}"
            cautions.append(refuse_or_warn("no-hu", text, allow, where="the volume"))
        return ct, cautions

    ct, cautions = aside(checked)
    if volume.GetAttribute(_INSTANCES) and not dicom_instances(volume):
        text = (
            "the volume came from DICOM and was cropped or resampled since: it is scored as it is on the screen, "
            "and no DICOM SEG or SR can refer to it"
        )
        cautions.append(WarningRecord("changed", text))
    return ct, cautions


def dicom_instances(volume: Any) -> tuple[str, ...]:
    """SOP Instance UIDs of the files that a volume was loaded from; none when it no longer has their slices.

    Changed voxels cannot be seen from here: `show_case` compares them with what was scored.
    """
    instances = tuple((volume.GetAttribute(_INSTANCES) or "").split())
    image = volume.GetImageData()
    slices = 0 if image is None else image.GetDimensions()[2]
    return instances if len(instances) in (1, slices) else ()  # one: a multi-frame object


def require_scored(volume: Any, case: Case, *, aside: Aside = at_once) -> None:
    """Refuse a volume that is not, or is no longer, the one that was scored; ask before a result is signed.

    Parameters
    ----------
    volume
        vtkMRMLScalarVolumeNode
    case
        What was scored.
    aside
        Calls what compares the voxels, and touches no node.

    Raises
    ------
    InputRefused
        ``input``, ``grid``, or ``checksum`` when a voxel that could count has another value
    """
    ct, threshold_hu = case.source_ct, case.protocol.label_threshold_hu
    values = _on_axes_of(volume, ct)
    count = aside(lambda: sum(_count_changed(now, was, threshold_hu) for now, was in zip(values, ct.hu, strict=True)))
    if count:
        raise InputRefused(
            "checksum",
            f"the volume: expected the voxels that were scored, found {count} at or above {threshold_hu:g} HU that "
            "changed since; score the volume again as it is now",
        )


def shows_ct(volume: Any, ct: CTVolume, *, aside: Aside = at_once) -> bool:
    """Whether a volume node holds just the voxels of a CT, on its grid; `aside` calls what compares them."""
    try:
        values = _on_axes_of(volume, ct)
    except InputRefused:
        return False
    return bool(aside(lambda: all(np.array_equal(now, was) for now, was in zip(values, ct.hu, strict=True))))


def _on_axes_of(volume: Any, ct: CTVolume) -> NDArray:
    """(k, j, i) view of a volume node's voxels, which are refused where they do not cover the CT and no more."""
    values = _values(volume)
    mapping = index_map(values.shape, lps_affine(volume), ct, "the volume")
    require_same_extent(values.shape, mapping, ct, "the volume")
    return on_ct_axes(values, mapping)


def _count_changed(now: NDArray, was: NDArray, threshold_hu: float) -> int:
    """Voxels of a slice that could count, and have another value."""
    dense = np.maximum(now, was) >= threshold_hu
    return int((np.abs(now[dense].astype(np.float64) - was[dense]) > SAME_HU).sum())


def index_of(ct: CTVolume, ras_mm: ArrayLike) -> NDArray[np.float64]:
    """Fractional (..., 3) index [k, j, i] of (..., 3) RAS points, as a click in a slice view gives them."""
    return ct.index_kji(np.asarray(ras_mm, dtype=np.float64) * (-1.0, -1.0, 1.0))


def position_of(ct: CTVolume, kji: ArrayLike) -> NDArray[np.float64]:
    """(..., 3) RAS mm of array indices: where to center the views. For LPS mm, as reports have, negate x and y."""
    return ct.lps_mm(kji) * (-1.0, -1.0, 1.0)


def voxels_in(case: Case, volume: Any, extent: tuple[int, int, int, int, int, int]) -> NDArray[np.int64]:
    """C-order indices into `case.ct` of the voxels at or above the threshold within an IJK extent of the volume.

    Parameters
    ----------
    case
        The case on the screen.
    volume
        vtkMRMLScalarVolumeNode on which it was scored
    extent
        First and last column, row and slice, inclusive, in the volume node's own IJK.
    """
    mapping = index_map(_values(volume).shape, lps_affine(volume), case.source_ct, "the volume")
    corners = np.array([extent[::2], extent[1::2]]) @ mapping.turn.T + mapping.shift
    low = np.maximum(corners.min(axis=0), 0)[::-1]
    high = corners.max(axis=0)[::-1] + 1
    low[0], high[0] = low[0] // case.slab_count, -(-high[0] // case.slab_count)
    box = tuple(slice(int(a), int(max(a, b))) for a, b in zip(low, np.minimum(high, case.ct.shape), strict=True))
    return candidate_mask(case.ct, case.protocol, (box[0], box[1], box[2])).flat


def lps_affine(node: Any) -> NDArray[np.float64]:
    """(4, 4), maps IJK of a volume node or of an oriented image to LPS mm."""
    matrix = vtk.vtkMatrix4x4()
    if isinstance(node, slicer.vtkOrientedImageData):
        node.GetImageToWorldMatrix(matrix)
    else:
        node.GetIJKToRASMatrix(matrix)
    return RAS_LPS @ np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def ras_matrix(affine: NDArray[np.float64]) -> Any:
    """The vtkMatrix4x4 that maps IJK to RAS mm, of an affine to LPS mm."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((RAS_LPS @ affine).ravel())
    return matrix


def array_of(image: Any) -> NDArray:
    """(k, j, i) view of the voxels of a vtkImageData; writing to it writes to the image."""
    columns, rows, slices = image.GetDimensions()
    if not columns * rows * slices or image.GetPointData().GetScalars() is None:
        return np.zeros((0, 0, 0), np.uint8)
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(slices, rows, columns)


def image_of(values: NDArray) -> Any:
    """A vtkImageData with a copy of (k, j, i) voxels; no node is touched, so it may be made in another thread."""
    scalars = vtk.vtkDataArray.CreateDataArray(get_vtk_array_type(values.dtype))
    scalars.SetNumberOfTuples(values.size)
    np.copyto(vtk_to_numpy(scalars).reshape(values.shape), values)  # VTK's own copy would keep the interpreter
    image = vtk.vtkImageData()
    image.SetDimensions(*values.shape[::-1])
    image.GetPointData().SetScalars(scalars)
    return image


def set_voxels(volume: Any, values: NDArray, affine: NDArray[np.float64]) -> None:
    """Give a volume node a copy of (k, j, i) voxels, and their place."""
    set_image(volume, image_of(values), affine)


def set_image(volume: Any, image: Any, affine: NDArray[np.float64]) -> None:
    """Give a volume node a vtkImageData, which is its own from now on, and its place."""
    volume.SetIJKToRASMatrix(ras_matrix(affine))
    volume.SetAndObserveImageData(image)


def on_ct_axes(values: NDArray, mapping: IndexMap) -> NDArray:
    """(k, j, i) view of a full grid with the axes of the CT."""
    source = np.abs(mapping.turn).argmax(axis=1)  # CT axis i, j, k is this axis of the grid
    turned: NDArray = values.transpose([2 - source[2 - axis] for axis in range(3)])
    backward = mapping.turn.sum(axis=1) < 0
    return np.flip(turned, tuple(2 - axis for axis in range(3) if backward[axis]))


def require_untransformed(node: Any, what: str) -> None:
    """Refuse a node under a transform: its voxels are not where its geometry says."""
    if node.GetParentTransformNode() is not None:
        raise InputRefused(
            "input",
            f"{what}: expected no transform, found one on it; in the Data module, right-click its transform and choose "
            "Harden transform, or drag the node out of it",
        )


def _values(volume: Any) -> NDArray:
    """(k, j, i) view of a scalar volume node's voxels."""
    if volume is None or not volume.IsA("vtkMRMLScalarVolumeNode"):
        raise InputRefused(
            "input", f"expected a CT volume, found {_kind(volume)}; choose a volume in the module's list"
        )
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputRefused("input", "expected a CT volume, found a label map; choose the CT it was drawn on")
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        raise InputRefused("input", "the volume: expected voxels, found none; load the series again")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise InputRefused(
            "input", f"the volume: expected one value per voxel, found {components}; choose the CT itself"
        )
    require_untransformed(volume, "the volume")
    return array_of(image)


def _kind(node: Any) -> str:
    return "none" if node is None else f"a {node.GetNodeTagName()} node"
