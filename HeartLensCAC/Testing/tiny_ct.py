"""A CT of a few voxels, for tests with a visible answer."""

from __future__ import annotations

import numpy as np

from heartlens.core.ct import CTHeader, CTVolume, hu_array


def make_ct(hu: object, *, spacing_mm: tuple[float, float, float] = (3.0, 0.5, 0.5), **header: object) -> CTVolume:
    """A CT of these HU values; spacing is (slice, row, column), thickness equals the increment unless said."""
    affine = np.diag([spacing_mm[2], spacing_mm[1], spacing_mm[0], 1.0])
    facts = {"slice_thickness_mm": spacing_mm[0], "kvp": 120.0, **header}
    return CTVolume(hu_array(np.asarray(hu)), affine, CTHeader(**facts))
