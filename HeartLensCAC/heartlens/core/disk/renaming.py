"""Renaming that replaces nothing, and renaming that waits for a virus scanner."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

CURRENT_FOLDER, NO_REPLACE = -100, 1
"""AT_FDCWD and RENAME_NOREPLACE of Linux, renameat2(2)."""

EXCLUSIVE = 4
"""RENAME_EXCL of macOS, renamex_np(2)."""

UNKNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)})
"""The kernel or the file system does not know the call."""

SHARING = frozenset({5, 32, 33})
"""Windows: access denied, sharing violation, lock violation. A scanner, an indexer or a backup that looks at a new file
gives them for a moment, and so does a program that keeps it open."""

Result = TypeVar("Result")

PATIENCE_SECONDS = 3.0
"""How long such a moment may last."""


def rename_new(source: Path, target: Path) -> None:
    """Rename a folder to a name that nothing has.

    Parameters
    ----------
    source, target
        In one folder.

    Raises
    ------
    FileExistsError
        There is something; it stays, and so does `source`.
    """
    if sys.platform == "win32":
        patiently(lambda: os.rename(source, target))  # which replaces nothing there
        return
    found = _rename_exclusively(os.fsencode(source), os.fsencode(target))
    if found == 0:
        return
    if found not in UNKNOWN:
        raise OSError(found, os.strerror(found), os.fspath(source), None, os.fspath(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    try:  # POSIX: a folder takes the place of nothing but an empty folder, so of two runs one is refused here, too
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR) and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from None
        raise


def replace_file(source: Path, target: Path) -> None:
    """Rename a file, over the one that is there."""
    patiently(lambda: os.replace(source, target))


def _rename_exclusively(source: bytes, target: bytes) -> int:
    """0, or the error number."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            result = library.renamex_np(source, target, EXCLUSIVE)
        else:
            result = library.renameat2(CURRENT_FOLDER, source, CURRENT_FOLDER, target, NO_REPLACE)
    except AttributeError:  # an older C library
        return errno.ENOSYS
    return 0 if result == 0 else ctypes.get_errno()


def patiently(act: Callable[[], Result]) -> Result:
    """Do something to a file again and again as long as Windows says that somebody looks at it, and not for ever.

    Parameters
    ----------
    act
        What to do.

    Raises
    ------
    PermissionError
        Somebody keeps the file open, or the right is missing, which elsewhere than on Windows is told at once.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = 0.01
    while True:
        try:
            return act()
        except PermissionError as error:
            if getattr(error, "winerror", None) not in SHARING or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    file = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)  # as each wants it
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some network shares cannot; they keep their names in their own way
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def sync_tree(folder: Path) -> None:
    """Wait until everything in a folder is on the disk."""
    for place, _folders, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(place, name))
        sync_folder(Path(place))
