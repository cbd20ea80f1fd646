"""Fit what weighs the vessel network against the rules, to scans that neither has learned from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import heart_region
from heartlens.calcium import judge_by_rules
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import Bundle
from heartlens.networks.fusion import Fusion, features
from heartlens.networks.inference import Networks
from heartlens.networks.islands import vote_of_islands
from training.deploy.calibration import slice_chooser
from training.metrics.cutoff import ENOUGH
from training.segmentation.islands import truth_of_islands

RIDGE = 1e-2
"""Keeps weights finite where few islands are told apart without an error."""

CALLED_FROM = 0.5
"""What is likelier coronary than not is called so."""

MOST_MISSED = 0.1
"""Of the coronary islands of any one source, those that may lie below the undecided band: nine of ten are to be called
or left to a reader, on phantoms and on real hearts alike."""

MOST_FALSE = 0.1
"""Of the islands of any one source above the undecided band, those that may be something else."""


class Opinions(NamedTuple):
    """What network and rules say of the islands that count, and what they are.

    Parameters
    ----------
    p_network, p_nothing
        (n,) votes for all arteries together, and for "none"
    p_rules
        (n,) nan where they are silent
    is_coronary
        (n,) most of its voxels are labeled as coronary calcium
    weight
        (n,) positive
    source
        (n,) number of the group that each comes from
    """

    p_network: NDArray[np.float64]
    p_nothing: NDArray[np.float64]
    p_rules: NDArray[np.float64]
    is_coronary: NDArray[np.bool_]
    weight: NDArray[np.float64]
    source: NDArray[np.int64]


def read_opinions(
    bundle: Bundle,
    groups: Sequence[Iterable[tuple[CTVolume, NDArray[np.uint8]]]],
    shares: Sequence[float] | None = None,
) -> Opinions:
    """Ask a bundle and the rules about every island that counts and of which a reader said what it is.

    Parameters
    ----------
    groups
        CT and `Artery` codes of each scan, by where they come from.
    shares
        What each group weighs; None is the same for all.
    """
    networks, stage, protocol = Networks(bundle, "cpu"), bundle.vessel, ScoringProtocol()
    choose = slice_chooser(bundle, networks)
    parts: list[Opinions] = []
    for source, (group, share) in enumerate(zip(groups, shares or [1.0] * len(groups), strict=True)):
        of_group = []
        for ct, codes in group:
            region = heart_region(ct)
            islands = vote_of_islands(ct, region, networks.vessel, stage, protocol, chosen_slices=choose(ct, region))
            if islands is None:
                continue
            rules = judge_by_rules(ct, region, protocol)
            count = len(islands.vote)
            p_rules = islands.mean_by_rules(rules, rules.probability)
            is_coronary, is_known = truth_of_islands(codes.reshape(-1)[islands.flat], islands.member, count)
            keep = islands.counts & is_known
            p_coronary, p_nothing = islands.p_coronary[keep], islands.vote[keep, 0]
            ones = np.ones(int(keep.sum()))
            where = np.full(ones.size, source)
            of_group.append(Opinions(p_coronary, p_nothing, p_rules[keep], is_coronary[keep], ones, where))
        if of_group:
            joined = Opinions(*(np.concatenate(column) for column in zip(*of_group, strict=True)))
            if joined.weight.size:
                parts.append(joined._replace(weight=joined.weight * share / joined.weight.size))
    if not parts:
        raise InputRefused("input", "a fusion needs islands; give scans with calcium")
    return Opinions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit_fusion(opinions: Opinions) -> Fusion:
    """Weights by ridge logistic regression, and a band by what would be missed and called falsely for certain.

    Called is what reaches `CALLED_FROM`. The band is as wide as the source that it fits worst needs it: below it lie at
    most `MOST_MISSED` of what is coronary there; of what lies above it at most `MOST_FALSE` is something else.

    Raises
    ------
    InputRefused
        "input": too few islands of a kind, or on these the network or the rules are wrong more often than right
    """
    truth, weight = opinions.is_coronary, opinions.weight / opinions.weight.mean()
    if min(int(truth.sum()), int((~truth).sum())) < ENOUGH:
        raise InputRefused("input", f"a fusion needs {ENOUGH} islands of each kind; give more scans")
    x = features(opinions.p_network, opinions.p_nothing, opinions.p_rules)
    line = _logistic(x, truth.astype(np.float64), weight)
    if line[1] <= 0 or line[2] < 0:
        who, found, least = ("network", line[1], "more than 0") if line[1] <= 0 else ("rules", line[2], "0 or more")
        raise InputRefused("input", f"the weight of the {who} is {found:.2f}; expected {least}: give more scans")
    p = 1 / (1 + np.exp(-x @ line))
    bands = [_band(p[here], truth[here]) for here in (opinions.source == n for n in np.unique(opinions.source))]
    lower, upper = min(low for low, _ in bands), max(high for _, high in bands)
    return Fusion(*(float(v) for v in (*line, CALLED_FROM, min(lower, CALLED_FROM), max(upper, CALLED_FROM))))


def _band(p: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Where the band of one source may begin and end at the latest and earliest, between two islands."""
    order = np.argsort(p, kind="stable")
    p, coronary, other = p[order], truth[order], ~truth[order]
    edges = np.concatenate([[p[0] / 2], (p[1:] + p[:-1]) / 2, [(1 + p[-1]) / 2]])
    below = np.concatenate([[0], np.cumsum(coronary)])  # coronary below each edge
    above = np.concatenate([np.cumsum(other[::-1])[::-1], [0]])  # other things from each edge on
    called = np.arange(p.size, -1, -1)
    lower = int(np.flatnonzero(below <= MOST_MISSED * coronary.sum()).max())
    upper = int(np.flatnonzero(above <= MOST_FALSE * called).min())
    return float(edges[lower]), float(edges[upper])


def _logistic(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Newton's steps of a weighted logistic regression with a small ridge."""
    line = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-x @ line))
        slope = x.T @ (weight * (y - p)) - RIDGE * line
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(curve, slope)
        line += step
        if np.abs(step).max() < 1e-10:
            break
    return line
