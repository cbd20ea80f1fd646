"""Statistics of agreement against the method's test vector, published numbers, scipy, and what must always hold."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from training.metrics import agreement, classification, intervals
from training.metrics.agreement import bland_altman, cohen_kappa, confusion_matrix, icc_absolute, icc_consistency
from training.metrics.classification import Counts

REFERENCE = [0, 12, 95, 120, 410, 900]
PREDICTED = [0, 10, 110, 118, 395, 950]
REFERENCE_CATEGORY = [0, 2, 2, 3, 4, 4]
PREDICTED_CATEGORY = [0, 1, 3, 3, 3, 4]

unhurried = settings(deadline=None)
"""A busy machine is not a wrong result."""

DEEPCAC = Path(__file__).resolve().parents[4] / "shared" / "data" / "deepcac_reference" / "Results_NLST.csv"

score_lists = st.integers(2, 20).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4000), min_size=n, max_size=n) for _ in range(2)])
)
category_lists = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n) for _ in range(2)])
)


@pytest.fixture(scope="module")
def deepcac():
    """396 automatic and manual scores; (manual, automatic)."""
    if not DEEPCAC.is_file():
        pytest.skip("needs the published DeepCAC scores beside the repository (shared/data), which are not distributed")
    with DEEPCAC.open() as file:
        rows = list(csv.DictReader(file))
    return np.array([float(r["CAC_manual"]) for r in rows]), np.array([float(r["CAC_AI"]) for r in rows])


# The method's test vector


def test_icc_of_the_test_vector():
    assert icc_absolute(REFERENCE, PREDICTED) == pytest.approx(0.99807, abs=5e-6)
    assert icc_consistency(REFERENCE, PREDICTED) == pytest.approx(0.99796, abs=5e-6)


def test_correlation_of_the_test_vector():
    assert agreement.pearson(REFERENCE, PREDICTED) == pytest.approx(0.99903, abs=5e-6)
    assert agreement.spearman(REFERENCE, PREDICTED) == 1.0


def test_limits_of_agreement_of_the_test_vector():
    result = bland_altman(REFERENCE, PREDICTED)
    assert result == pytest.approx((7.667, 22.827, -37.07, 52.41), abs=6e-3)
    assert (result.bias, result.sd) == pytest.approx((7.667, 22.827), abs=5e-4)


def test_limits_of_agreement_of_logarithms_by_hand():
    # ln(score + 1) of 0, e - 1 and e - 1, 0: differences 1 and -1
    result = bland_altman([0, math.e - 1], [math.e - 1, 0], log=True)
    assert result == pytest.approx((0, math.sqrt(2), -1.96 * math.sqrt(2), 1.96 * math.sqrt(2)))


@pytest.mark.parametrize(("weights", "expected"), [("none", 0.400), ("linear", 0.6786), ("quadratic", 0.8696)])
def test_kappa_of_the_test_vector(weights, expected):
    assert cohen_kappa(REFERENCE_CATEGORY, PREDICTED_CATEGORY, range(5), weights) == pytest.approx(expected, abs=5e-5)


def test_reclassification_of_the_test_vector():
    matrix = confusion_matrix(REFERENCE_CATEGORY, PREDICTED_CATEGORY, range(5))
    assert agreement.reclassification(matrix) == pytest.approx((3 / 6, 1, 1 / 6, 2 / 6))


# Published numbers of another program


def test_scores_of_396_published_pairs(deepcac):
    manual, automatic = deepcac
    assert manual.size == 396
    assert icc_absolute(manual, automatic) == pytest.approx(0.77126, abs=5e-6)
    assert icc_consistency(manual, automatic) == pytest.approx(0.78579, abs=5e-6)
    assert agreement.pearson(manual, automatic) == pytest.approx(0.86306, abs=5e-6)
    assert agreement.spearman(manual, automatic) == pytest.approx(0.89254, abs=5e-6)
    result = bland_altman(manual, automatic)
    assert (result.bias, result.sd) == pytest.approx((-136.212, 452.771), abs=5e-4)


def test_categories_of_396_published_pairs(deepcac):
    """Kappa and concordance as their authors printed them; classes 0, (0, 100], (100, 300], > 300."""
    manual, automatic = (np.searchsorted([0, 100, 300], scores, side="left").tolist() for scores in deepcac)
    matrix = confusion_matrix(manual, automatic, range(4))
    assert agreement.kappa(matrix) == pytest.approx(0.6177872074014817, abs=1e-15)
    assert agreement.kappa(matrix, "linear") == pytest.approx(0.75488, abs=5e-6)
    assert agreement.kappa(matrix, "quadratic") == pytest.approx(0.85700, abs=5e-6)
    assert np.trace(matrix) == 285
    assert agreement.reclassification(matrix).same == pytest.approx(0.719696969697, abs=5e-13)


# What must always hold


@unhurried
@given(score_lists)
def test_swapping_the_methods_keeps_icc_and_turns_the_bias(pair):
    x, y = pair
    for statistic in (icc_absolute, icc_consistency, agreement.pearson, agreement.spearman):
        assert statistic(x, y) == pytest.approx(statistic(y, x), nan_ok=True, abs=1e-12)
    assert bland_altman(x, y).bias == pytest.approx(-bland_altman(y, x).bias)


@unhurried
@given(st.lists(st.integers(0, 4000), min_size=2, max_size=20))
def test_identical_scores_agree_fully_or_not_at_all_when_constant(x):
    expected = 1.0 if len(set(x)) > 1 else math.nan
    assert icc_absolute(x, x) == pytest.approx(expected, nan_ok=True)
    assert icc_consistency(x, x) == pytest.approx(expected, nan_ok=True)
    assert bland_altman(x, x).sd == 0


@pytest.mark.parametrize("score", [0.1, 1 / 3, 123.456])
@pytest.mark.parametrize("n", [2, 3, 7, 49])
def test_rounding_makes_no_agreement_of_constant_scores(score, n):
    for statistic in (icc_absolute, icc_consistency, agreement.pearson, agreement.spearman):
        assert math.isnan(statistic([score] * n, [score] * n))


@unhurried
@given(score_lists, st.floats(0.1, 50))
def test_icc_does_not_depend_on_the_unit(pair, unit):
    x, y = np.array(pair[0], float), np.array(pair[1], float)
    assert icc_absolute(x * unit, y * unit) == pytest.approx(icc_absolute(x, y), nan_ok=True, abs=1e-9)


@unhurried
@given(score_lists)
def test_a_constant_error_lowers_absolute_agreement_alone(pair):
    x = np.array(pair[0], float)
    if np.ptp(x) == 0:
        return
    assert icc_consistency(x, x + 100) == pytest.approx(1)
    assert icc_absolute(x, x + 100) < 1


@unhurried
@given(score_lists)
def test_icc_equals_the_textbook_sums_of_squares(pair):
    """The same from the two-way table, without the short cuts for two methods."""
    table = np.array(pair, float).T  # (n, 2)
    n, k = table.shape
    grand, rows, columns = table.mean(), table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    msr = k * ((rows - grand) ** 2).sum() / (n - 1)
    msc = n * ((columns - grand) ** 2).sum() / (k - 1)
    mse = ((table - rows - columns + grand) ** 2).sum() / (n - 1) / (k - 1)
    denominators = (msr + (k - 1) * mse + k * (msc - mse) / n, msr + (k - 1) * mse)
    for statistic, denominator in zip((icc_absolute, icc_consistency), denominators, strict=True):
        if denominator > 1e-9:
            assert statistic(*pair) == pytest.approx((msr - mse) / denominator, abs=1e-9)


@unhurried
@given(score_lists)
def test_correlations_equal_those_of_scipy(pair):
    if min(len(set(side)) for side in pair) < 2:
        assert math.isnan(agreement.pearson(*pair))
        assert math.isnan(agreement.spearman(*pair))
        return
    assert agreement.pearson(*pair) == pytest.approx(scipy.stats.pearsonr(*pair).statistic, abs=1e-9)
    assert agreement.spearman(*pair) == pytest.approx(scipy.stats.spearmanr(*pair).statistic, abs=1e-9)


@unhurried
@given(category_lists)
def test_kappa_is_symmetric_and_at_most_one(pair):
    for weights in agreement.KAPPA_WEIGHTS:
        value = cohen_kappa(*pair, range(5), weights)
        assert value == pytest.approx(cohen_kappa(pair[1], pair[0], range(5), weights), nan_ok=True, abs=1e-12)
        assert math.isnan(value) or value <= 1 + 1e-12


@unhurried
@given(category_lists)
def test_the_order_of_categories_does_not_matter_without_weights(pair):
    turned = [[(v * 3) % 5 for v in side] for side in pair]
    assert cohen_kappa(*turned, range(5)) == pytest.approx(cohen_kappa(*pair, range(5)), nan_ok=True, abs=1e-12)


@unhurried
@given(category_lists)
def test_with_two_categories_all_weights_are_one(pair):
    halves = [[v > 2 for v in side] for side in pair]
    values = [cohen_kappa(*halves, [False, True], weights) for weights in agreement.KAPPA_WEIGHTS]
    assert values == pytest.approx([values[0]] * 3, nan_ok=True, abs=1e-12)


def test_an_empty_category_counts_in_a_weighted_kappa():
    matrix = confusion_matrix(REFERENCE_CATEGORY, PREDICTED_CATEGORY, range(5))
    wider = confusion_matrix(REFERENCE_CATEGORY, PREDICTED_CATEGORY, [0, "never", 1, 2, 3, 4])
    assert agreement.kappa(wider) == pytest.approx(agreement.kappa(matrix))
    assert agreement.kappa(wider, "quadratic") != pytest.approx(agreement.kappa(matrix, "quadratic"), abs=1e-3)


@unhurried
@given(category_lists)
def test_everybody_stays_goes_up_or_goes_down(pair):
    moved = agreement.reclassification(confusion_matrix(*pair, range(5)))
    assert moved.same + moved.up + moved.down == pytest.approx(1)
    assert moved.same <= moved.within_one


def test_counts_by_hand():
    c = classification.counts([0, 0, 0, 5, 10, 400], [0, 0, 3, 0, 10, 390])
    assert c == Counts(tp=2, fp=1, fn=1, tn=2)
    assert (c.sensitivity, c.specificity, c.precision, c.npv) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 2 / 3))
    assert (c.f1, c.iou, c.accuracy, c.prevalence) == pytest.approx((2 / 3, 1 / 2, 2 / 3, 1 / 2))
    assert c.false_zero_rate == pytest.approx(1 / 3)


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_dice_and_iou_say_the_same_thing(rows):
    c = classification.counts([r for r, _ in rows], [p for _, p in rows])
    assert sum(c) == len(rows)
    if not math.isnan(c.f1):
        assert c.iou == pytest.approx(c.f1 / (2 - c.f1))


def test_nothing_to_count_is_undefined_and_not_perfect():
    nothing = Counts(0, 0, 0, 5)
    assert all(math.isnan(v) for v in (nothing.sensitivity, nothing.precision, nothing.f1, nothing.iou))
    assert nothing.specificity == 1
    assert math.isnan(agreement.kappa([[4, 0], [0, 0]]))
    assert all(math.isnan(v) for v in agreement.reclassification(np.zeros((3, 3))))


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_area_under_roc_equals_the_share_of_ordered_pairs(rows):
    positive = [p for t, p in rows if t]
    negative = [p for t, p in rows if not t]
    value = classification.area_under_roc([t for t, _ in rows], [p / 5 for _, p in rows])
    if not positive or not negative:
        assert math.isnan(value)
        return
    wins = sum((a > b) + (a == b) / 2 for a in positive for b in negative)
    assert value == pytest.approx(wins / len(positive) / len(negative))


def test_reliability_by_hand():
    bins = classification.reliability([0, 1, 1, 1], [0.1, 0.2, 0.9, 1.0], bins=2)
    assert bins[0] == pytest.approx((0, 0.5, 2, 0.15, 0.5))
    assert bins[1] == pytest.approx((0.5, 1, 2, 0.95, 1))
    assert classification.calibration_error(bins) == pytest.approx((0.35 + 0.05) / 2)


# How sure


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(5).normal(10, 2, 400)
    (interval,) = intervals.bootstrap(lambda drawn: [float(values[drawn].mean())], 400)
    expected = values.mean() + np.array([-1, 1]) * 1.96 * values.std(ddof=1) / 20
    assert interval == pytest.approx(expected, abs=0.03)


def test_the_same_patients_always_get_the_same_interval():
    def statistic(drawn):
        return [icc_absolute(np.array(REFERENCE)[drawn], np.array(PREDICTED)[drawn])]

    assert intervals.bootstrap(statistic, 6, draws=50) == intervals.bootstrap(statistic, 6, draws=50)
    assert intervals.bootstrap(statistic, 6, draws=50, seed=1) != intervals.bootstrap(statistic, 6, draws=50, seed=2)


def test_draws_without_a_value_are_left_out_unless_they_are_most():
    draw = iter(range(100))
    (some,) = intervals.bootstrap(lambda _: [math.nan if next(draw) % 4 == 0 else 2.0], 3, draws=100)
    (none,) = intervals.bootstrap(lambda drawn: [math.nan], 3, draws=10)
    assert some == (2.0, 2.0)
    assert all(map(math.isnan, none))


@settings(max_examples=20, deadline=None)
@given(score_lists)
def test_an_interval_holds_its_ends_in_order(pair):
    x, y = (np.array(side, float) for side in pair)
    (interval,) = intervals.bootstrap(lambda drawn: [bland_altman(x[drawn], y[drawn]).bias], x.size, draws=40)
    assert (y - x).min() - 1e-9 <= interval.low <= interval.high <= (y - x).max() + 1e-9


@unhurried
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_equals_that_of_scipy(share):
    expected = scipy.stats.binomtest(*share).proportion_ci(method="wilson")
    assert intervals.wilson(*share) == pytest.approx((expected.low, expected.high), abs=1e-5)
    assert all(map(math.isnan, intervals.wilson(0, 0)))


# Bad input


@pytest.mark.parametrize("pair", [([], []), ([1, 2], [1]), ([[1, 2]], [[1, 2]]), ([1, math.nan], [1, 2])])
def test_scores_that_do_not_pair_up_are_an_error(pair):
    with pytest.raises(ValueError, match=r"one number a patient|must be finite"):
        icc_absolute(*pair)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: confusion_matrix([0, 7], [0, 0], [0, 1]), "among .* got 7"),
        (lambda: confusion_matrix([0], [0, 0], [0, 1]), "as many predictions"),
        (lambda: confusion_matrix([0], [0], [0, 0]), "differ from each other"),
        (lambda: agreement.kappa([[1, 0], [0, 1]], "cubic"), "none, linear, quadratic"),
        (lambda: agreement.kappa([[1, 0]]), "square"),
        (lambda: agreement.log_score([-1]), "0 or more, got -1"),
        (lambda: classification.reliability([1], [1.5]), r"0\.\.1"),
        (lambda: classification.counts([1, 0], [1]), "equal shapes"),
        (lambda: intervals.bootstrap(lambda drawn: [0.0], 0), "at least one patient"),
    ],
)
def test_wrong_arguments_are_named(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
