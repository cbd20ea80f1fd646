"""Anatomy 2: vessels in their true relation, disease that crosses forks, and anatomy 1 left as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from heartlens.core.lesions import CORONARY, Artery
from heartlens.phantom import ASKED_TRAP_KINDS, LATE_TRAP_KINDS, PhantomParameters, lifelike, make_draws, make_phantom
from heartlens.phantom.body.anatomy import draw_anatomy
from heartlens.phantom.body.shapes import arc_length
from heartlens.phantom.calcium.decoys import DECOY_GAP_MM, propose_decoys
from heartlens.phantom.calcium.disease import propose_disease
from heartlens.phantom.calcium.hardware import STENT_MM
from heartlens.phantom.calcium.traps import make_traps
from heartlens.phantom.image.edges import overshoot, star, widened
from heartlens.phantom.image.scan import Scan, Source, plan_scan
from heartlens.phantom.scan import label_islands

SEEDS = range(40, 60)

LM_OF_SEED_3 = (19.584283, -11.859629, 25.476911)
RCA_OF_SEED_3 = (-14.916056, -39.223062, 2.044606)
"""Body coordinates, mm: means of the centerlines before anatomy 2 came."""


@pytest.fixture(scope="module")
def people():
    return [draw_anatomy(PhantomParameters(seed=seed, anatomy=2)) for seed in SEEDS]


def nearest_mm(points, tube) -> float:
    away = np.linalg.norm(points[:, None] - tube.points, axis=2) - tube.radii
    return float(away.min())


def test_the_arteries_of_anatomy_1_run_where_bundle_2_saw_them():
    heart = draw_anatomy(PhantomParameters(seed=3)).heart
    middles = {artery.name: tube.points.mean(0) for artery, tube in heart.arteries.items()}
    assert middles["LM"] == pytest.approx(LM_OF_SEED_3, abs=1e-6)
    assert middles["RCA"] == pytest.approx(RCA_OF_SEED_3, abs=1e-6)
    assert draw_anatomy(PhantomParameters(seed=3)).version == 1


def test_the_left_main_lies_behind_the_trunk_and_beside_the_appendage(people):
    away = []
    for person in people:
        heart = person.heart
        left_main = heart.arteries[Artery.LM].points
        trunk = heart.great["pulmonary_trunk"]
        level = np.abs(trunk.points[:, 2] - left_main[:, 2].mean()).argmin()
        assert trunk.points[level, 1] < left_main[:, 1].mean()  # y grows to the back
        assert heart.chambers["la"].center[1] > left_main[:, 1].mean()
        assert heart.chambers["laa"].center[0] > left_main[:, 0].mean()
        assert nearest_mm(left_main, heart.great["aorta"]) < 1.0  # it leaves the root
        away.append(nearest_mm(left_main, trunk))
    assert np.median(away) < 9
    assert max(away) < 18


def test_the_circumflex_runs_in_the_groove_between_atrium_and_ventricle(people):
    away = []
    for person in people:
        heart = person.heart
        course = heart.arteries[Artery.LCX].points
        course = course[len(course) // 2 :].T
        away.append([float(np.median(heart.chambers[name].distance(*course))) for name in ("lv", "la")])
    assert np.median(away, axis=0).max() < 6
    assert np.max(away) < 15


def test_some_hearts_have_next_to_no_fat(people):
    fat = [person.heart.fat_mm for person in people]
    assert min(fat) < 2 < 4 < max(fat)
    assert {len(person.heart.bed) for person in people} == {4}


@pytest.mark.slow
def test_decoys_come_near_the_arteries_and_never_onto_them(people):
    gaps = []
    for person in people[:6]:
        tubes = [*person.heart.arteries.values(), *(tube for _, tube in person.heart.branches)]
        for _, decoy in islice(propose_decoys(person, np.random.default_rng(1), 120.0, 1.0), 40):
            half = np.percentile(np.linalg.norm(decoy.cloud.points - decoy.cloud.centroid, axis=1), 95)
            gaps.append(min(nearest_mm(decoy.cloud.centroid[None], tube) for tube in tubes) - half)
    assert min(gaps) > DECOY_GAP_MM[0] - 0.7  # a turned cloud has its middle within a fraction of a millimeter
    assert np.mean(np.array(gaps) < 6.0) > 0.1


def test_disease_is_long_and_crosses_the_fork(people):
    heart = people[0].heart
    laid = list(islice(propose_disease(heart.arteries, (), np.random.default_rng(4), None, 120.0, 1.4), 200))
    spans = [float(np.ptp(p.cloud.points, axis=0).max()) for p in laid]
    assert np.mean(np.array(spans) > 15) > 0.02
    assert {p.artery for p in laid} == set(CORONARY)
    fork = heart.arteries[Artery.LM].points[-1]
    at_fork = {p.artery for p in laid if np.linalg.norm(p.cloud.points - fork, axis=1).min() < 3}
    assert {Artery.LM, Artery.LAD, Artery.LCX} <= at_fork


def test_without_a_course_there_is_no_plaque_in_that_artery(people):
    only = {Artery.RCA: people[0].heart.arteries[Artery.RCA]}
    laid = list(islice(propose_disease(only, (), np.random.default_rng(1), None, 120.0), 50))
    assert {p.artery for p in laid} == {Artery.RCA}
    assert list(propose_disease({}, (), np.random.default_rng(1), None, 120.0)) == []


def test_a_stent_is_an_even_tube_around_a_lumen(people):
    for seed in (1, 2, 3):
        (stent, *_) = make_traps(people[0], ("stent",), lambda _, s=seed: np.random.default_rng(s), 120.0)
        tubes = people[0].heart.arteries.values()
        from_middle = [np.linalg.norm(stent.cloud.points[:, None] - t.points, axis=2).min(1) for t in tubes]
        radius = min(from_middle, key=np.median)
        assert np.median(radius) > STENT_MM[1][0] / 2 * 0.85
        assert np.percentile(radius, 5) > 0.6  # nothing fills it


@pytest.mark.parametrize("kind", LATE_TRAP_KINDS + ASKED_TRAP_KINDS)
def test_every_late_trap_has_a_body(people, kind):
    traps = make_traps(people[1], (kind,), lambda _: np.random.default_rng(5), 120.0)
    assert traps
    assert all(np.isfinite(t.cloud.points).all() and t.cloud.volumes_mm3.sum() > 0 for t in traps)


def test_a_lesion_across_a_fork_has_a_name_for_each_part():
    """Two sources side by side: six voxels of one island, three brighter by the one and three by the other."""
    hu = np.zeros((1, 1, 8), np.int16)
    hu[0, 0, 1:7] = 300
    window = (slice(0, 1), slice(0, 1), slice(1, 7))
    one = np.array([[[300, 280, 200, 90, 40, 0]]], np.float32)
    sources = [Source(Artery.LM, window, one), Source(Artery.LAD, window, one[..., ::-1])]
    whole = label_islands(hu, sources, np.zeros(hu.shape, bool))
    divided = label_islands(hu, sources, np.zeros(hu.shape, bool), divided=True)
    assert len(set(whole[hu > 0].tolist())) == 1
    assert divided[0, 0].tolist() == [0, 1, 1, 1, 2, 2, 2, 0]


def test_an_island_with_one_cause_is_not_divided():
    hu = np.zeros((1, 1, 8), np.int16)
    hu[0, 0, 1:7] = 300
    window = (slice(0, 1), slice(0, 1), slice(1, 7))
    strong, faint = np.full((1, 1, 6), 300, np.float32), np.zeros((1, 1, 6), np.float32)
    faint[0, 0, 5] = 31
    sources = [Source(Artery.RCA, window, strong), Source(Artery.OTHER, window, faint)]
    assert set(label_islands(hu, sources, np.zeros(hu.shape, bool), divided=True)[hu > 0].tolist()) == {Artery.RCA}


def test_a_kernel_that_overshoots_lifts_the_rim_of_the_heart_and_keeps_the_mean():
    edge = np.repeat(np.float32([[[-850.0] * 30 + [50.0] * 30]]), 4, axis=1)
    sharp = overshoot(edge, 0.3, (0.7, 0.7))
    assert sharp.max() > 130 > edge.max()
    assert sharp.mean() == pytest.approx(float(edge.mean()), abs=0.5)


def test_a_moving_spot_gets_rays_and_keeps_its_sum():
    spot = np.zeros((1, 9, 9), np.float32)
    spot[0, 3:6, 3:6] = 400
    window, wide = widened((slice(0, 1), slice(40, 49), slice(40, 49)), spot, (1, 90, 90), 25)
    assert wide.shape == (1, 59, 59)
    assert wide.sum() == spot.sum()
    rays = star(wide, np.random.default_rng(3), (0.6, 0.6), 4.0)
    assert rays.sum() == pytest.approx(float(spot.sum()), rel=0.02)
    assert rays.min() < -3
    assert window[1] == slice(15, 74)


def test_a_window_is_widened_no_farther_than_the_volume():
    window, image = widened((slice(0, 1), slice(0, 4), slice(6, 10)), np.ones((1, 4, 4), np.float32), (1, 10, 10), 3)
    assert window[1:] == (slice(0, 7), slice(3, 10))
    assert image.shape == (1, 7, 7)
    assert image[0, :4, 3:].all()


def test_lifelike_parameters_survive_json_and_take_overrides():
    parameters = lifelike(9, kernel="sharp")
    assert (parameters.anatomy, parameters.kernel) == (2, "sharp")
    assert parameters.overshoot > 0
    assert PhantomParameters.from_json(parameters.to_json()) == parameters
    assert {lifelike(seed).lungs for seed in range(40)} == {"clear", "filled"}
    assert {k for seed in range(120) for k in lifelike(seed).traps} >= set(LATE_TRAP_KINDS)


def test_an_unknown_anatomy_is_refused():
    with pytest.raises(ValueError, match="anatomy must be one of"):
        PhantomParameters(anatomy=3)


SMALL = {"matrix": 64, "pixel_mm": 3.0, "slice_thickness_mm": 8.0, "increment_mm": 8.0, "field_of_view": "heart"}


@pytest.mark.slow
def test_draws_of_one_person_are_the_phantoms_that_their_parameters_give():
    first = PhantomParameters.random(5, **SMALL, anatomy=2, category="101-400", traps=())
    second = replace(first, draw=1, category=">400")
    one, other = make_draws(first, [first, second])
    alone = make_phantom(second)
    assert np.array_equal(other.ct.hu, alone.ct.hu)
    assert np.array_equal(other.labels, alone.labels)
    assert other.ct.header.series_uid == alone.ct.header.series_uid != one.ct.header.series_uid
    with pytest.raises(ValueError, match="draws of one person"):
        next(make_draws(first, [replace(first, kernel="sharp")]))
    total = sum(entry["agatston"] for entry in other.truth["arteries"].values())
    assert total > 400
    assert arc_length(draw_anatomy(first).heart.arteries[Artery.LM].points)[-1] > 2


@pytest.mark.slow
def test_no_artery_runs_through_a_lung():
    for seed in (31, 34):
        parameters = PhantomParameters.random(
            seed, **{**SMALL, "matrix": 128, "pixel_mm": 1.6}, anatomy=2, category="0", traps=(), motion_mm=0.0
        )
        person = draw_anatomy(parameters)
        scan = Scan(parameters, person, plan_scan(person, parameters))
        body = scan.body()
        for artery, tube in person.heart.arteries.items():
            k, j, i = np.rint(scan.grid.index(tube.points)).astype(int).T
            seen = (k >= 0) & (k < body.shape[0])
            assert np.mean(body[k[seen], j[seen], i[seen]] > -300) > 0.95, artery
