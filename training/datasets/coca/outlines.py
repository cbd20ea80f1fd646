"""From an outline to pixels: the pixels inside it, and the whole calcium islands that it touches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.components import label_components

ON_EDGE_PX = 1e-6
"""A pixel center this near to the outline lies on it, and belongs to it."""


def pixels_inside(points: ArrayLike, shape: tuple[int, int], *, with_edge: bool = True) -> NDArray[np.int64]:
    """Pixels whose center lies inside a polygon (even-odd rule), or on its edge.

    A polygon that holds no pixel center (one or two points, or a sliver) gives the pixels of its vertices.

    Parameters
    ----------
    points
        (n, 2), (column, row); pixel centers have whole numbers
    shape
        Rows, columns; what lies outside is cut off.
    with_edge
        Centers that lie on the edge belong to it.

    Returns
    -------
    NDArray[np.int64]
        (m,) flat C-order indices, ascending

    Examples
    --------
    >>> pixels_inside([(0.6, 0.6), (2.4, 0.6), (2.4, 1.4), (0.6, 1.4)], (4, 4))
    array([5, 6])
    >>> pixels_inside([(2.2, 0.9)], (4, 4))
    array([6])
    """
    rows, columns = shape
    xy = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(xy) >= 3:
        low = np.maximum(np.ceil(xy.min(axis=0) - ON_EDGE_PX), 0).astype(np.int64)
        high = np.minimum(np.floor(xy.max(axis=0) + ON_EDGE_PX), (columns - 1, rows - 1)).astype(np.int64)
        if (low <= high).all():
            x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
            inside = _inside(x.ravel(), y.ravel(), xy, with_edge)
            if inside.any():
                return (y.ravel() * columns + x.ravel())[inside]
    x, y = np.rint(xy).astype(np.int64).T
    kept = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    return np.unique(y[kept] * columns + x[kept])


def polygon_area_px(points: ArrayLike) -> float:
    """Area of a polygon in pixels, by the shoelace formula."""
    x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def components_of_slice(hu: NDArray, threshold_hu: float) -> NDArray[np.int64]:
    """4-connected islands of the pixels that reach the threshold.

    Parameters
    ----------
    hu
        (row, column), HU

    Returns
    -------
    NDArray[np.int64]
        (row, column), 1-based number of each pixel's island, 0 below the threshold
    """
    numbered = np.zeros(hu.shape, np.int64)
    flat = np.flatnonzero(hu >= threshold_hu)
    numbered.reshape(-1)[flat] = label_components(flat, (1, *hu.shape), connectivity=4) + 1
    return numbered


def share_components(
    islands: NDArray[np.int64], outlines: Sequence[NDArray[np.int64]], arteries: Sequence[int]
) -> NDArray[np.uint8]:
    """Give every island that an outline touches an artery, the whole island, to its rims.

    Where outlines of several arteries touch one island, each keeps its own pixels, the earlier outline where they
    overlap, and the rest goes to the artery with most of them.

    Parameters
    ----------
    islands
        (row, column), from `components_of_slice`
    outlines
        Flat pixel indices of each outline.
    arteries
        Code of each outline.

    Returns
    -------
    NDArray[np.uint8]
        (row, column) artery codes
    """
    codes = np.zeros(islands.size, np.uint8)
    flat_islands = islands.reshape(-1)
    for pixels, artery in zip(outlines, arteries, strict=True):
        bright = pixels[(flat_islands[pixels] > 0) & (codes[pixels] == 0)]
        codes[bright] = artery
    for island in np.unique(flat_islands[codes > 0]):
        members = np.flatnonzero(flat_islands == island)
        own = codes[members]
        codes[members[own == 0]] = np.argmax(np.bincount(own[own > 0]))
    return codes.reshape(islands.shape)


def _inside(x: NDArray[np.int64], y: NDArray[np.int64], xy: NDArray[np.float64], with_edge: bool) -> NDArray[np.bool_]:
    """(p,) whether each point lies in the polygon; one edge at a time, as outlines are short."""
    inside = np.zeros(x.size, bool)
    on_edge = np.zeros(x.size, bool)
    for (x0, y0), (x1, y1) in zip(xy, np.roll(xy, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length2, 0, 1) if length2 else np.zeros(x.size)
        on_edge |= (x0 + along * (x1 - x0) - x) ** 2 + (y0 + along * (y1 - y0) - y) ** 2 <= ON_EDGE_PX**2
    return inside | on_edge if with_edge else inside & ~on_edge
