"""The page of a cohort: report.html, one file without scripts or links to anything outside it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from heartlens import __version__
from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.page.agreement import Agreement, Truth, agreement_of
from heartlens.cohort.page.charts import bland_altman, spaghetti, stacked_bars
from heartlens.cohort.page.figures import (
    acquisition_rows,
    artery_rows,
    category_groups,
    flow_of,
    percentile_rows,
    reason_rows,
    score_rows,
    worklist,
)
from heartlens.cohort.tables.parquet import connect
from heartlens.cohort.tables.table import DATABASE
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import NOTICE
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.report import display_agatston

if TYPE_CHECKING:
    import jinja2

PAGE = "report.html"

OPEN = "a reader must decide"
"""Of scans whose category depends on undecided lesions."""


def write_page(folder: CohortFolder, settings: str, truth: Truth | None = None) -> None:
    """Write the page from the tables.

    Parameters
    ----------
    folder
        Of the cohort.
    settings
        Key of version, bundle and options of the tables.
    truth
        Known scores, or a second reader's.

    Raises
    ------
    InputRefused
        ``input``: jinja2 is not installed, or no known score belongs to a scored series; ``output``
    """
    con = connect(folder.path / DATABASE)
    try:
        page = render_page(con, settings, truth)
    finally:
        con.close()
    with atomic_file(folder.path / PAGE) as sibling:
        sibling.write_text(page, encoding="utf-8", errors="backslashreplace")


def render_page(con: Any, settings: str, truth: Truth | None = None) -> str:
    """The page as HTML; no path and no identity is on it.

    Parameters
    ----------
    con
        Database with the tables.
    settings
        Key of version, bundle and options.
    truth
        Known scores, or a second reader's.

    Raises
    ------
    InputRefused
        ``input``: no known score belongs to a scored series.
    """
    schemes = con.execute(
        "SELECT scheme FROM series WHERE scheme IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC"
    ).fetchall()
    scheme = SCHEMES[schemes[0][0] if schemes else next(iter(SCHEMES))]
    labels = [row.label if row.label == row.shown else f"{row.label}, {row.shown}" for row in scheme.categories]
    groups = category_groups(con, [row.category for row in scheme.categories])
    agreement = None if truth is None else agreement_of(con, truth)
    if truth is not None and agreement is None:
        raise InputRefused(
            "input", f"no known score belongs to a scored series by {', '.join(truth.by)}; check the file"
        )
    by = con.execute(
        "SELECT any_value(version), any_value(bundle), any_value(profile), min(study_date), max(study_date) "
        "FROM series WHERE evaluable IS NOT NULL"
    ).fetchone()
    pairs = con.execute(
        "SELECT years, prior_agatston, current_agatston FROM pairs WHERE change_low IS NOT NULL"
    ).fetchall()
    verdicts = con.execute(
        "SELECT coalesce(verdict, 'not compared'), count(*) FROM pairs GROUP BY 1 ORDER BY 2 DESC"
    ).fetchall()
    return _template().render(
        css=(files("heartlens.report") / "report.css").read_text(encoding="utf-8").replace("VERSION", __version__),
        notice=NOTICE,
        version=__version__,
        settings=settings,
        by=by,
        flow=flow_of(con),
        reasons=reason_rows(con),
        scheme=scheme.title,
        labels=labels,
        groups=groups,
        bars=stacked_bars(groups, [*labels, OPEN]) if groups else "",
        open=OPEN,
        scores=score_rows(con),
        percentiles=percentile_rows(con),
        arteries=artery_rows(con),
        acquisitions=acquisition_rows(con),
        agreement=None if agreement is None else _agreement(agreement),
        pairs=len(pairs),
        spaghetti=spaghetti(pairs) if pairs else "",
        verdicts=verdicts,
        worklist=worklist(con),
        score=display_agatston,
    )


def _agreement(found: Agreement) -> dict[str, Any]:
    return {
        "count": len(found.pairs),
        "unmatched": found.unmatched,
        "bias": found.bias,
        "limits": found.limits,
        "kappa": found.kappa,
        "icc": found.icc,
        "chart": bland_altman(found.pairs, found.bias, found.limits),
    }


@cache
def _template() -> jinja2.Template:
    try:
        import jinja2
    except ModuleNotFoundError:
        raise InputRefused("input", "the page needs jinja2; pip install jinja2, then heartlens cohort table") from None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = (files("heartlens.cohort.page") / "cohort.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text)
