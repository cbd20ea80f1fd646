"""Where the heart of each scan lies, found once and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from heartlens.anatomy import heart_region
from heartlens.core.atomic import atomic_file
from heartlens.networks.view import heart_center
from training.datasets.shards import ShardSet
from training.engine.distributed import Ranks, barrier


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
            ct = shards.ct(n)
            region = heart_region(ct)
            span = region.box(ct)[0].indices(ct.shape[0])[:2] if region.in_view else (0, 0)
            span = span if span[1] > span[0] else (0, ct.shape[0])
            hearts[shards.scans[n].voxels_sha256] = [*heart_center(ct, region), *map(float, span)]
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
