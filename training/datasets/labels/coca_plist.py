"""Outlines in the shape of COCA: an XML property list a scan, one ROI a calcified island.

They are read back by `training.datasets.coca`.

The images stay where they are: a patient's scan is not written again. Lay the DICOM files of scan N in ``patient/N/``
beside ``calcium_xml/`` and the folder is a COCA download.
"""

from __future__ import annotations

import json
import plistlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from training.datasets.coca.annotations import VESSELS
from training.datasets.coca.outlines import polygon_area_px
from training.datasets.labels.coco import votes
from training.datasets.scans import LabeledScan

CLOSED_POLYGON = 11
"""OsiriX's ROI type."""

_NAMES = {**{artery: name for name, artery in VESSELS.items()}, Artery.UNASSIGNED: "Unassigned"}


def write_coca(folder: Path, scans: Iterator[tuple[str, LabeledScan, dict[str, Any]]]) -> None:
    """Write ``calcium_xml/N.xml`` for N = 1, 2, ... and ``scans.json``, which says what each N is.

    Calcium outside the coronary arteries has no name in COCA; it is left out and counted.
    """
    (folder / "calcium_xml").mkdir()
    provenance_of_scan = {}
    for n, (_, scan, provenance) in enumerate(scans, start=1):
        images, left_out = roi_images(scan)
        provenance_of_scan[str(n)] = {**provenance, "islands_not_coronary_left_out": left_out}
        document = {"Images": images, "HeartLens": json.dumps(provenance_of_scan[str(n)])}
        (folder / "calcium_xml" / f"{n}.xml").write_bytes(plistlib.dumps(document, sort_keys=False))
    (folder / "scans.json").write_text(json.dumps(provenance_of_scan, indent=1) + "\n")


def roi_images(scan: LabeledScan) -> tuple[list[dict[str, Any]], int]:
    """Entries of ``Images``, for slices with coronary calcium, and how many islands were not coronary."""
    images = []
    left_out = 0
    labels = scan.labels if scan.labels is not None else np.zeros(scan.ct.shape, np.uint8)
    for k in np.flatnonzero(labels.any(axis=(1, 2))):
        rois: list[dict[str, Any]] = []
        for artery, mask in votes(labels[k]):
            if artery is Artery.OTHER:
                left_out += 1
            else:
                rois.append(_roi(scan.ct, int(k), _NAMES[artery], mask, len(rois)))
        if rois:
            images.append({"ImageIndex": int(k), "NumberOfROIs": len(rois), "ROIs": rois})
    return images, left_out


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Polygon that holds exactly the pixels of an island, along their edges; holes hang on it by bridges of no width.

    Parameters
    ----------
    mask
        (row, column), one 4-connected island

    Returns
    -------
    NDArray[np.float64]
        (n, 2), (column, row)

    Examples
    --------
    >>> outline(np.array([[0, 0, 0], [0, 1, 1]], bool)).tolist()
    [[0.5, 0.5], [2.5, 0.5], [2.5, 1.5], [0.5, 1.5]]
    """
    loops = _edge_loops(mask)
    points = list(loops[0])
    start = points[0]
    for loop in loops[1:]:
        # Along pixel edges, so that a bridge never passes through a pixel's center.
        corner = (start[0], loop[0][1])
        points += [start, corner, *loop, loop[0], corner]
    return np.array([*points, start] if len(loops) > 1 else points)


def _edge_loops(mask: NDArray[np.bool_]) -> list[list[tuple[float, float]]]:
    """Closed loops of pixel edges with the island at their right hand, corners only."""
    padded = np.pad(mask, 1)
    ahead: dict[
        tuple[int, int], list[tuple[int, int]]
    ] = {}  # grid corner (x, y) -> directions of edges that begin there
    for y, x in np.argwhere(mask):
        y, x = int(y), int(x)
        for (dy, dx), begin, direction in (
            ((-1, 0), (x, y), (1, 0)),
            ((0, 1), (x + 1, y), (0, 1)),
            ((1, 0), (x + 1, y + 1), (-1, 0)),
            ((0, -1), (x, y + 1), (0, -1)),
        ):
            if not padded[y + 1 + dy, x + 1 + dx]:
                ahead.setdefault(begin, []).append(direction)
    loops = []
    while ahead:
        at = min(ahead, key=lambda corner: (corner[1], corner[0]))  # the first loop is the outer one
        direction = ahead[at][0]
        first = at
        corners = [at]
        while True:
            _take(ahead, at, direction)
            at = (at[0] + direction[0], at[1] + direction[1])
            if at == first:
                break
            right = (-direction[1], direction[0])
            left = (direction[1], -direction[0])
            # Where two pixels meet at a corner only, turning right stays with the pixel: islands are 4-connected.
            turn = next(d for d in (right, direction, left) if d in ahead[at])
            if turn != direction:
                corners.append(at)
            direction = turn
        loops.append([(x - 0.5, y - 0.5) for x, y in corners])
    return loops


def _take(
    ahead: dict[tuple[int, int], list[tuple[int, int]]], corner: tuple[int, int], direction: tuple[int, int]
) -> None:
    ahead[corner].remove(direction)
    if not ahead[corner]:
        del ahead[corner]


def _roi(ct: CTVolume, k: int, name: str, mask: NDArray[np.bool_], index: int) -> dict[str, Any]:
    points = outline(mask)
    place_mm = ct.lps_mm(np.column_stack([np.full(len(points), k), points[:, 1], points[:, 0]]))
    center_mm = ct.lps_mm([k, *np.argwhere(mask).mean(axis=0)])
    hu = ct.hu[k][mask].astype(np.float64)
    steps = np.diff(points, axis=0, append=points[:1]) * [ct.spacing_mm[2], ct.spacing_mm[1]]
    return {
        "Area": polygon_area_px(points) * ct.pixel_area_mm2 / 100,
        "Center": _text(center_mm),
        "Dev": float(hu.std()),
        "IndexInImage": index,
        "Length": float(np.linalg.norm(steps, axis=1).sum() / 10),
        "Max": float(hu.max()),
        "Mean": float(hu.mean()),
        "Min": float(hu.min()),
        "Name": name,
        "NumberOfPoints": len(points),
        "Point_mm": [_text(point) for point in place_mm],
        "Point_px": [_text(point) for point in points],
        "Total": float(hu.sum()),
        "Type": CLOSED_POLYGON,
    }


def _text(numbers: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{float(v):f}' for v in numbers)})"
