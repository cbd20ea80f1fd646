"""Result: the automatic numbers, the reader's, their difference, and the row of the risk table they fall in."""

import math
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.case.signature import answered, state_words
from heartlens.core.lesions import ARTERY_COLORS, CORONARY, Artery
from heartlens.risk.assess import Risk
from heartlens.risk.assessment import Assessment
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.report import Totals, display_agatston
from HeartLensCACLib.Sections.Tables import LETTERS, fillTable, fitHeight
from HeartLensCACLib.Words import WARNING, panelWords

MARK = "\u25b6 "
"""Before each row that this score may lie in; bold as well where it is one, never by color alone."""

NO_SCORE = "\u2013"
"""Where no heart was found: nothing was looked at, and 0 would be an answer."""


class ResultSection:
    """The Result section: totals, risk category with its context, and cautions.

    Parameters
    ----------
    ui
        Widgets by name.
    offer
        Called with the case that is shown, or None: its remedies are offered.
    """

    def __init__(self, ui: Any, offer: "Callable[[Case | None], None]" = lambda _case: None) -> None:
        self.ui = ui
        self._offer = offer
        self.clear()

    def clear(self) -> None:
        """Empty, disable and fold the section."""
        for table in (self.ui.totalsTable, self.ui.riskTable):
            table.setRowCount(0)
        for label in (self.ui.riskLabel, self.ui.contextLabel, self.ui.cautionsLabel):
            label.setText("")
        self._offer(None)
        self.ui.resultSection.setEnabled(False)
        self.ui.resultSection.collapsed = True

    def show(self, reading: ReviewSession) -> None:
        """Show the result of a case that was opened, and unfold the section."""
        self.refresh(reading)
        self.ui.resultSection.setEnabled(True)
        self.ui.resultSection.collapsed = False

    def refresh(self, reading: ReviewSession) -> None:
        """Fill in the result as it is after the latest edit."""
        self._fillTotals(reading)
        risk, assessment = reading.case.risk, answered(reading.case, reading.state)
        finding = "" if assessment.must_decide else risk.finding
        state = f"{state_words(reading.state, reading.signature)}."
        self.ui.riskLabel.setText(" ".join([state, *assessment.lines(), finding]).strip())
        self._fillRisk(assessment)
        self.ui.contextLabel.setText("\n".join(contextLines(risk, assessment)))
        cautions = [f"{WARNING} {panelWords(caution.text)}" for caution in reading.case.cautions]
        self.ui.cautionsLabel.setText("\n".join(cautions))  # as in the report: the run may have met more than the scan
        self.ui.cautionsLabel.setVisible(bool(cautions))
        self._offer(reading.case)

    def _fillTotals(self, reading: ReviewSession) -> None:
        was, now, hasTotal = reading.case.auto_report, reading.case.report, reading.case.assessment.has_total
        hasMass = now.mass_factor_mg_per_mm3_hu is not None
        columns = [_("artery"), _("automatic"), _("edited"), _("difference"), _("lesions"), _("volume mm³")]
        if hasMass:
            columns.append(_("mass mg"))
        arteries = list(CORONARY)
        unassigned = Artery.UNASSIGNED
        if was.arteries[unassigned].lesions or now.arteries[unassigned].lesions:
            arteries.append(unassigned)
        rows = [
            [
                (LETTERS[artery], ARTERY_COLORS[artery]),
                *_cells(was.arteries[artery], now.arteries[artery], hasTotal, hasMass),
            ]
            for artery in arteries
        ]
        rows.append([_("total"), *_cells(was.total, now.total, hasTotal, hasMass)])
        fillTable(self.ui.totalsTable, columns, rows, marked=len(rows) - 1)
        fitHeight(self.ui.totalsTable)

    def _fillRisk(self, assessment: Assessment) -> None:
        categories = SCHEMES[assessment.scheme].categories
        possible = [n for n, row in enumerate(categories) if row in assessment.categories]
        marked = possible[0] if len(possible) == 1 else None
        rows = [
            [(MARK if n in possible else "    ") + row.shown, row.label if row.label != row.shown else "", row.finding]
            for n, row in enumerate(categories)
        ]
        fillTable(self.ui.riskTable, [_("Agatston"), _("category"), _("finding")], rows, marked=marked, stretch=True)
        fitHeight(self.ui.riskTable)


def contextLines(risk: Risk, assessment: Assessment) -> "list[str]":
    """Percentile, arterial age and 10-year risk where they are known and the category is, and why not where not."""
    if assessment.must_decide:
        return [_("Percentile, arterial age and risk are given when a reader has decided on the category.")]
    lines = []
    if risk.percentile_text:
        lines.append(risk.percentile_text[:1].upper() + risk.percentile_text[1:] + ".")
    if risk.arterial_age_years is not None:
        lines.append(_("Arterial age {years:.0f} years (MESA 2009).").format(years=risk.arterial_age_years))
    if risk.mesa_risk_percent is not None:
        text = _("10-year risk of coronary heart disease {has:.1f} % with calcium, {lacks:.1f} % without (MESA 2015).")
        lines.append(text.format(has=risk.mesa_risk_percent, lacks=risk.mesa_risk_without_cac_percent))
    lines += list(risk.notes)
    reasons: dict[str, list[str]] = {}
    for what, why in risk.omitted:
        reasons.setdefault(why, []).append(what)
    lines += [
        _("Not available: {what} ({why}).").format(what=", ".join(what), why=why) for why, what in reasons.items()
    ]
    return lines


def shownDifference(was: float, now: float) -> str:
    """What a reader gets who subtracts the two scores as they are shown; "<1" where only what is not shown differs."""
    steps = math.floor(now + 0.5) - math.floor(was + 0.5)
    if was == now:
        return "0"
    return ("+" if now > was else "\u2212") + (str(abs(steps)) if steps else "<1")


def _cells(was: Totals, now: Totals, hasTotal: bool, hasMass: bool) -> "list[str]":
    scores = [
        display_agatston(was.agatston),
        display_agatston(now.agatston),
        shownDifference(was.agatston, now.agatston),
    ]
    cells = [*(scores if hasTotal else [NO_SCORE] * len(scores)), str(now.lesions), f"{now.volume_mm3:.0f}"]
    if hasMass:
        cells.append("" if now.mass_mg is None else f"{now.mass_mg:.1f}")
    return cells
