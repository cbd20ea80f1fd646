"""Volumes: a MRML volume node as a `CTVolume`, and where a point of a view lies in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.ct import CTVolume
from heartlens.refusal import Caution


def case_ct(
    volume: Any,
    *,
    kvp: float | None = None,
    slice_thickness_mm: float | None = None,
    allow: frozenset[str] | set[str] = frozenset(),
) -> tuple[CTVolume, list[Caution]]:
    """A scalar volume node as a CT, for scoring what is on the screen.

    The header knows the SOP Instance UIDs when the node was loaded from DICOM and has one per slice; nothing else of
    the header is on the node (tube voltage and thickness are read from the DICOM files, or said by the reader).

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode
    kvp, slice_thickness_mm : what the node does not say
    allow : overridable refusals that the user has lifted

    Returns
    -------
    ct : axes nearest to (S, P, L); no voxel resampled or changed
    cautions : what was allowed or had to be assumed; ``changed`` when the node came from DICOM and no longer has the
        slices of its series

    Raises
    ------
    Refused : ``input`` (no volume, a label map, several components, no voxels, a transform on it), ``tilt``,
        ``not-axial``, ``few-slices``, ``no-hu``, ``unreadable``
    """
    raise NotImplementedError


def index_of(ct: CTVolume, ras_mm: ArrayLike) -> NDArray[np.float64]:
    """Fractional (..., 3) index [k, j, i] of (..., 3) RAS points, as a click in a slice view gives them."""
    raise NotImplementedError


def position_of(ct: CTVolume, kji: ArrayLike) -> NDArray[np.float64]:
    """(..., 3) RAS mm of array indices: where to center the views. For LPS mm, as reports have, negate x and y."""
    raise NotImplementedError
