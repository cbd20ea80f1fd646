"""Where a folder is written before it has its name, and what killed processes left there.

Beside a folder ``out`` lie, as long as it is written::

    .out-TOKEN.owner   who writes, as JSON; locked, so that a process that died is known by its free lock
    .out-TOKEN.part    what is written
    .out-TOKEN.old     what it replaces, between the two renames

The token is random: in containers every process has the same number. Version 0.1 wrote the number of the process
in its place, and no owner.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from heartlens.core.disk.locking import NO_LOCKS, is_same_file, lock_file, release_file
from heartlens.core.disk.process import ProcessId, process_start
from heartlens.core.disk.renaming import rename_new
from heartlens.core.disk.rights import FILE, FOLDER


def new_token() -> str:
    """Part of a name that nobody else has."""
    return os.urandom(8).hex()


class Workplace:
    """The names beside a folder that is being written; to be used in a ``with``.

    Parameters
    ----------
    out
        The folder, absolute.
    private
        Whether nobody but the user may look into it while it is written.

    Attributes
    ----------
    part
        Where to write.
    old
        Where to keep what is replaced, until it is.
    """

    def __init__(self, out: Path, *, private: bool) -> None:
        self.out = out
        self._private = private
        self._made: list[Path] = []
        self._file = -1
        self.owner, self.part, self.old = _names(out, new_token())

    def __enter__(self) -> Workplace:
        try:
            for parent in reversed([p for p in self.out.parents if not p.exists()]):
                with suppress(FileExistsError):  # another run has made it meanwhile
                    parent.mkdir()
                    self._made.append(parent)
            self._take()
            self.part.mkdir(FOLDER if self._private else 0o777)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _clear(self.out, self.part, self.old)
        if self._file >= 0:
            file, self._file = self._file, -1
            release_file(self.owner, file)
        if not os.path.lexists(self.out):
            for parent in reversed(self._made):  # ours, unless somebody has put something there
                with suppress(OSError):
                    parent.rmdir()

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def _take(self) -> None:
        """Write down who is at work, in a file that is locked before anybody can take it for a leftover."""
        while True:
            self._file = os.open(self.owner, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), FILE)
            try:
                lock_file(self._file)
                is_taken = not is_same_file(self.owner, self._file)
            except OSError as error:
                is_taken = error.errno not in NO_LOCKS
            if not is_taken:
                break
            os.close(self._file)  # somebody took it for a leftover before it was locked, and clears it away
            self.owner, self.part, self.old = _names(self.out, new_token())
        os.write(self._file, json.dumps(asdict(ProcessId.own())).encode())


def clear_leftovers(out: Path, *, own: bool = False) -> bool:
    """Clear away what killed processes left beside a folder, and bring back a result that one of them had set aside.

    Parameters
    ----------
    out
        The folder, absolute.
    own
        Also what this process left, which is in the midst of nothing.

    Returns
    -------
    bool
        Whether a result was brought back.
    """
    pattern = re.compile(rf"\.{re.escape(out.name)}-([0-9a-f]{{16}}|[0-9]+)\.(owner|part|old)")
    try:
        matches = [match for name in os.listdir(out.parent) if (match := pattern.fullmatch(name))]
    except OSError:
        return False
    brought_back = False
    for token in sorted({match[1] for match in matches}):
        owner, part, old = _names(out, token)
        file = _taken_over(owner, token, own=own)
        if file is None:
            continue
        brought_back |= _clear(out, part, old)
        if file >= 0:
            release_file(owner, file)
        with suppress(OSError):
            owner.unlink()
    return brought_back


def _names(out: Path, token: str) -> tuple[Path, Path, Path]:
    owner, part, old = (out.with_name(f".{out.name}-{token}.{kind}") for kind in ("owner", "part", "old"))
    return owner, part, old


def _taken_over(owner: Path, token: str, *, own: bool) -> int | None:
    """The descriptor of a leftover's owner file, now ours; -1 where there is none; None where somebody is at work."""
    try:
        file = os.open(owner, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        # The owner comes first and goes last, so nobody is at work; before there were owners, the number told.
        is_old_name = len(token) != 16 and int(token) != os.getpid()
        return None if is_old_name and process_start(int(token)) is not None else -1
    except OSError:
        return None  # somebody else's
    try:
        lock_file(file)
        return file
    except OSError as error:
        process = _read_owner(file)
        is_over = error.errno in NO_LOCKS and process is not None and not process.may_run
        is_own = own and process == ProcessId.own()
    os.close(file)
    return -1 if is_over or is_own else None


def _read_owner(file: int) -> ProcessId | None:
    try:
        return ProcessId(**json.loads(os.read(file, 4096)))
    except (OSError, ValueError, TypeError):
        return None


def _clear(out: Path, part: Path, old: Path) -> bool:
    """Bring back what was set aside, where nothing has its place; then delete both."""
    brought_back = False
    if os.path.lexists(old) and not os.path.lexists(out):
        with suppress(OSError):
            rename_new(old, out)
            brought_back = True
    shutil.rmtree(part, ignore_errors=True)
    if os.path.lexists(out):
        shutil.rmtree(old, ignore_errors=True)
    return brought_back
