"""Plots of an evaluation, drawn to be read at print size: widths in inches are those on paper.

Each function takes numbers and gives a matplotlib figure; `data_url` makes it part of a page, `save_png` a file.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.cm
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from heartlens.core.atomic import atomic_file
from heartlens.core.lesions import ARTERY_COLORS, Artery
from training.evaluation.results import Estimate, SizeBin
from training.metrics.agreement import BlandAltman, bland_altman, log_score
from training.metrics.classification import ReliabilityBin

INK, SOFT, ACCENT, SECOND, RULE = "#16202a", "#52606d", "#0f4c75", "#b26a00", "#d5dce3"

SCORE_TICKS = (0, 10, 100, 400, 2000)
"""Marks of a score axis in ln(score + 1); the first four are edges of the risk categories."""

CATEGORY_EDGES = (10.5, 100.5, 400.5)
"""Where schemes `dino-lg` and `heartlens` cut scores that are rounded half up."""

ATTENTION_WINDOW_HU = (-200.0, 500.0)

LEAST_TOP = 1.5
"""Upper end of the scale of attention, times even, unless some patch has more: what is next to even is to look so."""

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "heartlens",
}


def confusion_figure(matrix: ArrayLike, labels: Sequence[str], title: str = "") -> Figure:
    """Patients or slices by category: the count, and its share of the reference's row.

    Parameters
    ----------
    matrix
        (c, c), rows reference, columns predicted
    """
    counts = np.asarray(matrix)
    c = len(counts)
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    with matplotlib.rc_context(_STYLE):
        size = 1.35 + 0.62 * max(c, 3)
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        for i in range(c):
            for j in range(c):
                color = "white" if share[i, j] > 0.55 else INK
                axes.text(j, i - 0.1, f"{counts[i, j]:,}", ha="center", va="center", color=color, fontsize=10)
                if rows[i, 0]:
                    axes.text(j, i + 0.24, f"{share[i, j]:.0%}", ha="center", va="center", color=color, fontsize=7.5)
        axes.set_xticks(range(c), labels)
        axes.set_yticks(range(c), labels, rotation=90 if max(map(len, labels)) > 6 else 0, va="center")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="Predicted", ylabel="Reference")
        axes.set_title(title, loc="left")
    return figure


def bland_altman_figure(reference: ArrayLike, predicted: ArrayLike, *, log: bool = False, title: str = "") -> Figure:
    """Difference against mean, with bias and limits of agreement.

    Parameters
    ----------
    reference, predicted
        (n,) Agatston scores
    log
        Of ln(score + 1); the axis of means is then marked in scores.
    """
    limits = bland_altman(reference, predicted, log=log)
    x, y = (log_score(side) if log else np.asarray(side, dtype=np.float64) for side in (reference, predicted))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.45, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=RULE, linewidth=1, zorder=0)
        axes.plot((x + y) / 2, y - x, "o", color=ACCENT, markersize=4, alpha=0.65, markeredgewidth=0)
        _mark_limits(axes, limits, "{:+.2f}" if log else "{:+,.1f}")
        if log:
            _mark_scores(axes, "x", float(np.max((x + y) / 2, initial=0)))
            axes.set(xlabel="Mean of both, as Agatston score", ylabel="Difference of ln(score + 1)")
        else:
            axes.set(xlabel="Mean of both, Agatston", ylabel="Predicted − reference, Agatston")
        axes.set_title(title, loc="left")
    return figure


def _mark_limits(axes: Axes, limits: BlandAltman, number: str) -> None:
    """Lines with their names and values beside the plot, set apart where they would touch."""
    shown = [("bias", limits.bias, "-"), ("+1.96 SD", limits.upper, "--"), ("−1.96 SD", limits.lower, "--")]
    shown = sorted((row for row in shown if math.isfinite(row[1])), key=lambda row: row[1])
    for _, value, line in shown:
        axes.axhline(value, color=SECOND, linewidth=1.1, linestyle=line)
    low, high = axes.get_ylim()
    least, place = (high - low) * 0.115, -math.inf
    for name, value, _ in shown:
        place = max(value, place + least)
        text = f"{name}\n{number.format(value)}".replace("-", "−")
        axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, color=SECOND)


def score_figure(reference: ArrayLike, predicted: ArrayLike, *, title: str = "") -> Figure:
    """Predicted against reference score on ln(score + 1) axes, with the edges of the risk categories."""
    x, y = log_score(reference), log_score(predicted)
    top = float(max(x.max(initial=0), y.max(initial=0)))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.1, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for edge in np.log1p(CATEGORY_EDGES):
            axes.axhline(edge, color=RULE, linewidth=0.8, zorder=0)
            axes.axvline(edge, color=RULE, linewidth=0.8, zorder=0)
        axes.plot([0, 9], [0, 9], color=SOFT, linewidth=0.8, zorder=1)
        axes.plot(x, y, "o", color=ACCENT, markersize=4, alpha=0.65, markeredgewidth=0, clip_on=False)
        for axis in "xy":
            _mark_scores(axes, axis, top)
        axes.set_aspect("equal")
        axes.set(xlabel="Reference, Agatston", ylabel="Predicted, Agatston")
        axes.set_title(title, loc="left")
    return figure


def _mark_scores(axes: Axes, axis: str, top: float) -> None:
    """Ticks in Agatston on an axis of ln(score + 1) that reaches a little beyond `top`."""
    end = max(top, math.log1p(100)) * 1.05
    ticks = [t for t in SCORE_TICKS if math.log1p(t) <= end]
    getattr(axes, f"set_{axis}lim")(-0.15, end)
    getattr(axes, f"set_{axis}ticks")(np.log1p(ticks), [f"{t:,}" for t in ticks])


def size_recall_figure(
    sizes: Sequence[SizeBin], estimates: Mapping[str, Sequence[Estimate]], *, title: str = ""
) -> Figure:
    """Share of reference lesions that were found, by their volume.

    Parameters
    ----------
    estimates
        For each line of the legend, one estimate per size.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for n, (name, values) in enumerate(estimates.items()):
            known = [(k, e.value, e.low, e.high) for k, e in enumerate(values) if e.value is not None]
            shift = (n - (len(estimates) - 1) / 2) * 0.16
            color = (ACCENT, SECOND)[n % 2]
            axes.plot(
                [k + shift for k, *_ in known], [v for _, v, *_ in known], "os"[n % 2], color=color, markersize=5,
                label=name,
            )  # fmt: skip
            for k, _, low, high in known:
                if low is not None and high is not None:
                    axes.plot([k + shift] * 2, [low, high], color=color, linewidth=1.2)
        axes.set_xticks(range(len(sizes)), [f"{_size_words(s)}\nn = {s.n:,}" for s in sizes], fontsize=8)
        axes.set(ylim=(-0.03, 1.03), xlim=(-0.5, len(sizes) - 0.5), xlabel="Volume of the reference lesion, mm³")
        axes.set_ylabel("Share found")
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(frameon=False, loc="outside upper right", ncols=len(estimates), fontsize=8)
        axes.set_title(title, loc="left")
    return figure


def _size_words(size: SizeBin) -> str:
    if size.high_mm3 is None:
        return f">{size.low_mm3:g}"
    return f"≤{size.high_mm3:g}" if size.low_mm3 == 0 else f"{size.low_mm3:g}–{size.high_mm3:g}"


def reliability_figure(bins: Sequence[ReliabilityBin], error: float | None, *, title: str = "") -> Figure:
    """Predicted probability against the share of positives, over the number of slices in each bin."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.5, 3.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8)
        upper.plot([b.mean_probability for b in bins], [b.share_positive for b in bins], "o-", color=ACCENT, ms=4)
        if error is not None:
            upper.text(0.03, 0.95, f"calibration error {error:.3f}", va="top", fontsize=8)
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="Share with calcium")
        upper.set_title(title, loc="left")
        widths = [b.high - b.low for b in bins]
        lower.bar([b.low for b in bins], [b.n for b in bins], widths, align="edge", color=ACCENT, edgecolor="white")
        lower.set_yscale("log")
        lower.set(ylim=(0.8, None), xlabel="Predicted probability", ylabel="Slices")
    return figure


def attention_figure(
    hu: NDArray[Any],
    attention: Mapping[str, NDArray[np.floating[Any]]],
    *,
    lesions: NDArray[np.bool_] | None = None,
    window_hu: tuple[float, float] = ATTENTION_WINDOW_HU,
    title: str = "",
) -> Figure:
    """A slice, and where each network looks on it, side by side (the paper's Figure 3: DINO and DINO-LG).

    Parameters
    ----------
    hu
        (rows, columns) of one slice, HU
    attention
        By name of the network, (h, w) self-attention of the class token, or (heads, h, w), whose mean is shown; any
        resolution that covers the slice. All panels have one scale, in multiples of what a patch would get if the
        network looked everywhere alike, by their logarithm; where it looks less than that, the CT is left as it is.
    lesions
        (rows, columns) annotated calcium, outlined in every panel
    """
    rows, columns = hu.shape
    shown = {name: _times_even(name, values) for name, values in attention.items()}
    top = max(LEAST_TOP, *(float(times.max()) for times in shown.values()))
    scale = matplotlib.colors.LogNorm(1, top)
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    with matplotlib.rc_context(_STYLE):
        panels = len(attention) + 1
        size = (2.35 * panels + (0.6 if shown else 0), 2.35 * rows / columns + (0.45 if title else 0.2))
        figure = Figure(figsize=size, layout="constrained")
        for n, axes in enumerate(np.atleast_1d(figure.subplots(1, panels))):
            axes.imshow(hu, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], extent=extent)
            name = "CT"
            if n:
                name, times = list(shown.items())[n - 1]
                # Patches stay visible: smoothing would show a precision that the network does not have.
                alpha = 0.8 * np.log(np.maximum(times, 1)) / math.log(top)
                axes.imshow(times, cmap="plasma", norm=scale, alpha=alpha, extent=extent)
                caption = f"at most {times.max():.3g} times even"
                axes.text(0.02, 0.02, caption, transform=axes.transAxes, color="white", fontsize=7.5)
            if lesions is not None and lesions.any():
                axes.contour(lesions, levels=[0.5], colors="#56B4E9", linewidths=0.8)
            axes.set_title(name, loc="left")
            axes.set_axis_off()
        if shown:
            colors = matplotlib.cm.ScalarMappable(scale, "plasma")
            bar = figure.colorbar(colors, ax=figure.axes, shrink=0.8, aspect=25, pad=0.01)
            bar.set_label("Attention, times even", fontsize=8)
            ticks = [1.0, top**0.5, top]
            bar.set_ticks(ticks, labels=[f"{t:.3g}" for t in ticks], fontsize=8)
            bar.ax.minorticks_off()
            bar.outline.set_visible(False)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9.5)
    return figure


def _times_even(name: str, attention: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(h, w) mean over heads, in multiples of the mean over patches; 1 everywhere where there is none."""
    mean = np.asarray(attention, dtype=np.float64)
    mean = mean.mean(axis=0) if mean.ndim == 3 else mean
    if mean.ndim != 2 or not np.isfinite(mean).all() or mean.min() < 0:
        raise ValueError(f"attention of {name} must be (h, w) or (heads, h, w), finite and 0 or more")
    even = float(mean.mean())
    return mean / even if even else np.ones(mean.shape)


def island_reliability_figure(bins: Sequence[ReliabilityBin], error: float | None) -> Figure:
    """As `reliability_figure`, of islands: how many of each probability are coronary."""
    figure = reliability_figure(bins, error, title="Probability of a lesion")
    upper, lower = figure.axes
    upper.set_ylabel("Share coronary")
    lower.set_ylabel("Islands")
    return figure


def methods_figure(
    methods: Mapping[str, Sequence[tuple[Estimate, Sequence[float]]]], titles: Sequence[str], *, accented: Sequence[str]
) -> Figure:
    """Statistics of several methods with intervals; small marks are the single runs of each.

    Parameters
    ----------
    methods
        By name, from top to bottom: for each title, the estimate and the values of its runs.
    accented
        Names whose marks are colored.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.42 * len(methods) + 1.1), layout="constrained")
        names = list(methods)[::-1]
        axes = np.atleast_1d(figure.subplots(1, len(titles), sharey=True))
        for n, (axis, title) in enumerate(zip(axes, titles, strict=True)):
            for row, name in enumerate(names):
                (value, low, high), runs = methods[name][n]
                if low is not None and high is not None:
                    axis.plot([low, high], [row, row], color=SOFT, linewidth=1.4, zorder=1)
                axis.plot(runs, [row] * len(runs), "|", color=SECOND, markersize=9, zorder=2)
                if value is not None:
                    axis.plot(value, row, "o", color=ACCENT if name in accented else INK, markersize=6, zorder=3)
            axis.set_title(title, loc="left")
            axis.grid(axis="x", color=RULE, linewidth=0.7)
            axis.tick_params(labelsize=8.5)
        axes[0].set_yticks(range(len(names)), names)
    return figure


def answer_figure(
    hu: NDArray[Any], known: NDArray[np.bool_], called: NDArray[np.bool_], undecided: NDArray[np.bool_], title: str
) -> Figure:
    """One slice: what is known to be coronary in green, called in red, left to a reader in yellow."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 6.6), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(hu, cmap="gray", vmin=ATTENTION_WINDOW_HU[0], vmax=ATTENTION_WINDOW_HU[1])
        for mask, color, width in ((known, "#34c759", 2.4), (called, "#ff3b30", 1.0), (undecided, "#ffd60a", 0.8)):
            if mask.any():
                axes.contour(mask, levels=[0.5], colors=color, linewidths=width)
        rows, columns = np.nonzero(known | called | undecided)
        middle = ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2)
        reach = max(90.0, np.ptp(rows) / 2 + 20, np.ptp(columns) / 2 + 20)
        axes.set_ylim(min(middle[0] + reach, hu.shape[0]), max(middle[0] - reach, 0))
        axes.set_xlim(max(middle[1] - reach, 0), min(middle[1] + reach, hu.shape[1]))
        axes.set_title(title, loc="left")
        axes.set_axis_off()
    return figure


def masks_figure(hu: NDArray[Any], masks: Mapping[str, NDArray[np.uint8]], *, letters: bool = True) -> Figure:
    """A part of a slice, and what each of some sources calls calcium on it, side by side.

    Parameters
    ----------
    hu
        (rows, columns), HU
    masks
        By name, (rows, columns) `Artery` codes, 0 where nothing is labeled.
    letters
        Name the arteries above each picture.
    """
    rows, columns = hu.shape
    low, high = ATTENTION_WINDOW_HU
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(1.9 * (len(masks) + 1), 1.9 * rows / columns + 0.25), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(masks) + 1))
        for axes, (name, codes) in zip(panels, {"CT": np.zeros(hu.shape, np.uint8), **masks}.items(), strict=True):
            axes.imshow(hu, cmap="gray", vmin=low, vmax=high)
            colored = np.zeros((rows, columns, 4))
            for code in np.unique(codes[codes > 0]):
                colored[codes == code] = matplotlib.colors.to_rgba(ARTERY_COLORS[Artery(int(code))], 0.85)
            axes.imshow(colored)
            named = ", ".join(Artery(int(code)).name for code in np.unique(codes[codes > 0]))
            axes.set_title(f"{name}: {named}" if named and letters else name, loc="left", fontsize=7.5)
            axes.set_axis_off()
    return figure


def data_url(figure: Figure, *, kind: str = "svg", dpi: int = 200) -> str:
    """The figure inside a page: vector ("svg"), or pixels ("png") for pictures."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        metadata = {"Date": None} if kind == "svg" else None  # the same numbers give the same bytes
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def save_png(figure: Figure, path: Path, *, dpi: int = 200) -> None:
    """The figure as a file, whole or not at all."""
    with matplotlib.rc_context(_STYLE), atomic_file(path) as sibling:
        figure.savefig(sibling, format="png", dpi=dpi)
