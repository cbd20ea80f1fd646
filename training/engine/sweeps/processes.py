"""A cell of a sweep is a process of its own: one that dies takes no other with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

POLL_SECONDS = 0.5


class Ending(NamedTuple):
    """How the process of a cell ended.

    Parameters
    ----------
    code
        Its exit code.
    said
        Last line on its stderr.
    """

    code: int
    said: str


def run_process(words: Sequence[str], log: Path, stop: Path) -> Ending:
    """Run a command of training in a process of its own, and keep what it says.

    Parameters
    ----------
    words
        Module, then its arguments.
    log
        Takes its output, after that of earlier starts.
    stop
        Where this file is, the process is asked to save and stop: what also reaches workers on other computers.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        begin = file.tell()
        file.write(f"$ python -m {' '.join(words)}\n")
        file.flush()
        child = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            code = _wait(child, stop)
        except BaseException:  # asked to stop: the run saves, and is waited for
            child.terminate()
            child.wait()
            raise
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().split("\n") if line.strip()]
    return Ending(code, lines[-1] if lines else "it said nothing")


def _wait(child: subprocess.Popen[bytes], stop: Path) -> int:
    while True:
        try:
            return child.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop.exists():
                child.terminate()
                return child.wait()
