"""Plots say the numbers that they were given, for every size of input, and always draw the same bytes."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from training.evaluation import plots as figures
from training.evaluation.results import Estimate, SizeBin
from training.metrics.classification import reliability

SIZES = (SizeBin(0, 10, 4, 1, 2), SizeBin(10, 30, 0, 0, 0), SizeBin(300, None, 1200, 600, 900))


def words(figure: Figure) -> list[str]:
    """Every text that a reader sees on it."""
    figure.canvas.draw()
    texts = [t for axes in figure.axes for t in axes.findobj(lambda o: hasattr(o, "get_text")) if t.get_visible()]
    return [t.get_text() for t in texts if t.get_text()]


def test_a_confusion_matrix_shows_counts_and_shares_of_its_rows():
    shown = words(figures.confusion_figure([[30, 10], [0, 1234]], ["none", "some"], "Slices"))
    assert {"30", "75%", "10", "25%", "0", "0%", "1,234", "100%", "none", "some", "Slices"} <= set(shown)


def test_an_empty_row_has_counts_and_no_shares():
    shown = words(figures.confusion_figure([[0, 0], [1, 1]], ["a", "b"]))
    assert shown.count("0") == 2
    assert shown.count("50%") == 2
    assert "nan%" not in shown


def test_bias_and_limits_stand_beside_the_bland_altman_plot():
    shown = words(figures.bland_altman_figure([0, 12, 95, 120, 410, 900], [0, 10, 110, 118, 395, 950]))
    assert {"bias\n+7.7", "+1.96 SD\n+52.4", "−1.96 SD\n−37.1"} <= set(shown)


@pytest.mark.parametrize(("x", "y"), [([5], [7]), ([0, 0], [0, 0]), ([3, 3, 3], [3, 3, 3])])
@pytest.mark.parametrize("log", [False, True])
def test_one_patient_or_equal_scores_can_be_drawn(x, y, log):
    assert words(figures.bland_altman_figure(x, y, log=log))
    assert words(figures.score_figure(x, y))


def test_score_axes_are_marked_in_agatston():
    shown = words(figures.score_figure([0, 5, 3000], [0, 9, 2500]))
    assert {"0", "10", "100", "400", "2,000"} <= set(shown)


def test_recall_by_size_says_how_many_lesions_there_were():
    estimates = {"same vessel": [Estimate(0.25, 0, 0.6), Estimate(None), Estimate(0.5)]}
    figure = figures.size_recall_figure(SIZES, estimates)
    assert {"≤10\nn = 4", "10–30\nn = 0", ">300\nn = 1,200"} <= set(words(figure))
    points = figure.axes[0].lines[0]
    assert list(points.get_ydata()) == [0.25, 0.5]
    assert list(points.get_xdata()) == [0, 2]


def test_reliability_is_drawn_over_the_number_of_slices():
    bins = [b for b in reliability([0, 1, 1, 1], [0.1, 0.2, 0.9, 1.0], bins=2) if b.n]
    figure = figures.reliability_figure(bins, 0.2)
    curve = figure.axes[0].lines[1]
    assert curve.get_xdata() == pytest.approx([0.15, 0.95])
    assert curve.get_ydata() == pytest.approx([0.5, 1])
    assert [bar.get_height() for bar in figure.axes[1].patches] == [2, 2]
    assert "calibration error 0.200" in words(figure)


def test_attention_of_two_networks_lies_beside_the_slice():
    hu = np.zeros((56, 42), np.int16)
    lesions = np.zeros(hu.shape, bool)
    lesions[10:14, 20:24] = True
    heads = np.random.default_rng(0).random((3, 4, 3))
    figure = figures.attention_figure(hu, {"DINO": heads[0], "DINO-LG": heads}, lesions=lesions)
    *panels, scale = figure.axes
    assert [axes.get_title(loc="left") for axes in panels] == ["CT", "DINO", "DINO-LG"]
    assert scale.get_ylabel() == "Attention, times even"
    overlay = panels[2].images[1]
    assert np.allclose(overlay.get_array(), heads.mean(axis=0) / heads.mean())
    assert tuple(overlay.get_extent()) == (-0.5, 41.5, 55.5, -0.5)  # covers the slice, whatever its own grid
    assert all(axes.collections for axes in panels)  # the outline of the lesion


def test_attention_has_one_scale_and_what_is_even_or_less_leaves_the_ct_as_it_is():
    hu = np.zeros((8, 8), np.int16)
    sharp = np.array([[5.0, 1.0], [1.0, 1.0]])  # even is 2: one patch has 2.5 times that, the others half
    figure = figures.attention_figure(hu, {"sharp": sharp, "even": np.full((2, 2), 0.3)})
    overlays = [axes.images[1] for axes in figure.axes[1:3]]
    assert [overlay.get_clim() for overlay in overlays] == [(1, 2.5)] * 2
    assert overlays[0].get_alpha() == pytest.approx(np.array([[0.8, 0], [0, 0]]))
    assert not overlays[1].get_alpha().any()
    assert [axes.texts[0].get_text() for axes in figure.axes[1:3]] == ["at most 2.5 times even", "at most 1 times even"]
    nearly = figures.attention_figure(hu, {"nearly even": np.array([[1.0, 1.1]])}).axes[1].images[1]
    assert nearly.get_alpha().max() < 0.12  # a twentieth more than even is not to look like a finding


def test_attention_that_is_none_is_an_error():
    hu = np.zeros((8, 8), np.int16)
    for wrong in (np.full((2, 2), np.nan), np.full((2, 2), -1.0), np.zeros(4)):
        with pytest.raises(ValueError, match="attention of DINO must be"):
            figures.attention_figure(hu, {"DINO": wrong})
    assert figures.attention_figure(hu, {"DINO": np.zeros((2, 2))}).axes


def test_the_same_numbers_give_the_same_bytes_and_svg_refers_to_nothing_outside():
    first, second = (figures.data_url(figures.confusion_figure([[1, 2], [3, 4]], ["a", "b"])) for _ in range(2))
    assert first == second
    head, data = first.split(",")
    assert head == "data:image/svg+xml;base64"
    svg = base64.b64decode(data).decode()
    assert not re.findall(r'href="(?!#|data:)', svg)


def test_png_is_written_for_paper(tmp_path):
    figures.save_png(figures.confusion_figure([[1, 2], [3, 4]], ["a", "b"]), tmp_path / "a.png", dpi=300)
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") == round((1.35 + 0.62 * 3) * 300)
    assert figures.data_url(figures.score_figure([1], [2]), kind="png").startswith("data:image/png;base64,iVBOR")
