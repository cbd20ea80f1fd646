"""Scans as training reads them: int16 HU and uint8 labels in memory-mapped ``.npy`` shards, with one index.

A shard holds the slices of whole scans of one image size. Files are opened again for each access: a memory map that is
kept open is copied into every loader process and never lets go of its pages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from training.datasets.scans import Skipped

SCHEMA = "heartlens.shards/1"
INDEX = "index.json"


@dataclass(frozen=True)
class ScanRecord:
    """One scan in the index.

    Parameters
    ----------
    name, patient, source, why_unlabelled, notes, provenance
        As in `LabeledScan`.
    shard, start
        File number, and position of the scan's first slice in it.
    shape
        Slices, rows, columns.
    spacing_mm
        (slice increment, row distance, column distance)
    affine
        16 numbers, row by row, (column, row, slice, 1) to LPS mm
    kvp, slice_thickness_mm, kernel, is_gated
        As in `CTHeader`.
    agatston
        Of LM, LAD, LCX, RCA, UNASSIGNED and "total"; None when not known.
    category
        Row of scheme `dino-lg`; None when the score is not known.
    calcified_slices
        Slices with labeled coronary calcium.
    is_rounded
        Some HU were no whole numbers, or outside int16, and were rounded.
    voxels_sha256
        Of the int16 image; the same scan under two names has the same.
    """

    name: str
    patient: str
    source: str
    shard: int
    start: int
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: tuple[float, ...]
    kvp: float | None
    slice_thickness_mm: float | None
    kernel: str | None
    is_gated: bool | None
    agatston: Mapping[str, float] | None
    category: str | None
    calcified_slices: tuple[int, ...]
    is_rounded: bool
    voxels_sha256: str
    why_unlabelled: str
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def is_labeled(self) -> bool:
        """Every calcified pixel has its label; what has none is none."""
        return not self.why_unlabelled

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ScanRecord:
        """A record from a JSON object of its fields; lists become tuples."""
        lists = ("shape", "spacing_mm", "affine", "calcified_slices", "notes")
        return cls(**{**document, **{name: tuple(document[name]) for name in lists}})


@dataclass(frozen=True)
class ShardFile:
    """One pair of files in the index; the checksums are of whole files."""

    images: str
    labels: str
    slices: int
    rows: int
    columns: int
    images_sha256: str
    labels_sha256: str


@dataclass(frozen=True, eq=False)
class ShardSet:
    """The scans of one or several shard folders.

    Parameters
    ----------
    scans
        Every scan; its position here is its number.
    skipped
        What could not be used when the shards were made.
    """

    scans: tuple[ScanRecord, ...]
    skipped: tuple[Skipped, ...]
    folders: tuple[Path, ...] = field(repr=False)
    files: tuple[tuple[ShardFile, ...], ...] = field(repr=False)
    folder_of: tuple[int, ...] = field(repr=False)

    @classmethod
    def open(cls, *folders: Path) -> ShardSet:
        """Read the indices; images are opened when they are asked for.

        Raises
        ------
        InputRefused
            "input" or "unreadable"; "ambiguous" when two folders hold a scan of the same name
        """
        scans: list[ScanRecord] = []
        skipped: list[Skipped] = []
        files: list[tuple[ShardFile, ...]] = []
        folder_of: list[int] = []
        for n, folder in enumerate(folders):
            records, left_out, shards = _read_index(Path(folder))
            scans += records
            skipped += left_out
            files.append(shards)
            folder_of += [n] * len(records)
        names = [scan.name for scan in scans]
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise InputRefused("ambiguous", f"the scan {double} is in the shards twice; give each folder once")
        return cls(tuple(scans), tuple(skipped), tuple(Path(f) for f in folders), tuple(files), tuple(folder_of))

    def image(self, scan: int) -> NDArray[np.int16]:
        """(k, j, i) HU of a scan, memory-mapped and read-only; index it to read single slices.

        Raises
        ------
        InputRefused
            "truncated", "unreadable" or "checksum", naming the shard
        """
        return self._slices(scan, "images", np.int16)

    def labels(self, scan: int) -> NDArray[np.uint8]:
        """(k, j, i) `Artery` codes of a scan, memory-mapped and read-only; zeros for a scan without labels."""
        return self._slices(scan, "labels", np.uint8)

    def ct(self, scan: int) -> CTVolume:
        """A scan as the rest of HeartLens knows it, for scoring."""
        record = self.scans[scan]
        header = CTHeader(
            kvp=record.kvp,
            slice_thickness_mm=record.slice_thickness_mm,
            kernel=record.kernel,
            is_gated=record.is_gated,
        )
        return CTVolume(np.array(self.image(scan)), np.reshape(record.affine, (4, 4)), header)

    def slices(self, scans: Iterable[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Every slice of some scans.

        Returns
        -------
        places : NDArray[np.int64]
            (n, 2), scan number and slice
        is_calcified : NDArray[np.bool_]
            (n,), labeled coronary calcium on it
        """
        chosen = list(scans)
        places = [(n, k) for n in chosen for k in range(self.scans[n].shape[0])]
        calcified = {(n, k) for n in chosen for k in self.scans[n].calcified_slices}
        is_calcified = np.array([place in calcified for place in places], dtype=bool)
        return np.array(places, dtype=np.int64).reshape(-1, 2), is_calcified

    def verify(self, progress: Callable[[str], None] | None = None) -> None:
        """Read every shard through and compare checksums; a training run does this once, before it starts.

        Raises
        ------
        InputRefused
            "checksum", naming the first file that is not what was written
        """
        for folder, files in zip(self.folders, self.files, strict=True):
            for file in files:
                for name, expected in ((file.images, file.images_sha256), (file.labels, file.labels_sha256)):
                    if progress is not None:
                        progress(name)
                    digest = file_sha256(folder / name)
                    if digest != expected:
                        raise InputRefused(
                            "checksum",
                            f"{folder / name}: expected SHA-256 {expected[:12]}…, found {digest[:12]}…; "
                            "the shard is damaged: copy it again, or make the shards again",
                        )

    def _slices(self, scan: int, kind: str, dtype: type) -> NDArray:
        record, n = self.scans[scan], self.folder_of[scan]
        file = self.files[n][record.shard]
        path = self.folders[n] / getattr(file, kind)
        expected = (file.slices, file.rows, file.columns)
        way_out = "copy the shard again, or make the shards again"
        try:
            shard = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise InputRefused(
                "unreadable", f"cannot open shard {path}: {error.strerror or error}; {way_out}"
            ) from None
        except (ValueError, EOFError) as error:
            raise InputRefused(
                "truncated", f"shard {path}: expected {expected} {np.dtype(dtype)}, found {error}; {way_out}"
            ) from None
        if not isinstance(shard, np.ndarray) or shard.shape != expected or shard.dtype != dtype:
            actual = f"{shard.shape} {shard.dtype}" if isinstance(shard, np.ndarray) else "no array"
            raise InputRefused(
                "checksum", f"shard {path}: expected {expected} {np.dtype(dtype)}, found {actual}; {way_out}"
            )
        return shard[record.start : record.start + record.shape[0]]


def _read_index(folder: Path) -> tuple[list[ScanRecord], list[Skipped], tuple[ShardFile, ...]]:
    path = folder / INDEX
    try:
        document = json.loads(path.read_text())
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']!r}, expected {SCHEMA}")
        files = tuple(ShardFile(**entry) for entry in document["shards"])
        records = [ScanRecord.from_json(entry) for entry in document["scans"]]
        for record in records:
            if not 0 <= record.shard < len(files):
                raise ValueError(f"scan {record.name} lies in shard {record.shard} of {len(files)}")
            if record.start + record.shape[0] > files[record.shard].slices:
                raise ValueError(f"scan {record.name} reaches beyond its shard")
        return records, [Skipped(**entry) for entry in document["skipped"]], files
    except FileNotFoundError:
        raise InputRefused(
            "input", f"{folder} holds no shards: expected {INDEX}; make them with training.prepare"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputRefused(
            "unreadable", f"{path}: expected an index of shards, found {error}; make the shards again"
        ) from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    except OSError as error:
        raise InputRefused(
            "unreadable",
            f"cannot open shard {path}: {error.strerror or error}; copy it again, or make the shards again",
        ) from None
    return digest.hexdigest()
