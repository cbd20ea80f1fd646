"""The node: three threads that never wait for each other, and the ledger between them.

One judges which series are whole, one has them scored, one sends what may leave. Each step takes its work from the
ledger and writes its outcome there, so that a node that is killed goes on where it was: a result appears by a rename,
the UIDs of its objects follow from what they say, and whatever is done twice is one object to the archive.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from heartlens.case.folder import read_json
from heartlens.core.disk.rights import FOLDER
from heartlens.core.errors import FINAL, OVERRIDABLE, InputRefused
from heartlens.pacs.archive import Archive, ArchiveError, image_count
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger, ResultRow, SeriesRow
from heartlens.pacs.node.rules import UNFIT, Facts, Phase, Waits, back_off_s, judge, outcome_of
from heartlens.pacs.node.scorer import Scorer
from heartlens.report.outputs import hold_for_replacing

logger = logging.getLogger(__name__)

CRASHES = 3
"""A scan that ends the worker so often is given up."""

SENT_FILES = ("segmentation.dcm", "report.dcm", "key-page*.dcm", "report-pdf.dcm")
"""Of a result, in the order in which they are sent: what is referred to first."""

REFUSALS = OVERRIDABLE | FINAL
DAY_S = 86400.0
SWEEP_S = 60.0

OURS = re.compile(r"[0-9]{4,}|\.[0-9]{4,}-[0-9a-f]{16}\.(owner|part|old)")
"""Names of results, and of what killed workers leave beside them; what else lies there is somebody's."""

WHY = {
    "crash": "the scoring process died", "timeout": "scoring took too long", "memory": "there was not enough memory",
    "output": "the result could not be written", "failed": "scoring failed; the log says where",
}  # fmt: skip
"""Of what a reader cannot look up in docs/method.md."""

PAUSE_S = 0.2


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
        The same of results; None keeps them.
    """

    waits: Waits = field(default_factory=Waits)
    retry_s: float = 5.0
    keep_days: float = 7.0
    keep_results_days: float | None = None


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
    scored, sent, send_failures, seconds
        Since the start, for the metrics; the last is the sum over all scorings.
    archive_trouble
        Why the archive was last of no use; "" after a success.
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
        self.scored = self.sent = self.send_failures = 0
        self.seconds = 0.0
        self.archive_trouble = ""
        self._archive = archive
        self._clock = clock
        self._swept_at = 0.0
        self._threads: list[threading.Thread] = []
        self.results = home / "results"
        self.results.mkdir(mode=FOLDER, parents=True, exist_ok=True)

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
        while not self.stopping.is_set():
            try:
                did = step()
            except Exception as error:  # a full disk under the ledger, say: told, and tried again
                logger.error("a step failed: %s", type(error).__name__)
                did = False
                self.stopping.wait(self.settings.retry_s)
            if not did:
                self.stopping.wait(PAUSE_S)

    # Judging

    def judge_all(self) -> bool:
        """Judge every series that waits; delete what is too old."""
        changed = False
        for row in self.ledger.waiting():
            changed |= self._judge(row)
        self._sweep()
        return changed

    def _judge(self, row: SeriesRow) -> bool:
        now, waits = self._clock(), self.settings.waits
        if row.next_at > now:
            return False
        silent_s = now - row.last_at
        expected = row.expected
        if not row.unfit and silent_s >= waits.quiet_s:
            expected = self._ask(row)
        facts = Facts(row.images, expected, row.broken, silent_s, row.unfit, row.unreleased)
        state = judge(facts, waits)
        if state is Phase.RECEIVING:
            if silent_s >= waits.quiet_s:  # nobody knows yet; not asked again at once
                self.ledger.set_state(
                    row, state, next_at=min(now + waits.ask_again_s, row.last_at + waits.unverified_s)
                )
            return False
        code, text, next_at = "", "", 0.0
        if state is Phase.REFUSED:
            code, text = row.unfit, UNFIT[row.unfit]
        elif state is Phase.INCOMPLETE:
            next_at = now + waits.ask_again_s
            of = "an unknown number" if expected is None else str(expected)
            code, text = "incomplete", f"{row.images} images of {of}" + ("; the sender broke off" if row.broken else "")
        elif state is Phase.UNVERIFIED:
            code, text = "unverified", "nobody says how many images there are"
        if self.ledger.set_state(row, state, code=code, text=text, next_at=next_at) and state is not row.state:
            logger.info("series %s is %s (%d images) %s", row.series_uid, state, row.images, code)
            return True
        return False

    def _ask(self, row: SeriesRow) -> int | None:
        """How many images the archive says the series has, or else every header."""
        if self._archive is not None:
            try:
                with closing(self._archive()) as archive:
                    expected = image_count(archive, row.study_uid, row.series_uid)
                self.archive_trouble = ""
                if expected is not None:
                    self.ledger.set_expected(row, expected)
                    return expected
            except (ArchiveError, InputRefused) as error:
                self.archive_trouble = error.text
                logger.warning("no number of images for series %s: %s", row.series_uid, error.text)
        return row.hinted

    def _sweep(self) -> None:
        now = self._clock()
        if now < self._swept_at + SWEEP_S:
            return
        self._swept_at = now
        done = [s for s in Phase if s not in (Phase.SCORING, Phase.COMPLETE, Phase.UNVERIFIED, Phase.SUPERSEDED)]
        for row in self.ledger.series(done):
            age_s = now - row.last_at
            if row.images and age_s > self.settings.keep_days * DAY_S:
                self.intake.remove(row.key)
                logger.info("images of series %s were deleted after %g days", row.series_uid, self.settings.keep_days)
            keep = self.settings.keep_results_days
            if keep is not None and age_s > keep * DAY_S:
                deleted = [discard(folder) for folder in sorted((self.results / row.key).glob("[0-9]*"))]
                if any(deleted):
                    logger.info("results of series %s were deleted after %g days", row.series_uid, keep)

    # Scoring

    def score_next(self) -> bool:
        """Have one series scored."""
        now = self._clock()
        row = next((row for row in self.ledger.ready() if row.next_at <= now), None)
        if row is None:
            return False
        files = self.intake.files(row.key)
        revision = self.ledger.begin_scoring(row)
        if revision is None:
            return True
        (row,) = self.ledger.series(key=row.key)
        out = self.results / row.key / f"{revision:04d}"
        out.parent.mkdir(mode=FOLDER, exist_ok=True)
        before = self._predecessor(row.key)
        begun = time.monotonic()
        try:
            event = self.scorer.score(files, out, {} if before is None else {"predecessor": str(before)}, self.stopping)
            if event is None:
                return False
            if event.kind == "done":
                self._keep(row, revision, out, event.text)
                self.scored += 1
                self.seconds += time.monotonic() - begun
            else:
                self._give_up_or_again(row, event.code)
        except Exception:  # no worker can be started, or what it made cannot be read
            self._give_up_or_again(row, "crash")
            raise
        return True

    def _predecessor(self, key: str) -> Path | None:
        """The report of this series that the archive has, and that a new one takes the place of."""
        for result in reversed(self.ledger.results(key)):
            path = Path(self.home, result.folder, "report.dcm")
            if "report.dcm" in result.sent and path.is_file():
                return path
        return None

    def _keep(self, row: SeriesRow, revision: int, out: Path, left_out: str) -> None:
        outcome = outcome_of(read_json(out / "report.json"))
        state = self.ledger.add_result(row, revision, outcome, out.relative_to(self.home).as_posix(), self._clock())
        logger.info("series %s is %s %s", row.series_uid, state, outcome.code)
        if left_out:
            logger.warning("series %s: %s", row.series_uid, left_out)

    def _give_up_or_again(self, row: SeriesRow, code: str) -> None:
        # A disk has room again one day; a scan that ends the worker does so every time.
        if code == "output" or (code in ("crash", "timeout", "memory") and row.attempts + 1 < CRASHES):
            pause = back_off_s(row.attempts + 1, self.settings.retry_s)
            again = Phase.COMPLETE if row.expected == row.images else Phase.UNVERIFIED
            self.ledger.set_state(
                row, again, code=code, text=WHY.get(code, ""), next_at=self._clock() + pause, attempts=row.attempts + 1
            )
            logger.warning("series %s: %s, attempt %d", row.series_uid, code, row.attempts + 1)
            return
        state = Phase.REFUSED if code in REFUSALS and code != "output" else Phase.FAILED
        # What the worker says may name a file; log and status of the node name none.
        self.ledger.set_state(row, state, code=code, text=WHY.get(code, ""), attempts=row.attempts)
        logger.info("series %s is %s: %s", row.series_uid, state, code)

    # Sending

    def send_next(self) -> bool:
        """Send one result."""
        if self._archive is None:
            return False
        now = self._clock()
        row = next((r for r in self.ledger.series((Phase.SCORED, Phase.UNSENT)) if r.next_at <= now), None)
        if row is None:
            return False
        result = self.ledger.results(row.key)[-1]
        if result.state not in (Phase.SCORED, Phase.UNSENT):
            return False
        try:
            with closing(self._archive()) as archive:
                self._send(archive, result)
        except (ArchiveError, InputRefused) as error:
            self.send_failures += 1
            self.archive_trouble = error.text
            pause = back_off_s(row.attempts + 1, self.settings.retry_s)
            code = error.code if isinstance(error, ArchiveError) else "input"
            self.ledger.set_result(row.key, result.revision, state=Phase.UNSENT)
            self.ledger.set_state(
                row, Phase.UNSENT, code=code, text=error.text, next_at=now + pause, attempts=row.attempts + 1
            )
            logger.warning("series %s was not sent: %s; again in %.0f s", row.series_uid, error.text, pause)
            return False
        self.sent += 1
        self.archive_trouble = ""
        self.ledger.set_result(row.key, result.revision, state=Phase.SENT)
        self.ledger.set_state(row, Phase.SENT)
        logger.info("series %s is sent", row.series_uid)
        return True

    def _send(self, archive: Archive, result: ResultRow) -> None:
        folder = self.home / result.folder
        sent = list(result.sent)
        for pattern in SENT_FILES:
            for path in sorted(folder.glob(pattern)):
                if path.name not in sent and not self.stopping.is_set():
                    archive.send(path)
                    sent.append(path.name)
                    self.ledger.set_result(result.key, result.revision, sent=sent)
        if self.stopping.is_set():
            raise ArchiveError("down", "the node is ending")


def discard(place: Path) -> bool:
    """Delete a result, or what is left of one; not where somebody works in it, or a reader's work lies in it.

    Parameters
    ----------
    place
        Of it.

    Returns
    -------
    bool
        Whether it is gone.
    """
    try:
        if not place.is_dir():
            place.unlink(missing_ok=True)
            return True
        with hold_for_replacing(place):
            shutil.rmtree(place, ignore_errors=True)
    except (InputRefused, OSError):
        return False
    return not place.exists()
