"""Two bundles on the same held-out patients: which is nearer to what the readers say, and whether that is settled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from heartlens.core.errors import OVERRIDABLE
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.pipeline import Request
from heartlens.risk.categories import category
from training.datasets.shards import ShardSet
from training.evaluation.pairs import compare_pairs
from training.evaluation.results import INTEGRATED, SEGMENTATION, Failure
from training.evaluation.sources.folders import shard_pairs
from training.metrics.overlap import ALL, Comparison
from training.metrics.paired import PairedMean, paired_mean, pairs_to_settle

LEAST_JUDGED = 5
"""Held-out patients below which nothing is said: Student's interval of four hangs on each of them."""

SCHEME = "heartlens"


class Verdict(str, Enum):
    """What held-out patients say of the new bundle."""

    BETTER = "better"
    UNSETTLED = "not settled"
    WORSE = "worse"

    def __str__(self) -> str:
        return self.value


def wrong_share(comparison: Comparison) -> float:
    """Share of the score of both sides that lies in different places: 0 is the same, 1 nothing in common.

    The sum over arteries of the differences between predicted and reference Agatston, over the sum of both (the
    dissimilarity of Bray and Curtis). Left main and LAD are one artery here, because where one ends and the other
    begins is a matter of convention. A scan without calcium counts too: what is called there is wholly wrong.

    Parameters
    ----------
    comparison
        Of one scan.

    Examples
    --------
    100 of 150 in the right artery, and 50 called RCA that are LCX: 100 of 300 are wrong.

    >>> from types import SimpleNamespace
    >>> reference = {"LM": 0.0, "LAD": 100.0, "LCX": 50.0, "RCA": 0.0, "all": 150.0}
    >>> predicted = {"LM": 20.0, "LAD": 80.0, "LCX": 0.0, "RCA": 50.0, "all": 150.0}
    >>> round(wrong_share(SimpleNamespace(reference_agatston=reference, predicted_agatston=predicted)), 4)
    0.3333
    """
    reference, predicted = (
        _by_place(scores) for scores in (comparison.reference_agatston, comparison.predicted_agatston)
    )
    both = sum(reference) + sum(predicted)
    return sum(abs(a - b) for a, b in zip(reference, predicted, strict=True)) / both if both else 0.0


def _by_place(scores: Mapping[str, float]) -> tuple[float, ...]:
    left = scores[Artery.LM.name] + scores[Artery.LAD.name]
    named = (left, scores[Artery.LCX.name], scores[Artery.RCA.name])
    return (*named, max(scores[ALL] - sum(named), 0.0))


@dataclass(frozen=True)
class ScanError:
    """How far a bundle is from the readers on one scan.

    Parameters
    ----------
    wrong_share
        See `wrong_share`.
    reference, predicted
        Total Agatston.
    """

    wrong_share: float
    reference: float
    predicted: float

    @property
    def same_category(self) -> bool:
        """Whether both totals lie in one risk category."""
        return category(self.reference, SCHEME) == category(self.predicted, SCHEME)


def scan_errors(
    bundle: Path, shards: ShardSet, scans: Sequence[int], *, progress: Callable[[str], None] | None = None
) -> dict[int, ScanError | Failure]:
    """Let HeartLens score scans with a bundle, as it scores a user's.

    Parameters
    ----------
    bundle
        Its folder.
    shards
        Of the scans.
    scans
        Their numbers.
    progress
        Called with the name of each.
    """
    # What was refused or allowed was settled when the case was made.
    pairs = shard_pairs(shards, scans, Request(bundle=str(bundle), allow=OVERRIDABLE))
    errors: dict[int, ScanError | Failure] = {}
    for n, found in zip(scans, compare_pairs(pairs, ScoringProtocol(), on_progress=progress), strict=True):
        if isinstance(found, Failure):
            errors[n] = found
            continue
        comparison = found.stages.get(INTEGRATED) or found.stages[SEGMENTATION]
        totals = comparison.reference_agatston[ALL], comparison.predicted_agatston[ALL]
        errors[n] = ScanError(wrong_share(comparison), *totals)
    return errors


@dataclass(frozen=True)
class Judgement:
    """A new bundle against the one that it began with, on patients whom neither learned from.

    Parameters
    ----------
    what
        Whose patients these are.
    before, after
        Mean wrong share of each bundle.
    gain
        By how much the wrong share fell, by patient; positive is better.
    categories_before, categories_after
        (scans in the readers' category, scans) of each bundle.
    failures
        Scans that could not be scored by both, and why; they are in no number.
    """

    what: str
    before: float
    after: float
    gain: PairedMean
    categories_before: tuple[int, int]
    categories_after: tuple[int, int]
    failures: tuple[Failure, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Worse is a mean that fell; better is an interval that lies above 0, of enough patients; else it is open."""
        if self.gain.mean < 0:
            return Verdict.WORSE
        is_settled = self.gain.n >= LEAST_JUDGED and self.gain.low > 0
        return Verdict.BETTER if is_settled else Verdict.UNSETTLED

    @property
    def patients_missing(self) -> tuple[int | None, tuple[int | None, int | None]]:
        """How many held-out patients more would settle it, and between which numbers; None where none would."""
        needed, interval = pairs_to_settle(self.gain)
        least = LEAST_JUDGED - self.gain.n

        def more(number: int | None) -> int | None:
            return None if number is None else max(number - self.gain.n, least, 0)

        return more(needed), (more(interval[0]), more(interval[1]))

    def __str__(self) -> str:
        g = self.gain
        interval = f"{g.low:+.3f} to {g.high:+.3f}" if g.n > 1 else "no interval"
        return (
            f"{self.what}: wrong share of the score {self.before:.3f} before, {self.after:.3f} after, "
            f"gain {g.mean:+.3f} ({interval}, {g.n} patients); scans in the reader's category "
            f"{self.categories_before[0]} and {self.categories_after[0]} of {self.categories_after[1]}: {self.verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; a number that is not defined is None."""
        more, (least, most) = self.patients_missing
        gain = {key: None if value != value else value for key, value in self.gain._asdict().items()}
        return {
            "what": self.what,
            "wrong_share": {"before": self.before, "after": self.after, "gain": gain},
            "categories": {"before": list(self.categories_before), "after": list(self.categories_after)},
            "failures": [asdict(failure) for failure in self.failures],
            "verdict": self.verdict.value,
            "patients_missing": {"number": more, "low": least, "high": most},
        }


def judge(
    what: str,
    shards: ShardSet,
    before: Mapping[int, ScanError | Failure],
    after: Mapping[int, ScanError | Failure],
) -> Judgement:
    """Compare two bundles in pairs: everything of a patient together, and no patient whom only one could score.

    Parameters
    ----------
    what
        Whose patients these are.
    shards
        Of the scans.
    before, after
        Errors of each bundle on the same scans.
    """
    failures = [one for errors in (before, after) for one in errors.values() if isinstance(one, Failure)]
    pairs: dict[str, list[tuple[ScanError, ScanError]]] = {}
    for n, old in before.items():
        new = after[n]
        if isinstance(old, ScanError) and isinstance(new, ScanError):
            pairs.setdefault(shards.scans[n].patient, []).append((old, new))
    gains = [float(np.mean([a.wrong_share - b.wrong_share for a, b in own])) for own in pairs.values()]
    every = [pair for own in pairs.values() for pair in own]
    before_share, after_share = (_mean_of_patients(pairs.values(), side) for side in (0, 1))
    right = [(sum(pair[side].same_category for pair in every), len(every)) for side in (0, 1)]
    unique = {(f.name, f.reason): f for f in failures}
    return Judgement(what, before_share, after_share, paired_mean(gains), right[0], right[1], tuple(unique.values()))


def _mean_of_patients(patients: Iterable[Sequence[tuple[ScanError, ScanError]]], side: int) -> float:
    means = [sum(pair[side].wrong_share for pair in own) / len(own) for own in patients]
    return sum(means) / len(means) if means else math.nan
