"""Where calcium lies that is not coronary, on a chest whose landmarks are formulas."""

from __future__ import annotations

import numpy as np
import pytest
from schematic_chest import DESCENDING_MM, DESCENDING_RADIUS_MM, ROOT_MM, ROOT_RADIUS_MM, cropped, schematic_chest

from heartlens.anatomy import heart_region
from heartlens.calcium.sites import RULES, doubted_by_place, sites_of_lesions, with_sites
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery, LesionMap, LesionNote, Site

PLACES = {
    Site.ASCENDING_AORTA: (ROOT_MM[0] - ROOT_RADIUS_MM + 1, 0.0, 30.0),
    Site.AORTIC_VALVE: (ROOT_MM[0] + 3, 2.0, -6.0),
    Site.MITRAL_ANNULUS: (17.0, 25.0, -30.0),
    Site.DESCENDING_AORTA: (DESCENDING_MM[0] + DESCENDING_RADIUS_MM - 5, DESCENDING_MM[1], -20.0),
    Site.AORTIC_ARCH: (22.0, 40.0, 45.0),
    Site.ELSEWHERE: (30.0, -104.0, -30.0),  # a rib's cartilage
    None: (45.0, -45.0, -20.0),  # the front of the heart, where the LAD runs
}


def marked(places, peak_hu=600):
    """The chest with a speck of 2 x 2 pixels on two slices at each place, and the lesions that these are."""
    ct = schematic_chest(noise_hu=8)
    hu, labels = ct.hu.copy(), np.zeros(ct.shape, np.uint16)
    for number, place_mm in enumerate(places, 1):
        k, j, i = np.rint(ct.index_kji(place_mm)).astype(int)
        hu[k : k + 2, j : j + 2, i : i + 2] = peak_hu
        labels[k : k + 2, j : j + 2, i : i + 2] = number
    arteries = dict.fromkeys(range(1, len(places) + 1), Artery.OTHER)
    return CTVolume(hu, ct.affine, ct.header), LesionMap(labels, arteries)


@pytest.fixture(scope="module")
def found():
    ct, lesions = marked(PLACES.values())
    return sites_of_lesions(ct, heart_region(ct), lesions)


@pytest.mark.parametrize(("number", "site"), list(enumerate(PLACES, 1)))
def test_calcium_is_named_by_its_place_or_not_at_all(found, number, site):
    assert found.get(number) is site


def test_metal_between_the_arteries_is_a_stent_or_a_graft():
    ct, lesions = marked([PLACES[None]], peak_hu=2900)
    assert sites_of_lesions(ct, heart_region(ct), lesions) == {1: Site.STENT_OR_GRAFT}


def test_without_landmarks_nothing_is_named():
    ct, lesions = marked([PLACES[Site.AORTIC_VALVE]])
    assert sites_of_lesions(ct, heart_region(ct), lesions) == {1: Site.AORTIC_VALVE}
    few = slice(24, 32)  # 24 mm of a heart do not show how high they lie
    short = cropped(ct, slice(None), slice(None), few)
    assert sites_of_lesions(short, heart_region(short), LesionMap(lesions.labels[few], lesions.arteries)) == {}
    assert sites_of_lesions(ct, heart_region(ct), LesionMap.empty(ct.shape)) == {}


def test_what_two_rules_claim_has_no_name(monkeypatch):
    everywhere = {site: lambda places: np.ones(len(places.ids), bool) for site in list(RULES)[:2]}
    monkeypatch.setattr("heartlens.calcium.sites.RULES", everywhere)
    ct, lesions = marked([PLACES[Site.ASCENDING_AORTA]])
    assert sites_of_lesions(ct, heart_region(ct), lesions) == {}


def test_a_lesion_map_keeps_all_but_the_site():
    ct, lesions = marked([PLACES[Site.DESCENDING_AORTA], PLACES[None]])
    named = with_sites(ct, heart_region(ct), lesions)
    assert [named.notes[n].site for n in (1, 2)] == [Site.DESCENDING_AORTA, None]
    assert named.arteries == lesions.arteries
    assert np.array_equal(named.labels, lesions.labels)


def test_what_is_called_coronary_on_the_mitral_annulus_is_left_to_a_reader():
    """One on the ring and one in the front groove, both called; the ring's stays called, and undecided."""
    places = (Site.MITRAL_ANNULUS, None, Site.AORTIC_VALVE, Site.ELSEWHERE)
    ct, lesions = marked([PLACES[site] for site in places])
    arteries = {1: Artery.LCX, 2: Artery.LAD, 3: Artery.OTHER, 4: Artery.LAD}
    said = LesionMap(lesions.labels, arteries, {1: LesionNote(0.99, why="network votes: LCX 0.99")})
    named = with_sites(ct, heart_region(ct), said)
    doubted = doubted_by_place(named)
    assert [doubted.notes[n].undecided for n in (1, 2, 3, 4)] == [True, False, False, True]
    assert doubted.notes[4].why.endswith("; it lies outside the heart: review")
    assert doubted.notes[1].why == "network votes: LCX 0.99; calcium of the mitral annulus lies there: review"
    assert (doubted.notes[1].probability, doubted.arteries) == (0.99, arteries)
    assert doubted_by_place(doubted) is doubted


def test_what_looks_like_a_stent_contradicts_no_artery():
    ct, lesions = marked([PLACES[None]], peak_hu=2900)
    named = with_sites(ct, heart_region(ct), LesionMap(lesions.labels, {1: Artery.LAD}))
    assert named.notes[1].site is Site.STENT_OR_GRAFT
    assert doubted_by_place(named) is named
