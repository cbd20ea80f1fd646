"""One reader at a time: a lock on a case folder that says who holds it, and goes when its process goes."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

LOCK = ".lock"

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
"""A file system that knows no locks, as some network shares: then what the file says decides."""


@dataclass(frozen=True)
class Holder:
    """Who has a case open.

    Parameters
    ----------
    host, pid
        Of the process.
    when
        ISO 8601 time.
    reader
        Name of the reader, where one was given.
    """

    host: str
    pid: int
    when: str
    reader: str = ""

    def __str__(self) -> str:
        who = self.reader or "somebody"
        return f"{who} on {self.host} since {self.when.replace('T', ' ')}"


class CaseLock:
    """A lock that is held until it is released, or the process ends, however it ends.

    Parameters
    ----------
    folder
        Of the case.
    file
        Descriptor of the locked file.
    """

    def __init__(self, folder: Path, file: int) -> None:
        self._path = folder / LOCK
        self._file: int | None = file

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if sys.platform != "win32":  # while it is locked nobody takes this very file for a free one
            with suppress(OSError):
                self._path.unlink()
        os.close(file)
        if sys.platform == "win32":
            with suppress(OSError):
                self._path.unlink()

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def lock_case(folder: Path, reader: str = "") -> CaseLock | Holder | None:
    """Take a case for oneself.

    Parameters
    ----------
    folder
        Of the case.
    reader
        Who wants it; told to whoever comes second.

    Returns
    -------
    CaseLock | Holder | None
        The lock; or who has it; None where the folder cannot be written, and so needs no lock.
    """
    path = folder / LOCK
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError:
            return None
        try:
            _lock_file(file)
        except OSError as error:
            holder = _read_holder(path)
            if error.errno not in NO_LOCKS or (holder is not None and _is_alive(holder)):
                os.close(file)
                return holder or Holder("an unknown computer", 0, "an unknown time")
        if sys.platform == "win32" or _is_same_file(path, file):
            break
        os.close(file)  # released and deleted between opening and locking
    own = Holder(socket.gethostname(), os.getpid(), datetime.now().astimezone().isoformat(timespec="seconds"), reader)
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.write(file, json.dumps(asdict(own)).encode())
    return CaseLock(folder, file)


def _lock_file(file: int) -> None:
    """Lock without waiting; OSError when another process, or another opening of this one, has it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 20, os.SEEK_SET)  # behind what others read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_same_file(path: Path, file: int) -> bool:
    try:
        there, here = os.stat(path), os.fstat(file)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_alive(holder: Holder) -> bool:
    """Whether its process may still run; on another computer nobody knows, and it counts as alive."""
    if holder.host != socket.gethostname():
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
