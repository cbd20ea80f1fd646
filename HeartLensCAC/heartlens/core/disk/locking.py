"""Locks on files, which go when the process goes, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
"""A file system that knows no locks, as some network shares: then what the file says decides."""


def lock_file(file: int) -> None:
    """Lock without waiting; OSError when another process, or another opening of this one, has it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 20, os.SEEK_SET)  # behind what others read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_same_file(path: Path, file: int) -> bool:
    """Whether a path still names the file that is open."""
    if sys.platform == "win32":
        return True  # there nobody deletes or renames what is open
    try:
        there, here = os.stat(path), os.fstat(file)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def release_file(path: Path, file: int) -> None:
    """Delete a file that is locked, if it still lies there, and let go of it."""
    # While it is locked nobody takes this very file for a free one. Windows deletes nothing that is open, and there
    # nobody can have put another file in its place.
    if sys.platform == "win32":
        os.close(file)
        _unlink(path)
        return
    if is_same_file(path, file):
        _unlink(path)
    os.close(file)


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
