"""NIfTI-1 and NIfTI-2 on disk: nibabel reads the header and writes files; that all voxels are there is checked here.

SimpleITK does not read it: it fills the missing part of a truncated file with zeros without a word, and prefers a
right-angled qform over a sheared sform. Both change the score silently (docs/decisions/0004).
Format: nifti.nimh.nih.gov, nifti1.h and nifti2.h.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy.extent import INCREMENT_MM, PIXEL_MM
from heartlens.core.atomic import atomic_file
from heartlens.core.disk.reading import open_regular
from heartlens.core.errors import InputRefused
from heartlens.io.voxel_bytes import (
    DEFLATE_SHRINK,
    MOST_SKIPPED_BYTES,
    bytes_of,
    read_exactly,
    skip_bytes,
    truncated,
    unreadable,
)

if TYPE_CHECKING:
    import nibabel

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_NAMES = {1: "meters", 3: "micrometers"}

STEP_TOLERANCE = 0.01
"""By this share the lengths that a header says twice may differ."""

AXIS_TOLERANCE = 0.02
"""Between two unit vectors that should be the same: about a degree."""

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NUMERIC = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f4", "f8"}


class Nifti(NamedTuple):
    """One NIfTI volume.

    Parameters
    ----------
    values
        (k, j, i), scaled as the header says
    affine
        (4, 4), maps (i, j, k, 1) to LPS mm
    is_oriented
        False when the file has neither sform nor qform; `affine` then assumes RAS axes
    """

    values: NDArray
    affine: NDArray[np.float64]
    is_oriented: bool


def read_nifti(path: Path) -> Nifti:
    """Read a 3-D volume from ``.nii`` or ``.nii.gz``; the sform counts, else the qform.

    Raises
    ------
    InputRefused
        ``input``, ``unreadable``, ``truncated`` or ``geometry``
    """
    from nibabel.spatialimages import HeaderDataError

    try:
        return _read(path)
    except EOFError:
        raise InputRefused("truncated", f"{path}: expected a whole gzip file, found no end; copy it again") from None
    except zlib.error as error:
        raise unreadable(path, "gzip data", f"damaged data ({error})", "copy the file again") from None
    except (ValueError, OverflowError, OSError, HeaderDataError) as error:
        raise unreadable(path, "a NIfTI file", f"a damaged one ({error})", "copy the file again") from None


def write_nifti(path: Path, values: NDArray, affine: NDArray[np.float64]) -> None:
    """Write a volume as ``.nii`` or ``.nii.gz``, whole or not at all; geometry goes into qform and sform alike.

    Parameters
    ----------
    path
        File to write; its suffix says whether it is compressed.
    values
        (k, j, i)
    affine
        (4, 4), maps (i, j, k, 1) to LPS mm; kept as float32

    Raises
    ------
    InputRefused
        ``output``
    """
    import nibabel

    ras = _RAS_TO_LPS @ affine
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), ras)
    image.header.set_xyzt_units("mm")
    image.set_qform(ras, code=1)
    image.set_sform(ras, code=1)
    with atomic_file(path) as sibling:
        nibabel.save(image, sibling)


def _read(path: Path) -> Nifti:
    with open_regular(path) as plain:
        is_gzip = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file: IO[bytes] = gzip.GzipFile(fileobj=plain) if is_gzip else plain  # type: ignore[assignment]
        header = _read_header(file, path)
        shape, dtype = _shape(header, path), _dtype(header, path)
        wanted, first = bytes_of(shape, dtype, path), int(header["vox_offset"])
        room = os.fstat(plain.fileno()).st_size * (DEFLATE_SHRINK if is_gzip else 1)
        if first < 0 or first + wanted > room:
            raise truncated(path, wanted)
        if is_gzip and first > MOST_SKIPPED_BYTES:
            raise unreadable(
                path, f"voxels within {MOST_SKIPPED_BYTES} bytes", f"vox_offset {first}", "check the header"
            )
        file.seek(0)
        skip_bytes(file, first, path)
        data = read_exactly(file, wanted, path)
    values = np.frombuffer(data, dtype).reshape(shape[::-1]).astype(dtype.newbyteorder("="), copy=False)
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0):
        values = values * slope + (inter if np.isfinite(inter) else 0.0)
    affine, is_oriented = _affine(header)
    _require_one_frame(header, affine, path)
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_PER_UNIT:
        raise unreadable(path, "space in m, mm or micrometers", f"unit code {unit}", "save it in mm")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3] *= _MM_PER_UNIT[unit]
    if unit in _UNIT_NAMES and not _are_possible(steps * _MM_PER_UNIT[unit]):
        hint = ", which would be right in mm (code 2)" if _are_possible(steps) else ""
        raise InputRefused(
            "geometry",
            f"{path}: xyzt_units is {unit}, {_UNIT_NAMES[unit]}, and voxels are {_listed(steps)} of them{hint}; "
            "correct the unit code of the file",
        )
    return Nifti(values, _RAS_TO_LPS @ affine, is_oriented)


def _require_one_frame(header: nibabel.Nifti1Header, affine: NDArray[np.float64], path: Path) -> None:
    """The header says its geometry up to three times; nobody knows which one is true when they differ."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0:
        other = np.array(header.get_qform(), np.float64)
        lengths = np.linalg.norm(other[:3, :3], axis=0)
        if np.isfinite(other).all() and lengths.min() > 0 and steps.min() > 0:
            away = np.abs(affine[:3, :3] / steps - other[:3, :3] / lengths).max()
            if np.abs(lengths / steps - 1).max() > STEP_TOLERANCE or away > AXIS_TOLERANCE:
                raise InputRefused(
                    "geometry",
                    f"{path}: expected sform and qform to say the same, found voxels of {_listed(steps)} and "
                    f"{_listed(lengths)}, axes up to {away:.2g} apart; export the CT again, or set the wrong one's "
                    "code to 0",
                )
    pixdim = np.abs(header["pixdim"][1:4].astype(np.float64))
    is_said = np.isfinite(pixdim).all() and pixdim.min() > 0
    if is_said and steps.min() > 0 and np.abs(pixdim / steps - 1).max() > STEP_TOLERANCE:
        raise InputRefused(
            "geometry",
            f"{path}: expected pixdim as the sform or qform has it, {_listed(steps)}, found {_listed(pixdim)}; export "
            "the CT again",
        )


def _listed(steps: NDArray[np.float64]) -> str:
    return " x ".join(f"{step:.4g}" for step in steps)


def _are_possible(steps_mm: NDArray[np.float64]) -> bool:
    return bool(steps_mm.min() >= PIXEL_MM[0] and steps_mm.max() <= INCREMENT_MM[1])


def _read_header(file: IO[bytes], path: Path) -> nibabel.Nifti1Header:
    """The header, as it stands: what nibabel would mend or refuse for its own reasons is judged here."""
    import nibabel

    head = file.read(540)
    for kind, size in ((nibabel.Nifti1Header, 348), (nibabel.Nifti2Header, 540)):
        if len(head) >= size and size in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")):
            header = kind(head[:size], check=False)
            if bytes(header["magic"].tobytes()).startswith(b"n+"):
                return header
            raise unreadable(path, "one .nii or .nii.gz file", "a .hdr/.img pair or Analyze", "save it as .nii.gz")
    raise unreadable(path, "a NIfTI header", f"{len(head)} bytes of something else", "check the file")


def _shape(header: nibabel.Nifti1Header, path: Path) -> tuple[int, int, int]:
    n = int(header["dim"][0])
    dim = [int(d) for d in header["dim"][1 : n + 1]]
    if n < 3 or min(dim) < 1 or any(d != 1 for d in dim[3:]):
        raise unreadable(path, "one 3-D volume", f"dimensions {' x '.join(map(str, dim))}", "split it into volumes")
    return dim[0], dim[1], dim[2]


def _dtype(header: nibabel.Nifti1Header, path: Path) -> np.dtype:
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype = header.get_data_dtype()
    except (KeyError, HeaderDataError):
        dtype = np.dtype("V1")
    if dtype.str[1:] not in _NUMERIC:
        found = {"V": "another type", "c": "complex"}.get(dtype.kind, dtype.name) if dtype.names is None else "RGB"
        raise unreadable(path, "one number per voxel", found, "save the CT values as short or float")
    return dtype


def _affine(header: nibabel.Nifti1Header) -> tuple[NDArray[np.float64], bool]:
    """To RAS, in the file's unit."""
    if int(header["sform_code"]) > 0:
        return np.array(header.get_sform(), np.float64), True
    if int(header["qform_code"]) > 0:
        return np.array(header.get_qform(), np.float64), True
    affine = np.eye(4)
    affine[:3, :3] = np.diag(np.abs(header["pixdim"][1:4].astype(np.float64)))
    return affine, False
