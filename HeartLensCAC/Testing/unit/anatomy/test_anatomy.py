"""Anatomy: lungs, spine, windpipe, aorta and heart, found where the schematic chest has them."""

import numpy as np
import pytest
from schematic_chest import (
    BLOOD_HU,
    CARINA_MM,
    DESCENDING_MM,
    DESCENDING_RADIUS_MM,
    ROOT_MM,
    ROOT_RADIUS_MM,
    SPINE_FRONT_MM,
    SPINE_X_MM,
    cropped,
    schematic_chest,
)

from heartlens.anatomy import COURSES_MM, artery_likelihood, course_fit, find_metal, heart_region
from heartlens.anatomy.chest import fill_hull
from heartlens.anatomy.coarse import coarse_grid
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery


@pytest.fixture(scope="module")
def chest():
    return schematic_chest(noise_hu=12)


@pytest.fixture(scope="module")
def region(chest):
    return heart_region(chest)


@pytest.fixture(scope="module")
def heart_field(chest):
    """The same person in a field of view of 224 x 204 mm that cuts both lungs."""
    return cropped(chest, slice(24, 104), slice(32, 105))


def test_block_means_keep_their_place_in_the_patient(chest):
    fine = CTVolume(np.arange(4 * 6 * 6, dtype=np.int16).reshape(4, 6, 6), np.diag([1.0, 1.0, 1.5, 1.0]))
    grid = coarse_grid(fine)
    assert grid.block == (2, 3, 3)
    assert grid.hu.shape == (2, 2, 2)
    assert grid.hu[1, 1, 1] == pytest.approx(fine.hu[2:, 3:, 3:].mean())
    assert (grid.x_mm[1], grid.y_mm[0], grid.z_mm[1]) == pytest.approx((4.0, 1.0, 3.75))


def test_the_hull_of_two_lungs_holds_what_lies_between_them():
    lungs = np.zeros((9, 20), bool)
    lungs[2:7, 2:6] = lungs[3:8, 14:18] = True
    hull = fill_hull(lungs)
    assert hull[5, 6:14].all()
    assert not hull[0].any()
    assert not hull[:, 19].any()


def test_room_air_is_not_lung(region):
    y, x = region.grid.y_mm[:, None], region.grid.x_mm
    outside = np.hypot(x / 165, (y - 5) / 115) > 1.05
    in_left_lung = (np.hypot((x - 68) / 62, (y - 5) / 95) < 0.8) & (x > 95)
    assert not region.chest.lung[:, outside].any()
    assert region.chest.lung[:, in_left_lung].all()


def test_the_spine_is_where_bone_stays_in_place(region):
    assert region.chest.spine_x_mm == pytest.approx(SPINE_X_MM, abs=4)
    assert region.chest.spine_y_mm == pytest.approx(np.full(len(region.chest.spine_y_mm), SPINE_FRONT_MM), abs=5)


def test_the_carina_is_where_the_windpipe_ends(region):
    assert region.chest.carina_z_mm == pytest.approx(CARINA_MM, abs=6)


def test_the_descending_aorta_is_followed_through_every_slice(region):
    course = region.descending
    assert course.found.all()
    assert np.median(course.center_mm, axis=0) == pytest.approx(DESCENDING_MM, abs=3)
    assert np.median(course.radius_mm) == pytest.approx(DESCENDING_RADIUS_MM, abs=2)


def test_the_ascending_aorta_is_followed_down_to_its_root(region):
    course = region.ascending
    assert course.found.sum() >= 12
    assert np.nanmedian(course.center_mm, axis=0) == pytest.approx(ROOT_MM[:2], abs=3)
    assert np.nanmedian(course.radius_mm) == pytest.approx(ROOT_RADIUS_MM, abs=2)
    assert region.root_mm == pytest.approx(ROOT_MM, abs=7)


def test_distance_from_the_aorta_is_negative_inside_and_infinite_where_it_was_not_found(region):
    k = int(np.flatnonzero(region.ascending.found)[3])
    x, y = region.ascending.center_mm[k]
    k_lost = int(np.flatnonzero(~region.ascending.found)[0])
    distance = region.ascending.distance_mm(np.array([k, k, k_lost]), np.array([x, x + 30, x]), np.array([y, y, y]))
    assert distance[0] == -region.ascending.radius_mm[k]
    assert distance[1] == pytest.approx(30 - region.ascending.radius_mm[k])
    assert distance[2] == np.inf


def test_blood_and_its_noise_are_measured(region):
    assert region.blood_hu == pytest.approx(BLOOD_HU, abs=5)
    assert region.noise_hu == pytest.approx(12, abs=4)


def test_the_heart_lies_in_the_zone_and_the_spine_does_not(region, chest):
    middle_of_the_heart = np.round(chest.index_kji([[25, -8, -44]])).astype(int)
    assert region.in_view
    assert region.grid.sample(region.heart, middle_of_the_heart)[0]
    assert region.grid.sample(region.zone, middle_of_the_heart)[0]
    assert not region.zone[:, region.grid.y_mm > SPINE_FRONT_MM].any()


def test_nothing_within_12_mm_of_the_carina_or_above_is_in_the_zone(region):
    assert not region.zone[region.grid.z_mm > region.chest.carina_z_mm - 12].any()


def test_a_cropped_field_of_view_gives_the_same_root_and_says_so(region, heart_field):
    small = heart_region(heart_field)
    assert (region.field, small.field) == ("chest", "heart")
    assert small.in_view
    assert small.root_mm == pytest.approx(region.root_mm, abs=4)


def test_the_scan_circle_keeps_lung_and_room_air_apart(heart_field):
    j, i = np.indices(heart_field.shape[1:])
    middle = [(n - 1) / 2 for n in heart_field.shape[1:]]
    filled = heart_field.hu.copy()
    filled[:, np.hypot(j - middle[0], i - middle[1]) > 37] = -1024
    small = heart_region(CTVolume(filled, heart_field.affine, heart_field.header))
    assert small.in_view
    assert not small.chest.lung[:, small.grid.outside].any()
    assert small.root_mm == pytest.approx(ROOT_MM, abs=8)


def test_a_scan_that_ends_in_the_heart_is_known_to(chest):
    middle = heart_region(cropped(chest, slice(None), slice(None), slice(8, 30)))
    assert (middle.cut_top, middle.cut_bottom) == (True, True)
    assert not heart_region(cropped(chest, slice(None), slice(None), slice(8, None))).cut_top


@pytest.mark.parametrize("slices", [1, 3])
def test_a_few_slices_are_enough_to_find_the_heart_but_not_its_level(chest, slices):
    few = heart_region(cropped(chest, slice(None), slice(None), slice(15, 15 + slices)))
    assert few.in_view
    assert few.is_short


def test_without_lungs_there_is_no_heart_in_view():
    hu = np.full((10, 64, 64), -1000, np.int16)
    hu[:, 10:54, 10:54] = 50
    region = heart_region(CTVolume(hu, np.diag([4.0, 4.0, 4.0, 1.0])))
    assert not region.in_view
    assert not region.zone.any()
    assert region.blood_hu is None
    assert region.box(CTVolume(hu, np.diag([4.0, 4.0, 4.0, 1.0]))) == (slice(0, 0),) * 3


def test_the_box_holds_the_zone_and_its_margin_stays_in_the_scan(region, chest):
    outside = np.ones(chest.shape, bool)
    outside[region.box(chest)] = False
    assert not region.grid.sample(region.zone, np.argwhere(outside)).any()
    assert region.box(chest, margin_mm=1000) == (slice(0, chest.shape[0]), slice(0, 128), slice(0, 128))


def test_saturated_voxels_near_the_heart_are_metal_and_dense_plaque_is_not():
    wire = schematic_chest(add=[(25, -8, -44, 4, 3000)])
    plaque = schematic_chest(add=[(25, -8, -44, 4, 1800)])
    assert len(find_metal(wire, heart_region(wire))) >= 1
    assert len(find_metal(plaque, heart_region(plaque))) == 0


def test_dark_streaks_tell_metal_that_does_not_saturate():
    streaks = [(25 + dx, -8 + dy, -44, 3, -400) for dx, dy in ((9, 0), (-9, 0), (0, 9), (0, -9))]
    clip = schematic_chest(add=[(25, -8, -44, 4, 1800), *streaks])
    assert len(find_metal(clip, heart_region(clip))) >= 1


@pytest.mark.parametrize("artery", CORONARY)
def test_a_place_on_the_course_of_an_artery_fits_it_best(artery):
    places = COURSES_MM[artery]
    likelihood = artery_likelihood(places)
    best = np.array(CORONARY)[np.argmax([likelihood[a] for a in CORONARY], axis=0)]
    assert (best[1:] == artery).all()  # the LAD begins where the left main ends
    assert course_fit(places, artery) == pytest.approx(np.zeros(len(places)))


def test_the_right_coronary_lies_right_and_in_front_and_the_circumflex_left_and_behind():
    place = np.array([[-20.0, -35.0, -15.0], [36.0, 33.0, -12.0]])
    likelihood = artery_likelihood(place)
    assert likelihood[Artery.RCA][0] > 100 * likelihood[Artery.LCX][0]
    assert likelihood[Artery.LCX][1] > 100 * likelihood[Artery.RCA][1]


def test_without_a_level_height_does_not_matter():
    low, high = np.array([[40.0, -30.0, -60.0]]), np.array([[40.0, -30.0, 60.0]])
    for artery in CORONARY:
        assert artery_likelihood(low, level_known=False)[artery] == artery_likelihood(high, level_known=False)[artery]
