"""The elements of report.html as blocks on paper: what report.css says to a printer, for a sheet without a browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from heartlens.report.sheet.marks import ACCENT, LINES, SOFT, Box, Drawing, Letters, Mark, moved, width_mm
from heartlens.report.sheet.pictures import aspect
from heartlens.report.sheet.tables import table_blocks
from heartlens.report.sheet.text import LEVEL_COLORS, TICK, Run, SheetBlock, Style, paragraph, runs_of, stacked
from heartlens.report.sheet.tree import Element

STATE_COLORS = {"signed": "#1d5a2c", "altered": "#a3162b"}
STATE_COLOR = "#8a4b00"
WASHES = {"bad": "#fdeef0", "limited": "#fff5e6", "note": "#eef3f8", "good": "#eef7f0"}

POINTS = 8.4
"""Of the text; other sizes by tag or class."""

SIZES = {
    "h1": 13.5, "h2": 9.8, "h3": 8.8, "grade": 11.5, "facts": 8.2, "notice": 7.0, "sources": 7.0, "figcaption": 7.4,
    "tiles": 6.2, "lights": 7.4, "say": 7.6, "warnings": 7.6, "score": 7.6, "total": 31.0, "no-grade": 16.0,
    "line": 7.2, "ticks": 7.8, "band": 8.8, "spread": 7.6,
}  # fmt: skip

GAP = 1.1
"""Below a paragraph, mm."""


class Typesetter:
    """Sets elements into a width.

    Parameters
    ----------
    scale
        Of all letters; pictures keep their share of the width.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale

    def blocks(self, element: Element, width: float, style: Style | None = None) -> list[SheetBlock]:
        """An element and all in it, below each other.

        Parameters
        ----------
        element
            Of the page.
        width
            mm
        style
            Of words that do not say otherwise.
        """
        style = style or self._style(POINTS)
        by_class = next((name for name in _BY_CLASS if name in element.classes), None)
        if by_class is not None:
            return _BY_CLASS[by_class](self, element, width, style)
        by_tag = _BY_TAG.get(element.tag)
        if by_tag is not None:
            return by_tag(self, element, width, style)
        return self._children(element, width, style)

    def _style(self, points: float, color: str | None = None, bold: bool = False) -> Style:
        made = Style(points * self._scale, bold=bold)
        return made if color is None else replace(made, color=color)

    def _children(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        """Elements below each other; words between them are a paragraph."""
        found: list[SheetBlock] = []
        loose: list[Run] = []

        def words() -> None:
            block = paragraph(loose, width, after=GAP)
            if block.height:
                found.append(block)
            loose.clear()

        for child in element.children:
            if isinstance(child, Element) and child.tag not in _INLINE:
                words()
                found.extend(self.blocks(child, width, style))
            else:
                whole = child if isinstance(child, Element) else Element("span", {}, [child])
                loose.extend(runs_of(whole, style))
        words()
        return found

    def _keep(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        return [stacked(self._children(element, width, style))]

    def _heading(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        runs = list(runs_of(element, self._style(SIZES[element.tag], bold=True)))
        text = paragraph(runs, width)
        above = 2.6 * self._scale if element.tag != "h1" else 2.2 * self._scale
        marks = moved(text.marks, 0, above)
        height = above + text.height + 0.8
        if element.tag == "h2":
            marks.append(Box(0, height - 0.5, width, 0.15, fill=LINES))
            height += 0.6
        return [SheetBlock(height, marks, with_next=True)]

    def _paragraph(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        points = next((SIZES[name] for name in SIZES if name in element.classes), None)
        if points is not None:
            is_soft = element.classes & {"facts", "notice", "sources"}
            style = self._style(points, SOFT if is_soft else None, bold="grade" in element.classes)
        runs: list[Run] = []
        if "facts" in element.classes:
            for n, fact in enumerate(element.elements):
                runs += [*([Run(" · ", style)] if n else []), *runs_of(fact, style)]
        else:
            runs = list(runs_of(element, style))
        block = paragraph(runs, width, after=GAP)
        if "notice" in element.classes and block.height:
            marks = [Box(0, 1.2, width, 0.15, fill=LINES), *moved(block.marks, 0, 2.0)]
            block = SheetBlock(block.height + 2.0, marks)
        return [block] if block.height else []

    def _band(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        color = next((STATE_COLORS[name] for name in STATE_COLORS if name in element.classes), STATE_COLOR)
        words = self._style(SIZES["band"], "#ffffff")
        state = list(runs_of(next(element.find("b")), replace(words, bold=True)))
        maker = list(runs_of(next(element.find("span")), replace(words, points=words.points * 0.85)))
        left, right = paragraph(state, width / 2 - 3), paragraph(maker, width / 2 - 3, align="right")
        height = max(left.height, right.height) + 2.4
        marks = [Box(0, 0, width, height, fill=color), *moved(left.marks, 3, 1.2)]
        return [SheetBlock(height + 0.5, [*marks, *moved(right.marks, width / 2, 1.4)])]

    def _hero(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        inside = width - 12
        is_no = "no" in element.classes
        if is_no:
            grade, *rest = element.elements
            head = paragraph(list(runs_of(grade, self._style(SIZES["no-grade"], LEVEL_COLORS["bad"], True))), inside)
            body = stacked([head, *(b for one in rest for b in self.blocks(one, inside, style))])
        else:
            left, right = element.elements
            score = stacked(
                [paragraph(list(runs_of(child, self._score_style(child))), inside) for child in left.elements]
            )
            wide = max(_right_end(score.marks), 34.0)
            body = side_by_side([(score, wide), (stacked(self.blocks(right, inside - wide - 7, style)), 0.0)], 7.0)
        height = body.height + 4
        color = LEVEL_COLORS["bad"] if is_no else LEVEL_COLORS["limited"] if "must" in element.classes else ACCENT
        marks = [
            Box(0, 0, width, height, fill=WASHES["bad"] if is_no else "", line=LINES),
            Box(0, 0, 1.6, height, fill=color),
        ]
        return [SheetBlock(height + 1.2, [*marks, *moved(body.marks, 6, 2)])]

    def _score_style(self, child: Element) -> Style:
        if child.tag == "b":
            return self._style(SIZES["total"], bold=True)
        return self._style(SIZES["score"], SOFT)

    def _ruler(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        (svg,) = element.elements
        wide = min(width, 120.0)
        return [SheetBlock(wide * aspect(svg) + 1, [Drawing(0, 0.5, wide, wide * aspect(svg), svg)])]

    def _lights(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        cells = []
        each = (width - 5 * 1.4) / 6
        for light in element.elements:
            level = next(level for level in LEVEL_COLORS if level in light.classes)
            name, words = light.elements
            text = stacked(
                [
                    paragraph(list(runs_of(name, self._style(SIZES["lights"], LEVEL_COLORS[level]))), each - 3),
                    paragraph(list(runs_of(words, self._style(SIZES["lights"]))), each - 3),
                ]
            )
            cells.append((text, level))
        height = max(text.height for text, _ in cells) + 2
        marks: list[Mark] = []
        for n, (text, level) in enumerate(cells):
            x = n * (each + 1.4)
            marks.append(Box(x, 1, each, height, fill=WASHES[level], line=LEVEL_COLORS[level]))
            marks += moved(text.marks, x + 1.5, 2)
        return [SheetBlock(height + 1.6, marks)]

    def _first(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        """An undecided lesion: three pictures and what is known of it."""
        found = []
        picture = 29.0 if "crowded" in element.classes else 38.0
        for article in element.elements:
            *figures, say = article.elements
            words = width - 3 * (picture + 2) - 4
            small = self._style(SIZES["say"])
            body = stacked([b for child in say.elements for b in self.blocks(child, words, small)])
            columns = [(stacked(self.blocks(figure, picture, style)), picture) for figure in figures]
            block = side_by_side([*columns, (body, words)], 2.0)
            line = Box(3 * (picture + 2), 0, 0.8, block.height, fill=LEVEL_COLORS["limited"])
            shifted = [*side_by_side(columns, 2.0).marks, line, *moved(body.marks, 3 * (picture + 2) + 3, 0)]
            found.append(SheetBlock(block.height + 2, shifted))
        return found

    def _where(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        table, figure = element.elements
        wide = 40.0 if "narrow" in element.classes else 74.0 if "wide" in element.classes else 60.0
        left = stacked(self.blocks(table, width - wide - 5, style))
        return [side_by_side([(left, width - wide - 5), (stacked(self.blocks(figure, wide, style)), wide)], 5.0)]

    def _columns(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        each = (width - 6) / 2
        return [side_by_side([(stacked(self.blocks(one, each, style)), each) for one in element.elements], 6.0)]

    def _strip(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        return self._grid(element, width, 4, 2.0)

    def _tiles(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        return self._grid(element, width, 7, 1.0)

    def _grid(self, element: Element, width: float, count: int, gap: float) -> list[SheetBlock]:
        each = (width - (count - 1) * gap) / count
        is_small = "tiles" in element.classes
        caption = self._style(SIZES["tiles" if is_small else "figcaption"], SOFT)
        cells = [
            stacked(self._figure_parts(figure, each, caption, align="middle" if is_small else "left"))
            for figure in element.elements
        ]
        rows = [cells[n : n + count] for n in range(0, len(cells), count)]
        return [
            replace(row, height=row.height + gap)
            for row in (side_by_side([(cell, each) for cell in cells], gap) for cells in rows)
        ]

    def _figure(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        wide = min(width, 150.0) if "views" in element.classes else width
        parts = self._figure_parts(element, wide, self._style(SIZES["figcaption"], SOFT))
        return [stacked(parts)]

    def _figure_parts(self, figure: Element, width: float, caption: Style, *, align: str = "left") -> list[SheetBlock]:
        parts = []
        for child in figure.elements:
            if child.tag == "svg":
                height = width * aspect(child)
                ground = "#ffffff" if "chart" in figure.classes else "#000000"
                box = Box(0, 0, width, height, fill=ground)
                parts.append(SheetBlock(height + 0.8, [box, Drawing(0, 0, width, height, child)]))
            elif child.tag == "figcaption":
                parts.append(paragraph(list(runs_of(child, caption)), width, align=align, after=0.6))
            else:
                parts += self.blocks(child, width)
        return parts

    def _ticks(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        small = self._style(SIZES["ticks"])
        runs: list[Run] = []
        for n, item in enumerate(element.elements):
            runs += [*([Run("   ", small), Run(" ", small)] if n else []), Run(TICK, small)]
            runs += [replace(run, words=run.words.replace(" ", "\N{NO-BREAK SPACE}")) for run in runs_of(item, small)]
        return [paragraph(runs, width, after=GAP)]

    def _signature_line(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        names = element.elements
        each = (width - 4 * (len(names) - 1)) / len(names)
        marks: list[Mark] = []
        for n, name in enumerate(names):
            x = n * (each + 4)
            marks.append(Box(x, 7, each, 0.2, fill="#16202a"))
            marks += moved(paragraph(list(runs_of(name, self._style(SIZES["line"], SOFT))), each).marks, x, 7.4)
        return [SheetBlock(11, marks)]

    def _warnings(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        small = self._style(SIZES["warnings"])
        found = []
        for item in element.elements:
            badge, text = item.elements
            columns = [
                (paragraph(list(runs_of(badge, small)), 30.0), 32.0),
                (paragraph(list(runs_of(text, small)), width - 34.0), width - 34.0),
            ]
            row = side_by_side(columns, 2.0)
            found.append(replace(row, height=row.height + 0.8))
        return found

    def _spread(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        small = self._style(SIZES["spread"])
        runs: list[Run] = []
        for n, pair in enumerate(element.elements):
            name, value = pair.elements
            runs += [*([Run(" · ", small)] if n else []), *runs_of(name, replace(small, color=SOFT)), Run(": ", small)]
            runs += runs_of(value, replace(small, bold=True))
        return [paragraph(runs, width, after=GAP)]

    def _table(self, element: Element, width: float, style: Style) -> list[SheetBlock]:
        return table_blocks(element, width, self._scale)


_Set = Callable[[Typesetter, Element, float, Style], list[SheetBlock]]
_BY_CLASS: Mapping[str, _Set] = {
    "band": Typesetter._band, "hero": Typesetter._hero, "ruler": Typesetter._ruler, "lights": Typesetter._lights,
    "first": Typesetter._first, "where": Typesetter._where, "cards": Typesetter._columns, "two": Typesetter._columns,
    "strip": Typesetter._strip, "tiles": Typesetter._tiles, "ticks": Typesetter._ticks,
    "line": Typesetter._signature_line, "warnings": Typesetter._warnings, "spread": Typesetter._spread,
    "keep": Typesetter._keep,
}  # fmt: skip
_BY_TAG: Mapping[str, _Set] = {
    "h1": Typesetter._heading, "h2": Typesetter._heading, "h3": Typesetter._heading, "p": Typesetter._paragraph,
    "figure": Typesetter._figure, "table": Typesetter._table,
}  # fmt: skip
_INLINE = frozenset({"b", "small", "span", "i", "em", "strong", "br", "a"})


def side_by_side(columns: Sequence[tuple[SheetBlock, float]], gap: float) -> SheetBlock:
    """Blocks beside each other, each with its width; the height is that of the highest."""
    marks: list[Mark] = []
    x = 0.0
    for block, width in columns:
        marks += moved(block.marks, x, 0)
        x += width + gap
    return SheetBlock(max(block.height for block, _ in columns), marks)


def _right_end(marks: Sequence[Mark]) -> float:
    return max((m.x + width_mm(m.words, m.points, m.bold) for m in marks if isinstance(m, Letters)), default=0.0)
