"""Where the heart of each scan lies, found once and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heartlens.anatomy import heart_region
from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTVolume
from heartlens.networks.view import heart_center
from training.datasets.shards import ShardSet
from training.engine.distributed import Ranks, barrier

HEARTS = "hearts.json"

SQUARE_MM = 180.0
"""What is kept of a training slice around the heart: what the networks see, and room to shift it."""


def heart_of(ct: CTVolume) -> list[float]:
    """[row, column, first slice, last slice + 1] of the heart, as `find_hearts` tells it."""
    region = heart_region(ct)
    low, high = region.box(ct)[0].indices(ct.shape[0])[:2] if region.in_view else (0, 0)
    low, high = (low, high) if high > low else (0, ct.shape[0])
    return [*heart_center(ct, region), float(low), float(high)]


def around_heart(ct: CTVolume, heart: Sequence[float]) -> tuple[tuple[slice, slice, slice], list[float]]:
    """The part of a scan that training keeps: a square around the heart, and one slice more at each end.

    Returns
    -------
    window : tuple[slice, slice, slice]
        Of the scan.
    heart : list[float]
        Where the heart lies in it.
    """
    row, column, low, high = heart
    first = max(int(low) - 1, 0)
    rows, columns = (_around(c, n, s) for c, n, s in zip((row, column), ct.shape[1:], ct.spacing_mm[1:], strict=True))
    window = (slice(first, int(high) + 1), rows, columns)
    return window, [row - rows.start, column - columns.start, low - first, high - first]


def cut(ct: CTVolume, window: tuple[slice, ...]) -> CTVolume:
    """A part of a scan, where it lay."""
    hu = np.ascontiguousarray(ct.hu[window])
    affine = ct.affine.copy()
    affine[:3, 3] = (ct.affine @ (window[2].start, window[1].start, window[0].start, 1.0))[:3]
    return CTVolume(hu, affine, replace(ct.header, sop_instance_uids=ct.header.sop_instance_uids[window[0]]))


def _around(center: float, length: int, spacing_mm: float) -> slice:
    """Rows or columns around the heart, a multiple of 32 of them, so that shards of one size hold many scans."""
    wanted = min(-(-round(SQUARE_MM / spacing_mm) // 32) * 32, length)
    first = min(max(round(center - wanted / 2), 0), length - wanted)
    return slice(first, first + wanted)


def find_hearts(shards: ShardSet, scans: Sequence[int], path: Path, ranks: Ranks) -> dict[str, list[float]]:
    """Middle of the heart in each scan, and the slices it spans, found once and kept in a file.

    Returns
    -------
    dict[str, list[float]]
        by checksum of the voxels: [row, column, first slice, last slice + 1]
    """
    if ranks.is_first:
        hearts = _read_hearts(path)
        missing = [n for n in scans if shards.scans[n].voxels_sha256 not in hearts]
        for n in missing:
            hearts[shards.scans[n].voxels_sha256] = heart_of(shards.ct(n))
        if missing:
            with atomic_file(path) as sibling:
                sibling.write_text(json.dumps(hearts))
    barrier()
    return _read_hearts(path)


def _read_hearts(path: Path) -> dict[str, list[float]]:
    try:
        return {str(k): [float(x) for x in v] for k, v in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # not there yet, or cut short: found again
