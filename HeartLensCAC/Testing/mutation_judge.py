"""Runs the tests of the scores against one copy of the library after the other.

A process that has loaded everything but the library forks for each copy: starting Python, numpy and pytest anew took
two thirds of the time. Speaks JSON lines: {"library", "marks", "more", "output"} in, the exit code out.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

TESTING = Path(__file__).resolve().parent
JUDGES = ("unit/core/test_protocol.py", "unit/scoring/test_scoring.py")


def arguments(library: str, marks: str, more: list[str]) -> list[str]:
    """What pytest is told; `marks` is an expression of marks."""
    return [
        "-x", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", marks,
        "-o", f"pythonpath={library} {TESTING}", *JUDGES, *more,
    ]  # fmt: skip


def main() -> None:
    """Judge until the input ends."""
    import hypothesis  # noqa: F401 - loaded once for all
    import numpy  # noqa: F401
    import pytest
    import scipy.ndimage  # noqa: F401

    os.chdir(TESTING)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(job["output"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = 3
            try:
                # Hypothesis is loaded before pytest could have rewritten its assertions: it has none to rewrite.
                loaded_before = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
                code = int(pytest.main([*loaded_before, *arguments(job["library"], job["marks"], job["more"])]))
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
