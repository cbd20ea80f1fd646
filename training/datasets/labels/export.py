"""One entry point for all formats: scans in, a whole folder out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any

from heartlens import __version__
from heartlens.core.atomic import atomic_folder
from heartlens.core.errors import InputRefused
from training.datasets.labels.coca_plist import write_coca
from training.datasets.labels.coco import write_coco
from training.datasets.labels.nifti import write_nifti_pairs
from training.datasets.labels.nnunet import write_nnunet
from training.datasets.scans import LabeledScan

FORMATS: Mapping[str, Callable[[Path, Iterator[tuple[str, LabeledScan, dict[str, Any]]]], None]] = MappingProxyType(
    {"nnunet": write_nnunet, "nifti": write_nifti_pairs, "coco": write_coco, "coca": write_coca}
)
"""Writers by name; each gets a folder and (file name, scan, provenance) of every scan."""


def export_labels(out: Path, scans: Iterable[LabeledScan], format: str, *, when: str | None = None) -> int:
    """Write scans and their labels, whole or not at all.

    Parameters
    ----------
    out
        Folder to make.
    format
        One of `FORMATS`.
    when
        ISO 8601 time of the export, for the provenance; None is now

    Returns
    -------
    int
        How many scans were written.

    Raises
    ------
    InputRefused
        "output"; "labels", a scan without labels; "ambiguous", two scans of one name; "input", no scan
    ValueError
        Unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    exported_at = when or datetime.now(timezone.utc).isoformat(timespec="seconds")
    names: list[str] = []

    def checked() -> Iterator[tuple[str, LabeledScan, dict[str, Any]]]:
        for scan in scans:
            name = scan.name.replace("/", "-")
            if not scan.is_labeled or scan.labels is None:
                raise InputRefused("labels", f"{scan.name} has no labels to export: {scan.why_unlabelled}")
            if name in names:
                raise InputRefused("ambiguous", f"{scan.name} is given twice (one CT, two cases?); export one of them")
            names.append(name)
            yield name, scan, provenance_of(scan, exported_at)

    with atomic_folder(out) as folder:
        FORMATS[format](folder, checked())
        if not names:
            raise InputRefused("input", "no scan to export was given")
    return len(names)


def provenance_of(scan: LabeledScan, exported_at: str) -> dict[str, Any]:
    """Where the labels of one scan come from; JSON values."""
    return {
        "scan": scan.name,
        "source": scan.source,
        "exported_by": f"HeartLens {__version__}",
        "exported_at": exported_at,
        **dict(scan.provenance),
    }
