"""When a series is whole, and which result may leave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heartlens.pacs.node.rules import Facts, Phase, Waits, judge, outcome_of, unfit_for_scoring

WAITS = Waits(quiet_s=30, unverified_s=300)
WHOLE = Facts(images=41, expected=41, is_broken=False, silent_s=30)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, Phase.COMPLETE),
        ({"silent_s": 29.9}, Phase.RECEIVING),
        ({"is_broken": True}, Phase.COMPLETE),  # the archive says that all are here, however they came
        ({"images": 11}, Phase.INCOMPLETE),
        ({"images": 11, "silent_s": 1e9}, Phase.INCOMPLETE),  # no patience makes it whole
        ({"expected": None}, Phase.RECEIVING),
        ({"expected": None, "silent_s": 300}, Phase.UNVERIFIED),
        ({"expected": None, "is_broken": True, "silent_s": 1e9}, Phase.INCOMPLETE),
        ({"expected": None, "is_open": True, "silent_s": 1e9}, Phase.RECEIVING),
        ({"is_open": True}, Phase.COMPLETE),
        ({"expected": 40}, Phase.RECEIVING),  # the archive itself is still receiving
        ({"expected": 40, "silent_s": 300}, Phase.UNVERIFIED),
        ({"expected": 40, "is_broken": True}, Phase.INCOMPLETE),
        ({"unfit": "own"}, Phase.REFUSED),
        ({"unfit": "own", "silent_s": 0}, Phase.REFUSED),
    ],
)
def test_where_a_series_stands(changes, state):
    assert judge(replace(WHOLE, **changes), WAITS) is state


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (("CT", "ORIGINAL", "Maker"), ""),
        (("CT", "ORIGINAL", "HeartLens"), "own"),
        (("MR", "ORIGINAL", "Maker"), "modality"),
        (("CT", "DERIVED", "Maker"), "derived"),
        (("CT", "", "Maker"), "derived"),
    ],
)
def test_what_is_none_of_ours(header, code):
    assert unfit_for_scoring(*header) == code


def report(slices=41, increment_mm=3.0, evaluable="yes", reasons=(), codes=()):
    return {
        "ct": {"slices": slices, "increment_mm": increment_mm},
        "assessment": {"evaluable": evaluable, "reasons": list(reasons)},
        "warnings": [{"code": code} for code in (*codes, *reasons)],
    }


@pytest.mark.parametrize(
    ("document", "state", "code"),
    [
        (report(), Phase.SCORED, ""),
        (report(evaluable="limited", reasons=["heart-cut", "non-gated"]), Phase.SCORED, ""),
        (report(evaluable="no", reasons=["heart-cut-top"]), Phase.HELD, "heart-cut-top"),
        (report(codes=["heart-cut-top"]), Phase.HELD, "heart-cut-top"),
        (report(evaluable="no", reasons=["non-gated", "no-heart"]), Phase.HELD, "no-heart"),
        (report(slices=34), Phase.HELD, "short-scan"),  # 33 steps of 3 mm
        (report(slices=35), Phase.SCORED, ""),  # 102 mm
        (report(slices=11), Phase.HELD, "short-scan"),
    ],
)
def test_what_may_leave_without_a_reader(document, state, code):
    outcome = outcome_of(document)
    assert (outcome.state, outcome.code) == (state, code)


@pytest.mark.parametrize("waits", [{"quiet_s": 0}, {"quiet_s": 10, "unverified_s": 5}, {"ask_again_s": 0}])
def test_waits_that_make_no_sense_are_refused(waits):
    with pytest.raises(ValueError, match="waits must be"):
        Waits(**waits)
