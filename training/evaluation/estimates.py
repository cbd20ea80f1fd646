"""Statistics by name over draws of patients, and the one rule by which they get their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.results import Estimate
from training.metrics import intervals
from training.metrics.classification import Counts

_EVENTS = {
    "sensitivity": (("tp",), ("tp", "fn")),
    "recall": (("tp",), ("tp", "fn")),
    "specificity": (("tn",), ("tn", "fp")),
    "precision": (("tp",), ("tp", "fp")),
    "npv": (("tn",), ("tn", "fn")),
    "accuracy": (("tp", "tn"), Counts._fields),
    "prevalence": (("tp", "fn"), Counts._fields),
    "false_zero_rate": (("fn",), ("tp", "fn")),
    "false_positive_rate": (("fp",), ("tn", "fp")),
    "f1": (("tp",), ("tp", "fp", "fn")),
}
"""Statistics of `Counts` that are shares: which of them, of which. F1 is none, but without an error, or without a
success, it is what intersection over union is, a share of all that either side calls positive."""

Drawn = NDArray[np.int64]
"""(n,) indices of patients: all of them once, or a bootstrap draw."""

Function = Callable[[Drawn], Sequence[float]]


class Statistics:
    """Statistics of one stage by name, all of the same patients.

    Parameters
    ----------
    patients
        How many.
    wanted
        Names that are computed; None is all of them.
    """

    def __init__(self, patients: int, wanted: Collection[str] | None = None) -> None:
        self.patients = patients
        self.wanted = wanted
        self.names: list[str] = []
        self.shares: dict[str, tuple[int, int]] = {}
        self._blocks: list[tuple[list[int], Function]] = []

    def add(
        self, prefix: str, names: Sequence[str], function: Function, shares: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        """Add statistics that are computed together.

        Parameters
        ----------
        function
            Gives one number for each name, NaN where there is nothing to divide by.
        shares
            Of those that are shares of things counted one by one: (how many, of how many) among all patients.
        """
        full = [f"{prefix}.{name}" if prefix else name for name in names]
        chosen = [n for n, name in enumerate(full) if self.wanted is None or name in self.wanted]
        if chosen:
            self.names += [full[n] for n in chosen]
            self.shares |= {full[n]: shares[names[n]] for n in chosen if shares and names[n] in shares}
            self._blocks.append((chosen, function))

    def add_counts(self, prefix: str, each: Sequence[Counts], names: Sequence[str], *, voxels: bool = False) -> Counts:
        """Add statistics of summed counts and give their sum; those of voxels are no shares of independent things."""
        table = np.array(each, np.int64).reshape(len(each), len(Counts._fields))

        def total(drawn: Drawn) -> Counts:
            return Counts(*table[drawn].sum(axis=0).tolist())

        whole = total(np.arange(len(each)))

        def part(fields: Sequence[str]) -> int:
            return sum(getattr(whole, field) for field in fields)

        shares = {} if voxels else {name: (part(a), part(b)) for name, (a, b) in _EVENTS.items()}
        self.add(prefix, names, lambda drawn: [getattr(total(drawn), name) for name in names], shares)
        return whole

    def values(self, drawn: Drawn) -> list[float]:
        """One number for each of `names`."""
        return [float(values[n]) for chosen, function in self._blocks for values in (function(drawn),) for n in chosen]


class MeanOfRuns:
    """Means over several runs of one method on the same patients; a mean over seeds is a share of nothing.

    Its interval draws runs as well as patients: another training would give another network.

    Parameters
    ----------
    names
        Of the means; one that the runs do not have is NaN.
    """

    def __init__(self, runs: Sequence[Statistics], names: Sequence[str]) -> None:
        self.patients, self.names, self.runs = runs[0].patients, list(names), runs
        self.shares: dict[str, tuple[int, int]] = {}

    def values(self, drawn: Drawn, runs: Drawn | None = None) -> list[float]:
        """One number for each of `names`, of the drawn runs; None is each of them once."""
        chosen = range(len(self.runs)) if runs is None else runs.tolist()
        by_run = [dict(zip(run.names, run.values(drawn), strict=True)) for run in (self.runs[n] for n in chosen)]
        return [float(np.mean([values.get(name, math.nan) for values in by_run])) for name in self.names]


def estimate_all(
    stages: Mapping[str, Statistics | MeanOfRuns],
    *,
    differences: Sequence[tuple[str, str]] = (),
    draws: int,
    seed: int,
    persons: Sequence[str] = (),
) -> tuple[dict[str, dict[str, Estimate]], dict[str, dict[str, Estimate]]]:
    """Every statistic on all patients, with its interval from draws of them that are the same for all stages.

    Means of as many runs share the draws of runs, so that differences are paired by seed too.

    Parameters
    ----------
    stages
        By name, of the same patients.
    differences
        Pairs of stages with the same statistics, the second to be taken from the first.
    persons
        Of each patient of the statistics: what has one person's name is drawn together. Empty: each is a person.

    Returns
    -------
    by_stage, by_difference : dict[str, dict[str, Estimate]]
        Of each stage, and of each "one - other".
    """
    patients = {statistics.patients for statistics in stages.values()}
    if len(patients) != 1:
        raise ValueError(f"stages must have the same patients, got {sorted(patients)}")
    (n,) = patients
    names = list(persons) or [str(patient) for patient in range(n)]
    members = [np.flatnonzero(np.array(names) == name) for name in dict.fromkeys(names)]
    counts = sorted({len(part.runs) for part in stages.values() if isinstance(part, MeanOfRuns)})
    generator = np.random.default_rng([seed, 1])

    def everything(drawn: Drawn, runs: Mapping[int, Drawn]) -> list[float]:
        values = {
            stage: part.values(drawn, runs.get(len(part.runs))) if isinstance(part, MeanOfRuns) else part.values(drawn)
            for stage, part in stages.items()
        }
        flat = [value for part in values.values() for value in part]
        return flat + [x - y for a, b in differences for x, y in zip(values[a], values[b], strict=True)]

    def one_draw(drawn: Drawn) -> list[float]:
        runs = {count: generator.integers(0, count, count) for count in counts}
        return everything(np.concatenate([members[person] for person in drawn]), runs)

    ranges = intervals.bootstrap(one_draw, len(members), draws=draws, seed=seed)
    found = iter(zip(everything(np.arange(n), {}), ranges, strict=True))
    by_stage = {
        stage: {name: with_interval(*next(found), statistics.shares.get(name)) for name in statistics.names}
        for stage, statistics in stages.items()
    }
    by_difference = {
        f"{a} - {b}": {name: with_interval(*next(found), None) for name in stages[a].names} for a, b in differences
    }
    return by_stage, by_difference


def with_interval(value: float, interval: intervals.Interval, share: tuple[int, int] | None) -> Estimate:
    """The one interval rule: 2.5 to 97.5 % of the draws of patients, but Wilson's for a share that no draw changed.

    0 of 20 patients is not surely 0. Only shares of things counted one by one (patients, slices, lesions, islands)
    have Wilson's, and F1 where it is 0 or 1; a share of voxels or a kappa keeps what the draws say.

    Examples
    --------
    >>> with_interval(0.0, intervals.Interval(0.0, 0.0), (0, 20)).high > 0.16
    True
    """
    low, high = interval
    if share is not None and math.isfinite(value) and not low < high:
        low, high = intervals.wilson(*share)
        low, high = min(low, value), max(high, value)  # which rounding may have left out
    return Estimate(*(float(v) if math.isfinite(v) else None for v in (value, low, high)))
