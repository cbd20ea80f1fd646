"""Cells of a table that a spreadsheet opens: a text stays a text there."""

from __future__ import annotations

from typing import Any

from heartlens.core.errors import visible

STARTS_A_FORMULA = frozenset("=+-@\t\r＝＋－＠")
"""First characters that make Excel, LibreOffice or Sheets compute a cell; full-width forms count for some of them."""


def cell(value: Any) -> Any:
    r"""A value as it may stand in a CSV file: a text that would be a formula is quoted, a number stays a number.

    Parameters
    ----------
    value
        Of a row.

    Examples
    --------
    >>> [cell(x) for x in ('=HYPERLINK("x")', "LAD", -3.5, None)]
    ['\'=HYPERLINK("x")', 'LAD', -3.5, None]
    """
    if not isinstance(value, str):
        return value
    is_formula = bool(value) and (value[0] in STARTS_A_FORMULA or value.lstrip()[:1] in STARTS_A_FORMULA)
    return ("'" if is_formula else "") + visible(value)
