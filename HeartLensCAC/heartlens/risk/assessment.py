"""What a number may be called, and the words for it: terminal, page, SR, panel and report.json read them here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from gettext import NullTranslations
from typing import Any

from heartlens.core.lesions import CORONARY, SCORED_ARTERIES
from heartlens.core.provenance import LabelSource
from heartlens.risk.categories import SCHEMES, Category, cac_drs, category
from heartlens.risk.category_probability import display_percent
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, REASONS, Evaluable, State, evaluability
from heartlens.scoring.report import LesionScore, ScoreReport, display_agatston

ENGLISH = NullTranslations()
"""Says every text as it stands in the code; another catalog of `gettext` says it in its language."""


@dataclass(frozen=True)
class Assessment:
    """What may be said of a score; terminal, page, SR, panel and report.json say this and nothing else.

    Parameters
    ----------
    state
        How far a person has answered for it.
    evaluable
        Whether the scan allows a statement.
    reasons
        Codes of the warnings that limit it.
    total
        Agatston as the lesions are named now, unrounded.
    total_low, total_high
        Agatston without the undecided lesions that are called coronary, and with every undecided lesion.
    scheme
        Of the categories.
    category_low, category_high
        Codes of the categories of the two totals; None where the scan allows no statement.
    cac_drs_low, cac_drs_high
        CAC-DRS of the two totals, such as "A1/N2", and "A1" where nobody knows how many arteries are calcified.
    likeliest, likeliest_probability
        The likeliest category by the networks' probability of every lesion; None where there is no such probability,
        where nothing is counted (a network that sees nothing would always be sure), and where nothing may be said.
    is_estimate
        The scan is not known to be ECG-gated, and the score has to be called estimated.
    undecided
        Ids of the lesions that a reader has to decide on, the highest Agatston score first.
    undecided_counted
        Those of them that are called coronary now, and are in `total`.
    """

    state: State
    evaluable: Evaluable
    reasons: tuple[str, ...]
    total: float
    total_low: float
    total_high: float
    scheme: str
    category_low: str | None
    category_high: str | None
    cac_drs_low: str | None
    cac_drs_high: str | None
    likeliest: str | None
    likeliest_probability: float | None
    is_estimate: bool
    undecided: tuple[int, ...]
    undecided_counted: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.total_low <= self.total <= self.total_high:
            raise ValueError(
                f"expected 0 <= total_low <= total <= total_high, got {self.total_low:g}, {self.total:g} and "
                f"{self.total_high:g}"
            )

    @property
    def categories(self) -> tuple[Category, ...]:
        """Every category that the score may have, the likeliest with them, ascending; none where nothing is said."""
        rows = SCHEMES[self.scheme].categories
        codes = [row.category for row in rows]
        ends = (self.category_low, self.category_high, self.likeliest)
        places = [codes.index(code) for code in ends if code is not None]
        return rows[min(places) : max(places) + 1] if places else ()

    @property
    def has_total(self) -> bool:
        """Whether there is a number at all: without a heart nothing was looked at, and 0 would be an answer."""
        return "no-heart" not in self.reasons

    @property
    def must_decide(self) -> bool:
        """Whether the category depends on what a reader has yet to say."""
        return len(self.categories) > 1

    def score(self, say: NullTranslations = ENGLISH) -> str:
        """The score, or the range that it lies in, as it is shown: "53 to 150"."""
        low, high = display_agatston(self.total_low), display_agatston(self.total_high)
        return low if low == high else say.gettext("{low} to {high}").format(low=low, high=high)

    def category(self, say: NullTranslations = ENGLISH) -> str:
        """The categories, each with its range: "mild, range 11–100, or moderate, range 101–400"; may be empty."""
        names = [_with_range(row, say) for row in self.categories]
        if len(names) <= 1:
            return "".join(names)
        joined = say.gettext("{low}, or {high}") if len(names) == 2 else say.gettext("{low}, up to {high}")
        return joined.format(low=names[0], high=names[-1])

    def cac_drs(self, say: NullTranslations = ENGLISH) -> str:
        """CAC-DRS with the range of its class: "A2/N3 (100–299)"; empty where there is none."""
        if self.cac_drs_low is None or self.cac_drs_high is None:
            return ""
        low, high = self.cac_drs_low.split("/")[0], self.cac_drs_high.split("/")[0]
        shown = {row.category: row.shown for row in SCHEMES["cac-drs"].categories}
        if low == high:
            code = self.cac_drs_low if self.cac_drs_low == self.cac_drs_high else low
            return f"{code} ({shown[low]})"
        is_next = ord(high[1]) - ord(low[1]) == 1
        joined = say.gettext("{low} or {high}") if is_next else say.gettext("{low} up to {high}")
        return joined.format(low=f"{low} ({shown[low]})", high=f"{high} ({shown[high]})")

    def why(self, say: NullTranslations = ENGLISH) -> str:
        """What limits the statement, in a few words: "metal near the heart; not known to be ECG-gated"."""
        codes = self.reasons
        if self.evaluable is Evaluable.NO:
            codes = tuple(code for code in codes if EVALUABLE_BY_CODE[code] is Evaluable.NO)
        return "; ".join(say.gettext(REASONS.get(code, code)) for code in codes)

    def headline(self, say: NullTranslations = ENGLISH) -> str:
        """The few words that stand beside the number."""
        if self.evaluable is Evaluable.NO:
            return say.gettext("Not evaluable")
        if not self.must_decide:
            text = self.category(say)
        elif len(self.categories) == 2:
            low, high = (say.gettext(row.label) for row in self.categories)
            text = say.gettext("{low} or {high}: a reader must decide").format(low=low, high=high)
        else:
            low, high = (say.gettext(self.categories[end].label) for end in (0, -1))
            text = say.gettext("{low} up to {high}: a reader must decide").format(low=low, high=high)
        return text[:1].upper() + text[1:]

    def sentence(self, say: NullTranslations = ENGLISH) -> str:
        """Score, category with its range, and CAC-DRS, or why there are none, in a line."""
        if self.evaluable is Evaluable.NO:
            text = say.gettext("Not evaluable: {why}.").format(why=self.why(say))
            return f"{text} {self.found(say)}".strip()
        name = say.gettext("Total Agatston score")
        if self.is_estimate:
            name = say.gettext("Estimated total Agatston score")
        return f"{name} {self.score(say)} ({self.scheme}: {self.category(say)}). CAC-DRS {self.cac_drs(say)}."

    def found(self, say: NullTranslations = ENGLISH) -> str:
        """What the sum is worth where nothing may be said of the person; empty elsewhere, and without a total."""
        if self.evaluable is not Evaluable.NO or not self.has_total:
            return ""
        text = say.gettext("What was found adds up to Agatston {score}, which says nothing about this person.")
        return text.format(score=display_agatston(self.total))

    def limits(self, say: NullTranslations = ENGLISH) -> str:
        """What limits a statement that may be made; empty where nothing does."""
        if self.evaluable is not Evaluable.LIMITED:
            return ""
        return say.gettext("Limited: {why}.").format(why=self.why(say))

    def range(self, say: NullTranslations = ENGLISH) -> str:
        """What the score is now, and what it would be by a reader's decisions; empty where nothing is undecided.

        "53, or 150 if lesion 6 is coronary".
        """
        if self.evaluable is Evaluable.NO or not self.undecided:
            return ""
        now, low, high = (display_agatston(one) for one in (self.total, self.total_low, self.total_high))
        taken = list(self.undecided_counted)
        left = [lesion for lesion in self.undecided if lesion not in taken]
        if taken and left:
            less = say.ngettext("{score} if {lesions} is not", "{score} if {lesions} are not", len(taken))
            more = say.ngettext("{score} if {lesions} is, too", "{score} if {lesions} are, too", len(left))
            parts = [
                less.format(score=low, lesions=lesion_words(taken, say)),
                more.format(score=high, lesions=lesion_words(left, say)),
            ]
        elif taken:
            text = say.ngettext(
                "{score} if {lesions} is not coronary", "{score} if {lesions} are not coronary", len(taken)
            )
            parts = [text.format(score=low, lesions=lesion_words(taken, say))]
        else:
            text = say.ngettext("{score} if {lesions} is coronary", "{score} if {lesions} are coronary", len(left))
            parts = [text.format(score=high, lesions=lesion_words(left, say))]
        return say.gettext("{now}, or {otherwise}").format(now=now, otherwise=say.gettext(", or ").join(parts))

    def decide(self, say: NullTranslations = ENGLISH) -> str:
        """What a reader has to decide first; empty where nothing is undecided."""
        if self.evaluable is Evaluable.NO:
            return ""
        if not self.undecided:
            if not self.must_decide:
                return ""
            return say.gettext(
                "No lesion alone is close to the cut-off, but by the probabilities of all the category is uncertain."
            )
        lesions = lesion_words(list(self.undecided), say)
        if self.must_decide:
            return say.gettext("The category depends on {lesions}: a reader must decide.").format(lesions=lesions)
        return say.gettext("Undecided, without changing the category: {lesions}.").format(lesions=lesions)

    def probability(self, say: NullTranslations = ENGLISH) -> str:
        """The likeliest category, beside its own probability; empty where none may be given."""
        if self.likeliest is None or self.likeliest_probability is None:
            return ""
        row = next(row for row in self.categories if row.category == self.likeliest)
        text = say.gettext("Likeliest by the networks: {category} ({percent}).")
        return text.format(category=say.gettext(row.label), percent=display_percent(self.likeliest_probability))

    def lines(self, say: NullTranslations = ENGLISH) -> tuple[str, ...]:
        """All that may be said, in the order in which it is read; each a sentence, none empty."""
        now = self.range(say)
        lines = (self.sentence(say), now and f"{now}.", self.decide(say), self.probability(say), self.limits(say))
        return tuple(line for line in lines if line)

    def to_json(self) -> dict[str, Any]:
        """The key `assessment` of report.json."""
        return {
            "state": self.state.value,
            "evaluable": self.evaluable.value,
            "reasons": list(self.reasons),
            **{name: getattr(self, name) for name in _PLAIN},
            "undecided": list(self.undecided),
            "undecided_counted": list(self.undecided_counted),
            "texts": {
                name: getattr(self, name)()
                for name in ("headline", "sentence", "range", "decide", "probability", "why")
            },
        }


_PLAIN = (
    "total", "total_low", "total_high", "scheme", "category_low", "category_high", "cac_drs_low", "cac_drs_high",
    "likeliest", "likeliest_probability", "is_estimate",
)  # fmt: skip


def assess_score(
    report: ScoreReport,
    codes: Iterable[str],
    *,
    scheme: str,
    labels: LabelSource | None,
    is_read: bool,
    is_gated: bool | None = None,
    category_of: Callable[[float], str] | None = None,
    probability: Iterable[tuple[str, float]] | None = None,
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
    is_gated
        ECG-gated; unknown counts as not gated.
    category_of
        Code of the category of a total, for a scheme that asks for more than the total; None looks at the total alone.
    probability
        (category, probability) by the networks; None where nobody estimated it.

    Returns
    -------
    Assessment
        `State.READ` or `State.DRAFT`; who writes a signature says so with `dataclasses.replace`.
    """
    category_of = category_of or (lambda total: category(total, scheme).category)
    evaluable, reasons = evaluability(codes, labels)
    undecided = sorted((x for x in report.lesions if x.undecided), key=lambda x: (-x.agatston, x.id))
    counted = [x for x in report.lesions if x.artery in SCORED_ARTERIES]
    total = low = high = report.total.agatston
    if undecided:
        low = math.fsum(x.agatston for x in counted if not x.undecided)
        high = math.fsum(x.agatston for x in report.lesions if x in counted or x.undecided)
        # Sums in another order differ in the last digits; the total lies within its own range.
        low, high = min(low, total), max(high, total)
    names: list[str | None] = [None, None]
    drs: list[str | None] = [None, None]
    likeliest: tuple[str, float] | None = None
    if evaluable is not Evaluable.NO:
        codes_of_scheme = [row.category for row in SCHEMES[scheme].categories]
        places = {codes_of_scheme.index(category_of(one)) for one in (low, total, high)}
        if probability is not None and total > 0:
            likeliest = max(probability, key=lambda row: row[1])
        names = [codes_of_scheme[min(places)], codes_of_scheme[max(places)]]
        settled = [x for x in counted if not x.undecided]
        may_be = [*counted, *(x for x in undecided if x not in counted)]
        drs = [cac_drs(low, _vessels(settled)), cac_drs(high, _vessels(may_be))]
    return Assessment(
        state=State.READ if is_read else State.DRAFT,
        evaluable=evaluable,
        reasons=reasons,
        total=total,
        total_low=low,
        total_high=high,
        scheme=scheme,
        category_low=names[0],
        category_high=names[1],
        cac_drs_low=drs[0],
        cac_drs_high=drs[1],
        likeliest=None if likeliest is None else likeliest[0],
        likeliest_probability=None if likeliest is None else likeliest[1],
        is_estimate=not is_gated,
        undecided=tuple(x.id for x in undecided),
        undecided_counted=tuple(x.id for x in undecided if x in counted),
    )


def _vessels(lesions: Iterable[LesionScore]) -> int | None:
    """How many arteries some lesions lie in; None where one of them lies in an artery that nobody has named."""
    arteries = {lesion.artery for lesion in lesions if lesion.agatston > 0}
    return len(arteries) if arteries <= set(CORONARY) else None


def _with_range(row: Category, say: NullTranslations) -> str:
    text = say.gettext("range {shown}").format(shown=row.shown)
    return text if row.label == row.shown else f"{say.gettext(row.label)}, {text}"


def lesion_words(ids: list[int], say: NullTranslations = ENGLISH) -> str:
    """Some lesions by their numbers, the first five of many.

    Examples
    --------
    >>> lesion_words([4]), lesion_words([1, 4, 2]), lesion_words([9, 8, 7, 6, 5, 4, 3])
    ('lesion 4', 'lesions 1, 4 and 2', 'lesions 9, 8, 7, 6, 5 and 2 more')
    """
    shown = [str(lesion) for lesion in ids[:5]]
    last = shown.pop() if len(shown) > 1 and len(ids) <= 5 else ""
    text = ", ".join(shown)
    if last:
        text = say.gettext("{some} and {last}").format(some=text, last=last)
    if len(ids) > 5:
        text = say.gettext("{some} and {more} more").format(some=text, more=len(ids) - 5)
    return say.ngettext("lesion {ids}", "lesions {ids}", len(ids)).format(ids=text)
