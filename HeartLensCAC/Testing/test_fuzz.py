"""A sample of `make fuzz`: damaged inputs end in the right score, in a refusal by name, or in a warning."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from damage import KINDS, Originals, Outcome, cases, run_case

SEED = 20


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return Originals(tmp_path_factory.mktemp("originals"))


@pytest.mark.slow
def test_damage_of_every_kind_moves_no_number_without_a_word(originals):
    outcomes = [outcome for _, outcome in cases(originals, 14 * len(KINDS), SEED)]
    assert [outcome for outcome in outcomes if outcome.is_bad] == []
    ends = Counter(outcome.end.split()[0] for outcome in outcomes)
    assert min(ends["right"], ends["refused"]) > 10, f"damage that damages nothing, or everything: {ends}"


@pytest.mark.parametrize(
    ("seed", "n"),
    [
        (1, 185),  # a NIfTI data type that nibabel looks up in a table
    ],
)
def test_what_once_ended_badly_does_not_again(originals, seed, n):
    outcome = run_case(originals, KINDS[n % len(KINDS)], random.Random(f"{seed}/{n}"))
    assert not outcome.is_bad, outcome


def test_a_case_is_the_same_each_time_it_is_drawn(originals):
    first, second = (run_case(originals, "seg.nrrd", random.Random("7/7")) for _ in range(2))
    assert first.what == second.what
    assert first.end == second.end


@pytest.mark.parametrize(
    ("end", "is_bad"),
    [("SILENT", True), ("TRACEBACK", True), ("HANG", True), ("refused mixed", False), ("right", False)],
)
def test_the_judge_hears_a_number_that_moved(end, is_bad):
    assert Outcome("KVP deleted in one", end).is_bad is is_bad
