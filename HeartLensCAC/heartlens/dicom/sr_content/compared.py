"""What a document says of an earlier scan of the same person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heartlens.core import codes
from heartlens.dicom.sr_content.groups import measurement


@dataclass(frozen=True)
class Compared:
    """A change since an earlier scan, as far as anything may be said of it.

    Parameters
    ----------
    sentences
        What is said, the decisive first.
    prior_study_uid
        Study of the earlier scan; None where its file does not say it.
    change
        Of the Agatston score; None where what is undecided leaves it open, or nothing may be said.
    per_year
        The same a year.
    """

    sentences: tuple[str, ...]
    prior_study_uid: str | None = None
    change: float | None = None
    per_year: float | None = None

    def measurements(self) -> list[Any]:
        """The numbers among it, for the group of the total."""
        rows = (
            (codes.CHANGE, self.change, codes.SCORE_UNITS),
            (codes.CHANGE_PER_YEAR, self.per_year, codes.SCORE_PER_YEAR_UNITS),
        )
        return [measurement(name, value, unit) for name, value, unit in rows if value is not None]

    def comments(self) -> list[str]:
        """The sentences, the first of which says what with."""
        uid = "" if self.prior_study_uid is None else f" (study {self.prior_study_uid})"
        return [f"Compared with an earlier scan{uid}: {self.sentences[0]}", *self.sentences[1:]]
