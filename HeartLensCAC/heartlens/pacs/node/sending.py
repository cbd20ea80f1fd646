"""Sending: a result leaves whole, once, and only while no image has come that it lacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

from heartlens.core.errors import InputRefused
from heartlens.pacs.archive import Archive, ArchiveError, files_to_send, image_count
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import ResultRow, SeriesRow
from heartlens.pacs.node.rules import Phase, back_off_s

logger = logging.getLogger(__name__)

GONE = "result-gone"
"""Code of a result that somebody deleted before it was sent."""


class Stopped(Exception):
    """Images came, the archive has more of them, or the node ends: this result is sent no further."""


class Sending:
    """Sends results, one after the other.

    Parameters
    ----------
    home
        Folder of the node.
    ledger
        Of the node.
    archive
        Gives the archive that results go to.
    stopping
        Set when the node ends.
    clock
        Seconds since 1970.
    retry_s
        First pause after sending in vain; it doubles each time, up to an hour.
    is_asked
        Whether the archive is asked, once more, how many images the series has.

    Attributes
    ----------
    key
        Of the series that is being sent, and that therefore is not scored; "" where there is none.
    sent, failures
        Since the start, for the metrics.
    """

    def __init__(
        self, home: Path, ledger: Ledger, archive: Callable[[], Archive], stopping: Event, *,
        clock: Callable[[], float], retry_s: float, is_asked: bool,
    ) -> None:  # fmt: skip
        self.key = ""
        self.sent = self.failures = 0
        self._home = home
        self._ledger = ledger
        self._archive = archive
        self._stopping = stopping
        self._clock = clock
        self._retry_s = retry_s
        self._is_asked = is_asked

    def send_next(self) -> bool:
        """Send one result; whether there was one that could be."""
        rows = self._ledger.series((Phase.SCORED, Phase.UNSENT), due_at=self._clock())
        if not rows:
            return False
        row = rows[0]
        self.key = row.key  # before it is looked at again: from here on nobody begins to score it
        try:
            return self._ledger.is_current(row) and self._deal_with(row)
        finally:
            self.key = ""

    def _deal_with(self, row: SeriesRow) -> bool:
        results = self._ledger.results(row.key)
        result = results[-1] if results else ResultRow(row.key, 0, Phase.SUPERSEDED, "", ())
        if result.state is Phase.SENT:  # a node of before was killed between the two
            return self._ledger.settle(row, result, Phase.SENT)
        if result.state is Phase.SUPERSEDED or not self._is_there(result):
            return self._begin_anew(row, result)
        try:
            with closing(self._archive()) as archive:
                self._send(archive, row, result)
        except Stopped:
            return True
        except (ArchiveError, InputRefused) as error:
            code = error.code if isinstance(error, ArchiveError) else "input"
            return self._again_later(row, result, code, error.text)
        except Exception as error:  # of a file, or of a library: this result waits, and the others go on
            return self._again_later(row, result, "failed", f"it could not be sent ({type(error).__name__})")
        if self._ledger.settle(row, result, Phase.SENT):
            self.sent += 1
            logger.info("series %s is sent", row.series_uid)
        self._ledger.hurry(Phase.UNSENT, "down")
        return True

    def _is_there(self, result: ResultRow) -> bool:
        return (self._home / result.folder / "report.dcm").is_file()

    def _begin_anew(self, row: SeriesRow, result: ResultRow) -> bool:
        """The result is not there, or is of fewer images: where the images are, it is made again."""
        if row.images:
            self._ledger.settle(row, result, Phase.RECEIVING)
        else:
            text = "the result was deleted before it was sent, and so were the images; send them again"
            self._ledger.settle(row, result, Phase.FAILED, code=GONE, text=text)
        logger.error("series %s: its result is gone before it was sent", row.series_uid)
        return True

    def _again_later(self, row: SeriesRow, result: ResultRow, code: str, text: str) -> bool:
        self.failures += 1
        pause = back_off_s(row.attempts + 1, self._retry_s)
        self._ledger.settle(
            row, result, Phase.UNSENT, code=code, text=text, next_at=self._clock() + pause, attempts=row.attempts + 1
        )
        logger.warning("series %s was not sent: %s; again in %.0f s", row.series_uid, text, pause)
        return False

    def _send(self, archive: Archive, row: SeriesRow, result: ResultRow) -> None:
        self._require_whole(archive, row, result)
        sent = list(result.sent)
        for path in files_to_send(self._home / result.folder):
            if self._stopping.is_set() or not self._ledger.is_current(row):
                raise Stopped
            if path.name not in sent:
                archive.send(path)
                sent.append(path.name)
                self._ledger.add_sent(result, sent)

    def _require_whole(self, archive: Archive, row: SeriesRow, result: ResultRow) -> None:
        """Since it was judged the archive may have got more images, or may be reached again."""
        expected = image_count(archive, row.study_uid, row.series_uid) if self._is_asked else None
        if expected is None or not 0 < result.images < expected:
            return
        self._ledger.settle(
            row, result, Phase.INCOMPLETE, code="incomplete", text=f"{result.images} images of {expected}"
        )
        logger.warning("series %s is incomplete: %d images of %d", row.series_uid, result.images, expected)
        raise Stopped
