"""A second, slow and plain implementation of the scores, written from docs/method.md and nothing else.

It shares no code with `heartlens.scoring`: pixels are visited one by one, islands by flood fill.
Labels here are arteries (0 none, 1-4 coronary, 5 other, 6 unassigned), not lesions.
"""

from __future__ import annotations

from collections import deque

IN_SLICE = {
    4: [(0, 1), (1, 0), (0, -1), (-1, 0)],
    8: [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)],
}
AROUND = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) if (a, b, c) != (0, 0, 0)]


def slice_islands(hu, labels, k, artery, threshold, connectivity):
    """Pixel lists of the islands of one artery on one slice."""
    rows, columns = len(hu[k]), len(hu[k][0])
    todo = {
        (j, i) for j in range(rows) for i in range(columns) if labels[k][j][i] == artery and hu[k][j][i] >= threshold
    }
    islands = []
    while todo:
        queue = deque([todo.pop()])
        island = []
        while queue:
            j, i = queue.popleft()
            island.append((j, i))
            for dj, di in IN_SLICE[connectivity]:
                if (j + dj, i + di) in todo:
                    todo.remove((j + dj, i + di))
                    queue.append((j + dj, i + di))
        islands.append(island)
    return islands


def weight_of(peak, edges):
    if peak >= edges[3]:
        return 4
    if peak >= edges[2]:
        return 3
    if peak >= edges[1]:
        return 2
    if peak >= edges[0]:
        return 1
    return 0


def plain_score(hu, labels, *, pixel_area, increment, edges, min_area, min_pixels, connectivity, k_factor, mass_factor):
    """Agatston, volume, mass and area per artery, dropped islands, and accepted voxels per artery."""
    out = {a: {"agatston": 0.0, "volume": 0.0, "mass": 0.0, "lesions": 0} for a in range(1, 7)}
    accepted = {a: set() for a in range(1, 7)}
    dropped, dropped_area = 0, 0.0
    for k in range(len(hu)):
        for artery in range(1, 7):
            for island in slice_islands(hu, labels, k, artery, edges[0], connectivity):
                area = len(island) * pixel_area
                if area < min_area - 1e-6 or len(island) < min_pixels:
                    if artery != 5:
                        dropped += 1
                        dropped_area += area
                    continue
                values = [float(hu[k][j][i]) for j, i in island]
                out[artery]["agatston"] += area * weight_of(max(values), edges) * k_factor
                out[artery]["volume"] += area * increment
                out[artery]["mass"] += mass_factor * area * increment * (sum(values) / len(values))
                accepted[artery] |= {(k, j, i) for j, i in island}
    for artery, voxels in accepted.items():
        out[artery]["lesions"] = count_groups(voxels)
    return out, dropped, dropped_area, accepted


def count_groups(voxels):
    """Number of 26-connected groups."""
    todo, groups = set(voxels), 0
    while todo:
        groups += 1
        queue = deque([todo.pop()])
        while queue:
            k, j, i = queue.popleft()
            for dk, dj, di in AROUND:
                neighbor = (k + dk, j + dj, i + di)
                if neighbor in todo:
                    todo.remove(neighbor)
                    queue.append(neighbor)
    return groups
