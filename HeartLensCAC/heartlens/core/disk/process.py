"""Which process left something on a disk, and whether it still runs."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

QUERY_LIMITED_INFORMATION, STILL_ACTIVE, ACCESS_DENIED = 0x1000, 259, 5
"""Of Windows: the right to ask about a process, the exit code of one that runs, and the answer where that is denied."""


@dataclass(frozen=True)
class ProcessId:
    """One process of one computer.

    Parameters
    ----------
    host
        Name of the computer, or of the container.
    pid
        Its number, which another process gets sooner or later; in a container the first one always has 1.
    started
        When it began, as the system counts; with it no later process is taken for this one. "" where unknown.
    """

    host: str
    pid: int
    started: str = ""

    @classmethod
    def own(cls) -> ProcessId:
        """The process that asks."""
        return cls(socket.gethostname(), os.getpid(), process_start(os.getpid()) or "")

    @property
    def may_run(self) -> bool:
        """Whether it may still run; of another computer nobody knows, and it counts as running."""
        if self.host != socket.gethostname():
            return True
        started = process_start(self.pid)
        return started is not None and (not self.started or not started or started == self.started)


def process_start(pid: int) -> str | None:
    """When a process of this computer began.

    Parameters
    ----------
    pid
        Of the process.

    Returns
    -------
    str | None
        The same text as long as it runs, "" where the system does not tell; None where there is no such process.
    """
    if pid <= 0:
        return None
    if sys.platform == "win32":
        return _start_on_windows(pid)
    try:
        os.kill(pid, 0)  # never on Windows, where 0 is Ctrl-C
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass  # somebody else's, but there
    try:
        # proc(5): the 22nd field counts from the boot; the name in brackets before it may hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {fields[19]}"
    except (OSError, IndexError):
        return ""


def _start_on_windows(pid: int) -> str | None:
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined, unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(QUERY_LIMITED_INFORMATION, False, pid)
    if not handle:
        denied = ctypes.get_last_error() == ACCESS_DENIED  # type: ignore[attr-defined, unused-ignore]
        return "" if denied else None
    try:
        code = ctypes.c_ulong()
        if kernel.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(code)) and code.value != STILL_ACTIVE:
            return None
        times = [ctypes.c_ulonglong() for _ in range(4)]
        told = kernel.GetProcessTimes(ctypes.c_void_p(handle), *(ctypes.byref(time) for time in times))
        return str(times[0].value) if told else ""
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
