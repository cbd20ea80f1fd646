"""Streams, signals and logs of a command: it says everything, leaves nothing half-done, and repeats no library."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from heartlens.app.failure import LOG_FORMAT, LOG_VARIABLE, Discreet
from heartlens.core.errors import InputRefused

STOPPING = ("SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals by which a system, a queue, a container or a closed window asks a program to go. SIGBREAK is Windows' own:
Ctrl-Break, a closed console, the end of a session. What Windows' TerminateProcess ends cleans nothing up, as after
SIGKILL; the next run does."""

CLEANING_SECONDS = 5.0
"""How long a second signal does not disturb the cleaning up after the first; `docker stop` waits ten."""


class Stopped(KeyboardInterrupt):
    """The system asks the program to go, as Ctrl-C would: what that cleans up, this does."""


def open_streams() -> None:
    """Make the three streams take whatever is written: one that is closed leads nowhere, no letter is too rare.

    A descriptor that is closed would be given to the next file that is opened, and a library's messages go into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != descriptor:
                    os.dup2(nowhere, descriptor)
                    os.close(nowhere)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, open as long as the program is
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_stdout() -> None:
    """Drop what could not be written, so that the interpreter does not try again when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say(text: str) -> None:
    """Write a line to stderr; nobody may be there to read it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def stopping_cleanly() -> Iterator[None]:
    """End the block by `Stopped` when the system asks the program to go; only the main thread hears it.

    A signal that is ignored already, as under ``nohup``, stays ignored.

    Raises
    ------
    Stopped
        It did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = 0.0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if first and time.monotonic() - first < CLEANING_SECONDS:
            return
        first = time.monotonic()
        raise Stopped

    numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


@contextmanager
def discreet_logs() -> Iterator[None]:
    """Keep what libraries log and warn of from the terminal; put what HeartLens logs into a file, if one is named.

    Raises
    ------
    InputRefused
        ``output``: the file cannot be written.
    """
    path = os.environ.get(LOG_VARIABLE, "")
    handler: logging.Handler = logging.NullHandler()
    if path:
        try:
            handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise InputRefused("output", f"{LOG_VARIABLE} names {path}: {error.strerror}; name another file") from None
        handler.setFormatter(Discreet(LOG_FORMAT))
        logging.getLogger("heartlens").setLevel(logging.INFO)
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()
