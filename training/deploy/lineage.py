"""What a bundle was made of: commit, scans and splits by checksum, and the scans that it was made for."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from heartlens import __version__
from training.datasets.shards import ScanRecord, ShardSet
from training.datasets.splits import SPLITS, Splits, scans_of
from training.engine.provenance import source_commit


def lineage_of(shards: ShardSet, splits: Splits) -> dict[str, Any]:
    """Commit, and for each part of the splits how many patients and scans it has, with a checksum of voxels and labels.

    Parameters
    ----------
    shards
        Of the scans.
    splits
        Of their patients.

    Returns
    -------
    dict[str, Any]
        {"version", "commit", "data": {"train": {"patients", "scans", "sources", "sha256"}, ...}, "splits_sha256"}
    """
    names = {part: list(getattr(splits, part)) for part in SPLITS}
    return {
        "version": __version__,
        "commit": source_commit(),
        "data": {part: _data(shards, scans_of(shards, patients)) for part, patients in names.items()},
        "splits_sha256": _sha256(names),
    }


def _data(shards: ShardSet, scans: Sequence[int]) -> dict[str, Any]:
    records = [shards.scans[n] for n in scans]
    # Labels are told apart by the scores of the arteries, as where a run is continued.
    contents = sorted([r.voxels_sha256, r.agatston and dict(r.agatston), r.calcified_slices] for r in records)
    return {
        "patients": len({record.patient for record in records}),
        "scans": len(records),
        "sources": dict(sorted(Counter(record.source for record in records).items())),
        "sha256": _sha256(contents),
    }


def _sha256(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def limits_of(shards: ShardSet, scans: Sequence[int]) -> Mapping[str, tuple[float, float]]:
    """What some scans span, by the names of `heartlens.networks.bundle.Domain`; what no file says is left out.

    Parameters
    ----------
    shards
        Of the scans.
    scans
        Their numbers.
    """
    records = [shards.scans[n] for n in scans]
    values = {
        "pixel_mm": [mm for record in records for mm in record.spacing_mm[1:]],
        "increment_mm": [record.spacing_mm[0] for record in records],
        "kvp": [record.kvp for record in records if record.kvp is not None],
        "field_of_view_mm": [mm for record in records for mm in _field_mm(record)],
    }
    return {name: (float(min(some)), float(max(some))) for name, some in values.items() if some}


def _field_mm(record: ScanRecord) -> tuple[float, float]:
    return record.shape[1] * record.spacing_mm[1], record.shape[2] * record.spacing_mm[2]


def trained_on_text(shards: ShardSet, scans: Sequence[int]) -> str:
    """How many patients of which source, in words.

    Parameters
    ----------
    shards
        Of the scans.
    scans
        Their numbers.
    """
    sources: dict[str, set[str]] = {}
    for n in scans:
        sources.setdefault(shards.scans[n].source, set()).add(shards.scans[n].patient)
    return ", ".join(f"{len(patients)} patients of {source}" for source, patients in sorted(sources.items()))
