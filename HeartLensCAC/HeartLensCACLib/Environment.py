"""What runs here: the check that asks the worker's Python, and what a user can send with a question."""

import platform
from collections.abc import Callable

import qt
import slicer

from heartlens import __version__
from HeartLensCACLib.ScoreRun import LIBRARY_FOLDER, pythonProgram


class DoctorRun:
    """`heartlens doctor` in a process of its own: the panel's process imports none of what it looks for.

    Parameters
    ----------
    onText
        Called with what it says.
    """

    def __init__(self, onText: Callable[[str], None]) -> None:
        self._onText = onText
        self.process = qt.QProcess()
        self.process.setWorkingDirectory(str(LIBRARY_FOLDER))
        self.process.setProcessChannelMode(qt.QProcess.MergedChannels)
        self.process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        self.process.connect("errorOccurred(QProcess::ProcessError)", self._onError)

    def start(self) -> None:
        """Start `heartlens doctor` with Slicer's Python."""
        self.process.start(pythonProgram(), ["-m", "heartlens", "doctor"])

    @property
    def isRunning(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.state() != qt.QProcess.NotRunning

    def stop(self) -> None:
        """Kill the process if it still runs, and wait for its end, at most a second."""
        if self.isRunning:
            self.process.kill()
            self.process.waitForFinished(1000)

    def _onFinished(self, *_args: object) -> None:
        data = self.process.readAllStandardOutput()
        text = data if isinstance(data, bytes) else bytes(data.data())
        self._onText(text.decode("utf-8", errors="replace").strip())

    def _onError(self, *_args: object) -> None:
        self._onText(f"could not start {pythonProgram()}: {self.process.errorString()}")


def diagnostics(log: str) -> str:
    """Versions and the log, for a question to the developers. Nothing of a patient is in them."""
    app = slicer.app
    lines = [
        f"HeartLens {__version__}",
        f"Slicer {app.applicationVersion} (revision {app.revision})",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "",
        "Log:",
        log,
    ]
    return "\n".join(lines)
