"""The probability of a category: against every combination of lesions, written plainly, and by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartlens.risk.categories import SCHEMES, category
from heartlens.risk.category_probability import category_probabilities


def by_every_combination(agatston, probability, scheme):
    """Add up the chance of each of 2^n combinations."""
    chance_of = {row.category: 0.0 for row in SCHEMES[scheme].categories}
    for counted in product((False, True), repeat=len(agatston)):
        chance, score = 1.0, 0.0
        for counts, a, p in zip(counted, agatston, probability, strict=True):
            chance *= p if counts else 1 - p
            score += a if counts else 0.0
        chance_of[category(score, scheme).category] += chance
    return chance_of


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.floats(0, 1)), max_size=8),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.sampled_from(["heartlens", "dino-lg", "accaha-2026"]),
)
def test_the_table_agrees_with_every_combination(lesions, unit, scheme):
    agatston, probability = [n * unit for n, _ in lesions], [p for _, p in lesions]
    probability_of = dict(category_probabilities(agatston, probability, unit=unit, scheme=scheme))
    assert list(probability_of) == [row.category for row in SCHEMES[scheme].categories]
    assert probability_of == pytest.approx(by_every_combination(agatston, probability, scheme), abs=1e-12)
    assert sum(probability_of.values()) == pytest.approx(1, abs=1e-12)


def test_no_lesion_is_surely_no_calcium():
    assert category_probabilities([], [], unit=0.3)[0] == ("absent", 1.0)


def test_by_hand():
    """100.4 rounds to 100 and is mild; with 0.2 more it rounds to 101, moderate. 400.4 and 0.2: moderate to high."""
    unit = 0.2
    probability_of = dict(category_probabilities([100.4, 0.2], [1.0, 0.3], unit=unit))
    assert probability_of == pytest.approx({"absent": 0, "minimal": 0, "mild": 0.7, "moderate": 0.3, "high": 0})
    probability_of = dict(category_probabilities([300.0, 100.4, 0.2], [0.5, 1.0, 0.3], unit=unit))
    # mild: only 100.4; moderate: 100.6, 400.4; high: 400.6
    assert probability_of == pytest.approx(
        {"absent": 0, "minimal": 0, "mild": 0.35, "moderate": 0.15 + 0.35, "high": 0.15}
    )


def test_units_of_an_odd_pixel_are_recognized():
    """Scores as the scorer makes them: whole weights times 0.703125^2 mm2 times 2.5/3."""
    unit = 0.703125**2 * 2.5 / 3
    weights = np.random.default_rng(0).integers(1, 3000, 12)
    scores = [int(w) * 0.703125**2 * 2.5 / 3 for w in weights]
    probability_of = dict(category_probabilities(scores, [0.5] * 12, unit=unit))
    assert probability_of["absent"] == pytest.approx(0.5**12)
    assert probability_of == pytest.approx(by_every_combination(scores, [0.5] * 12, "heartlens"), abs=1e-12)


def test_a_scheme_that_asks_for_a_percentile_gets_none():
    assert category_probabilities([4.0], [0.5], unit=0.5, scheme="accaha-2018") is None


@pytest.mark.parametrize(("score", "p", "words"), [(0.7, 0.5, "whole number of units"), (1.0, 1.1, "0..1")])
def test_nonsense_is_refused(score, p, words):
    with pytest.raises(ValueError, match=words):
        category_probabilities([score], [p], unit=0.5)
