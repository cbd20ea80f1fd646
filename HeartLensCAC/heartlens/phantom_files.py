"""A phantom on disk: the scan, its labels, and the truth."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from heartlens.files import write_volume
from heartlens.nrrd import write_nrrd
from heartlens.phantom import Phantom
from heartlens.refusal import Refused

FORMATS = ("dicom", "nrrd", "nifti")


def write_phantom(out: Path, phantom: Phantom, *, format: str = "dicom") -> None:
    """Write ``ct/`` or ``ct.nrrd`` or ``ct.nii.gz``, ``labels.nrrd`` and ``truth.json``, all or nothing.

    Parameters
    ----------
    out : folder to make; it may exist if it is empty
    format : "dicom", "nrrd" or "nifti"

    Raises
    ------
    ValueError : unknown format
    Refused : ``output``, the folder holds something or cannot be written; nothing is left behind
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    out = Path(out).absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise Refused("output", f"{out} exists and is not an empty folder; choose another --out")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.phantom")
    try:
        temporary.mkdir(parents=True)
        _write_ct(temporary, phantom, format)
        write_nrrd(temporary / "labels.nrrd", phantom.labels, phantom.ct.affine)
        (temporary / "truth.json").write_text(json.dumps(phantom.truth, indent=1) + "\n")
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Refused("output", f"cannot write {out}: {reason}; choose another --out or free the disk") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
