"""The numbers of the method: each is data, and changing any of them must fail here."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heartlens.core.protocol import EDGES_BY_KVP_HU, NOTICE, PROFILES, REFERENCE_INCREMENT_MM, ScoringProtocol
from heartlens.scoring.agatston import density_weight


@pytest.mark.parametrize(
    ("peak_hu", "weight"),
    [(129, 0), (129.99, 0), (130, 1), (199.9, 1), (200, 2), (299.9, 2), (300, 3), (399.9, 3), (400, 4), (3000, 4)],
)
def test_weight_steps_exactly_at_each_edge(peak_hu, weight):
    assert density_weight(peak_hu) == weight


def test_tube_voltage_table_is_the_published_one():
    assert dict(EDGES_BY_KVP_HU) == {
        70: (207, 318, 477, 636),
        80: (177, 271, 408, 544),
        90: (160, 245, 369, 493),
        100: (145, 222, 334, 446),
        110: (137, 211, 317, 422),
        120: (130, 200, 300, 400),
        135: (119, 183, 274, 364),
        140: (116, 178, 266, 353),
    }


def test_profiles_are_those_of_the_vendor_emulation():
    facts = {
        name: (p.minimum_area_mm2, p.minimum_pixels, p.connectivity, p.volume_above_hu, p.normalisation)
        for name, p in PROFILES.items()
    }
    assert facts == {
        "agatston-1990": (1.0, 1, 4, None, "increment"),
        "siemens": (0.0, 1, 4, None, "increment"),
        "philips": (0.5, 1, 4, 112.5, "increment"),
        "canon": (0.0, 3, 4, None, "increment"),
    }
    assert {p.edges_hu for p in PROFILES.values()} == {(130.0, 200.0, 300.0, 400.0)}
    assert all(name == p.name for name, p in PROFILES.items())
    assert REFERENCE_INCREMENT_MM == 3.0


def test_a_piece_of_exactly_the_minimum_area_is_kept():
    keeps = PROFILES["agatston-1990"].keeps(np.array([3, 4]), 0.25)
    assert keeps.tolist() == [False, True]
    # 0.1 + 0.2 style: 10 pixels of 0.1 mm2 are 1 mm2 although 10 * 0.1 may fall short in floating point
    assert PROFILES["agatston-1990"].keeps(np.array([9, 10]), (0.1 + 0.2) / 3 - 1e-17).tolist() == [False, True]


@pytest.mark.parametrize(("profile", "smallest"), [("agatston-1990", 5), ("siemens", 1), ("philips", 3), ("canon", 3)])
def test_smallest_kept_piece_on_the_qrm_pixel(profile, smallest):
    sizes = np.arange(1, 8)
    kept = sizes[PROFILES[profile].keeps(sizes, 0.488281**2)]
    assert kept[0] == smallest


@pytest.mark.parametrize(
    ("increment", "thickness", "normalisation", "k"),
    [
        (3.0, 3.0, "increment", 1.0), (2.5, 2.5, "increment", 2.5 / 3), (1.5, 3.0, "increment", 0.5),
        (5.0, 5.0, "increment", 5 / 3), (1.5, 3.0, "thickness", 1.0), (1.5, 3.0, "none", 1.0),
    ],
)  # fmt: skip
def test_slice_factor(increment, thickness, normalisation, k):
    assert ScoringProtocol(normalisation=normalisation).slice_factor(increment, thickness) == pytest.approx(k)


def test_a_protocol_comes_back_from_json_unchanged():
    for protocol in (
        *PROFILES.values(),
        ScoringProtocol(slab_mm=3.0, mass_factor_mg_per_mm3_hu=0.0008, connectivity=8),
    ):
        assert ScoringProtocol.from_json(json.loads(json.dumps(protocol.to_json()))) == protocol


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("edges_hu", (130, 300, 200, 400), "ascending"),
        ("edges_hu", (130, 130, 300, 400), "ascending"),
        ("connectivity", 6, "4 or 8"),
        ("normalisation", "slices", "increment, thickness, none"),
        ("minimum_area_mm2", -1.0, "0 or more"),
        ("minimum_area_mm2", float("nan"), "0 or more"),
        ("minimum_pixels", 0, "1 or more"),
        ("mass_factor_mg_per_mm3_hu", 0.75, "mg/cm3"),
        ("mass_factor_mg_per_mm3_hu", -0.0008, "positive"),
        ("slab_mm", 0.0, "positive"),
    ],
)
def test_a_protocol_that_makes_no_sense_does_not_exist(field, value, reason):
    with pytest.raises(ValueError, match=reason):
        ScoringProtocol(**{field: value})


@pytest.mark.parametrize(("kvp", "threshold"), [(100.4, 145), (101, 145), (119, 130)])
def test_thresholds_are_adapted_up_to_one_kilovolt_away(kvp, threshold):
    assert ScoringProtocol().adapted_to(kvp).threshold_hu == threshold


@pytest.mark.parametrize("kvp", [125, 121.5, 101.1])
def test_there_are_no_thresholds_between_the_published_voltages(kvp):
    with pytest.raises(ValueError, match=f"{kvp:g} kVp"):
        ScoringProtocol().adapted_to(kvp)


def test_slabs_may_be_thinner_than_a_millimetre():
    assert ScoringProtocol(slab_mm=0.5).slab_mm == 0.5


def test_the_notice_says_what_heartlens_is_not():
    assert NOTICE.startswith("HeartLens is research software. It is not a medical device")
