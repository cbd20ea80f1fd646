"""What held-out patients say of a new bundle: hand-worked verdicts, and no patient whom one bundle alone scored."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from training.adaptation.judged import Judgement, ScanError, Verdict, judge, wrong_share
from training.adaptation.site import patients_needed
from training.evaluation.results import Failure
from training.learn import more_words, why_not

PATIENTS = SimpleNamespace(scans=[SimpleNamespace(patient=p) for p in "aabcdefghi"])


def shares(*values: float) -> dict[int, ScanError]:
    return {n: ScanError(value, 100.0, 100.0) for n, value in enumerate(values)}


def test_what_is_called_where_there_is_nothing_is_wholly_wrong_and_two_zeros_agree():
    nothing = {"LM": 0.0, "LAD": 0.0, "LCX": 0.0, "RCA": 0.0, "all": 0.0}
    false = {**nothing, "RCA": 30.0, "all": 30.0}
    assert wrong_share(SimpleNamespace(reference_agatston=nothing, predicted_agatston=false)) == 1
    assert wrong_share(SimpleNamespace(reference_agatston=nothing, predicted_agatston=nothing)) == 0


def test_left_main_called_lad_is_right_and_another_artery_is_not():
    """20 of 120 that are left main: called LAD nothing is wrong, called LCX 40 of 240 are, on both sides."""
    reference = {"LM": 20.0, "LAD": 100.0, "LCX": 0.0, "RCA": 0.0, "all": 120.0}
    beside = {**reference, "LM": 0.0, "LAD": 120.0}
    wrong = {**reference, "LM": 0.0, "LCX": 20.0}
    assert wrong_share(SimpleNamespace(reference_agatston=reference, predicted_agatston=beside)) == 0
    assert wrong_share(SimpleNamespace(reference_agatston=reference, predicted_agatston=wrong)) == pytest.approx(
        40 / 240
    )


def test_scans_of_one_patient_count_as_one_patient():
    """Patient a: 0.4 and 0.6 to 0.2 and 0.0 is a gain of 0.4; patient b 0.5 to 0.4 is 0.1. The mean is 0.25."""
    found = judge("site", PATIENTS, shares(0.4, 0.6, 0.5), shares(0.2, 0.0, 0.4))
    assert (found.gain.n, found.gain.mean) == (2, pytest.approx(0.25))
    assert (found.before, found.after) == (pytest.approx(0.5), pytest.approx(0.25))


def test_a_scan_that_one_bundle_cannot_score_is_listed_and_in_no_number():
    after = {**shares(0.2, 0.0, 0.4), 2: Failure("case/x", "no heart")}
    found = judge("site", PATIENTS, shares(0.4, 0.6, 0.5), after)
    assert found.gain.n == 1
    assert found.failures == (Failure("case/x", "no heart"),)


def verdict_of(*gains: float) -> Judgement:
    """Patients b, c, ... with these gains from 0.5."""
    before = {n + 2: ScanError(0.5, 100.0, 100.0) for n in range(len(gains))}
    after = {n + 2: ScanError(0.5 - gain, 100.0, 100.0) for n, gain in enumerate(gains)}
    return judge("site", PATIENTS, before, after)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.3, 0.2, 0.4, 0.3, 0.3), Verdict.BETTER),
        ((0.3, 0.2, 0.4, 0.3), Verdict.UNSETTLED),  # four patients settle nothing
        ((0.3, -0.2, 0.4, -0.3, 0.1), Verdict.UNSETTLED),
        ((0.0, 0.0, 0.0, 0.0, 0.0), Verdict.UNSETTLED),
        ((0.1, -0.2, 0.0, 0.0, 0.0), Verdict.WORSE),
    ],
)
def test_a_bundle_is_better_only_where_the_interval_lies_above_zero(gains, verdict):
    assert verdict_of(*gains).verdict is verdict


def test_a_worse_bundle_never_ships_and_an_open_one_only_when_that_is_accepted():
    better, open_, worse = (verdict_of(*g) for g in ((0.3,) * 5, (0.3, -0.2, 0.4, -0.3, 0.1), (-0.1,) * 5))
    assert why_not([better], accept_unsettled=False) == ""
    assert "not settled" in why_not([open_], accept_unsettled=False)
    assert why_not([open_], accept_unsettled=True) == ""
    assert "worse (gain -0.100)" in why_not([worse], accept_unsettled=True)
    assert "worse" in why_not([better, worse], accept_unsettled=True)  # better at the site, worse elsewhere
    assert why_not([better, open_], accept_unsettled=False) == ""  # elsewhere it need not be better


def test_it_is_said_how_many_patients_more_would_settle_it():
    """Gains of mean 0.06 and spread 0.305: t(n - 1) * 0.305 / sqrt(n) falls below 0.06 at 102 patients, 97 more."""
    found = verdict_of(0.3, -0.2, 0.4, -0.3, 0.1)
    more, (low, high) = found.patients_missing
    assert found.gain.sd == pytest.approx(0.305, abs=5e-4)
    assert more == 97
    assert low < more < high
    assert "97 more held-out patients would settle it" in more_words(found, 0.3)
    assert "about 324 more patients in all" in more_words(found, 0.3)
    assert "no number of patients" in more_words(verdict_of(0.0, 0.0), None)
    # Four patients who all gain the same: the fifth is missing, because fewer say nothing.
    assert verdict_of(0.3, 0.3, 0.3, 0.3).patients_missing[0] == 1


def test_a_site_with_too_few_patients_is_told_the_number():
    """Three of ten judge: of 16 patients that is 4.8, of 17 it is 5.1."""
    assert patients_needed() == 17
