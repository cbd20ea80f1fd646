"""A front end without screen: runs the real worker, talks to it as the Slicer panel does, and never waits for ever."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heartlens.app.messages import Event, Run

LIMIT_SECONDS = 300
"""Only keeps a hung test from hanging the whole suite; nothing is measured against it."""

WORKER = ("-u", "-m", "heartlens", "worker")


class WorkerProcess:
    """The worker with its three channels.

    Parameters
    ----------
    arguments : of Python; another program than the worker's own where a test changes a library under it
    """

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, *(arguments or WORKER)], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
        self._heard: queue.Queue[bytes | None] = queue.Queue()
        self._log: list[bytes] = []
        self.transcript = b""
        self._unread = b""
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_log)]
        for thread in self._threads:
            thread.start()

    def _read_events(self) -> None:
        while data := os.read(self.process.stdout.fileno(), 4096):
            self._heard.put(data)
        self._heard.put(None)

    def _read_log(self) -> None:
        while data := os.read(self.process.stderr.fileno(), 4096):
            self._log.append(data)

    @property
    def log(self) -> str:
        return b"".join(self._log).decode()

    def send(self, line: bytes) -> None:
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def start(self, **fields: Any) -> Run:
        """Ask for one job."""
        run = Run(**fields)
        self.send(run.command)
        return run

    def _handle_line(self) -> bytes:
        data = self._heard.get(timeout=LIMIT_SECONDS)
        if data is None:
            self._heard.put(None)
            return b""
        self.transcript += data
        return data

    def events(self, run: Run) -> Iterator[Event]:
        """The run's events as they come, until its last one or the worker's end."""
        while not run.is_over:
            data = self._unread or self._handle_line()
            if not data:
                return
            self._unread = b""
            yield from run.feed(data)

    def lines(self, count: int) -> list[Event]:
        """The next `count` events of whatever job."""
        while self._unread.count(b"\n") < count:
            data = self._handle_line()
            assert data, f"the worker has gone: {self.log}"
            self._unread += data
        *lines, self._unread = self._unread.split(b"\n", count)
        return [Event.from_line(line) for line in lines]

    def until(self, run: Run, stage: str) -> list[Event]:
        """Its events up to the first of a stage."""
        events = []
        for event in self.events(run):
            events.append(event)
            if event.stage == stage:
                return events
        raise AssertionError(f"the job never came to {stage!r}: {events[-1:]} {self.log}")

    def finish(self, run: Run) -> Event:
        """The last event of a run."""
        for _ in self.events(run):
            pass
        assert run.last is not None, f"the worker has gone: {self.log}"
        return run.last

    def close(self) -> int:
        """End stdin, as a front end that goes away; returns the exit code."""
        self.process.stdin.close()
        return self.gone()

    def gone(self) -> int:
        """The exit code, once the process has gone."""
        code = self.process.wait(timeout=LIMIT_SECONDS)
        for thread in self._threads:
            thread.join(LIMIT_SECONDS)
        return code

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.gone()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()
