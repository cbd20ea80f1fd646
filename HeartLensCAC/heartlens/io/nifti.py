"""NIfTI-1 and NIfTI-2 on disk, for reading.

Read here and not by SimpleITK, whose reader fills the missing part of a truncated file with zeros without a word, and
prefers a right-angled qform over a sheared sform: both change the score silently.
Format: nifti.nimh.nih.gov, nifti1.h and nifti2.h.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.atomic import require_readable
from heartlens.core.errors import Refused

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}

_HEADER_1 = np.dtype(
    {
        "names": ["dim", "datatype", "pixdim", "vox_offset", "slope", "inter", "units", "qform", "sform",
                  "quatern", "qoffset", "srow", "magic"],
        "formats": ["(8,)i2", "i2", "(8,)f4", "f4", "f4", "f4", "u1", "i2", "i2", "(3,)f4", "(3,)f4", "(3,4)f4", "S4"],
        "offsets": [40, 70, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280, 344],
        "itemsize": 348,
    }
)  # fmt: skip
_HEADER_2 = np.dtype(
    {
        "names": ["magic", "datatype", "dim", "pixdim", "vox_offset", "slope", "inter", "qform", "sform",
                  "quatern", "qoffset", "srow", "units"],
        "formats": ["S4", "i2", "(8,)i8", "(8,)f8", "i8", "f8", "f8", "i4", "i4", "(3,)f8", "(3,)f8", "(3,4)f8", "i4"],
        "offsets": [4, 12, 16, 104, 168, 176, 184, 344, 348, 352, 376, 400, 500],
        "itemsize": 540,
    }
)  # fmt: skip

_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    Refused
        ``input``, ``unreadable`` or ``truncated``
    """
    require_readable(path)
    try:
        return _read(path)
    except (ValueError, OverflowError, OSError) as error:
        raise _unreadable(path, "a NIfTI file", f"a damaged one ({error})", "copy the file again") from None


def _read(path: Path) -> Nifti:
    try:
        with open(path, "rb") as plain:
            is_gzip = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=plain) if is_gzip else plain  # type: ignore[assignment]
            header = _read_header(file, path)
            shape = _shape(header, path)
            dtype = np.dtype(_TYPES[int(header["datatype"])]).newbyteorder(header.dtype["datatype"].byteorder)
            wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            file.seek(int(header["vox_offset"]))
            room = path.stat().st_size * (1032 if is_gzip else 1)  # deflate shrinks by 1032 at most
            data = file.read(wanted) if wanted <= room else b""
            if is_gzip:
                file.read(1)  # reaching the end checks the checksum
    except EOFError:
        raise Refused("truncated", f"{path}: expected a whole gzip file, found no end; copy it again") from None
    except zlib.error as error:
        raise _unreadable(path, "gzip data", f"damaged data ({error})", "copy the file again") from None
    if len(data) < wanted:
        raise Refused("truncated", f"{path}: expected {wanted} bytes of voxels, found fewer; copy the file again")
    values = np.frombuffer(data, dtype).reshape(shape[::-1]).astype(dtype.newbyteorder("="), copy=False)
    slope, inter = float(header["slope"]), float(header["inter"])
    if np.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0):
        values = values * slope + (inter if np.isfinite(inter) else 0.0)
    affine, is_oriented = _affine(header)
    unit = int(header["units"]) & 7
    if unit not in _MM_PER_UNIT:
        raise _unreadable(path, "space in m, mm or micrometers", f"unit code {unit}", "save it in mm")
    affine[:3] *= _MM_PER_UNIT[unit]
    return Nifti(values, _RAS_TO_LPS @ affine, is_oriented)


def _read_header(file: IO[bytes], path: Path) -> np.void:
    head = file.read(540)
    for dtype in (_HEADER_1, _HEADER_2):
        for order in ("<", ">"):
            if len(head) >= dtype.itemsize and int(np.frombuffer(head, order + "i4", 1)[0]) == dtype.itemsize:
                header = np.frombuffer(head, dtype.newbyteorder(order), 1)[0]
                if header["magic"].startswith(b"n+"):
                    return header
                raise _unreadable(path, "one .nii or .nii.gz file", "a .hdr/.img pair or Analyze", "save it as .nii.gz")
    raise _unreadable(path, "a NIfTI header", f"{len(head)} bytes of something else", "check the file")


def _shape(header: np.void, path: Path) -> tuple[int, int, int]:
    n = int(header["dim"][0])
    dim = [int(d) for d in header["dim"][1 : n + 1]]
    if n < 3 or min(dim) < 1 or any(d != 1 for d in dim[3:]):
        raise _unreadable(path, "one 3-D volume", f"dimensions {' x '.join(map(str, dim))}", "split it into volumes")
    if int(header["datatype"]) not in _TYPES:
        found = {128: "RGB", 2304: "RGBA", 32: "complex", 1792: "complex"}.get(int(header["datatype"]), "another type")
        raise _unreadable(path, "one number per voxel", found, "save the CT values as short or float")
    return dim[0], dim[1], dim[2]


def _affine(header: np.void) -> tuple[NDArray[np.float64], bool]:
    """To RAS, in the file's unit."""
    affine = np.eye(4)
    pixdim = header["pixdim"].astype(np.float64)
    if int(header["sform"]) > 0:
        affine[:3] = header["srow"]
        return affine, True
    if int(header["qform"]) <= 0:
        affine[:3, :3] = np.diag(np.abs(pixdim[1:4]))
        return affine, False
    b, c, d = header["quatern"].astype(np.float64)
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    q_factor = -1.0 if pixdim[0] < 0 else 1.0
    affine[:3, :3] = rotation * (pixdim[1:4] * [1.0, 1.0, q_factor])
    affine[:3, 3] = header["qoffset"]
    return affine, True


def _unreadable(path: Path, expected: str, found: str, way_out: str) -> Refused:
    return Refused("unreadable", f"{path}: expected {expected}, found {found}; {way_out}")
