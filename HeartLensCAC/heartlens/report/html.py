"""The page a reader prints: report.html, one file without scripts or links to anything outside it.

The first A4 sheet decides: state, score or range, what a reader must decide first, arteries, six lights, other
findings, sign-off. The second holds the methods, further ones pictures alone. Nothing on it is advice, no category
stands without its range, and what may be said of the score is said in the words of `Assessment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from gettext import NullTranslations
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from heartlens import __version__
from heartlens.case.case import Case
from heartlens.case.signature import Signature, answered, shown_name, state_of, state_words
from heartlens.core.lesions import ARTERY_NAMES, CORONARY, SCORED_ARTERIES, SITE_NAMES, Artery
from heartlens.core.protocol import NOTICE
from heartlens.report.catalogs.language import PLAIN, Language
from heartlens.report.crops import CROP_MM
from heartlens.report.figures import ScoredVoxels, axial_projection, front_projection, view_of
from heartlens.report.lesion_pictures import image_namer, lesion_row, pictures_of
from heartlens.report.lights import lights_of
from heartlens.report.methods import (
    artery_words,
    context_rows,
    distribution_facts,
    number,
    omitted_rows,
    protocol_rows,
    provenance_rows,
    remarks,
    technique_sentence,
)
from heartlens.report.ruler import scale_ruler
from heartlens.report.zero_dossier import zero_dossier
from heartlens.risk.assess import rounded_agatston
from heartlens.risk.assessment import ENGLISH, Assessment
from heartlens.risk.categories import SCHEMES
from heartlens.risk.category_probability import display_percent
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, SETTLED_BY_SIGNING, Evaluable, State
from heartlens.scoring.report import LesionScore, Totals, display_agatston

if TYPE_CHECKING:
    import pydicom

LEAST_FRONT_VIEW_MM = 30.0
"""A few slices seen from the front are a line, not a picture."""

SMALL_AGATSTON = 10
"""Up to here the note on the start position of the slices is printed: the categories of zero and minimal."""

START_POSITION_NOTE = (
    "How sure is a small score? When the start of 3 mm slices was moved by 1.5 mm in 228 women, 21 of them changed "
    "category (kappa 0.87) and 11 scores of zero became more than zero (Radiology, January 2008, PMID 18024437)."
)

MOST_OTHER_ROWS = 10
"""Of what was judged not coronary, the highest scores that the table shows; all are in lesions.csv. Bone and noise can
make hundreds of rows that nobody reads."""


@dataclass(frozen=True)
class Identity:
    """Who was scanned; on the page only because somebody asked for it."""

    patient_id: str
    name: str
    accession: str = ""
    series: str = ""

    @classmethod
    def of(cls, header: pydicom.Dataset) -> Identity:
        """Who was scanned, as a DICOM header says."""
        return cls(
            patient_id=str(header.get("PatientID", "")),
            name=shown_name(str(header.get("PatientName", ""))),
            accession=str(header.get("AccessionNumber", "") or ""),
            series=str(header.get("SeriesDescription", "") or ""),
        )

    def facts(self, say: NullTranslations = ENGLISH) -> list[str]:
        """What is known, each with its name."""
        named = (
            (say.gettext("ID {value}"), self.patient_id),
            (say.gettext("accession {value}"), self.accession),
            (say.gettext("series {value}"), self.series),
        )
        return [self.name or say.gettext("name not stated"), *(t.format(value=value) for t, value in named if value)]


def write_report(
    path: Path,
    case: Case,
    *,
    identity: Identity | None = None,
    signature: Signature | None = None,
    state: State | None = None,
    language: Language = PLAIN,
) -> str:
    """Write the page of a case and return what was written; see `render_report`."""
    page = render_report(case, identity=identity, signature=signature, state=state, language=language)
    written = page.encode("utf-8", errors="backslashreplace")
    path.write_bytes(written)
    return written.decode("utf-8")


def render_report(
    case: Case,
    *,
    identity: Identity | None = None,
    signature: Signature | None = None,
    state: State | None = None,
    language: Language = PLAIN,
) -> str:
    """The page of a case as HTML.

    Parameters
    ----------
    case
        Scored.
    identity
        Printed at the top; None prints none.
    signature
        Printed at the head and with the sign-off; None says that nobody signed.
    state
        `State.ALTERED` says that the case was changed after somebody signed it; None is what the signature says.
    language
        Of what a reader decides by; methods stay in English.
    """
    say = language.say
    known = state_of(case, signature, state)
    report, risk, assessment = case.report, case.risk, answered(case, known)
    scheme, voxels = SCHEMES[risk.scheme], _voxels(case)
    is_evaluable = assessment.evaluable is not Evaluable.NO
    return _template().render(
        css=_resource("report.css").replace("VERSION", __version__),
        language=language.code,
        say=say,
        _=language.text,
        n=language.number,
        capital=language.capital,
        notice=language.text(NOTICE),
        version=__version__,
        state=known.value,
        state_words=state_words(known, signature, say),
        identity=[] if identity is None else identity.facts(say),
        facts=_facts(case, language),
        assessment=assessment,
        is_evaluable=is_evaluable,
        decisive=[c.text for c in case.cautions if c.code in assessment.reasons and _is_decisive(c.code)],
        total=display_agatston(report.total.agatston),
        before=_automatic(case),
        risk=risk,
        scheme=scheme,
        ruler=scale_ruler(scheme.categories, assessment.total_low, assessment.total_high, assessment.categories),
        possible=assessment.categories,
        chances=_chances(case, assessment),
        technique=technique_sentence(case),
        lights=lights_of(case, known, say),
        warnings=_warnings(case, assessment.reasons, signature, say),
        columns=_columns(case, say),
        arteries=_artery_rows(case, say),
        total_row=_cells(case, report.total),
        distribution=distribution_facts(case, say),
        has_labels=any(row.label != row.shown for row in scheme.categories),
        has_text=any(row.text for row in scheme.categories),
        context=context_rows(risk, say),
        context_waits=assessment.must_decide,
        omitted=omitted_rows(risk),
        remarks=remarks(case, say),
        small_note=_small_note(case) if is_evaluable else "",
        **_projections(case, voxels, say),
        **pictures_of(case, voxels, known, say),
        zero=zero_dossier(case, say),
        crop_mm=f"{CROP_MM:g}",
        lesions=[lesion_row(case, lesion, say) for lesion in _listed(case)],
        unlisted=len(report.lesions) - len(_listed(case)),
        outside=_outside(case, say),
        has_mass=report.mass_factor_mg_per_mm3_hu is not None,
        has_why=any(lesion.why for lesion in report.lesions),
        has_probability=any(lesion.probability is not None for lesion in report.lesions),
        signoff=_signoff(case, say),
        protocol=protocol_rows(case),
        provenance=provenance_rows(case),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("report.html.jinja"))


@cache
def _resource(name: str) -> str:
    return (files("heartlens.report") / name).read_text(encoding="utf-8")


def _facts(case: Case, language: Language) -> list[str]:
    """Dates, and what was said of the person; nothing that names anybody."""
    person, header, say = case.risk_inputs, case.source_ct.header, language.say
    facts = []
    if person.age_years is not None:
        facts.append(say.gettext("{n} years").format(n=f"{person.age_years:.0f}"))
    if person.sex is not None:
        facts.append({"M": say.gettext("man"), "F": say.gettext("woman")}.get(person.sex, person.sex))
    if header.acquired:
        facts.append(say.gettext("scanned {day}").format(day=language.date(str(header.acquired))))
    else:
        facts.append(say.gettext("day of the scan not stated"))
    if case.provenance.scored_at:
        day, _, time = case.provenance.scored_at[:16].partition("T")
        facts.append(say.gettext("scored {day} {time}").format(day=language.date(day), time=time))
    return facts


def _automatic(case: Case) -> str:
    """The score before any edit, where a reader has changed it."""
    before = case.auto_report.total.agatston
    return display_agatston(before) if case.edits and before != case.report.total.agatston else ""


def _is_decisive(code: str) -> bool:
    return EVALUABLE_BY_CODE.get(code) is Evaluable.NO


def _warnings(
    case: Case, reasons: tuple[str, ...], signature: Signature | None, say: NullTranslations
) -> list[dict[str, str]]:
    """Every warning with what it leads to, those that decide first; settled ones last, with who settled them."""
    rows = []
    for caution in case.cautions:
        level = "note"
        if caution.code in reasons:
            level = "bad" if _is_decisive(caution.code) else "limited"
        by = ""
        if signature is not None and caution.code in SETTLED_BY_SIGNING:
            level, by = "good", state_words(State.SIGNED, signature, say)
        rows.append({"code": caution.code, "text": caution.text, "level": level, "by": by})
    return sorted(rows, key=lambda row: ("bad", "limited", "note", "good").index(row["level"]))


def _columns(case: Case, say: NullTranslations) -> list[str]:
    columns = [say.gettext("Lesions"), say.gettext("Agatston"), say.gettext("Volume mm³")]
    if case.report.total.volume_isotropic_mm3 is not None:
        columns.append(say.gettext("Isotropic volume mm³"))
    if case.report.mass_factor_mg_per_mm3_hu is not None:
        columns.append(say.gettext("Mass mg"))
    return [*columns, say.gettext("Density")]


def _cells(case: Case, totals: Totals) -> list[str]:
    """One row of the result table, in the order of `_columns`."""
    score = display_agatston(totals.agatston) if case.assessment.has_total else "–"
    cells = [str(totals.lesions), score, f"{totals.volume_mm3:.1f}"]
    if case.report.total.volume_isotropic_mm3 is not None:
        cells.append(number(totals.volume_isotropic_mm3, 1))
    if case.report.mass_factor_mg_per_mm3_hu is not None:
        cells.append(number(totals.mass_mg, 2))
    return [*cells, number(totals.density, 2)]


def _artery_rows(case: Case, say: NullTranslations) -> list[dict[str, Any]]:
    arteries = case.report.arteries
    shown = [*CORONARY, *([Artery.UNASSIGNED] if arteries[Artery.UNASSIGNED].lesions else [])]
    rows = []
    for artery in shown:
        words = artery_words(artery, say)
        name = say.gettext(ARTERY_NAMES[artery].replace(" coronary artery", ""))  # the page's title says it
        rows.append({**words, "name": name, "cells": _cells(case, arteries[artery])})
    return rows


def _chances(case: Case, assessment: Assessment) -> dict[str, str]:
    """Probability of each category as it is printed; empty when none may be given."""
    if assessment.likeliest is None:
        return {}
    return {category: display_percent(p) for category, p in case.risk.category_probability or ()}


def _small_note(case: Case) -> str:
    return START_POSITION_NOTE if rounded_agatston(case.report.total.agatston) <= SMALL_AGATSTON else ""


def _voxels(case: Case) -> ScoredVoxels:
    from heartlens.scoring.counted import scored_voxels

    return ScoredVoxels.of(case.lesions, scored_voxels(case.ct, case.lesions, case.protocol))


def _projections(case: Case, voxels: ScoredVoxels, say: NullTranslations) -> dict[str, Any]:
    view = view_of(case.ct, voxels)
    tall = (view.slices.stop - view.slices.start) * case.ct.increment_mm >= LEAST_FRONT_VIEW_MM
    shown_arteries = {artery for artery in (*SCORED_ARTERIES, Artery.OTHER) if (voxels.artery == artery).any()}
    highest = max(case.report.slices, key=lambda one: one.agatston)
    top = ""
    if highest.agatston > 0:
        score, image = display_agatston(highest.agatston), image_namer(case, say)(highest.index)
        top = say.gettext("{score} on {image}").format(score=score, image=image)
    return {
        "axial": axial_projection(case.ct, voxels, view),
        "front": front_projection(case.ct, voxels, view, case.report.slices) if tall else None,
        "has_calcium": case.report.total.agatston > 0,
        "legend": [artery_words(artery, say) for artery in Artery if artery in shown_arteries],
        "top_slice": top,
    }


def _listed(case: Case) -> list[LesionScore]:
    """Lesions of the table: every one that counts or is undecided, and the highest of the others."""
    others = [x for x in case.report.lesions if x.artery is Artery.OTHER and not x.undecided][MOST_OTHER_ROWS:]
    return [lesion for lesion in case.report.lesions if lesion not in others]


def _outside(case: Case, say: NullTranslations) -> dict[str, Any] | None:
    """What is calcified and was judged not coronary."""
    lesions = [lesion for lesion in case.report.lesions if lesion.artery is Artery.OTHER]
    if not lesions:
        return None
    numbers = ", ".join(str(lesion.id) for lesion in lesions[:12]) + (" …" if len(lesions) > 12 else "")
    score = display_agatston(case.report.arteries[Artery.OTHER].agatston)
    many = say.ngettext("{n} lesion", "{n} lesions", len(lesions)).format(n=len(lesions))
    found = sorted(case.report.findings.items(), key=lambda row: (row[0] is None, -row[1]))
    sites = [(say.gettext(SITE_NAMES[site]), display_agatston(agatston)) for site, agatston in found]
    return {"count": many, "score": score, "numbers": numbers, "sites": sites}


def _signoff(case: Case, say: NullTranslations) -> str:
    proposed = sum(lesion.agatston > 0 and lesion.artery in SCORED_ARTERIES for lesion in case.report.lesions)
    text = say.ngettext("{n} lesion counted, {edits}.", "{n} lesions counted, {edits}.", proposed)
    edits = say.gettext("not edited by a reader")
    if case.edits:
        edits = say.ngettext("{n} edit by a reader", "{n} edits by a reader", len(case.edits))
    return text.format(n=proposed, edits=edits.format(n=len(case.edits)))
