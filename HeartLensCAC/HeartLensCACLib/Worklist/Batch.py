"""Scans that wait to be scored, one after another, in one worker process that stays for the next.

It runs while the reader reads. A scan that is refused gets a word in its row, and the next one follows; where nothing
can be written, nothing follows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from heartlens.app.messages import Event, Run
from HeartLensCACLib.ScoreRun import ScoreRun
from HeartLensCACLib.Worklist.Rows import State


@dataclass(frozen=True)
class Job:
    """A scan that waits.

    Parameters
    ----------
    key
        Of its row.
    run
        What the worker is asked.
    """

    key: str
    run: Run


@dataclass(frozen=True)
class Told:
    """What has become of a scan.

    Parameters
    ----------
    key
        Of its row.
    state
        NEW again where it was refused or taken back.
    text
        Why, in the worker's words, or what is being done.
    case
        Of one that was scored.
    """

    key: str
    state: State
    text: str = ""
    case: "Path | None" = None


class Batch:
    """The queue, and the worker at it.

    Parameters
    ----------
    tell
        Called with what becomes of each scan.
    progress
        Called with what is being done, in words, and the fraction of the whole batch.
    isFree
        Whether nothing else is being scored.
    stopped
        Called with code and text of a refusal after which nothing more is scored.
    log
        Called with lines of the worker's log.
    """

    def __init__(
        self,
        *,
        tell: Callable[[Told], None],
        progress: Callable[[str, float], None],
        isFree: Callable[[], bool],
        stopped: Callable[[str, str], None],
        log: Callable[[str], None],
    ) -> None:
        self._tell, self._progress, self._isFree, self._stopped, self._log = tell, progress, isFree, stopped, log
        self._waiting: list[Job] = []
        self._job: Job | None = None
        self._worker: ScoreRun | None = None
        self._leaving: list[ScoreRun] = []
        self._done = 0

    @property
    def isRunning(self) -> bool:
        """Whether a scan is being scored."""
        return self._job is not None

    @property
    def isWaiting(self) -> bool:
        """Whether a scan is being scored or waits for it."""
        return self._job is not None or bool(self._waiting)

    @property
    def keys(self) -> "set[str]":
        """Of the rows that are being scored or wait."""
        return {job.key for job in self._waiting} | ({self._job.key} if self._job is not None else set())

    def add(self, jobs: "list[Job]") -> None:
        """Put scans at the end of the queue."""
        if not self.isWaiting:
            self._done = 0
        self._waiting += jobs
        for job in jobs:
            self._tell(Told(job.key, State.QUEUED))
        self.wake()

    def wake(self) -> None:
        """Go on, if there is something to do and nobody else scores."""
        if self._job is not None:
            return
        if not self._waiting:
            self._leave()
            return
        if not self._isFree():
            return
        self._job = self._waiting.pop(0)
        self._tell(Told(self._job.key, State.SCORING))
        self._show(_("starting"), 0.0)
        if self._worker is not None and not self._worker.isGone:
            self._worker.take(self._job.run)
            return
        self._leave()
        self._worker = ScoreRun(self._job.run, self._onEvent, self._log, isKept=True)
        self._worker.start()

    def cancel(self) -> None:
        """Take back what waits, and stop what is being scored."""
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._tell(Told(job.key, State.NEW))
        if self._worker is not None and self._job is not None:
            self._worker.cancel()

    def stop(self) -> None:
        """Abandon everything at once; no process stays behind, and nothing is told any more."""
        self._waiting, self._job = [], None
        self._leave()
        for worker in self._leaving:
            worker.stop()
        self._leaving = []

    def _leave(self) -> None:
        """The worker ends when it hears that nothing more comes."""
        worker, self._worker = self._worker, None
        self._leaving = [one for one in self._leaving if not one.isGone]
        if worker is not None:
            worker.leave()
            self._leaving.append(worker)

    def _onEvent(self, event: Event) -> None:
        job = self._job
        if job is None or event.job != job.run.job:
            return
        if event.kind == "progress":
            self._show(event.stage, event.fraction)
        if not event.is_last:
            return
        self._job = None
        self._done += 1
        if event.kind == "done":
            self._tell(Told(job.key, State.SCORED, event.text, Path(event.case)))
        else:
            self._tell(Told(job.key, State.NEW, event.text if event.kind == "error" else ""))
        if event.kind == "error" and event.code == "output":
            self.cancel()
            self._stopped(event.code, event.text)
        self.wake()

    def _show(self, stage: str, fraction: float) -> None:
        count = self._done + 1 + len(self._waiting)
        text = _("Scoring {number} of {count}: {stage}").format(number=self._done + 1, count=count, stage=stage)
        self._progress(text, (self._done + fraction) / count)
