"""Every statistic with an answer worked out by hand, and the rule by which it gets its interval."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from training.evaluation.classifiers import summarize_classifier
from training.evaluation.estimates import MeanOfRuns, Statistics, estimate_all, with_interval
from training.evaluation.results import NEIGHBORS, Estimate, Patient, SyntheticTruth, TrapResult
from training.evaluation.statistics import lesion_f1, stage_statistics, summarize
from training.metrics.classification import Counts
from training.metrics.intervals import Interval
from training.metrics.overlap import Comparison, Lesion

T, F = True, False

STAGE = "rules"

ROWS = ("LM", "LAD", "LCX", "RCA", "all")


def lesion(artery: str, volume_mm3: float, *matched: bool) -> Lesion:
    return Lesion(artery, volume_mm3, matched)


def made_up(
    name,
    truth,
    predicted,
    *,
    slices,
    called,
    lesions=((), ()),
    voxels=None,
    traps=(),
    clean=None,
    candidate_slices=None,
) -> Patient:
    """A patient of whom only the facts are known; all calcium is in the LAD."""
    nothing = dict.fromkeys(ROWS, 0.0)
    counted = dict.fromkeys(ROWS, Counts(0, 0, 0))
    comparison = Comparison(
        reference_agatston={**nothing, "LAD": truth, "all": truth},
        predicted_agatston={**nothing, "LAD": predicted, "all": predicted},
        reference_slices=slices, predicted_slices=called, voxels={**counted, **(voxels or {})}, voxel_volume_mm3=1.0,
        reference_lesions=lesions[0], predicted_lesions=lesions[1],
    )  # fmt: skip
    candidates = tuple(True for _ in slices) if candidate_slices is None else candidate_slices
    known = SyntheticTruth(
        noise_free={"all": truth if clean is None else clean}, candidate_slices=candidates,
        traps={STAGE: tuple(traps)}, on_nothing={STAGE: 1},
    )  # fmt: skip
    return Patient(name, {STAGE: comparison}, synthetic=known)


THREE = [
    made_up(
        "1", 150.0, 120.0, slices=(T, T, F, F), called=(T, F, T, F), clean=90.0, candidate_slices=(T, T, T, F),
        lesions=(
            (lesion("LAD", 40.0, T, T, T), lesion("LAD", 10.0, F, F, T), lesion("RCA", 5.0, F, F, F)),
            (lesion("LAD", 30.0, T, T, T), lesion("LCX", 10.0, F, F, T)),
        ),
        voxels={"LAD": Counts(30, 10, 20), "RCA": Counts(0, 0, 5), "all": Counts(30, 10, 25)},
        traps=(TrapResult("decoy_mitral_ring", T, T), TrapResult("hilar_node", F, F), TrapResult("hilar_node", T, F)),
    ),
    made_up("2", 5.0, 0.0, slices=(T, F), called=(F, F), traps=(TrapResult("decoy_hilum", T, F),)),
    made_up("3", 0.0, 20.0, slices=(F, F), called=(F, T), voxels={"LAD": Counts(0, 10, 0), "all": Counts(0, 10, 0)}),
]  # fmt: skip


def values_of(patients) -> dict[str, float]:
    statistics, _ = stage_statistics(patients, STAGE)
    return dict(zip(statistics.names, statistics.values(np.arange(len(patients))), strict=True))


# Values


def test_slices_zeros_and_traps_by_hand():
    of = values_of(THREE)
    assert of["slices.sensitivity"] == pytest.approx(1 / 3)
    assert of["slices.specificity"] == pytest.approx(3 / 5)
    assert of["slices.f1"] == pytest.approx(2 * 1 / (2 * 1 + 2 + 2))
    assert of["candidates.specificity"] == pytest.approx(2 / 4)
    assert of["zero.false_zero_rate"] == 1 / 2
    assert of["zero.false_positive_rate"] == 1
    assert (of["traps.all"], of["traps.in_heart"], of["traps.decoys"]) == (1 / 4, 1 / 3, 1 / 2)
    assert of["on_nothing.per_scan"] == 1


def test_categories_by_hand():
    """150 and 120 are moderate; 5 and 0 are one row for the paper and two for us; 0 and 20 differ for both."""
    of = values_of(THREE)
    assert of["category.dino-lg.accuracy"] == pytest.approx(2 / 3)
    assert of["category.heartlens.accuracy"] == pytest.approx(1 / 3)
    assert of["noise_free.category.dino-lg.accuracy"] == pytest.approx(1 / 3)  # 90 is mild without noise, 120 moderate
    # Rows of the truth are 2, 0, 0 and of what was found 2, 0, 1 (of 0 to 3). One step costs 1/3, so observed is
    # (0 + 0 + 1/3) / 3 = 1/9. By chance row 2 (a third of the truth) meets 0, 1, 2 at 2/3, 1/3, 0 and row 0 at 0, 1/3,
    # 2/3, each a third of the time: 1/3 * 1/3 + 2/3 * 1/3 = 1/3.
    assert of["category.dino-lg.linear_kappa"] == pytest.approx(1 - (1 / 9) / (1 / 3))


def test_scores_are_compared_with_both_images():
    of = values_of(THREE)
    assert of["agatston.all.bias"] == pytest.approx((-30 - 5 + 20) / 3)
    assert of["noise_free.agatston.all.bias"] == pytest.approx((30 - 5 + 20) / 3)
    assert of["agatston.LAD.bias"] == of["agatston.all.bias"]
    assert of["agatston.RCA.bias"] == 0


def test_the_f1_of_lesions_by_count_and_by_volume_and_that_of_voxels_are_three_numbers():
    of = values_of(THREE)
    # LAD: 1 of 2 found, 1 of 1 right. By volume 40 of 50 mm3 found, all right. RCA: missed: 0. LCX: called once,
    # wrongly: 0. LM: nowhere, not defined.
    assert of["lesions.same vessel.LAD.f1_by_count"] == pytest.approx(2 * 0.5 / 1.5)
    assert of["lesions.same vessel.LAD.f1_by_volume"] == pytest.approx(2 * 0.8 / 1.8)
    assert of["voxels.LAD.f1"] == pytest.approx(2 * 30 / (2 * 30 + 20 + 20))
    for kind in ("f1_by_count", "f1_by_volume"):
        assert (of[f"lesions.same vessel.RCA.{kind}"], of[f"lesions.same vessel.LCX.{kind}"]) == (0, 0)
        assert math.isnan(of[f"lesions.same vessel.LM.{kind}"])
    # In any vessel 2 of 3 are found and both right, 50 of 55 mm3.
    assert of["lesions.any vessel.all.f1_by_count"] == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    assert of["lesions.any vessel.all.f1_by_volume"] == pytest.approx(2 * (50 / 55) / (50 / 55 + 1))
    assert lesion_f1(0, 0, 3, 0) == 0
    assert not [name for name in of if name.startswith("lesions") and name.endswith(".f1")]


def test_the_mean_dice_of_patients_is_not_the_f1_of_their_voxels():
    of = values_of(THREE)
    assert of["overlap.LAD.dice"] == pytest.approx((60 / 90 + 0) / 2)  # of patients 1 and 3; 2 has no voxels
    assert of["voxels.LAD.f1"] == pytest.approx(0.6)
    assert of["voxels.average.recall"] == pytest.approx((30 / 50 + 0) / 2)  # of LAD and RCA; the others have none


def test_sizes_are_bins_of_the_reference_lesions():
    """5 and 10 mm3 are in the first bin, 40 mm3 in the third."""
    of = values_of(THREE)
    assert (of["size.0.same_vessel"], of["size.0.any_vessel"]) == (0, 1 / 2)
    assert (of["size.2.same_vessel"], of["size.2.any_vessel"]) == (1, 1)
    assert math.isnan(of["size.1.same_vessel"])


def slices_of(name, truth, p, area_mm2, near=None) -> Patient:
    """A patient of whom only slices are known, called at 0.5."""
    comparison = Comparison({}, {}, tuple(truth), tuple(v >= 0.5 for v in p), {}, 0.0, (), ())
    known = {STAGE: tuple(p), **({} if near is None else {f"{STAGE} {NEIGHBORS}": tuple(near)})}
    return Patient(name, {STAGE: comparison}, known, synthetic=SyntheticTruth(slice_area_mm2=tuple(area_mm2)))


def test_where_only_slices_are_known_their_statistics_are_the_same_ones():
    """20 and 50 mm2 are found, 5 is missed, one of five others is called: F1 is 4 / (3 + 3)."""
    of = values_of([
        slices_of("a", (T, T, F, F), (0.3, 0.7, 0.1, 0.2), (5.0, 20.0, 0, 0), (0.1, 0.1, 0.9, 0.9)),
        slices_of("b", (T, F, F, F), (0.9, 0.4, 0.6, 0.05), (50.0, 0, 0, 0), (0.1, 0.9, 0.9, 0.9)),
    ])  # fmt: skip
    assert of["slices.f1"] == pytest.approx(4 / 6)
    assert of["probability.area_under_roc"] == pytest.approx((3 + 5 + 5) / 15)
    assert of["probability.sensitivity_at_90"] == pytest.approx(2 / 3)  # 90 % of five negatives are all: above 0.6
    assert of["probability.brier"] == pytest.approx((0.49 + 0.09 + 0.01 + 0.04 + 0.01 + 0.16 + 0.36 + 0.0025) / 8)
    assert of[f"{NEIGHBORS}.area_under_roc"] == 0
    assert [of[f"slices.area.{n}.recall"] for n in range(3)] == [0, 1, 1]
    assert not [name for name in of if name.startswith(("agatston", "category", "zero", "voxels", "traps"))]


def test_a_classifier_is_ranked_and_calibrated_by_what_it_was_asked():
    """Of three that were asked, 0.9 and 0.6 are positive and 0.7 is not; a cut-off is reached, not passed, and what was
    not asked is negative."""
    groups = [([T, F, T], np.array([0.9, np.nan, np.nan])), ([F, T], np.array([0.7, 0.6]))]
    summary = summarize_classifier(groups, 0.6, draws=10, seed=1)
    assert (summary.slices, summary.asked, summary.calcified) == (5, 3, 2)
    assert summary.counts == Counts(tp=2, fp=1, fn=1, tn=1)
    assert summary.estimates["area_under_roc"].value == 0.5
    assert summary.estimates["calibration_error"].value == pytest.approx((0.1 + 0.7 + 0.4) / 3)
    assert summary.estimates["brier"].value == pytest.approx((0.01 + 0.49 + 0.16) / 3)
    assert summary.estimates["slices.sensitivity"].value == pytest.approx(2 / 3)


def test_what_is_not_wanted_is_not_computed():
    wanted = {"slices.f1", "traps.all", "no such statistic"}
    summary = summarize(THREE, draws=5, seed=1, wanted=wanted)
    assert set(summary.stages[STAGE].estimates) == {"slices.f1", "traps.all"}
    everything = summarize(THREE, draws=5, seed=1).stages[STAGE]
    assert everything.estimates["traps.all"] == summary.stages[STAGE].estimates["traps.all"]
    assert summary.stages[STAGE].shares == {name: everything.shares[name] for name in wanted & set(everything.shares)}
    assert replace(everything, estimates={}, shares={}) == replace(summary.stages[STAGE], estimates={}, shares={})


# Intervals


def of_values(*values: float) -> Statistics:
    """The mean of one value a patient."""
    each = np.array(values, np.float64)
    statistics = Statistics(len(each))
    statistics.add("", ("mean",), lambda drawn: [float(each[drawn].mean())])
    return statistics


@pytest.mark.slow
def test_the_interval_reaches_from_the_25th_to_the_975th_of_1000_draws():
    """The first patient of a draw is any of a thousand alike, so that the draws of its number are even."""
    statistics = Statistics(1000)
    statistics.add("", ("first",), lambda drawn: [float(drawn[0])])
    estimate = estimate_all({"": statistics}, draws=4000, seed=1)[0][""]["first"]
    assert estimate.value == 0
    assert estimate.low == pytest.approx(25, abs=10)
    assert estimate.high == pytest.approx(975, abs=10)


def test_patients_are_drawn_and_not_what_they_hold():
    """Two patients of 50 slices each: a draw of one twice is a quarter of all draws, and gives 0 or 1 whole."""
    each = [Counts(tp=50, fp=0, fn=0), Counts(tp=0, fp=0, fn=50)]
    statistics = Statistics(2)
    statistics.add_counts("slices", each, ("sensitivity",))
    assert estimate_all({"": statistics}, draws=200, seed=1)[0][""]["slices.sensitivity"] == (0.5, 0, 1)


def test_a_share_that_no_draw_changes_has_the_interval_of_wilson():
    """Wilson, no event of 20: 3.8416 / (20 + 3.8416) = 0.1611; all of them: 1 less that."""
    assert with_interval(0.0, Interval(0.0, 0.0), (0, 20)) == (0, 0, pytest.approx(0.16113, abs=5e-6))
    assert with_interval(1.0, Interval(1.0, 1.0), (20, 20)) == (1, pytest.approx(0.83887, abs=5e-6), 1)
    undefined = Interval(math.nan, math.nan)  # in most draws, as where one patient in twenty has calcium
    assert with_interval(0.0, undefined, (0, 1)) == (0, 0, pytest.approx(3.8416 / 4.8416))


@pytest.mark.parametrize("n", range(1, 40))
def test_the_interval_of_wilson_holds_its_share(n):
    assert with_interval(1.0, Interval(1.0, 1.0), (n, n)).high == 1
    assert with_interval(0.0, Interval(0.0, 0.0), (0, n)).low == 0


def test_any_other_statistic_keeps_what_the_draws_say():
    assert with_interval(0.5, Interval(0.25, 0.75), (5, 10)) == (0.5, 0.25, 0.75)  # a share that draws change
    assert with_interval(1.0, Interval(1.0, 1.0), None) == (1, 1, 1)
    assert with_interval(0.3, Interval(math.nan, math.nan), None) == Estimate(0.3)
    assert with_interval(math.nan, Interval(math.nan, math.nan), (0, 0)) == Estimate(None)


def test_shares_are_of_patients_slices_lesions_and_traps_but_not_of_voxels():
    perfect = made_up(
        "1", 5.0, 5.0, slices=(T, F), called=(T, F), lesions=((lesion("LAD", 9.0, T, T, T),),) * 2,
        voxels={"LAD": Counts(9, 0, 0), "all": Counts(9, 0, 0)}, traps=(TrapResult("stent", T, F),),
    )  # fmt: skip
    estimates = summarize([perfect] * 4, draws=5, seed=1).stages[STAGE].estimates
    share = "zero.sensitivity", "category.heartlens.accuracy", "slices.specificity", "candidates.sensitivity"
    f1 = "slices.f1", "lesions.same vessel.LAD.f1_by_count"
    for name in (*share, *f1, "lesions.same vessel.LAD.ppv", "size.0.same_vessel"):
        # all of 4: low is 4 / (4 + 3.8416)
        assert estimates[name] == (1, pytest.approx(4 / 7.8416), 1)
    assert estimates["traps.all"] == (0, 0, pytest.approx(3.8416 / 7.8416))
    kept = "voxels.LAD.precision", "voxels.LAD.f1", "overlap.LAD.dice"
    for name in (*kept, "lesions.same vessel.LAD.volume_sensitivity"):
        assert estimates[name] == (1, 1, 1)


def test_differences_are_paired():
    """One patient scores far above the other, and the second stage half a point above the first in both."""
    stages = {"a": of_values(0.5, 100.5), "b": of_values(0.0, 100.0)}
    by_stage, differences = estimate_all(stages, differences=[("a", "b")], draws=100, seed=1)
    assert by_stage["a"]["mean"] == (50.5, 0.5, 100.5)
    assert differences == {"a - b": {"mean": (0.5, 0.5, 0.5)}}
    with pytest.raises(ValueError, match=r"the same patients, got \[1, 2\]"):
        estimate_all({"a": of_values(0.0, 1.0), "b": of_values(0.0)}, draws=5, seed=1)


def test_the_interval_of_a_mean_of_runs_draws_the_runs_too():
    """All patients are alike, and one run has 0 of each, the other 1: another training may be either."""
    mean = MeanOfRuns([of_values(0.0, 0.0), of_values(1.0, 1.0)], ("mean", "other"))
    estimates = estimate_all({"": mean}, draws=200, seed=1)[0][""]
    assert estimates == {"mean": (0.5, 0.0, 1.0), "other": Estimate(None)}


def test_differences_of_means_are_paired_by_run():
    """Each run of one arm is 0.25 above the same run of the other, and runs lie far apart."""
    arms = {
        name: MeanOfRuns([of_values(*(x + more for x in run)) for run in ((0.0, 1.0), (8.0, 9.0))], ("mean",))
        for name, more in (("a", 0.25), ("b", 0.0))
    }
    assert estimate_all(arms, differences=[("a", "b")], draws=50, seed=1)[1] == {"a - b": {"mean": (0.25, 0.25, 0.25)}}


def test_scans_of_one_person_are_drawn_together():
    """Two persons with two scans each, of which one is 0 and one is 1: every draw of persons has a mean of one half."""
    scans = {"": of_values(0.0, 1.0, 0.0, 1.0)}
    assert estimate_all(scans, draws=50, seed=1, persons=("a", "a", "b", "b"))[0][""]["mean"] == (0.5, 0.5, 0.5)
    assert estimate_all(scans, draws=50, seed=1)[0][""]["mean"].low < 0.5


def test_intervals_come_from_the_seed():
    numbers = of_values(*np.arange(30.0) ** 2)
    first, again, other = (estimate_all({"": numbers}, draws=20, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other
