"""What can be drawn on a sheet: letters, boxes and pictures, in mm from the upper left corner."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from io import BytesIO

from PIL import ImageFont

from heartlens.report.sheet.tree import Element

PAGE_MM = (210.0, 297.0)
"""A4."""

MM_PER_POINT = 25.4 / 72

INK, SOFT, LINES, ACCENT = "#16202a", "#52606d", "#d5dce3", "#0f4c75"
"""Colors of the page on white paper, as in report.css."""

_FONTS = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
_UNITS = 1000
"""Size at which widths are measured; they grow with the size."""


@dataclass(frozen=True)
class Letters:
    """Words on one line.

    Parameters
    ----------
    x, y
        Left end of the base line, mm
    words
        To draw.
    points
        Size.
    color
        Hexadecimal.
    bold
        Weight.
    """

    x: float
    y: float
    words: str
    points: float
    color: str = INK
    bold: bool = False


@dataclass(frozen=True)
class Box:
    """A rectangle, filled, outlined or both; a line is a thin one.

    Parameters
    ----------
    x, y, width, height
        mm
    fill, line
        Hexadecimal; "" for none.
    """

    x: float
    y: float
    width: float
    height: float
    fill: str = ""
    line: str = ""


@dataclass(frozen=True)
class Drawing:
    """A picture of the page, drawn where the sheet is.

    Parameters
    ----------
    x, y, width, height
        mm
    svg
        As it stands in report.html.
    """

    x: float
    y: float
    width: float
    height: float
    svg: Element


Mark = Letters | Box | Drawing


def moved(marks: Iterable[Mark], dx: float, dy: float) -> list[Mark]:
    """Marks at another place."""
    return [replace(mark, x=mark.x + dx, y=mark.y + dy) for mark in marks]


@cache
def font_bytes(bold: bool) -> bytes:
    """DejaVu Sans without the letters that HeartLens has no use for: Latin, Greek, Cyrillic and some signs."""
    return (files("heartlens.report.sheet") / "fonts" / _FONTS[bold]).read_bytes()


@cache
def font_at(bold: bool, pixels: float) -> ImageFont.FreeTypeFont:
    """The font at a size."""
    return ImageFont.truetype(BytesIO(font_bytes(bold)), pixels, layout_engine=ImageFont.Layout.BASIC)


@cache
def _advance(letter: str, bold: bool) -> float:
    return font_at(bold, _UNITS).getlength(letter) / _UNITS


def width_mm(words: str, points: float, bold: bool = False) -> float:
    """How wide words are."""
    return sum(_advance(letter, bold) for letter in words) * points * MM_PER_POINT


def composed(words: str) -> str:
    """Words with each letter and its accents as one sign, because the font has no loose accents."""
    return unicodedata.normalize("NFC", words)
