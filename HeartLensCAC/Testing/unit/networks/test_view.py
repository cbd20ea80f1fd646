"""How a CT is laid before a network."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartlens.networks.view import Crop, NetworkView, classifier_view, nearest, place_crop, resample

AS_IT_IS = NetworkView(size_px=4, spacing_mm=0.5, window_hu=(0.0, 1000.0), neighbors=0, with_mask=False)


def test_at_the_cts_own_spacing_the_view_is_the_ct():
    hu = np.arange(16, dtype=np.int16).reshape(1, 4, 4) * 10
    crop = place_crop(hu.shape, (3.0, 0.5, 0.5), AS_IT_IS)
    assert crop == Crop((0.0, 0.0), (1.0, 1.0), 4)
    assert AS_IT_IS.render(hu, 0, crop)[0] == pytest.approx(hu[0] / 1000)


def test_halfway_between_two_pixels_is_their_mean():
    crop = Crop((0.5, 0.25), (1.0, 0.5), 2)
    sampled = resample(np.array([[[0, 100, 0], [200, 300, 0], [0, 0, 0]]], np.float32), crop, outside=0)
    assert sampled[0] == pytest.approx(np.array([[125, 175], [112.5, 137.5]]))


def test_outside_the_image_is_air_and_labels_are_none():
    crop = Crop((-1.0, -1.0), (1.0, 1.0), 3)
    assert resample(np.full((1, 1, 1), 50, np.float32), crop, outside=-1000.0)[0].tolist() == [
        [-1000, -1000, -1000], [-1000, 50, -1000], [-1000, -1000, -1000]
    ]  # fmt: skip
    assert nearest(np.full((1, 1), 3, np.uint8), crop).tolist() == [[0, 0, 0], [0, 3, 0], [0, 0, 0]]


@pytest.mark.parametrize("step", [0.37, 1.0, 1.9, 3.3])
def test_a_uniform_image_stays_uniform_at_any_spacing(step):
    sampled = resample(np.full((1, 40, 40), 77, np.float32), Crop((10.0, 10.3), (step, step), 6), outside=-1000.0)
    assert sampled == pytest.approx(np.full((1, 6, 6), 77), abs=1e-3)


def test_a_larger_pixel_of_the_view_sees_all_of_the_cts():
    hu = np.zeros((1, 9, 9), np.float32)
    hu[0, 4, 4] = 900
    sampled = resample(hu, Crop((1.0, 1.0), (3.0, 3.0), 3), outside=0)
    assert sampled.sum() == pytest.approx(100, rel=1e-5)  # 900 over the 9 CT pixels of one pixel of the view


def test_neighbors_and_mask_are_channels_and_the_ends_are_repeated():
    hu = np.stack([np.full((4, 4), value, np.int16) for value in (100, 130, 400)])
    view = NetworkView(4, 0.5, (0.0, 1000.0), neighbors=1)
    crop = place_crop(hu.shape, (3.0, 0.5, 0.5), view)
    assert view.render(hu, 0, crop)[:, 0, 0] == pytest.approx([0.1, 0.1, 0.13, 0.0])
    assert view.render(hu, 1, crop)[:, 0, 0] == pytest.approx([0.1, 0.13, 0.4, 1.0])
    assert view.render(hu, 2, crop)[:, 0, 0] == pytest.approx([0.13, 0.4, 0.4, 1.0])
    assert view.channels == 4


@pytest.mark.parametrize(
    ("increment_mm", "expected"), [(1.0, [0, 1, 4, 7, 8]), (2.0, [0, 2, 4, 6, 8]), (5.0, [2, 3, 4, 5, 6])]
)
def test_neighbors_lie_as_far_apart_in_mm_as_slices_allow(increment_mm, expected):
    hu = np.full((9, 2, 2), 100, np.int16) * np.arange(9, dtype=np.int16)[:, None, None]
    view = NetworkView(2, 0.5, (0.0, 1000.0), neighbors=2, with_mask=False, neighbor_mm=3.0)
    crop = place_crop(hu.shape, (increment_mm, 0.5, 0.5), view)
    assert view.render(hu, 4, crop)[:, 0, 0] * 10 == pytest.approx(expected)


def test_the_window_becomes_0_to_1_and_cuts():
    hu = np.array([[[-2000, -200], [400, 3000]]], np.int16)
    view = NetworkView(2, 0.5, neighbors=0, with_mask=False)
    crop = place_crop(hu.shape, (3.0, 0.5, 0.5), view)
    assert view.render(hu, 0, crop)[0].tolist() == [[0, 0], [0.5, 1]]


def test_the_same_millimeters_at_two_fields_of_view_look_alike():
    view = NetworkView(32, 1.0, neighbors=0, with_mask=False)
    sampled = []
    for pixel_mm in (0.4, 0.8):
        n = int(64 / pixel_mm)
        y, x = ((np.arange(n) - (n - 1) / 2) * pixel_mm for _ in range(2))
        disc = 600 * np.exp(-(y[:, None] ** 2 + x**2) / 50)
        crop = place_crop((1, n, n), (3.0, pixel_mm, pixel_mm), view)
        sampled.append(view.render(disc[None].astype(np.float32), 0, crop)[0])
    assert sampled[0] == pytest.approx(sampled[1], abs=0.01)


def test_a_view_of_the_whole_field_covers_it():
    view = NetworkView(256, 0.0, neighbors=0, with_mask=False)
    crop = place_crop((40, 512, 512), (3.0, 0.4, 0.4), view, center=(3.0, 3.0))
    assert crop.step == (2.0, 2.0)
    assert (crop.in_slice(0)[0], crop.in_slice(0)[-1]) == (0.5, 510.5)


def test_pixels_find_their_way_back_into_the_view():
    crop = place_crop((1, 512, 512), (3.0, 0.4, 0.4), NetworkView(256, 0.6), center=(200.0, 300.0))
    for axis in (0, 1):
        assert crop.in_view(crop.in_slice(axis), axis).tolist() == list(range(256))


@pytest.mark.parametrize("numbers", [{"size_px": 0}, {"spacing_mm": -1.0}, {"window_hu": (5.0, 5.0)}])
def test_impossible_views_are_refused(numbers):
    with pytest.raises(ValueError, match=next(iter(numbers)).split("_")[0]):
        NetworkView(**numbers)


def test_a_classifier_sees_one_slice_from_minus_one_to_one():
    view = classifier_view(64.0, 32, (0.0, 1000.0))
    assert (view.channels, view.spacing_mm, view.field_mm) == (1, 2.0, 64.0)
    crop = place_crop((1, 64, 64), (3.0, 1.0, 1.0), view)
    rendered = view.render(np.full((1, 64, 64), 250, np.int16), 0, crop)
    assert rendered.shape == (1, 32, 32)
    assert rendered == pytest.approx(np.full((1, 32, 32), -0.5))


@pytest.mark.parametrize("view", [NetworkView(48, 1.25, (-200, 2200), neighbors=2), classifier_view(154.0, 128)])
def test_a_view_travels_as_json(view):
    assert NetworkView.from_json(json.loads(json.dumps(view.to_json()))) == view


def test_bundles_of_before_there_was_one_view_are_read_as_they_were_trained():
    """The vessel network had -1000 HU beyond the edge, the classifier -1024; neither manifest said so."""
    vessel = {"size_px": 128, "spacing_mm": 1.25, "window_hu": [-200.0, 2200.0], "neighbors": 2, "with_mask": True,
              "threshold_hu": 130.0, "neighbor_mm": 3.0}  # fmt: skip
    assert NetworkView.from_json(vessel) == NetworkView(
        128, 1.25, (-200.0, 2200.0), neighbors=2, neighbor_mm=3.0, outside_hu=-1000.0
    )
    slices = {"field_mm": 154.0, "size": 128, "window_hu": [-460.0, 540.0], "center": "heart"}
    assert NetworkView.from_json(slices) == classifier_view(154.0, 128, center="heart")
    assert NetworkView.from_json(slices).outside_hu == -1024.0


@pytest.mark.parametrize(
    ("how", "expected"), [("mean", [1, 1, 0.75, 0.75]), ("supersampled", [1, 0.96875, 0.78125, 0.75])]
)
def test_beyond_the_edge_a_view_shows_what_it_says_is_there(how, expected):
    """Pixels at columns 2 to 5 of 4; supersampled, the third is the mean of 3.75 (a quarter inside) and 4.25."""
    view = NetworkView(4, 1.0, (-2000.0, 0.0), 0, with_mask=False, resampling=how, outside_hu=-500.0)
    crop = place_crop((1, 4, 4), (1.0, 1.0, 1.0), view, center=(1.5, 3.5))
    assert view.render(np.zeros((1, 4, 4), np.int16), 0, crop)[0, 1] == pytest.approx(expected)


@pytest.mark.slow
@given(st.floats(0.4, 3), st.floats(0.4, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_both_ways_to_resample_agree_with_plain_sums(row_mm, column_mm, seed):
    """Pixel by pixel, by the definition of each."""
    hu = np.random.default_rng(seed).integers(-1000, 1000, (1, 9, 11)).astype(np.int16)
    for view in (NetworkView(6, 1.5, (-2000, 2000), 0, with_mask=False), classifier_view(9.0, 6, (-2000, 2000))):
        crop = place_crop(hu.shape, (3.0, row_mm, column_mm), view)
        rendered = (view.render(hu, 0, crop)[0] - view.scaled_to[0]) / np.ptp(view.scaled_to) * 4000 - 2000
        assert rendered == pytest.approx(plain_view(hu[0], crop, view), abs=0.05)


def plain_view(hu, crop, view):
    """The view, one pixel after the other."""

    def shares(axis, pixel, length):
        step = crop.step[axis]
        if view.resampling == "supersampled":
            places = [crop.first[axis] + step * (pixel + offset) for offset in (-0.25, 0.25)]
            return [(p, max(0.0, 1 - abs(place - p)) / 2) for place in places for p in range(-99, length + 99)]
        place, reach = crop.first[axis] + step * pixel, max(1.0, step)
        triangle = [(p, max(0.0, 1 - abs(place - p) / reach)) for p in range(-99, length + 99)]
        return [(p, share / sum(s for _, s in triangle)) for p, share in triangle]

    image = np.zeros((view.size_px, view.size_px))
    for a in range(view.size_px):
        for b in range(view.size_px):
            for row, row_share in shares(0, a, hu.shape[0]):
                for column, column_share in shares(1, b, hu.shape[1]) if row_share else ():
                    inside = 0 <= row < hu.shape[0] and 0 <= column < hu.shape[1]
                    image[a, b] += row_share * column_share * (hu[row, column] if inside else view.outside_hu)
    return image
