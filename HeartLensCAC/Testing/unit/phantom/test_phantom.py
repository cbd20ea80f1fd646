"""The phantom's truth is true: seeds, geometry, islands, mass, categories."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from heartlens.core.lesions import CORONARY, Artery
from heartlens.phantom import CATEGORIES, TRAP_KINDS, Phantom, PhantomParameters, make_phantom
from heartlens.phantom.body.anatomy import draw_anatomy
from heartlens.phantom.body.shapes import Tube, splat
from heartlens.phantom.calcium.plaques import HU_PER_MG_PER_CM3, hu_per_mg_per_cm3, plaque_on
from heartlens.phantom.calcium.traps import make_traps
from heartlens.phantom.image.scan import Scan, plan_scan
from heartlens.phantom.parameters import KERNEL_FWHM_MM

pytestmark = pytest.mark.slow

SMALL = {"matrix": 128, "pixel_mm": 1.5, "slice_thickness_mm": 6.0, "increment_mm": 6.0}


@cache
def phantom_of(seed: int, **settings: object) -> Phantom:
    return make_phantom(PhantomParameters.random(seed, **{**SMALL, "field_of_view": "heart", **settings}))


def plain_agatston(phantom: Phantom, artery: Artery) -> float:
    """The score by the definition, pixel by pixel, sharing no code with the scoring core."""
    hu, (dz, dy, dx) = phantom.ct.hu, phantom.ct.spacing_mm
    total = 0.0
    for plane, labels in zip(hu, phantom.labels == artery, strict=True):
        islands, count = ndimage.label(labels & (plane >= 130))
        for island in range(1, count + 1):
            values = plane[islands == island]
            if values.size * dy * dx >= 1.0 - 1e-6:
                total += values.size * dy * dx * sum(values.max() >= edge for edge in (130, 200, 300, 400))
    return total * dz / 3


def test_same_parameters_give_the_same_bits():
    parameters = PhantomParameters.random(3, **SMALL, field_of_view="heart", category="11-100")
    first, second = make_phantom(parameters), make_phantom(parameters)
    assert np.array_equal(first.ct.hu, second.ct.hu)
    assert np.array_equal(first.labels, second.labels)
    assert first.truth == second.truth
    assert first.ct.header == second.ct.header


def test_two_seeds_are_two_people():
    one, other = phantom_of(11, category="0", traps=()), phantom_of(12, category="0", traps=())
    shared = min(len(one.ct.hu), len(other.ct.hu))
    assert np.mean(np.abs(one.ct.hu[:shared].astype(int) - other.ct.hu[:shared])) > 80  # HU, where noise is about 15
    assert one.ct.header.series_uid != other.ct.header.series_uid


def test_changing_the_noise_leaves_the_person_as_it_is():
    quiet, loud = (phantom_of(21, noise_hu=noise, category="0", traps=(), motion_mm=0.0) for noise in (0.0, 20.0))
    difference = loud.ct.hu.astype(int) - quiet.ct.hu
    assert abs(difference[quiet.ct.hu > 0].mean()) < 2
    middle = difference[:, 48:80, 48:80]
    assert 14 < middle.std() < 26


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_asked_for_category_is_met(category):
    total = sum(entry["agatston"] for entry in phantom_of(11, category=category).truth["arteries"].values())
    low, high = {
        "0": (0, 0),
        "1-10": (0.5, 10.5),
        "11-100": (10.5, 100.5),
        "101-400": (100.5, 400.5),
        ">400": (400.5, 4000),
    }[category]
    assert low <= total <= high


def test_truth_agrees_with_a_plain_sum_over_the_labels():
    phantom = phantom_of(11, category=">400")
    for artery in CORONARY:
        assert phantom.truth["arteries"][artery.name]["agatston"] == pytest.approx(plain_agatston(phantom, artery))
    assert sum(entry["agatston"] for entry in phantom.truth["arteries"].values()) > 400


def test_labels_are_whole_islands_at_130_hu_with_one_code_each():
    phantom = phantom_of(13, category="101-400", traps=("aortic_valve", "mitral_annulus", "aortic_wall_ascending"))
    labels = phantom.labels
    assert phantom.ct.hu[labels > 0].min() >= 130
    for neighbors in (ndimage.generate_binary_structure(3, 1), np.ones((3, 3, 3))):
        islands, count = ndimage.label(phantom.ct.hu >= 130, neighbors)
        lowest = ndimage.minimum(labels, islands, np.arange(1, count + 1))
        highest = ndimage.maximum(labels, islands, np.arange(1, count + 1))
        assert np.array_equal(lowest, highest)
    assert set(np.unique(labels)) - {0} <= {1, 2, 3, 4, 5}


def test_traps_are_code_5_and_stand_in_the_truth():
    phantom = phantom_of(14, category="0", traps=("aortic_valve", "mitral_annulus"))
    assert set(np.unique(phantom.labels)) == {0, int(Artery.OTHER)}
    assert {trap["kind"] for trap in phantom.truth["traps"]} == {"aortic_valve", "mitral_annulus"}
    for trap in phantom.truth["traps"]:
        k, j, i = np.rint(phantom.ct.index_kji(trap["centroid_lps_mm"])).astype(int)
        nearby = phantom.labels[max(k - 2, 0) : k + 3, max(j - 12, 0) : j + 13, max(i - 12, 0) : i + 13]
        assert (nearby == Artery.OTHER).any(), trap["name"]


@pytest.mark.parametrize("kind", TRAP_KINDS)
def test_every_kind_of_trap_is_brighter_than_the_threshold(kind):
    parameters = PhantomParameters(seed=15, field_of_view="chest", pixel_mm=0.7, traps=(kind,))
    anatomy = draw_anatomy(parameters)
    scan = Scan(parameters, anatomy, plan_scan(anatomy, parameters))
    traps = make_traps(anatomy, (kind,), parameters.generator, parameters.kvp)
    assert traps
    assert {trap.kind for trap in traps} == {kind}
    peaks = [source.image.max() for trap in traps if (source := scan.source(trap.cloud, Artery.OTHER, 0.0)) is not None]
    assert max(peaks) > 130


def test_without_plaques_no_voxel_is_coronary():
    phantom = phantom_of(16, category=None, plaques=(0, 0, 0, 0), traps=("stent", "pacing_wire"))
    assert not np.isin(phantom.labels, CORONARY).any()
    assert all(
        entry == {"agatston": 0, "agatston_noise_free": 0, "mass_mg": 0, "plaques": 0}
        for entry in phantom.truth["arteries"].values()
    )


def test_plaques_go_where_they_are_counted():
    phantom = phantom_of(17, category=None, plaques=(0, 4, 0, 0), traps=())
    entries = phantom.truth["arteries"]
    assert entries["LAD"]["plaques"] == 4
    assert entries["LAD"]["mass_mg"] > 0
    assert {name for name, entry in entries.items() if entry["mass_mg"]} == {"LAD"}


@pytest.mark.parametrize(("thickness_mm", "increment_mm"), [(3.0, 3.0), (3.0, 1.5), (1.0, 1.0)])
def test_the_image_of_a_plaque_holds_its_mass(thickness_mm, increment_mm):
    # Integrated HU over the calibration is the mass, whatever the point spread does to the peak.
    parameters = PhantomParameters(
        seed=5, matrix=128, pixel_mm=(0.9, 0.7), slice_thickness_mm=thickness_mm, increment_mm=increment_mm
    )
    anatomy = draw_anatomy(parameters)
    scan = Scan(parameters, anatomy, plan_scan(anatomy, parameters))
    plaque = plaque_on(
        np.random.default_rng(0), Artery.LAD, anatomy.heart.arteries[Artery.LAD], 25.0, 5.0, 2.5, 400.0, 120.0
    )
    source = scan.plaque_source(plaque)
    voxel_mm3 = increment_mm * 0.9 * 0.7
    mass_mg = float(source.image.sum(dtype=float)) * voxel_mm3 / HU_PER_MG_PER_CM3 / 1000
    assert plaque.mass_mg == pytest.approx(400e-3 * np.pi / 6 * 5.0 * 2.5**2 * 0.96)
    assert mass_mg == pytest.approx(plaque.mass_mg, rel=0.01)


def test_motion_smears_a_plaque_and_keeps_its_mass():
    still = PhantomParameters(seed=5, matrix=160, pixel_mm=0.8, is_gated=False)
    moving = dataclasses.replace(still, motion_mm=8.0)
    anatomy = draw_anatomy(still)
    plaque = plaque_on(
        np.random.default_rng(0), Artery.RCA, anatomy.heart.arteries[Artery.RCA], 25.0, 4.0, 2.0, 600.0, 120.0
    )
    images = [Scan(p, anatomy, plan_scan(anatomy, p)).plaque_source(plaque).image for p in (still, moving)]
    assert images[1].max() < 0.6 * images[0].max()
    assert images[1].sum() == pytest.approx(images[0].sum(), rel=0.01)


def test_a_point_becomes_a_gaussian_of_the_kernels_width():
    window, image = splat(np.array([[2.0, 20.0, 20.0]]), np.array([1000.0]), (5, 41, 41), (3.0, 0.2, 0.2), 1.1, 3.0)
    profile = image[2 - window[0].start, 20 - window[1].start]
    above = np.flatnonzero(profile >= profile.max() / 2)
    assert (above[-1] - above[0] + 1) * 0.2 == pytest.approx(1.1, abs=0.2)
    assert image.sum() * 3 * 0.2 * 0.2 == pytest.approx(1000, rel=0.01)


def test_calcium_is_brighter_at_lower_tube_voltage():
    assert hu_per_mg_per_cm3(120) == HU_PER_MG_PER_CM3
    assert hu_per_mg_per_cm3(80) == pytest.approx(HU_PER_MG_PER_CM3 * 177 / 130)
    assert hu_per_mg_per_cm3(80) > hu_per_mg_per_cm3(100) > hu_per_mg_per_cm3(140)


def test_heart_field_of_view_cuts_the_lungs_and_the_chest_one_does_not():
    heart = phantom_of(18, category="0")
    chest = phantom_of(18, field_of_view="chest", pixel_mm=3.0, slice_thickness_mm=10, increment_mm=10, category="0")
    assert heart.ct.header.reconstruction_diameter_mm == 192
    assert heart.ct.shape[0] * heart.ct.increment_mm < 190
    assert chest.ct.shape[0] * chest.ct.increment_mm > 240
    rim = np.hypot(*np.mgrid[-63.5:64, -63.5:64]) > 61
    inside = np.hypot(*np.mgrid[-63.5:64, -63.5:64]) < 63
    middle = len(heart.ct.hu) // 2
    lung = (-950, -700)
    assert np.mean((heart.ct.hu[middle] > lung[0]) & (heart.ct.hu[middle] < lung[1]), where=rim & inside) > 0.2
    middle = len(chest.ct.hu) // 2
    assert np.mean((chest.ct.hu[middle] > lung[0]) & (chest.ct.hu[middle] < lung[1]), where=rim & inside) < 0.05


def test_spacing_thickness_and_overlap_are_honored():
    phantom = phantom_of(19, pixel_mm=(1.9, 1.4), slice_thickness_mm=6.0, increment_mm=4.0, category="0")
    assert phantom.ct.spacing_mm == pytest.approx((4.0, 1.9, 1.4))
    assert phantom.ct.header.slice_thickness_mm == 6.0
    assert len(set(phantom.ct.header.sop_instance_uids)) == phantom.ct.shape[0]


def test_outside_the_reconstruction_circle_lies_padding():
    hu = phantom_of(11, category="0", traps=()).ct.hu
    assert (hu[:, 0, 0] == -1024).all()
    assert (hu[:, -1, -1] == -1024).all()
    assert hu.min() == -1024
    assert hu.max() <= 3071


def test_organs_have_the_hu_of_a_scan_without_contrast():
    parameters = PhantomParameters.random(
        21, **SMALL, field_of_view="heart", noise_hu=0.0, category="0", traps=(), motion_mm=0.0
    )
    phantom, anatomy = make_phantom(parameters), draw_anatomy(parameters)
    grid = plan_scan(anatomy, parameters)

    def hu_at(point: np.ndarray) -> int:
        return int(phantom.ct.hu[tuple(np.rint(grid.index(point[None])[0]).astype(int))])

    aorta: Tube = anatomy.heart.great["aorta"]
    assert 30 <= hu_at(aorta.points[10]) <= 55
    assert 35 <= hu_at(anatomy.heart.place([35, -11, -3])) <= 60  # left ventricle
    assert -1000 <= hu_at(anatomy.airways[0].points[-1]) <= -850
    assert (
        -130 <= hu_at(anatomy.heart.arteries[Artery.RCA].points[40] + (0, 0, 5)) <= 20
    )  # the right groove: fat and artery


def test_noise_alone_is_hardly_ever_calcium():
    parameters = PhantomParameters(
        seed=22, matrix=192, pixel_mm=1.0, slice_thickness_mm=6, increment_mm=6, category="0", noise_hu=20.0
    )
    phantom, anatomy = make_phantom(parameters), draw_anatomy(parameters)
    grid = plan_scan(anatomy, parameters)
    middle = grid.index(anatomy.heart.place([20, 0, 0])[None])[0].astype(int)
    box = phantom.ct.hu[middle[0] - 3 : middle[0] + 4, middle[1] - 20 : middle[1] + 20, middle[2] - 20 : middle[2] + 20]
    assert 10 < box[box > 0].std() < 28
    assert (box >= 130).mean() < 1e-3


def test_parameters_survive_json_and_text():
    parameters = PhantomParameters.random(23, traps=("stent",), category="1-10")
    assert PhantomParameters.from_json(parameters.to_json()) == parameters
    typed = PhantomParameters.from_text(23, ["traps=stent", "category=1-10"])
    assert typed == parameters
    assert PhantomParameters.from_text(1, ["pixel_mm=0.5,0.4", "is_gated=no", "age_years=70"]).pixel_mm == (0.5, 0.4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["nose=1"], "KEY=VALUE with a key among"),
        (["kvp"], "KEY=VALUE"),
        (["kvp=high"], "kvp must be float"),
        (["traps=ghost"], "traps must be one of"),
        (["matrix=8"], "matrix must lie in 32 to 1024"),
        (["category=huge"], "category must be one of"),
        (["plaques=1,2"], "four counts"),
    ],
)
def test_impossible_settings_are_refused_with_what_was_expected(settings, words):
    with pytest.raises(ValueError, match=words):
        PhantomParameters.from_text(1, settings)


def test_overrides_do_not_change_what_else_is_drawn():
    plain, changed = PhantomParameters.random(9), PhantomParameters.random(9, category="0", noise_hu=5.0, traps=())
    differing = {f.name for f in dataclasses.fields(plain) if getattr(plain, f.name) != getattr(changed, f.name)}
    assert differing <= {"category", "noise_hu", "traps"}


def test_every_kernel_has_a_point_spread():
    assert sorted(KERNEL_FWHM_MM.values(), reverse=True) == list(KERNEL_FWHM_MM.values())
