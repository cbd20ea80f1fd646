"""Why a scan needs a reader, and which scan needs one most: what the page of a cohort and the reader's list go by."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

CLEAR_PROBABILITY = 0.9
"""From here on the likeliest category is not offered to a reader because of its probability. A choice."""


class Need(IntEnum):
    """Why a scan that nobody has answered for needs a reader, the most pressing first."""

    CATEGORY = 0
    CONTRADICTION = 1
    LESIONS = 2
    PROBABILITY = 3
    METAL = 4
    ROUTINE = 5

    @property
    def words(self) -> str:
        """For a list; "" for an automatic score without a doubt of its own, which is a draft all the same."""
        return WORDS[self]


WORDS = {
    Need.CATEGORY: "the category depends on undecided lesions",
    Need.CONTRADICTION: "the networks contradict each other",
    Need.LESIONS: "lesions are undecided",
    Need.PROBABILITY: "the category is uncertain by the networks",
    Need.METAL: "metal on an artery",
    Need.ROUTINE: "",
}


def need_of(assessment: Mapping[str, Any]) -> Need:
    """Why a scan needs a reader.

    Parameters
    ----------
    assessment
        As report.json holds it.

    Examples
    --------
    >>> plain = {"category_low": "mild", "category_high": "mild", "reasons": [], "undecided": [4]}
    >>> need_of({**plain, "likeliest_probability": None})
    <Need.LESIONS: 2>
    """
    probability = assessment["likeliest_probability"]
    if assessment["category_low"] != assessment["category_high"]:
        return Need.CATEGORY
    if "unsettled" in assessment["reasons"]:
        return Need.CONTRADICTION
    if assessment["undecided"]:
        return Need.LESIONS
    if probability is not None and probability < CLEAR_PROBABILITY:
        return Need.PROBABILITY
    return Need.METAL if "metal-on-artery" in assessment["reasons"] else Need.ROUTINE
