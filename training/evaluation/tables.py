"""How numbers are written, in Markdown, on pages and in terminals; and the tables of docs/models-phantoms.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.risk.categories import SCHEMES
from training.evaluation.results import NEIGHBORS, Estimate, Patient, Summary
from training.evaluation.statistics import AREA_EDGES_MM2, risk_places
from training.metrics.overlap import ALL, MATCH_RULES, ROWS

PHANTOM_MARKS = ("<!-- evaluate-embedded: begin -->", "<!-- evaluate-embedded: end -->")
"""Between such lines of docs/models-phantoms.md stands what a command wrote, and nothing else."""

WORST = 12
"""Scans in another category than the truth's that are listed."""


# Numbers


def number(value: float | None, digits: int = 3, *, sign: bool = False, is_share: bool = False) -> str:
    """A number as printed; "-" where there is none.

    Examples
    --------
    >>> number(1234.5678, 1), number(0.0213, is_share=True), number(0.5, sign=True), number(-0.0001)
    ('1,234.6', '2.1 %', '+0.500', '0.000')
    """
    if value is None:
        return "-"
    plus = "+" if sign else ""
    text = f"{100 * value:{plus},.{digits - 2}f}" if is_share else f"{value:{plus},.{digits}f}"
    if not sign and float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−") + (" %" if is_share else "")


def interval(estimate: Estimate, digits: int = 3, *, sign: bool = False, is_share: bool = False) -> str:
    """Both ends of the interval; empty where there is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    low, high = (number(v, digits, sign=sign, is_share=is_share) for v in (estimate.low, estimate.high))
    return f"{low} to {high}"


def shown(estimate: Estimate, digits: int = 3, *, sign: bool = False, is_share: bool = False) -> str:
    """A statistic with its interval.

    Examples
    --------
    >>> shown(Estimate(0.5, 0.25, 1.0), 2), shown(Estimate(0.5)), shown(Estimate(None))
    ('0.50 (0.25 to 1.00)', '0.500', '-')
    """
    value = number(estimate.value, digits, sign=sign, is_share=is_share)
    ends = interval(estimate, digits, sign=sign, is_share=is_share)
    return f"{value} ({ends})" if ends else value


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def put_into(page: Path, text: str, marks: tuple[str, str]) -> None:
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


# Phantoms


class Goal(NamedTuple):
    """What a statistic has to reach."""

    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a value lies within both bounds, where there are any."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least:g} to {self.most:g}"
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


class StatisticRow(NamedTuple):
    """One statistic of the main table: its name, its name in words, an aim if there is one, whether in percent."""

    name: str
    words: str
    goal: Goal | None = None
    is_share: bool = False


STATISTIC_ROWS = (
    StatisticRow("slices.sensitivity", "slice sensitivity", Goal(least=0.89)),
    StatisticRow("slices.specificity", "slice specificity, all slices", Goal(least=0.90)),
    StatisticRow("candidates.specificity", "slice specificity, slices with candidates", Goal(least=0.90)),
    StatisticRow("category.dino-lg.accuracy", "risk category right (0-10, 11-100, 101-400, > 400)", Goal(least=0.93)),
    StatisticRow("category.dino-lg.linear_kappa", "linear kappa, same categories", Goal(least=0.95)),
    StatisticRow(
        "category.heartlens.accuracy", "risk category right (0, 1-10, 11-100, 101-400, > 400)", Goal(least=0.93)
    ),
    StatisticRow("category.heartlens.linear_kappa", "linear kappa, same categories", Goal(least=0.95)),
    StatisticRow("zero.false_zero_rate", "false zeros, of scans with calcium", Goal(most=0.02), is_share=True),
    StatisticRow("zero.false_positive_rate", "scores above 0, of scans without calcium", is_share=True),
    StatisticRow("agatston.all.icc_absolute", "ICC(2,1) of the Agatston score", Goal(least=0.98)),
    *(
        StatisticRow(f"lesions.{MATCH_RULES[0]}.{artery}.f1_by_count", f"lesion F1 by count, {artery}")
        for artery in ("RCA", "LAD", "LM", "LCX")
    ),
    StatisticRow(f"lesions.{MATCH_RULES[-1]}.{ALL}.f1_by_count", "lesion F1 by count, any coronary artery"),
    *(StatisticRow(f"voxels.{artery}.f1", f"voxel F1, {artery}") for artery in ("RCA", "LAD", "LM", "LCX")),
    StatisticRow("traps.all", "traps called coronary", Goal(most=0.02), is_share=True),
    StatisticRow("traps.in_heart", "the same, in the zone of the coronaries", is_share=True),
    StatisticRow("traps.decoys", "the same, decoys like plaques alone", is_share=True),
    StatisticRow("on_nothing.per_scan", "lesions on noise or bone, per scan"),
    StatisticRow("noise_free.category.dino-lg.accuracy", "against the noise-free image: category right (4)"),
    StatisticRow("noise_free.category.dino-lg.linear_kappa", "… linear kappa (4)"),
    StatisticRow("noise_free.category.heartlens.accuracy", "… category right (5)"),
    StatisticRow("noise_free.zero.false_zero_rate", "… false zeros", is_share=True),
    StatisticRow("noise_free.agatston.all.icc_absolute", "… ICC(2,1)"),
)
"""Lesions and voxels have no aim: what F1 the paper's Table 6 gives is not settled (docs/models-phantoms.md)."""

GROUP_NAMES = (
    "slices.sensitivity", "slices.specificity", "candidates.specificity", "category.dino-lg.accuracy",
    "category.heartlens.accuracy", "category.heartlens.linear_kappa", "zero.false_zero_rate",
    "agatston.all.icc_absolute", "traps.all",
)  # fmt: skip


def phantom_tables(
    document: Mapping[str, Any], patients: Sequence[Patient], summaries: Mapping[tuple[str, str], Summary]
) -> str:
    """Everything about phantoms, as docs/models-phantoms.md shows it.

    Parameters
    ----------
    document
        numbers.json
    summaries
        Of all under ("", ""), and of each group by its property and name; the stage that the table is about comes
        first, then others, among them the floor and the ceiling.
    """
    whole = summaries["", ""]
    parts = [
        _preface(document), _main_table(whole, has_aims=bool(document["bundle"])), _group_table(summaries),
        _lesion_table(whole),
        _trap_table(patients, list(whole.stages)), _confusion_table(whole),
        _network_lines(document),
        _worst_table(patients, next(iter(whole.stages))),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _preface(document: Mapping[str, Any]) -> str:
    first, last = document["seeds"]
    bundle = f"bundle {document['bundle']['title']}" if document["bundle"] else "no bundle"
    seconds = ", ".join(f"{stage} {value:.2f} s" for stage, value in document["median_seconds"].items())
    sizes = f"{document['matrix']} x {document['matrix']} pixels"
    source = f"commit {document['commit']}; generator {document['generator'][:12]}"
    who = f"{document['phantoms']} phantoms, seeds {first} to {last}, {sizes}; {bundle}"
    lines = [
        f"{who}; {source}. Intervals: 95 %, {document['draws']} draws of phantoms.",
        f"Time from a heart to lesions, median on one thread: {seconds}.",
    ]
    if document["refused"]:
        counts = ", ".join(f"{count} {code}" for code, count in document["refused"].items())
        lines.append(f"The pipeline would not score some without --allow, which was given: {counts}.")
    return "\n".join(lines)


def _main_table(summary: Summary, *, has_aims: bool) -> str:
    """Aims are those of a bundle, the first stage; a difference stands after the second stage of its pair."""
    stages = list(summary.stages)
    parts = {pair.split(" - ")[1]: estimates for pair, estimates in summary.differences.items()}
    head = ["statistic", *(["aim", "reached"] if has_aims else [])]
    for stage in stages:
        head += [stage, "the slice stage's part"] if stage in parts else [stage]
    rows = []
    for row in STATISTIC_ROWS:
        cells = [row.words]
        if has_aims:
            value = summary.stages[stages[0]].estimates[row.name].value
            reached = "" if row.goal is None or value is None else "yes" if row.goal.is_met(value) else "**no**"
            cells += ["" if row.goal is None else str(row.goal), reached]
        for stage in stages:
            cells.append(shown(summary.stages[stage].estimates[row.name], is_share=row.is_share))
            if stage in parts:
                cells.append(shown(parts[stage][row.name], sign=True, is_share=row.is_share))
        rows.append(cells)
    return table(head, rows)


def _group_table(summaries: Mapping[tuple[str, str], Summary]) -> str:
    """Of the first stage with its interval, and of the last two, the floor and the ceiling."""
    stages = list(summaries["", ""].stages)
    stages = list(dict.fromkeys((stages[0], *stages[-2:])))
    known = {row.name: row for row in STATISTIC_ROWS}
    head = ["", "n", *(known[name].words for name in GROUP_NAMES)]
    rows, last = [], ""
    for (property_name, name), summary in summaries.items():
        if not property_name:
            continue
        if property_name != last:
            last = property_name
            rows.append([f"**{last}**", *[""] * (len(head) - 1)])
        cells = [name, str(summary.patients)]
        for row in (known[name] for name in GROUP_NAMES):
            first, *others = (summary.stages[stage].estimates[row.name] for stage in stages)
            values = [number(o.value, 2, is_share=row.is_share) for o in others]
            cells.append(" / ".join([shown(first, 2, is_share=row.is_share), *values]))
        rows.append(cells)
    return f"In each cell: {' / '.join(stages)}; the interval is that of the first.\n\n{table(head, rows)}"


def _lesion_table(summary: Summary) -> str:
    """Lesions of each artery: how many there are, found, called, right."""
    head = ["lesions", "in the truth", *(f"{stage}: found / called / right" for stage in summary.stages)]
    rows = []
    for row in ROWS:
        totals = [stage.lesions[MATCH_RULES[-1 if row == ALL else 0]][row] for stage in summary.stages.values()]
        rows.append([row, str(totals[0].reference), *(f"{t.found} / {t.predicted} / {t.right}" for t in totals)])
    return table(head, rows)


def _trap_table(patients: Sequence[Patient], stages: Sequence[str]) -> str:
    """Each kind of trap, and how many were called coronary by all but the last stage, the truth's own labels."""
    called: dict[str, list[int]] = {}
    for patient in patients:
        for n, stage in enumerate(stages[:-1]):
            for trap in patient.synthetic.traps[stage] if patient.synthetic else ():
                counts = called.setdefault(trap.kind, [0] * len(stages))
                counts[n] += trap.called
                counts[-1] += n == 0  # how many there are
    head = ["trap", "islands that would count", *(f"called coronary: {stage}" for stage in stages[:-1])]
    rows = [
        [kind.replace("_", " "), str(of), *(f"{n} ({n / of:.0%})" for n in counts)]
        for kind, (*counts, of) in sorted(called.items())
    ]
    return table(head, rows) if rows else ""


def _confusion_table(summary: Summary) -> str:
    stage, first = next(iter(summary.stages.items()))
    names = [row.shown for row in SCHEMES["heartlens"].categories]
    rows = [[name, *map(str, row)] for name, row in zip(names, first.confusion["heartlens"], strict=True)]
    return table([f"truth \\ {stage}", *names], rows)


def _network_lines(document: Mapping[str, Any]) -> str:
    lines = []
    if row := document["classifier"]:
        of = {name: number(Estimate(**estimate).value) for name, estimate in row["estimates"].items()}
        lines.append(
            f"The slice classifier alone, on the {row['asked']} candidate slices ({row['calcified']} "
            f"calcified), at its cut-off of {row['cut_off']:.3f}: AUROC {of['area_under_roc']}, sensitivity "
            f"{of['slices.sensitivity']}, specificity {of['slices.specificity']}."
        )
    if row := document["votes"]:
        of = {name: number(Estimate(**estimate).value) for name, estimate in row["estimates"].items()}
        lines.append(
            f"The probability of an island: {row['asked']} islands that would count, {row['calcified']} coronary; "
            f"AUROC {of['area_under_roc']}, calibration error {of['calibration_error']}, Brier {of['brier']}."
        )
    return "\n".join(lines)


def _worst_table(patients: Sequence[Patient], stage: str) -> str:
    """False zeros and wrong categories, the farthest first."""
    compared = [patient.stages[stage] for patient in patients]
    truth, score = (
        np.array([getattr(c, side)[ALL] for c in compared]) for side in ("reference_agatston", "predicted_agatston")
    )
    step = np.abs(risk_places(truth, "heartlens") - risk_places(score, "heartlens"))
    error = np.abs(np.log1p(score) - np.log1p(truth))
    order = sorted(np.flatnonzero(step).tolist(), key=lambda n: (-step[n], -error[n]))[:WORST]
    if not order:
        return f"No scan is in another category by {stage} than by the truth."
    head = ["seed", "truth", stage, "field", "thickness", "increment", "kVp", "noise", "motion", "kernel"]
    rows = []
    for n in order:
        p = patients[n].synthetic.parameters if patients[n].synthetic else {}
        rows.append([
            patients[n].name, f"{truth[n]:.1f}", f"{score[n]:.1f}", f"{p['matrix'] * min(p['pixel_mm']):.0f} mm",
            f"{p['slice_thickness_mm']:g} mm", f"{p['increment_mm']:g} mm", f"{p['kvp']:.0f}",
            f"{p['noise_hu']:g} HU", f"{p['motion_mm']:g} mm", p["kernel"],
        ])  # fmt: skip
    return f"Scans in another category by {stage} than by the truth, the farthest first:\n\n{table(head, rows)}"


# The experiment

EXPERIMENT_COLUMNS = (
    ("slices.f1", "slice F1"),
    ("probability.area_under_roc", "AUROC"),
    ("probability.sensitivity_at_90", "sensitivity at 90 % specificity"),
    (f"{NEIGHBORS}.area_under_roc", "neighbors' AUROC"),
)


def experiment_table(document: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Methods and differences as docs/label-guidance.md shows them.

    Parameters
    ----------
    document
        experiment.json
    words
        Of each method, in the order of the table.
    """
    bins = [
        f"recall, {low:g}-{high:g} mm²" if np.isfinite(high) else f"recall, > {low:g} mm²"
        for low, high in pairwise(AREA_EDGES_MM2)
    ]
    first, last = document["phantom_seeds"]
    preface = (
        f"Phantoms {first} to {last}; patients (slices, calcified): "
        + "; ".join(f"{n} {p['patients']} ({p['slices']}, {p['calcified']})" for n, p in document["data"].items())
        + f". Commit {document['commit']}. Intervals: 95 %, {document['bootstrap']['draws']} draws of patients."
    )
    (first_key, primary), *others = EXPERIMENT_COLUMNS
    head = ["arm", "seeds", primary, "by seed", *(title for _, title in others), *bins]
    rows = []
    for name, method in ((name, document["methods"][name]) for name in words if name in document["methods"]):
        of = {key: Estimate(**estimate) for key, estimate in method["estimates"].items()}
        seeds = ", ".join(number(row[first_key]) for row in method["seeds"])
        recall = [number(of[key].value, 2) for key in of if key.startswith("slices.area.")]
        cells = [shown(of[first_key]), seeds, *(shown(of[key]) for key, _ in others), *recall]
        rows.append([words[name], str(len(method["seeds"])), *cells])
    differences = [
        [pair, *(shown(Estimate(**estimates[key]), sign=True) for key, _ in EXPERIMENT_COLUMNS[:3])]
        for pair, estimates in document["differences"].items()
    ]
    parts = [
        preface, table(head, rows), table(["difference", *(t for _, t in EXPERIMENT_COLUMNS[:3])], differences),
        f"Verdict by the rule set beforehand: **{document['verdict']}**.",
    ]  # fmt: skip
    if document["died"]:
        parts.append("Runs that died: " + "; ".join(f"{run}: {why}" for run, why in document["died"].items()) + ".")
    return "\n\n".join(parts) + "\n"
