"""What a number may be called: the one place that says so, for page, command line, SR, panel and cohort."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.core.provenance import LabelSource
from heartlens.risk.categories import category
from heartlens.scoring.report import ScoreReport


class State(str, Enum):
    """How far a person has answered for a result."""

    DRAFT = "draft"
    READ = "read"
    SIGNED = "signed"
    ALTERED = "altered"  # changed after it was signed: no signer may be shown as valid

    def __str__(self) -> str:
        return self.value


class Evaluable(str, Enum):
    """Whether the scan allows a statement about the person."""

    YES = "yes"
    LIMITED = "limited"
    NO = "no"

    def __str__(self) -> str:
        return self.value


EVALUABLE_BY_CODE: Mapping[str, Evaluable] = MappingProxyType(
    {
        "contrast": Evaluable.NO,  # enhanced blood scores as calcium
        "few-slices": Evaluable.NO,  # most of the heart is not there
        "no-heart": Evaluable.NO,  # nothing was looked at
        "extrapolated-gaps": Evaluable.NO,  # slices are missing, and with them what they hold
        "heart-cut": Evaluable.LIMITED,
        "labels": Evaluable.LIMITED,  # labels that may not lie on this scan
        "metal": Evaluable.LIMITED,
        "non-gated": Evaluable.LIMITED,
        "unsettled": Evaluable.LIMITED,
    }
)
"""What each warning means for the number; a code that is not here means nothing for it."""


@dataclass(frozen=True)
class Assessment:
    """What may be said of a score.

    Parameters
    ----------
    state
        How far a person has answered for it.
    evaluable
        Whether the scan allows a statement.
    reasons
        Codes of the warnings that limit it.
    total_low, total_high
        Agatston without the undecided lesions that are called coronary, and with every undecided lesion.
    category_low, category_high
        Codes of their categories; None where the scan allows no statement.
    undecided
        Ids of the lesions that a reader has to decide on.
    """

    state: State
    evaluable: Evaluable
    reasons: tuple[str, ...]
    total_low: float
    total_high: float
    category_low: str | None
    category_high: str | None
    undecided: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.total_low <= self.total_high:
            raise ValueError(f"expected 0 <= total_low <= total_high, got {self.total_low:g} and {self.total_high:g}")

    def to_json(self) -> dict[str, Any]:
        """The key `assessment` of report.json."""
        return {
            "state": self.state.value,
            "evaluable": self.evaluable.value,
            "reasons": list(self.reasons),
            "total_low": self.total_low,
            "total_high": self.total_high,
            "category_low": self.category_low,
            "category_high": self.category_high,
            "undecided": list(self.undecided),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Assessment:
        """An assessment from what `to_json` made of it."""
        return cls(
            **{
                **document,
                "state": State(document["state"]),
                "evaluable": Evaluable(document["evaluable"]),
                "reasons": tuple(document["reasons"]),
                "undecided": tuple(document["undecided"]),
            }
        )


def assess_score(
    report: ScoreReport, codes: Iterable[str], *, scheme: str, labels: LabelSource | None, is_read: bool
) -> Assessment:
    """Say what may be said of a score.

    Parameters
    ----------
    report
        The scores.
    codes
        Of the warnings that travel with the result.
    scheme
        Of the categories, see `heartlens.risk.categories.SCHEMES`.
    labels
        Who named the calcium; given labels need no heart to be found.
    is_read
        A reader has edited the lesions.

    Returns
    -------
    Assessment
        `State.READ` or `State.DRAFT`; who writes a signature says so with `dataclasses.replace`.
    """
    reasons = [code for code in dict.fromkeys(codes) if code in EVALUABLE_BY_CODE]
    if labels is None or not labels.is_automatic:
        reasons = [code for code in reasons if code != "no-heart"]
    worst = max((EVALUABLE_BY_CODE[code] for code in reasons), key=list(Evaluable).index, default=Evaluable.YES)
    undecided = [lesion for lesion in report.lesions if lesion.undecided]
    low = high = report.total.agatston
    if undecided:
        is_counted = {lesion.id: lesion.artery in SCORED_ARTERIES for lesion in report.lesions}
        low = math.fsum(x.agatston for x in report.lesions if is_counted[x.id] and not x.undecided)
        high = math.fsum(x.agatston for x in report.lesions if is_counted[x.id] or x.undecided)
        # Sums in another order differ in the last digits; the total lies within its own range.
        low, high = min(low, report.total.agatston), max(high, report.total.agatston)
    names = [None, None] if worst is Evaluable.NO else [category(score, scheme).category for score in (low, high)]
    return Assessment(
        state=State.READ if is_read else State.DRAFT,
        evaluable=worst,
        reasons=tuple(reasons),
        total_low=low,
        total_high=high,
        category_low=names[0],
        category_high=names[1],
        undecided=tuple(lesion.id for lesion in undecided),
    )
