"""Which part of a scan a copy holds, and how it is packed.

A copy holds the heart with all that was labeled, in HU: a cursor, a slab and every window then show what the page with
a server shows. The whole scan in 8 bits of one window would have been as large, wrong outside of that window, and more
of the patient than the score is about.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.core.errors import InputRefused
from heartlens.viewer.state import AXES, runs_of

MARGIN_MM = 15.0
"""Around the heart: the arch of the aorta, the sternum and the spine help a reader to know where a plaque lies."""

MAX_BYTES = 24 * 2**20
"""Of the packed voxels as text; mail systems seldom take more than 25 MB."""

STEPS_HU = (1, 2, 4, 8)
"""Coarser HU pack better: of a noisy scan of 300 slices the exact ones can be too many for a mail."""

Box = tuple[slice, slice, slice]


def part_to_show(
    shape: Sequence[int], spacing_mm: Sequence[float], heart: Mapping[str, Sequence[int]], kji: NDArray[np.int64]
) -> Box:
    """The box of the heart with a margin, and of everything that is labeled.

    Parameters
    ----------
    shape
        Of the scan, (k, j, i).
    spacing_mm
        Of its voxels, (k, j, i).
    heart
        Its slices, rows and columns, end exclusive.
    kji
        (n, 3) labeled voxels.

    Examples
    --------
    A margin of 15 mm is 5 slices of 3 mm and 15 columns of 1 mm; a label in column 4 is taken in.

    >>> part_to_show(
    ...     (40, 60, 60), (3.0, 1.0, 1.0), {"slices": [8, 20], "rows": [30, 40], "columns": [30, 40]},
    ...     np.array([[10, 35, 4]]),
    ... )
    (slice(3, 25, None), slice(15, 55, None), slice(4, 55, None))
    """
    parts = []
    for axis, name in enumerate(AXES):
        margin = round(MARGIN_MM / spacing_mm[axis])
        start, stop = heart[name][0] - margin, heart[name][1] + margin
        if len(kji):
            start, stop = min(start, int(kji[:, axis].min())), max(stop, int(kji[:, axis].max()) + 1)
        parts.append(slice(max(0, start), min(int(shape[axis]), stop)))
    return parts[0], parts[1], parts[2]


def labeled_voxels(case: Case) -> NDArray[np.int64]:
    """(n, 3) voxels (k, j, i) that count."""
    return np.stack(np.unravel_index(case.counted.flat, case.ct.shape), axis=-1).astype(np.int64).reshape(-1, 3)


def cut_scan(scan: Mapping[str, Any], box: Box) -> dict[str, Any]:
    """What `geometry_of` says, of a part; slices keep the numbers that they have in the whole scan."""
    slices = box[0]
    return {
        **scan,
        "shape": [one.stop - one.start for one in box],
        "first_slice": slices.start,
        "dtype": "int16",
        "z_mm": scan["z_mm"][slices],
        "instances": scan["instances"][slices],
    }


def cut_state(state: Mapping[str, Any], case: Case, box: Box) -> dict[str, Any]:
    """What `state_of_session` says, of a part: the same numbers and words, with places in the part."""
    origin = [one.start for one in box]
    kji = labeled_voxels(case)
    ids = case.lesions.ids_at(case.counted.flat).astype(np.int64)
    flat = np.ravel_multi_index(tuple((kji - origin).T), [one.stop - one.start for one in box]).astype(np.int64)
    lesions = [
        {
            **row,
            "kji": [at - start for at, start in zip(row["kji"], origin, strict=True)],
            "slices": [k - origin[0] for k in row["slices"]],
        }
        for row in state["lesions"]
    ]
    return {**state, "lesions": lesions, "runs": runs_of(flat, ids)}


def pack(hu: NDArray[Any]) -> tuple[str, int]:
    """Pack voxels as base64 of gzip of little-endian int16, in the finest step of HU that is small enough.

    Parameters
    ----------
    hu
        (k, j, i).

    Returns
    -------
    tuple[str, int]
        The text, and the step in HU; 1 where HU are whole and as they were.

    Raises
    ------
    InputRefused
        ``output``: too large in the coarsest step.
    """
    for step in STEPS_HU:
        coarse = np.clip(np.rint(hu / np.float32(step)) * step, -32768, 32760).astype("<i2")
        packed = gzip.compress(coarse.tobytes(), 6, mtime=0)
        if len(packed) * 4 / 3 <= MAX_BYTES:
            return base64.b64encode(packed).decode(), step
    raise InputRefused(
        "output",
        f"the heart of this scan takes more than {MAX_BYTES // 2**20} MB in a copy: export the case instead, or score "
        "thicker slabs (--slab-mm)",
    )
