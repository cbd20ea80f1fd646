"""Decoys are plaques in the wrong place, and wide drawing leaves older phantoms as they were."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from heartlens.core.lesions import CORONARY, Artery
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.body.anatomy import draw_anatomy
from heartlens.phantom.calcium.decoys import CLEARANCE_MM, PLACES, propose_decoys
from heartlens.phantom.calcium.plaques import propose_plaques
from heartlens.phantom.parameters import NEAREST_DECOY_MM

pytestmark = pytest.mark.slow

SMALL = {"matrix": 128, "pixel_mm": 1.5, "slice_thickness_mm": 5.0, "increment_mm": 5.0, "field_of_view": "heart"}


def test_decoys_are_as_large_and_dense_as_plaques_and_far_from_every_artery():
    anatomy = draw_anatomy(PhantomParameters(seed=3))
    heart = anatomy.heart
    course = np.concatenate([t.points for t in (*heart.arteries.values(), *(t for _, t in heart.branches))])
    decoys = list(propose_decoys(anatomy, np.random.default_rng(1), 120.0, 1.0))
    plaques = list(propose_plaques(heart, np.random.default_rng(2), None, 120.0))
    assert len(decoys) > 100
    for _, decoy in decoys:
        assert np.linalg.norm(course - decoy.cloud.centroid, axis=1).min() > CLEARANCE_MM - 0.5
    for number in (lambda p: p.cloud.volumes_mm3.sum(), lambda p: p.density_mg_cm3):
        one, other = (np.median([number(p) for p in found]) for found in ([d for _, d in decoys], plaques))
        assert 0.75 < one / other < 1.33
    assert set(Counter(place for place, _ in decoys)) == set(PLACES)


def test_decoys_can_be_drawn_toward_the_arteries_and_never_into_them():
    """Their surface, half a length from their middle, lies 2 to 8 mm from the nearest centerline."""
    anatomy = draw_anatomy(PhantomParameters(seed=3))
    heart = anatomy.heart
    course = np.concatenate([t.points for t in (*heart.arteries.values(), *(t for _, t in heart.branches))])
    decoys = list(islice(propose_decoys(anatomy, np.random.default_rng(1), 120.0, 1.0, 8.0), 60))
    surface = []
    for kind, decoy in decoys:
        middle = decoy.cloud.centroid
        half_mm = np.percentile(np.linalg.norm(decoy.cloud.points - middle, axis=1), 95)
        surface.append(np.linalg.norm(course - middle, axis=1).min() - half_mm)
        assert kind == "near_artery"
    assert NEAREST_DECOY_MM - 0.1 < min(surface) < 3
    assert 6 < max(surface) < 8.1
    with pytest.raises(ValueError, match="decoys_within_mm must lie in 2 to 20, got 1"):
        PhantomParameters(decoys_within_mm=1)


def test_a_phantom_without_coronary_calcium_has_decoys_all_the_same():
    phantom = make_phantom(PhantomParameters.random(5, **SMALL, category="0", traps=(), matched_burden="101-400"))
    assert {trap["kind"].split("_")[0] for trap in phantom.truth["traps"]} == {"decoy"}
    assert (phantom.labels == Artery.OTHER).any()
    assert not np.isin(phantom.labels, CORONARY).any()


def test_decoys_leave_the_person_and_the_plaques_drawn_as_they_were():
    plain, decoyed = (
        make_phantom(PhantomParameters.random(6, **SMALL, category=None, plaques=(0, 3, 0, 2), traps=(), **more))
        for more in ({}, {"matched_burden": "11-100"})
    )
    changed = plain.ct.hu != decoyed.ct.hu
    assert 0 < changed.mean() < 0.01
    for artery in CORONARY:
        assert plain.truth["arteries"][artery.name]["mass_mg"] == decoyed.truth["arteries"][artery.name]["mass_mg"]
    assert plain.ct.header.series_uid != decoyed.ct.header.series_uid


def test_the_late_fields_at_their_defaults_change_no_uid():
    assert PhantomParameters(seed=1).late_text == ""
    assert "heart_scale" not in repr(PhantomParameters(seed=1))
    assert "heart_scale" in PhantomParameters(seed=1, heart_scale=1.1).late_text


def test_varied_spans_the_domain_that_is_declared_and_stays_in_it():
    drawn = [PhantomParameters.varied(seed) for seed in range(400)]
    thickness = [p.slice_thickness_mm for p in drawn]
    diameter = [p.diameter_mm for p in drawn]
    assert (min(thickness), max(thickness)) == (1.0, 5.0)
    assert min(diameter) >= 150
    assert max(diameter) <= 420.001
    assert min(diameter) < 160
    assert max(diameter) > 400
    assert {p.kvp for p in drawn} == {80.0, 100.0, 110.0, 120.0, 130.0, 140.0}
    assert {p.category for p in drawn} == {p.matched_burden for p in drawn}


def test_what_the_arteries_hold_says_nothing_about_the_decoys():
    drawn = [PhantomParameters.varied(seed) for seed in range(1000)]
    empty = [p.matched_burden == "0" for p in drawn if p.category == "0"]
    full = [p.matched_burden == "0" for p in drawn if p.category == ">400"]
    assert abs(np.mean(empty) - np.mean(full)) < 0.1


def test_varied_parameters_survive_json():
    parameters = PhantomParameters.varied(9, plaques=(1, 0, 0, 0))
    assert parameters.category is None
    assert PhantomParameters.from_json(parameters.to_json()) == parameters


@pytest.mark.parametrize("turn", [(9.0, 0.0), (0.0, 9.0)])
def test_a_turned_heart_points_elsewhere_and_keeps_its_chest(turn):
    usual, turned = (draw_anatomy(PhantomParameters(seed=4, heart_turn_deg=t)) for t in ((0.0, 0.0), turn))
    cosine = float(usual.heart.axes[0] @ turned.heart.axes[0])
    assert np.rad2deg(np.arccos(cosine)) == pytest.approx(9, abs=2.0)
    assert usual.half_width_mm == turned.half_width_mm


def test_a_chest_scan_of_the_heart_alone_is_short_and_holds_every_artery():
    whole, short = (
        PhantomParameters.random(8, **{**SMALL, "field_of_view": "chest"}, category="0", traps=(), cover=cover)
        for cover in ("field", "heart")
    )
    one, other = make_phantom(whole).ct, make_phantom(short).ct
    assert other.shape[0] < 0.6 * one.shape[0]
    assert other.shape[1:] == one.shape[1:]
    lowest = min(t.points[:, 2].min() for t in draw_anatomy(short).heart.arteries.values())
    assert other.affine[2, 3] < lowest - 5


def test_the_same_stream_proposes_the_same_decoys():
    anatomy = draw_anatomy(PhantomParameters(seed=3))
    first = list(islice(propose_decoys(anatomy, np.random.default_rng(1), 120.0, 1.0), 5))
    again = list(islice(propose_decoys(anatomy, np.random.default_rng(1), 120.0, 1.0), 5))
    assert [place for place, _ in first] == [place for place, _ in again]
    assert all(np.array_equal(a.cloud.points, b.cloud.points) for (_, a), (_, b) in zip(first, again, strict=True))
