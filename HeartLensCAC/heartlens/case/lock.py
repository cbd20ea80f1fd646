"""One reader at a time: a lock on a case folder that says who holds it, and goes when its process goes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from heartlens.core.disk.locking import NO_LOCKS, is_same_file, lock_file, release_file
from heartlens.core.disk.process import ProcessId
from heartlens.core.disk.renaming import patiently
from heartlens.core.disk.rights import FILE

LOCK = ".lock"

OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


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
    started
        When its process began, see `ProcessId`; locks of earlier versions do not say.
    """

    host: str
    pid: int
    when: str
    reader: str = ""
    started: str = ""

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
        release_file(self._path, file)  # only if it still lies there: the folder may have been replaced

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
    if path.is_symlink() or (path.exists() and not path.is_file()):
        # Whoever made the folder could else have it written into any file of the reader.
        return Holder("an unknown computer: the lock is no regular file", 0, "an unknown time")
    while True:
        try:
            # As open as the folder: who may edit the case with others must be able to lock it, too.
            mode = 0o666 & (folder.stat().st_mode | FILE)
            file = patiently(partial(os.open, path, OPEN, mode))
        except OSError:
            holder = _read_holder(path)  # of another user, whose lock may be read and not taken
            return holder if holder is not None and _process_of(holder).may_run else None
        try:
            lock_file(file)
        except OSError as error:
            holder = _read_holder(path)
            if error.errno not in NO_LOCKS or (holder is not None and _process_of(holder).may_run):
                os.close(file)
                return holder or Holder("an unknown computer", 0, "an unknown time")
        if is_same_file(path, file):
            break
        os.close(file)  # released and deleted between opening and locking
    taken = CaseLock(folder, file)
    try:
        own = ProcessId.own()
        when = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):
            os.ftruncate(file, 0)
            os.write(file, json.dumps(asdict(Holder(own.host, own.pid, when, reader, own.started))).encode())
    except BaseException:  # Ctrl-C, no memory: nobody has it then, and this process could not take it again
        taken.release()
        raise
    return taken


def who_holds(folder: Path) -> Holder | None:
    """Who has a case open; None where nobody has."""
    lock = lock_case(folder)
    if isinstance(lock, CaseLock):
        lock.release()
        return None
    return lock


def _process_of(holder: Holder) -> ProcessId:
    return ProcessId(holder.host, holder.pid, holder.started)


def _read_holder(path: Path) -> Holder | None:
    try:
        if path.is_symlink() or not path.is_file():
            return None
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
