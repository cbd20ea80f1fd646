"""Statistics of what was said of known islands: recall by artery and size, false calls, ranges, pairs of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from training.evaluation.answers import ARTERY_ROWS, IslandAnswer, ScanAnswer
from training.evaluation.estimates import Drawn, Statistics
from training.metrics.classification import ratio

SIZE_EDGES_MM2 = (0.0, 10.0, 30.0, float("inf"))
"""Bins of the area of an island on the slice where it is largest."""

PAIR_POINTS, PAIR_SHARE = 5.0, 0.05
"""Two images of one scan give one score when they differ by no more than one of these, of the first one's."""

ISLAND_STATISTICS = ("called", "met", "named_right")


def add_answers(statistics: Statistics, answers: Sequence[ScanAnswer]) -> None:
    """Add every statistic that these scans can have.

    Parameters
    ----------
    answers
        Of one stage, one a patient.
    """
    _add_islands(statistics, answers, "all", lambda island: True)
    for artery in ARTERY_ROWS:
        _add_islands(statistics, answers, artery, lambda island, row=artery: island.artery == row)
    for n, (low, high) in enumerate(pairwise(SIZE_EDGES_MM2)):
        _add_islands(statistics, answers, f"size.{n}", lambda x, low=low, high=high: low < x.area_mm2 <= high)
    _add_others(statistics, answers)
    has_calcium = np.array([answer.reference > 0 for answer in answers])
    is_zero = np.array([answer.total == 0 for answer in answers])
    is_silent = is_zero & np.array([answer.total_high == 0 for answer in answers])
    _add_share(statistics, "answers.false_zero", is_zero & has_calcium, has_calcium)
    _add_share(statistics, "answers.silent_zero", is_silent & has_calcium, has_calcium)
    everyone = np.ones(len(answers), bool)
    _add_share(statistics, "range.holds", np.array([a.range_holds_reference for a in answers]), everyone)
    _add_share(statistics, "range.spans", np.array([a.spans_categories for a in answers]), everyone)
    _add_share(statistics, "range.wrong", np.array([a.is_single_and_wrong for a in answers]), everyone)
    _add_share(statistics, "range.wrong_silently", np.array([a.is_wrong_without_reason for a in answers]), everyone)
    has_probability = np.array([bool(answer.probability) for answer in answers])
    if has_probability.any():
        held = np.array([answer.probability_holds_reference for answer in answers])
        _add_share(statistics, "range.credible", held & has_probability, has_probability)
    scores = np.array([answer.total for answer in answers])
    statistics.add("answers", ("mean_score",), lambda drawn: [float(scores[drawn].mean())])
    if all(answer.before for answer in answers):
        _add_pairs(statistics, answers)


def _add_islands(statistics: Statistics, answers: Sequence[ScanAnswer], name: str, chosen: Callable[..., bool]) -> None:
    """Of the chosen islands: those called coronary, those called or undecided, and of the called those named right."""

    def counted(islands: Sequence[IslandAnswer]) -> list[int]:
        own = [island for island in islands if chosen(island)]
        return [len(own), *(sum(getattr(x, f"is_{what}") for x in own) for what in ISLAND_STATISTICS)]

    table = np.array([counted(answer.islands) for answer in answers], np.int64)

    def values(drawn: Drawn) -> list[float]:
        n, called, met, right = table[drawn].sum(axis=0).tolist()
        return [ratio(called, n), ratio(met, n), ratio(right, called)]

    n, called, met, right = (int(v) for v in table.sum(axis=0))
    shares = {"called": (called, n), "met": (met, n), "named_right": (right, called)}
    statistics.add(f"islands.{name}", ISLAND_STATISTICS, values, shares)


def _add_others(statistics: Statistics, answers: Sequence[ScanAnswer]) -> None:
    """False calls and idle questions per slice without coronary calcium, and false calls per scan of any kind."""
    slices = np.array([answer.slices_without_calcium for answer in answers])
    rows = {
        "false": [sum(x.called for x in answer.others) for answer in answers],
        "undecided": [sum(x.undecided for x in answer.others) for answer in answers],
    }
    for name, row in rows.items():
        counts = np.array(row)
        on_clean = counts * (slices > 0)

        def per_slice(drawn: Drawn, on_clean: np.ndarray = on_clean) -> list[float]:
            return [ratio(float(on_clean[drawn].sum()), float(slices[drawn].sum()))]

        def per_scan(drawn: Drawn, counts: np.ndarray = counts) -> list[float]:
            return [float(counts[drawn].mean())]

        # No shares, as there may be two on one slice; but where there is none, none of so many slices has any.
        none_of_slices = {} if on_clean.any() else {f"{name}_per_slice": (0, int(slices.sum()))}
        none_of_scans = {} if counts.any() else {f"{name}_per_scan": (0, len(answers))}
        statistics.add("others", (f"{name}_per_slice",), per_slice, none_of_slices)
        statistics.add("others", (f"{name}_per_scan",), per_scan, none_of_scans)


def _add_share(statistics: Statistics, name: str, events: np.ndarray, of: np.ndarray) -> None:
    prefix, _, last = name.rpartition(".")

    def value(drawn: Drawn) -> list[float]:
        return [ratio(float(events[drawn].sum()), float(of[drawn].sum()))]

    statistics.add(prefix, (last,), value, {last: (int(events.sum()), int(of.sum()))})


def _add_pairs(statistics: Statistics, answers: Sequence[ScanAnswer]) -> None:
    """Whether the score stays when the image is altered; and what the alteration alone does to the same islands."""
    total = np.array([(answer.before[0], answer.total) for answer in answers])
    reference = np.array([(answer.before[1], answer.reference) for answer in answers])
    everyone = np.ones(len(answers), bool)
    for name, pair in (("pairs.within", total), ("pairs.reference_within", reference)):
        first, second = pair.T
        _add_share(statistics, name, np.abs(second - first) <= np.maximum(PAIR_POINTS, PAIR_SHARE * first), everyone)
    change = np.abs(total[:, 1] - total[:, 0])
    statistics.add("pairs", ("mean_change",), lambda drawn: [float(change[drawn].mean())])
