"""What nobody foresaw, as a line for a person and as an entry of a log that names neither a path nor a patient."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from heartlens.app.requirements import missing
from heartlens.core.atomic import NO_ROOM
from heartlens.core.errors import InputRefused

LOG_VARIABLE = "HEARTLENS_LOG"
"""Environment variable with the file that the command line logs to; without it there is no log."""

NO_MEMORY = (
    "bad_alloc", "bad allocation", "failed to allocate", "cannot allocate memory", "out of memory",
    "failed to map segment",  # of a shared library that is loaded
)  # fmt: skip
"""How libraries that are not Python say that there is no memory."""

NO_THREADS = "can't start new thread"

OUT_OF_MEMORY = "there is not enough memory for this scan; close other programs, then score again"


@dataclass(frozen=True)
class Failure:
    """How a failure is told.

    Parameters
    ----------
    code
        Of a refusal, see `heartlens.core.errors`; or ``memory`` or ``failed``.
    text
        One line, and the way out. What the failure itself said is not in it, because it may quote a file.
    """

    code: str
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Say what happened.

        Parameters
        ----------
        error
            That ended a command or a job.
        """
        if is_want_of_memory(error):
            return cls("memory", OUT_OF_MEMORY)
        if isinstance(error, InputRefused):
            return cls(error.code, error.text)
        if isinstance(error, ModuleNotFoundError):
            lines = "; ".join(" ".join(requirement.line.split()) for requirement in missing())
            return cls("failed", f"the library {error.name} is not installed. {lines or 'Install it, then run again'}")
        full = next((e for e in _causes(error) if isinstance(e, OSError) and e.errno in NO_ROOM), None)
        if full is not None:
            return cls("output", f"the disk takes no more: {full.strerror}; make room, then run again")
        return cls(
            "failed",
            f"ended unexpectedly by {_kind(error)}; nothing half-written was left; set {LOG_VARIABLE} to the name of a "
            "file and run again: what is in that file, no path and no patient, helps to mend it",
        )


def is_want_of_memory(error: BaseException) -> bool:
    """Whether there was no memory, by the exception or by what a library said of it."""
    # A decoder's MemoryError is the fault of a file that asks for all memory, a network's is not.
    blames_the_file = isinstance(error, InputRefused) and error.code == "unreadable"
    return any(
        _says_no_memory(cause) or (isinstance(cause, MemoryError) and not blames_the_file)
        for cause in _causes(error)
        if not isinstance(cause, InputRefused)
    )


def _says_no_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return False
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    return any(words in said for words in (*NO_MEMORY, NO_THREADS))


def log_failure(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Put a failure into the log: what it was and where, not what it said.

    Parameters
    ----------
    logger
        Of the front end.
    what
        What failed.
    error
        By which.
    """
    parts = [f"{what}: {type(error).__name__}"]
    for cause in _causes(error):
        if cause is not error:
            parts.append(f"after {type(cause).__name__}")
        parts += [f"  {place}" for place in places(cause.__traceback__)]
    logger.error("%s", "\n".join(parts))


def places(trace: TracebackType | None) -> list[str]:
    """Module, line and function of each frame; no path, which may go through a person's home."""
    found = []
    while trace is not None:
        frame = trace.tb_frame
        found.append(f"{frame.f_globals.get('__name__', '?')}:{trace.tb_lineno} {frame.f_code.co_name}")
        trace = trace.tb_next
    return found


class Discreet(logging.Formatter):
    """Repeats what HeartLens says; of other libraries only that they said something: it may quote a file."""

    def format(self, record: logging.LogRecord) -> str:
        """One entry of the log."""
        if record.name.partition(".")[0] != "heartlens":
            record = logging.makeLogRecord(
                {**record.__dict__, "msg": f"from {record.name}", "args": (), "exc_info": None}
            )
        return super().format(record)


LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The failure and what led to it, latest first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _kind(error: BaseException) -> str:
    """Its type and where it arose."""
    *_, last = ["", *places(error.__traceback__)]
    module, _, line = last.partition(" ")[0].rpartition(":")
    return f"{type(error).__name__} in {module}, line {line}" if module else type(error).__name__
