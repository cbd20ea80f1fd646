"""The page on paper: where words and pictures come to lie, as pixels and in a PDF that another program reads."""

from __future__ import annotations

import base64

import numpy as np
import pypdfium2
import pytest
from report_cases import BOXES, make_case

from heartlens.case.signature import Signature
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.report.figures import png
from heartlens.report.html import render_report
from heartlens.report.sheet.marks import PAGE_MM, Box, Drawing, Letters, width_mm
from heartlens.report.sheet.pages import MARGIN_MM, sheets_of
from heartlens.report.sheet.pdf import sheets_pdf
from heartlens.report.sheet.pictures import draw_picture
from heartlens.report.sheet.pixels import sheet_pixels
from heartlens.report.sheet.text import Run, Style, paragraph
from heartlens.report.sheet.tree import read_html

SIGNATURE = Signature("Doe^Jane", "Clinic", "2026-11-29T10:00:00+01:00")
DOUBT = {n: LesionNote(0.5, LabelSource.NETWORK, undecided=True) for n in (1, 4)}
UNDECIDED = make_case(BOXES, notes=DOUBT, labels=LabelSource.NETWORK)
ZERO = make_case(())
MANY = make_case([(Artery.LAD, k, 2 + 6 * j, 2 + 6 * i, 4, 300) for k in range(14) for j in range(5) for i in range(2)])
RIGHT_MM, BOTTOM_MM = PAGE_MM[0] - MARGIN_MM[0], PAGE_MM[1]


@pytest.fixture(scope="module")
def undecided():
    return sheets_of(render_report(UNDECIDED))


def right_end(mark):
    return mark.x + (width_mm(mark.words, mark.points, mark.bold) if isinstance(mark, Letters) else mark.width)


@pytest.mark.parametrize("case", [UNDECIDED, ZERO, MANY], ids=["undecided", "zero", "140 lesions"])
def test_nothing_lies_beyond_the_paper_and_the_first_sheet_decides_alone(case):
    sheets = sheets_of(render_report(case))
    assert [sheet.name for sheet in sheets].count("Result") == 1
    assert list(dict.fromkeys(sheet.name for sheet in sheets)) == ["Result", "Methods", "Pictures"][: len(sheets)]
    for sheet in sheets:
        assert min(mark.x for mark in sheet.marks) >= MARGIN_MM[0] - 1.3  # a mark before a row of a table
        assert max(right_end(mark) for mark in sheet.marks) <= RIGHT_MM + 0.5
        assert max(mark.y for mark in sheet.marks) <= BOTTOM_MM - 8


def test_every_counted_and_every_undecided_lesion_has_its_picture_on_paper():
    def pictures(case):
        sheets = sheets_of(render_report(case))
        names = [m.svg.attributes["aria-label"] for s in sheets for m in s.marks if isinstance(m, Drawing)]
        return {name.split(",")[0] for name in names if name.startswith("Lesion ")}

    assert pictures(UNDECIDED) == {f"Lesion {n}" for n in (1, 2, 3, 4)}
    assert pictures(MANY) == {f"Lesion {n}" for n in range(1, 141)}


def test_each_sheet_says_its_state_and_that_this_is_research():
    for state, sheets in (
        ("DRAFT, read by nobody", sheets_of(render_report(MANY))),
        ("SIGNED by Jane Doe, Clinic", sheets_of(render_report(MANY, signature=SIGNATURE))),
    ):
        assert len(sheets) > 4
        for sheet in sheets:
            words = " ".join(mark.words for mark in sheet.marks if isinstance(mark, Letters))
            assert state in words
            assert "research software, not a medical device" in words


def test_a_head_stands_above_the_rows_of_each_page_that_a_table_reaches():
    pages = [[words_of(mark) for mark in sheet.marks] for sheet in sheets_of(render_report(MANY))]
    with_head = [n for n, words in enumerate(pages) if "Peak HU" in words]
    with_rows = [n for n, words in enumerate(pages) if words.count("300") > 2]  # peak and mean of each lesion
    assert with_head == with_rows
    assert len(with_rows) >= 2


def words_of(mark):
    return mark.words if isinstance(mark, Letters) else ""


def test_pdf_is_searchable_and_its_pages_are_the_sheets(undecided):
    pdf = pypdfium2.PdfDocument(sheets_pdf(undecided))
    texts = [" ".join(page.get_textpage().get_text_bounded().split()) for page in pdf]
    assert len(texts) == len(undecided) == 3
    for words in (
        "DRAFT, read by nobody", "17 to 103", "Mild or moderate: a reader must decide", "Lesion 1 · slice 6 of 14",
        "67, or 17 if lesion 1 is not, or 103 if lesion 4 is, too.",
    ):  # fmt: skip
        assert words in texts[0]
    assert "Volume and mass of the voxels that Agatston counts" in texts[1]
    assert [round(side) for side in pdf[0].get_size()] == [595, 842]  # A4 in points


def test_the_same_sheets_are_the_same_bytes(undecided):
    assert sheets_pdf(undecided) == sheets_pdf(undecided)


def test_pixels_and_pdf_show_the_same(undecided):
    """Two programs draw: ours, and PDFium what reportlab wrote; they differ at the edges of letters alone."""
    mine = sheet_pixels(undecided[0], 620).astype(int)
    page = pypdfium2.PdfDocument(sheets_pdf(undecided))[0]
    theirs = page.render(scale=620 / page.get_width()).to_numpy()[: len(mine), :620, :3][..., ::-1].astype(int)
    assert mine.shape == (877, 620, 3)
    assert abs(mine[: len(theirs)] - theirs).mean() < 6
    assert abs(mine[: len(theirs)].mean() - theirs.mean()) < 2


def test_the_band_has_the_color_of_its_state():
    def band(page):
        return sheet_pixels(sheets_of(page)[0], 420)[22, 200].tolist()

    assert band(render_report(ZERO)) == [0x8A, 0x4B, 0x00]
    assert band(render_report(ZERO, signature=SIGNATURE)) == [0x1D, 0x5A, 0x2C]


def picture(inside, width=4, height=2):
    return next(read_html(f'<svg viewBox="0 0 {width} {height}">{inside}</svg>').find("svg"))


def test_a_picture_is_its_gray_values_with_paths_in_their_colors():
    gray = base64.b64encode(png(np.array([[0, 255], [255, 0]], np.uint8))).decode()
    svg = picture(
        f'<image width="4" height="2" href="data:image/png;base64,{gray}"/>'
        '<g class="paths" transform="scale(2 1)"><path class="fill" fill="#d55e00" d="M1 0h1v1h-1z"/></g>'
    )
    drawn = draw_picture(svg, 40, 1.0)
    assert drawn.shape == (20, 40, 3)
    assert drawn[5, 5].max() < 60  # black, upper left
    assert drawn[15, 5].min() > 195
    assert drawn[5, 30].tolist() == [0xD5, 0x5E, 0x00]
    assert drawn[15, 35].max() < 60


def test_a_line_of_an_artery_has_its_color_and_the_width_of_the_paper():
    svg = picture('<g class="paths" transform="scale(1 1)"><path stroke="#009e73" d="M1 1h2"/></g>')
    drawn = draw_picture(svg, 400, 400 / 40, ground="#ffffff")  # 40 mm on paper, 1.3 px of CSS are 0.34 mm
    column = np.flatnonzero((drawn[:, 200] == (0x00, 0x9E, 0x73)).all(axis=1))
    assert 3 <= len(column) <= 4
    assert abs(column.mean() - 99.5) <= 1


def test_what_cannot_be_drawn_is_not_left_out_in_silence():
    with pytest.raises(ValueError, match="no way to draw <polygon>"):
        draw_picture(picture('<polygon points="0,0 1,1"/>'), 40, 1.0)


def test_words_break_between_words_and_checksums_where_they_must():
    style = Style(10.0)
    narrow = paragraph([Run("Agatston score", style)], width_mm("Agatston s", 10.0))
    assert [mark.words for mark in narrow.marks] == ["Agatston", "score"]
    long = paragraph([Run("0123456789" * 4, style)], width_mm("0" * 15, 10.0))
    assert "".join(mark.words for mark in long.marks) == "0123456789" * 4
    assert len({mark.y for mark in long.marks}) == 3
    whole = paragraph([Run("image ", style), Run("17", Style(10.0, bold=True)), Run(".", style)], 100.0)
    assert whole.marks[-1].x == pytest.approx(right_end(whole.marks[-2]))


def test_a_box_may_be_a_line_thinner_than_a_pixel(undecided):
    thin = [mark for mark in undecided[0].marks if isinstance(mark, Box) and 0 < mark.height < 0.2]
    pixels = sheet_pixels(undecided[0], 420)
    rows = [round(mark.y * 2) for mark in thin]
    assert rows
    assert all(pixels[row - 1 : row + 2].min() < 255 for row in rows)
