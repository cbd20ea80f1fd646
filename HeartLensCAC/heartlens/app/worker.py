"""The worker: a process that scores, told by lines on stdin, telling by lines on stdout.

Start it as `python -u -m heartlens worker`; what the lines say is in `heartlens.app.messages`. It does what
`heartlens score --out` does, with the same options.

- stdout carries events only: it is moved aside at the start and whatever a library prints goes to stderr, the log.
- Jobs are done one after the other, in the order they came. Every job ends with exactly one of done, cancelled, error.
- A cancelled job ends at its next step, or soon in the midst of a long one, and leaves nothing behind.
- A result appears by one rename, so that killing the process at any moment loses nothing.
- When stdin ends, whoever asked is gone: the running job is dropped and the process exits with 0.
- The log names jobs and stages, never a path, a patient or a value from a file.
- SIGTERM and SIGHUP end it as Ctrl-C does: the running job leaves nothing behind, and the exit code is 4.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from heartlens import __version__
from heartlens.app.failure import LOG_FORMAT, Discreet, Failure, log_failure
from heartlens.app.messages import BadCommand, CancelCommand, Event, ScoreCommand, read_command
from heartlens.app.options import UsageError, more_of, options_of, request_of
from heartlens.core.atomic import real_place
from heartlens.core.disk.workplace import clear_leftovers
from heartlens.core.errors import InputRefused

logger = logging.getLogger("heartlens.app.worker")

STEP_SECONDS = 1.0
"""A cancelled job that has not come to its next step by then is interrupted in the middle of it."""

GRACE_SECONDS = 5.0
"""How long a job may take to stop after stdin ended, before the process ends without it."""

NICENESS = 5
"""Below the programs that a person is looking at: they stay responsive while all cores score."""

SCORING_SHARE = 0.9
"""Part of a job that is done when the case is scored; the rest is writing."""


class Cancelled(BaseException):
    """Stops a job from inside; no fallback in the pipeline may take it for a failure."""


def serve() -> int:
    """Be the worker until stdin ends; returns the exit code."""
    commands, events = _move_streams_aside()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(Discreet(LOG_FORMAT))
    logging.getLogger().addHandler(log)
    logging.captureWarnings(True)
    logging.getLogger("heartlens").setLevel(logging.INFO)
    faulthandler.enable(sys.stderr)  # a segmentation fault in a library then says where it was
    if hasattr(os, "nice"):
        os.nice(max(0, NICENESS - os.nice(0)))
    return Worker(commands, events).work()


class Worker:
    """The queue, and the two threads at it: one hears, the other works.

    Parameters
    ----------
    commands, events
        File descriptors.
    """

    def __init__(self, commands: int, events: int) -> None:
        self._commands = commands
        self._events = events
        self._speaking = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: deque[ScoreCommand] = deque()
        self._running: str | None = None
        self._is_cancelled = False  # the running job
        self._is_deserted = False  # nobody is there any more
        self._may_interrupt = False  # an interruption would hit a job and nothing else

    def work(self) -> int:
        """Do jobs until stdin ends."""
        signal.signal(signal.SIGINT, self._interrupted)
        self._say(Event("ready", text=f"heartlens {__version__}", pid=os.getpid()))
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        with suppress(ModuleNotFoundError):  # a job will say what is missing
            pass  # a first job finds the libraries loaded

        while (job := self._next()) is not None:
            try:
                last = self._do(job)
            except Cancelled:
                last = Event("cancelled", job.job, text="cancelled; nothing was written")
                with suppress(InputRefused):
                    clear_leftovers(real_place(Path(job.out)), own=True)  # the interruption may have hit the cleaning
            logger.info("job %s ends: %s %s", job.job, last.kind, last.code)
            with self._changed:
                self._running = None
            self._say(last)
        return 0

    def _next(self) -> ScoreCommand | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_deserted)
            if self._is_deserted:
                return None
            job = self._waiting.popleft()
            self._running, self._is_cancelled = job.job, False
            return job

    def _do(self, job: ScoreCommand) -> Event:
        """Do one job; returns the event that ends it."""
        logger.info("job %s begins", job.job)
        try:
            self._may_interrupt = True
            return self._score(job)
        except InputRefused as refusal:
            failure = Failure.of(refusal)
            return Event("error", job.job, code=failure.code, text=failure.text)
        except UsageError as error:
            return Event("error", job.job, code="usage", text=str(error))
        except Exception as error:
            log_failure(logger, f"job {job.job} failed", error)
            failure = Failure.of(error)
            if failure.code != "failed" or isinstance(error, ModuleNotFoundError):
                return Event("error", job.job, code=failure.code, text=failure.text)
            # The message may hold a path or a value of a file; it goes to the reader, not into the log.
            text = f"scoring failed: {type(error).__name__}: {error}; the log says where"
            return Event("error", job.job, code="failed", text=text)
        finally:
            self._may_interrupt = False

    def _score(self, job: ScoreCommand) -> Event:
        from heartlens.pipeline import score_series
        from heartlens.report.catalogs.language import language_of
        from heartlens.report.outputs import check_out, write_outputs

        reached = 0.0

        def tell(stage: str, fraction: float) -> None:
            nonlocal reached
            if self._is_cancelled or self._is_deserted:
                raise Cancelled
            if fraction >= 1:  # all is written, the rename comes next: from here on the job is done
                self._may_interrupt = False
            reached = max(reached, min(fraction, 1.0))
            self._say(Event("progress", job.job, stage=stage, fraction=reached))

        options = options_of(job.options)
        request = request_of(options)
        out = Path(job.out).absolute()
        check_out(out, force=options.force)
        language_of(options.language)
        source = [Path(path) for path in job.files] if job.input is None else Path(job.input)
        result = score_series(source, request, progress=lambda stage, fraction: tell(stage, SCORING_SHARE * fraction))
        tell("writing", SCORING_SHARE)
        left_out = write_outputs(
            result, out, force=options.force, identify=options.identify, shared_mode=options.shared_mode,
            language=options.language, more=more_of(options), embed_ct=options.embed_ct,
            predecessor=options.predecessor,
            on_progress=lambda done: tell("writing", SCORING_SHARE + (1 - SCORING_SHARE) * done),
        )  # fmt: skip
        return Event(
            "done", job.job, fraction=1.0, text="; ".join(left_out), out=os.fspath(out), case=os.fspath(out / "case")
        )

    def _listen(self) -> None:
        """Hear commands until stdin ends; then see to it that the process ends too."""
        for line in _lines(self._commands):
            if line.strip():
                self._handle_line(line)
        self._abandon()

    def _handle_line(self, line: bytes) -> None:
        try:
            command = read_command(line)
        except BadCommand as error:
            job = None if self._has_job(error.job) else error.job  # what it says of a job here does not end that job
            logger.warning("a command was not understood")
            self._say(Event("error", job, code="usage", text=str(error)))
            return
        if isinstance(command, CancelCommand):
            self._cancel(command.job)
        elif self._has_job(command.job):
            self._say(Event("error", code="usage", text=f"job {command.job} is already running or waiting"))
        else:
            with self._changed:
                self._waiting.append(command)
                self._changed.notify()

    def _cancel(self, job: str) -> None:
        with self._changed:
            if job == self._running:
                self._is_cancelled = True
                self._interrupt_later(job)
                return
            waiting = [command for command in self._waiting if command.job == job]
            for command in waiting:
                self._waiting.remove(command)
        if waiting:
            self._say(Event("cancelled", job, text="cancelled before it began"))
        else:
            logger.info("job %s is not here; there is nothing to cancel", job)  # it was over before the word came

    def _has_job(self, job: str | None) -> bool:
        with self._changed:
            return job is not None and (job == self._running or any(job == c.job for c in self._waiting))

    def _abandon(self) -> None:
        with self._changed:
            self._is_deserted = True
            self._changed.notify()
            if self._running is not None:
                self._interrupt_later(self._running)
        time.sleep(GRACE_SECONDS)  # the main thread ends the process first, unless a library does not let go of it
        os._exit(0)

    def _interrupt_later(self, job: str) -> None:
        """Interrupt a job that does not come to its next step. The signal reaches the main thread, where jobs run."""

        def press() -> None:
            time.sleep(STEP_SECONDS)
            while job == self._running and self._may_interrupt:
                signal.raise_signal(signal.SIGINT)
                time.sleep(STEP_SECONDS / 10)

        threading.Thread(target=press, name="press", daemon=True).start()

    def _interrupted(self, signal_number: int, frame: FrameType | None) -> None:
        if not (self._is_cancelled or self._is_deserted):
            raise KeyboardInterrupt  # a person at a terminal
        if self._may_interrupt and not _is_importing(frame):
            self._may_interrupt = False
            raise Cancelled

    def _say(self, event: Event) -> None:
        line = event.line
        with self._speaking:
            try:
                while line:
                    line = line[os.write(self._events, line) :]
            except OSError:  # whoever read is gone
                self._is_deserted = True


def _move_streams_aside() -> tuple[int, int]:
    """Descriptors for commands and events that no library knows of.

    What is printed to stdout from now on goes to stderr. Stdin becomes empty: on Windows a library that looks at it
    while it is being read would wait for the next command.
    """
    sys.stdout.flush()
    commands, events = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    os.close(empty)
    return commands, events


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines until the end; a last one without its newline was cut off and is left aside."""
    rest: list[bytes] = []  # joined once a line, however long it is
    with suppress(OSError):
        while data := os.read(descriptor, 1 << 16):
            first, *others = data.split(b"\n")
            rest.append(first)
            if others:
                yield b"".join(rest)
                yield from others[:-1]
                rest = others[-1:]


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a library is being loaded: one that is stopped half-way cannot be loaded again."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
