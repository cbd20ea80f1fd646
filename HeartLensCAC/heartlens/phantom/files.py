"""A phantom on disk: the scan, its labels, and the truth."""

from __future__ import annotations

import json
from pathlib import Path

from heartlens.core.atomic import atomic_folder
from heartlens.io.nrrd import write_nrrd
from heartlens.io.volumes import write_volume
from heartlens.phantom import Phantom

FORMATS = ("dicom", "nrrd", "nifti")


def write_phantom(out: Path, phantom: Phantom, *, format: str = "dicom", force: bool = False) -> None:
    """Write ``ct/`` or ``ct.nrrd`` or ``ct.nii.gz``, ``labels.nrrd`` and ``truth.json``, all or nothing.

    Parameters
    ----------
    out
        Folder to make.
    phantom
        What to write.
    format
        "dicom", "nrrd" or "nifti"
    force
        Replace an existing phantom.

    Raises
    ------
    ValueError
        Unknown format.
    InputRefused
        ``output``, the folder exists or cannot be written; nothing is left behind
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    with atomic_folder(out, force=force, is_ours=is_phantom) as folder:
        _write_ct(folder, phantom, format)
        write_nrrd(folder / "labels.nrrd", phantom.labels, phantom.ct.affine)
        (folder / "truth.json").write_text(json.dumps(phantom.truth, indent=1) + "\n")


def is_phantom(folder: Path) -> bool:
    """Whether a folder holds a phantom, so that replacing it loses nothing else."""
    return (folder / "truth.json").is_file() and (folder / "labels.nrrd").is_file()


def _write_ct(folder: Path, phantom: Phantom, format: str) -> None:
    if format == "nrrd":
        write_volume(folder / "ct.nrrd", phantom.ct)
    elif format == "nifti":
        write_volume(folder / "ct.nii.gz", phantom.ct)
    else:
        from heartlens.dicom.write import write_ct_series

        (folder / "ct").mkdir()
        gated = phantom.ct.header.is_gated
        write_ct_series(
            folder / "ct",
            phantom.ct,
            patient_name="HeartLens^Phantom",
            patient_id=f"PHANTOM-{phantom.truth['parameters']['seed']}",
            description="Calcium score, synthetic" if gated else "Chest without contrast, synthetic",
        )
