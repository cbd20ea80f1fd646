"""The tables of the judge: what was aimed at and reached, and what every source says island by island."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from training.evaluation.answers import ARTERY_ROWS
from training.evaluation.results import Estimate, Patient, Summary
from training.evaluation.tables import Goal, number, shown, table
from training.metrics.overlap import ALL

MARKS = ("<!-- judge: begin -->", "<!-- judge: end -->")
"""Between such lines of docs/models.md stands what the command wrote, and nothing else."""

REAL, SOFT_SLICES = "islands of real hearts", "slices of soft kernels"
"""Groups made of several sources; see `collected`."""

HEARTS, HEARTS_SHARP, TCGA, NYSBU, LIDC = (
    "heart slices, soft", "heart slices, sharp", "TCGA slices", "NY-SBU slices", "LIDC-0314",
)  # fmt: skip
PAIRS, LAID, SECOND, OWN, TEST_RANGE = (
    "soft images made sharp",
    "plaques laid into real hearts",
    "second family",
    "own phantoms, as drawn",
    "own phantoms, test range",
)


class Aim(NamedTuple):
    """One line of the first table: of which group, what in words, which statistic, and what it has to reach."""

    group: str
    words: str
    name: str
    goal: Goal | None = None
    is_share: bool = False


AIMS = (
    Aim(REAL, "islands called coronary or undecided", "islands.all.met", Goal(least=0.90)),
    Aim(REAL, "islands called coronary", "islands.all.called", Goal(least=0.75)),
    Aim(HEARTS, "islands above 30 mm² called or undecided (all but one of 9)", "islands.size.2.met", Goal(least=8 / 9)),
    *(
        Aim(REAL, f"{artery} named right, of those called", f"islands.{artery}.named_right", Goal(least=0.8))
        for artery in ARTERY_ROWS
    ),
    Aim(REAL, "false zeros, of scans with calcium", "answers.false_zero"),
    Aim(REAL, "… of these without anything undecided", "answers.silent_zero"),
    Aim(
        SOFT_SLICES,
        "undecided, not coronary, per slice without calcium",
        "others.undecided_per_slice",
        Goal(most=0.3),
    ),
    Aim(SOFT_SLICES, "falsely called coronary, per slice without calcium", "others.false_per_slice", Goal(most=0.05)),
    Aim(HEARTS_SHARP, "the same, sharp kernel", "others.false_per_slice", Goal(most=0.1)),
    Aim(LIDC, "score (about 15)", "answers.mean_score", Goal(least=10, most=25)),
    Aim(LIDC, "falsely called islands", "others.false_per_scan", Goal(most=2)),
    Aim(PAIRS, "score within 5 or 5 % of the soft image's", "pairs.within", Goal(least=1)),
    Aim(PAIRS, "… of the same islands by their own voxels, whoever names them", "pairs.reference_within"),
    Aim(PAIRS, "mean change of the score", "pairs.mean_change"),
    Aim(LAID, "plaques called or undecided", "islands.all.met"),
    Aim(LAID, "plaques called coronary", "islands.all.called"),
    *(
        Aim(SECOND, words, name, goal)
        for words, name, goal in (
            ("category of five right", "category.heartlens.accuracy", Goal(least=0.93)),
            ("linear kappa", "category.heartlens.linear_kappa", Goal(least=0.95)),
            ("ICC(2,1)", f"agatston.{ALL}.icc_absolute", Goal(least=0.97)),
            ("F1 of presence, LM", "presence.LM.f1", Goal(least=0.85)),
            ("F1 of presence, LAD", "presence.LAD.f1", None),
            ("F1 of presence, LCX", "presence.LCX.f1", Goal(least=0.85)),
            ("F1 of presence, RCA", "presence.RCA.f1", None),
            ("false zeros, of scans with calcium", "zero.false_zero_rate", Goal(most=0.01)),
            ("range spans more than one category", "range.spans", Goal(most=0.2)),
            ("range holds the reference", "range.holds", Goal(least=0.95)),
            ("one category, and a wrong one", "range.wrong", None),
            ("… without a reason beside it", "range.wrong_silently", Goal(most=0.01)),
        )
    ),
    *(
        Aim(OWN, words, name, goal)
        for words, name, goal in (
            ("category of five right", "category.heartlens.accuracy", Goal(least=0.97)),
            ("linear kappa", "category.heartlens.linear_kappa", Goal(least=0.97)),
            ("ICC(2,1)", f"agatston.{ALL}.icc_absolute", Goal(least=0.98)),
            ("range spans more than one category", "range.spans", Goal(most=0.1)),
        )
    ),
    *(
        Aim(TEST_RANGE, words, name, goal)
        for words, name, goal in (
            ("category of five right", "category.heartlens.accuracy", Goal(least=0.97)),
            ("false zeros, of scans with calcium", "answers.false_zero", None),
            ("… of these without anything undecided", "answers.silent_zero", None),
            ("range holds the reference", "range.holds", Goal(least=0.95)),
            ("range spans more than one category", "range.spans", Goal(most=0.1)),
            ("one category, and a wrong one", "range.wrong", None),
            ("… without a reason beside it", "range.wrong_silently", Goal(most=0.01)),
        )
    ),
)
"""In the order in which they are shown. A group that was not judged is left out."""

HOLDS = Goal(least=0.95)
"""Of every source: the range of the report holds the reference."""

SOURCE_COLUMNS = (
    ("islands called", "islands.all.called"), ("called or undecided", "islands.all.met"),
    *((artery, f"islands.{artery}.called") for artery in ARTERY_ROWS),
    ("≤ 10 mm²", "islands.size.0.called"), ("10–30", "islands.size.1.called"), ("> 30", "islands.size.2.called"),
    ("named right", "islands.all.named_right"),
    ("false per scan", "others.false_per_scan"), ("undecided, not coronary, per scan", "others.undecided_per_scan"),
    ("false zeros", "answers.false_zero"), ("range holds the reference", "range.holds"),
    ("likeliest categories (95 %) hold its category", "range.credible"),
)  # fmt: skip

PHANTOM_COLUMNS = (
    ("category of five", "category.heartlens.accuracy"), ("linear kappa", "category.heartlens.linear_kappa"),
    ("ICC", f"agatston.{ALL}.icc_absolute"),
    *((f"F1 {artery}", f"presence.{artery}.f1") for artery in ("LM", "LAD", "LCX", "RCA")),
    ("range in two categories", "range.spans"),
)  # fmt: skip

WANTED = frozenset(
    {aim.name for aim in AIMS}
    | {name for _, name in (*SOURCE_COLUMNS, *PHANTOM_COLUMNS)}
    | {f"islands.size.{n}.{what}" for n in range(3) for what in ("called", "met")}
)
"""Statistics that the tables and the JSON hold."""


def collected(patients: Mapping[str, Sequence[Patient]], sharp: Iterable[str]) -> dict[str, list[Patient]]:
    """Groups of the tables: every source, and those made of several.

    Parameters
    ----------
    patients
        By source.
    sharp
        Names of scans whose kernel is sharp.
    """
    groups = {source: list(found) for source, found in patients.items() if found}
    lone = set(sharp)
    real = [p for source in (HEARTS, TCGA, NYSBU, LIDC) for p in groups.get(source, ())]
    soft = [p for source in (HEARTS, TCGA, NYSBU) for p in groups.get(source, ()) if p.name not in lone]
    return {**({REAL: real} if real else {}), **({SOFT_SLICES: soft} if soft else {}), **groups}


def judge_text(document: Mapping[str, Any], summaries: Mapping[str, Summary]) -> str:
    """Everything that the command writes, as docs/models.md shows it."""
    stages = list(document["stages"])
    parts = [_preface(document), aims_table(summaries, stages), _holds_line(summaries, stages)]
    sources = [name for name in summaries if name not in (REAL, SOFT_SLICES)]
    for stage in stages:
        parts.append(f"Every source, by **{document['stages'][stage]}**:\n\n{_sources(summaries, sources, stage)}")
    phantoms = [name for name in sources if name.startswith("own") or name == SECOND]
    if phantoms:
        head = ["phantoms", "n", *(f"{words}: {' / '.join(stages)}" for words, _ in PHANTOM_COLUMNS)]
        rows = [
            [name, str(summaries[name].patients), *(
                " / ".join(shown(summaries[name].stages[s].estimates[key], 2) for s in stages)
                for _, key in PHANTOM_COLUMNS
            )]
            for name in phantoms
        ]  # fmt: skip
        parts.append(table(head, rows))
    if document["failures"]:
        parts.append("Not judged: " + "; ".join(f"{name}: {why}" for name, why in document["failures"].items()) + ".")
    return "\n\n".join(part for part in parts if part) + "\n"


def aims_table(summaries: Mapping[str, Summary], stages: Sequence[str]) -> str:
    """What was aimed at, and what every stage reached."""
    rows, last = [], ""
    for aim in AIMS:
        summary = summaries.get(aim.group)
        if summary is None or aim.name not in summary.stages[stages[0]].estimates:
            continue
        group = f"{aim.group} ({summary.patients})" if aim.group != last else ""
        last = aim.group
        rows.append([group, aim.words, "" if aim.goal is None else goal_text(aim.goal), *(
            _with_mark(summary, stage, aim) for stage in stages
        )])  # fmt: skip
    return table(["on (scans)", "figure", "aim", *stages], rows)


def goal_text(goal: Goal) -> str:
    """An aim in short."""
    return "all" if goal == Goal(least=1) else "≥ 0.89" if goal == Goal(least=8 / 9) else str(goal)


def _with_mark(summary: Summary, stage: str, aim: Aim) -> str:
    text = cell(summary, stage, aim.name)
    value = summary.stages[stage].estimates[aim.name].value
    missed = aim.goal is not None and value is not None and not aim.goal.is_met(value)
    return f"**{text}**" if missed else text


def cell(summary: Summary, stage: str, name: str, digits: int = 2) -> str:
    """A statistic with its interval, and of how many; of a lone scan there is no interval."""
    of = summary.stages[stage]
    if name not in of.estimates:  # no scan that it could be said of
        return "-"
    estimate, share = of.estimates[name], of.shares.get(name)
    if share is not None and share[1] and name not in _RATES:
        return f"{share[0]} of {share[1]}: {shown(estimate, digits)}"
    if summary.patients == 1:
        return number(estimate.value, 1 if name == "answers.mean_score" else 0)
    return shown(Estimate(*estimate), digits)


_RATES = frozenset(f"others.{what}_per_{of}" for what in ("false", "undecided") for of in ("slice", "scan"))


def _sources(summaries: Mapping[str, Summary], sources: Sequence[str], stage: str) -> str:
    rows = []
    for name in sources:
        summary = summaries[name]
        rows.append([name, str(summary.patients), *(cell(summary, stage, key) for _, key in SOURCE_COLUMNS)])
    return table(["source", "scans", *(words for words, _ in SOURCE_COLUMNS)], rows)


def _holds_line(summaries: Mapping[str, Summary], stages: Sequence[str]) -> str:
    missed = {
        stage: [
            name
            for name, summary in summaries.items()
            if not HOLDS.is_met(summary.stages[stage].estimates["range.holds"].value or 0.0)
        ]
        for stage in stages
    }
    words = "; ".join(f"{stage}: {'nowhere' if not names else ', '.join(names)}" for stage, names in missed.items())
    return f"The range of the report holds the reference in fewer than 95 of 100 scans on: {words}."


def _preface(document: Mapping[str, Any]) -> str:
    stages = "; ".join(f"**{stage}**: {words}" for stage, words in document["stages"].items())
    kernel = document["kernel"]
    first = (
        f"{stages}. Commit {document['commit']}; generator {document['generator'][:12]}. Intervals: 95 %, "
        f"{document['draws']} draws of persons (a phantom's person is its seed); Wilson's where no draw differs. "
        "Missed aims are bold."
    )
    lines = [first]
    if kernel is not None:
        lines.append(
            f"Sharp kernel fitted to LIDC-0314's edges: {kernel['boost']:.2f} times what a Gaussian of "
            f"{kernel['sigma_mm']:.2f} mm takes away is added; what is left between the profiles is "
            f"{100 * kernel['misfit']:.1f} % of the step."
        )
    if document["cautions"]:
        counts = ", ".join(f"{count} {code}" for code, count in document["cautions"].items())
        lines.append(f"The pipeline would not score some without --allow, which was given: {counts}.")
    return "\n".join(lines)
