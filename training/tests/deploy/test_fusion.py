"""What weighs the network against the rules: fitted weights, cut-off and band, over islands whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.core.errors import InputRefused
from training.deploy.fusion import MOST_FALSE, MOST_MISSED, Opinions, fit_fusion


def opinions(rng, islands=4000, weight=None):
    """The truth is drawn from log odds of 1 + 0.5 network + 1.5 rules - 0.5 nothing; half of the rules are silent."""
    network, rules, nothing = rng.uniform(0.01, 0.99, (3, islands))
    rules[::2] = np.nan
    heard = np.where(np.isnan(rules), 0.5, rules)
    odds = [np.log(p / (1 - p)) for p in (network, heard, nothing)]
    p = 1 / (1 + np.exp(-(1 + 0.5 * odds[0] + 1.5 * odds[1] - 0.5 * odds[2])))
    truth = rng.random(islands) < p
    return Opinions(
        network, nothing, rules, truth, np.ones(islands) if weight is None else weight, np.zeros(islands, int)
    )


def test_weights_that_drew_the_truth_are_found_again():
    fusion = fit_fusion(opinions(np.random.default_rng(5)))
    found = (fusion.intercept, fusion.network, fusion.rules, fusion.nothing)
    assert found == pytest.approx((1, 0.5, 1.5, -0.5), abs=0.12)


def test_the_band_misses_and_calls_falsely_no_more_than_it_may():
    of = opinions(np.random.default_rng(6))
    fusion = fit_fusion(of)
    p = fusion(of.p_network, of.p_nothing, of.p_rules)
    assert (of.is_coronary & (p < fusion.undecided_from)).sum() <= MOST_MISSED * of.is_coronary.sum()
    above = p >= fusion.undecided_to
    assert above.any()
    assert (~of.is_coronary & above).sum() <= MOST_FALSE * above.sum()
    wider = p >= fusion.undecided_to - 0.02
    assert (~of.is_coronary & wider).sum() > MOST_FALSE * wider.sum(), "no wider than it must be"
    assert fusion.undecided_from < fusion.cut_off < fusion.undecided_to


def test_islands_of_a_group_that_weighs_nothing_decide_nothing():
    rng = np.random.default_rng(7)
    right, wrong = opinions(rng, 2000), opinions(rng, 2000)
    wrong = wrong._replace(is_coronary=~wrong.is_coronary, weight=np.full(2000, 1e-9))
    both = Opinions(*(np.concatenate(columns) for columns in zip(right, wrong, strict=True)))
    alone, fusion = fit_fusion(right), fit_fusion(both)
    assert (fusion.network, fusion.rules) == pytest.approx((alone.network, alone.rules), abs=0.02)


def test_a_few_islands_are_refused():
    with pytest.raises(InputRefused, match="10 islands of each kind"):
        fit_fusion(opinions(np.random.default_rng(8), 12))


def test_islands_on_which_the_rules_are_wrong_more_often_than_right_are_refused():
    """Fewer islands than a site has do that by chance; a bundle would not take such weights."""
    of = opinions(np.random.default_rng(8), 400)
    with pytest.raises(InputRefused, match=r"weight of the rules is -1\.[0-9]+; expected 0 or more"):
        fit_fusion(of._replace(p_rules=1 - of.p_rules))


def test_the_band_holds_in_the_source_that_it_fits_worst():
    """4,000 islands would hide 400 of another source, of which a quarter is not what it seems."""
    rng = np.random.default_rng(9)
    home, away = opinions(rng, 4000), opinions(rng, 400)
    doubtful = rng.random(400) < 0.25
    away = away._replace(is_coronary=away.is_coronary ^ doubtful, source=np.ones(400, int))
    fusion = fit_fusion(Opinions(*(np.concatenate(columns) for columns in zip(home, away, strict=True))))
    for of in (home, away):
        p = fusion(of.p_network, of.p_nothing, of.p_rules)
        above = p >= fusion.undecided_to
        assert (of.is_coronary & (p < fusion.undecided_from)).sum() <= MOST_MISSED * of.is_coronary.sum()
        assert (~of.is_coronary & above).sum() <= MOST_FALSE * above.sum()
    alone = fit_fusion(home)
    assert alone.undecided_from > fusion.undecided_from
    assert alone.undecided_to < fusion.undecided_to
