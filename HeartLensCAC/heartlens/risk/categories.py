"""Risk categories of a score by published schemes, and CAC-DRS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from heartlens.risk.population_tables import (
    rounded_agatston,
    table_rows,
)

CAC_DRS_SOURCE = "CAC-DRS: Hecht et al., J Cardiovasc Comput Tomogr 2018, 12:185"


@dataclass(frozen=True)
class Category:
    """One row of a category scheme.

    Parameters
    ----------
    scheme, category
        Machine ids.
    low, high
        Bounds in rounded Agatston, inclusive; high None is open.
    percentile_from
        A percentile from here on also puts a score above 0 in this row; None in most rows.
    shown
        The range as it is printed.
    label
        The word, or the range again where the scheme has no words.
    finding
        One sentence about the plaque; "" where the scheme has none.
    text
        Clinical correlation in the source's sense, about groups of people; "" where the scheme has none.
    """

    scheme: str
    category: str
    low: int
    high: int | None
    percentile_from: float | None
    shown: str
    label: str
    finding: str
    text: str


@dataclass(frozen=True)
class Scheme:
    """A way to cut Agatston scores into categories; `categories` ascend without a gap from 0."""

    id: str
    title: str
    source: str
    categories: tuple[Category, ...]


def _read_schemes() -> Mapping[str, Scheme]:
    rows: dict[str, list[Category]] = {}
    for row in table_rows("category_schemes.csv"):
        numbers = {
            "low": int(row["low"]),
            "high": int(row["high"]) if row["high"] else None,
            "percentile_from": float(row["percentile_from"]) if row["percentile_from"] else None,
        }
        rows.setdefault(row["scheme"], []).append(Category(**{**row, **numbers}))  # type: ignore[arg-type]
    return MappingProxyType(
        {
            row["scheme"]: Scheme(row["scheme"], row["title"], row["source"], tuple(rows[row["scheme"]]))
            for row in table_rows("scheme_sources.csv")
        }
    )


SCHEMES: Mapping[str, Scheme] = _read_schemes()
"""Every category scheme by id, the default first."""


def category(score: float, scheme: str = "heartlens", *, percentile: float | None = None) -> Category:
    """The row of a scheme that a score falls in.

    Parameters
    ----------
    score
        Agatston, unrounded; only exactly 0 is in the row of 0.
    scheme
        A key of `SCHEMES`.
    percentile
        Only asked for by schemes that use one.

    Examples
    --------
    >>> [category(s).label for s in (0, 0.3, 10.4, 10.5, 400.4, 400.5)]
    ['absent', 'minimal', 'minimal', 'mild', 'moderate', 'high']
    """
    rows = _scheme(scheme).categories
    whole = rounded_agatston(score)
    chosen = next(row for row in reversed(rows) if whole >= row.low)
    for row in rows:
        by_percentile = row.percentile_from is not None and percentile is not None and percentile >= row.percentile_from
        if by_percentile and whole > 0 and row.low > chosen.low:
            chosen = row
    return chosen


def cac_drs(score: float, calcified_vessels: int | None) -> str:
    """CAC-DRS, such as "A2/N3"; without the vessels when their number is not known.

    Parameters
    ----------
    score
        Agatston, unrounded.
    calcified_vessels
        How many of LM, LAD, LCX, RCA score above 0.

    Examples
    --------
    >>> cac_drs(0, 0), cac_drs(100, 3), cac_drs(299.4, None)
    ('A0/N0', 'A2/N3', 'A2')
    """
    amount = category(score, "cac-drs").category
    if calcified_vessels is None:
        return amount
    if not 0 <= calcified_vessels <= 4 or (score == 0 and calcified_vessels > 0):
        raise ValueError(f"calcified_vessels must be 0 to 4, and 0 at score 0; got {calcified_vessels} at {score:g}")
    return f"{amount}/N{calcified_vessels}"


def _scheme(scheme: str) -> Scheme:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    return SCHEMES[scheme]
