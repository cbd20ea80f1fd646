"""The pictures of report.html as pixels: the few elements of SVG that HeartLens draws, and no others."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from heartlens.report.sheet.marks import ACCENT, INK, LINES, SOFT, font_at
from heartlens.report.sheet.tree import Element

FINER = 2
"""Pictures are drawn so many times larger and reduced, for smooth lines."""

CSS_PIXEL_MM = 25.4 / 96

BOX, MARK = "#e6ebf0", "#ffd23f"


@dataclass(frozen=True)
class _Pen:
    """Color and width of a line; a width of the patient grows with the picture, one of the paper does not."""

    color: str
    width: float
    of_paper: bool = True
    dashed: bool = False


PENS = {
    "halo": _Pen("#000000", 2.4), "near": _Pen("", 1.0, dashed=True), "frame": _Pen(MARK, 1.6),
    "edge": _Pen("#000000", 0.6), "scale": _Pen("#ffffff", 0.8, of_paper=False), "axis": _Pen(INK, 0.4, of_paper=False),
    "grid": _Pen(LINES, 0.3, of_paper=False), "ring": _Pen(MARK, 1.2, of_paper=False),
    "span": _Pen(INK, 2.0, of_paper=False), "": _Pen("", 1.3),
}  # fmt: skip
"""By class, as report.css has them; "" where the element says its own color."""

FILLS = {"bar": ACCENT, "mark": INK, "fill": ""}

TEXTS = {  # size in units of the picture, color, bold, width of its dark edge
    "side": (4.2, "#ffffff", False, 0.45), "name": (5.0, "", True, 0.55), "ringed": (8.0, MARK, True, 0.7),
    "tick": (3.6, SOFT, False, 0.0), "box": (14.0, SOFT, False, 0.0), "chosen": (14.0, "#ffffff", True, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """From units of an element to pixels: x times `sx` plus `dx`."""

    sx: float
    sy: float
    dx: float
    dy: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        return self.sx * x + self.dx, self.sy * y + self.dy

    def inside(self, sx: float, sy: float, dx: float, dy: float) -> _Place:
        return _Place(self.sx * sx, self.sy * sy, self.sx * dx + self.dx, self.sy * dy + self.dy)


def aspect(svg: Element) -> float:
    """Height of a picture as part of its width."""
    _, _, width, height = _view_box(svg)
    return height / width


def draw_picture(svg: Element, width: int, pixels_per_mm: float, ground: str = "#ffffff") -> NDArray[np.uint8]:
    """A picture of the page.

    Parameters
    ----------
    svg
        Made by `heartlens.report.figures` and its like.
    width
        In pixels; the height follows.
    pixels_per_mm
        Of the sheet, which lines that do not grow with the picture are measured on.
    ground
        Color where nothing is drawn.

    Returns
    -------
    NDArray[np.uint8]
        (rows, width, 3)

    Raises
    ------
    ValueError
        An element that this module does not know: nothing of a picture is left out in silence.
    """
    height = max(round(width * aspect(svg)), 1)
    image = Image.new("RGB", (width * FINER, height * FINER), ground)
    _, _, units, _ = _view_box(svg)
    scale = width * FINER / units
    brush = _Brush(image, pixels_per_mm * CSS_PIXEL_MM * FINER)
    brush.draw_all(svg, _Place(scale, scale, 0.0, 0.0))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def _view_box(svg: Element) -> tuple[float, float, float, float]:
    x, y, width, height = (float(n) for n in svg.attributes["viewbox"].split())
    return x, y, width, height


class _Brush:
    def __init__(self, image: Image.Image, paper_pixel: float) -> None:
        self._image, self._paper_pixel = image, paper_pixel
        self._draw = ImageDraw.Draw(image)

    def draw_all(self, parent: Element, place: _Place) -> None:
        for element in parent.elements:
            known = getattr(self, f"_draw_{element.tag}", None)
            if known is None:
                raise ValueError(f"no way to draw <{element.tag}>")
            known(element, place)

    def _draw_g(self, element: Element, place: _Place) -> None:
        transform = element.attributes.get("transform", "scale(1 1)")
        kind, numbers = transform.rstrip(")").split("(")
        a, b = (float(n) for n in numbers.split())
        inner = place.inside(a, b, 0, 0) if kind == "scale" else place.inside(1, 1, a, b)
        self.draw_all(element, inner)

    def _draw_svg(self, element: Element, place: _Place) -> None:
        _, _, width, _ = _view_box(element)
        x, y, size = (float(element.attributes[name]) for name in ("x", "y", "width"))
        self.draw_all(element, place.inside(size / width, size / width, x, y))

    def _draw_image(self, element: Element, place: _Place) -> None:
        data = base64.b64decode(element.attributes["href"].partition(",")[2])
        width, height = (float(element.attributes[name]) for name in ("width", "height"))
        (left, top), (right, bottom) = place.point(0, 0), place.point(width, height)
        size = max(round(right) - round(left), 1), max(round(bottom) - round(top), 1)
        gray = Image.open(BytesIO(data)).resize(size, Image.Resampling.BICUBIC)
        self._image.paste(gray.convert("RGB"), (round(left), round(top)))

    def _draw_rect(self, element: Element, place: _Place) -> None:
        x, y, width, height = (float(element.attributes[name]) for name in ("x", "y", "width", "height"))
        color = ACCENT if "chosen" in element.classes else BOX
        self._draw.rectangle([place.point(x, y), place.point(x + width, y + height)], fill=color)

    def _draw_circle(self, element: Element, place: _Place) -> None:
        x, y, r = (float(element.attributes[name]) for name in ("cx", "cy", "r"))
        pen = self._pen(element)
        box = [place.point(x - r, y - r), place.point(x + r, y + r)]
        self._draw.ellipse(box, outline=pen.color, width=self._width(pen, place))

    def _draw_path(self, element: Element, place: _Place) -> None:
        lines = list(_lines_of(element.attributes["d"]))
        name = next((name for name in FILLS if name in element.classes), None)
        if name is not None:
            color = FILLS[name] or element.attributes["fill"]
            for line in lines:
                corners = [place.point(x, y) for x, y in line]
                self._draw.polygon(corners, fill=color)
            return
        pen = self._pen(element)
        width = self._width(pen, place)
        for line in lines:
            points = [place.point(x, y) for x, y in line]
            for start, end in itertools.pairwise(points):
                self._line(start, end, pen, width)

    def _line(self, start: tuple[float, float], end: tuple[float, float], pen: _Pen, width: int) -> None:
        if not pen.dashed:
            half = (width - 1) / 2  # square ends, so that corners close
            (x0, x1), (y0, y1) = sorted((start[0], end[0])), sorted((start[1], end[1]))
            if x0 == x1 or y0 == y1:
                self._draw.rectangle([x0 - half, y0 - half, x1 + half, y1 + half], fill=pen.color)
            else:
                self._draw.line([start, end], fill=pen.color, width=width)
            return
        length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        dash = 2 * self._paper_pixel
        for at in np.arange(0.0, length, 2 * dash):
            a, b = at / length, min(at + dash, length) / length
            part = [(s + t * (e - s)) for t in (a, b) for s, e in zip(start, end, strict=True)]
            self._draw.line(part, fill=pen.color, width=width)

    def _draw_text(self, element: Element, place: _Place) -> None:
        size, color, bold, edge = next(TEXTS[name] for name in TEXTS if name in element.classes)
        color = color or element.attributes["fill"]
        x, y = place.point(float(element.attributes["x"]), float(element.attributes["y"]))
        anchor = {"middle": "ms", "end": "rs"}.get(element.attributes.get("text-anchor", ""), "ls")
        font = font_at(bold, max(size * place.sx, 1.0))
        stroke = max(round(edge * place.sx), 1) if edge else 0
        self._draw.text(
            (x, y), element.text(), fill=color, font=font, anchor=anchor, stroke_width=stroke, stroke_fill="#000000"
        )

    def _pen(self, element: Element) -> _Pen:
        pen = next(PENS[name] for name in PENS if name in element.classes or not name)
        return replace(pen, color=pen.color or element.attributes["stroke"])

    def _width(self, pen: _Pen, place: _Place) -> int:
        return max(round(pen.width * (self._paper_pixel if pen.of_paper else place.sx)), 1)


_STEP = re.compile(r"([MHVhvlz])\s*(-?[\d.]+)?[ ,]?(-?[\d.]+)?")


def _lines_of(d: str) -> Iterator[list[tuple[float, float]]]:
    """Points of each line of a path; upper-case letters are places, lower-case ones steps."""
    line: list[tuple[float, float]] = []
    x = y = 0.0
    for letter, first, second in _STEP.findall(d):
        if letter == "M":
            if len(line) > 1:
                yield line
            x, y = float(first), float(second)
            line = []
        elif letter == "z":
            x, y = line[0]
        elif letter == "l":
            x, y = x + float(first), y + float(second)
        elif letter in "Hh":
            x = float(first) + (x if letter == "h" else 0.0)
        else:
            y = float(first) + (y if letter == "v" else 0.0)
        line.append((x, y))
    if len(line) > 1:
        yield line
