"""A sheet as pixels, for a picture in the PACS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from heartlens.report.sheet.marks import MM_PER_POINT, PAGE_MM, Box, Drawing, Letters, font_at, width_mm
from heartlens.report.sheet.pages import Sheet
from heartlens.report.sheet.pictures import draw_picture

PAGE_COLUMNS = 1240
"""Across A4, 150 dots per inch: the smallest letters are 14 pixels high."""


def sheet_pixels(sheet: Sheet, columns: int = PAGE_COLUMNS) -> NDArray[np.uint8]:
    """Draw a sheet.

    Parameters
    ----------
    sheet
        To draw.
    columns
        Width in pixels; the height follows from A4.

    Returns
    -------
    NDArray[np.uint8]
        (rows, columns, 3) red, green, blue
    """
    scale = columns / PAGE_MM[0]
    image = Image.new("RGB", (columns, round(PAGE_MM[1] * scale)), "#ffffff")
    draw = ImageDraw.Draw(image)
    for mark in sheet.marks:
        if isinstance(mark, Letters):
            font = font_at(mark.bold, mark.points * MM_PER_POINT * scale)
            x = mark.x
            for letter in mark.words:  # one by one: drawn together, each would be moved to a whole pixel
                draw.text((x * scale, mark.y * scale), letter, fill=mark.color, font=font, anchor="ls")
                x += width_mm(letter, mark.points, mark.bold)
        elif isinstance(mark, Box):
            corner = (mark.x + mark.width) * scale, (mark.y + mark.height) * scale
            start = mark.x * scale, mark.y * scale
            # A line thinner than a pixel is one pixel.
            end = max(corner[0], start[0] + 0.5), max(corner[1], start[1] + 0.5)
            draw.rectangle([start, end], fill=mark.fill or None, outline=mark.line or None)
        elif isinstance(mark, Drawing):
            pixels = draw_picture(mark.svg, max(round(mark.width * scale), 1), scale, _ground(image, mark, scale))
            image.paste(Image.fromarray(pixels), (round(mark.x * scale), round(mark.y * scale)))
    return np.asarray(image)


def _ground(image: Image.Image, mark: Drawing, scale: float) -> str:
    """Color of what a picture is laid on."""
    at = min(round(mark.x * scale), image.width - 1), min(round(mark.y * scale) + 1, image.height - 1)
    red, green, blue = image.getpixel(at)  # type: ignore[misc]
    return f"#{red:02x}{green:02x}{blue:02x}"
