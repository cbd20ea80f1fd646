"""The draft of a result: sentences that say what its `Assessment` allows and nothing else. English alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from heartlens.core.lesions import CORONARY, SITE_NAMES, Artery
from heartlens.core.protocol import NOTICE
from heartlens.core.provenance import LabelSource
from heartlens.report.draft.sentences import DraftText, Sentence
from heartlens.risk.assessment import Assessment, lesion_words
from heartlens.risk.evaluable import Evaluable
from heartlens.scoring.report import ScoreReport, display_agatston

LABELS = MappingProxyType(
    {
        LabelSource.RULES: "rules",
        LabelSource.NETWORK: "networks",
        LabelSource.READER: "a reader",
        LabelSource.FILE: "labels that were given",
    }
)
"""Who found the calcium before any edit; whether a reader has looked since is the state."""


def draft_of(
    report: ScoreReport,
    assessment: Assessment,
    *,
    state: str,
    acquired: date | None = None,
    labels: LabelSource | None = None,
) -> DraftText:
    """Write a result in sentences.

    Parameters
    ----------
    report
        The scores.
    assessment
        What may be said of them.
    state
        How far a person has answered for it, in words.
    acquired
        Day of the scan.
    labels
        Who found and named the calcium.
    """
    sentences: list[Sentence] = []
    values: dict[str, str] = {}

    def add(text: str, more: Mapping[str, str] | None = None, *, is_fixed: bool = False) -> None:
        sentences.append(Sentence(text, is_fixed, is_list="{lm}" in text))
        values.update(more or {})

    add("State of the result: {state}.", {"state": state}, is_fixed=True)
    if acquired is None:
        add("Coronary artery calcium was scored by the Agatston method on a CT scan without a stated date.")
    else:
        text = "Coronary artery calcium was scored by the Agatston method on a CT scan of {scan_date}."
        add(text, {"scan_date": acquired.isoformat()})
    if labels is not None:
        add("Calcium was found and named by {labels}.", {"labels": LABELS[labels]})
    if assessment.evaluable is Evaluable.NO:
        add("The scan is not evaluable: {why}.", {"why": assessment.why()})
        if assessment.has_total:
            text = "What was found adds up to an Agatston score of {found}, which says nothing about this person."
            add(text, {"found": display_agatston(assessment.total)})
        else:
            add("No total score is given.")
    else:
        for text, more in (
            *_score(assessment),
            *_decisions(assessment),
            *_limits(assessment),
            *_places(report, assessment),
        ):
            add(text, more)
        if assessment.total_high == 0:
            add("Plaque that is not calcified is not excluded.")
    add("{notice}", {"notice": NOTICE}, is_fixed=True)
    return DraftText(tuple(sentences), MappingProxyType(values))


Parts = list[tuple[str, dict[str, str]]]
"""Sentences, each with the values of its slots."""


def _score(assessment: Assessment) -> Parts:
    name = "estimated total Agatston score" if assessment.is_estimate else "total Agatston score"
    verb = "is" if " " not in assessment.score() else "lies in the range"
    return [
        (
            f"The {name} {verb} {{score}}, and by the scheme {{scheme}} the category is {{category}}.",
            {"score": assessment.score(), "scheme": assessment.scheme, "category": assessment.category()},
        ),
        ("Its CAC-DRS class is {cac_drs}.", {"cac_drs": assessment.cac_drs()}),
    ]


def _decisions(assessment: Assessment) -> Parts:
    if not assessment.undecided:
        if not assessment.must_decide:
            return []
        text = "No lesion alone is close to the cut-off, but by the probabilities of all the category is uncertain."
        return [(text, {}), ("A reader must decide.", {})]
    lesions = lesion_words(list(assessment.undecided))
    parts = [("As the lesions are named now, the score is {range}.", {"range": assessment.range()})]
    if assessment.must_decide:
        parts.append(("The category depends on {undecided}, and a reader must decide.", {"undecided": lesions}))
    else:
        parts.append(("Undecided, without changing the category: {undecided}.", {"undecided": lesions}))
    return parts


def _limits(assessment: Assessment) -> Parts:
    if assessment.evaluable is not Evaluable.LIMITED:
        return []
    return [("This statement is limited: {limits}.", {"limits": assessment.why()})]


def _places(report: ScoreReport, assessment: Assessment) -> Parts:
    parts: Parts = []
    if report.total.agatston > 0:
        slots = {artery: f"{{{artery.name.lower()}}} {{{artery.name.lower()}_score}}" for artery in CORONARY}
        *first, last = slots.values()
        values = {artery.name.lower(): artery.name for artery in CORONARY} | {
            f"{artery.name.lower()}_score": display_agatston(report.arteries[artery].agatston) for artery in CORONARY
        }
        now = ", as the lesions are named now," if assessment.undecided else ""
        text = f"By artery{now} the Agatston scores are {', '.join(first)} and {last}."
        parts.append((text, values))
    unassigned = report.arteries[Artery.UNASSIGNED]
    if unassigned.lesions:
        score = display_agatston(unassigned.agatston)
        parts.append(("Calcium without a named artery scores {unassigned_score}.", {"unassigned_score": score}))
    findings = [
        f"{SITE_NAMES[site].removeprefix('not coronary, ')} {display_agatston(score)}"
        for site, score in report.findings.items()
    ]
    if findings:
        now = " now" if assessment.undecided else ""
        text = f"Calcium that is{now} called not coronary scores, by its place: {{findings}}."
        parts.append((text, {"findings": "; ".join(findings)}))
    return parts
