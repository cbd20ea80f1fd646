"""A disk that fails at the n-th thing it is asked for.

Everything that Python code does to files below a folder passes here: opening for writing, writing, truncating, syncing,
renaming, making and removing. Files are written through a raw file of ours below Python's own buffers, so that a write
fails where the kernel's would, in two halves and with the rest still in the buffer.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unsynced import History

from heartlens.core.disk import renaming

ALLOCATING = ("arange", "array", "ascontiguousarray", "asarray", "concatenate", "empty", "repeat", "unique", "zeros")
"""Functions of NumPy that ask for memory, as the writers call them."""


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def broken() -> OSError:
    return OSError(errno.EIO, "Input/output error")


def denied() -> OSError:
    return PermissionError(errno.EACCES, "Permission denied")


ERRORS: dict[str, tuple[Callable[[], BaseException], ...]] = {
    "open": (full, denied, MemoryError, KeyboardInterrupt),
    "write": (full, broken, MemoryError, KeyboardInterrupt),
    "truncate": (broken, KeyboardInterrupt),
    "sync": (full, broken, KeyboardInterrupt),
    "rename": (full, denied, KeyboardInterrupt),
    "mkdir": (full, denied, KeyboardInterrupt),
    "remove": (broken, denied),
    "allocate": (MemoryError,),
}
"""What may happen where; made anew each time, because an error keeps everything alive that it went through."""

NEEDS_ROOM = frozenset({"open", "write", "mkdir"})
"""What fails again and again while a disk stays full; renaming and removing need no room."""


@dataclass
class Fault:
    """What goes wrong, and when.

    Parameters
    ----------
    at
        The how manieth thing that is asked for, from 0.
    error
        Makes what is raised there.
    is_lasting
        Whether all that needs room fails from there on, as on a full disk; else it happens once.
    """

    at: int
    error: Callable[[], BaseException]
    is_lasting: bool = False

    def __str__(self) -> str:
        return f"{self.error.__name__}{' and stays so' if self.is_lasting else ''} at {self.at}"


class Disk:
    """Stands between the program and a folder while `watched` is open.

    Parameters
    ----------
    root
        What happens elsewhere is none of ours.

    Attributes
    ----------
    asked
        Kind and name of everything that was asked for, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self.asked: list[tuple[str, str]] = []
        self.history: History | None = None
        self._fault: Fault | None = None
        self._owed: dict[int, BaseException] = {}
        self._names: dict[int, str] = {}

    @contextlib.contextmanager
    def watched(self, fault: Fault | None = None, *, history: History | None = None) -> Iterator[Disk]:
        """Let everything in the block pass here."""
        self.asked, self._fault, self.history = [], fault, history
        self._owed, self._names = {}, {}
        real = {name: getattr(os, name) for name in ("open", "write", "fsync", "truncate", "ftruncate", "mkdir")}
        real |= {name: getattr(os, name) for name in ("rename", "replace", "unlink", "remove", "rmdir", "link")}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("rename", "replace", "link"):
                patch.setattr(os, name, self._moving(name, real[name]))
            for name in ("unlink", "remove", "rmdir"):
                patch.setattr(os, name, self._removing(real[name]))
            patch.setattr(os, "mkdir", self._mkdir(real["mkdir"]))
            patch.setattr(os, "open", self._os_open(real["open"]))
            patch.setattr(os, "write", self._os_write(real["write"]))
            patch.setattr(os, "fsync", self._fsync(real["fsync"]))
            patch.setattr(os, "truncate", self._truncate(real["truncate"]))
            patch.setattr(os, "ftruncate", self._truncate(real["ftruncate"]))
            opened = self._open(builtins.open)
            patch.setattr(builtins, "open", opened)
            patch.setattr(io, "open", opened)
            patch.setattr(renaming, "_rename_exclusively", self._rename_exclusively(renaming._rename_exclusively))
            if history is None:
                for name in ALLOCATING:
                    patch.setattr(np, name, self._allocating(getattr(np, name)))
            yield self

    def path_of(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Where it lies, below the root; None elsewhere."""
        if isinstance(path, int):
            return self._names.get(path)
        name = os.fspath(path)
        name = os.fsdecode(name) if isinstance(name, bytes) else name
        if dir_fd is not None:
            folder = self._names.get(dir_fd)
            if folder is None:
                return None
            name = os.path.join(folder, name)
        head, tail = os.path.split(os.path.abspath(name))
        full = os.path.join(os.path.realpath(head), tail)
        return full if full.startswith(self.root + os.sep) or full == self.root else None

    def ask(self, kind: str, path: str) -> None:
        """Count, and fail where it was agreed."""
        number = len(self.asked)
        self.asked.append((kind, os.path.basename(path)))
        fault = self._fault
        if fault is None:
            return
        if number == fault.at or (fault.is_lasting and number > fault.at and kind in NEEDS_ROOM):
            raise fault.error()

    def _note(self, *event: Any) -> None:
        if self.history is not None:
            self.history.note(*event)

    def _moving(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def move(source: Any, target: Any, **options: Any) -> Any:
            there = self.path_of(target, options.get("dst_dir_fd"))
            if there is None:
                return real(source, target, **options)
            self.ask("rename", there)
            done = real(source, target, **options)
            self._note(name, self.path_of(source, options.get("src_dir_fd")), there)
            return done

        return move

    def _rename_exclusively(self, real: Callable[[bytes, bytes], int]) -> Callable[[bytes, bytes], int]:
        """A call of the system that Python has no function for."""

        def rename(source: bytes, target: bytes) -> int:
            there = self.path_of(target)
            if there is not None and os.path.lexists(source) and not os.path.lexists(target):
                self.ask("rename", there)
            found = real(source, target)
            if there is not None and found == 0:
                self._note("rename", self.path_of(source), there)
            return found

        return rename

    def _removing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            there = self.path_of(path, dir_fd)
            if there is not None and os.path.lexists(there):
                self.ask("remove", there)
            real(path, dir_fd=dir_fd)
            if there is not None:
                self._note("remove", there)

        return remove

    def _mkdir(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            there = self.path_of(path, dir_fd)
            if there is not None:
                self.ask("mkdir", there)
            real(path, mode, dir_fd=dir_fd)
            if there is not None:
                self._note("make", there)

        return mkdir

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            there = self.path_of(path, dir_fd)
            if there is None:
                return real(path, flags, mode, dir_fd=dir_fd)
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.ask("open", there)
            file = real(path, flags, mode, dir_fd=dir_fd)
            self._opened(file, there)
            return file

        return open_

    def _opened(self, file: int, there: str) -> None:
        self._names[file] = there
        self._note("open", there)

    def _os_write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: Any) -> int:
            there = self._names.get(file)
            if there is None:
                return real(file, data)
            return self._in_halves(file, there, data, lambda part: real(file, part))

        return write

    def _in_halves(self, file: int, there: str, data: Any, real: Callable[[Any], int]) -> int:
        """A write that fails has written a part first, as on a disk that becomes full; the next one tells."""
        if (owed := self._owed.pop(file, None)) is not None:
            raise owed
        try:
            self.ask("write", there)
        except OSError as error:
            half = memoryview(data).cast("B")[: memoryview(data).nbytes // 2]
            if not half.nbytes:
                raise
            done = real(half)
            self._owed[file] = error
            return done
        done = real(data)
        self._note("write", there)
        return done

    def _fsync(self, real: Callable[[int], None]) -> Callable[[Any], None]:
        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            there = self._names.get(number)
            if there is not None:
                self.ask("sync", there)
            real(number)
            if there is not None:
                self._note("sync", there)

        return fsync

    def _truncate(self, real: Callable[..., None]) -> Callable[..., None]:
        def truncate(path: Any, length: int) -> None:
            there = self.path_of(path)
            if there is not None:
                self.ask("truncate", there)
            real(path, length)
            if there is not None:
                self._note("write", there)

        return truncate

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        disk = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                return disk._in_halves(self.fileno(), disk._names[self.fileno()], data, super().write)

            def truncate(self, size: int | None = None) -> int:
                disk.ask("truncate", disk._names[self.fileno()])
                done = super().truncate(size)
                disk._note("write", disk._names[self.fileno()])
                return done

        def open_(
            file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
            newline: str | None = None, closefd: bool = True, opener: Any = None,
        ) -> Any:  # fmt: skip
            there = None if isinstance(file, int) else disk.path_of(file)
            if there is None or not set(mode) & set("wax+"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            disk.ask("open", there)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            disk._opened(raw.fileno(), there)
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline)
            text.mode = mode
            return text

        return open_

    def _allocating(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def allocate(*arguments: Any, **options: Any) -> Any:
            self.ask("allocate", real.__name__)
            return real(*arguments, **options)

        return allocate
