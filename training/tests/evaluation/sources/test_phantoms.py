"""Kinds of scans: every phantom is of one kind of each property, and edges belong to the upper one."""

from __future__ import annotations

from collections import Counter

import pytest
from needed import torch  # noqa: F401

from training.evaluation.results import Patient, SyntheticTruth
from training.evaluation.sources.phantoms import BY_RULES, GROUPS
from training.metrics.overlap import Comparison

DRAWN = {
    "matrix": 512,
    "pixel_mm": [0.5, 0.4],
    "slice_thickness_mm": 3.0,
    "noise_hu": 12.0,
    "kvp": 120.0,
    "motion_mm": 0.0,
}


def kinds(score: float, **changes: object) -> dict[str, str]:
    comparison = Comparison({"all": score}, {"all": score}, (), (), {}, 1.0, (), ())
    patient = Patient("1", {BY_RULES: comparison}, synthetic=SyntheticTruth(parameters={**DRAWN, **changes}))
    chosen = [(group.property, group.name) for group in GROUPS if group.holds(patient)]
    assert set(Counter(name for name, _ in chosen).values()) == {1}
    return dict(chosen)


@pytest.mark.parametrize(
    ("changes", "property_name", "kind"),
    [
        ({}, "field of view", "heart, 200 to 280 mm"),  # 512 x 0.4 mm
        ({"matrix": 320}, "field of view", "heart, < 200 mm"),
        ({"matrix": 700}, "field of view", "chest, >= 280 mm"),
        ({"slice_thickness_mm": 1.5}, "slice thickness", "1 to 1.5 mm"),
        ({"slice_thickness_mm": 2.5}, "slice thickness", "2 and 2.5 mm"),
        ({"slice_thickness_mm": 5.0}, "slice thickness", "4 and 5 mm"),
        ({"noise_hu": 9.9}, "noise", "< 10 HU"),
        ({"noise_hu": 10.0}, "noise", "10 to 16 HU"),
        ({"noise_hu": 16.0}, "noise", ">= 16 HU"),
        ({"kvp": 110.0}, "tube voltage", "80 to 110 kVp"),
        ({"kvp": 130.0}, "tube voltage", "130 and 140 kVp"),
        ({}, "motion", "none"),
        ({"motion_mm": 3.0}, "motion", "more"),
    ],
)
def test_a_phantom_is_of_the_kind_that_its_parameters_say(changes, property_name, kind):
    assert kinds(0.0, **changes)[property_name] == kind


def test_the_risk_category_is_that_of_the_truth():
    assert [kinds(score)["risk category"] for score in (0.0, 5.0, 50.0, 500.0)] == ["0", "1–10", "11–100", ">400"]
