"""Two hearts are laid on each other: known shifts and turns are found, and what is no such heart is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from schematic_chest import cropped, schematic_chest
from scipy import ndimage

from heartlens.anatomy import heart_region
from heartlens.anatomy.alignment.rigid import align_hearts
from heartlens.core.ct import CTVolume
from heartlens.phantom import PhantomParameters, make_phantom


def moved(ct, shift_mm):
    affine = ct.affine.copy()
    affine[:3, 3] += shift_mm
    return replace(ct, affine=affine)


def places_of(region):
    k, j, i = np.nonzero(region.heart)
    return np.stack([region.grid.x_mm[i], region.grid.y_mm[j], region.grid.z_mm[k]], axis=1)


@pytest.fixture(scope="module")
def chest():
    return schematic_chest(noise_hu=10)


def test_a_scan_whose_origin_moved_is_found_where_it_moved_to(chest):
    shift = np.array([13.0, -7.0, 31.0])
    first, second = heart_region(chest), heart_region(moved(chest, shift))
    aligned = align_hearts(first, second)
    off = aligned.moved(places_of(first)) - places_of(first) - shift
    assert np.linalg.norm(off, axis=1).max() < 0.05
    assert aligned.overlap == 1
    assert aligned.correlation > 0.999
    assert aligned.inconsistency_mm < 0.1
    assert aligned.back(aligned.moved(places_of(first))) == pytest.approx(places_of(first), abs=1e-6)
    assert np.array_equal(align_hearts(first, second).matrix, aligned.matrix)  # to the last bit


def test_a_scan_that_shows_a_part_of_the_heart_still_finds_its_place(chest):
    part = cropped(chest, slice(None), slice(None), slice(10, 44))
    first, second = heart_region(chest), heart_region(moved(part, (5.0, 4.0, -9.0)))
    aligned = align_hearts(first, second)
    off = aligned.moved(places_of(first)) - places_of(first) - (5.0, 4.0, -9.0)
    assert np.linalg.norm(off, axis=1).max() < 1.0
    assert 0.5 < aligned.overlap < 1


def test_calcium_that_was_added_does_not_pull_the_heart(chest):
    plaque = schematic_chest(noise_hu=10, add=[(35.0, -30.0, -20.0, 6.0, 900.0), (-20.0, -25.0, -25.0, 5.0, 700.0)])
    first, second = heart_region(chest), heart_region(plaque)
    aligned = align_hearts(first, second)
    assert np.linalg.norm(aligned.moved(places_of(first)) - places_of(first), axis=1).max() < 0.2


def test_where_there_is_no_heart_there_is_no_alignment(chest):
    air = replace(chest, hu=np.full_like(chest.hu, -1000))
    assert align_hearts(heart_region(chest), heart_region(air)) is None


def turned(ct, degrees, shift_mm, noise_hu):
    """A CT of the same body after it turned about z and x and moved; and the matrix from then to now."""
    z, x = np.deg2rad(degrees)
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn = about_z @ about_x
    middle = ct.lps_mm(np.array(ct.shape) / 2)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, middle - turn @ middle + shift_mm
    now = ct.lps_mm(np.stack(np.indices(ct.shape, dtype=np.float32), axis=-1).reshape(-1, 3))
    then = ct.index_kji((now - matrix[:3, 3]) @ turn).T
    hu = ndimage.map_coordinates(ct.hu.astype(np.float32), then, order=1, cval=-1000).reshape(ct.shape)
    hu += np.random.default_rng(1).normal(0, noise_hu, hu.shape)
    return CTVolume(np.rint(hu).astype(np.int16), ct.affine, ct.header), matrix


@pytest.mark.slow
def test_a_phantom_that_turned_and_moved_is_found_within_a_millimeter_and_another_person_looks_unlike_it():
    settings = {"matrix": 128, "field_of_view": "heart", "slice_thickness_mm": 3.0, "increment_mm": 3.0}
    ct, stranger = (make_phantom(PhantomParameters.random(seed, **settings)).ct for seed in (42, 44))
    later, matrix = turned(ct, (5.0, -3.0), (12.0, -9.0, 14.0), 12.0)
    first = heart_region(ct)
    aligned = align_hearts(first, heart_region(later))
    places = places_of(first)
    error_mm = np.linalg.norm(aligned.moved(places) - (places @ matrix[:3, :3].T + matrix[:3, 3]), axis=1)
    assert error_mm.mean() < 0.6
    assert error_mm.max() < 1.0
    assert aligned.turn_deg == pytest.approx(5.83, abs=0.5)  # of a turn by 5 and one by 3 about right angles
    assert aligned.correlation > 0.9
    assert align_hearts(first, heart_region(stranger)).correlation < 0.85
