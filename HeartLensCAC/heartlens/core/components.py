"""Connected islands of a sparse set of voxels: the one place that says what "connected" means.

Calcium fills a few thousand of ten million voxels, so islands are found among the voxels, not in the volume.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBORS: dict[int, tuple[tuple[int, int, int], ...]] = {
    4: ((0, 0, 1), (0, 1, 0)),
    8: ((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)),
    6: ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    26: tuple((dk, dj, di) for dk in (0, 1) for dj in (-1, 0, 1) for di in (-1, 0, 1) if (dk, dj, di) > (0, 0, 0)),
}
"""Half of each neighborhood, (slice, row, column); the other half is its mirror. 4 and 8 stay in the slice."""


def label_components(
    flat: NDArray[np.int64],
    shape: tuple[int, int, int],
    *,
    connectivity: int,
    group: NDArray | None = None,
) -> NDArray[np.int64]:
    """Number the connected islands of a set of voxels.

    Parameters
    ----------
    flat
        (n,) C-order indices into a (k, j, i) array, ascending, no repeats
    shape
        Of that array.
    connectivity
        4 or 8 within a slice, 6 or 26 in space
    group
        (n,) neighbors are joined only where this is equal (artery, say); None joins all

    Returns
    -------
    NDArray[np.int64]
        (n,) island of each voxel, 0-based, numbered by first voxel

    Examples
    --------
    Two voxels that touch by a corner are two islands with 4 neighbors and one with 8:

    >>> label_components(np.array([0, 3]), (1, 2, 2), connectivity=4)
    array([0, 1])
    >>> label_components(np.array([0, 3]), (1, 2, 2), connectivity=8)
    array([0, 0])
    """
    if connectivity not in NEIGHBORS:
        raise ValueError(f"connectivity must be one of {sorted(NEIGHBORS)}, got {connectivity}")
    flat = flat.astype(np.int64, copy=False)
    a, b = _edges(flat, shape, NEIGHBORS[connectivity], group)
    root = np.arange(flat.size, dtype=np.int64)
    while a.size:
        # Hook the larger root of every edge to the smaller one, then flatten all chains.
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        np.minimum.at(root, high, low)
        while True:
            flatter = root[root]
            if np.array_equal(flatter, root):
                break
            root = flatter
        open_edge = root[a] != root[b]
        a, b = a[open_edge], b[open_edge]
    return np.unique(root, return_inverse=True)[1].reshape(-1)


def _edges(
    flat: NDArray[np.int64],
    shape: tuple[int, int, int],
    offsets: tuple[tuple[int, int, int], ...],
    group: NDArray | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of positions in `flat` that are neighbors; (m,), (m,)."""
    _, rows, columns = shape
    column = flat % columns
    row = (flat // columns) % rows
    starts, ends = [], []
    for dk, dj, di in offsets:
        inside = (row + dj >= 0) & (row + dj < rows) & (column + di >= 0) & (column + di < columns)
        source = np.flatnonzero(inside)
        wanted = flat[source] + (dk * rows + dj) * columns + di
        position = np.searchsorted(flat, wanted)
        position[position == flat.size] = 0
        hit = flat[position] == wanted if flat.size else np.zeros(0, bool)
        source, position = source[hit], position[hit]
        if group is not None:
            same = group[source] == group[position]
            source, position = source[same], position[same]
        starts.append(source)
        ends.append(position)
    return np.concatenate(starts), np.concatenate(ends)
