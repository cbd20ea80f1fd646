"""MetaImage (.mha, .mhd) on disk.

Read here and not by SimpleITK, which ends the whole process on some damaged headers and writes to stderr on others.
Format: itk.org/Wiki/MetaIO/Documentation.
"""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from heartlens.core.atomic import atomic_file
from heartlens.core.disk.reading import open_regular
from heartlens.io.voxel_bytes import (
    DEFLATE_SHRINK,
    beside,
    bytes_of,
    numbers_of_text,
    read_exactly,
    skip_bytes,
    too_long,
    truncated,
    unreadable,
)

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
"""MetaIO stores long as 4 bytes on every machine."""

_ALIASES = {
    "Origin": "Offset", "Position": "Offset", "Rotation": "TransformMatrix", "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB", "CompressedElementData": "CompressedData",
}  # fmt: skip

_LONGEST_HEADER_BYTES = 1 << 20


def read_metaimage(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """Read a 3-D volume of one number per voxel.

    Returns
    -------
    values : NDArray
        (k, j, i)
    affine : NDArray[np.float64]
        (4, 4), maps (i, j, k, 1) to LPS mm; MetaImage means LPS unless another program misuses it

    Raises
    ------
    InputRefused
        ``input``, ``unreadable`` or ``truncated``
    """
    try:
        with open_regular(path) as file:
            fields = _read_header(file, path)
            sizes = _sizes(fields, path)
            name = fields["ElementDataFile"]
            if name.upper() == "LOCAL":
                values = _read_voxels(file, fields, sizes, path, is_attached=True)
            elif name.startswith("LIST") or "%" in name:
                raise unreadable(path, "one data file", f"ElementDataFile = {name}", "save it as one .mha file")
            else:
                data_path = beside(path, name)
                with open_regular(data_path) as data:
                    values = _read_voxels(data, fields, sizes, data_path, is_attached=False)
        affine = np.eye(4)
        # Each row of TransformMatrix is the direction of one axis.
        matrix = np.array([float(x) for x in fields.get("TransformMatrix", "1 0 0 0 1 0 0 0 1").split()])
        spacing = [float(x) for x in fields.get("ElementSpacing", fields.get("ElementSize", "1 1 1")).split()]
        affine[:3, :3] = matrix.reshape(3, 3).T * np.array(spacing).reshape(3)
        affine[:3, 3] = np.array([float(x) for x in fields.get("Offset", "0 0 0").split()]).reshape(3)
        return values, affine
    except (KeyError, ValueError, OverflowError, OSError) as error:
        raise unreadable(path, "a MetaImage header", f"a damaged one ({error})", "check the file") from None


def write_metaimage(path: Path, values: NDArray, affine: NDArray[np.float64]) -> None:
    """Write a volume as one compressed ``.mha`` file, whole or not at all.

    Parameters
    ----------
    path
        File to write.
    values
        (k, j, i)
    affine
        (4, 4), maps (i, j, k, 1) to LPS mm; every bit of it is kept

    Raises
    ------
    InputRefused
        ``output``
    ValueError
        MetaImage has no such type of numbers
    """
    native = {np.dtype(code): name for name, code in reversed(_TYPES.items())}
    if values.dtype not in native:
        raise ValueError(f"values must be integers or floats of {', '.join(_TYPES)}, got {values.dtype}")
    data = zlib.compress(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes(), 1)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    fields = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False,
        "CompressedData": True, "CompressedDataSize": len(data),
        "TransformMatrix": _numbers((affine[:3, :3] / spacing_mm).T.ravel()),
        "Offset": _numbers(affine[:3, 3]), "CenterOfRotation": "0 0 0", "ElementSpacing": _numbers(spacing_mm),
        "DimSize": " ".join(map(str, values.shape[::-1])), "ElementType": native[values.dtype],
        "ElementDataFile": "LOCAL",
    }  # fmt: skip
    with atomic_file(path) as sibling:
        sibling.write_bytes("".join(f"{key} = {value}\n" for key, value in fields.items()).encode("ascii") + data)


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _read_header(file: IO[bytes], path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = file.readline(_LONGEST_HEADER_BYTES).decode("utf-8", errors="replace")
        key, separator, value = line.partition("=")
        if not separator or file.tell() > _LONGEST_HEADER_BYTES:
            raise unreadable(path, "header lines 'key = value' to ElementDataFile", repr(line[:60]), "check the file")
        name = _ALIASES.get(key.strip(), key.strip())
        if fields.setdefault(name, value.strip()) != value.strip():
            raise unreadable(path, f"one {name}", f"{fields[name]!r} and {value.strip()!r}", "export it again")
    return fields


def _sizes(fields: dict[str, str], path: Path) -> tuple[int, int, int]:
    sizes = [int(n) for n in fields["DimSize"].split()]
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    if len(sizes) != 3 or min(sizes) < 1 or channels != 1:
        actual = f"{' x '.join(map(str, sizes))} voxels of {channels} numbers"
        raise unreadable(path, "one 3-D volume of one number per voxel", actual, "give one volume")
    if fields["ElementType"] not in _TYPES:
        raise unreadable(path, "a numeric ElementType", fields["ElementType"], "save it as MET_SHORT or MET_FLOAT")
    return sizes[0], sizes[1], sizes[2]


def _read_voxels(
    file: IO[bytes], fields: dict[str, str], sizes: tuple[int, int, int], path: Path, *, is_attached: bool
) -> NDArray:
    """(k, j, i); from where the file stands to its end there must be nothing else."""
    big = fields.get("BinaryDataByteOrderMSB", str(sys.byteorder == "big")).lower() == "true"
    dtype = np.dtype(_TYPES[fields["ElementType"]]).newbyteorder(">" if big else "<")
    wanted = bytes_of(sizes, dtype, path)
    room = os.fstat(file.fileno()).st_size - file.tell()
    if fields.get("BinaryData", "True").lower() != "true":
        values = numbers_of_text(file, wanted // dtype.itemsize, room, dtype, path)
    elif fields.get("CompressedData", "False").lower() == "true":
        values = np.frombuffer(_inflated(file, wanted, room, path), dtype)
    else:
        skip = int(fields.get("HeaderSize", "0"))
        if skip == -1:  # a header of another format comes first; one as long as a plane is a plane that sizes leave out
            skip = 0 if is_attached else room - wanted
            if skip >= max(1, wanted // max(sizes)):
                raise too_long(path, wanted)
        if skip < 0 or skip + wanted > room:
            raise truncated(path, wanted, room)
        skip_bytes(file, skip, path)
        values = np.frombuffer(read_exactly(file, wanted, path), dtype)
    return values.reshape(sizes[::-1]).astype(dtype.newbyteorder("="), copy=False)


def _inflated(file: IO[bytes], wanted: int, room: int, path: Path) -> bytes:
    """Voxels out of one zlib stream that ends with the file."""
    if wanted > room * DEFLATE_SHRINK:
        raise truncated(path, wanted, room)
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(file.read(), wanted)
        more = inflate.decompress(inflate.unconsumed_tail, 1)  # reaching the end checks the checksum
    except zlib.error as error:
        raise unreadable(path, "compressed voxels", f"damaged data ({error})", "copy it again") from None
    if more or (inflate.eof and inflate.unused_data):
        raise too_long(path, wanted)
    if len(data) < wanted or not inflate.eof:
        raise truncated(path, wanted, len(data))
    return data
