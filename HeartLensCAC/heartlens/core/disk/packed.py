"""What was handed over packed or misplaced: it is named, with the command that unpacks it or the file that is meant."""

from __future__ import annotations

import shlex
from pathlib import Path

from heartlens.core.errors import InputRefused

VOLUME_ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
"""Names of volume files, which `heartlens.io` reads."""

_ARCHIVES = {
    b"PK\x03\x04": ("a zip archive", "{python} -m zipfile -e {file} {folder}"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "7z x {file} -o{folder}"),
    b"Rar!\x1a\x07": ("a RAR archive", "unrar x {file} {folder}/"),
}
"""How archives begin, and what unpacks them into a folder; the first with Python, which is there."""

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How single compressed files begin."""

_TAR_AT = 257


def refuse_packed(path: Path, start: bytes) -> None:
    """Refuse a file that holds the scan in a wrapping, with what takes it out.

    Parameters
    ----------
    path
        The file.
    start
        Its first bytes, 264 or more where it has them.

    Raises
    ------
    InputRefused
        ``input``
    """
    stem = path.name.split(".")[0] or "unpacked"
    folder, file = path.parent / stem, shlex.quote(str(path))
    if start.startswith(b"PK\x05\x06"):
        raise InputRefused("input", f"{path.name} is an empty zip archive; ask for it again")
    for mark, (what, command) in _ARCHIVES.items():
        if start.startswith(mark):
            told = command.format(python="python", file=file, folder=shlex.quote(str(folder)))
            raise InputRefused("input", f"{path.name} is {what}: unpack it ({told}), then give the folder {folder}")
    is_tar = start[_TAR_AT : _TAR_AT + 5] == b"ustar" or path.name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2"))
    if is_tar:
        told = f"mkdir {shlex.quote(str(folder))} && tar -xf {file} -C {shlex.quote(str(folder))}"
        raise InputRefused("input", f"{path.name} is a tar archive: unpack it ({told}), then give the folder {folder}")
    if start.startswith(b"NRRD"):
        raise InputRefused(
            "input", f"{path.name} is an NRRD volume by another name: rename it to {stem}.nrrd, then give it"
        )
    for mark, program in _COMPRESSED.items():
        if start.startswith(mark):
            rest = path.with_suffix("")
            raise InputRefused(
                "input",
                f"{path.name} is compressed with {program}: unpack it ({program} -d -k {file}), then give {rest.name}",
            )
