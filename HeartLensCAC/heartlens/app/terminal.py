"""The one door through which text reaches a terminal: what would steer it is made visible.

Names of files and texts of headers reach the command line in listings, messages and libraries' complaints; what they
hold must not move the cursor, recolor, answer for the user or show letters in another order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from heartlens.core.errors import visible


class VisibleStream:
    """A text stream that writes `visible` lines to another.

    Parameters
    ----------
    stream
        Where they go.

    Attributes
    ----------
    plain
        The stream below, for a progress bar, which has to return to the start of its line.
    """

    def __init__(self, stream: TextIO) -> None:
        self.plain = stream

    def write(self, text: str) -> int:
        """Write a text; line feeds stay."""
        self.plain.write("\n".join(map(visible, text.split("\n"))))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Let stdout and stderr show what would steer a terminal; also as a decorator."""
    with ExitStack() as changed:
        for redirect, stream in ((redirect_stdout, sys.stdout), (redirect_stderr, sys.stderr)):
            if stream is not None and not isinstance(stream, VisibleStream):  # a program without a console has none
                changed.enter_context(redirect(VisibleStream(stream)))
        yield
