"""Scans that were read, one file each: a reading that is killed goes on, and many processes read at a time.

A part is taken only where it was read from the same files by the same version; else the scan is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from heartlens import __version__
from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTHeader, CTVolume
from training.datasets.scans import LabeledScan, Skipped

HEADER = ("kvp", "slice_thickness_mm", "kernel", "is_gated")
"""What shards keep of a CT's header."""

TEXTS = ("name", "patient", "source", "agatston", "why_unlabelled", "notes", "provenance")


def kept(path: Path, state: str, read: Callable[[], LabeledScan | Skipped]) -> LabeledScan | Skipped:
    """A scan from its part; without one it is read, and its part is written.

    Parameters
    ----------
    path
        Of the part, which ends in ``.npz``.
    state
        Of what it is read from, see `state_of`.
    read
        Reads the scan.

    Raises
    ------
    InputRefused
        ``output``: the disk does not take it
    """
    found = _read_part(path, state)
    if found is None:
        found = read()
        _write_part(path, state, found)
    return found


def state_of(*places: Path, settings: Any = None) -> str:
    """Checksum of which files lie at some places, by name, size and time of change, and of settings.

    Parameters
    ----------
    *places
        Files, or folders with all that lies below; one that is not there counts as nothing.
    settings
        JSON values that reading depends on.
    """
    listed: list[Any] = [__version__, settings]
    for place in places:
        files = [place] if place.is_file() else [Path(at) / name for at, _, names in os.walk(place) for name in names]
        for file in sorted(files):
            status = file.stat()
            listed.append([str(file.relative_to(place.parent)), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def _write_part(path: Path, state: str, scan: LabeledScan | Skipped) -> None:
    arrays: dict[str, Any] = {}
    document: dict[str, Any] = {"state": state}
    if isinstance(scan, Skipped):
        document["skipped"] = asdict(scan)
    else:
        document |= {name: getattr(scan, name) for name in TEXTS}
        document["agatston"] = None if scan.agatston is None else dict(scan.agatston)
        document["provenance"] = dict(scan.provenance)
        document["header"] = {name: getattr(scan.ct.header, name) for name in HEADER}
        document["allow_oblique"] = scan.ct.allow_oblique
        arrays = {"hu": scan.ct.hu, "affine": scan.ct.affine}
        if scan.labels is not None:
            arrays["labels"] = scan.labels
    with atomic_file(path) as sibling, open(sibling, "wb") as file:
        np.savez(file, document=np.array(json.dumps(document)), **arrays)


def _read_part(path: Path, state: str) -> LabeledScan | Skipped | None:
    """The scan of a part; None where there is none, or one of another state or a damaged one."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as part:
            document = json.loads(str(part["document"]))
            if document.pop("state") != state:
                return None
            if "skipped" in document:
                return Skipped(**document["skipped"])
            header = CTHeader(**document.pop("header"))
            ct = CTVolume(part["hu"], part["affine"], header, document.pop("allow_oblique"))
            labels = part.get("labels", None)
            return LabeledScan(ct=ct, labels=labels, **{**document, "notes": tuple(document["notes"])})
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile):
        return None
