"""How a CT is laid before the vessel network."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.networks.input import Crop, View, nearest, network_input, place_crop, resample

AS_IT_IS = View(size_px=4, spacing_mm=0.5, window_hu=(0.0, 1000.0), neighbors=0, with_mask=False)


def test_at_the_cts_own_spacing_the_view_is_the_ct():
    hu = np.arange(16, dtype=np.int16).reshape(1, 4, 4) * 10
    crop = place_crop(hu.shape, (3.0, 0.5, 0.5), AS_IT_IS)
    assert crop == Crop((0.0, 0.0), (1.0, 1.0), 4)
    assert network_input(hu, 0, crop, AS_IT_IS)[0] == pytest.approx(hu[0] / 1000)


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
    view = View(4, 0.5, (0.0, 1000.0), neighbors=1)
    crop = place_crop(hu.shape, (3.0, 0.5, 0.5), view)
    assert network_input(hu, 0, crop, view)[:, 0, 0] == pytest.approx([0.1, 0.1, 0.13, 0.0])
    assert network_input(hu, 1, crop, view)[:, 0, 0] == pytest.approx([0.1, 0.13, 0.4, 1.0])
    assert network_input(hu, 2, crop, view)[:, 0, 0] == pytest.approx([0.13, 0.4, 0.4, 1.0])
    assert view.channels == 4


@pytest.mark.parametrize(
    ("increment_mm", "expected"), [(1.0, [0, 1, 4, 7, 8]), (2.0, [0, 2, 4, 6, 8]), (5.0, [2, 3, 4, 5, 6])]
)
def test_neighbors_lie_as_far_apart_in_mm_as_slices_allow(increment_mm, expected):
    hu = np.full((9, 2, 2), 100, np.int16) * np.arange(9, dtype=np.int16)[:, None, None]
    view = View(2, 0.5, (0.0, 1000.0), neighbors=2, with_mask=False, neighbor_mm=3.0)
    crop = place_crop(hu.shape, (increment_mm, 0.5, 0.5), view)
    assert network_input(hu, 4, crop, view)[:, 0, 0] * 10 == pytest.approx(expected)


def test_the_window_becomes_0_to_1_and_cuts():
    hu = np.array([[[-2000, -200], [400, 3000]]], np.int16)
    view = View(2, 0.5, neighbors=0, with_mask=False)
    crop = place_crop(hu.shape, (3.0, 0.5, 0.5), view)
    assert network_input(hu, 0, crop, view)[0].tolist() == [[0, 0], [0.5, 1]]


def test_the_same_millimeters_at_two_fields_of_view_look_alike():
    view = View(32, 1.0, neighbors=0, with_mask=False)
    sampled = []
    for pixel_mm in (0.4, 0.8):
        n = int(64 / pixel_mm)
        y, x = ((np.arange(n) - (n - 1) / 2) * pixel_mm for _ in range(2))
        disc = 600 * np.exp(-(y[:, None] ** 2 + x**2) / 50)
        crop = place_crop((1, n, n), (3.0, pixel_mm, pixel_mm), view)
        sampled.append(network_input(disc[None].astype(np.float32), 0, crop, view)[0])
    assert sampled[0] == pytest.approx(sampled[1], abs=0.01)


def test_a_view_of_the_whole_field_covers_it():
    view = View(256, 0.0, neighbors=0, with_mask=False)
    crop = place_crop((40, 512, 512), (3.0, 0.4, 0.4), view, center=(3.0, 3.0))
    assert crop.step == (2.0, 2.0)
    assert (crop.in_slice(0)[0], crop.in_slice(0)[-1]) == (0.5, 510.5)


def test_pixels_find_their_way_back_into_the_view():
    crop = place_crop((1, 512, 512), (3.0, 0.4, 0.4), View(256, 0.6), center=(200.0, 300.0))
    for axis in (0, 1):
        assert crop.in_view(crop.in_slice(axis), axis).tolist() == list(range(256))


@pytest.mark.parametrize("numbers", [{"size_px": 0}, {"spacing_mm": -1.0}, {"window_hu": (5.0, 5.0)}])
def test_impossible_views_are_refused(numbers):
    with pytest.raises(ValueError, match=next(iter(numbers)).split("_")[0]):
        View(**numbers)
