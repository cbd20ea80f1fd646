"""A command of HeartLens in a process of its own: it opens whole cases, which would keep Slicer waiting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import qt

from HeartLensCACLib.ScoreRun import LIBRARY_FOLDER, pythonProgram
from HeartLensCACLib.Timers import afterwards

WAIT_MS = 1000
"""For the end of a process that was killed."""


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Parameters
    ----------
    text
        On its standard output.
    code
        Why it was refused; "" where it was not.
    why
        The same in words.
    """

    text: str
    code: str = ""
    why: str = ""


class CommandRun:
    """One run of `heartlens`.

    Parameters
    ----------
    words
        The command and its arguments.
    ended
        Called with the answer, unless it was stopped.
    """

    def __init__(self, words: Sequence[str], ended: "Callable[[Answer], None]") -> None:
        self._words, self._ended = list(words), ended
        self._isStopped = False
        self.process = qt.QProcess()
        self.process.setWorkingDirectory(str(LIBRARY_FOLDER))
        self.process.connect("finished(int,QProcess::ExitStatus)", afterwards(self._onFinished))
        self.process.connect("errorOccurred(QProcess::ProcessError)", afterwards(self._onError))

    def start(self) -> None:
        """Start it with Slicer's Python."""
        self.process.start(pythonProgram(), ["-m", "heartlens", *self._words])

    def stop(self) -> None:
        """Kill it, if it still runs; nothing is told then."""
        self._isStopped = True
        if self.process.state() != qt.QProcess.NotRunning:
            self.process.kill()
            self.process.waitForFinished(WAIT_MS)

    def _onFinished(self, exitCode: int, _status: int = 0) -> None:
        if self._isStopped:
            return
        said, complained = (_text(read()) for read in (self.process.readAllStandardOutput, self._errors))
        self._ended(answerOf(exitCode, said, complained))

    def _errors(self) -> Any:
        return self.process.readAllStandardError()

    def _onError(self, error: int) -> None:
        if not self._isStopped and error == qt.QProcess.FailedToStart:
            self._ended(Answer("", "crash", f"could not start {pythonProgram()}: {self.process.errorString()}"))


def answerOf(exitCode: int, said: str, complained: str) -> Answer:
    """What the end of a command means; a refusal is its last line that says `error: CODE: text`."""
    if exitCode == 0:
        return Answer(said.strip())
    lines = [line for line in complained.splitlines() if line.startswith("error: ")]
    _word, code, why = [*(lines or ["error: crash: the command failed"])[-1].split(": ", 2), "", ""][:3]
    return Answer(said.strip(), code or "crash", why or code)


def _text(data: Any) -> str:
    """A QByteArray as PythonQt or PySide give it."""
    return (data if isinstance(data, bytes) else bytes(data.data())).decode("utf-8", errors="replace")
