"""Files that are read without trust: regular ones alone, without a wait, as far as they may be long.

What cannot be opened is refused in the user's words.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from heartlens.core.errors import InputRefused

_NOT_FETCHED = {
    b"/annex/objects/": "git annex get or datalad get",
    b"version https://git-lfs.github.com/spec/": "git lfs pull",
}
"""How files begin that only say where the file is."""


def irregular(path: Path) -> str | None:
    """What a path is when it is no regular file, in words; None for a regular file, and where nothing is.

    A named pipe would be waited for without end, a device may never end, and a link whose target is missing is a file
    that was not fetched.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # a name that no file can have
        if "\0" in str(path) or not path.is_symlink():
            return None
        return "a link whose target is missing (git annex get, datalad get or a copy brings it)"
    kinds = {
        "a folder": stat.S_ISDIR, "a named pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK,
        "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    }  # fmt: skip
    return None if stat.S_ISREG(mode) else next((kind for kind, test in kinds.items() if test(mode)), "no file")


def files_below(folder: Path) -> Iterator[Path]:
    """Every file of a folder and its subfolders, in the order of their names; folders that are links are followed.

    A folder that is reached twice is searched once, so that links that lead in a circle end. What is no regular file is
    refused by name and not passed over: behind a link that leads nowhere a slice is missing.

    Yields
    ------
    Path
        A regular file, or a link to one.

    Raises
    ------
    InputRefused
        ``input``, also for a folder that cannot be read
    """

    def refuse(error: OSError) -> None:
        raise InputRefused("input", f"folder cannot be read: {error.strerror}")

    seen: set[tuple[int, int]] = set()
    for place, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        known = os.stat(place)
        if (known.st_dev, known.st_ino) in seen:
            subfolders[:] = []
            continue
        seen.add((known.st_dev, known.st_ino))
        subfolders[:] = sorted(name for name in subfolders if name != ".git")  # it holds what was fetched once more
        for name in sorted(names):
            if kind := irregular(file := Path(place, name)):
                raise InputRefused(
                    "input", f"{name}: expected a regular file, found {kind}; bring the file, or remove this"
                )
            yield file


def require_fetched(start: bytes, name: str) -> None:
    """Refuse a note that stands in the place of a file that was not fetched: it is no junk, the file is missing.

    Parameters
    ----------
    start
        First bytes of the file, 64 or more.
    name
        For the message.

    Raises
    ------
    InputRefused
        ``input``
    """
    for mark, command in _NOT_FETCHED.items():
        if start.startswith(mark):
            raise InputRefused("input", f"{name} was not fetched, it only says where it is; {command} brings it")


def open_regular(path: Path, shown: str | None = None) -> BufferedReader:
    """Open a file for reading in binary; nothing but a regular file, and never a wait.

    Parameters
    ----------
    path
        The file, or a link to it.
    shown
        What messages call it, where its folder is not to be told; None is the path.

    Raises
    ------
    InputRefused
        ``input``
    """
    name = str(path) if shown is None else shown
    if kind := irregular(path):
        raise InputRefused("input", f"cannot read {name}: expected a regular file, found {kind}; check the path")
    # What was a file a moment ago may be a pipe by now: it is opened without waiting, and looked at once more.
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputRefused("input", f"cannot read {name}: {reason}; check the path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputRefused("input", f"cannot read {name}: expected a regular file; check the path")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The whole content of a regular file that is no larger than it may be.

    Raises
    ------
    InputRefused
        ``input`` as `open_regular`; ``unreadable``, it is larger; nothing was read then
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise InputRefused(
                "unreadable", f"{path}: expected at most {most_bytes} bytes, found {size}; is it the right file?"
            )
        return file.read(most_bytes + 1)[:most_bytes]  # it may grow meanwhile


def require_readable(path: Path) -> None:
    """Refuse a path that is no regular file, or one that may not be read.

    Raises
    ------
    InputRefused
        ``input``
    """
    open_regular(path).close()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with open_regular(file) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
