"""Tables of report.html as rows of a sheet, with columns as wide as their words ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from heartlens.report.sheet.marks import ACCENT, INK, LINES, SOFT, Box, Mark, moved
from heartlens.report.sheet.text import Run, SheetBlock, Style, natural_width, paragraph, runs_of
from heartlens.report.sheet.tree import Element

POINTS = {"lesions": 7.0, "stamp": 6.8, "": 8.0}
"""By class of table."""

HEAD_SHARE = 0.92
"""Size of a head, of that of the cells."""

PAD_X, PAD_Y = 1.3, 0.55
MARK_X = 1.2
"""Width of the mark before a row."""

NOT_BROKEN = frozenset({"scale", "plain"})
"""Tables whose row heads stay on one line."""


@dataclass(frozen=True)
class _Cell:
    runs: list[Run]
    align: str
    span: int


def table_blocks(table: Element, width: float, scale: float) -> list[SheetBlock]:
    """One block a row; the head is repeated on the next page.

    Parameters
    ----------
    table
        With head, if any, and bodies.
    width
        mm
    scale
        Of the letters.
    """
    points = next(POINTS[name] for name in POINTS if name in table.classes or not name) * scale
    cell_style, head_style = Style(points), Style(points * HEAD_SHARE, SOFT)
    heads = [[_cell(c, head_style) for c in row.elements] for head in table.find("thead") for row in head.find("tr")]
    # The rows of one body stay together: a lesion and why it counts.
    bodies = [
        [
            (row, [_cell(_plain(c, table), _style_of(row, body, c, cell_style, table)) for c in row.elements])
            for row in body.find("tr")
        ]
        for body in table.find("tbody")
    ]
    rows = [cells for body in bodies for _, cells in body]
    widths = _widths([*heads, *rows], width, whole=NOT_BROKEN & table.classes != set())
    head = None
    if heads:
        head = replace(_rows_block([(None, cells) for cells in heads], widths), with_next=True)
    is_in_groups = len(bodies) > 1
    groups = bodies if is_in_groups else [[row] for body in bodies for row in body]
    blocks = [replace(_rows_block(group, widths), head=head) for group in groups if group]
    return [*([head] if head is not None else []), *blocks, SheetBlock(1.2)]


def _cell(cell: Element, style: Style) -> _Cell:
    align = "right" if "n" in cell.classes else "left"
    return _Cell(list(runs_of(cell, style)), align, int(cell.attributes.get("colspan", 1)))


def _plain(cell: Element, table: Element) -> Element:
    """The head of a row as a cell like the others, where a table has two columns of small letters."""
    return replace(cell, tag="td") if "stamp" in table.classes else cell


def _style_of(row: Element, body: Element, cell: Element, style: Style, table: Element) -> Style:
    if "stamp" in table.classes and cell.tag == "th":
        style = replace(style, color=SOFT)
    if "why" in row.classes or "out" in body.classes or "out" in row.classes:
        style = replace(style, color=SOFT)
    if "total" in row.classes:
        style = replace(style, bold=True)
    return style


def _widths(rows: Sequence[Sequence[_Cell]], width: float, *, whole: bool) -> list[float]:
    """Of the columns: what the words need, and the rest to the first; where they need more, long ones break."""
    count = max((sum(cell.span for cell in row) for row in rows), default=0)
    least, most = [0.0] * count, [0.0] * count
    for row in rows:
        at = 0
        for cell in row:
            if cell.span == 1:
                short, long = natural_width(cell.runs)
                # Numbers and heads of numbers do not break.
                if (cell.align == "right" and row is not rows[0]) or (whole and at == 0):
                    short = long
                least[at] = max(least[at], short + 2 * PAD_X)
                most[at] = max(most[at], long + 2 * PAD_X)
            at += cell.span
    if sum(most) <= width:
        most[0 if count < 3 else min(1, count - 1) if most[0] < 12 else 0] += width - sum(most)
        return most
    if sum(least) >= width:
        return [part * width / sum(least) for part in least]
    share = (width - sum(least)) / (sum(most) - sum(least))
    return [low + share * (high - low) for low, high in zip(least, most, strict=True)]


def _rows_block(rows: Sequence[tuple[Element | None, Sequence[_Cell]]], widths: Sequence[float]) -> SheetBlock:
    marks: list[Mark] = []
    y = 0.0
    total = sum(widths)
    for n, (element, cells) in enumerate(rows):
        classes = frozenset() if element is None else element.classes
        texts: list[Mark] = []
        x = height = 0.0
        at = 0
        for cell in cells:
            wide = sum(widths[at : at + cell.span])
            text = paragraph(cell.runs, wide - 2 * PAD_X, align=cell.align)
            texts += moved(text.marks, x + PAD_X, y + PAD_Y)
            height = max(height, text.height)
            x += wide
            at += cell.span
        height += 2 * PAD_Y
        if "marked" in classes:
            marks.append(Box(0, y, total, height, fill="#fff3c9"))
            marks.append(Box(-MARK_X, y, MARK_X, height, fill=ACCENT))
        if "total" in classes:
            marks.append(Box(0, y - 0.1, total, 0.35, fill=INK))
        marks += texts
        y += height
        if n == len(rows) - 1 and "total" not in classes:
            marks.append(Box(0, y - 0.08, total, 0.12, fill=LINES))
    return SheetBlock(y, marks)
