"""The page's second sheet: how the scan was made and scored, and where the numbers come from."""

from __future__ import annotations

import math
from gettext import NullTranslations

from heartlens import __version__
from heartlens.case.case import Case
from heartlens.core.lesions import ARTERY_COLORS, ARTERY_NAMES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.risk.assess import VERY_HIGH_AGATSTON, Risk, rounded_agatston
from heartlens.risk.assessment import ENGLISH
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.report import display_agatston


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


def context_rows(risk: Risk, say: NullTranslations = ENGLISH) -> list[tuple[str, str]]:
    """What published tables say about such a score, each with its population."""
    rows = []
    if risk.percentile_text:
        rows.append((say.gettext("Percentile"), risk.percentile_text))
    if risk.arterial_age_years is not None:
        rows.append((say.gettext("Arterial age"), f"{risk.arterial_age_years:.0f} years (MESA 2009)"))
    if risk.mesa_risk_percent is not None and risk.mesa_risk_without_cac_percent is not None:
        with_cac, without = f"{risk.mesa_risk_percent:.1f}", f"{risk.mesa_risk_without_cac_percent:.1f}"
        rows.append(
            (say.gettext("10-year CHD risk"), f"{with_cac} % with this score, {without} % without it (MESA 2015)")
        )
    return rows


def omitted_rows(risk: Risk) -> list[tuple[str, str]]:
    """Reasons, each with all that it leaves out."""
    reasons: dict[str, list[str]] = {}
    for what, why in risk.omitted:
        reasons.setdefault(why, []).append(what)
    return [(why.rstrip("."), ", ".join(names)) for why, names in reasons.items()]


def remarks(case: Case, say: NullTranslations = ENGLISH) -> list[str]:
    """What a reader must see of the numbers: left main, very high, unassigned, dropped at zero."""
    report = case.report
    total = report.total.agatston
    texts = []
    if total == 0 and case.risk.scheme != "heartlens" and case.risk.withheld is None:  # there the finding says it
        texts.append(say.gettext(SCHEMES["heartlens"].categories[0].finding))
    if total == 0 and report.dropped_small_count:
        text = say.ngettext(
            "Score 0, with {n} island at or above the threshold dropped as too small ({area} mm² in all).",
            "Score 0, with {n} islands at or above the threshold dropped as too small ({area} mm² in all).",
            report.dropped_small_count,
        )
        texts.append(text.format(n=report.dropped_small_count, area=f"{report.dropped_small_area_mm2:.2f}"))
    left_main = report.arteries[Artery.LM]
    if left_main.agatston > 0:
        text = say.gettext("Calcium in the left main coronary artery: Agatston {score}, {percent} % of the total.")
        share = f"{100 * (report.left_main_share or 0):.0f}"
        texts.append(text.format(score=display_agatston(left_main.agatston), percent=share))
    if case.risk.withheld is None and rounded_agatston(total) >= VERY_HIGH_AGATSTON:
        texts.append(say.gettext("Very high score ({least} or more).").format(least=VERY_HIGH_AGATSTON))
    unassigned = report.arteries[Artery.UNASSIGNED]
    if unassigned.lesions:
        text = say.ngettext(
            "{n} lesion (Agatston {score}) counted in the total but not assigned to an artery.",
            "{n} lesions (Agatston {score}) counted in the total but not assigned to an artery.",
            unassigned.lesions,
        )
        texts.append(text.format(n=unassigned.lesions, score=display_agatston(unassigned.agatston)))
    return texts


def distribution_facts(case: Case, say: NullTranslations = ENGLISH) -> list[tuple[str, str]]:
    """How the calcium is spread; what nobody can know while calcium has no artery is left out."""
    report = case.report
    facts = []
    if not report.arteries[Artery.UNASSIGNED].lesions:
        facts.append((say.gettext("Calcified arteries"), say.gettext("{n} of 4").format(n=report.calcified_vessels)))
        if report.diffusivity is not None:
            facts.append((say.gettext("Diffusivity index"), f"{report.diffusivity:.2f}"))
        if report.left_main_share:
            facts.append((say.gettext("Left-main share"), f"{100 * report.left_main_share:.0f} %"))
    small = f"{report.dropped_small_count} ({report.dropped_small_area_mm2:.2f} mm²)"
    return [*facts, (say.gettext("Below the minimum size, not counted"), small)]


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
        ("Minimum island", f"{protocol.minimum_area_mm2:g} mm² and {count(protocol.minimum_pixels, 'pixel')}"),
        ("Connectivity", f"{protocol.connectivity} neighbors in the slice"),
        ("Normalization", normalisation),
        ("Slabs", "none" if protocol.slab_mm is None else f"{protocol.slab_mm:g} mm before scoring"),
        ("Volume and mass of", volume),
        ("Mass calibration", mass),
        ("Source", protocol.source),
    ]


def provenance_rows(case: Case) -> list[tuple[str, str]]:
    """Where the result comes from. Paths are left out: folders are often named after people."""
    ct, header, facts = case.source_ct, case.source_ct.header, case.provenance
    scanner = " ".join(part for part in (header.manufacturer, header.model) if part) or "not stated"
    slices, rows, columns = ct.shape
    dz, dy, dx = ct.spacing_mm
    digests = ", ".join(f"{name} {digest[:12]} …" for name, digest in sorted(facts.checksums.items()))
    seconds = f", {sum(facts.seconds.values()):.1f} s" if facts.seconds else ""
    return [
        ("HeartLens", __version__),
        ("Labels from", "not stated" if facts.labels is None else facts.labels.value),
        ("Network bundle", facts.bundle or "none"),
        *([("Bundle files, SHA-256", digests)] if digests else []),
        ("Device, time", f"{facts.device}{seconds}"),
        ("Scanner", scanner),
        ("Grid", f"{slices} slices of {rows} x {columns}, {dz:.4g} x {dy:.4g} x {dx:.4g} mm"),
        ("Study UID", header.study_uid or "none"),
        ("Series UID", header.series_uid or "none"),
        ("Voxels, SHA-256", f"{case.voxel_checksum[:12]} … (all whole in report.json)"),
    ]


def artery_words(artery: Artery, say: NullTranslations = ENGLISH) -> dict[str, str]:
    """Letters, name and color of an artery, as they stand everywhere on the page."""
    letters = {Artery.OTHER: say.gettext("other"), Artery.UNASSIGNED: "?"}.get(artery, artery.name)
    return {"letters": letters, "name": say.gettext(ARTERY_NAMES[artery]), "color": ARTERY_COLORS[artery]}


def number(value: float | None, digits: int) -> str:
    """A number with so many digits; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def count(n: int, noun: str) -> str:
    """How many of something, such as "1 lesion" and "2 lesions"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
