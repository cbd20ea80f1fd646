"""Sheets as PDF, with words that can be searched; needs reportlab, the extra ``heartlens[pdf]``."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from heartlens import __version__
from heartlens.report.sheet.marks import MM_PER_POINT, PAGE_MM, Box, Drawing, Letters, font_bytes
from heartlens.report.sheet.pages import Sheet
from heartlens.report.sheet.pictures import draw_picture

PICTURE_PIXELS_PER_MM = 8.0
"""About 200 dots per inch."""

HAIRLINE_MM = 0.15
FONTS = {False: "HeartLensSans", True: "HeartLensSans-Bold"}
TITLE = "Coronary calcium report"


def sheets_pdf(sheets: Sequence[Sheet]) -> bytes:
    """A PDF of sheets; the same sheets give the same bytes.

    Parameters
    ----------
    sheets
        At least one.

    Raises
    ------
    ModuleNotFoundError
        reportlab is not installed.
    """
    from PIL import Image
    from reportlab.lib.colors import HexColor
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    for bold, name in FONTS.items():
        pdfmetrics.registerFont(TTFont(name, BytesIO(font_bytes(bold))))
    file = BytesIO()
    per_mm = 1 / MM_PER_POINT
    canvas = Canvas(
        file, pagesize=tuple(side * per_mm for side in PAGE_MM), pageCompression=1, invariant=1,
        lang=sheets[0].language,
    )  # fmt: skip
    canvas.setTitle(TITLE)
    canvas.setAuthor(f"HeartLens {__version__}")
    canvas.setSubject("Research software, not a medical device")
    canvas.setLineWidth(HAIRLINE_MM * per_mm)
    for sheet in sheets:
        for mark in sheet.marks:
            x, top = mark.x * per_mm, (PAGE_MM[1] - mark.y) * per_mm  # PDF counts from the lower edge
            if isinstance(mark, Letters):
                canvas.setFont(FONTS[mark.bold], mark.points)
                canvas.setFillColor(HexColor(mark.color))
                canvas.drawString(x, top, mark.words)
                continue
            width, height = mark.width * per_mm, mark.height * per_mm
            if isinstance(mark, Box):
                if mark.fill:
                    canvas.setFillColor(HexColor(mark.fill))
                if mark.line:
                    canvas.setStrokeColor(HexColor(mark.line))
                canvas.rect(x, top - height, width, height, stroke=int(bool(mark.line)), fill=int(bool(mark.fill)))
            elif isinstance(mark, Drawing):
                pixels = draw_picture(mark.svg, round(mark.width * PICTURE_PIXELS_PER_MM), PICTURE_PIXELS_PER_MM)
                canvas.drawImage(ImageReader(Image.fromarray(pixels)), x, top - height, width, height)
        canvas.showPage()
    canvas.save()
    return file.getvalue()
