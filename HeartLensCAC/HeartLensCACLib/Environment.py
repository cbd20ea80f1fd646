"""What runs here: how old a Slicer may be, the check that asks the worker's Python, and what a user can send."""

import platform
from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from heartlens import __version__
from HeartLensCACLib.ScoreRun import LIBRARY_FOLDER, pythonProgram

OLDEST_SLICER = (5, 12)
"""Earlier ones bring pydicom 2, which HeartLens cannot use and must not replace while Slicer runs with it."""


def tooOld() -> str:
    """Why nothing can be done in this Slicer; "" in one that is new enough."""
    app = slicer.app
    if (app.majorVersion, app.minorVersion) >= OLDEST_SLICER:
        return ""
    text = _("HeartLens needs Slicer {major}.{minor} or later. This is Slicer {here}.")
    return text.format(major=OLDEST_SLICER[0], minor=OLDEST_SLICER[1], here=app.applicationVersion)


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
