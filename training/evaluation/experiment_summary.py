"""What the answers of an experiment amount to: figures of each arm, their differences, and how sure those are.

Patients are drawn with replacement and all arms see the same draw, so differences are paired. Figures of an arm are
means over its seeds; how far seeds lie apart is told beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.core.atomic import atomic_file
from training.metrics import classification, intervals
from training.metrics.cutoff import choose_cut_off

SIZE_EDGES_MM2 = (0.0, 10.0, 30.0, math.inf)
"""Bins of the calcified area of a slice."""

FIGURES = ("f1", "auroc", "sensitivity_at_90", "neighbors_auroc")
"""Of slices: F1 at the cut-off that is best on validation, area under the ROC curve, sensitivity where specificity is
90 %, and the area under the curve of neighbors in the embedding."""

PRIMARY = "f1"

COMPARED = (("dino-lg", "dino"), ("dino-lg", "traps"), ("dino-lg", "shuffled"), ("traps", "dino"))

LEAST_EFFECT = 0.03
"""Of F1, DINO-LG over DINO; written down before the first run."""

DRAWS, SEED = 1000, intervals.BOOTSTRAP_SEED

SHOWN = {
    "supervised": "same network, supervised (ceiling)",
    "dino-lg": "DINO-LG: guided by coronary calcium",
    "traps": "guided by other bright spots",
    "shuffled": "guided by labels of other slices",
    "dino": "DINO: random crops",
    "random": "random frozen network (floor)",
    "threshold": "threshold in the heart's box (floor)",
}


@dataclass(frozen=True, eq=False)
class SliceTruth:
    """The truth.

    Parameters
    ----------
    validation, test
        (m,), (n,) bool, whether each slice is calcified
    patient
        (n,) of each test slice
    area_mm2
        (n,) coronary calcium on it
    """

    validation: NDArray[np.bool_]
    test: NDArray[np.bool_]
    patient: NDArray[np.int64]
    area_mm2: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SlicePredictions:
    """What one run says of each slice; larger is more likely calcified.

    Parameters
    ----------
    validation, test
        (m,), (n,)
    neighbors_validation, neighbors_test
        Of neighbors in the embedding; None where there is no embedding.
    """

    validation: NDArray[np.float64]
    test: NDArray[np.float64]
    neighbors_validation: NDArray[np.float64] | None = None
    neighbors_test: NDArray[np.float64] | None = None

    def save(self, path: Path, identity: str) -> None:
        """Keep them for the next start."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: values for name, values in vars(self).items() if values is not None}
        with atomic_file(path) as sibling, open(sibling, "wb") as file:
            np.savez(file, identity=np.array(identity), **kept)

    @classmethod
    def load(cls, path: Path, identity: str) -> SlicePredictions | None:
        """Answers of an earlier start; None when there are none, or they belong to another recipe or other data."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["identity"]) != identity:
                    return None
                return cls(**{name: file[name] for name in file.files if name != "identity"})
        except (OSError, ValueError, KeyError, EOFError):
            return None


def slice_statistics(
    slices: SliceTruth, predictions: SlicePredictions, cut_off: float, chosen: NDArray[np.int64]
) -> list[float]:
    """`FIGURES` of one run on some test slices, then recall in each bin of size."""
    truth, p = slices.test[chosen], predictions.test[chosen]
    called = p >= cut_off
    hit = called & truth
    near = predictions.neighbors_test
    recall = []
    for low, high in pairwise(SIZE_EDGES_MM2):
        inside = truth & (slices.area_mm2[chosen] > low) & (slices.area_mm2[chosen] <= high)
        recall.append(classification.ratio(int((hit & inside).sum()), int(inside.sum())))
    return [
        classification.ratio(2 * int(hit.sum()), int(called.sum()) + int(truth.sum())),
        classification.area_under_roc(truth, p),
        sensitivity_at(truth, p, 0.9),
        math.nan if near is None else classification.area_under_roc(truth, near[chosen]),
        *recall,
    ]


def sensitivity_at(truth: NDArray[np.bool_], p: NDArray[np.float64], specificity: float) -> float:
    """Share of positives above the lowest cut-off that keeps this share of negatives at or below it.

    Examples
    --------
    >>> p = np.array([0.1, 0.2, 0.3, 0.4, 0.25, 0.5])
    >>> sensitivity_at(np.array([False] * 4 + [True] * 2), p, 0.75)
    0.5
    """
    if truth.all() or not truth.any():
        return math.nan
    negatives = np.sort(p[~truth])
    cut = negatives[math.ceil(specificity * negatives.size) - 1]
    return float((p[truth] > cut).mean())


def summarize_experiment(truth: SliceTruth, predictions: Mapping[str, Sequence[SlicePredictions]]) -> dict[str, Any]:
    """Methods, differences and the verdict, as JSON."""
    names = (*FIGURES, *(f"recall_{n}" for n in range(len(SIZE_EDGES_MM2) - 1)))
    cut_offs = {
        name: [choose_cut_off(truth.validation, run.validation, "f1") for run in runs]
        for name, runs in predictions.items()
    }
    slices_of = [np.flatnonzero(truth.patient == patient) for patient in np.unique(truth.patient)]

    def each(chosen: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """(seeds, figures) of each method."""
        return {
            name: np.array(
                [slice_statistics(truth, run, c, chosen) for run, c in zip(runs, cut_offs[name], strict=True)]
            )
            for name, runs in predictions.items()
        }

    pairs = [pair for pair in COMPARED if set(pair) <= set(predictions)]

    def statistics(drawn: NDArray[np.int64]) -> list[float]:
        chosen = np.concatenate([slices_of[n] for n in drawn])
        by_method = {name: values.mean(axis=0) for name, values in each(chosen).items()}
        return [
            *(float(v) for values in by_method.values() for v in values),
            *(float(v) for a, b in pairs for v in by_method[a] - by_method[b]),
        ]

    whole = each(np.arange(truth.test.size))
    point = statistics(np.arange(len(slices_of)))
    ranges = intervals.bootstrap(statistics, len(slices_of), draws=DRAWS, seed=SEED)
    estimates = [
        {"value": _or_none(v), "low": _or_none(i.low), "high": _or_none(i.high)}
        for v, i in zip(point, ranges, strict=True)
    ]
    estimate_iterator = iter(estimates)
    methods = {
        name: {
            "seeds": [dict(zip(names, map(_or_none, row), strict=True)) for row in whole[name].tolist()],
            "cut_offs": cut_offs[name],
            **{figure: next(estimate_iterator) for figure in names},
        }
        for name in predictions
    }
    differences = {f"{a} - {b}": {figure: next(estimate_iterator) for figure in names} for a, b in pairs}
    return {
        "bootstrap": {"draws": DRAWS, "seed": SEED, "patients": len(slices_of)},
        "size_edges_mm2": [edge for edge in SIZE_EDGES_MM2 if math.isfinite(edge)],
        "least_effect": LEAST_EFFECT,
        "methods": methods,
        "differences": differences,
        "verdict": verdict(differences),
    }


def verdict(differences: Mapping[str, Any]) -> str:
    """In words, by the rule that was written down before."""
    if "dino-lg - dino" not in differences:
        return "no verdict: an arm is missing"
    effect = differences["dino-lg - dino"][PRIMARY]
    if effect["low"] is None or effect["low"] <= 0 or effect["value"] < LEAST_EFFECT:
        return "null result: DINO-LG is not shown to be better than DINO by the effect that counts"
    wrong = [differences.get(f"dino-lg - {arm}", {}).get(PRIMARY) for arm in ("traps", "shuffled")]
    if all(d is not None and d["low"] is not None and d["low"] > 0 for d in wrong):
        return "DINO-LG is better than DINO, and than guidance at wrong places"
    return "DINO-LG is better than DINO, but not than guidance at wrong places: zooming in may be what helps"


def experiment_table(document: Mapping[str, Any]) -> str:
    """Markdown, as docs/models.md shows it."""
    data, methods = document["data"], document["methods"]
    edges = [*document["size_edges_mm2"], None]
    bins = [
        f"recall, {low:g}-{high:g} mm²" if high is not None else f"recall, > {low:g} mm²"
        for low, high in pairwise(edges)
    ]
    first, last = document["phantom_seeds"]
    lines = [
        f"Phantoms {first} to {last}; patients (slices, calcified): "
        + "; ".join(f"{n} {p['patients']} ({p['slices']}, {p['calcified']})" for n, p in data.items())
        + f". Commit {document['commit']}. Intervals: 95 %, {document['bootstrap']['draws']} draws of patients.",
        "",
        "| arm | seeds | slice F1 | by seed | AUROC | sensitivity at 90 % specificity | neighbors' AUROC | "
        + " | ".join(bins)
        + " |",
        "|" + "---|" * (7 + len(bins)),
    ]
    for name, shown in SHOWN.items():
        if name in methods:
            m = methods[name]
            seeds = ", ".join(f"{row[PRIMARY]:.3f}" for row in m["seeds"])
            recall = [_point(m[f"recall_{n}"]) for n in range(len(bins))]
            cells = [shown, str(len(m["seeds"])), _shown(m["f1"]), seeds, *(_shown(m[f]) for f in FIGURES[1:]), *recall]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference | slice F1 | AUROC | sensitivity at 90 % specificity |", "|---|---|---|---|"]
    for pair, difference in document["differences"].items():
        cells = [pair, *(_shown(difference[f], sign=True) for f in FIGURES[:3])]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Verdict by the rule set beforehand: **{document['verdict']}**."]
    if document["died"]:
        lines += ["", "Runs that died: " + "; ".join(f"{run}: {why}" for run, why in document["died"].items()) + "."]
    return "\n".join(lines) + "\n"


def draw_figure(document: Mapping[str, Any], path: Path) -> None:
    """F1 and AUROC of every arm with intervals; small marks are seeds."""
    from matplotlib.figure import Figure

    from training.evaluation.plots import ACCENT, INK, SECOND, SOFT, save_png

    names = [name for name in SHOWN if name in document["methods"]]
    figure = Figure(figsize=(7.2, 0.42 * len(names) + 1.1), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (what, title) in zip(axes, (("f1", "Slice F1"), ("auroc", "AUROC")), strict=True):
        for row, name in enumerate(reversed(names)):
            method = document["methods"][name]
            estimate = method[what]
            is_arm = name in ("dino", "dino-lg", "traps", "shuffled")
            axis.plot([estimate["low"], estimate["high"]], [row, row], color=SOFT, linewidth=1.4, zorder=1)
            seeds = [seed[what] for seed in method["seeds"]]
            axis.plot(seeds, [row] * len(seeds), "|", color=SECOND, markersize=9, zorder=2)
            axis.plot(estimate["value"], row, "o", color=ACCENT if is_arm else INK, markersize=6, zorder=3)
        axis.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
        axis.grid(axis="x", color="#d5dce3", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8.5)
    axes[0].set_yticks(range(len(names)), [SHOWN[name] for name in reversed(names)])
    save_png(figure, path)


def _shown(estimate: Mapping[str, float | None], *, sign: bool = False) -> str:
    if estimate["value"] is None:
        return "-"
    number = "{:+.3f}" if sign else "{:.3f}"
    text = number.format(estimate["value"])
    if estimate["low"] is not None and estimate["high"] is not None:
        text += f" ({number.format(estimate['low'])} to {number.format(estimate['high'])})"
    return text.replace("-", "−")


def _point(estimate: Mapping[str, float | None]) -> str:
    return "-" if estimate["value"] is None else f"{estimate['value']:.2f}"


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
