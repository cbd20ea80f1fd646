"""One reader at a time, told by name; a process that dies holds nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

import heartlens.case.lock as lock_module
import heartlens.core.disk.process as process
from heartlens.case.lock import LOCK, CaseLock, Holder, lock_case, who_holds

HOLD = """
import sys, time
from pathlib import Path
from heartlens.case.lock import lock_case
held = lock_case(Path(sys.argv[1]), "Rita")
print(type(held).__name__, flush=True)
time.sleep(60)
"""


def test_the_second_is_told_who_was_first(tmp_path):
    first = lock_case(tmp_path, "Rita")
    assert isinstance(first, CaseLock)
    second = lock_case(tmp_path, "Omar")
    assert isinstance(second, Holder)
    assert (second.reader, second.pid) == ("Rita", os.getpid())
    assert str(second).startswith("Rita on ")
    first.release()
    first.release()
    assert not (tmp_path / LOCK).exists()
    third = lock_case(tmp_path, "Omar")
    assert isinstance(third, CaseLock)
    third.release()


def test_a_killed_process_holds_nothing(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "CaseLock"
        held = lock_case(tmp_path)
        assert isinstance(held, Holder)
        assert held.pid == other.pid
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK).exists(), "nobody could clear it away"
        mine = lock_case(tmp_path, "Omar")
        assert isinstance(mine, CaseLock)
        mine.release()


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(lock_module.os, "open", refuse)
    assert lock_case(tmp_path) is None


@pytest.mark.parametrize(
    ("holder", "is_free"),
    [
        (None, True),
        ({"host": "elsewhere", "pid": 1, "when": "2026-11-29T10:00:00+01:00", "reader": "Rita"}, False),
        ({"host": None, "pid": 2**22 + 1, "when": "2026-11-29T10:00:00+01:00"}, True),  # no such process here
        ({"host": None, "pid": os.getppid(), "when": "2026-11-29T10:00:00+01:00"}, False),
        # The number of a process that runs, which began later than the one that wrote this, as in a container.
        ({"host": None, "pid": os.getppid(), "when": "2026-11-29T10:00:00+01:00", "started": "earlier"}, True),
    ],
)
def test_where_the_file_system_knows_no_locks_the_file_decides(tmp_path, monkeypatch, holder, is_free):
    def unknown(_file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module, "lock_file", unknown)
    if holder is not None:
        content = {**holder, "host": holder["host"] or socket.gethostname()}
        (tmp_path / LOCK).write_text(json.dumps(content))
    assert isinstance(lock_case(tmp_path), CaseLock if is_free else Holder)


def test_a_folder_that_was_replaced_meanwhile_keeps_the_lock_of_the_new_one(tmp_path):
    """A release must not let two readers in."""
    folder = tmp_path / "case"
    folder.mkdir()
    old = lock_case(folder)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    new = lock_case(folder, "Omar")
    assert isinstance(old, CaseLock)
    assert isinstance(new, CaseLock)
    old.release()
    held = who_holds(folder)
    assert held is not None
    assert held.reader == "Omar"
    new.release()
    assert who_holds(folder) is None


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
@pytest.mark.parametrize(("folder_mode", "lock_mode"), [(0o700, 0o600), (0o770, 0o660)])
def test_whoever_may_edit_a_case_can_lock_it_and_nobody_else_reads_who_does(tmp_path, folder_mode, lock_mode):
    mask = os.umask(0)
    try:
        tmp_path.chmod(folder_mode)
        lock = lock_case(tmp_path)
        assert (tmp_path / LOCK).stat().st_mode & 0o777 == lock_mode
        lock.release()
    finally:
        os.umask(mask)


def test_the_lock_of_another_user_that_cannot_be_taken_still_holds(tmp_path, monkeypatch):
    """On a shared drive another user's lock may be readable and not writable."""
    first = lock_case(tmp_path, "Rita")

    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(lock_module.os, "open", refuse)
        second = lock_case(tmp_path, "Omar")
    assert isinstance(second, Holder)
    assert second.reader == "Rita"
    first.release()


class Msvcrt:
    """Windows' C library as far as it locks: one lock a file, gone when the descriptor is closed."""

    LK_NBLCK = 2

    def __init__(self):
        self.locked = {}

    def locking(self, file, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        assert os.lseek(file, 0, os.SEEK_CUR) >= 1 << 20, "what is locked on Windows cannot be read by others"
        name = os.fstat(file).st_ino
        holder = self.locked.get(name)
        if holder is not None and holder != file:
            try:
                if os.fstat(holder).st_ino == name:
                    raise PermissionError(errno.EACCES, "Permission denied")
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
        self.locked[name] = file


def test_on_windows_the_second_is_told_who_was_first_and_the_file_goes_after_it_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "process_start", lambda _pid: "1")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    closed, close, unlink = [], os.close, type(tmp_path).unlink

    def delete(path, **how):
        assert closed, "Windows deletes nothing that is open"
        unlink(path, **how)

    first = lock_case(tmp_path, "Rita")
    assert isinstance(first, CaseLock)
    second = lock_case(tmp_path, "Omar")
    assert isinstance(second, Holder)
    assert second.reader == "Rita"
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", lambda file: (closed.append(file), close(file)))
        patched.setattr(type(tmp_path), "unlink", delete)
        first.release()
    assert not (tmp_path / LOCK).exists()


def sharing_error(number):
    error = PermissionError(errno.EACCES, "The process cannot access the file because it is being used")
    error.winerror = number
    return error


def test_a_lock_at_which_a_scanner_looks_is_waited_for(tmp_path, monkeypatch):
    """A case that seems impossible to lock would be taken for one that cannot be written."""
    opened, answers = os.open, [sharing_error(32), sharing_error(5)]

    def busy(*words):
        if answers:
            raise answers.pop()
        return opened(*words)

    monkeypatch.setattr(lock_module.os, "open", busy)
    lock = lock_case(tmp_path)
    assert isinstance(lock, CaseLock)
    assert not answers
    lock.release()


def test_a_lock_that_could_not_be_finished_is_nobodys(tmp_path, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(lock_module.os, "ftruncate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lock_case(tmp_path)
    monkeypatch.undo()
    mine = lock_case(tmp_path)
    assert isinstance(mine, CaseLock)
    mine.release()
