"""The sheets of report.html: blocks below each other on A4, each section of the page on a new sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heartlens.report.sheet.blocks import Typesetter
from heartlens.report.sheet.marks import LINES, PAGE_MM, SOFT, Box, Letters, Mark, moved, width_mm
from heartlens.report.sheet.text import SheetBlock
from heartlens.report.sheet.tree import Element, read_html

MARGIN_MM = (12.0, 10.0)
"""Left and right, top."""

FOOT_MM = 14.0
FOOT_POINTS = 6.8
FOOT_MARKS = 3
"""Of each sheet the last ones: a line, the words, the number."""

SCALES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Of the first sheet's letters, the largest that lets it be one sheet."""


@dataclass(frozen=True)
class Sheet:
    """One page on paper.

    Parameters
    ----------
    name
        What it shows.
    marks
        In the order in which they are drawn.
    language
        Of its words, as HTML names it.
    """

    name: str
    marks: tuple[Mark, ...]
    language: str = "en"


def sheets_of(page: str) -> tuple[Sheet, ...]:
    """The page of a result on paper.

    Parameters
    ----------
    page
        What `heartlens.report.html.render_report` returns.
    """
    root = read_html(page)
    main, language = next(root.find("main")), next(root.find("html")).attributes.get("lang", "en")
    width, height = PAGE_MM[0] - 2 * MARGIN_MM[0], PAGE_MM[1] - MARGIN_MM[1] - FOOT_MM
    named: list[tuple[str, list[Mark]]] = []
    for n, section in enumerate(main.elements):
        name = section.attributes.get("aria-label", "")
        for scale in SCALES if n == 0 else SCALES[:1]:
            pages = _filled(Typesetter(scale).blocks(section, width), height)
            if len(pages) == 1:
                break
        named += [(name, marks) for marks in pages]
    foot = _foot_words(main)
    return tuple(
        Sheet(name, (*moved(marks, *MARGIN_MM), *_foot(foot, n, len(named))), language)
        for n, (name, marks) in enumerate(named, 1)
    )


def _filled(blocks: Sequence[SheetBlock], height: float) -> list[list[Mark]]:
    """Blocks on as many pages as they need; a heading is never the last on one."""
    pages: list[list[Mark]] = [[]]
    y = 0.0
    for n, block in enumerate(blocks):
        needed = block.height
        for following in blocks[n + 1 :] if block.with_next else ():
            needed += following.height
            if not following.with_next:
                break
        if pages[-1] and y + min(needed, height) > height + 1e-6:
            pages.append([])
            y = 0.0
            if block.head is not None:
                pages[-1] += block.head.marks
                y = block.head.height
        pages[-1] += moved(block.marks, 0, y)
        y += block.height
    return [page for page in pages if page]


def _foot_words(main: Element) -> str:
    """State and maker, in the words of the first sheet's band: each sheet may be seen alone."""
    band = next(main.find("div", "band"))
    return " · ".join(part.text() for part in band.elements)


def _foot(words: str, n: int, count: int) -> list[Mark]:
    y = PAGE_MM[1] - 8.0
    number = f"{n} / {count}"
    right = PAGE_MM[0] - MARGIN_MM[0] - width_mm(number, FOOT_POINTS)
    return [
        Box(MARGIN_MM[0], y - 3.5, PAGE_MM[0] - 2 * MARGIN_MM[0], 0.15, fill=LINES),
        Letters(MARGIN_MM[0], y, words, FOOT_POINTS, SOFT),
        Letters(right, y, number, FOOT_POINTS, SOFT),
    ]
