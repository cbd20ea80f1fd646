"""What the score of a case may be called: looked up in the published tables, and assessed for all who show it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import SCORED_ARTERIES, Artery
from heartlens.core.provenance import LabelSource
from heartlens.risk.assess import Risk, assess
from heartlens.risk.assessment import Assessment, assess_score
from heartlens.risk.categories import SCHEMES
from heartlens.risk.category_probability import category_probabilities
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, Evaluable, evaluability
from heartlens.risk.person import RiskInputs
from heartlens.scoring.report import ScoreReport


def grade_score(
    report: ScoreReport,
    risk_inputs: RiskInputs,
    cautions: Iterable[WarningRecord],
    *,
    labels: LabelSource | None,
    is_gated: bool | None,
    is_read: bool,
    unit: float,
) -> tuple[Risk, Assessment]:
    """Look a score up, as far as the scan allows a statement, and say what may be said of it.

    Parameters
    ----------
    report
        The scores.
    risk_inputs
        What is known of the person.
    cautions
        Warnings that travel with the result.
    labels
        Who named the calcium.
    is_gated
        ECG-gated; unknown counts as not gated.
    is_read
        A reader has edited the lesions.
    unit
        Agatston score of one pixel of weight 1.
    """
    warnings = tuple(cautions)
    evaluable, reasons = evaluability((caution.code for caution in warnings), labels)
    withhold = None
    if evaluable is Evaluable.NO:
        decisive = {code for code in reasons if EVALUABLE_BY_CODE[code] is Evaluable.NO}
        withhold = "; ".join(caution.text for caution in warnings if caution.code in decisive)
    person = {name: getattr(risk_inputs, name) for name in RiskInputs.__dataclass_fields__}
    risk = assess(
        report.total.agatston,
        report.calcified_vessels,
        withhold=withhold,
        is_gated=is_gated,
        has_unassigned=report.arteries[Artery.UNASSIGNED].agatston > 0,
        **person,
    )
    # Of an empty map every network is sure; how often it is wrong there, no probability of a lesion says.
    if withhold is None and labels is LabelSource.NETWORK and report.total.agatston > 0:
        risk = replace(risk, category_probability=_category_probability(report, risk.scheme, unit))

    def category_of(total: float) -> str:
        return assess(total, 0, is_gated=is_gated, has_unassigned=True, **person).category or ""

    is_estimated = any(lesion.probability is not None for lesion in report.lesions)
    asks_for_more = any(row.percentile_from is not None for row in SCHEMES[risk.scheme].categories)
    assessment = assess_score(
        report,
        (caution.code for caution in warnings),
        scheme=risk.scheme,
        labels=labels,
        is_read=is_read,
        is_gated=is_gated,
        category_of=category_of if asks_for_more else None,
        probability=risk.category_probability if is_estimated else None,
    )
    return risk, assessment


def _category_probability(report: ScoreReport, scheme: str, unit: float) -> tuple[tuple[str, float], ...] | None:
    """From the networks' probability of each lesion, left-out ones too; what a reader decided is certain."""
    certain = {True: 1.0, False: 0.0}
    return category_probabilities(
        [lesion.agatston for lesion in report.lesions],
        [
            certain[lesion.artery in SCORED_ARTERIES] if lesion.probability is None else lesion.probability
            for lesion in report.lesions
        ],
        unit=unit,
        scheme=scheme,
    )
