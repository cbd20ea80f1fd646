"""A process is known by more than its number, which others get too."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

import heartlens.core.disk.process as process
from heartlens.core.disk.process import ProcessId, process_start


def test_this_process_runs():
    assert ProcessId.own().may_run


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it by a file")
def test_the_number_of_a_process_that_began_at_another_time_is_another_process():
    own = ProcessId.own()
    assert own.started
    assert not replace(own, started="another boot 1").may_run


def test_a_process_that_was_waited_for_is_gone():
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        pass
    assert process_start(other.pid) is None
    assert not ProcessId(socket.gethostname(), other.pid).may_run


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_what_is_no_number_of_a_process_is_none(pid):
    assert process_start(pid) is None


def test_of_another_computer_nobody_knows():
    assert ProcessId("elsewhere", 1).may_run


class Kernel:
    """kernel32 as far as it is asked; `processes` are {pid: (exit code, creation time)}, None where denied."""

    def __init__(self, processes):
        self.processes, self.error, self.closed = processes, 0, []
        self.OpenProcess = OpenProcess(self)

    def GetExitCodeProcess(self, handle, code):
        code._obj.value = self.processes[handle.value][0]
        return 1

    def GetProcessTimes(self, handle, begin, *_others):
        begin._obj.value = self.processes[handle.value][1]
        return 1

    def CloseHandle(self, handle):
        self.closed.append(handle.value)


class OpenProcess:
    """A function of a library, which takes a type of result."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __call__(self, _right, _inherit, pid):
        self.kernel.error = 5 if pid in self.kernel.processes else 87
        return pid if self.kernel.processes.get(pid) else None


def test_windows_is_asked_by_a_handle_and_never_by_a_signal(monkeypatch):
    """There signal 0 is Ctrl-C, and it would reach the process that is asked after."""
    kernel = Kernel({4: (259, 1111), 8: (0, 2222), 12: None})
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_names, **_options: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: kernel.error, raising=False)
    monkeypatch.setattr(process.os, "kill", lambda *_words: pytest.fail("a signal was sent"))
    assert process_start(4) == "1111"
    assert process_start(8) is None, "it has ended, and somebody keeps a handle of it"
    assert process_start(12) == "", "it runs, and nothing more may be asked"
    assert process_start(16) is None
    assert kernel.closed == [4, 8]
