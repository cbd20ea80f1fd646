"""The voxels of a file that may lie: as many as its header says, neither fewer nor more, from no other place.

A file that is longer than its header says is not read in part: another size in a header would silently cut or shear
the volume. Compressed voxels are unpacked only as far as the header says.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from heartlens.core.disk.reading import irregular
from heartlens.core.errors import InputRefused

MOST_BYTES = 1 << 32
"""Of one volume: 4,096 slices of 512 x 512 float32, several times the largest CT of a chest."""

DEFLATE_SHRINK = 1032
"""Deflate makes nothing smaller by more than this, so a larger claim is a damaged file."""

MOST_SKIPPED_BYTES = 1 << 26
"""Before the voxels of a compressed file: to pass over two unpacked gigabytes would take ten seconds."""

LONGEST_NUMBER = 64
"""Characters of a number written as text, blanks included."""

_PIECE = 1 << 20


def unreadable(path: Path, expected: str, actual: str | None, way_out: str) -> InputRefused:
    """The refusal of a file that is not what it says."""
    return InputRefused("unreadable", f"{path}: expected {expected}, found {actual}; {way_out}")


def truncated(path: Path, wanted: int, actual_bytes: int | None = None) -> InputRefused:
    """The refusal of a file that ends too early."""
    has = "fewer" if actual_bytes is None else str(actual_bytes)
    return InputRefused("truncated", f"{path}: expected {wanted} bytes of voxels, found {has}; copy the file again")


def too_long(path: Path, wanted: int) -> InputRefused:
    """The refusal of a file that goes on after its last voxel."""
    return unreadable(
        path, f"{wanted} bytes of voxels, as its header's sizes say", "more", "the header is wrong: export it again"
    )


def bytes_of(sizes: Sequence[int], dtype: np.dtype, path: Path) -> int:
    """How many bytes a header claims.

    Raises
    ------
    InputRefused
        ``unreadable``: more than any CT has (`MOST_BYTES`)
    """
    wanted = math.prod(sizes) * dtype.itemsize
    if wanted > MOST_BYTES:
        shape = " x ".join(map(str, sizes))[:80]
        raise unreadable(path, f"a volume of at most {MOST_BYTES} bytes", f"{shape} voxels", "is the header damaged?")
    return wanted


def beside(header: Path, name: str) -> Path:
    """The data file that a header names, which must lie in the header's own folder.

    Raises
    ------
    InputRefused
        ``unreadable``: the name leads out of the folder, by itself or by a link, or to no regular file
    """
    plain = name.removeprefix("./")
    data = header.parent / plain
    way_out = "copy both files into one folder"
    if plain in ("", ".", "..") or "/" in plain or "\\" in plain or "\0" in plain or Path(plain).name != plain:
        raise unreadable(header, "the name of a data file beside it", f"{name[:80]!r}", way_out)
    if kind := irregular(data) or (None if data.exists() else "none"):
        raise unreadable(header, f"its data file {plain} beside it", kind, way_out)
    if os.path.realpath(data.parent) != os.path.dirname(os.path.realpath(data)):
        raise unreadable(header, f"its data file {plain} beside it", "a link to another folder", way_out)
    return data


def read_exactly(file: IO[bytes], wanted: int, path: Path) -> bytes:
    """What is left of a file, which must be as many bytes as are wanted.

    Reaching the end of a compressed file checks its checksum.

    Raises
    ------
    InputRefused
        ``truncated`` or ``unreadable``
    """
    data = file.read(wanted)
    if len(data) < wanted:
        raise truncated(path, wanted, len(data))
    if file.read(1):
        raise too_long(path, wanted)
    return data


def skip_bytes(file: IO[bytes], count: int, path: Path) -> None:
    """Pass over bytes that are no voxels, a piece at a time.

    Raises
    ------
    InputRefused
        ``truncated``
    """
    while count > 0:
        passed = len(file.read(min(count, _PIECE)))
        if not passed:
            raise truncated(path, count)
        count -= passed


def skip_lines(file: IO[bytes], count: int, room: int, path: Path) -> None:
    """Pass over lines that are no voxels.

    Raises
    ------
    InputRefused
        ``truncated``: in `room` bytes there cannot be so many, or there are not
    """
    if count > room:
        raise truncated(path, count, room)
    for _ in range(count):
        while (piece := file.readline(_PIECE)) and not piece.endswith(b"\n"):
            pass
        if not piece:
            raise truncated(path, count, 0)


def numbers_of_text(file: IO[bytes], count: int, room: int, dtype: np.dtype, path: Path) -> NDArray:
    """Numbers written as text, divided by blanks; (count,).

    Raises
    ------
    InputRefused
        ``truncated`` or ``unreadable``: fewer or more numbers
    ValueError
        Something else than a number.
    """
    values = np.empty(count, dtype)
    if room > count * LONGEST_NUMBER + _PIECE:
        raise too_long(path, values.nbytes)
    n, rest = 0, b""
    while piece := file.read(_PIECE):
        words = (rest + piece).split()
        rest = words.pop() if words and not piece[-1:].isspace() else b""
        if len(rest) > LONGEST_NUMBER:
            raise ValueError(f"a number of more than {LONGEST_NUMBER} digits")
        if n + len(words) > count:
            raise too_long(path, values.nbytes)
        values[n : n + len(words)] = np.array(words, dtype) if words else 0
        n += len(words)
    for word in (rest,) if rest else ():
        if n == count:
            raise too_long(path, values.nbytes)
        values[n] = np.array([word], dtype)[0]
        n += 1
    if n < count:
        raise truncated(path, values.nbytes, n * dtype.itemsize)
    return values
