"""Agatston score: area times density weight, slice by slice. docs/method.md, "Agatston score"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.components import label_components
from heartlens.core.protocol import EDGES_BY_KVP_HU, ScoringProtocol


def density_weight(peak_hu: ArrayLike, *, edges_hu: Sequence[float] = EDGES_BY_KVP_HU[120]) -> NDArray[np.int64]:
    """Weight 0 to 4 of an island on one slice, from its brightest voxel.

    Parameters
    ----------
    peak_hu
        (n,), HU; may be fractional
    edges_hu
        Lower edges of weights 1 to 4, ascending; a peak equal to an edge takes the higher weight.

    Examples
    --------
    >>> density_weight([129, 130, 199.9, 200, 400])
    array([0, 1, 1, 2, 4])
    """
    return np.searchsorted(np.asarray(edges_hu, dtype=np.float64), peak_hu, side="right")


@dataclass(frozen=True)
class SliceComponents:
    """2-D islands of calcium, each within one slice and one artery.

    Parameters
    ----------
    of_voxel
        (n,) island of each voxel
    pixels
        (m,) size
    peak_hu
        (m,)
    kept
        (m,) bool, large enough to count
    weight
        (m,) 0 to 4; 0 where not kept
    """

    of_voxel: NDArray[np.int64]
    pixels: NDArray[np.int64]
    peak_hu: NDArray[np.float64]
    kept: NDArray[np.bool_]
    weight: NDArray[np.int64]


def weigh_components(
    flat: NDArray[np.int64],
    hu: NDArray,
    artery: NDArray,
    shape: tuple[int, int, int],
    *,
    protocol: ScoringProtocol,
    pixel_area_mm2: float,
) -> SliceComponents:
    """Split voxels into islands by slice and artery, drop the small ones, weigh the rest.

    Parameters
    ----------
    flat
        (n,) C-order indices into (k, j, i), ascending; every voxel at or above the threshold
    hu
        (n,)
    artery
        (n,) islands do not cross from one to another
    shape
        Of the volume.
    protocol
        Has connectivity, minimum area and the edges of the weights.
    pixel_area_mm2
        Area of a pixel within its slice.
    """
    of_voxel = label_components(flat, shape, connectivity=protocol.connectivity, group=artery)
    count = int(of_voxel.max(initial=-1)) + 1
    pixels = np.bincount(of_voxel, minlength=count)
    peak_hu = np.full(count, -np.inf)
    np.maximum.at(peak_hu, of_voxel, hu)
    kept = protocol.keeps(pixels, pixel_area_mm2)
    weight = np.where(kept, density_weight(peak_hu, edges_hu=protocol.edges_hu), 0)
    return SliceComponents(of_voxel, pixels, peak_hu, kept, weight)


def agatston(weight_sum: float, *, pixel_area_mm2: float, slice_factor: float) -> float:
    """Score of voxels whose weights sum to `weight_sum`: sum of area x weight, times k.

    Every pixel of an island carries the island's weight, so an island of A mm2 and weight w adds A x w,
    and any grouping of voxels (lesion, artery, slice) adds up to the same total.
    """
    return float(weight_sum) * pixel_area_mm2 * slice_factor
