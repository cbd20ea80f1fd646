"""Messages between a front end and the worker: one JSON document a line, commands down, events up.

Both ends use this file, so neither can misspell the other; it needs nothing but the standard library. A front end (the
Slicer panel, the browser, a script) makes one `Run` for each press of Score and keeps it as long as it cares::

    run = Run(files=paths, out=folder, options={"bundle": "none"})
    # start python -u -m heartlens worker with stdin, stdout and stderr as three channels
    process.write(run.command)                 # bytes
    for event in run.feed(bytes_from_stdout):  # any piece of the stream, split anywhere
        ...                                    # event.kind is one of `EVENTS`
    process.write(run.cancellation)            # if it is not over 2 s later: terminate, then kill
    event = run.ended(exit_code)               # the process is gone: None, or the error it died of
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heartlens.core.atomic import real_place
from heartlens.core.disk.workplace import clear_leftovers
from heartlens.core.errors import InputRefused

logger = logging.getLogger(__name__)

EVENTS = ("ready", "progress", "done", "cancelled", "error")
LAST = ("done", "cancelled", "error")
"""Exactly one of these ends a job."""


class BadCommand(ValueError):
    """A line that is no command; `job` is the job it names, if it names one."""

    def __init__(self, text: str, job: str | None = None) -> None:
        super().__init__(text)
        self.job = job


@dataclass(frozen=True)
class Event:
    """One thing the worker says.

    Parameters
    ----------
    kind
        One of `EVENTS`.
    job
        Whom it concerns; None for ``ready`` and for errors about a line that names no job.
    stage
        What is being done, in words for the reader.
    fraction
        Of the whole job, 0 to 1, never falling.
    text
        One line for the reader: why an error happened and the way out; what a result lacks.
    code
        Of an error: those of `heartlens.core.errors`, or ``usage``, ``memory``, ``failed``, ``crash``.
    out, case
        Of ``done``: the result folder and the case folder in it.
    pid
        Of ``ready``: the process to kill; a launcher may stand between it and whoever started it.
    """

    kind: str
    job: str | None = None
    stage: str = ""
    fraction: float = 0.0
    text: str = ""
    code: str = ""
    out: str = ""
    case: str = ""
    pid: int = 0

    def __post_init__(self) -> None:
        if self.kind not in EVENTS:
            raise ValueError(f"event must be one of {', '.join(EVENTS)}, got {self.kind!r}")
        if (self.kind == "error") != bool(self.code):
            raise ValueError(f"an error, and nothing else, has a code; got {self.kind} with code {self.code!r}")
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"fraction must lie between 0 and 1, got {self.fraction}")

    @property
    def is_last(self) -> bool:
        """Whether nothing more will be said of this job."""
        return self.kind in LAST

    @property
    def line(self) -> bytes:
        """The event as it travels: ASCII, so that no code page can spoil it."""
        document = {"event": self.kind, **asdict(self)}
        del document["kind"]
        for name in ("code", "out", "case", "pid"):
            if not document[name]:
                del document[name]
        return json.dumps(document).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Event:
        """Read an event; what a later version may add is left aside.

        Raises
        ------
        ValueError
            This is no event.
        """
        document = _document(line)
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document and name != "kind"}
        try:
            return cls(kind=document.get("event", ""), **known)
        except TypeError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True)
class ScoreCommand:
    """What the worker is asked to do.

    Parameters
    ----------
    job
        Unique among the worker's jobs; a front end makes one per run, so that a late result is known as such.
    out
        Folder to make, as `heartlens score --out`.
    input
        A folder or file; None when `files` says what to score.
    files
        DICOM files of one series.
    options
        The command line's names without dashes in front, as `heartlens.app.options.options_of` takes them.
    """

    job: str
    out: str
    input: str | None = None
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("job", "out"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise BadCommand(f"{name} must be a text, got {getattr(self, name)!r}", _job(self.job))
        if (self.input is None) == (not self.files):
            raise BadCommand("give either input (a path) or files (a list of DICOM files)", self.job)
        if self.input is not None and not (isinstance(self.input, str) and self.input):
            raise BadCommand(f"input must be a path, got {self.input!r}", self.job)
        if not all(isinstance(path, str) and path for path in self.files):
            raise BadCommand("files must be a list of paths", self.job)
        if not isinstance(self.options, Mapping):
            raise BadCommand(f"options must be an object of names and values, got {self.options!r}", self.job)

    @property
    def line(self) -> bytes:
        """The command as a line of the worker's stdin."""
        source = {"files": list(self.files)} if self.input is None else {"input": self.input}
        document = {"cmd": "score", "job": self.job, **source, "out": self.out, "options": dict(self.options)}
        return json.dumps(document).encode("ascii") + b"\n"


@dataclass(frozen=True)
class CancelCommand:
    """Stop a job, running or waiting; a job that is over stays as it is."""

    job: str

    def __post_init__(self) -> None:
        if not isinstance(self.job, str) or not self.job:
            raise BadCommand(f"job must be a text, got {self.job!r}")

    @property
    def line(self) -> bytes:
        """The command as a line of the worker's stdin."""
        return json.dumps({"cmd": "cancel", "job": self.job}).encode("ascii") + b"\n"


def read_command(line: bytes) -> ScoreCommand | CancelCommand:
    """A line of the worker's stdin as a command.

    Raises
    ------
    BadCommand
        It is none, and why.
    """
    try:
        document = _document(line)
    except ValueError as error:
        raise BadCommand(str(error)) from error
    job = _job(document.get("job"))
    names = {"score": set(ScoreCommand.__dataclass_fields__), "cancel": {"job"}}.get(str(document.get("cmd")))
    if names is None:
        raise BadCommand(f"cmd must be score or cancel, got {document.get('cmd')!r}", job)
    fields = {name: value for name, value in document.items() if name != "cmd"}
    if unknown := sorted(fields.keys() - names):
        raise BadCommand(f"unknown: {', '.join(unknown)}; expected {', '.join(sorted(names))}", job)
    if document["cmd"] == "cancel":
        return CancelCommand(fields.get("job", ""))
    if not isinstance(fields.get("files", []), list):
        raise BadCommand(f"files must be a list of paths, got {fields['files']!r}", job)
    fields = {"job": "", "out": "", **fields, "files": tuple(fields.get("files", ()))}
    return ScoreCommand(**fields)


class Run:
    """One job as its door sees it, from the command to the last event. Knows no process and no toolkit.

    Parameters
    ----------
    out
        Folder to make; a new one for every run.
    input, files, options
        As in `ScoreCommand`.
    pid
        Of a worker that is already there, as its ``ready`` told it.
    """

    def __init__(
        self,
        *,
        out: Path | str,
        input: Path | str | None = None,
        files: Iterable[Path | str] = (),
        options: Mapping[str, Any] | None = None,
        pid: int = 0,
    ) -> None:
        self.job = uuid.uuid4().hex
        self._asked = ScoreCommand(
            self.job,
            os.fspath(Path(out).absolute()),
            None if input is None else os.fspath(Path(input).absolute()),
            tuple(os.fspath(Path(path).absolute()) for path in files),
            {name: os.fspath(v) if isinstance(v, os.PathLike) else v for name, v in (options or {}).items()},
        )
        self.last: Event | None = None
        self.pid = pid
        self._rest = b""

    @property
    def command(self) -> bytes:
        """What starts it."""
        return self._asked.line

    @property
    def cancellation(self) -> bytes:
        """What stops it."""
        return CancelCommand(self.job).line

    @property
    def is_over(self) -> bool:
        """Whether the last event has come."""
        return self.last is not None

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete with these bytes, oldest first: this job's, and those of no job.

        Events of other jobs, late ones of runs that were abandoned, are left out, and so is what follows the last
        event of this job.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = []
        for line in lines:
            if not line.strip():
                continue
            try:
                event = Event.from_line(line)
            except ValueError:
                logger.warning("a line of %d bytes that is no event was left aside", len(line))
                continue
            if event.job not in (None, self.job) or (event.job == self.job and self.is_over):
                continue
            if event.kind == "ready":
                self.pid = event.pid
            if event.job == self.job and event.is_last:
                self.last = event
            events.append(event)
        return events

    def ended(self, exit_code: int) -> Event | None:
        """Tell it that the process is gone (and its stdout read to the end).

        Removes what a killed worker left half-written.

        Returns
        -------
        Event | None
            None where the job had its last event before; else an error with code ``crash``, which is the last event now
        """
        if self.is_over:
            return None
        with suppress(InputRefused):
            clear_leftovers(real_place(Path(self._asked.out)))
        self.last = Event(
            "error",
            self.job,
            code="crash",
            text=f"the scoring process died (exit code {exit_code}) before it was done; nothing half-written was left; "
            "look at the log, then score again",
        )
        return self.last


def _document(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:  # bad UTF-8 is a ValueError too
        raise ValueError(f"a line of {len(line)} bytes is not JSON: {type(error).__name__}") from error
    if not isinstance(document, dict):
        raise ValueError(f"a line must hold a JSON object, got {type(document).__name__}")
    return document


def _job(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
