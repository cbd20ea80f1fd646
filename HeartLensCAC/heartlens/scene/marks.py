"""Voxels that views are to point out beside a case, such as those on which two readings differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.core.grid import index_map
from heartlens.scene.geometry import array_of, lps_affine
from heartlens.scene.segmentation import BINARY, label_image
from heartlens.scoring.counted import Labeled

OUTLINE_PX = 3
"""Thickness: the colors of the arteries lie beneath."""


@dataclass(frozen=True, eq=False)
class Mark:
    """Voxels of one color.

    Parameters
    ----------
    name
        What they are.
    color
        As #RRGGBB.
    flat
        (n,) C-order indices into the CT as it was read, ascending; no voxel is in two marks
    """

    name: str
    color: str
    flat: NDArray[np.int64]


def show_marks(scene: Any, case: Case, volume: Any, marks: Sequence[Mark], name: str) -> Any:
    """Outline voxels in slice views, in a segmentation that no selector offers and that is not saved.

    Parameters
    ----------
    scene
        vtkMRMLScene
    case
        The case on the screen.
    volume
        vtkMRMLScalarVolumeNode on which it was scored
    marks
        What to outline; 255 at most.
    name
        Of the node.

    Returns
    -------
    vtkMRMLSegmentationNode
        One segment a mark, in their order.
    """
    ct = case.source_ct
    flat = np.concatenate([mark.flat for mark in marks]) if marks else np.zeros(0, np.int64)
    codes = np.repeat(np.arange(1, len(marks) + 1, dtype=np.uint8), [mark.flat.size for mark in marks])
    order = np.argsort(flat)
    mapping = index_map(array_of(volume.GetImageData()).shape, lps_affine(volume), ct, "the volume")
    image = label_image(Labeled(flat[order], codes[order]), ct, volume, mapping)
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    node = scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    for value, mark in enumerate(marks, 1):
        segment = slicer.vtkSegment()
        segment.SetName(mark.name)
        segment.SetColor(*(int(mark.color[at : at + 2], 16) / 255 for at in (1, 3, 5)))
        segment.SetLabelValue(value)
        segment.AddRepresentation(BINARY, image)
        node.GetSegmentation().AddSegment(segment)
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(OUTLINE_PX)
    display.SetVisibility3D(False)
    return node
