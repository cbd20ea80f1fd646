"""Keep damaged and hostile compressed streams away from decoders that cannot refuse them.

GDCM ends the whole process on some damaged headers, and its JPEG library reports damaged data on stderr only and fills
the rest of the slice with what it has. pydicom unpacks a deflated file without a limit: a megabyte becomes a gigabyte.
Each would be worse than a refusal.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

from heartlens.core.disk.reading import open_regular

logger = logging.getLogger(__name__)

END_OF_IMAGE = b"\xff\xd9"

FRAME_MARKERS = {0xC0: "baseline", 0xC1: "extended", 0xC3: "lossless"}
"""Start-of-frame markers of the JPEG processes that DICOM uses; ITU-T T.81 table B.1."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
EXPLICIT_LITTLE_ENDIAN = b"1.2.840.10008.1.2.1".ljust(len(DEFLATED), b"\0")
"""The same bytes once they are unpacked; padded as PS3.5 9 pads a UID."""

HEADER_BYTES = 1 << 25
"""Of everything before the pixels, unpacked; an enhanced CT of 1,000 frames has a tenth of it."""

_META_BYTES = 1 << 16
_LONG_FORMS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"UC", b"UR"})
"""Value representations with 4 bytes of length after 2 reserved ones; PS3.5 7.1.2."""

JPEG_LS_FRAME = 0xF7

COMPLAINTS = ("Corrupt JPEG", "Bogus", "Huffman", "Premature end", "Invalid", "Unsupported", "Not a JPEG")
"""How messages of the JPEG library begin."""


def is_dicom(start: bytes) -> bool:
    """Whether the first bytes of a file are DICOM's, with the preamble of PS3.10 7.1 or without.

    Parameters
    ----------
    start
        At least 132 bytes, fewer when the file is shorter.
    """
    if start[128:132] == b"DICM":
        return True
    # No preamble: the first element is then in group 0002 or 0008, with an explicit VR or a short implicit length.
    if len(start) < 8 or start[:4] == bytes(4):
        return False
    little, big = struct.unpack("<HH", start[:4]), struct.unpack(">HH", start[:4])
    if big[0] in (2, 8) and little[0] not in (2, 8):
        return start[4:6].isalpha() and start[4:6].isupper()
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return little[0] in (2, 8) and little[1] < 0x0100 and (explicit or struct.unpack("<L", start[4:8])[0] <= 1024)


@contextmanager
def opened(path: Path, most_bytes: int | None = None, shown: str | None = None) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a DICOM file, a deflated one unpacked as if it had never been.

    Parameters
    ----------
    path
        A regular file.
    most_bytes
        What a deflated file may unpack to; None unpacks the header alone, and perhaps some pixels.
    shown
        As `open_regular`.

    Yields
    ------
    stream : IO[bytes]
        At its beginning.
    is_deflated : bool
        Offsets within the stream are then not those of the file.

    Raises
    ------
    InputRefused
        As `open_regular`.
    ValueError
        A deflated file unpacks to more.
    """
    with open_regular(path, shown) as file:
        start = file.read(132 + _META_BYTES)
        syntax = _transfer_syntax(start)
        if syntax is None or start[slice(*syntax)].rstrip(b"\0 ") != DEFLATED:
            file.seek(0)
            yield file, False
            return
        first, last = syntax
        end = _meta_end(start)
        file.seek(end)
        limit = HEADER_BYTES if most_bytes is None else most_bytes
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked = inflate.decompress(file.read(), limit)
        if most_bytes is not None and inflate.decompress(inflate.unconsumed_tail, 1):
            raise ValueError(f"a deflated file unpacks to more than {limit} bytes")
        if most_bytes is not None and not inflate.eof:
            raise EOFError("a deflated file has no end")
        plain = EXPLICIT_LITTLE_ENDIAN[: last - first].ljust(last - first, b"\0")
        yield BytesIO(start[:first] + plain + start[last:end] + unpacked), True


def _meta_elements(start: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Tag, first and last byte of each value of the file meta information, PS3.10 7.1; explicit, little endian."""
    at = 132 if start[128:132] == b"DICM" else 0
    while start[at : at + 2] == b"\x02\x00" and at + 12 <= len(start):
        is_long = start[at + 4 : at + 6] in _LONG_FORMS
        first = at + (12 if is_long else 8)
        length = int.from_bytes(start[at + 8 : at + 12] if is_long else start[at + 6 : at + 8], "little")
        yield start[at : at + 4], first, first + length
        at = first + length


def _transfer_syntax(start: bytes) -> tuple[int, int] | None:
    return next(((first, last) for tag, first, last in _meta_elements(start) if tag == b"\x02\x00\x10\x00"), None)


def _meta_end(start: bytes) -> int:
    return max(last for _, _, last in _meta_elements(start))


def check_jpeg(stream: bytes, rows: int, columns: int) -> None:
    """Whether the headers of a JPEG stream hold together and describe one gray image of this size; ITU-T T.81 annex B.

    Parameters
    ----------
    stream
        From start-of-image marker on.
    rows, columns
        That DICOM's header states.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    component = None
    for marker, segment in _segments(stream):
        if marker in FRAME_MARKERS:
            if component is not None:
                raise ValueError("two JPEG frame headers")
            component = _check_frame(segment, rows, columns)
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise ValueError(f"JPEG process {marker:#x} is not used in DICOM")
        elif marker == 0xC4:
            _check_huffman_tables(segment)
        elif marker == 0xDA:
            # One component, with its table; predictor 1-7 of a lossless scan, 0 of the others.
            if component is None or len(segment) != 6 or segment[:2] != bytes([1, component]) or segment[3] > 7:
                raise ValueError("the JPEG scan header is damaged")
            return


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment of a JPEG or JPEG-LS stream; ValueError where the next one is damaged."""
    if stream[:2] != b"\xff\xd8":
        raise ValueError("the stream does not begin as JPEG")
    position = 2
    while True:
        while stream[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        if stream[position : position + 1] != b"\xff" or position + 4 > len(stream):
            raise ValueError(f"no JPEG marker at byte {position}")
        marker, length = stream[position + 1], struct.unpack(">H", stream[position + 2 : position + 4])[0]
        segment = stream[position + 4 : position + 2 + length]
        if length < 2 or len(segment) != length - 2:
            raise ValueError(f"JPEG segment at byte {position} ends early")
        yield marker, segment
        position += 2 + length


def check_jpeg_ls(stream: bytes, rows: int, columns: int) -> None:
    """Whether a JPEG-LS stream describes one gray image of this size, before a decoder takes memory for it; T.87 C.2.

    Parameters
    ----------
    stream
        From start-of-image marker on.
    rows, columns
        That DICOM's header states.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    for marker, segment in _segments(stream):
        if marker == JPEG_LS_FRAME and len(segment) >= 6:
            _, height, width, components = struct.unpack(">BHHB", segment[:6])
            if (height, width, components) != (rows, columns, 1):
                raise ValueError(f"the JPEG-LS image has {height} x {width} pixels, DICOM says {rows} x {columns}")
            return
        if marker == 0xDA:
            raise ValueError("the stream has no JPEG-LS frame header")


def _check_frame(segment: bytes, rows: int, columns: int) -> int:
    if len(segment) != 9:
        raise ValueError("the JPEG frame header does not describe one component")
    precision, height, width, components, component, sampling, table = struct.unpack(">BHHBBBB", segment)
    if components != 1 or not 2 <= precision <= 16 or sampling & 15 not in (1, 2) or sampling >> 4 not in (1, 2):
        raise ValueError("the JPEG frame header is damaged")
    if (height, width) != (rows, columns):
        raise ValueError(f"the JPEG image has {height} x {width} pixels, DICOM says {rows} x {columns}")
    if table > 3:
        raise ValueError("the JPEG frame header names a table that cannot be")
    return component


def _check_huffman_tables(segment: bytes) -> None:
    while segment:
        if len(segment) < 17 or segment[0] & 15 > 3 or segment[0] >> 4 > 1:
            raise ValueError("a JPEG Huffman table is damaged")
        counts = segment[1:17]
        # Kraft: more codes of a length than there can be (T.81 annex C).
        if sum(count << (15 - n) for n, count in enumerate(counts)) > 1 << 16 or len(segment) < 17 + sum(counts):
            raise ValueError("a JPEG Huffman table is damaged")
        segment = segment[17 + sum(counts) :]


@contextmanager
def jpeg_complaints_raised() -> Iterator[None]:
    """Turn what the JPEG library prints about damaged data into a ValueError.

    Raises
    ------
    ValueError
        With the library's first complaint; anything else printed meanwhile goes to the log.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):  # a program without stderr, as on a Windows desktop
        yield
        return
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            printed.seek(0)
            lines = printed.read().decode(errors="replace").splitlines()
    for line in lines:
        logger.info("printed while decoding JPEG: %s", line)
    complaints = [line.strip() for line in lines if line.startswith(COMPLAINTS)]
    if complaints:
        raise ValueError(complaints[0])
