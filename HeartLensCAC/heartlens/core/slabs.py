"""Thin slices averaged into thicker ones before scoring, and labels carried there and back.

Thin slices are noisier and raise the score (docs/method.md, "Thin slices"); averaging is off unless asked for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume, hu_array


def slices_per_slab(ct: CTVolume, slab_mm: float) -> int:
    """How many source slices make one slab of at least about `slab_mm`; 1: the slices are thick already.

    Raises
    ------
    ValueError
        The slab is thicker than the whole scan.
    """
    count = max(1, round(slab_mm / ct.increment_mm))
    if count > ct.shape[0]:
        raise ValueError(f"a slab of {slab_mm:g} mm needs {count} slices, the scan has {ct.shape[0]}")
    return count


def average_slabs(ct: CTVolume, count: int) -> CTVolume:
    """Mean of every `count` neighboring slices, from the foot end; a remainder at the head end is left out.

    Overlapping slices are averaged like contiguous ones: the increment of the result is `count` increments and
    its thickness reaches from the first slice's lower to the last slice's upper face.
    """
    if count == 1:
        return ct
    slabs = ct.shape[0] // count
    stack = ct.hu[: slabs * count].reshape(slabs, count, *ct.shape[1:])
    mean = np.empty((slabs, *ct.shape[1:]), np.float32)
    for slab in range(slabs):  # one slab at a time: a float64 copy of a 300-slice chest would be 600 MB
        mean[slab] = stack[slab].mean(axis=0, dtype=np.float64)
    affine = np.array(ct.affine)
    affine[:3, 3] += affine[:3, 2] * (count - 1) / 2
    affine[:3, 2] *= count
    thickness_mm = ct.header.slice_thickness_mm
    if thickness_mm is not None:
        thickness_mm += (count - 1) * ct.increment_mm
    header = replace(
        ct.header, slice_thickness_mm=thickness_mm, sop_instance_uids=(), frame_numbers=(), instance_numbers=()
    )
    return CTVolume(hu_array(mean), affine, header, allow_oblique=ct.allow_oblique)


def slab_labels(codes: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Labels of the slabs: the most frequent label of each pixel's slices, the smaller number on a tie.

    Parameters
    ----------
    codes
        (k, j, i), 0 = none; a pixel labeled on any slice is labeled in the slab
    count
        Slices of one slab.
    """
    if count == 1:
        return codes
    slabs = codes.shape[0] // count
    stack = codes[: slabs * count].reshape(slabs, count, *codes.shape[1:])
    best = np.zeros((slabs, *codes.shape[1:]), np.uint8)
    votes = np.zeros(best.shape, np.uint8)
    for code in np.unique(codes[codes > 0]):
        mine = (stack == code).sum(axis=1, dtype=np.uint8)
        best[mine > votes] = code
        np.maximum(votes, mine, out=votes)
    return best


def source_voxels(slab_flat: NDArray[np.int64], count: int, in_slice: int) -> NDArray[np.int64]:
    """Source voxels of slab voxels, `count` for each, slice after slice: (n,) to (n * count,) C-order indices.

    Parameters
    ----------
    slab_flat
        (n,) C-order indices into the slabs
    count
        Slices of one slab.
    in_slice
        Voxels of one slice.
    """
    slab, pixel = np.divmod(slab_flat, in_slice)
    slices = slab[:, None] * count + np.arange(count)
    return (slices * in_slice + pixel[:, None]).reshape(-1)
