"""From the bytes of a DICOM file to HU, one slice at a time.

Uncompressed little-endian pixels, nearly all CT, are read straight from the file; everything else goes through
pydicom and its decoders, JPEG 2000 and HTJ2K through OpenJPEG.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    RLELossless,
)

from heartlens.core.disk.reading import open_regular
from heartlens.core.errors import InputRefused
from heartlens.dicom.compressed import (
    END_OF_IMAGE,
    HEADER_BYTES,
    check_jpeg,
    check_jpeg_ls,
    jpeg_complaints_raised,
    opened,
)
from heartlens.dicom.header import PARSE_ERRORS, Instance, kind_of, one_line

UNCOMPRESSED = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
J2K_FAMILY = frozenset({JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL})
GDCM_JPEG = frozenset({JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit, JPEGExtended12Bit})
"""Syntaxes that only GDCM (or, with 8 bits, Pillow) decodes."""

ALWAYS_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})
PERHAPS_LOSSY = frozenset({JPEG2000, HTJ2K})
"""Syntaxes that hold lossy or lossless streams; lossy unless LossyImageCompression (0028,2110) says "00"."""

TRAILING_BYTES = 1 << 15
"""Pixel data may be padded, to an even length (PS3.5 8.1.1) or to a block; with zeros, and never by more than this."""

SHEARED_BELOW = 0.95
"""Rows that are more alike than by this factor when they are taken to be longer, are longer."""

_DECODE_ERRORS = (*PARSE_ERRORS, RuntimeError, MemoryError)


def is_lossy(instance: Instance) -> bool:
    """Whether the pixels have gone through a lossy compression, now or earlier."""
    stated = str(instance.value("LossyImageCompression") or "")
    syntax = instance.transfer_syntax
    return stated == "01" or syntax in ALWAYS_LOSSY or (syntax in PERHAPS_LOSSY and stated != "00")


def lacking_decoder(instance: Instance) -> str:
    """Library without which the pixels cannot be decoded here; "" where nothing is missing.

    A library that was installed after pydicom was imported is still missing: pydicom looks for its decoders once.
    """
    syntax = UID(instance.transfer_syntax or "")
    if syntax in UNCOMPRESSED or not syntax.is_transfer_syntax or not syntax.is_compressed:
        return ""
    try:
        if get_decoder(syntax).is_available:
            return ""
    except NotImplementedError:  # no decoder of pydicom's, whatever is installed
        return ""
    if syntax in J2K_FAMILY:
        return "pylibjpeg-openjpeg"
    return "pyjpegls" if "JPEGLS" in syntax.keyword else "python-gdcm"


def stored_frames(instance: Instance) -> Iterator[NDArray]:
    """Stored pixel values of each frame, in file order.

    Yields
    ------
    NDArray
        (row, column) integers, before rescale

    Raises
    ------
    InputRefused
        "truncated", there are fewer pixels than the header says; "unreadable", they cannot be decoded
    """
    syntax = instance.transfer_syntax
    rows, columns = (_positive(instance, keyword) for keyword in ("Rows", "Columns"))
    if instance.value("SamplesPerPixel") not in (None, 1):
        raise InputRefused(
            "modality", f"{instance.name} is a color image (SamplesPerPixel (0028,0002)), expected CT slices"
        )
    allocated = _positive(instance, "BitsAllocated")
    if allocated not in (8, 16, 32):
        raise InputRefused(
            "unreadable", f"{instance.name}: BitsAllocated (0028,0100) must be 8, 16 or 32, found {allocated}"
        )
    big_endian = syntax == ExplicitVRBigEndian or (syntax is None and not instance.dataset.original_encoding[1])
    if syntax is None or syntax in UNCOMPRESSED:
        kind = "i" if instance.value("PixelRepresentation") == 1 else "u"
        dtype = np.dtype(f"{'>' if big_endian else '<'}{kind}{allocated // 8}")
        direct = instance.pixel_offset is not None and not big_endian
        frames = (_frames_from_file if direct else _frames_from_dataset)(instance, dtype, rows, columns)
    else:
        frames = _decoded_frames(instance, rows, columns)
    for frame in frames:
        yield _used_bits(instance, frame)


def _frames_from_file(instance: Instance, dtype: np.dtype, rows: int, columns: int) -> Iterator[NDArray]:
    n_frames = len(instance.frames)
    nbytes = rows * columns * dtype.itemsize
    with open_regular(instance.path, instance.name) as file:
        file.seek(instance.pixel_offset or 0)
        start = file.read(12)
        if len(start) < 12 or start[:4] != b"\xe0\x7f\x10\x00":
            raise InputRefused("truncated", f"{instance.name} holds no pixel data (7FE0,0010)")
        # Explicit VR: tag, "OW", 2 reserved bytes, 4 bytes of length; implicit VR: tag, 4 bytes of length.
        if start[4:6] in (b"OW", b"OB", b"UN"):
            length = struct.unpack("<L", start[8:12])[0]
        else:
            length = struct.unpack("<L", start[4:8])[0]
            file.seek(-4, 1)
        if length == 0xFFFFFFFF:
            raise InputRefused(
                "unreadable",
                f"{instance.name}: TransferSyntaxUID (0002,0010) says the pixels are not compressed, but they are",
            )
        excess = _excess(instance, length, n_frames * nbytes)
        if excess:
            place = file.tell()
            file.seek(n_frames * nbytes, 1)
            after = file.read(excess)
            file.seek(place)
            longer = rows * dtype.itemsize * n_frames
            first = file.read(nbytes + excess // n_frames) if excess % longer == 0 else b""
            file.seek(place)
            _check_excess(instance, after, first, dtype, rows)
        for number in range(n_frames):
            values = np.empty((rows, columns), dtype)
            if file.readinto(values.data.cast("B")) != nbytes:
                raise InputRefused(
                    "truncated",
                    f"{instance.name}: the file ends within frame {number + 1} of {n_frames}, "
                    f"expected {n_frames * nbytes} bytes of pixel data; copy it again",
                )
            yield values


def _frames_from_dataset(instance: Instance, dtype: np.dtype, rows: int, columns: int) -> Iterator[NDArray]:
    n_frames = len(instance.frames)
    expected = n_frames * rows * columns * dtype.itemsize
    data = _pixel_bytes(_whole(instance, expected), instance)
    excess = _excess(instance, len(data), expected)
    if excess:
        is_longer = excess % (rows * dtype.itemsize * n_frames) == 0
        first = data[: (expected + excess) // n_frames] if is_longer else b""
        _check_excess(instance, data[expected:], first, dtype, rows)
    for number in range(n_frames):
        values = np.frombuffer(data, dtype, rows * columns, offset=number * rows * columns * dtype.itemsize)
        yield values.reshape(rows, columns).astype(dtype.newbyteorder("="))


def _decoded_frames(instance: Instance, rows: int, columns: int) -> Iterator[NDArray]:
    syntax = UID(instance.transfer_syntax or "")
    dataset = _whole(instance, 0)
    n_found = 0
    try:
        if not _pixel_bytes(dataset, instance):
            raise InputRefused("truncated", f"{instance.name} holds no pixel data (7FE0,0010)")
        for frame in _j2k_frames(dataset, instance) if syntax in J2K_FAMILY else _pydicom_frames(dataset, instance):
            if frame.shape != (rows, columns):
                raise InputRefused(
                    "unreadable",
                    f"{instance.name}: Rows and Columns say {rows} x {columns}, the compressed image is {frame.shape}",
                )
            n_found += 1
            yield frame
    except _DECODE_ERRORS as error:
        raise InputRefused(
            "unreadable",
            f"{instance.name} cannot be decoded ({syntax.name}): {one_line(error)}; send it uncompressed",
        ) from error
    if n_found != len(instance.frames):
        raise InputRefused("truncated", f"{instance.name}: expected {len(instance.frames)} frames, found {n_found}")


def _streams(dataset: Dataset, instance: Instance) -> Iterator[bytes]:
    for number, stream in enumerate(generate_frames(dataset.PixelData, number_of_frames=len(instance.frames)), 1):
        # A decoder fills what is missing with gray and says nothing, so look for the end-of-image marker, which
        # zeros may follow (PS3.5 A.4 pads a fragment to an even length, some writers to more).
        if dataset.file_meta.TransferSyntaxUID != RLELossless and END_OF_IMAGE not in stream.rstrip(b"\0")[-16:]:
            raise InputRefused(
                "truncated", f"{instance.name}: the compressed image of frame {number} has no end; copy the file again"
            )
        yield stream


def _j2k_frames(dataset: Dataset, instance: Instance) -> Iterator[NDArray]:
    try:
        import openjpeg  # at the moment of use: uncompressed CT needs no decoder
    except ImportError:
        yield from _pydicom_frames(dataset, instance)
        return
    for stream in _streams(dataset, instance):
        facts = openjpeg.get_parameters(stream)
        if (int(facts["rows"]), int(facts["columns"])) != (dataset.Rows, dataset.Columns):  # before memory is taken
            raise ValueError("the compressed image has another size than DICOM says")
        values = openjpeg.decode(stream)
        bits, is_signed = int(facts["precision"]), instance.value("PixelRepresentation") == 1
        if bool(facts["is_signed"]) != is_signed:
            # The codestream and the header disagree on the sign: the header's reading of the same bits is meant.
            values = values.astype(np.int32) & ((1 << bits) - 1)
            values = values - ((values >> (bits - 1)) << bits) if is_signed else values
        yield values


def _pydicom_frames(dataset: Dataset, instance: Instance) -> Iterator[NDArray]:
    syntax = UID(instance.transfer_syntax or "")
    decoder = get_decoder(syntax)
    if not decoder.is_available:
        raise RuntimeError("no decoder is installed; heartlens doctor says what is missing")
    for stream in _streams(dataset, instance):
        if syntax in GDCM_JPEG:
            check_jpeg(stream, dataset.Rows, dataset.Columns)
        elif "JPEGLS" in syntax.keyword:
            check_jpeg_ls(stream, dataset.Rows, dataset.Columns)
    # CharLS decodes JPEG-LS in a third of GDCM's time.
    plugin = "pyjpegls" if "pyjpegls" in decoder.available_plugins else ""
    frames = decoder.iter_array(dataset, raw=True, decoding_plugin=plugin)
    while True:
        with jpeg_complaints_raised() if syntax in GDCM_JPEG else nullcontext():
            values = next(frames, None)
        if values is None:
            return
        yield values[0]


def _used_bits(instance: Instance, values: NDArray) -> NDArray:
    """Only the BitsStored bits up to HighBit, with their sign; the bits above them mean nothing (PS3.5 8.1.1)."""
    allocated = values.dtype.itemsize * 8
    stored = whole_number(instance, "BitsStored", allocated)
    high = whole_number(instance, "HighBit", stored - 1)
    if stored >= allocated or values.dtype.itemsize * 8 != instance.value("BitsAllocated"):
        return values
    if not 0 < stored <= high + 1 <= allocated:
        raise InputRefused(
            "unreadable",
            f"{instance.name}: BitsAllocated, BitsStored and HighBit (0028,0100-0102) must hold one within the other, "
            f"found {allocated}, {stored} and {high}",
        )
    low, top = int(values.min()), int(values.max())
    is_signed = values.dtype.kind == "i"
    if high == stored - 1:
        if is_signed and low >= -(1 << (stored - 1)) and top < (1 << (stored - 1)):
            return values
        if not is_signed and top < (1 << stored):
            return values
        without_sign_extension = is_signed and low >= 0 and top < (1 << stored)
        if not without_sign_extension and not instance.has_embedded_overlay:
            raise InputRefused(
                "unreadable",
                f"{instance.name}: BitsStored (0028,0101) is {stored}, but pixels reach {low} to {top}, which needs "
                f"more; the header or the pixels are wrong",
            )
    return (values << (allocated - 1 - high)) >> (allocated - stored)


def _whole(instance: Instance, pixel_bytes: int) -> Dataset:
    """The file with its pixels; a deflated one unpacks to its header and so many bytes, and to no more."""
    try:
        with opened(instance.path, HEADER_BYTES + TRAILING_BYTES + pixel_bytes, instance.name) as (file, _):
            return dcmread(file, force=True)
    except EOFError as error:
        raise InputRefused("truncated", f"{instance.name} ends before its pixel data does; copy it again") from error
    except PARSE_ERRORS as error:
        raise InputRefused("unreadable", f"{instance.name} cannot be read as DICOM ({kind_of(error)})") from error


def _pixel_bytes(dataset: Dataset, instance: Instance) -> bytes:
    try:
        data = dataset.get("PixelData")
    except PARSE_ERRORS as error:
        raise InputRefused(
            "unreadable", f"{instance.name}: pixel data (7FE0,0010) is damaged: {one_line(error)}"
        ) from error
    if not data:
        raise InputRefused("truncated", f"{instance.name} holds no pixel data (7FE0,0010)")
    return bytes(data)


def _excess(instance: Instance, actual: int, expected: int) -> int:
    """Bytes after the last pixel; too few are refused, and more than any padding."""
    text = f"{instance.name}: expected {expected} bytes of pixel data, found {actual}"
    if actual < expected:
        raise InputRefused("truncated", f"{text}; copy it again")
    if actual > expected + TRAILING_BYTES:
        raise InputRefused("unreadable", f"{text}: Rows, Columns or BitsAllocated do not describe these pixels")
    return actual - expected


def _check_excess(instance: Instance, after: bytes, first: bytes, dtype: np.dtype, rows: int) -> None:
    """Padding is zeros. Zeros may also end an image whose rows are longer than Columns says: then it is sheared.

    Parameters
    ----------
    instance
        For the message.
    after
        What follows the last pixel; an odd byte is padding to an even length whatever it holds.
    first
        The first frame with its share of it, where that share is the same number of pixels for every row.
    dtype, rows
        Of the pixels.
    """
    if len(after) > 1 and after.strip(b"\0"):
        raise InputRefused(
            "unreadable",
            f"{instance.name}: {len(after)} bytes follow the last pixel and are not zeros, as padding is: Rows or "
            f"Columns (0028,0010-0011) do not describe these pixels",
        )
    if not first:
        return
    values = np.frombuffer(first, dtype).astype(np.int64)
    longer = values.size // rows
    stated = longer - len(after) // (rows * dtype.itemsize)
    unlike = [float(np.abs(values[n:] - values[:-n]).mean()) for n in (longer, stated)]
    if unlike[0] < SHEARED_BELOW * unlike[1]:
        raise InputRefused(
            "unreadable",
            f"{instance.name}: Columns (0028,0011) is {stated}, but the pixels repeat every {longer}: the image would "
            f"be sheared; copy it again",
        )


def _positive(instance: Instance, keyword: str) -> int:
    value = instance.value(keyword)
    if not isinstance(value, int) or value <= 0:
        raise InputRefused("truncated", f"{instance.name} holds no image: {keyword} is {value!r}")
    return value


def whole_number(instance: Instance, keyword: str, default: int) -> int:
    """A number of bits that the header states, or the default where it is silent."""
    value = instance.value(keyword)
    if value is None:
        return default
    if not isinstance(value, int) or not 0 <= value <= 64:
        raise InputRefused("unreadable", f"{instance.name}: {keyword} must be a number of bits, found {value!r}")
    return value
