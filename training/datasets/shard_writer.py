"""Write shards: whole folders, each scan once, with everything in the index that training asks of a scan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartlens import __version__
from heartlens.core.atomic import atomic_folder
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.risk.categories import category
from heartlens.scoring.report import score_lesions
from training.datasets.phantom_sets import refuse_judges
from training.datasets.scans import UNREVIEWED, LabeledScan, Skipped
from training.datasets.shards import INDEX, SCHEMA, ScanRecord, ShardFile, ShardSet, file_sha256

SHARD_BYTES = 128 * 2**20
"""Images of a shard; a scan is never divided, so a long one may exceed it."""

CATEGORY_SCHEME = "dino-lg"
"""The paper's four categories, by which patients are shared out."""


def write_shards(
    out: Path,
    scans: Iterable[LabeledScan | Skipped],
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[str], None] | None = None,
) -> ShardSet:
    """Write scans, in their order, into a new folder: whole or not at all.

    A scan whose voxels are there already, under any name, is listed as skipped: it would count twice.

    Parameters
    ----------
    out
        Folder to make.
    scans
        `Skipped` entries are listed in the index
    shard_bytes
        Of the images of one shard.

    Raises
    ------
    InputRefused
        "output"; "input" when no scan is left, or one judges and may not teach
    """
    with atomic_folder(out) as folder:
        writer = _Writer(folder, shard_bytes)
        for scan in scans:
            if progress is not None:
                progress(scan.name)
            writer.add(scan)
        writer.close()
    return ShardSet.open(out)


def agatston_of(ct: CTVolume, labels: NDArray[np.uint8]) -> dict[str, float]:
    """Agatston per coronary artery, UNASSIGNED and total of labels, by the default protocol."""
    labels = np.where(labels == UNREVIEWED, 0, labels)
    codes = [int(code) for code in np.unique(labels) if code]
    lesions = LesionMap(labels.astype(np.uint16), {code: Artery(code) for code in codes})
    report = score_lesions(ct, lesions, ScoringProtocol())
    scores = {artery.name: report.arteries[artery].agatston for artery in (*CORONARY, Artery.UNASSIGNED)}
    return {**scores, "total": report.total.agatston}


class _Writer:
    """Collects scans by image size and writes a shard when one size has enough."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.files: dict[int, ShardFile] = {}
        self.records: list[ScanRecord] = []
        self.skipped: list[Skipped] = []
        self.names_of: dict[str, str] = {}  # checksum -> first name
        self.shards_begun = 0
        self.open: dict[tuple[int, int], tuple[int, list[NDArray], list[NDArray]]] = {}  # size -> shard, images, labels

    def add(self, scan: LabeledScan | Skipped) -> None:
        if isinstance(scan, Skipped):
            self.skipped.append(scan)
            return
        refuse_judges(scan.name, scan.provenance)
        image, is_rounded = _int16(scan.ct.hu)
        checksum = hashlib.sha256(image.data).hexdigest()
        if checksum in self.names_of:
            text = f"its voxels are those of {self.names_of[checksum]}; a scan counts once"
            self.skipped.append(Skipped(scan.name, "duplicate", text))
            return
        self.names_of[checksum] = scan.name
        labels = np.zeros(scan.ct.shape, np.uint8) if scan.labels is None else scan.labels
        size = image.shape[1:]
        if size not in self.open:
            self.open[size] = (self.shards_begun, [], [])
            self.shards_begun += 1
        shard, images, all_labels = self.open[size]
        start = sum(len(part) for part in images)
        images.append(image)
        all_labels.append(labels)
        self.records.append(_record(scan, labels, shard, start, is_rounded, checksum))
        if sum(part.nbytes for part in images) >= self.shard_bytes:
            self._flush(size)

    def close(self) -> None:
        for size in list(self.open):
            self._flush(size)
        if not self.records:
            why = "; ".join(f"{s.name}: {s.text}" for s in self.skipped[:3]) or "nothing was given"
            raise InputRefused("input", f"no scan can be used: {why}")
        document = {
            "schema": SCHEMA,
            "version": __version__,
            "shards": [asdict(self.files[n]) for n in sorted(self.files)],
            "scans": [asdict(record) for record in self.records],
            "skipped": [asdict(skip) for skip in self.skipped],
        }
        (self.folder / INDEX).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")

    def _flush(self, size: tuple[int, int]) -> None:
        shard, images, labels = self.open.pop(size)
        names = f"images-{shard:05d}.npy", f"labels-{shard:05d}.npy"
        for name, parts in zip(names, (images, labels), strict=True):
            np.save(self.folder / name, np.concatenate(parts))
        checksums = [file_sha256(self.folder / name) for name in names]
        slices = sum(len(part) for part in images)
        self.files[shard] = ShardFile(*names, slices, *size, *checksums)


def _record(
    scan: LabeledScan, labels: NDArray[np.uint8], shard: int, start: int, is_rounded: bool, checksum: str
) -> ScanRecord:
    ct, header = scan.ct, scan.ct.header
    agatston = agatston_of(ct, labels) if scan.is_labeled else scan.agatston
    calcified = np.flatnonzero(np.isin(labels, SCORED_ARTERIES).any(axis=(1, 2))) if scan.is_labeled else ()
    return ScanRecord(
        name=scan.name,
        patient=scan.patient,
        source=scan.source,
        shard=shard,
        start=start,
        shape=ct.shape,
        spacing_mm=ct.spacing_mm,
        affine=tuple(float(v) for v in ct.affine.ravel()),
        kvp=header.kvp,
        slice_thickness_mm=header.slice_thickness_mm,
        kernel=header.kernel,
        is_gated=header.is_gated,
        agatston=agatston,
        category=None if agatston is None else category(agatston["total"], CATEGORY_SCHEME).category,
        calcified_slices=tuple(int(k) for k in calcified),
        is_rounded=is_rounded,
        voxels_sha256=checksum,
        why_unlabelled=scan.why_unlabelled,
        notes=scan.notes,
        provenance=dict(scan.provenance),
    )


def _int16(hu: NDArray) -> tuple[NDArray[np.int16], bool]:
    """HU as int16 in C order, and whether any value had to change for it."""
    if hu.dtype == np.int16:
        return np.ascontiguousarray(hu), False
    limits = np.iinfo(np.int16)
    image = np.clip(np.rint(hu), limits.min, limits.max).astype(np.int16)
    return image, bool((image != hu).any())
