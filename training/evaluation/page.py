"""The page of an evaluation: report.html, one file without scripts or links to anything outside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from heartlens.core.lesions import ARTERY_NAMES, Artery
from heartlens.core.protocol import NOTICE
from heartlens.risk.categories import SCHEMES, category
from heartlens.scoring.report import display_agatston
from training.evaluation import plots as figures
from training.evaluation.classifiers import SLICE_STATISTICS
from training.evaluation.results import ANNOTATED, INTEGRATED, SEGMENTATION, Estimate, Evaluation, StageSummary
from training.evaluation.statistics import AVERAGE, LESION_STATISTICS, RISK_SCHEMES
from training.evaluation.tables import interval, number, shown
from training.metrics.classification import Counts
from training.metrics.overlap import ALL, MATCH_RULES, ROWS

HEADLINES = (
    ("ICC(2,1) of the Agatston score", "agatston.all.icc_absolute"),
    ("category accuracy, scheme dino-lg", "category.dino-lg.accuracy"),
    ("category accuracy, scheme heartlens", "category.heartlens.accuracy"),
    ("linear kappa, scheme heartlens", "category.heartlens.linear_kappa"),
    ("false-zero rate", "zero.false_zero_rate"),
    ("slices with calcium, F1", "slices.f1"),
    ("Dice of all coronary calcium, mean of patients", "overlap.all.dice"),
    ("lesions in the right vessel, F1 by count", "lesions.same vessel.all.f1_by_count"),
    ("lesions in the right vessel, F1 by volume", "lesions.same vessel.all.f1_by_volume"),
)
"""What the terminal and the top of the page show."""

FEW = 20
"""Fewer patients than these: the page says that their intervals are not to be relied on."""

_CATEGORY_ROWS = (
    ("same category", "accuracy"),
    ("within one category", "within_one"),
    ("moved up", "up"),
    ("moved down", "down"),
    ("kappa", "kappa"),
    ("kappa, linear weights", "linear_kappa"),
    ("kappa, quadratic weights", "quadratic_kappa"),
)
_SCORE_TABLES = (
    (
        ("ICC(2,1)", "icc_absolute", 3), ("ICC(3,1)", "icc_consistency", 3), ("Pearson r", "pearson", 3),
        ("Spearman ρ", "spearman", 3),
    ),
    (
        ("bias", "bias", 1), ("SD", "sd", 1), ("lower limit", "lower", 1), ("upper limit", "upper", 1),
        ("bias, ln", "log_bias", 2), ("lower, ln", "log_lower", 2), ("upper, ln", "log_upper", 2),
    ),
)  # fmt: skip


def render_page(
    evaluation: Evaluation, *, pictures: Sequence[tuple[str, str]] = (), gallery: Sequence[tuple[str, str]] = ()
) -> str:
    """The page as HTML.

    Parameters
    ----------
    pictures
        (data URL, caption) of further figures, such as attention maps
    gallery
        The same of slices with what was labeled on them.
    """
    stages = list(evaluation.stages)
    settings = evaluation.settings
    return _template().render(
        notice=NOTICE,
        settings=settings,
        evaluation=evaluation,
        is_few=len(evaluation.patients) < FEW,
        stages=list(_named_stages(evaluation)),
        final=evaluation.final_stage,
        is_integrated=INTEGRATED in stages,
        has_columns=len(stages) > 1,
        annotated=ANNOTATED if ANNOTATED in stages else "",
        headlines=[
            (label, [_shown(evaluation.estimate(name, stage)) for stage in stages]) for label, name in HEADLINES
        ],
        slices=[(name, _cells(e, "slices", SLICE_STATISTICS)) for name, _, e in _slice_sources(evaluation)],
        slice_columns=SLICE_STATISTICS,
        slice_figures=_slice_figures(evaluation),
        overlap=_overlap_rows(evaluation),
        voxels=_voxel_rows(evaluation),
        categories=_categories(evaluation),
        scores=[([label for label, *_ in table], _score_rows(evaluation, table)) for table in _SCORE_TABLES],
        score_figures=_score_figures(evaluation),
        zeros=_zero_rows(evaluation),
        lesions=_lesion_rows(evaluation),
        size_figures=_size_figures(evaluation),
        classifier=_classifier(evaluation),
        backbones=_backbone_rows(evaluation),
        pictures=list(pictures),
        gallery=list(gallery),
        patients=_patient_rows(evaluation),
        cautions=sorted({code for patient in evaluation.patients for code in patient.cautions}),
    )


def _named_stages(evaluation: Evaluation) -> dict[str, StageSummary]:
    """Stages as they are headed: a prediction without a slice stage is just the prediction."""
    stages = dict(evaluation.stages)
    return stages if len(stages) > 1 else {"prediction": stages[SEGMENTATION]}


@cache
def _template() -> jinja2.Template:
    text = (Path(__file__).parent / "page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text)


def _shown(estimate: Estimate, digits: int = 3) -> tuple[str, str]:
    """Value and interval as printed."""
    return ("–" if estimate.value is None else number(estimate.value, digits)), interval(estimate, digits)


def _cells(
    estimates: Mapping[str, Estimate], prefix: str, names: Iterable[str], digits: int = 3
) -> list[tuple[str, str]]:
    """Statistics of one prefix as printed."""
    return [_shown(estimates[f"{prefix}.{name}"]) for name in names]


def _artery(row: str) -> str:
    if row == ALL:
        return "All coronary calcium"
    return "Mean of the arteries" if row == AVERAGE else f"{row} · {ARTERY_NAMES[Artery[row]]}"


def _slice_sources(evaluation: Evaluation) -> list[tuple[str, Counts, Mapping[str, Estimate]]]:
    """Who calls slices: classifiers at their cut-offs, then labels."""
    classifiers = [("slice stage", evaluation.classifier)]
    classifiers += [(f"{name}, every slice", b.classifier) for name, b in evaluation.backbones.items()]
    above = [
        (f"{name}, at {c.cut_off:.3g}", c.counts, c.estimates)
        for name, c in classifiers
        if c is not None and c.counts is not None
    ]
    labels = [
        (f"labels, {stage}" if len(evaluation.stages) > 1 else "labels", summary.slices, summary.estimates)
        for stage, summary in evaluation.stages.items()
    ]
    return [*above, *labels]


def _slice_figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    names = ["no calcium", "calcium"]
    return [
        (figures.data_url(figures.confusion_figure([[c.tn, c.fp], [c.fn, c.tp]], names)), f"Slices: {name}")
        for name, c, _ in _slice_sources(evaluation)
    ]


def _overlap_rows(evaluation: Evaluation) -> list[tuple[str, str, list[Any]]]:
    return [
        (
            row,
            _artery(row),
            [
                [*_cells(s.estimates, f"overlap.{row}", ("iou", "dice")), s.overlapping[row], s.both_empty[row]]
                for s in evaluation.stages.values()
            ],
        )
        for row in ROWS
    ]


def _voxel_rows(evaluation: Evaluation) -> list[tuple[str, str, list[Any]]]:
    names = ("precision", "recall", "f1")
    return [
        (row, _artery(row), [_cells(s.estimates, f"voxels.{row}", names) for s in evaluation.stages.values()])
        for row in (*ROWS[:-1], AVERAGE, ALL)
    ]


def _categories(evaluation: Evaluation) -> list[dict[str, Any]]:
    blocks = []
    for scheme in RISK_SCHEMES:
        labels = [row.shown for row in SCHEMES[scheme].categories]
        pictures = [
            (figures.data_url(figures.confusion_figure(summary.confusion[scheme], labels)), f"{scheme}, {stage}")
            for stage, summary in _named_stages(evaluation).items()
        ]
        rows = [
            (label, [_shown(s.estimates[f"category.{scheme}.{name}"]) for s in evaluation.stages.values()])
            for label, name in _CATEGORY_ROWS
        ]
        blocks.append({"scheme": scheme, "title": SCHEMES[scheme].title, "figures": pictures, "rows": rows})
    return blocks


def _score_rows(
    evaluation: Evaluation, columns: Sequence[tuple[str, str, int]]
) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (row, [_shown(evaluation.estimate(f"agatston.{row}.{name}"), digits) for _, name, digits in columns])
        for row in (ALL, *ROWS[:-1])
    ]


def _score_figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    compared = [patient.stages[evaluation.final_stage] for patient in evaluation.patients]
    x, y = ([getattr(c, side)[ALL] for c in compared] for side in ("reference_agatston", "predicted_agatston"))
    return [
        (figures.data_url(figures.score_figure(x, y)), "Predicted against reference, with category edges"),
        (figures.data_url(figures.bland_altman_figure(x, y)), "Bland–Altman, Agatston"),
        (figures.data_url(figures.bland_altman_figure(x, y, log=True)), "Bland–Altman, ln(score + 1)"),
    ]


def _zero_rows(evaluation: Evaluation) -> list[tuple[str, list[str], list[tuple[str, str]]]]:
    return [
        (
            stage,
            [f"{n:,}" for n in (s.zeros.tp + s.zeros.fn, s.zeros.fn, s.zeros.tn + s.zeros.fp, s.zeros.fp)],
            _cells(s.estimates, "zero", ("sensitivity", "specificity", "npv", "false_zero_rate")),
        )
        for stage, s in _named_stages(evaluation).items()
    ]


def _lesion_rows(evaluation: Evaluation) -> list[tuple[str, list[Any]]]:
    """By rule; the final stage alone, or the table would not fit a page."""
    summary = evaluation.stages[evaluation.final_stage]
    blocks = []
    for rule in MATCH_RULES:
        rows = []
        for row in ROWS if rule == MATCH_RULES[0] else (ALL,):
            totals = summary.lesions[rule][row]
            counts = (f"{totals.found:,} of {totals.reference:,}", f"{totals.right:,} of {totals.predicted:,}")
            rows.append((_artery(row), counts, _cells(summary.estimates, f"lesions.{rule}.{row}", LESION_STATISTICS)))
        blocks.append((rule[0].upper() + rule[1:], rows))
    return blocks


def _size_figures(evaluation: Evaluation) -> list[tuple[str, str]]:
    summary = evaluation.stages[evaluation.final_stage]
    estimates = {
        name.replace("_", " "): [summary.estimates[f"size.{n}.{name}"] for n in range(len(summary.sizes))]
        for name in ("same_vessel", "any_vessel")
    }
    picture = figures.size_recall_figure(summary.sizes, estimates)
    return [(figures.data_url(picture), "Share of reference lesions found, by volume, with 95 % intervals")]


def _classifier(evaluation: Evaluation) -> dict[str, Any] | None:
    summary = evaluation.classifier
    if summary is None:
        return None
    error = summary.estimates["calibration_error"]
    picture = figures.reliability_figure(summary.reliability, error.value)
    return {
        "slices": f"{summary.slices:,}",
        "asked": f"{summary.asked:,}",
        "area": shown(summary.estimates["area_under_roc"]),
        "error": shown(error),
        "figure": (figures.data_url(picture), "Probability against the share of slices with calcium"),
    }


def _backbone_rows(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, str]]]]:
    """Area under the ROC curve, and how much of the attention lies on calcium, against its area."""
    rows = []
    for name, b in evaluation.backbones.items():
        attention = (_shown(share, 4) for share in (b.attention_on_calcium, Estimate(b.calcium_area)))
        rows.append((name, [_shown(b.classifier.estimates["area_under_roc"]), (f"{b.looked_at:,}", ""), *attention]))
    return rows


def _patient_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = []
    for patient in evaluation.patients:
        c = patient.stages[evaluation.final_stage]
        reference, predicted = c.reference_agatston[ALL], c.predicted_agatston[ALL]
        alone = patient.stages[SEGMENTATION].predicted_agatston[ALL]
        words = [category(score).label for score in (reference, predicted)]
        rows.append(
            {
                "name": patient.name,
                "reference": display_agatston(reference),
                "predicted": display_agatston(predicted),
                "alone": display_agatston(alone),
                "categories": words,
                "is_moved": words[0] != words[1],
                "is_false_zero": reference > 0 and predicted == 0,
                "cautions": ", ".join(patient.cautions),
            }
        )
    return rows
