"""Words in lines: what stands in a paragraph or a cell of report.html, broken to a width."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from heartlens.report.sheet.marks import ACCENT, INK, MM_PER_POINT, SOFT, Box, Letters, Mark, composed, moved, width_mm
from heartlens.report.sheet.tree import Element

LEADING = 1.32
"""Distance of base lines in sizes of the letters."""

ASCENT = 0.98
"""From the top of a line to its base line."""

SMALLER = 0.91

LEVEL_COLORS = {"bad": "#a3162b", "limited": "#8a4b00", "note": "#3d5166", "good": "#1d5a2c"}
"""Of lights and badges, as in report.css."""

TICK = "☐ "
"""Before what a reader ticks; report.css puts it there on the page."""


@dataclass(frozen=True)
class Style:
    """How words look, where nothing inside says otherwise.

    Parameters
    ----------
    points
        Size.
    color
        Hexadecimal.
    bold
        Weight.
    """

    points: float
    color: str = INK
    bold: bool = False


@dataclass(frozen=True)
class Run:
    """Words of one look; `swatch` is a small square of a color in their place, `breaks` ends the line."""

    words: str
    style: Style
    swatch: str = ""
    breaks: bool = False


@dataclass(frozen=True)
class SheetBlock:
    """Something that stands on one page.

    Parameters
    ----------
    height
        mm
    marks
        From its own upper left corner.
    with_next
        It may not be the last on a page.
    head
        What is repeated above it where it begins a page: the head of its table.
    """

    height: float
    marks: Sequence[Mark] = ()
    with_next: bool = False
    head: SheetBlock | None = field(default=None, repr=False)


def stacked(blocks: Sequence[SheetBlock]) -> SheetBlock:
    """Blocks below each other as one that is not broken."""
    marks: list[Mark] = []
    y = 0.0
    for block in blocks:
        marks += moved(block.marks, 0, y)
        y += block.height
    return SheetBlock(y, marks)


def runs_of(element: Element, style: Style) -> Iterator[Run]:
    """The words of an element, each with its look.

    Yields
    ------
    Run
        Words of one look, in the order in which they are read.
    """
    if element.tag == "svg":
        return
    if "sw" in element.classes:
        yield Run("", style, swatch=element.attributes["style"].partition(":")[2].strip().rstrip(";"))
        return
    if element.tag == "br":
        yield Run("", style, breaks=True)
        return
    inner = _inside(element, style)
    if "tick" in element.classes:
        yield Run(TICK, inner)
    for child in element.children:
        if isinstance(child, str):
            yield Run(re.sub(r"\s+", " ", composed(child)), inner)
        else:
            yield from runs_of(child, inner)


def _inside(element: Element, style: Style) -> Style:
    if element.tag in ("b", "th") or "here" in element.classes:
        style = replace(style, bold=True)
    if element.tag == "small":
        style = replace(style, points=style.points * SMALLER, color=SOFT, bold=False)
    if "here" in element.classes:
        style = replace(style, color=ACCENT)
    if "badge" in element.classes:
        level = next((level for level in LEVEL_COLORS if level in element.classes), "note")
        style = replace(style, color=LEVEL_COLORS[level], bold=True)
    return style


@dataclass(frozen=True)
class _Word:
    words: str
    style: Style
    width: float
    space: float
    """Before it, where it does not begin a line."""
    swatch: str = ""


def _words(runs: Sequence[Run]) -> Iterator[_Word | None]:
    """Words and swatches; None where a line ends by order."""
    is_spaced = False
    for run in runs:
        if run.breaks:
            yield None
            continue
        space = width_mm(" ", run.style.points, run.style.bold)
        if run.swatch:
            size = 0.85 * run.style.points * MM_PER_POINT
            yield _Word("", run.style, size + 0.6 * size, space if is_spaced else 0.0, run.swatch)
            is_spaced = False
            continue
        for part in re.findall(r" |[^ ]+", run.words):
            if part == " ":
                is_spaced = True
                continue
            width = width_mm(part, run.style.points, run.style.bold)
            yield _Word(part, run.style, width, space if is_spaced else 0.0)
            is_spaced = False


def _fitting(word: _Word, width: float) -> Iterator[_Word]:
    """A word in as many pieces as it needs: checksums are longer than a line."""
    if word.width <= width or word.swatch:
        yield word
        return
    piece, space = "", word.space
    for letter in word.words:
        longer = piece + letter
        if piece and width_mm(longer, word.style.points, word.style.bold) > width:
            yield replace(word, words=piece, width=width_mm(piece, word.style.points, word.style.bold), space=space)
            piece, space = letter, 0.0
        else:
            piece = longer
    yield replace(word, words=piece, width=width_mm(piece, word.style.points, word.style.bold), space=space)


def _lines(runs: Sequence[Run], width: float) -> list[list[_Word]]:
    """Words that follow each other without a space stay on one line, as a number and its full stop do."""
    lines: list[list[_Word]] = [[]]
    used = 0.0
    group: list[_Word] = []

    def place() -> None:
        nonlocal used
        if not group:
            return
        needed = sum(word.width + word.space for word in group)
        if lines[-1] and used + needed > width + 1e-6:
            lines.append([])
            used = 0.0
        for word in group:
            for piece in _fitting(word, width):
                if lines[-1] and used + piece.space + piece.width > width + 1e-6:
                    lines.append([])
                    used = 0.0
                at_start = not lines[-1]
                lines[-1].append(replace(piece, space=0.0) if at_start else piece)
                used += piece.width + (0.0 if at_start else piece.space)
        group.clear()

    for found in _words(runs):
        if found is None:
            place()
            lines.append([])
            used = 0.0
            continue
        if found.space:
            place()
        group.append(found)
    place()
    return [line for line in lines if line]


def paragraph(runs: Sequence[Run], width: float, *, align: str = "left", after: float = 0.0) -> SheetBlock:
    """Runs broken to a width.

    Parameters
    ----------
    runs
        Of one paragraph.
    width
        mm
    align
        "left", "right" or "middle"
    after
        Space below, mm
    """
    marks: list[Mark] = []
    y = 0.0
    for line in _lines(runs, width):
        points = max(word.style.points for word in line)
        base = y + ASCENT * points * MM_PER_POINT
        used = sum(word.width + word.space for word in line)
        x = {"left": 0.0, "right": width - used, "middle": (width - used) / 2}[align]
        for word in line:
            x += word.space
            style = word.style
            if word.swatch:
                size = 0.85 * style.points * MM_PER_POINT
                marks.append(Box(x, base - size, size, size, fill=word.swatch, line=INK))
            else:
                marks.append(Letters(x, base, word.words, style.points, style.color, style.bold))
            x += word.width
        y += LEADING * points * MM_PER_POINT
    return SheetBlock(y + after if marks else 0.0, _joined(marks))


def _joined(marks: Sequence[Mark]) -> list[Mark]:
    """Words of one look that follow each other on a line as one mark, so that a search in the PDF finds sentences."""
    joined: list[Mark] = []
    for mark in marks:
        last = joined[-1] if joined else None
        if isinstance(mark, Letters) and isinstance(last, Letters):
            looks = (last.y, last.points, last.color, last.bold) == (mark.y, mark.points, mark.color, mark.bold)
            gap = mark.x - last.x - width_mm(last.words, last.points, last.bold)
            if looks and abs(gap - width_mm(" ", mark.points, mark.bold)) < 0.01:
                joined[-1] = replace(last, words=f"{last.words} {mark.words}")
                continue
        joined.append(mark)
    return joined


def natural_width(runs: Sequence[Run]) -> tuple[float, float]:
    """Width of the longest word, and of all words on one line; mm."""
    words = [word for word in _words(runs) if word is not None]
    # A swatch and a name stay together, and so do words without a space between them.
    longest = part = 0.0
    for word in words:
        part = word.width if word.space else part + word.width
        longest = max(longest, part)
    return longest, sum(word.width + word.space for word in words)
