"""The report's pictures: the right voxels, in the right place, at the right size."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import ARTERY_COLORS, Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.report.crops import CROP_MM, calcium_gray, lesion_picture, locator_picture
from heartlens.report.figures import (
    PICTURE_WINDOW_HU,
    ScoredVoxels,
    axial_projection,
    fill_path,
    front_projection,
    outline_path,
    png,
    to_gray,
    view_of,
)
from heartlens.report.ruler import scale_ruler
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.counted import scored_voxels
from heartlens.scoring.report import score_lesions

SPACING = (3.0, 0.5, 0.5)


def read_png(data):
    """A plain reader of 8-bit grayscale PNG with filter 2, to judge the writer."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        parts[name] = body
        at += 12 + length
    columns, rows, depth, color, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert (depth, color, list(parts)) == (8, 0, [b"IHDR", b"IDAT", b"IEND"])
    raw = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert (raw[:, 0] == 2).all()
    return np.cumsum(raw[:, 1:], axis=0, dtype=np.uint8)


def image_of(svg):
    return read_png(base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1]))


def scene(lesions, shape=(40, 300, 320)):
    """A CT of 0 HU with boxes of calcium: {id: (artery, corner (k, j, i), size, HU)}."""
    hu = np.zeros(shape, np.int16)
    labels = np.zeros(shape, np.uint16)
    for number, (_, corner, size, value) in lesions.items():
        box = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
        hu[box] = value
        labels[box] = number
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])
    ct = CTVolume(hu, affine)
    lesion_map = LesionMap(labels, {number: artery for number, (artery, *_) in lesions.items()})
    report = score_lesions(ct, lesion_map, ScoringProtocol())
    codes = scored_voxels(ct, lesion_map, ScoringProtocol())
    return ct, ScoredVoxels.of(lesion_map, codes), {row.id: row for row in report.lesions}, report


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_png_gives_back_every_pixel(gray):
    assert np.array_equal(read_png(png(gray)), gray)


def test_gray_is_black_and_white_at_the_edges_of_the_window():
    low, high = PICTURE_WINDOW_HU
    assert to_gray(np.array([low - 1, low, (low + high) / 2, high, 3000])).tolist() == [0, 0, 128, 255, 255]


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)))
def test_fill_covers_exactly_the_mask(mask):
    drawn = np.zeros_like(mask)
    for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", fill_path(mask)):
        drawn[int(row), int(column) : int(column) + int(length)] = True
    assert np.array_equal(drawn, mask)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)))
def test_outline_is_as_long_as_the_border_of_the_mask(mask):
    padded = np.pad(mask, 1).astype(int)
    border = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    assert sum(int(n) for n in re.findall(r"[hv](\d+)", outline_path(mask))) == border


def test_scored_voxels_leave_out_what_does_not_count():
    _, voxels, _, _ = scene(
        {1: (Artery.LAD, (5, 100, 100), (1, 4, 4), 300), 2: (Artery.RCA, (5, 10, 10), (1, 1, 1), 300)}
    )
    assert set(voxels.ids.tolist()) == {1}
    assert len(voxels.kji) == 16
    assert set(voxels.artery.tolist()) == {Artery.LAD}


def test_a_lesion_is_shown_on_its_largest_slice_in_the_middle_of_a_crop():
    lesions = {1: (Artery.LAD, (6, 150, 160), (1, 8, 8), 400), 2: (Artery.LAD, (5, 150, 160), (1, 4, 4), 400)}
    ct, voxels, rows, _ = scene(lesions)
    # one lesion over two slices
    voxels = ScoredVoxels(voxels.kji, np.ones_like(voxels.ids), voxels.artery)
    picture, index = lesion_picture(ct, voxels, rows[1])
    assert index == 6
    assert (picture.width_mm, picture.height_mm) == (CROP_MM, CROP_MM)
    gray = image_of(picture.svg)
    assert gray.shape == (100, 100)
    bright = np.argwhere(gray > calcium_gray(np.array([300.0]), 400.0)[0])
    assert bright.min(axis=0).tolist() == [46, 46]
    assert bright.max(axis=0).tolist() == [53, 53]
    assert f'stroke="{ARTERY_COLORS[Artery.LAD]}" d="M46 46h8M46 54h8M46 46v8M54 46v8"' in picture.svg


def test_a_lesion_at_the_border_gets_a_full_crop_moved_inside():
    ct, voxels, rows, _ = scene({1: (Artery.LM, (0, 0, 312), (1, 4, 8), 300)})
    gray = image_of(lesion_picture(ct, voxels, rows[1])[0].svg)
    assert gray.shape == (100, 100)
    assert (gray[:4, 92:] == 255).all()


def test_an_image_smaller_than_the_crop_is_shown_whole():
    ct, voxels, rows, _ = scene({1: (Artery.LM, (1, 5, 5), (1, 4, 4), 300)}, shape=(3, 20, 30))
    picture, _ = lesion_picture(ct, voxels, rows[1])
    assert image_of(picture.svg).shape == (20, 30)
    assert (picture.width_mm, picture.height_mm) == (15.0, 10.0)


def test_neighbors_on_the_slice_are_drawn_in_their_own_color():
    ct, voxels, rows, _ = scene(
        {1: (Artery.LAD, (5, 150, 160), (1, 6, 6), 400), 2: (Artery.LCX, (5, 150, 180), (1, 4, 4), 300)}
    )
    svg = lesion_picture(ct, voxels, rows[1])[0].svg
    assert f'class="near" stroke="{ARTERY_COLORS[Artery.LCX]}"' in svg


def test_the_view_holds_all_scored_calcium_and_not_what_is_not_coronary():
    ct, voxels, _, _ = scene(
        {1: (Artery.LAD, (20, 100, 120), (2, 4, 4), 400), 2: (Artery.OTHER, (0, 0, 0), (1, 9, 9), 900)}
    )
    view = view_of(ct, voxels)
    assert view.rows.start <= 100
    assert view.rows.stop >= 104
    assert view.depth == slice(80, 124)  # 10 mm in front of the lesion and behind it


def test_without_calcium_the_middle_of_the_image_is_in_view():
    ct, voxels, _, report = scene({}, shape=(60, 400, 420))
    view = view_of(ct, voxels)
    assert (view.slices, view.rows, view.columns) == (slice(6, 56), slice(50, 350), slice(60, 360))  # 150 mm each
    assert view.depth == slice(140, 261)  # 60 mm and the middle row
    assert image_of(axial_projection(ct, voxels, view).svg).shape == (300, 300)
    assert "bar" not in front_projection(ct, voxels, view, report.slices).svg


def test_the_axial_projection_shows_the_brightest_voxel_and_the_right_letters():
    ct, voxels, _, _ = scene(
        {1: (Artery.LAD, (20, 100, 120), (2, 4, 4), 400), 2: (Artery.UNASSIGNED, (22, 140, 120), (1, 4, 4), 250)}
    )
    view = view_of(ct, voxels)
    svg = axial_projection(ct, voxels, view).svg
    row, column = 100 - view.rows.start, 120 - view.columns.start
    assert (image_of(svg)[row : row + 4, column : column + 4] == to_gray(np.array([400.0]))[0]).all()
    assert f'fill="{ARTERY_COLORS[Artery.LAD]}" d="M{column} {row}h4' in svg
    assert ">LAD</text>" in svg
    assert ">?</text>" in svg


def test_in_the_front_view_the_head_is_on_top_and_bars_stand_at_their_slices():
    ct, voxels, _, report = scene(
        {1: (Artery.RCA, (30, 100, 120), (1, 4, 4), 400), 2: (Artery.LM, (10, 100, 120), (1, 2, 4), 400)}
    )
    view = view_of(ct, voxels)
    svg = front_projection(ct, voxels, view, report.slices).svg
    row = view.slices.stop - 1 - 30
    column = 120 - view.columns.start
    assert (image_of(svg)[row, column : column + 4] == to_gray(np.array([400.0]))[0]).all()
    assert f'fill="{ARTERY_COLORS[Artery.RCA]}" d="M{column} {row}h4' in svg
    bars = re.search(r'class="bar" d="([^"]+)"', svg)[1]
    heights = [float(y) for y in re.findall(r"M0 ([\d.]+)h", bars)]
    lengths = [float(x) for x in re.findall(r"M0 [\d.]+h([\d.]+)", bars)]
    assert heights == pytest.approx([row * 3 + 0.3, (row + 20) * 3 + 0.3])
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.002)  # scores 16 and 8


@pytest.mark.parametrize("scheme", SCHEMES)
@given(score=st.floats(0, 5000))
def test_the_ruler_marks_one_category_of_every_scheme(scheme, score):
    from heartlens.risk.categories import category

    rows = SCHEMES[scheme].categories
    chosen = category(score, scheme)
    svg = scale_ruler(rows, score, score, (chosen,))
    assert svg.count('class="mark"') == 1
    box = 522.0 / len(rows)
    at = float(re.search(r'class="mark" d="M([\d.]+)', svg)[1])
    assert int(at / box) == rows.index(chosen)


def test_the_ruler_spans_a_range_from_end_to_end():
    rows = SCHEMES["heartlens"].categories
    svg = scale_ruler(rows, 53, 150, rows[2:4])
    marks = [float(x) for x in re.findall(r'class="mark" d="M([\d.]+)', svg)]
    (span,) = re.findall(r'class="span" d="M([\d.]+) 8H([\d.]+)"', svg)
    assert [float(x) for x in span] == marks
    box = 522.0 / len(rows)
    assert [int(x / box) for x in marks] == [2, 3]
    assert svg.count('<rect class="chosen"') == 2


def test_a_ruler_of_what_cannot_be_evaluated_marks_nothing():
    svg = scale_ruler(SCHEMES["heartlens"].categories, 0, 0, ())
    assert "mark" not in svg
    assert "chosen" not in svg


def test_the_calcium_of_a_picture_is_not_burnt_out():
    """A plaque of 400 to 1600 HU in the window of the projections is one white spot."""
    ct, voxels, rows, _ = scene({1: (Artery.LAD, (5, 150, 160), (1, 4, 4), 1600)})
    hu = ct.hu.copy()
    hu[5, 150:154, 160:164] = [[400] * 4, [800] * 4, [1200] * 4, [1600] * 4]
    gray = image_of(lesion_picture(CTVolume(hu, ct.affine), voxels, rows[1])[0].svg)
    shades = [int(gray[48 + n, 50]) for n in range(4)]
    assert shades == sorted(set(shades))
    assert shades[-1] == 255
    assert min(np.diff(shades)) > 30


def test_the_bare_picture_hides_nothing_under_lines():
    ct, voxels, rows, _ = scene({1: (Artery.LAD, (5, 150, 160), (1, 4, 4), 400)})
    plain, outlined = (lesion_picture(ct, voxels, rows[1], outlined=o)[0].svg for o in (False, True))
    assert "<path" not in plain
    assert "<path" in outlined
    assert np.array_equal(image_of(plain), image_of(outlined))


def test_the_locator_frames_the_place_of_the_crop_on_the_whole_slice():
    """320 columns are every third of them; the crop of 100 pixels around column 162 begins at 112."""
    ct, voxels, rows, _ = scene({1: (Artery.LAD, (5, 150, 160), (1, 4, 4), 400)})
    picture = locator_picture(ct, voxels, rows[1])
    assert image_of(picture.svg).shape == (100, 107)
    assert f'class="frame" d="M{112 / 3:.1f} {102 / 3:.1f}H{212 / 3:.1f}V{202 / 3:.1f}H{112 / 3:.1f}z"' in picture.svg


def test_what_only_the_volume_threshold_sees_has_a_picture_too():
    ct, voxels, rows, _ = scene({1: (Artery.LAD, (5, 150, 160), (1, 4, 4), 400)})
    none = ScoredVoxels(voxels.kji[:0], voxels.ids[:0], voxels.artery[:0])
    assert lesion_picture(ct, none, rows[1])[1] == 5


def test_every_picture_is_well_formed():
    ct, voxels, rows, report = scene({1: (Artery.LAD, (20, 100, 120), (2, 4, 4), 400)})
    view = view_of(ct, voxels)
    for picture in (
        lesion_picture(ct, voxels, rows[1], with_locator=True)[0],
        locator_picture(ct, voxels, rows[1]),
        axial_projection(ct, voxels, view),
        front_projection(ct, voxels, view, report.slices),
    ):
        root = ElementTree.fromstring(picture.svg)
        assert root.get("role") == "img"
        assert root.get("viewBox").split()[2:] == [f"{picture.width_mm:.3f}", f"{picture.height_mm:.3f}"]
