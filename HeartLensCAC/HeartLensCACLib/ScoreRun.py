"""One press of Score: the worker process behind it, from start to its last event, or to the next job.

The process is started with three separate channels; what it says is parsed by `heartlens.app.messages.Run`, which
leaves out late events of runs that were abandoned. The panel's own process never waits for it, except to see it die.
"""

import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import qt

from heartlens.app.messages import Event, Run
from HeartLensCACLib.Timers import afterwards

GRACE_MS = 2000
"""How long a worker may take to honor a cancellation, then to end after it was terminated."""

LIBRARY_FOLDER = Path(__file__).resolve().parents[1]
"""The worker's working directory: `python -m heartlens` finds the library there, without any environment variable."""


def pythonProgram() -> str:
    """The Python that runs the worker: Slicer's own, or where there is no Slicer, the one that runs this."""
    return shutil.which("PythonSlicer") or sys.executable


class ScoreRun:
    """A worker process that does one job, or one after another.

    Parameters
    ----------
    run
        The job.
    onEvent
        Called with every `Event`; the last one exactly once.
    onLog
        Called with text of the worker's log.
    isKept
        Whether the process waits for another job after its last event, until `take` or `leave`; else it ends then.
    """

    def __init__(
        self, run: Run, onEvent: Callable[[Event], None], onLog: Callable[[str], None], *, isKept: bool = False
    ) -> None:
        self.run = run
        self.onEvent, self.onLog, self._isKept = onEvent, onLog, isKept
        self.cancelling = False
        self._ended = False
        self.process = qt.QProcess()
        self.process.setWorkingDirectory(str(LIBRARY_FOLDER))
        self.process.connect("started()", self._onStarted)
        self.process.connect("readyReadStandardOutput()", afterwards(self._onOutput))
        self.process.connect("readyReadStandardError()", afterwards(self._onErrors))
        self.process.connect("finished(int,QProcess::ExitStatus)", afterwards(self._onFinished))
        self.process.connect("errorOccurred(QProcess::ProcessError)", afterwards(self._onProcessError))
        self.timer = qt.QTimer()
        self.timer.setSingleShot(True)
        self.timer.connect("timeout()", self._onPatienceOver)
        self._patience = 0

    def start(self) -> None:
        """Start the worker with Slicer's Python."""
        self.process.start(pythonProgram(), ["-u", "-m", "heartlens", "worker"])

    def take(self, run: Run) -> None:
        """Give a process that was kept, and has ended its job, another one."""
        run.pid = self.run.pid
        self.run = run
        self._ended = self.cancelling = False
        self._patience = 0
        self.process.write(run.command)

    def leave(self) -> None:
        """Let a process that was kept end: nothing more comes."""
        self.process.closeWriteChannel()

    def cancel(self) -> None:
        """Ask it to stop; if it does not, terminate it, then kill it."""
        if self.cancelling or self._ended:
            return
        self.cancelling = True
        if self.process.state() == qt.QProcess.Running:
            self.process.write(self.run.cancellation)
        self.timer.start(GRACE_MS)

    def stop(self) -> None:
        """Abandon the run at once: nothing of it is told any more, and no process stays behind."""
        self._ended = True
        self.timer.stop()
        if not self.isGone:
            self._kill()
            self.process.waitForFinished(GRACE_MS)
        self.run.ended(-1)

    @property
    def isGone(self) -> bool:
        """Whether no process of it is left."""
        return self.process.state() == qt.QProcess.NotRunning

    def _onStarted(self) -> None:
        if self.cancelling:
            self.process.closeWriteChannel()  # it was asked for nothing, and ends
        elif not self._ended:
            self.process.write(self.run.command)

    def _onOutput(self) -> None:
        data = _bytes(self.process.readAllStandardOutput())
        if not self._ended:
            for event in self.run.feed(data):
                self._tell(event)

    def _onErrors(self) -> None:
        text = _bytes(self.process.readAllStandardError()).decode("utf-8", errors="replace")
        if text and not self._ended:
            self.onLog(text.rstrip("\n"))

    def _onFinished(self, exitCode: int, exitStatus: int = 0) -> None:
        if self._ended:
            return
        self._onOutput()
        self._onErrors()
        if not self._ended:
            died = self.run.ended(exitCode)
            if died is not None and self.cancelling:
                died = Event("cancelled", self.run.job)
            if died is not None:
                self._tell(died)

    def _onProcessError(self, error: int) -> None:
        if self._ended or error != qt.QProcess.FailedToStart:
            return  # a crash ends in _onFinished
        self.run.ended(-1)
        text = f"the scoring process could not be started: {self.process.errorString()}; check the installation"
        self._tell(Event("error", self.run.job, code="crash", text=text))

    def _onPatienceOver(self) -> None:
        if self._ended or self.process.state() == qt.QProcess.NotRunning:
            return
        self._patience += 1
        if self._patience == 1:
            self.process.terminate()
            self.timer.start(GRACE_MS)
        else:
            self._kill()

    def _tell(self, event: Event) -> None:
        if event.is_last and event.job == self.run.job:
            self._ended = True
            self.timer.stop()
            if not self._isKept:
                self.process.closeWriteChannel()  # the worker ends when its stdin does
        self.onEvent(event)

    def _kill(self) -> None:
        self.process.closeWriteChannel()
        self.process.kill()
        if self.run.pid:  # Slicer's launcher may stand between us and the worker; its end is not the worker's
            try:
                os.kill(self.run.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            except OSError:
                logging.debug("the worker had gone already")


def _bytes(data: object) -> bytes:
    """A QByteArray as PythonQt or PySide give it."""
    return data if isinstance(data, bytes) else bytes(data.data())
