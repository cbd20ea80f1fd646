"""What a score means in published tables: category, CAC-DRS, MESA percentile, arterial age, 10-year risk.

The numbers for one person come from `heartlens.risk.population_tables`; here they are put beside the category, or left
out with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from heartlens.risk.categories import CAC_DRS_SOURCE, _scheme, cac_drs, category
from heartlens.risk.population_tables import (
    ARTERIAL_AGE_SOURCE,
    MESA_PERCENTILE_SOURCE,
    MESA_RISK_SOURCE,
    OutsideCohort,
    RiskFactors,
    arterial_age_years,
    check_mesa_age,
    mesa_calcium_prevalence_percent,
    mesa_percentile,
    mesa_risk_percent,
    rounded_agatston,
)

VERY_HIGH_AGATSTON = 1000


@dataclass(frozen=True)
class Risk:
    """What published tables say about a score.

    Parameters
    ----------
    agatston
        The score that was looked up, unrounded.
    scheme
        Id of the category scheme.
    category, label
        Machine id and word; None when withheld.
    low, high
        Bounds of the category in rounded Agatston; high None is open, both None when withheld.
    shown
        The range as it is printed.
    finding
        One sentence about the plaque.
    text
        Clinical correlation, about groups of people.
    cac_drs
        Such as "A2/N3"; None when withheld.
    percentile
        MESA, 0-99, unrounded
    percentile_text
        The percentile with its population, as printed.
    arterial_age_years
        MESA, unrounded
    mesa_risk_percent, mesa_risk_without_cac_percent
        10-year CHD risk, unrounded
    omitted
        (what, why) of everything that is not given
    notes
        What a reader must know to read the numbers above.
    sources
        Of everything that is given.
    withheld
        Why there is no category; None when there is one.
    is_estimate
        The scan is not known to be ECG-gated, and the score has to be called estimated.
    category_probability
        (category, probability) in the scheme's order, from the probabilities of the lesions; None when nobody estimated
        those
    """

    agatston: float
    scheme: str
    category: str | None
    label: str | None
    low: int | None
    high: int | None
    shown: str | None
    finding: str
    text: str
    cac_drs: str | None
    percentile: float | None = None
    percentile_text: str = ""
    arterial_age_years: float | None = None
    mesa_risk_percent: float | None = None
    mesa_risk_without_cac_percent: float | None = None
    omitted: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    withheld: str | None = None
    is_estimate: bool = False
    category_probability: tuple[tuple[str, float], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The risk part of report.json; `from_json` gives back an equal Risk, bit for bit."""
        return {
            **asdict(self),
            "omitted": [{"what": what, "why": why} for what, why in self.omitted],
            "notes": list(self.notes),
            "sources": list(self.sources),
            "category_probability": None if self.category_probability is None else dict(self.category_probability),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Risk:
        """A risk from the JSON object that was written of it."""
        return cls(
            **{
                **document,
                "omitted": tuple((row["what"], row["why"]) for row in document["omitted"]),
                "notes": tuple(document["notes"]),
                "sources": tuple(document["sources"]),
                "category_probability": _pairs(document.get("category_probability")),
            }
        )


def assess(
    total_agatston: float,
    calcified_vessels: int,
    *,
    scheme: str = "heartlens",
    age_years: float | None = None,
    sex: str | None = None,
    race: str | None = None,
    risk_factors: RiskFactors | Mapping[str, Any] | None = None,
    withhold: str | None = None,
    is_gated: bool | None = None,
    has_unassigned: bool = False,
) -> Risk:
    """Look a score up in the published tables.

    A number whose inputs are missing, or whose source does not cover this person, is left out with the reason.

    Parameters
    ----------
    total_agatston
        Unrounded.
    calcified_vessels
        How many of LM, LAD, LCX, RCA score above 0.
    scheme
        A key of `SCHEMES`.
    age_years, sex, race
        "M" or "F"; one of `RACES`; None is unknown and is never guessed
    risk_factors
        For the 10-year risk; a mapping must have every field of `RiskFactors`.
    withhold
        Why the score must not be looked up at all (gaps between slices, say).
    is_gated
        ECG-gated; unknown counts as not gated, and then MESA numbers need a race or risk factors, that is, somebody who
        asked for them
    has_unassigned
        Some scored calcium has no artery yet.

    Raises
    ------
    ValueError
        Unknown scheme, a score that is not one, or a risk factor that is not one.
    """
    rounded_agatston(total_agatston)
    chosen_scheme = _scheme(scheme)
    if risk_factors is not None and not isinstance(risk_factors, RiskFactors):
        risk_factors = RiskFactors.from_json(risk_factors)
    if withhold:
        return _withheld(total_agatston, scheme, withhold, is_estimate=not is_gated)
    given = _MesaNumbers(total_agatston, age_years, sex, race, risk_factors, is_gated)
    row = category(total_agatston, scheme, percentile=given.percentile)
    omitted, notes = list(given.omitted), list(given.notes)
    vessels: int | None = calcified_vessels
    if has_unassigned or (total_agatston > 0 and calcified_vessels == 0):
        vessels = None
        omitted.insert(0, ("CAC-DRS number of vessels", "some scored calcium has no artery yet"))
    by_percentile = [c for c in chosen_scheme.categories if c.percentile_from is not None and c.low > row.low]
    if by_percentile and given.percentile is None and total_agatston > 0:
        notes.append(
            f"The scheme also uses the percentile, which is not known here: from percentile "
            f"{by_percentile[0].percentile_from:g} on, the category would be {by_percentile[0].shown}."
        )
    finding = row.finding
    if scheme == "heartlens" and rounded_agatston(total_agatston) >= VERY_HIGH_AGATSTON:
        finding += f" Very high score ({VERY_HIGH_AGATSTON} or more)."
    return Risk(
        agatston=total_agatston,
        scheme=scheme,
        category=row.category,
        label=row.label,
        low=row.low,
        high=row.high,
        shown=row.shown,
        finding=finding,
        text=row.text,
        cac_drs=cac_drs(total_agatston, vessels),
        percentile=given.percentile,
        percentile_text=given.percentile_text,
        arterial_age_years=given.arterial_age_years,
        mesa_risk_percent=given.risk_percent,
        mesa_risk_without_cac_percent=given.risk_without_cac_percent,
        omitted=tuple(omitted),
        notes=tuple(notes),
        sources=(f"{chosen_scheme.title}: {chosen_scheme.source}", CAC_DRS_SOURCE, *given.sources),
        is_estimate=not is_gated,
    )


class _MesaNumbers:
    """The numbers that come from MESA, each given or left out with its reason."""

    PERCENTILE, ARTERIAL_AGE, TEN_YEARS = "MESA percentile", "Arterial age (MESA)", "MESA 10-year CHD risk"

    def __init__(
        self,
        score: float,
        age_years: float | None,
        sex: str | None,
        race: str | None,
        risk_factors: RiskFactors | None,
        is_gated: bool | None,
    ) -> None:
        self.score, self.age_years, self.sex, self.race, self.risk_factors = score, age_years, sex, race, risk_factors
        self.percentile: float | None = None
        self.percentile_text = ""
        self.arterial_age_years: float | None = None
        self.risk_percent: float | None = None
        self.risk_without_cac_percent: float | None = None
        self.omitted: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.sources: list[str] = []
        if not is_gated and race is None and risk_factors is None:
            why = "not shown by default for CT that is not known to be ECG-gated; its score is an estimate"
            self.omitted = [(what, why) for what in (self.PERCENTILE, self.ARTERIAL_AGE, self.TEN_YEARS)]
            return
        self._add(self.PERCENTILE, self._percentile, age=age_years, sex=sex, race=race)
        self._add(self.ARTERIAL_AGE, self._arterial_age, age=age_years)
        self._add(self.TEN_YEARS, self._risk, age=age_years, sex=sex, race=race, **{"risk factors": risk_factors})
        if self.sources and not is_gated:
            self.notes.insert(
                0, "MESA numbers come from gated scans; this scan is not known to be ECG-gated, so they are estimates."
            )

    def _add(self, what: str, compute: Callable[[], None], **needed: Any) -> None:
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            self.omitted.append((what, f"not known: {', '.join(missing)}"))
            return
        try:
            compute()
        except OutsideCohort as outside:
            self.omitted.append((what, outside.reason))

    def _percentile(self) -> None:
        assert self.age_years is not None
        assert self.sex is not None
        assert self.race is not None
        person = f"{math.floor(self.age_years)}-year-old {self.race.capitalize()} {_SEX_WORDS.get(self.sex, '')}"
        self.percentile = mesa_percentile(self.score, self.age_years, self.sex, self.race)
        prevalence = mesa_calcium_prevalence_percent(self.age_years, self.sex, self.race)
        place = "0 (no calcium)" if self.score == 0 else f"{ordinal(self.percentile)} percentile"
        self.percentile_text = (
            f"{place} for a {person} (MESA 2006); about {prevalence:.0f} % of such people had coronary calcium"
        )
        self.notes.append(
            "The MESA percentile table is a transcription that has not been compared with the official calculator."
        )
        if self.risk_factors is not None and self.risk_factors.diabetes:
            self.notes.append("The MESA percentile table was made of people without treated diabetes.")
        self.sources.append(MESA_PERCENTILE_SOURCE)

    def _arterial_age(self) -> None:
        assert self.age_years is not None
        check_mesa_age(self.age_years)
        diabetes = None if self.risk_factors is None else self.risk_factors.diabetes
        self.arterial_age_years = arterial_age_years(self.score, diabetes=diabetes)
        if diabetes is None:
            self.notes.append("Arterial age does not apply to people with diabetes; diabetes was not stated.")
        self.sources.append(ARTERIAL_AGE_SOURCE)

    def _risk(self) -> None:
        assert self.age_years is not None
        assert self.sex is not None
        assert self.race is not None
        assert self.risk_factors is not None
        person = (self.age_years, self.sex, self.race, self.risk_factors)
        self.risk_percent = mesa_risk_percent(*person, score=self.score)
        self.risk_without_cac_percent = mesa_risk_percent(*person)
        self.sources.append(MESA_RISK_SOURCE)


_SEX_WORDS = {"M": "man", "F": "woman"}


def ordinal(number: float) -> str:
    """A number as a rank.

    Examples
    --------
    >>> [ordinal(n) for n in (1, 2.4, 11, 52.5, 91)]
    ['1st', '2nd', '11th', '53rd', '91st']
    """
    whole = math.floor(number + 0.5)
    ending = "th" if 10 < whole % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"


def _withheld(score: float, scheme: str, why: str, *, is_estimate: bool) -> Risk:
    names = ("Category", "CAC-DRS", _MesaNumbers.PERCENTILE, _MesaNumbers.ARTERIAL_AGE, _MesaNumbers.TEN_YEARS)
    return Risk(
        agatston=score,
        scheme=scheme,
        category=None,
        label=None,
        low=None,
        high=None,
        shown=None,
        finding="",
        text="",
        cac_drs=None,
        omitted=tuple((what, why) for what in names),
        withheld=why,
        is_estimate=is_estimate,
    )


def _pairs(probability: Mapping[str, float] | None) -> tuple[tuple[str, float], ...] | None:
    return None if probability is None else tuple(probability.items())
