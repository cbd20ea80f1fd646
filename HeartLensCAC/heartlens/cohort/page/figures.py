"""What the page shows, asked of the tables: every number is counted by the database, whatever its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heartlens.risk.reading_need import CLEAR_PROBABILITY, WORDS, Need

MOST_ACQUISITIONS = 12
"""Rows of each table of scanners, kernels and voltages; the rest is one row."""

WORKLIST = 20

AGE_GROUPS = (
    "CASE WHEN age < 45 THEN '<45' WHEN age < 55 THEN '45–54' WHEN age < 65 THEN '55–64' "
    "WHEN age < 75 THEN '65–74' WHEN age >= 75 THEN '75+' END"
)
"""As the percentiles of MESA are tabled, with both ends open."""

_ORDER = ["<45", "45–54", "55–64", "65–74", "75+", None]

REASONS = {
    "ambiguous": "several series suit equally well; name one",
    "checksum": "a file is not what it was",
    "clipped": "values are cut off above",
    "contrast": "contrast medium",
    "crash": "ended its process three times",
    "derived": "no stack of scanned slices",
    "duplicate": "the same images in two places, or two slices at one place",
    "extrapolated-gaps": "gaps between the slices",
    "failed": "an unexpected failure",
    "false-zero": "heart, lungs or blood unlike those of people",
    "few-slices": "too few slices",
    "gap": "slices are missing",
    "geometry": "a geometry that no scanner makes",
    "heart-cut-top": "the scan begins below the top of the heart",
    "hu-jump": "slices that are not in Hounsfield units",
    "input": "files are gone, changed or no scan",
    "memory": "not enough memory",
    "mixed": "slices that do not belong together",
    "modality": "no CT image",
    "no-heart": "no heart was found",
    "no-hu": "values that are not Hounsfield units",
    "not-axial": "slices that are not axial",
    "not-chosen": "another series of the study is scored",
    "orientation": "a body that lies otherwise than the file says",
    "tilt": "a tilted gantry",
    "truncated": "a file ends early",
    "uneven": "uneven distances of slices",
    "unreadable": "a damaged file",
}
"""Codes in a few words; a code that is not here stands for itself."""


def flow_of(con: Any) -> dict[str, int]:
    """How many series there are of each status, and how many were planned.

    Parameters
    ----------
    con
        Database with the tables, here and below.
    """
    counts = dict(con.execute("SELECT status, count(*) FROM series GROUP BY 1").fetchall())
    by_run = con.execute("SELECT count(*) FROM series WHERE status = 'refused' AND scored_at IS NOT NULL").fetchone()[0]
    names = ("scored", "held", "refused", "failed", "waiting", "duplicate", "not chosen")
    flow = {name.replace(" ", "_"): int(counts.get(name, 0)) for name in names}
    flow["found"] = sum(flow.values())
    flow["refused_by_run"] = int(by_run)
    flow["refused_by_plan"] = flow["refused"] - flow["refused_by_run"]
    flow["planned"] = sum(flow[name] for name in ("scored", "held", "failed", "waiting", "refused_by_run"))
    return flow


def reason_rows(con: Any) -> list[tuple[str, str, str, int]]:
    """Status, code, words and count of everything without a result, the most frequent first."""
    found = con.execute(
        "SELECT status, code, count(*) FROM series WHERE code IS NOT NULL GROUP BY ALL ORDER BY 3 DESC, 1, 2"
    ).fetchall()
    return [(status, code, REASONS.get(code, ""), count) for status, code, count in found]


def category_groups(con: Any, categories: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Of each sex and age how many scans are in each category; the last count is of those without a single one."""
    found = con.execute(
        f"SELECT sex, {AGE_GROUPS} AS years, category, count(*) FROM series WHERE status = 'scored' GROUP BY ALL"
    ).fetchall()
    groups: dict[tuple[str | None, str | None], list[int]] = {}
    for sex, years, category, count in found:
        counts = groups.setdefault((sex, years), [0] * (len(categories) + 1))
        counts[categories.index(category) if category in categories else -1] += count
    order = {"F": 0, "M": 1, None: 2}
    keys = sorted(groups, key=lambda key: (order.get(key[0], 3), _ORDER.index(key[1])))
    return [(_group(*key), groups[key]) for key in keys]


def _group(sex: str | None, years: str | None) -> str:
    words = {"F": "women", "M": "men"}.get(sex or "", "sex not known")
    return f"{words}, {years or 'age not known'}"


def score_rows(con: Any) -> list[tuple[Any, ...]]:
    """Of each sex and age: count, share of 0, quartiles and 90th percentile of the score."""
    found = con.execute(
        f"SELECT sex, {AGE_GROUPS} AS years, count(*), avg((agatston = 0)::INT), quantile_cont(agatston, 0.25), "
        "median(agatston), quantile_cont(agatston, 0.75), quantile_cont(agatston, 0.9) "
        "FROM series WHERE status = 'scored' GROUP BY ALL"
    ).fetchall()
    order = {"F": 0, "M": 1, None: 2}
    found.sort(key=lambda row: (order.get(row[0], 3), _ORDER.index(row[1])))
    return [(_group(*row[:2]), *row[2:]) for row in found]


def percentile_rows(con: Any) -> list[tuple[str, int]]:
    """How many scans lie in each quarter of the MESA percentiles."""
    found = dict(
        con.execute(
            "SELECT least(floor(percentile / 25), 3)::INT, count(*) FROM series "
            "WHERE status = 'scored' AND percentile IS NOT NULL GROUP BY 1"
        ).fetchall()
    )
    names = ("below the 25th", "25th to 49th", "50th to 74th", "75th and above")
    return [(name, found.get(n, 0)) for n, name in enumerate(names)] if found else []


def artery_rows(con: Any) -> list[tuple[Any, ...]]:
    """Of each artery: how many scans score above 0, and the median of those."""
    rows = []
    for name in ("lm", "lad", "lcx", "rca", "unassigned"):
        count, share, middle = con.execute(
            f"SELECT count(*) FILTER ({name}_agatston > 0), avg(({name}_agatston > 0)::INT), "
            f"median({name}_agatston) FILTER ({name}_agatston > 0) FROM series WHERE status = 'scored'"
        ).fetchone()
        if count or name != "unassigned":
            rows.append((name.upper() if name != "unassigned" else name, count, share, middle))
    return rows


def acquisition_rows(con: Any) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Scanners, kernels and tube voltages: count, share held; and of those that are not, share of 0 and median."""
    tables = []
    for title, what in (
        ("Scanner", "concat_ws(' ', manufacturer, model)"),
        ("Kernel", "kernel"),
        ("Tube voltage, kV", "printf('%g', kvp)"),
    ):
        found = con.execute(
            f"SELECT coalesce(nullif({what}, ''), 'not known') AS name, count(*), avg((status = 'held')::INT), "
            "avg((agatston = 0)::INT) FILTER (status = 'scored'), median(agatston) FILTER (status = 'scored') "
            "FROM series WHERE status IN ('scored', 'held') "
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        rest = found[MOST_ACQUISITIONS:]
        rows = found[:MOST_ACQUISITIONS]
        if rest:
            rows.append((f"{len(rest)} others", sum(row[1] for row in rest), None, None, None))
        tables.append((title, rows))
    return tables


def worklist(con: Any) -> list[dict[str, Any]]:
    """The scans that need a reader most: where the category hangs on a decision, then where networks disagree."""
    found = con.execute(
        "SELECT key, settings, subject, agatston_low, agatston_high, category_low, category_high, undecided, reason "
        "FROM (SELECT *, CASE "
        f"WHEN category IS NULL THEN '{WORDS[Need.CATEGORY]}' "
        f"WHEN list_contains(reasons, 'unsettled') THEN '{WORDS[Need.CONTRADICTION]}' "
        f"WHEN undecided > 0 THEN '{WORDS[Need.LESIONS]}' "
        f"WHEN likeliest_probability < {CLEAR_PROBABILITY} THEN '{WORDS[Need.PROBABILITY]}' "
        f"WHEN list_contains(reasons, 'metal-on-artery') THEN '{WORDS[Need.METAL]}' END AS reason, CASE "
        "WHEN category IS NULL THEN 0 WHEN list_contains(reasons, 'unsettled') THEN 1 WHEN undecided > 0 THEN 2 "
        f"WHEN likeliest_probability < {CLEAR_PROBABILITY} THEN 3 ELSE 4 END AS place "
        "FROM series WHERE status = 'scored' AND state IN ('draft', 'altered')) WHERE reason IS NOT NULL "
        f"ORDER BY place, agatston_high - agatston_low DESC, likeliest_probability, key LIMIT {WORKLIST}"
    )
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
