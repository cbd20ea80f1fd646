"""Which finding leads to what: whether a scan allows a statement about the person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType

from heartlens.core.provenance import LabelSource


class State(str, Enum):
    """How far a person has answered for a result."""

    DRAFT = "draft"
    READ = "read"
    SIGNED = "signed"
    ALTERED = "altered"  # changed after it was signed: no signer may be shown as valid

    def __str__(self) -> str:
        return self.value


class Evaluable(str, Enum):
    """Whether the scan allows a statement about the person."""

    YES = "yes"
    LIMITED = "limited"
    NO = "no"

    def __str__(self) -> str:
        return self.value


EVALUABLE_BY_CODE: Mapping[str, Evaluable] = MappingProxyType(
    {
        "contrast": Evaluable.NO,  # enhanced blood scores as calcium
        "few-slices": Evaluable.NO,  # most of the heart is not there
        "no-heart": Evaluable.NO,  # nothing was looked at
        "no-hu": Evaluable.NO,  # allowed by the user: a threshold of 130 means nothing
        "clipped": Evaluable.NO,  # peaks are cut off, and weights with them
        "hu-jump": Evaluable.NO,  # some slices are not in HU
        "orientation": Evaluable.NO,  # arteries are named by where they lie
        "metal-on-artery": Evaluable.LIMITED,  # plaque alone would score less; dense plaque may look like it
        "false-zero": Evaluable.NO,  # heart, lungs or blood are not as in people
        "extrapolated-gaps": Evaluable.NO,  # slices are missing, and with them what they hold
        "heart-cut-top": Evaluable.NO,  # as of half a series: the arteries begin there
        "heart-cut": Evaluable.LIMITED,
        "image-count": Evaluable.LIMITED,  # scored though nobody knows whether all images had come
        "labels": Evaluable.LIMITED,  # labels that may not lie on this scan
        "metal": Evaluable.LIMITED,
        "field": Evaluable.LIMITED,
        "slice-order": Evaluable.LIMITED,
        "non-gated": Evaluable.LIMITED,
        "unsettled": Evaluable.LIMITED,
    }
)
"""What each finding leads to, the one table that says so; a code that is not here means nothing for the number."""

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "contrast": "contrast medium, which scores as calcium",
        "few-slices": "too few slices to show the heart",
        "no-heart": "no heart was found",
        "extrapolated-gaps": "gaps between the slices",
        "heart-cut-top": "the scan begins below the top of the heart",
        "heart-cut": "the scan ends above the lower end of the heart",
        "image-count": "nobody confirmed that all images are here",
        "metal": "metal near the heart",
        "non-gated": "not known to be ECG-gated",
        "no-hu": "values that are not Hounsfield units",
        "clipped": "values that were cut off above",
        "hu-jump": "slices that are not in Hounsfield units",
        "orientation": "a body that lies otherwise than the file says",
        "metal-on-artery": "metal on an artery",
        "false-zero": "heart, lungs or blood unlike those of people",
        "field": "an image smaller than its header says",
        "slice-order": "an order of slices that the header contradicts",
        "labels": "labels that mostly hold no calcium",
        "unsettled": "slices on which the networks contradict each other",
    }
)
"""The same findings in a few words, for a headline; the warning itself says what it does to the score."""


SETTLED_BY_SIGNING = frozenset({"network", "rules", "no-bundle", "unsettled", "metal-on-artery"})
"""Warnings that ask for a reader: who signs has looked, and answers for it."""


def evaluability(codes: Iterable[str], labels: LabelSource | None) -> tuple[Evaluable, tuple[str, ...]]:
    """Whether a scan allows a statement, and the codes of the warnings that say otherwise.

    Parameters
    ----------
    codes
        Of the warnings that travel with the result.
    labels
        Who named the calcium; given labels need no heart to be found.
    """
    reasons = [code for code in dict.fromkeys(codes) if code in EVALUABLE_BY_CODE]
    if labels is None or not labels.is_automatic:
        reasons = [code for code in reasons if code != "no-heart"]
    worst = max((EVALUABLE_BY_CODE[code] for code in reasons), key=list(Evaluable).index, default=Evaluable.YES)
    return worst, tuple(reasons)
