"""How long images and results are kept. What was not scored yet, or not sent yet, is never deleted."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from heartlens.core.errors import InputRefused
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import SeriesRow
from heartlens.pacs.node.rules import Phase
from heartlens.report.outputs import hold_for_replacing

logger = logging.getLogger(__name__)

DAY_S = 86400.0
SWEEP_S = 60.0

OVER = (Phase.SENT, Phase.HELD, Phase.REFUSED, Phase.FAILED)
"""Nothing more becomes of a series by itself."""

KEPT_IMAGES = (Phase.RECEIVING, Phase.COMPLETE, Phase.UNVERIFIED, Phase.SCORING, Phase.SUPERSEDED)
"""States in which images are still needed."""

EXPIRED = "expired"
"""Code of a series that never became whole before its images were deleted."""

OURS = re.compile(r"[0-9]{4,}|\.[0-9]{4,}-[0-9a-f]{16}\.(owner|part|old)")
"""Names of results, and of what killed workers leave beside them; what else lies there is somebody's."""


@dataclass
class Retention:
    """Deletes what is too old, once a minute.

    Parameters
    ----------
    results
        Folder of all results.
    ledger, intake
        Of the node.
    keep_days
        How long images are kept after the last one of their series came.
    keep_results_days
        How long results are kept after they were made; None keeps them.
    sends
        Whether results go to an archive, and so must wait for it.
    clock
        Seconds since 1970.
    """

    results: Path
    ledger: Ledger
    intake: Intake
    keep_days: float
    keep_results_days: float | None
    sends: bool
    clock: Callable[[], float]
    _swept_at: float = field(default=0.0, init=False)

    def sweep(self) -> None:
        """Delete what is too old, where a minute has passed since the last time."""
        now = self.clock()
        if now < self._swept_at + SWEEP_S:
            return
        self._swept_at = now
        for row in self.ledger.series([state for state in Phase if state not in KEPT_IMAGES]):
            is_old = now - row.last_at > self.keep_days * DAY_S
            if is_old and (row.images or row.state is Phase.INCOMPLETE):
                self._delete_images(row)
        if self.keep_results_days is not None:
            for row in self.ledger.series(OVER if self.sends else (*OVER, Phase.SCORED)):
                self._delete_results(row, now - self.keep_results_days * DAY_S)

    def _delete_images(self, row: SeriesRow) -> None:
        state, code, text = row.state, row.code, row.text
        if state is Phase.INCOMPLETE:  # it can be asked about no more
            state, code = Phase.REFUSED, EXPIRED
            text = f"{row.text}; no more came in {self.keep_days:g} days"
        if self.intake.remove(row, state, code=code, text=text):
            logger.info("images of series %s were deleted after %g days", row.series_uid, self.keep_days)

    def _delete_results(self, row: SeriesRow, before: float) -> None:
        made = max((result.at for result in self.ledger.results(row.key)), default=row.last_at)
        if max(made, row.last_at) >= before:
            return
        deleted = [discard(folder) for folder in sorted((self.results / row.key).glob("[0-9]*"))]
        if any(deleted):
            logger.info("results of series %s were deleted after %g days", row.series_uid, self.keep_results_days)


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
