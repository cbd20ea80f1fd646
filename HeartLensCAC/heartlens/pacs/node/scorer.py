"""The worker that scores for the node: one process, kept warm, started again when it dies.

It is `heartlens worker`, the same as behind the panel: a crash of a library, or a scan that takes all memory, ends that
process and not the node.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from heartlens.app.messages import Event, Run

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-u", "-m", "heartlens", "worker")

LONGEST_S = 1800.0
"""A scan that takes longer ends with the code "timeout", and the worker with it."""

GRACE_S = 10.0
"""How long a worker may take to end when its commands end, before it is killed."""


class Scorer:
    """A worker process and what it says.

    Parameters
    ----------
    options
        Of scoring, see `heartlens.app.options.options_of`.
    command
        That starts a worker.
    longest_s
        For one job.
    """

    def __init__(
        self, options: Mapping[str, Any], *, command: Sequence[str] = COMMAND, longest_s: float = LONGEST_S
    ) -> None:
        self._options = dict(options)
        self._command = list(command)
        self._longest = longest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._heard: queue.Queue[bytes | None] = queue.Queue()
        self.crashes = 0

    @property
    def pid(self) -> int | None:
        """Number of the process that is there; None where there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start the worker where none is there, so that the first job finds it warm."""
        if self.pid is not None:
            return
        self.stop()
        self._heard = queue.Queue()
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=_listen, args=(self._process, self._heard), name="worker", daemon=True).start()

    def score(self, files: Sequence[Path], out: Path, more: Mapping[str, Any], stop: threading.Event) -> Event | None:
        """Score a series.

        Parameters
        ----------
        files
            Its DICOM files.
        out
            Folder to make.
        more
            Options of this job alone.
        stop
            When set, the job is abandoned.

        Returns
        -------
        Event | None
            The last one of the job; an error with code ``crash`` or ``timeout`` where the worker died. None where it
            was abandoned.
        """
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        run = Run(files=files, out=out, options={**self._options, **more})
        deadline = time.monotonic() + self._longest
        with suppress(OSError):  # it is gone; what it says then is nothing
            process.stdin.write(run.command)
            process.stdin.flush()
        while run.last is None:
            if stop.is_set():
                self.stop()
                run.ended(0)
                return None
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                run.ended(process.returncode)
                return Event("error", run.job, code="timeout", text=f"scoring took longer than {self._longest:.0f} s")
            try:
                data = self._heard.get(timeout=0.2)
            except queue.Empty:
                continue
            if data is None:
                self.crashes += 1
                logger.error("the worker died (exit code %d)", process.wait())
                return run.ended(process.returncode)
            run.feed(data)
        return run.last

    def stop(self) -> None:
        """End the worker; a running job leaves nothing behind."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listen(process: subprocess.Popen[bytes], heard: queue.Queue[bytes | None]) -> None:
    assert process.stdout is not None
    with process.stdout as pipe:
        while data := os.read(pipe.fileno(), 1 << 16):
            heard.put(data)
    heard.put(None)
