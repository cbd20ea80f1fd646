"""Views of a slice: where guided ones look, that sizes are mm, that what was drawn is what is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from needed import torch

from training.datasets.slice_dataset import lesion_boxes_px
from training.dino.augment import (
    AIR_HU,
    AugmentConfig,
    Views,
    blur_weights,
    draw_views,
    hashed_normal,
    render_views,
    stack,
)

unhurried = settings(deadline=None, max_examples=60)
"""A busy machine is not a wrong result."""

NO_LESIONS = np.zeros((0, 4))

guided = AugmentConfig(random_local_crops=2, guided_local_crops=3)


@st.composite
def slices_with_lesions(draw):
    """Extent of a slice and boxes within it, mm."""
    extent = tuple(draw(st.floats(120, 420)) for _ in range(2))
    boxes = []
    for _ in range(draw(st.integers(1, 3))):
        side = [draw(st.floats(0.3, 25)) for _ in range(2)]
        start = [draw(st.floats(0, 1)) * (e - s) for e, s in zip(extent, side, strict=True)]
        boxes.append([*start, start[0] + side[0], start[1] + side[1]])
    return extent, np.array(boxes)


def edges(views: Views) -> np.ndarray:
    """(..., 4): top, left, bottom, right, mm."""
    return np.concatenate([views.center_mm - views.side_mm / 2, views.center_mm + views.side_mm / 2], axis=-1)


def contains(view: np.ndarray, box: np.ndarray) -> bool:
    return bool((view[:2] <= box[:2] + 1e-9).all() and (view[2:] >= box[2:] - 1e-9).all())


def plain(center_mm, side_mm, **changes) -> Views:
    """One view of one slice, (1, 1), without blur, noise, brightness and flips."""
    one = np.zeros((1, 1))
    views = Views(
        center_mm=np.array([[center_mm]], float),
        side_mm=np.array([[side_mm]], float),
        flip=np.array([[changes.pop("flip", (False, False))]]),
        blur_mm=one, gain=one + 1, offset_hu=one, noise_hu=one, noise_seed=one.astype(np.int64), guided=one > 0,
    )  # fmt: skip
    return views._replace(**{name: np.full((1, 1), value) for name, value in changes.items()})


def show(image, spacing_mm, views, size=8, window_hu=(-1000.0, 1000.0)):
    """The only view in thousands of HU."""
    slices = torch.as_tensor(np.asarray(image, dtype=np.float32))[None]
    return render_views(slices, torch.tensor([spacing_mm]), views, size=size, window_hu=window_hu)[0, 0, 0].numpy()


# Label guidance


@given(slices_with_lesions(), st.integers(0, 2**31), st.sampled_from(["centre", "random"]))
@unhurried
def test_a_guided_view_always_shows_a_whole_lesion(slice_, seed, placement):
    extent, boxes = slice_
    _, local = draw_views(replace(guided, guided_placement=placement), extent, boxes, seed=seed, epoch=1, sample=2)
    for view in edges(local)[2:]:
        assert any(contains(view, box) for box in boxes)


@pytest.mark.parametrize("placement", ["centre", "random"])
def test_a_lesion_larger_than_any_view_is_shown_whole_by_a_wider_one(placement):
    """A lesion of 120 x 30 mm; views have sides of at most 50 mm x 4 / 3."""
    config = replace(guided, guided_placement=placement, local_mm=(45.0, 50.0))
    box = np.array([20.0, 60.0, 140.0, 90.0])
    for sample in range(5):
        _, local = draw_views(config, (200.0, 200.0), box[None], seed=1, epoch=0, sample=sample)
        assert all(contains(view, box) for view in edges(local)[2:])
        assert (local.side_mm[2:, 0] == 120).all()


@given(slices_with_lesions(), st.integers(0, 2**31))
@unhurried
def test_centre_placement_centers_a_lesion(slice_, seed):
    extent, boxes = slice_
    _, local = draw_views(guided, extent, boxes, seed=seed, epoch=0, sample=0)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    for center in local.center_mm[2:]:
        assert np.abs(middles - center).max(axis=1).min() < 1e-9


@given(slices_with_lesions(), st.integers(0, 2**31), st.sampled_from(["centre", "random"]))
@unhurried
def test_views_that_are_not_guided_ignore_the_labels(slice_, seed, placement):
    extent, boxes = slice_
    config = replace(guided, guided_placement=placement)
    with_boxes, blind = (draw_views(config, extent, b, seed=seed, epoch=3, sample=4) for b in (boxes, NO_LESIONS))
    for with_labels, without in zip(with_boxes[0], blind[0], strict=True):  # global views: all
        np.testing.assert_array_equal(with_labels, without)
    for with_labels, without in zip(with_boxes[1], blind[1], strict=True):  # local views: the first two
        np.testing.assert_array_equal(with_labels[:2], without[:2])


def test_a_slice_without_labels_gets_random_views_alone():
    global_views, local_views = draw_views(guided, (200, 200), NO_LESIONS, seed=1, epoch=0, sample=0)
    assert len(local_views.guided) == 5
    assert not local_views.guided.any()
    assert not global_views.guided.any()


def test_the_asked_number_of_local_views_is_guided_and_no_global_view():
    box = np.array([[90.0, 90, 95, 95]])
    global_views, local_views = draw_views(guided, (200, 200), box, seed=1, epoch=0, sample=0)
    assert local_views.guided.tolist() == [False, False, True, True, True]
    assert global_views.guided.tolist() == [False, False]


def test_random_placement_puts_the_lesion_everywhere_in_the_view():
    config = replace(guided, guided_placement="random", guided_local_crops=1, random_local_crops=0)
    box = np.array([[99.0, 99, 101, 101]])
    drawn = [draw_views(config, (200, 200), box, seed=1, epoch=0, sample=n)[1] for n in range(300)]
    place = np.array([(100 - v.center_mm[0]) / v.side_mm[0] for v in drawn])  # of the lesion, in sides of the view
    assert place.min() < -0.45
    assert place.max() > 0.45
    assert np.abs(place.mean(axis=0)).max() < 0.06
    assert all((e >= -1e-9).all() and (e <= 200 + 1e-9).all() for v in drawn for e in edges(v))


def test_every_lesion_of_a_slice_is_shown_at_times():
    boxes = np.array([[20.0, 20, 22, 22], [150, 150, 152, 152]])
    drawn = [draw_views(guided, (200, 200), boxes, seed=1, epoch=e, sample=0)[1] for e in range(20)]
    rows = np.concatenate([v.center_mm[2:, 0] for v in drawn])
    assert set(rows.tolist()) == {21.0, 151.0}


def test_only_coronary_calcium_is_a_lesion():
    labels = np.zeros((8, 8), np.uint8)
    labels[1:3, 2:5] = 2  # LAD
    labels[3, 5] = 1  # touches by a corner: the same island
    labels[6, 6] = 5  # aortic wall
    labels[7, 0] = 6  # coronary, artery not said
    assert lesion_boxes_px(labels).tolist() == [[1, 2, 4, 6], [7, 0, 8, 1]]


# Sizes are mm


@given(st.floats(0.3, 1.5), st.floats(0.3, 1.5), st.tuples(st.booleans(), st.booleans()), st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_a_pixel_of_a_view_shows_the_place_that_its_mm_say(row_mm, column_mm, flip, seed):
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(n) + 0.5 for n in (90, 70))
    image = (rows[:, None] * row_mm + 3 * columns * column_mm).astype(np.float32)  # HU that tell the place
    extent = np.array([90 * row_mm, 70 * column_mm])
    side = rng.uniform(0.2, 0.6, 2) * extent
    center = rng.uniform(0.35, 0.65, 2) * extent
    rendered = show(image, (row_mm, column_mm), plain(center, side, flip=flip)) * 1000
    step = (np.arange(8) + 0.5) / 8 - 0.5
    r, c = (center[a] + side[a] * (step[::-1] if flip[a] else step) for a in (0, 1))
    np.testing.assert_allclose(rendered, r[:, None] + 3 * c, atol=0.02)


@pytest.mark.parametrize("spacing_mm", [0.4, 0.7, 1.0])
def test_a_disc_covers_the_same_area_whatever_the_pixels_of_its_slice(spacing_mm):
    n = round(120 / spacing_mm)
    place = (np.arange(n) + 0.5) * spacing_mm - 60
    disc = np.where(place[:, None] ** 2 + place**2 < 15**2, 1000.0, 0.0)
    rendered = show(disc, (spacing_mm, spacing_mm), plain((60, 60), (64, 64)), size=64)
    area_mm2 = (disc > 0).sum() * spacing_mm**2  # within 1.5 % of the circle's
    assert rendered.sum() == pytest.approx(area_mm2, rel=2e-3)  # a pixel of the view is 1 mm2


@given(st.integers(0, 2**31))
@unhurried
def test_sides_are_drawn_in_the_asked_range(seed):
    config = AugmentConfig(local_mm=(30, 60), aspect=1.5)
    global_views, local_views = draw_views(config, (400, 380), NO_LESIONS, seed=seed, epoch=0, sample=0)
    for views, (low, high) in ((global_views, (100, 200)), (local_views, (30, 60))):
        mean_side = np.sqrt(views.side_mm.prod(axis=1))
        assert ((mean_side >= low - 1e-9) & (mean_side <= high + 1e-9)).all()
        assert (views.side_mm.max(axis=1) / views.side_mm.min(axis=1) <= 1.5 + 1e-9).all()


def test_a_view_wider_than_the_slice_shows_the_slice():
    views, _ = draw_views(AugmentConfig(), (60, 80), NO_LESIONS, seed=0, epoch=0, sample=0)
    assert views.side_mm.tolist() == [[60, 80], [60, 80]]
    np.testing.assert_allclose(views.center_mm, [[30, 40], [30, 40]])


def test_beyond_the_edge_there_is_air():
    rendered = show(np.zeros((20, 20)), (1, 1), plain((0, 10), (16, 16)), size=16, window_hu=(-1024.0, 1024.0))
    assert (rendered[:7] == AIR_HU / 1024).all()
    assert (rendered[9:] == 0).all()


# What is done to intensities


def test_brightness_is_gain_and_offset_in_hu():
    rendered = show(np.full((20, 20), 100.0), (1, 1), plain((10, 10), (10, 10), gain=1.5, offset_hu=-30))
    np.testing.assert_allclose(rendered, 0.12, atol=1e-6)


def test_noise_has_the_asked_deviation_and_another_pattern_for_another_seed():
    image = np.zeros((20, 20))
    one, again, other = (
        show(image, (1, 1), plain((10, 10), (10, 10), noise_hu=25, noise_seed=s), size=96) for s in (5, 5, 6)
    )
    assert one.std() * 1000 == pytest.approx(25, rel=0.02)
    assert np.array_equal(one, again)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.04


def test_hashed_noise_is_normal_and_white():
    z = hashed_normal(torch.arange(400), 32).numpy()
    assert [z.mean(), z.std(), (z**3).mean(), (z**4).mean()] == pytest.approx([0, 1, 0, 3], abs=0.03)
    assert abs((z[:, 1:] * z[:, :-1]).mean()) < 0.01
    assert abs((z[..., 1:] * z[..., :-1]).mean()) < 0.01
    assert abs((z[1:] * z[:-1]).mean()) < 0.01


def test_blur_widens_a_line_by_its_sigma_in_mm_and_keeps_its_sum():
    image = np.zeros((60, 60))
    image[:, 30] = 1000
    place = np.arange(40) + 10.5
    sharp, blurred = (show(image, (1, 1), plain((30, 30), (40, 40), blur_mm=b), size=40)[20] for b in (0.0, 3.0))
    spread = [((place - 30.5) ** 2 * line).sum() / line.sum() for line in (sharp, blurred)]
    assert spread[1] - spread[0] == pytest.approx(9, rel=0.01)
    assert blurred.sum() == pytest.approx(sharp.sum(), rel=1e-4)


def test_no_blur_changes_nothing():
    assert torch.equal(blur_weights(torch.zeros(2), 6), torch.eye(6).expand(2, 6, 6))


def test_the_window_clips():
    image = np.array([[-900.0, 5000.0]] * 2)
    assert show(image, (1, 1), plain((1, 1), (2, 2)), size=2, window_hu=(-200.0, 1000.0))[0, 0] == -1


# Replay


def test_what_is_drawn_depends_on_seed_epoch_and_sample_alone():
    def draw(**who):
        return draw_views(guided, (200, 200), NO_LESIONS, **{"seed": 1, "epoch": 2, "sample": 3, **who})[1].center_mm

    assert np.array_equal(draw(), draw())
    for other in ({"seed": 9}, {"epoch": 9}, {"sample": 9}):
        assert not np.array_equal(draw(), draw(**other))


def test_a_view_does_not_depend_on_the_batch_that_it_is_rendered_in():
    config = AugmentConfig(random_local_crops=3, noise_probability=1.0)
    rng = np.random.default_rng(0)
    slices = torch.from_numpy(rng.integers(-1000, 1000, (3, 40, 40)).astype(np.int16))
    spacing = torch.tensor([[2.0, 2.0], [3.0, 2.5], [4.0, 4.0]])
    drawn = [
        draw_views(config, tuple((40 * spacing[n]).tolist()), NO_LESIONS, seed=1, epoch=0, sample=n)[1]
        for n in range(3)
    ]
    together = render_views(slices, spacing, stack(drawn), size=16, window_hu=(-1000, 1000))
    for n in range(3):
        alone = render_views(slices[n : n + 1], spacing[n : n + 1], stack([drawn[n]]), size=16, window_hu=(-1000, 1000))
        torch.testing.assert_close(together[:, n : n + 1], alone, rtol=0, atol=1e-6)
    assert together.shape == (3, 3, 1, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guided_placement": "left"}, "centre, random, got 'left'"),
        ({"local_mm": (0.0, 20.0)}, "local_mm must be a range"),
        ({"gain": (1.2, 0.8)}, "gain must be a range"),
        ({"random_local_crops": -1}, "must not be negative"),
        ({"aspect": 0.5}, "aspect must be 1 or more"),
    ],
)
def test_settings_without_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**change)


# Where views lie, and how large guided ones are


def shares_nothing(one, other):
    """Whether two views, (4,) top, left, bottom, right, have no point in common."""
    return bool((np.maximum(one[:2], other[:2]) >= np.minimum(one[2:], other[2:])).any())


def test_global_views_of_a_wide_field_share_the_heart_where_a_field_is_set():
    """A chest of 400 mm: over the whole slice a third of the pairs share nothing; around the heart as good as none."""
    apart = {}
    for field_mm in (0.0, 200.0):
        config = AugmentConfig(random_local_crops=0, field_mm=field_mm)
        drawn = (
            edges(draw_views(config, (400, 400), NO_LESIONS, seed=2, epoch=0, sample=n, middle_mm=(230.0, 180.0))[0])
            for n in range(600)
        )
        apart[field_mm] = np.mean([shares_nothing(*pair) for pair in drawn])
    assert apart[0.0] > 0.25
    assert apart[200.0] < 0.01


def test_a_field_lies_around_the_heart_and_within_the_slice():
    config = AugmentConfig(field_mm=200.0)
    for middle, first in (((230.0, 180.0), (130.0, 80.0)), ((30.0, 390.0), (0.0, 200.0))):
        for sample in range(20):
            views = draw_views(config, (400, 400), NO_LESIONS, seed=1, epoch=0, sample=sample, middle_mm=middle)
            for view in np.concatenate([edges(one) for one in views]):
                assert contains(np.array([*first, first[0] + 200, first[1] + 200]), view)


def test_the_dose_of_guidance_is_the_size_of_guided_views_alone():
    """Calcium of 3 x 3 mm fills 9 of 400 mm2 at 20 mm, and 9 of 5,000 at the size of the other local views."""
    box = np.array([[100.0, 90.0, 103.0, 93.0]])
    dosed = replace(guided, guided_mm=(12.0, 30.0))
    sides = []
    for sample in range(50):
        who = {"seed": 1, "epoch": 0, "sample": sample}
        before, after = (draw_views(config, (200, 200), box, **who)[1] for config in (guided, dosed))
        np.testing.assert_array_equal(after.side_mm[:2], before.side_mm[:2])  # random views stay what they were
        assert before.side_mm[2:].min() > 30
        sides += after.side_mm[2:].ravel().tolist()
    assert 12 <= min(sides) < 14
    assert 27 < max(sides) <= 30


def test_a_lesion_larger_than_the_dose_is_still_shown_whole():
    box = np.array([[60.0, 60.0, 100.0, 100.0]])
    _, local = draw_views(replace(guided, guided_mm=(12.0, 13.0)), (200, 200), box, seed=1, epoch=0, sample=0)
    assert all(contains(view, box[0]) for view in edges(local)[2:])
