"""Figures of judged phantoms as docs/models.md shows them: tables in Markdown, and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.risk.categories import SCHEMES
from training.evaluation.outcomes import BUNDLE, BY_LABELS, BY_RULES, NO_SLICE_STAGE, WAYS, PhantomEvaluation
from training.evaluation.phantom_statistics import (
    GROUPS,
    NAMES,
    ROWS,
    Columns,
    StatisticRow,
    Summary,
    confusion,
    trap_table,
)
from training.evaluation.plots import confusion_figure, reliability_figure, save_png, score_figure
from training.evaluation.results import Estimate
from training.metrics.classification import ReliabilityBin
from training.metrics.overlap import ALL

BEGIN, END = "<!-- evaluate-embedded: begin -->", "<!-- evaluate-embedded: end -->"
"""Between these lines of docs/models.md stands what this file wrote, and nothing else."""

GROUP_KEYS = (
    "slice_sensitivity", "slice_specificity", "candidate_specificity", "accuracy.dino-lg", "accuracy.heartlens",
    "kappa.heartlens", "false_zero", "icc", "traps",
)  # fmt: skip

WORST = 12


def write_tables(
    document: Mapping[str, Any], evaluations: Sequence[PhantomEvaluation], summaries: Mapping[str, Summary]
) -> str:
    """Everything, as Markdown.

    Parameters
    ----------
    document
        numbers.json
    summaries
        "all", and "property: name" of each of `GROUPS` that has phantoms
    """
    whole = summaries["all"]
    parts = [_preface(document), _main_table(whole), _group_table(summaries)]
    ways = list(whole.ways)
    parts += [_lesion_table(evaluations, ways), _trap_lines(evaluations, ways), _confusion_table(evaluations, ways[0])]
    parts += [_network_lines(document), _worst_table(evaluations, ways[0])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _preface(document: Mapping[str, Any]) -> str:
    first, last = document["seeds"]
    bundle = document["bundle"]
    judged_was = f"bundle {bundle['title']}" if bundle else "no bundle"
    refused = document["refused"]
    seconds = ", ".join(f"{way} {value:.2f} s" for way, value in document["median_seconds"].items())
    sizes = f"{document['matrix']} x {document['matrix']} pixels"
    who = f"{document['phantoms']} phantoms, seeds {first} to {last}, {sizes}; {judged_was}"
    source = f"commit {document['commit']}; generator {document['generator'][:12]}"
    lines = [
        f"{who}; {source}. Intervals: 95 %, {document['draws']} draws of phantoms.",
        f"Time from a heart to lesions, median on one thread: {seconds}.",
    ]
    if refused:
        counts = ", ".join(f"{count} {code}" for code, count in refused.items())
        lines.append(f"The pipeline would not score some without --allow, which was given: {counts}.")
    return "\n".join(lines)


def _main_table(summary: Summary) -> str:
    ways = [way for way in WAYS if way in summary.ways]
    has_stage = bool(summary.slice_stage)
    head = ["figure", "aim", *ways]
    if has_stage:
        head.insert(head.index(NO_SLICE_STAGE) + 1, "the slice stage's part")
    if BUNDLE in ways:
        head.insert(2, "reached")
    lines = [_line(head), _rule(head)]
    for row in ROWS:
        cells = [row.shown, "" if row.goal is None else str(row.goal).replace(">=", "≥").replace("<=", "≤")]
        if BUNDLE in ways:
            value = summary.ways[BUNDLE][row.key].value
            cells.append("" if row.goal is None or value is None else "yes" if row.goal.is_met(value) else "**no**")
        for way in ways:
            cells.append(shown(summary.ways[way][row.key], row))
            if way == NO_SLICE_STAGE and has_stage:
                cells.append(shown(summary.slice_stage[row.key], row, sign=True))
        lines.append(_line(cells))
    return "\n".join(lines)


def _group_table(summaries: Mapping[str, Summary]) -> str:
    ways = [way for way in (BUNDLE, BY_RULES, BY_LABELS) if way in summaries["all"].ways]
    rows = {row.key: row for row in ROWS}
    head = ["", "n", *(rows[key].shown for key in GROUP_KEYS)]
    lines = [f"In each cell: {' / '.join(ways)}; the interval is that of the first.", "", _line(head), _rule(head)]
    known = ""
    for group in GROUPS:
        summary = summaries.get(f"{group.property}: {group.name}")
        if summary is None:
            continue
        if group.property != known:
            known = group.property
            lines.append(_line([f"**{known}**", *[""] * (len(head) - 1)]))
        cells = [group.name, str(summary.phantoms)]
        for key in GROUP_KEYS:
            first, *others = (summary.ways[way][key] for way in ways)
            values = [shown(first, rows[key], digits=2), *(_number(o.value, rows[key], digits=2) for o in others)]
            cells.append(" / ".join(values))
        lines.append(_line(cells))
    return "\n".join(lines)


def _lesion_table(evaluations: Sequence[PhantomEvaluation], ways: Sequence[str]) -> str:
    """Lesions of each artery: how many there are, found, called, right."""
    head = ["lesions", "in the truth", *(f"{way}: found / called / right" for way in ways)]
    lines = [_line(head), _rule(head)]
    columns = {way: Columns.of(evaluations, way).counts.sum(axis=0) for way in ways}
    at = {name: n for n, name in enumerate(NAMES)}
    for row in (*(artery.name for artery in CORONARY), ALL):
        cells = [row, f"{int(columns[ways[0]][at[f'{row}.reference']])}"]
        for way in ways:
            cells.append(" / ".join(str(int(columns[way][at[f"{row}.{n}"]])) for n in ("found", "predicted", "right")))
        lines.append(_line(cells))
    return "\n".join(lines)


def _trap_lines(evaluations: Sequence[PhantomEvaluation], ways: Sequence[str]) -> str:
    """Each kind of trap, and how many were called coronary."""
    shown_ways = [way for way in ways if way != BY_LABELS]
    tables = {way: trap_table(evaluations, way) for way in shown_ways}
    if not tables or not tables[shown_ways[0]]:
        return ""
    head = ["trap", "islands that would count", *(f"called coronary: {way}" for way in shown_ways)]
    lines = [_line(head), _rule(head)]
    for kind, (count, _) in tables[shown_ways[0]].items():
        cells = [f"{tables[way][kind][1]} ({tables[way][kind][1] / count:.0%})" for way in shown_ways]
        lines.append(_line([kind.replace("_", " "), str(count), *cells]))
    return "\n".join(lines)


def _confusion_table(evaluations: Sequence[PhantomEvaluation], way: str) -> str:
    columns = Columns.of(evaluations, way)
    matrix = confusion(columns.truth_place["heartlens"], columns.place["heartlens"], "heartlens")
    names = [row.shown for row in SCHEMES["heartlens"].categories]
    head = [f"truth \\ {way}", *names]
    rows = [_line([name, *map(str, row)]) for name, row in zip(names, matrix.tolist(), strict=True)]
    return "\n".join([_line(head), _rule(head), *rows])


def _network_lines(document: Mapping[str, Any]) -> str:
    lines = []
    if row := document.get("classifier"):
        lines.append(
            f"The slice classifier alone, on the {row['slices']} candidate slices ({row['calcified']} "
            f"calcified), at its cut-off of {row['cut_off']:.3f}: AUROC {row['auroc']:.3f}, sensitivity "
            f"{row['sensitivity']:.3f}, specificity {row['specificity']:.3f}."
        )
    if row := document.get("votes"):
        lines.append(
            f"The probability of an island: {row['islands']} islands that would count, {row['coronary']} coronary; "
            f"AUROC {row['auroc']:.3f}, calibration error {row['calibration_error']:.3f}, Brier {row['brier']:.3f}."
        )
    return "\n".join(lines)


def _worst_table(evaluations: Sequence[PhantomEvaluation], way: str) -> str:
    """False zeros and wrong categories, the farthest first."""
    columns = Columns.of(evaluations, way)
    step = np.abs(columns.truth_place["heartlens"] - columns.place["heartlens"])
    error = np.abs(np.log1p(columns.score) - np.log1p(columns.truth))
    order = sorted(np.flatnonzero(step), key=lambda n: (-step[n], -error[n]))[:WORST]
    if not order:
        return f"No scan is in another category by {way} than by the truth."
    head = ["seed", "truth", f"{way}", "field", "thickness", "increment", "kVp", "noise", "motion", "kernel"]
    lines = [f"Scans in another category by {way} than by the truth, the farthest first:", "", _line(head), _rule(head)]
    for n in order:
        p = evaluations[n].parameters
        field = p["matrix"] * min(p["pixel_mm"])
        cells = [
            str(evaluations[n].seed), f"{columns.truth[n]:.1f}", f"{columns.score[n]:.1f}", f"{field:.0f} mm",
            f"{p['slice_thickness_mm']:g} mm", f"{p['increment_mm']:g} mm", f"{p['kvp']:.0f}",
            f"{p['noise_hu']:g} HU", f"{p['motion_mm']:g} mm", p["kernel"],
        ]  # fmt: skip
        lines.append(_line(cells))
    return "\n".join(lines)


def shown(estimate: Estimate, row: StatisticRow, *, sign: bool = False, digits: int = 3) -> str:
    """A figure with its interval; "-" where it is not defined."""
    if estimate.value is None:
        return "-"
    text = _number(estimate.value, row, sign=sign, digits=digits)
    if estimate.low is not None and estimate.high is not None:
        low, high = (_number(v, row, sign=sign, digits=digits) for v in (estimate.low, estimate.high))
        text += f" ({low} to {high})"
    return text


def _number(value: float | None, row: StatisticRow, *, sign: bool = False, digits: int = 3) -> str:
    if value is None:
        return "-"
    plus = "+" if sign else ""
    text = f"{100 * value:{plus}.{digits - 2}f} %" if row.is_share else f"{value:{plus}.{digits}f}"
    return text.replace("-", "−")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(head: Sequence[str]) -> str:
    return "|" + "---|" * len(head)


def put_into(page: Path, text: str, *, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replace what stands between two marks of a page.

    Raises
    ------
    InputRefused
        "input": the page has no marks
    """
    begin, end = marks
    first, mark, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (mark and ended):
        raise InputRefused("input", f"{page}: expected the lines {begin} and {end}, found none; add them")
    with atomic_file(page) as sibling:
        sibling.write_text(f"{first}{begin}\n{text.rstrip()}\n{end}{after}", encoding="utf-8")


def draw_plots(document: Mapping[str, Any], evaluations: Sequence[PhantomEvaluation], folder: Path) -> list[Path]:
    """Scores, categories and reliability as PNG; returns what was drawn."""
    way = BUNDLE if BUNDLE in evaluations[0].ways else BY_RULES
    columns = Columns.of(evaluations, way)
    names = [row.shown for row in SCHEMES["heartlens"].categories]
    matrix = confusion(columns.truth_place["heartlens"], columns.place["heartlens"], "heartlens")
    figures = {
        "embedded-scores": score_figure(columns.truth, columns.score, title=f"{len(evaluations)} phantoms, {way}"),
        "embedded-categories": confusion_figure(matrix, names, title="Risk category"),
    }
    if votes := document.get("votes"):
        bins = [ReliabilityBin(**b) for b in votes["bins"]]
        figure = reliability_figure(bins, votes["calibration_error"], title="Probability of a lesion")
        upper, lower = figure.axes
        upper.set_ylabel("Share coronary")
        lower.set_ylabel("Islands")
        figures["embedded-reliability"] = figure
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        with atomic_file(paths[-1]) as sibling:
            save_png(figure, sibling, dpi=130)
    return paths
