"""NRRD on disk: a text header, then the voxels. Read and written here so that segments keep their names and tags.

Format: teem.sourceforge.net/nrrd/format.html. Slicer's ``.seg.nrrd`` is NRRD with key/value pairs.
"""

from __future__ import annotations

import bz2
import gzip
import os
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from heartlens.core.atomic import atomic_file
from heartlens.core.disk.reading import open_regular
from heartlens.io.voxel_bytes import (
    DEFLATE_SHRINK,
    MOST_SKIPPED_BYTES,
    beside,
    bytes_of,
    numbers_of_text,
    read_exactly,
    skip_bytes,
    skip_lines,
    too_long,
    truncated,
    unreadable,
)

_TYPES: dict[str, str] = {
    name: dtype
    for dtype, names in {
        "i1": "signed char|int8|int8_t",
        "u1": "uchar|unsigned char|uint8|uint8_t",
        "i2": "short|short int|signed short|signed short int|int16|int16_t",
        "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
        "i4": "int|signed int|int32|int32_t",
        "u4": "uint|unsigned int|uint32|uint32_t",
        "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
        "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split("|")
}
_NAMES = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "f4": "float", "f8": "double"}

_TO_LPS: dict[str, tuple[float, float, float]] = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "lps": (1, 1, 1),
    "ras": (-1, -1, 1),
    "las": (1, -1, 1),
}

_SHRINK_LIMIT = {"raw": 1, "gz": DEFLATE_SHRINK, "gzip": DEFLATE_SHRINK, "bz2": 100_000, "bzip2": 100_000}
"""No compressor shrinks data by more than this factor, so a larger claim is a damaged file."""

_LONGEST_HEADER_BYTES = 1 << 26
_MOST_HEADER_LINES = 1 << 19
"""The notes of ten thousand lesions are a fifth of either."""

_MOST_AXES = 16
"""Of the format."""


@dataclass(frozen=True)
class Nrrd:
    """One NRRD file.

    Parameters
    ----------
    values
        (k, j, i), or (k, j, i, layer)
    affine
        (4, 4), maps (i, j, k, 1) to LPS mm
    is_oriented
        False when the file does not say how it lies in the patient; `affine` then assumes LPS axes
    keys
        Its key/value pairs.
    """

    values: NDArray
    affine: NDArray[np.float64]
    is_oriented: bool
    keys: Mapping[str, str]


def read_nrrd(path: Path) -> Nrrd:
    """Read a 3-D NRRD, attached or detached, with any number of layers.

    Raises
    ------
    InputRefused
        ``input``, ``unreadable`` or ``truncated``
    """
    try:
        return _read(path)
    except (ValueError, OverflowError, OSError) as error:
        raise unreadable(path, "an NRRD header", f"a damaged one ({error})", "check the file") from None


def _read(path: Path) -> Nrrd:
    with open_regular(path) as file:
        fields, keys = _read_header(file, path)
        sizes = [int(n) for n in _field(fields, "sizes", path).split()[: _MOST_AXES + 1]]
        dtype = _dtype(fields, path)
        data_name = fields.get("data file", fields.get("datafile"))
        if data_name is None:
            raw: NDArray = _read_data(file, fields, sizes, dtype, path, is_attached=True)
        elif data_name.startswith("LIST") or "%" in data_name:
            raise unreadable(path, "one data file", f"data file: {data_name}", "save it as one .nrrd file")
        else:
            data_path = beside(path, data_name)
            with open_regular(data_path) as data:
                raw = _read_data(data, fields, sizes, dtype, data_path, is_attached=False)
    values: NDArray = raw.reshape(sizes[::-1])
    spatial, directions = _spatial_axes(fields, sizes, path)
    # NRRD counts axes fastest first, numpy slowest first.
    order = [len(sizes) - 1 - axis for axis in reversed(spatial)]
    rest = [axis for axis in range(len(sizes)) if axis not in order]
    values = np.transpose(values, order + rest)
    values = values.reshape(*values.shape[:3], -1)
    if values.shape[3] == 1:
        values = values[..., 0]
    affine, is_oriented = _affine(fields, directions, path)
    return Nrrd(values, affine, is_oriented, keys)


def write_nrrd(
    path: Path, values: NDArray, affine: NDArray[np.float64], keys: Mapping[str, str] | None = None, *, level: int = 1
) -> None:
    """Write a 3-D volume, gzip-compressed, whole or not at all. The same input gives the same bytes.

    Parameters
    ----------
    path
        File to write.
    values
        (k, j, i)
    affine
        (4, 4), maps (i, j, k, 1) to LPS mm
    keys
        key/value pairs
    level
        Of gzip, 1 (fast) to 9.
    """
    columns = [",".join(repr(float(x)) for x in affine[:3, axis]) for axis in range(4)]
    lines = [
        "NRRD0004",
        f"type: {_NAMES[values.dtype.str[1:]]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {values.shape[2]} {values.shape[1]} {values.shape[0]}",
        f"space directions: ({columns[0]}) ({columns[1]}) ({columns[2]})",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: ({columns[3]})",
    ]
    lines += [f"{key}:={_escaped(value)}" for key, value in (keys or {}).items()]
    pack = zlib.compressobj(level, zlib.DEFLATED, 31)  # 31: gzip container, without a time stamp
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    with atomic_file(path) as sibling, open(sibling, "wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        file.write(pack.compress(little.data.cast("B")))
        file.write(pack.flush())


def _read_header(file: IO[bytes], path: Path) -> tuple[dict[str, str], dict[str, str]]:
    if not file.readline(16).startswith(b"NRRD"):
        raise unreadable(path, "an NRRD file, which starts with NRRD", "something else", "check the file")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    length = lines = 0
    while True:
        line = file.readline(1 << 22)
        length, lines = length + len(line), lines + 1
        if length > _LONGEST_HEADER_BYTES or lines > _MOST_HEADER_LINES:
            raise unreadable(path, f"a header of at most {_LONGEST_HEADER_BYTES} bytes", "a longer one", "check it")
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if not text:
            break  # a blank line ends the header; so does the end of a detached one
        if text.startswith("#"):
            continue
        key, separator, value = text.partition(":=")
        if separator and ": " not in key:
            keys[key] = value.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
        else:
            field, separator, value = text.partition(":")
            if not separator:
                raise unreadable(path, "header lines 'field: value'", repr(text[:60]), "check the file")
            fields[field.strip().lower()] = value.strip()
    return fields, keys


def _read_data(
    file: IO[bytes], fields: Mapping[str, str], sizes: list[int], dtype: np.dtype, path: Path, *, is_attached: bool
) -> NDArray:
    """All voxels, in the order of the file; from where the file stands to its end there must be nothing else."""
    if not 3 <= len(sizes) <= _MOST_AXES or min(sizes) < 1:
        raise unreadable(path, "3-D voxels", f"sizes: {fields['sizes'][:80]}", "give a volume")
    wanted = bytes_of(sizes, dtype, path)
    encoding = _field(fields, "encoding", path).lower()
    file_bytes = os.fstat(file.fileno()).st_size
    lines, skip = (int(fields.get(f"{what} skip", fields.get(f"{what}skip", "0"))) for what in ("line", "byte"))
    if lines < 0 or skip < -1 or (skip == -1 and encoding != "raw"):
        raise unreadable(path, "a line and byte skip that can be", f"{lines} and {skip} ({encoding})", "check it")
    skip_lines(file, lines, file_bytes - file.tell(), path)
    left = file_bytes - file.tell()
    if skip == -1:
        # The voxels end the file, after a header of another format. A header that is as long as a plane of voxels is
        # more likely a plane that the sizes leave out.
        skip = 0 if is_attached else left - wanted
        if skip >= max(1, wanted // max(sizes)):
            raise too_long(path, wanted)
    if encoding in {"txt", "text", "ascii"}:
        skip_bytes(file, skip, path)
        values = numbers_of_text(file, wanted // dtype.itemsize, left, dtype, path)
    elif encoding in _SHRINK_LIMIT:
        if skip + wanted > left * _SHRINK_LIMIT[encoding] or skip < 0:
            raise truncated(path, wanted, left)
        if encoding != "raw" and skip > MOST_SKIPPED_BYTES:
            raise unreadable(
                path, f"voxels within {MOST_SKIPPED_BYTES} bytes", f"byte skip: {skip}", "check the header"
            )
        if encoding in {"gz", "gzip"}:
            file = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
        elif encoding in {"bz2", "bzip2"}:
            file = bz2.BZ2File(file)
        try:
            skip_bytes(file, skip, path)
            data = read_exactly(file, wanted, path)
        except EOFError:
            raise truncated(path, wanted) from None
        except (OSError, zlib.error) as error:
            raise unreadable(path, f"{encoding} data", f"damaged data: {error}", "copy the file again") from None
        values = np.frombuffer(data, dtype=dtype)
    else:
        raise unreadable(path, "encoding raw, gzip, bzip2 or ascii", encoding, "save it with one of these")
    return values.astype(dtype.newbyteorder("="), copy=False)


def _spatial_axes(fields: Mapping[str, str], sizes: list[int], path: Path) -> tuple[list[int], list[str] | None]:
    """NRRD axes that are space, fastest first, and their direction vectors as text."""
    if "space directions" in fields:
        directions = fields["space directions"].replace(", ", ",").replace("( ", "(").replace(" )", ")").split()
        spatial = [axis for axis, vector in enumerate(directions) if vector != "none"]
        if len(directions) != len(sizes) or len(spatial) != 3:
            raise unreadable(path, "3 axes of space", f"space directions: {fields['space directions']}", "check it")
        return spatial, directions
    kinds = fields.get("kinds", "").lower().split()
    spatial = [axis for axis, kind in enumerate(kinds) if kind in {"domain", "space"}]
    if len(spatial) != 3:
        spatial = [axis for axis, size in enumerate(sizes) if size > 1] if len(sizes) > 3 else [0, 1, 2]
    if len(spatial) != 3:
        raise unreadable(path, "3 axes of space", f"sizes: {fields['sizes']}", "give one volume")
    return spatial, None


def _affine(fields: Mapping[str, str], directions: list[str] | None, path: Path) -> tuple[NDArray[np.float64], bool]:
    affine = np.eye(4)
    space = fields.get("space", "").lower().removesuffix("-time")
    units = set(fields.get("space units", "").replace('"', "").split()) - {"mm"}
    if units:
        raise unreadable(path, "space units mm", f"space units: {fields['space units']}", "save it in mm")
    if directions is None:
        spacings = [float(x) for x in fields.get("spacings", "").split() if x.lower() != "nan"]
        if len(spacings) != 3:
            raise unreadable(path, "space directions or 3 spacings", "neither", "save it with its geometry")
        affine[:3, :3] = np.diag(spacings)
        return affine, False
    if space and space not in _TO_LPS:
        raise unreadable(path, f"space {', '.join(list(_TO_LPS)[:3])}", f"space: {space}", "save it in one of these")
    vectors = [vector for vector in directions if vector != "none"] + [fields.get("space origin", "(0,0,0)")]
    try:
        for column, vector in enumerate(vectors):
            affine[:3, column] = [float(x) for x in vector.strip("() ").split(",")]
    except ValueError:
        raise unreadable(path, "vectors of 3 numbers", " ".join(vectors), "check the header") from None
    affine[:3] *= np.array(_TO_LPS.get(space, (1, 1, 1)))[:, None]
    return affine, bool(space) and "space origin" in fields


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype:
    name = _field(fields, "type", path).lower()
    if name not in _TYPES:
        raise unreadable(path, "a numeric voxel type", f"type: {name}", "save it as short or float")
    dtype = np.dtype(_TYPES[name])
    endian = fields.get("endian", sys.byteorder).lower()
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _field(fields: Mapping[str, str], name: str, path: Path) -> str:
    if name not in fields:
        raise unreadable(path, f"a header field {name!r}", "none", "check the file")
    return fields[name]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", " ")
