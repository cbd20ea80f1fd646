"""What lies under the mouse, as Slicer's crosshair node tells it while the mouse is in a slice view."""

from collections.abc import Callable
from typing import Any

import slicer
from numpy.typing import NDArray

from heartlens.app.review_session import ReviewSession
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from HeartLensCACLib.Interaction.BoxPrompt import extentOf
from HeartLensCACLib.Words import showError


def pointedAt() -> "tuple[float, float, float] | None":
    """The point of the patient under the mouse, RAS in mm; None where the mouse is in no slice view, or in a slab."""
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    ras, xyz = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    if crosshair is None or not crosshair.GetCursorPositionRAS(ras):
        return None
    view = crosshair.GetCursorPositionXYZ(xyz)
    return None if view is None or view.GetSlabReconstructionEnabled() else (ras[0], ras[1], ras[2])


def voxelAt(reading: ReviewSession, nodes: Any, ras: "tuple[float, float, float]") -> "NDArray[Any]":
    """Index (k, j, i) into the CT of a point of the patient in RAS mm, fractions kept.

    Raises
    ------
    InputRefused
        ``input``: under a transform the views show another place than the one that would be edited
    """
    from heartlens.scene import index_of, require_untransformed

    require_untransformed(nodes.volume, "the volume")
    require_untransformed(nodes.segmentation, "the segmentation")
    return index_of(reading.case.source_ct, ras)


def lesionUnderMouse(shown: Any) -> "int | None":
    """Id of the lesion under the mouse; None where there is none, or the views do not show the case as it is.

    Parameters
    ----------
    shown
        With `reading`, a ReviewSession or None, and `nodes` that show it.
    """
    ras = None if shown.reading is None else pointedAt()
    if ras is None:
        return None
    try:
        lesion: int | None = shown.reading.lesion_at(voxelAt(shown.reading, shown.nodes, ras))
    except InputRefused:
        return None
    return lesion


def assignAt(
    reading: ReviewSession,
    nodes: Any,
    ras: "tuple[float, float, float]",
    artery: Artery,
    inSlice: bool,
    edited: "Callable[[], None]",
) -> str:
    """A click in a slice view: the island there, or its part in the slice, goes to an artery.

    Parameters
    ----------
    ras
        Where, in mm.
    edited
        Called when something changed.

    Returns
    -------
    str
        Code of the refusal that the reader was told in the status line; "" for none.
    """
    try:
        kji = voxelAt(reading, nodes, ras)
    except InputRefused as refused:
        showError(refused)
        return ""
    try:
        if reading.assign_at(kji, artery, in_slice=inSlice):
            edited()
    except InputRefused as refused:
        slicer.util.showStatusMessage(refused.text, 5000)
        return refused.code
    return ""


def assignBox(
    reading: ReviewSession, nodes: Any, corners: "list[Any]", artery: Artery, edited: "Callable[[], None]"
) -> None:
    """A box in a slice view: the islands that have a voxel in it go to an artery.

    Parameters
    ----------
    corners
        RAS in mm.
    edited
        Called when something changed.
    """
    from heartlens.scene import require_untransformed, voxels_in

    try:
        require_untransformed(nodes.volume, "the volume")
        require_untransformed(nodes.segmentation, "the segmentation")
        flat = voxels_in(reading.case, nodes.volume, extentOf(nodes.volume, corners))
        if reading.assign_touched(flat, artery):
            edited()
    except InputRefused as refused:
        slicer.util.showStatusMessage(refused.text, 5000)
