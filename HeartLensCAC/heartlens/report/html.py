"""The page a reader prints: report.html, one file without scripts or links to anything outside it.

Order of the blocks: technique, quality, result, category, context, flags, pictures, lesions, other findings,
sign-off, protocol, provenance. Nothing on it is advice, and no category stands without its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from heartlens import __version__
from heartlens.case.case import Case
from heartlens.case.signature import Signature
from heartlens.core.lesions import ARTERY_COLORS, ARTERY_NAMES, CORONARY, SCORED_ARTERIES, Artery
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.report.figures import (
    CROP_MM,
    PICTURE_WINDOW_HU,
    ScoredVoxels,
    axial_projection,
    front_projection,
    lesion_picture,
    scale_ruler,
    view_of,
)
from heartlens.risk.assess import VERY_HIGH_AGATSTON, Risk, rounded_agatston
from heartlens.risk.categories import SCHEMES
from heartlens.risk.category_probability import display_percent
from heartlens.risk.evaluable import State
from heartlens.scoring.counted import scored_voxels
from heartlens.scoring.report import LesionScore, Totals, display_agatston

MOST_PICTURES = 24
"""More pictures than these say little and make the file large; the lesion table is always whole."""

LEAST_FRONT_VIEW_MM = 30.0
"""A few slices seen from the front are a line, not a picture."""

SMALL_AGATSTON = 10
"""Up to here the note on the start position of the slices is printed: the categories of zero and minimal."""

START_POSITION_NOTE = (
    "How sure is a small score? When the start of 3 mm slices was moved by 1.5 mm in 228 women, 21 of them changed "
    "category (kappa 0.87) and 11 scores of zero became more than zero (Radiology, January 2008, PMID 18024437)."
)


@dataclass(frozen=True)
class Identity:
    """Who was scanned; on the page only because somebody asked for it."""

    patient_id: str
    name: str


def write_report(
    path: Path,
    case: Case,
    *,
    identity: Identity | None = None,
    signature: Signature | None = None,
    state: State | None = None,
) -> None:
    """Write the page of a case; see `render_report`."""
    path.write_text(
        render_report(case, identity=identity, signature=signature, state=state),
        encoding="utf-8",
        errors="backslashreplace",
    )


def render_report(
    case: Case,
    *,
    identity: Identity | None = None,
    signature: Signature | None = None,
    state: State | None = None,
) -> str:
    """The page of a case as HTML.

    Parameters
    ----------
    case
        Scored.
    identity
        Printed at the top; None prints none.
    signature
        Printed with the sign-off; None says that nobody signed.
    state
        `State.ALTERED` says that the case was changed after somebody signed it; None is what the signature says.
    """
    report, risk = case.report, case.risk
    scheme = SCHEMES[risk.scheme]
    return _template().render(
        notice=NOTICE,
        version=__version__,
        identity=identity,
        estimated=not case.source_ct.header.is_gated,
        gating_note=(
            f"the scan is {'not' if case.source_ct.header.is_gated is False else 'not known to be'} ECG-gated, "
            "so the score is an estimate"
        ),
        total=display_agatston(report.total.agatston),
        risk=risk,
        assessment=case.assessment,
        scheme=scheme,
        chances=_chances(risk),
        ruler="" if risk.withheld else scale_ruler(scheme.categories, risk.agatston, risk.category or ""),
        technique=technique_sentence(case),
        cautions=case.cautions,
        columns=_columns(case),
        arteries=_artery_rows(case),
        total_row=_cells(case, report.total),
        facts=_facts(case),
        has_labels=any(row.label != row.shown for row in scheme.categories),
        has_text=any(row.text for row in scheme.categories),
        context=_context(case),
        omitted=_omitted(risk),
        flags=_flags(case),
        small_note=START_POSITION_NOTE if rounded_agatston(report.total.agatston) <= SMALL_AGATSTON else "",
        dropped_count=report.dropped_small_count,
        dropped_area=f"{report.dropped_small_area_mm2:.2f}",
        **_pictures(case),
        lesions=[_lesion_row(case, lesion) for lesion in report.lesions],
        outside=sum(lesion.artery not in SCORED_ARTERIES for lesion in report.lesions),
        has_mass=report.mass_factor_mg_per_mm3_hu is not None,
        has_why=any(lesion.why for lesion in report.lesions),
        has_review=any(lesion.undecided for lesion in report.lesions),
        has_probability=any(lesion.probability is not None for lesion in report.lesions),
        signoff=_signoff(case, signature, state),
        protocol=protocol_rows(case),
        provenance=_provenance(case),
    )


@cache
def _template() -> jinja2.Template:
    text = (files("heartlens.report") / "report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def technique_sentence(case: Case) -> str:
    """How the scan was made and scored; what is unknown is said to be unknown."""
    header, protocol = case.source_ct.header, case.protocol
    contrast = {None: "CT, contrast not stated", "": "Non-contrast CT"}.get(
        header.contrast, f"CT with contrast stated ({header.contrast})"
    )
    gating = {True: "ECG-gated", False: "non-gated", None: "not known to be ECG-gated"}[header.is_gated]
    kvp = "tube voltage not stated" if header.kvp is None else f"{header.kvp:g} kVp"
    increment = f"every {case.source_ct.increment_mm:.3g} mm"
    if header.slice_thickness_mm is None:
        slices = f"slices of unstated thickness {increment}"
    else:
        slices = f"{header.slice_thickness_mm:g} mm slices {increment}"
    kernel = f"kernel {header.kernel}" if header.kernel else "kernel not stated"
    area = f"minimum area {protocol.minimum_area_mm2:g} mm²"
    if protocol.minimum_pixels > 1:
        area += f" and {protocol.minimum_pixels} pixels"
    return (
        f"{contrast}, {gating}, {kvp}, {slices}, {kernel}. Scored with HeartLens {__version__}, "
        f"profile {protocol.name}, threshold {protocol.threshold_hu:g} HU, {area}."
    )


def _columns(case: Case) -> list[str]:
    columns = ["Lesions", "Agatston", "Volume mm³"]
    if case.report.total.volume_isotropic_mm3 is not None:
        columns.append("Isotropic volume mm³")
    if case.report.mass_factor_mg_per_mm3_hu is not None:
        columns.append("Mass mg")
    return [*columns, "Density"]


def _cells(case: Case, totals: Totals) -> list[str]:
    """One row of the result table, in the order of `_columns`."""
    cells = [str(totals.lesions), display_agatston(totals.agatston), f"{totals.volume_mm3:.1f}"]
    if case.report.total.volume_isotropic_mm3 is not None:
        cells.append(_number(totals.volume_isotropic_mm3, 1))
    if case.report.mass_factor_mg_per_mm3_hu is not None:
        cells.append(_number(totals.mass_mg, 2))
    return [*cells, _number(totals.density, 2)]


def _artery_rows(case: Case) -> list[dict[str, Any]]:
    arteries = case.report.arteries
    shown = [*CORONARY, *([Artery.UNASSIGNED] if arteries[Artery.UNASSIGNED].lesions else [])]
    return [{**_artery(artery), "cells": _cells(case, arteries[artery])} for artery in shown]


def _artery(artery: Artery) -> dict[str, str]:
    letters = {Artery.OTHER: "other", Artery.UNASSIGNED: "?"}.get(artery, artery.name)
    return {"letters": letters, "name": ARTERY_NAMES[artery], "color": ARTERY_COLORS[artery]}


def _facts(case: Case) -> list[tuple[str, str]]:
    report = case.report
    facts = [("Calcified arteries", f"{report.calcified_vessels} of 4")]
    if report.diffusivity is not None:
        facts.append(("Diffusivity index", f"{report.diffusivity:.2f}"))
    if report.left_main_share:
        facts.append(("Left-main share", f"{100 * report.left_main_share:.0f} %"))
    other = report.arteries[Artery.OTHER]
    if other.lesions:
        facts.append(("Judged not coronary, not counted", _count(other.lesions, "lesion")))
    return facts


def _chances(risk: Risk) -> dict[str, str]:
    """Probability of each category as it is printed; empty when nobody estimated it."""
    return {category: display_percent(p) for category, p in risk.category_probability or ()}


def _context(case: Case) -> list[tuple[str, str]]:
    risk = case.risk
    rows = []
    if risk.percentile_text:
        rows.append(("Percentile", risk.percentile_text))
    if risk.arterial_age_years is not None:
        rows.append(("Arterial age", f"{risk.arterial_age_years:.0f} years (MESA 2009)"))
    if risk.mesa_risk_percent is not None and risk.mesa_risk_without_cac_percent is not None:
        with_cac, without = f"{risk.mesa_risk_percent:.1f}", f"{risk.mesa_risk_without_cac_percent:.1f}"
        rows.append(("10-year CHD risk", f"{with_cac} % with this score, {without} % without it (MESA 2015)"))
    return rows


def _omitted(risk: Risk) -> list[tuple[str, str]]:
    """Reasons, each with all that it leaves out."""
    reasons: dict[str, list[str]] = {}
    for what, why in risk.omitted:
        reasons.setdefault(why, []).append(what)
    return [(why.rstrip("."), ", ".join(names)) for why, names in reasons.items()]


def _flags(case: Case) -> list[str]:
    report = case.report
    total = report.total.agatston
    flags = []
    close = [lesion for lesion in report.lesions if lesion.undecided]
    if close:
        numbers = ", ".join(str(lesion.id) for lesion in close)
        flags.append(
            f"{_count(len(close), 'lesion')} borderline (close to the networks' cut-off), review first: {numbers}. "
            f"Included in the score: {sum(lesion.artery in SCORED_ARTERIES for lesion in close)}."
        )
    if total == 0 and case.risk.scheme != "heartlens":  # the HeartLens table says it in its finding
        flags.append(SCHEMES["heartlens"].categories[0].finding)
    if total == 0 and report.dropped_small_count:
        flags.append(
            f"Score 0, with {_count(report.dropped_small_count, 'island')} at or above the threshold dropped as too "
            f"small ({report.dropped_small_area_mm2:.2f} mm² in all)."
        )
    left_main = report.arteries[Artery.LM]
    if left_main.agatston > 0:
        flags.append(
            f"Calcium in the left main coronary artery: Agatston {display_agatston(left_main.agatston)}, "
            f"{100 * (report.left_main_share or 0):.0f} % of the total."
        )
    if rounded_agatston(total) >= VERY_HIGH_AGATSTON:
        flags.append(f"Very high score ({VERY_HIGH_AGATSTON} or more).")
    unassigned = report.arteries[Artery.UNASSIGNED]
    if unassigned.lesions:
        flags.append(
            f"{_count(unassigned.lesions, 'lesion')} (Agatston {display_agatston(unassigned.agatston)}) "
            "counted in the total but not assigned to an artery."
        )
    return flags


def _pictures(case: Case) -> dict[str, Any]:
    voxels = ScoredVoxels.of(case.lesions, scored_voxels(case.ct, case.lesions, case.protocol))
    view = view_of(case.ct, voxels)
    tall = (view.slices.stop - view.slices.start) * case.ct.increment_mm >= LEAST_FRONT_VIEW_MM
    scored = [lesion for lesion in case.report.lesions if lesion.artery in SCORED_ARTERIES and lesion.agatston > 0]
    strip = []
    for lesion in scored[:MOST_PICTURES]:
        picture, index = lesion_picture(case.ct, voxels, lesion)
        strip.append({**_lesion_row(case, lesion), "svg": picture.svg, "slice": index})
    shown_arteries = {artery for artery in (*SCORED_ARTERIES, Artery.OTHER) if (voxels.artery == artery).any()}
    return {
        "axial": axial_projection(case.ct, voxels, view),
        "front": front_projection(case.ct, voxels, view, case.report.slices) if tall else None,
        "legend": [_artery(artery) for artery in Artery if artery in shown_arteries],
        "top_slice": _top_slice(case),
        "strip": strip,
        "left_out": len(scored) - len(strip),
        "crop_mm": f"{CROP_MM:g}",
        "window": f"{PICTURE_WINDOW_HU[0]:g} to {PICTURE_WINDOW_HU[1]:g}",
    }


def _top_slice(case: Case) -> str:
    highest = max(case.report.slices, key=lambda one: one.agatston)
    return f"{display_agatston(highest.agatston)} on slice {highest.index}" if highest.agatston > 0 else ""


def _lesion_row(case: Case, lesion: LesionScore) -> dict[str, Any]:
    first, last = lesion.slices
    z = case.report.slices
    return {
        **_artery(lesion.artery),
        "id": lesion.id,
        "counted": lesion.artery in SCORED_ARTERIES,
        "slices": str(first) if first == last else f"{first}–{last}",
        "z_mm": f"{z[first].z_mm:.1f}" if first == last else f"{z[first].z_mm:.1f} to {z[last].z_mm:.1f}",
        "agatston": display_agatston(lesion.agatston),
        "volume": f"{lesion.volume_mm3:.1f}",
        "mass": _number(lesion.mass_mg, 2),
        "area": f"{lesion.area_mm2:.1f}",
        "peak": f"{lesion.peak_hu:.0f}",
        "mean": f"{lesion.mean_hu:.0f}",
        "probability": _number(lesion.probability, 2),
        "source": lesion.source,
        "why": lesion.why,
        "review": lesion.undecided,
    }


def _signoff(case: Case, signature: Signature | None, state: State | None) -> str:
    proposed = sum(lesion.agatston > 0 and lesion.artery in SCORED_ARTERIES for lesion in case.report.lesions)
    edits = "not edited by a reader" if not case.edits else f"{_count(len(case.edits), 'edit')} by a reader"
    words = "Not signed"
    if signature is not None:
        words = f"Signed by {signature.observer}, {signature.organization}, {signature.when}"
    elif state is State.ALTERED:
        words = "Altered after it was signed; no signature is valid"
    return f"{words}. {_count(proposed, 'lesion')} counted, {edits}."


def protocol_rows(case: Case) -> list[tuple[str, str]]:
    """Every number of the method that this score used."""
    protocol: ScoringProtocol = case.protocol
    report = case.report
    edges = " / ".join(f"{edge:g}" for edge in protocol.edges_hu)
    normalisation = {
        "increment": f"slice increment / 3 mm, k = {report.slice_factor:.4g}",
        "thickness": f"slice thickness / 3 mm, k = {report.slice_factor:.4g}",
        "none": "none, k = 1",
    }[protocol.normalisation]
    volume = "the voxels that Agatston counts"
    if protocol.volume_above_hu is not None:
        volume = f"labeled voxels above {protocol.volume_above_hu:g} HU"
    factor = report.mass_factor_mg_per_mm3_hu
    mass = "not calibrated, no mass given"
    if factor is not None:
        mass = f"{factor:.6g} mg/mm³ per HU ({report.mass_factor_source})"
    return [
        ("Profile", protocol.name),
        ("Weights 1 / 2 / 3 / 4 from", f"{edges} HU"),
        ("Minimum island", f"{protocol.minimum_area_mm2:g} mm² and {_count(protocol.minimum_pixels, 'pixel')}"),
        ("Connectivity", f"{protocol.connectivity} neighbors in the slice"),
        ("Normalization", normalisation),
        ("Slabs", "none" if protocol.slab_mm is None else f"{protocol.slab_mm:g} mm before scoring"),
        ("Volume and mass of", volume),
        ("Mass calibration", mass),
        ("Source", protocol.source),
    ]


def _provenance(case: Case) -> list[tuple[str, str]]:
    """Where the result comes from. Paths are left out: folders are often named after people."""
    ct, header, facts = case.source_ct, case.source_ct.header, case.provenance
    scanner = " ".join(part for part in (header.manufacturer, header.model) if part) or "not stated"
    slices, rows, columns = ct.shape
    dz, dy, dx = ct.spacing_mm
    row_list = [
        ("HeartLens", __version__),
        ("Labels from", "not stated" if facts.labels is None else facts.labels.value),
        ("Network bundle", facts.bundle or "none"),
        *((f"{name}, SHA-256", digest) for name, digest in sorted(facts.checksums.items())),
        ("Device", facts.device),
        ("Time", f"{sum(facts.seconds.values()):.1f} s" if facts.seconds else "not stated"),
        ("Scanner", scanner),
        ("Grid", f"{slices} slices of {rows} x {columns}, {dz:.4g} x {dy:.4g} x {dx:.4g} mm"),
        ("Study UID", header.study_uid or "none"),
        ("Series UID", header.series_uid or "none"),
        ("Voxels, SHA-256", case.voxel_checksum),
    ]
    return row_list


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
