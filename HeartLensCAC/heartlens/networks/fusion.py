"""Networks and rules together: how likely an island is coronary when both have spoken.

The networks know what calcium outside of arteries looks like and refuse too much by its place; the rules know where
arteries run and believe too much. A logistic regression over both, fitted with the bundle to phantoms and to real scans
that its networks were not trained on, weighs them; its numbers stand in the bundle's manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_NETWORK, LEAST_RULES = 1e-3, 0.02
"""Probabilities are kept this far from 0 and 1 before their log odds are taken: a network that is sure of it may be
overruled, and the rules' 0 is a rule that held, no measurement."""


@dataclass(frozen=True)
class Fusion:
    """A logistic regression over what networks and rules say of an island.

    Parameters
    ----------
    intercept
        Added to the log odds.
    network, rules, nothing
        Weights of the log odds of: the votes for arteries together, the rules' probability, the votes for "none".
    cut_off
        Least probability of an island that is called coronary.
    undecided_from, undecided_to
        What lies from the one to below the other is left to a reader.
    """

    intercept: float
    network: float
    rules: float
    nothing: float
    cut_off: float
    undecided_from: float
    undecided_to: float

    def __post_init__(self) -> None:
        numbers = [self.intercept, self.network, self.rules, self.nothing]
        limits = [self.undecided_from, self.cut_off, self.undecided_to]
        for value in (*numbers, *limits):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
                raise ValueError(f"fusion must hold finite numbers, got {str(value)[:40]!r}")
        if self.network <= 0 or self.rules < 0:
            raise ValueError(f"fusion must hear the network and not turn the rules round, got {self}")
        if not 0 <= limits[0] <= limits[1] <= limits[2] <= 1:
            raise ValueError(f"fusion needs 0 <= undecided_from <= cut_off <= undecided_to <= 1, got {limits}")

    def __call__(self, p_network: ArrayLike, p_nothing: ArrayLike, p_rules: NDArray[np.float64]) -> NDArray[np.float64]:
        """How likely islands are coronary.

        Parameters
        ----------
        p_network, p_nothing
            (n,) votes for all arteries together, and for "none"
        p_rules
            (n,) by the rules; nan where they are silent, which counts as one half

        Examples
        --------
        >>> even = Fusion(0.0, 1.0, 1.0, 0.0, 0.5, 0.2, 0.8)
        >>> even([0.5, 0.9, 0.1], [0.0, 0.0, 0.0], np.array([0.75, np.nan, 0.9])).round(6).tolist()
        [0.75, 0.9, 0.5]
        """
        terms = features(p_network, p_nothing, p_rules) @ np.array(
            [self.intercept, self.network, self.rules, self.nothing]
        )
        probability: NDArray[np.float64] = 1 / (1 + np.exp(-terms))
        return probability

    def is_undecided(self, probability: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of some probabilities are a reader's to decide on."""
        return (probability >= self.undecided_from) & (probability < self.undecided_to)


def features(p_network: ArrayLike, p_nothing: ArrayLike, p_rules: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4): one, and the log odds that `Fusion` weighs, in its order; see `Fusion.__call__`."""
    rules = np.where(np.isnan(p_rules), 0.5, p_rules)
    columns = [_log_odds(p_network, LEAST_NETWORK), _log_odds(rules, LEAST_RULES), _log_odds(p_nothing, LEAST_NETWORK)]
    return np.stack([np.ones(len(rules)), *columns], axis=1)


def _log_odds(p: ArrayLike, least: float) -> NDArray[np.float64]:
    kept = np.clip(np.asarray(p, np.float64), least, 1 - least)
    odds: NDArray[np.float64] = np.log(kept / (1 - kept))
    return odds
