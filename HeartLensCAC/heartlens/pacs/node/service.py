"""The node: three threads that never wait for each other, and the ledger between them.

One judges which series are whole, one has them scored, one sends what may leave. Each step takes its work from the
ledger and writes its outcome there, so that a node that is killed goes on where it was: a result appears by a rename,
the UIDs of its objects follow from what they say, and whatever is done twice is one object to the archive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartlens.app.messages import Event
from heartlens.case.folder import read_json
from heartlens.core.disk.rights import FOLDER
from heartlens.core.errors import FINAL, OVERRIDABLE, InputRefused
from heartlens.pacs.archive import Archive, ArchiveError, image_count
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.retention import OURS, Retention, discard
from heartlens.pacs.node.rows import SeriesRow
from heartlens.pacs.node.rules import READY, UNASKED, UNFIT, Facts, Outcome, Phase, Waits, back_off_s, judge, outcome_of
from heartlens.pacs.node.scorer import Scorer
from heartlens.pacs.node.sending import Sending

logger = logging.getLogger(__name__)

CRASHES = 3
"""A scan that ends the worker so often is given up."""

REFUSALS = OVERRIDABLE | FINAL

WHY = {
    "crash": "the scoring process died", "timeout": "scoring took too long", "memory": "there was not enough memory",
    "output": "the result could not be written", "failed": "scoring failed; the log says where",
}  # fmt: skip
"""Of what a reader cannot look up in docs/method.md."""

PAUSE_S = 0.2

LONGEST_PAUSE_S = 300.0
"""Between two questions to an archive that does not answer, and between two tries of a step that fails."""


@dataclass(frozen=True)
class Settings:
    """How a node behaves.

    Parameters
    ----------
    waits
        See `heartlens.pacs.node.rules.Waits`.
    retry_s
        First pause after an archive could not be reached; it doubles each time, up to an hour.
    keep_days
        How long images are kept after the last one of their series came.
    keep_results_days
        The same of results, after they were made; None keeps them.
    asks_archive
        Whether the archive is asked how many images a series has; False where it is known to let nobody ask.
    """

    waits: Waits = field(default_factory=Waits)
    retry_s: float = 5.0
    keep_days: float = 7.0
    keep_results_days: float | None = None
    asks_archive: bool = True


class Node:
    """Everything but the doors.

    Parameters
    ----------
    home
        Folder of the node; see docs/node.md.
    ledger, intake, scorer
        Its parts.
    archive
        Gives the archive that results go to, and that is asked how many images a series has; None where there is none.
    settings
        How it behaves.
    clock
        Seconds since 1970.

    Attributes
    ----------
    scored, seconds
        Since the start, for the metrics: how many, and how long all of them took together.
    sending
        Sends results; None where there is no archive.
    stopping
        Set to end all threads.
    """

    def __init__(
        self, home: Path, ledger: Ledger, intake: Intake, scorer: Scorer, archive: Callable[[], Archive] | None, *,
        settings: Settings | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.home = home
        self.ledger = ledger
        self.intake = intake
        self.scorer = scorer
        self.settings = settings or Settings()
        self.stopping = threading.Event()
        self.scored = 0
        self.seconds = 0.0
        self._archive = archive
        self._clock = clock
        self._asked_in_vain = 0
        self._ask_again_at = 0.0
        self._trouble = ""
        self._threads: list[threading.Thread] = []
        self.results = home / "results"
        self.results.mkdir(mode=FOLDER, parents=True, exist_ok=True)
        self.sending = None if archive is None else Sending(
            home, ledger, archive, self.stopping, clock=clock, retry_s=self.settings.retry_s,
            is_asked=self.settings.asks_archive,
        )  # fmt: skip
        self._retention = Retention(
            self.results, ledger, intake, self.settings.keep_days, self.settings.keep_results_days,
            archive is not None, clock,
        )  # fmt: skip

    def recover(self) -> None:
        """Go on where a node that died was."""
        cleared, noted = self.intake.recover()
        self.ledger.restart()
        for folder in self.results.glob("*/*"):  # of scorings that the ledger never heard the end of
            if OURS.fullmatch(folder.name) and not self.ledger.has_result(folder.relative_to(self.home).as_posix()):
                discard(folder)
        logger.info("started; %d half-written files cleared away, %d whole ones noted late", cleared, noted)

    def start(self, *more: Callable[[], bool]) -> None:
        """Start the threads; further steps, such as another door, get one each."""
        for step in (self.judge_all, self.score_next, self.send_next, *more):
            thread = threading.Thread(
                target=self._run, args=(step,), name=getattr(step, "__name__", "step"), daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads and the worker; what was going on is done again at the next start."""
        self.stopping.set()
        for thread in self._threads:
            thread.join(30)
        self.scorer.stop()

    @property
    def is_alive(self) -> bool:
        """Whether every thread that was started still runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self, step: Callable[[], bool]) -> None:
        in_vain = 0
        while not self.stopping.is_set():
            try:
                did = step()
                in_vain = 0
            except Exception as error:  # a full disk under the ledger, say: told, and tried again
                logger.error("a step failed: %s", type(error).__name__)
                did = False
                in_vain += 1
                self.stopping.wait(back_off_s(in_vain, self.settings.retry_s, LONGEST_PAUSE_S))
            if not did:
                self.stopping.wait(PAUSE_S)

    # Judging

    def judge_all(self) -> bool:
        """Judge every series that waits; delete what is too old."""
        changed = False
        for row in self.ledger.waiting(self._clock()):
            if self.stopping.is_set():
                return changed
            try:
                changed |= self._judge(row)
            except Exception as error:  # one series must not keep the others
                logger.error("series %s cannot be judged: %s", row.series_uid, type(error).__name__)
                with suppress(Exception):
                    next_at = self._clock() + self.settings.waits.ask_again_s
                    self.ledger.set_state(row, row.state, code=row.code, text=row.text, next_at=next_at)
        self._retention.sweep()
        return changed

    def _judge(self, row: SeriesRow) -> bool:
        now, waits = self._clock(), self.settings.waits
        silent_s = now - row.last_at
        expected, trouble = row.expected, ""
        if not row.unfit and silent_s >= waits.quiet_s:
            expected, trouble = self._count(row)
        is_broken = row.broken or row.deleted > 0
        facts = Facts(row.images, expected, is_broken, silent_s, row.unfit, row.unreleased, bool(trouble))
        state = judge(facts, waits)
        if state is Phase.RECEIVING and silent_s < waits.quiet_s:
            return False
        code, text, next_at = self._why(row, state, expected, trouble)
        asks = 0 if state in READY else row.asks + 1
        done = self.ledger.set_state(row, state, code=code, text=text, next_at=next_at, asks=asks, expected=expected)
        if done and state is not row.state:
            logger.info("series %s is %s (%d images) %s", row.series_uid, state, row.images, code)
        return done and state is not row.state

    def _why(self, row: SeriesRow, state: Phase, expected: int | None, trouble: str) -> tuple[str, str, float]:
        """Code and text of a judgement, and when it is judged again."""
        now, waits = self._clock(), self.settings.waits
        if state is Phase.RECEIVING and trouble:
            return UNASKED, trouble, max(self._ask_again_at, now)
        if state is Phase.RECEIVING:  # nobody knows yet; not asked again at once
            due_at = min(now + waits.ask_again_s, row.last_at + waits.unverified_s)
            return "", "", due_at if due_at > now else now + waits.ask_again_s
        if state is Phase.INCOMPLETE:
            return "incomplete", _what_is_missing(row, expected), now + back_off_s(row.asks + 1, waits.ask_again_s)
        if state is Phase.UNVERIFIED:
            nobody = "nobody says how many images there are"
            fewer = f"{row.images} images are here, and the archive says {expected}"
            return "unverified", nobody if expected is None else fewer, 0.0
        return (row.unfit, UNFIT[row.unfit], 0.0) if state is Phase.REFUSED else ("", "", 0.0)

    def _count(self, row: SeriesRow) -> tuple[int | None, str]:
        """How many images the archive says a series has, or else every header; and why it could not be asked."""
        if self._archive is None or not self.settings.asks_archive:
            return row.hinted, ""
        trouble = ""
        if self._clock() >= self._ask_again_at:
            try:
                with closing(self._archive()) as archive:
                    said = image_count(archive, row.study_uid, row.series_uid)
                if self._asked_in_vain:
                    self._asked_in_vain = 0
                    self.ledger.hurry(Phase.RECEIVING, UNASKED)
                    self.ledger.hurry(Phase.UNSENT, "down")
                return (row.hinted if said is None else said), ""
            except (ArchiveError, InputRefused) as error:
                trouble = error.text
            except Exception as error:  # a library met what it did not expect
                trouble = f"the archive cannot be asked ({type(error).__name__})"
            self._asked_in_vain += 1
            pause = back_off_s(self._asked_in_vain, self.settings.retry_s, LONGEST_PAUSE_S)
            self._ask_again_at = self._clock() + pause
            self._trouble = trouble
            logger.warning("the archive cannot be asked how many images there are: %s; again in %.0f s", trouble, pause)
        return (row.hinted if row.expected is None else row.expected), trouble or self._trouble

    # Scoring

    def score_next(self) -> bool:
        """Have one series scored."""
        self.ledger.restart_scoring()  # nobody else scores: whoever stands there was left by a step that failed
        busy = "" if self.sending is None else self.sending.key
        ready = next((row for row in self.ledger.ready(self._clock()) if row.key != busy), None)
        if ready is None:
            return False
        if ready.attempts >= CRASHES:  # the node was ended each time, and could not say so
            self.ledger.set_state(ready, Phase.FAILED, code="crash", text=WHY["crash"])
            return True
        row = self.ledger.begin_scoring(ready)
        if row is None:
            return True
        begun = time.monotonic()
        try:
            event = self._score(row)
            if event is None:  # the node ends, which is no fault of the scan
                self.ledger.set_state(row, Phase.RECEIVING, attempts=ready.attempts)
                return False
            if event.kind == "done":
                self._keep(row, event.text)
                self.scored += 1
                self.seconds += time.monotonic() - begun
            else:
                self._give_up_or_again(row, ready.state, event.code)
        except Exception:  # no worker can be started, or what it made cannot be read
            self._give_up_or_again(row, ready.state, "crash")
            raise
        return True

    def _score(self, row: SeriesRow) -> Event | None:
        out = self._out(row)
        out.parent.mkdir(mode=FOLDER, exist_ok=True)
        before = self._predecessor(row.key)
        more: dict[str, Any] = {} if before is None else {"predecessor": str(before)}
        if row.unverified:  # who reads the result has no ledger
            more["unverified-count"] = True
        return self.scorer.score(self.intake.files(row.key), out, more, self.stopping)

    def _out(self, row: SeriesRow) -> Path:
        return self.results / row.key / f"{row.revision:04d}"

    def _predecessor(self, key: str) -> Path | None:
        """The report of this series that the archive has, and that a new one takes the place of."""
        for result in reversed(self.ledger.results(key)):
            path = Path(self.home, result.folder, "report.dcm")
            if "report.dcm" in result.sent and path.is_file():
                return path
        return None

    def _keep(self, row: SeriesRow, left_out: str) -> None:
        out = self._out(row)
        outcome = outcome_of(read_json(out / "report.json"))
        if outcome.state is Phase.SCORED and not (out / "report.dcm").is_file():
            outcome = Outcome(
                Phase.HELD, "no-report", "no DICOM report could be made of it, and nothing is sent without"
            )
        state = self.ledger.add_result(row, outcome, out.relative_to(self.home).as_posix(), self._clock())
        logger.info("series %s is %s %s", row.series_uid, state, outcome.code)
        if left_out:
            logger.warning("series %s: %s", row.series_uid, left_out)

    def _give_up_or_again(self, row: SeriesRow, ready: Phase, code: str) -> None:
        if code == "output":  # a disk has room again one day, and that is no fault of the scan
            pause = back_off_s(row.asks + 1, self.settings.retry_s)
            self.ledger.set_state(
                row, ready, code=code, text=WHY[code], next_at=self._clock() + pause, attempts=row.attempts - 1,
                asks=row.asks + 1,
            )  # fmt: skip
            logger.warning("series %s: %s; again in %.0f s", row.series_uid, code, pause)
            return
        if code in ("crash", "timeout", "memory") and row.attempts < CRASHES:  # a scan that does so does it each time
            next_at = self._clock() + back_off_s(row.attempts, self.settings.retry_s)
            self.ledger.set_state(row, ready, code=code, text=WHY[code], next_at=next_at)
            logger.warning("series %s: %s, attempt %d", row.series_uid, code, row.attempts)
            return
        state = Phase.REFUSED if code in REFUSALS else Phase.FAILED
        # What the worker says may name a file; log and status of the node name none.
        self.ledger.set_state(row, state, code=code, text=WHY.get(code, ""))
        logger.info("series %s is %s: %s", row.series_uid, state, code)

    # Sending

    def send_next(self) -> bool:
        """Send one result; whether there was one that could be."""
        return self.sending is not None and self.sending.send_next()


def _what_is_missing(row: SeriesRow, expected: int | None) -> str:
    text = f"{row.images} images of {'an unknown number' if expected is None else expected}"
    if row.deleted:
        text += f"; {row.deleted} more were deleted, send all of them again"
    return text + ("; the sender broke off" if row.broken else "")
