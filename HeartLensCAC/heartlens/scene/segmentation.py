"""Segmentations: an artery per voxel into segments, and segments, whoever painted them, into arteries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heartlens.case import Case
from heartlens.ct import CTVolume

if TYPE_CHECKING:
    from heartlens.scene.nodes import CaseNodes


def labels_of(segmentation: Any, ct: CTVolume) -> NDArray[np.uint8]:
    """`Artery` code of every voxel of a segmentation node, whatever program or tool made it.

    A segment's artery is that of its HeartLens tag, else of its name and anatomic region (as in `--segmentation`).
    Empty segments are ignored. The node is not changed.

    Returns
    -------
    (k, j, i) codes on the grid of `ct`; to score them, give them to `calcium.extract_lesions`

    Raises
    ------
    Refused : ``input`` (no segmentation, a transform on it, no binary labelmap); ``grid`` (its voxels are not those
        of the CT); ``labels`` (a segment with voxels names no artery, or two arteries share voxels)
    """
    raise NotImplementedError


def read_segmentation(scene: Any, nodes: CaseNodes, case: Case, *, who: str = "", when: str = "") -> Case:
    """Commit what the Segment Editor did: the case whose labels are those of the segmentation on the screen.

    Call it after every stroke, then `update_lesions` with its result, which takes painted voxels below the threshold
    and pieces below the minimum area off the screen again. All changes are one action in the case's undo.

    Parameters
    ----------
    who, when : reader and ISO 8601 time, kept with each edit

    Returns
    -------
    `case` itself, the same object, when nothing that counts has changed

    Raises
    ------
    Refused : as `labels_of`, or ``input`` when a node of the case was deleted; case and scene are as they were
    """
    raise NotImplementedError


def voxels_in(case: Case, volume: Any, extent: tuple[int, int, int, int, int, int]) -> NDArray[np.int64]:
    """C-order indices into `case.ct` of the voxels at or above the threshold within an IJK extent of the volume.

    Parameters
    ----------
    extent : first and last column, row and slice, inclusive, in the volume node's own IJK
    """
    raise NotImplementedError
