"""How a training command ends: 0 done, 2 usage, 3 refused in one line, 4 cancelled; as the command `heartlens` does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from heartlens.refusal import Refused

DONE, USAGE, REFUSED, CANCELLED = 0, 2, 3, 4


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Parse, call the options' `run`, and turn a refusal into one line on stderr; returns the exit code."""
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except Refused as refusal:
        print(f"error: {' '.join(str(refusal).split())}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("cancelled; nothing was written", file=sys.stderr)
        return CANCELLED
    except BrokenPipeError:  # the reader of our output has gone (... | head)
        sys.stderr.close()
        return DONE


class Progress:
    """One line on stderr that counts up; silent when nobody watches."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total, self.done = what, total, 0
        self._shown = sys.stderr.isatty()

    def step(self, detail: str = "") -> None:
        self.done += 1
        if self._shown:
            of = "" if self.total is None else f" of {self.total}"
            print(f"\r\x1b[K{self.what} {self.done}{of} {detail}"[:150], end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
