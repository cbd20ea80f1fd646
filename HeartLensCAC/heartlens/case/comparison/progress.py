"""What has changed between two scans of one person, as far as both allow a statement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from heartlens.anatomy import heart_region
from heartlens.anatomy.alignment.rigid import Alignment, align_hearts
from heartlens.case.comparison.matched import LesionChange, match_scans
from heartlens.case.comparison.noise import (
    ROOT_VOLUME_FLOOR,
    ROOT_VOLUME_SOURCE,
    Range,
    Verdict,
    judge_change,
    slab_phase_floor,
)
from heartlens.case.comparison.opened import OpenedCase
from heartlens.case.comparison.protocols import Difference, protocol_differences
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery
from heartlens.core.protocol import NOTICE
from heartlens.risk.assessment import Assessment
from heartlens.risk.evaluable import Evaluable
from heartlens.scoring.report import ScoreReport

PROGRESS_SCHEMA = "heartlens.progress/1"

SHORTEST_DAYS = 180
"""Between two scans, for a change a year: over less, noise is multiplied. A choice."""

LIKE_ONE_HEART = 0.85
"""Least correlation of two scans of one heart; on phantoms 0.96 and more, and of two people 0.84 and less."""

SAME_PLACE = 0.5
"""Least correlation from which an alignment is believed at all."""


Dates = tuple[date | None, date | None]
"""Days of the prior and the current scan."""


@dataclass(frozen=True)
class Change:
    """A number at both times.

    Parameters
    ----------
    prior, current
        Low and high at each time.
    """

    prior: Range
    current: Range

    @property
    def change(self) -> Range:
        """The least and the greatest change that what is undecided leaves possible."""
        return self.current[0] - self.prior[1], self.current[1] - self.prior[0]

    def to_json(self) -> dict[str, list[float]]:
        """Three pairs of low and high."""
        return {"prior": list(self.prior), "current": list(self.current), "change": list(self.change)}


@dataclass(frozen=True)
class Progress:
    """What has changed between two scans.

    Parameters
    ----------
    prior, current
        What may be said of each.
    states
        How far a person has answered for each, in words.
    dates
        Of the scans; None where unknown.
    total, root_volume
        Agatston, and square root of the volume score.
    arteries
        Agatston of each artery.
    floor_agatston
        Of this pair, from the phases of their slabs; None where slices are too thick to tell.
    lesions
        Matched, new and gone; None where the hearts could not be aligned, and where the change is withheld.
    alignment
        Of the hearts; None where it failed.
    differences
        Of the protocols.
    notes
        What a reader must know, a sentence each.
    """

    prior: Assessment
    current: Assessment
    states: tuple[str, str]
    dates: tuple[date | None, date | None]
    total: Change
    root_volume: Change
    arteries: Mapping[Artery, Change]
    floor_agatston: float | None
    lesions: tuple[LesionChange, ...] | None
    alignment: Alignment | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def days(self) -> int | None:
        """From the prior scan to the current one; None where a date is unknown."""
        prior, current = self.dates
        return None if prior is None or current is None else (current - prior).days

    @property
    def withheld(self) -> str:
        """Why nothing may be said of the change; empty where something may."""
        for name, one in (("prior", self.prior), ("current", self.current)):
            if one.evaluable is Evaluable.NO:
                return f"the {name} scan is not evaluable: {one.why()}"
        decisive = [one.what for one in self.differences if one.decides]
        return f"the scans were scored differently ({', '.join(decisive)}): score both in one way" if decisive else ""

    @property
    def per_year(self) -> tuple[Range | None, str]:
        """Change of the total a year, low and high; or None and why."""
        if self.withheld:
            return None, self.withheld
        if self.days is None:
            return None, "the day of a scan is not known; say it with --prior-date and --current-date"
        if self.days < SHORTEST_DAYS:
            return None, f"{self.days} days between the scans are too few to speak of a year ({SHORTEST_DAYS} or more)"
        low, high = self.total.change
        years = self.days / 365.2425
        return (low / years, high / years), ""

    @property
    def verdict(self) -> Verdict:
        """Whether the change is one: of the square root of the volume, and beyond what slabs alone do to the score."""
        if self.withheld:
            return Verdict.WITHHELD
        verdict = judge_change(self.root_volume.change, ROOT_VOLUME_FLOOR)
        if self.floor_agatston is not None:
            by_score = judge_change(self.total.change, self.floor_agatston, is_reached=False)
            if Verdict.NONE in (verdict, by_score):
                return Verdict.NONE
            if by_score is Verdict.OPEN:
                return Verdict.OPEN
        return verdict

    @property
    def category_change(self) -> str | None:
        """``same``, ``higher``, ``lower``, or ``open`` where ranges leave it so; None where one is withheld."""
        if self.withheld or not (self.prior.categories and self.current.categories):
            return None
        before, after = self.prior.categories, self.current.categories
        if len(before) == len(after) == 1 and before == after:
            return "same"
        if self.prior.scheme != self.current.scheme:
            return None
        if after[0].low > before[-1].low:
            return "higher"
        return "lower" if after[-1].low < before[0].low else "open"

    def to_json(self) -> dict[str, Any]:
        """What progress.json holds; progress.schema.json describes every field."""
        per_year, why = self.per_year
        withheld = bool(self.withheld)
        return {
            "schema": PROGRESS_SCHEMA,
            "notice": NOTICE,
            "dates": [None if day is None else day.isoformat() for day in self.dates],
            "days": self.days,
            "states": list(self.states),
            "verdict": self.verdict.value,
            "withheld": self.withheld or None,
            "total_agatston": None if withheld else self.total.to_json(),
            "per_year": None if per_year is None else list(per_year),
            "per_year_withheld": why or None,
            "root_volume": None if withheld else self.root_volume.to_json(),
            "arteries": None if withheld else {a.name: self.arteries[a].to_json() for a in CORONARY},
            "categories": {
                "scheme": self.current.scheme,
                "prior": [row.category for row in self.prior.categories],
                "current": [row.category for row in self.current.categories],
                "change": self.category_change,
            },
            "noise": {
                "root_volume_floor": ROOT_VOLUME_FLOOR,
                "root_volume_source": ROOT_VOLUME_SOURCE,
                "slab_phase_agatston": self.floor_agatston,
            },
            "lesions": None if self.lesions is None else [one.to_json() for one in self.lesions],
            "alignment": None
            if self.alignment is None
            else {
                "matrix_lps_mm": self.alignment.matrix.tolist(),
                "overlap": self.alignment.overlap,
                "correlation": self.alignment.correlation,
                "inconsistency_mm": self.alignment.inconsistency_mm,
                "turn_deg": self.alignment.turn_deg,
            },
            "differences": [asdict(one) for one in self.differences],
            "notes": list(self.notes),
        }


def compare_scans(
    prior: OpenedCase,
    current: OpenedCase,
    *,
    dates: Dates = (None, None),
    notes: Iterable[str] = (),
    alignment: Alignment | None = None,
) -> Progress:
    """What has changed from one scan to a later one of the same person.

    Parameters
    ----------
    prior, current
        The two scans; whose they are is the business of `persons`.
    dates
        Of the scans, where the user says them; None takes what the file says.
    notes
        What is known already.
    alignment
        Of these two scans, where it was found before.

    Raises
    ------
    InputRefused
        ``input``: both are one scan, the prior one is the later, or one shows no heart.
    """
    days = check_two_scans(prior, current, dates)
    if alignment is None:
        alignment = _align(prior, current)
    told = [*notes, *_alignment_notes(alignment)]
    believed = alignment is not None and alignment.correlation >= SAME_PLACE
    reports = (prior.case.report, current.case.report)
    progress = Progress(
        prior=prior.assessment,
        current=current.assessment,
        states=(prior.state_words, current.state_words),
        dates=days,
        total=Change(_total(prior.assessment), _total(current.assessment)),
        root_volume=Change(*(_root_volume(report) for report in reports)),
        arteries={artery: Change(*(_artery(report, artery) for report in reports)) for artery in CORONARY},
        floor_agatston=slab_phase_floor(prior.case, current.case),
        lesions=None,
        alignment=alignment,
        differences=protocol_differences(prior, current),
        notes=tuple(told),
    )
    if alignment is None or not believed or progress.withheld:  # "new" and "gone" are words of a change
        return progress
    return replace(progress, lesions=match_scans(prior.case, current.case, alignment))


def check_two_scans(prior: OpenedCase, current: OpenedCase, dates: Dates = (None, None)) -> Dates:
    """Refuse one scan twice, and a prior scan that is the later one; give the days of both.

    Parameters
    ----------
    prior, current
        The two scans.
    dates
        Where the user says them; None takes what the file says.

    Raises
    ------
    InputRefused
        ``input``: they are no two scans, or in the wrong order.
    """
    same_uid = prior.case.source_ct.header.series_uid == current.case.source_ct.header.series_uid is not None
    if same_uid or prior.case.voxel_checksum == current.case.voxel_checksum:
        raise InputRefused(
            "input", "both cases are of one scan: expected two scans; two readings of one scan: heartlens compare"
        )
    days = (dates[0] or prior.acquired, dates[1] or current.acquired)
    if days[0] is not None and days[1] is not None and days[1] < days[0]:
        raise InputRefused(
            "input", f"the prior scan is of {days[0]}, the current one of {days[1]}: name the earlier one first"
        )
    return days


def _align(prior: OpenedCase, current: OpenedCase) -> Alignment | None:
    regions = [heart_region(one.case.ct) for one in (prior, current)]
    for name, region in zip(("prior", "current"), regions, strict=True):
        if not region.in_view:
            raise InputRefused("input", f"no heart was found in the {name} scan: expected two scans of one heart")
    return align_hearts(*regions)


def _alignment_notes(alignment: Alignment | None) -> list[str]:
    if alignment is None:
        return ["The two hearts could not be laid on each other: lesions were not matched."]
    share = f"{100 * alignment.overlap:.0f} % of the prior heart and its border"
    text = f"correlation {alignment.correlation:.2f} over {share}"
    if alignment.correlation < SAME_PLACE:
        return [f"The two hearts could not be laid on each other ({text}): lesions were not matched."]
    if alignment.correlation < LIKE_ONE_HEART:
        return [f"The two hearts do not look like one ({text}): check that both scans are of one person."]
    return []


def _total(assessment: Assessment) -> Range:
    return assessment.total_low, assessment.total_high


def _bounds(report: ScoreReport, value: Mapping[int, float], counted: set[int]) -> Range:
    """Sums without the undecided lesions that count now, and with those undecided ones that do not."""
    low = math.fsum(value[x.id] for x in report.lesions if x.id in counted and not x.undecided)
    high = math.fsum(value[x.id] for x in report.lesions if x.id in counted or x.undecided)
    return low, high


def _root_volume(report: ScoreReport) -> Range:
    counted = {x.id for x in report.lesions if x.artery in SCORED_ARTERIES}
    low, high = _bounds(report, {x.id: x.volume_mm3 for x in report.lesions}, counted)
    return math.sqrt(low), math.sqrt(high)


def _artery(report: ScoreReport, artery: Artery) -> Range:
    """Of an artery; an undecided lesion that is called otherwise now may be any artery's, and is in no bound."""
    mine = [x for x in report.lesions if x.artery is artery]
    low = math.fsum(x.agatston for x in mine if not x.undecided)
    return low, math.fsum(x.agatston for x in mine)
