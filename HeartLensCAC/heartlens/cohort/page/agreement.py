"""How well the cohort agrees with known scores, or with a second reader."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heartlens.case.comparison.readers import linear_kappa
from heartlens.core.disk.reading import read_regular
from heartlens.core.errors import InputRefused
from heartlens.risk.categories import SCHEMES, category

LIMIT_SD = 1.96
"""Standard deviations of the limits of agreement; Bland and Altman, Lancet 1986, 1:307."""

JOINS = (("key",), ("series_uid",), ("subject", "exam", "scan"), ("subject", "exam"), ("subject",))
"""By what a line is tied to a series: the first of these of which the file has every column."""

MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Truth:
    """Known scores.

    Parameters
    ----------
    by
        Columns that tie a line to a series.
    scores
        Agatston, by the values of those columns.
    """

    by: tuple[str, ...]
    scores: dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Agreement:
    """Two scores of each of some scans.

    Parameters
    ----------
    pairs
        (n, 2): known, and ours.
    unmatched
        Lines that belong to no scored series.
    kappa
        Linear, of the categories; None where chance explains all.
    icc
        ICC(2,1); None where it is not defined.
    scheme
        Of the categories.
    """

    pairs: tuple[tuple[float, float], ...]
    unmatched: int
    kappa: float | None
    icc: float | None
    scheme: str

    @property
    def bias(self) -> float:
        """Mean of ours minus the known score."""
        return float(np.mean([ours - known for known, ours in self.pairs]))

    @property
    def limits(self) -> tuple[float, float] | None:
        """Limits of agreement, lower and upper; None of a single scan."""
        if len(self.pairs) < 2:
            return None
        spread = LIMIT_SD * float(np.std([ours - known for known, ours in self.pairs], ddof=1))
        return self.bias - spread, self.bias + spread


def read_truth(path: Path) -> Truth:
    """Known scores from a CSV file with a column `agatston` and columns that tie a line to a series.

    Parameters
    ----------
    path
        UTF-8.

    Raises
    ------
    InputRefused
        ``input``: a column is missing, two lines mean one scan, or a score is no number of 0 or more.
    """
    try:
        text = read_regular(path, MOST_BYTES).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputRefused("input", f"{path}: expected a CSV file in UTF-8, found {type(error).__name__}") from None
    names = set(rows[0]) if rows else set()
    by = next((join for join in JOINS if set(join) <= names), None)
    if by is None or "agatston" not in names:
        raise InputRefused(
            "input", f"{path}: expected a column agatston, and key, series_uid or subject (exam, scan); found "
            f"{', '.join(sorted(str(name) for name in names)) or 'no line'}",
        )  # fmt: skip
    scores: dict[tuple[str, ...], float] = {}
    for number, row in enumerate(rows, 2):
        who = tuple((row[name] or "").strip() for name in by)
        try:
            score = float(row["agatston"])
        except (TypeError, ValueError):
            score = -1.0
        if not 0 <= score < math.inf:
            raise InputRefused(
                "input", f"{path}, line {number}: expected a score of 0 or more, found {row['agatston']!r}"
            )
        if who in scores:
            raise InputRefused("input", f"{path}, line {number}: a second line for {', '.join(by)} of an earlier line")
        scores[who] = score
    return Truth(by, scores)


def agreement_of(con: Any, truth: Truth) -> Agreement | None:
    """Compare the scored series with known scores; None where no line belongs to one.

    Parameters
    ----------
    con
        Database with the table `series`.
    truth
        Known scores.
    """
    found = con.execute(
        f"SELECT agatston, scheme, {', '.join(truth.by)} FROM series WHERE status = 'scored'"
    ).fetchall()
    ours: dict[tuple[str, ...], list[float]] = {}
    for score, _, *who in found:
        ours.setdefault(tuple(value or "" for value in who), []).append(score)
    single = {who: scores[0] for who, scores in ours.items() if len(scores) == 1}  # of several nobody knows which
    pairs = tuple((known, single[who]) for who, known in truth.scores.items() if who in single)
    if not pairs:
        return None
    scheme = found[0][1]
    rows = SCHEMES[scheme].categories
    places = [(rows.index(category(a, scheme)), rows.index(category(b, scheme))) for a, b in pairs]
    kappa = linear_kappa(places, len(rows))
    return Agreement(pairs, len(truth.scores) - len(pairs), kappa, icc_absolute(pairs), scheme)


def icc_absolute(pairs: Sequence[tuple[float, float]]) -> float | None:
    """ICC(2,1): absolute agreement of single scores, two-way random effects (Shrout and Fleiss 1979).

    Parameters
    ----------
    pairs
        (n, 2)

    Returns
    -------
    float | None
        None of fewer than two pairs, and where all scores are the same.

    Examples
    --------
    >>> round(icc_absolute([(0, 0), (12, 10), (95, 110), (120, 118), (410, 395), (900, 950)]), 5)
    0.99807
    """
    n = len(pairs)
    if n < 2:
        return None
    x, y = np.array(pairs, float).T
    mean, difference = (x + y) / 2, y - x
    rows = 2 * float(np.sum((mean - mean.mean()) ** 2)) / (n - 1)
    columns = n * float(difference.mean()) ** 2 / 2
    error = float(np.sum((difference - difference.mean()) ** 2)) / 2 / (n - 1)
    whole = rows + error + 2 * (columns - error) / n
    return (rows - error) / whole if whole else None
