"""One file of a bundle: what the manifest says of it, and that it is what was exported, seen before it is used.

Place, kind and length are judged before a byte is read: a bundle may come from anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartlens.core.disk.reading import irregular, open_regular
from heartlens.core.errors import InputRefused

FORMATS = ("onnx", "safetensors")

MOST_BYTES = 1 << 31
"""Of one file of weights: ONNX holds no more in one file, and the networks here have a hundredth of it."""

_PIECE = 1 << 20


@dataclass(frozen=True)
class BundleFile:
    """One file of weights.

    Parameters
    ----------
    path
        Its name; it lies in the bundle's folder.
    role
        What the network is for: `VESSEL` or `SLICES` of `heartlens.networks.bundle`.
    format
        One of `FORMATS`.
    architecture
        {"name", and its numbers}
    sha256, bytes
        Of the file.

    Raises
    ------
    ValueError
        Something that no file of a bundle can be.
    """

    path: str
    role: str
    format: str
    architecture: Mapping[str, Any]
    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):
            raise ValueError(f"a file's path must be text, got {self.path!r}")
        if self.path in ("", ".", "..") or "\0" in self.path or re.split(r"[/\\:]", self.path) != [self.path]:
            raise ValueError(f"a file lies outside the bundle: {self.path!r}")
        if self.format not in FORMATS:
            raise ValueError(f"{self.path}: format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if not isinstance(self.architecture, Mapping):
            raise ValueError(f"{self.path}: architecture must be an object, got {type(self.architecture).__name__}")
        if not (isinstance(self.sha256, str) and re.fullmatch("[0-9a-f]{64}", self.sha256)):
            raise ValueError(f"{self.path}: sha256 must be 64 digits, got {str(self.sha256)[:80]!r}")
        if type(self.bytes) is not int or not 0 < self.bytes <= MOST_BYTES:
            raise ValueError(f"{self.path}: bytes must be 1 to {MOST_BYTES}, got {str(self.bytes)[:40]}")


def verify(file: BundleFile, folder: Path) -> None:
    """See that a file of a bundle is what was exported.

    Raises
    ------
    InputRefused
        "checksum": it is missing, no regular file of this folder, or another
    """
    for _ in _pieces(file, folder):
        pass


def content_of(file: BundleFile, folder: Path) -> bytes:
    """The bytes of a file of a bundle, which are what was exported; raises as `verify`."""
    return b"".join(_pieces(file, folder))


def _pieces(file: BundleFile, folder: Path) -> Iterator[bytes]:
    path = folder / file.path
    if kind := irregular(path):
        raise InputRefused("checksum", f"{path}: expected a regular file, found {kind}; copy the whole bundle again")
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(folder):
        raise InputRefused("checksum", f"{path}: a link leads out of the bundle; copy the file itself there")
    try:
        stream = open_regular(path)
    except InputRefused as refusal:
        raise InputRefused("checksum", f"{refusal.text}; copy the whole bundle again") from None
    digest = hashlib.sha256()
    with stream:
        found = os.fstat(stream.fileno()).st_size
        if found == file.bytes:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                yield piece
    if found != file.bytes or digest.hexdigest() != file.sha256:
        other = f" (SHA-256 {digest.hexdigest()[:12]}…)" if found == file.bytes else ""
        raise InputRefused(
            "checksum",
            f"{path}: expected SHA-256 {file.sha256[:12]}… and {file.bytes} bytes, found {found}{other}; "
            "copy the bundle again",
        )
