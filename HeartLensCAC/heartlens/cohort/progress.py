"""How far a run is, and how long it will take: a line on stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter

from heartlens.app.console import say

EVERY_SECONDS = 60.0
"""Between two lines where stderr is no terminal, as in the log of a job."""

TERMINAL_SECONDS = 0.2
"""Between two changes of a line on a terminal."""


class RunProgress:
    """Tells how many of some series are done.

    Parameters
    ----------
    total
        How many there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._start = self._told = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False

    def tell(self, made: Counter[str]) -> None:
        """Tell of the rows that were made so far, by status."""
        now, done = time.monotonic(), sum(made.values())
        if not self._is_terminal and now - self._told < EVERY_SECONDS and done < self.total:
            return
        self._told = now
        left = (now - self._start) / done * (self.total - done)
        counts = ", ".join(f"{count} {status}" for status, count in sorted(made.items()))
        line = f"{done} of {self.total}: {counts}; {duration(left)} left"
        if not self._is_terminal:
            say(line)
            return
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        self._is_open = True

    def close(self) -> None:
        """End the line."""
        if self._is_open:
            print(file=sys.stderr, flush=True)
            self._is_open = False


class FindProgress:
    """Tells how many series were found so far, where many folders are searched."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False

    def tell(self, count: int) -> None:
        """Tell how many there are by now."""
        now = time.monotonic()
        if now - self._told < (TERMINAL_SECONDS if self._is_terminal else EVERY_SECONDS):
            return
        self._told = now
        if not self._is_terminal:
            say(f"{count} series found so far")
            return
        print(f"\r\x1b[K{count} series found so far", end="", file=sys.stderr, flush=True)
        self._is_open = True

    def close(self) -> None:
        """Clear the line."""
        if self._is_open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._is_open = False


def duration(seconds: float) -> str:
    """A time in two units at most.

    Examples
    --------
    >>> [duration(s) for s in (4.4, 130, 7260, 180000)]
    ['4 s', '2 min 10 s', '2 h 1 min', '2 d 2 h']
    """
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{whole} s"
