"""COCO: one 16-bit PNG a slice, and one annotation a calcified island with its mask as run lengths."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.components import label_components
from heartlens.core.lesions import Artery
from training.datasets.scans import LabeledScan

HU_OFFSET = 1024
"""PNG value minus this is HU; PNG knows no negative numbers."""


def write_coco(folder: Path, scans: Iterator[tuple[str, LabeledScan, dict[str, Any]]]) -> None:
    """Write ``images/`` and ``annotations.json`` (cocodataset.org/#format-data)."""
    (folder / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    provenances = []
    for name, scan, provenance in scans:
        provenances.append(provenance)
        labels = scan.labels if scan.labels is not None else np.zeros(scan.ct.shape, np.uint8)
        for k, (hu, codes) in enumerate(zip(scan.ct.hu, labels, strict=True)):
            file_name = f"{name}_{k:04d}.png"
            (folder / "images" / file_name).write_bytes(png16(hu))
            image_id = len(images) + 1
            images.append(
                {
                    "id": image_id,
                    "file_name": file_name,
                    "height": hu.shape[0],
                    "width": hu.shape[1],
                    "scan": scan.name,
                    "slice": k,
                    "z_mm": float(scan.ct.lps_mm([k, 0, 0])[2]),
                    "spacing_mm": list(scan.ct.spacing_mm),
                }
            )
            for artery, mask in votes(codes):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation(artery, mask)})
    document = {
        "info": {
            "description": "Coronary artery calcium by artery, from HeartLens",
            "version": provenances[0]["exported_by"] if provenances else "",
            "date_created": provenances[0]["exported_at"] if provenances else "",
            "hu_offset": HU_OFFSET,
            "provenance": provenances,
        },
        "licenses": [],
        "categories": [
            {
                "id": int(artery),
                "name": artery.name,
                "supercategory": "not coronary" if artery is Artery.OTHER else "coronary calcium",
            }
            for artery in Artery
        ],
        "images": images,
        "annotations": annotations,
    }
    (folder / "annotations.json").write_text(json.dumps(document) + "\n")


def votes(codes: NDArray[np.uint8]) -> Iterator[tuple[Artery, NDArray[np.bool_]]]:
    """4-connected islands of one artery on a slice, as (artery, (row, column) mask)."""
    flat = np.flatnonzero(codes)
    artery = codes.reshape(-1)[flat]
    island = label_components(flat, (1, *codes.shape), connectivity=4, group=artery)
    for n in range(int(island.max(initial=-1)) + 1):
        members = flat[island == n]
        mask = np.zeros(codes.shape, bool)
        mask.reshape(-1)[members] = True
        yield Artery(int(codes.reshape(-1)[members[0]])), mask


def annotation(artery: Artery, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Category, mask, area and box of one island.

    Examples
    --------
    >>> annotation(Artery.LAD, np.array([[0, 0], [1, 1], [0, 1]], bool))["segmentation"]
    {'size': [3, 2], 'counts': [1, 1, 2, 2]}
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "category_id": int(artery),
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": [int(v) for v in box],
        "iscrowd": 0,
    }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: column by column, the first run is of zeros."""
    values = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [values.size]]))
    return [int(n) for n in (np.concatenate([[0], lengths]) if values[0] else lengths)]


def png16(hu: NDArray) -> bytes:
    """A slice as a gray 16-bit PNG (ISO/IEC 15948); HU below -1024 become 0."""
    values = np.clip(np.rint(hu).astype(np.int64) + HU_OFFSET, 0, 65535).astype(">u2")
    rows, columns = values.shape
    lines = np.zeros((rows, 1 + 2 * columns), np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = values.view(np.uint8)
    header = struct.pack(">IIBBBBB", columns, rows, 16, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
