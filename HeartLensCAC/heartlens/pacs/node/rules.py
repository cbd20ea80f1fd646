"""When a series is whole enough to be scored, and which result may leave: the rules of the node, and nothing else.

A score of half a series looks like a score. So a quiet time alone never makes a series complete: the archive is asked
how many images it has; where nobody can say, the wait is longer and the series is called unverified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from heartlens.dicom.series import HEART_LENGTH_MM
from heartlens.dicom.source.images import MANUFACTURER
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, REASONS, Evaluable


class Phase(str, Enum):
    """Where a series stands."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNVERIFIED = "unverified"
    SCORING = "scoring"
    SCORED = "scored"
    HELD = "held"
    REFUSED = "refused"
    FAILED = "failed"
    SENT = "sent"
    UNSENT = "unsent"
    SUPERSEDED = "superseded"  # of a result: images came after it was made

    def __str__(self) -> str:
        return self.value


READY = (Phase.COMPLETE, Phase.UNVERIFIED)
"""May be scored."""

WAITING = (Phase.RECEIVING, Phase.INCOMPLETE)
"""Are judged again and again."""


@dataclass(frozen=True)
class Waits:
    """How long the node waits, seconds.

    Parameters
    ----------
    quiet_s
        After the last image, before anybody is asked.
    unverified_s
        After the last image, before a series is scored of which nobody says how many images it has.
    ask_again_s
        Between two questions about a series that is incomplete.
    """

    quiet_s: float = 30.0
    unverified_s: float = 300.0
    ask_again_s: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.quiet_s <= self.unverified_s or self.ask_again_s <= 0:
            raise ValueError("waits must be positive, and the unverified one no shorter than the quiet one")


@dataclass(frozen=True)
class Facts:
    """What is known of a series that has not been scored.

    Parameters
    ----------
    images
        How many different ones are here.
    expected
        How many the archive, or every header, says there are; None where nobody says.
    is_broken
        The last association that brought some of it was not released, or images of it were deleted.
    silent_s
        Since the last new image.
    unfit
        Why it is none of ours; see `unfit_for_scoring`.
    is_open
        The association that brought the last image is not over: more may come.
    is_unasked
        Who could say how many there are was asked, and could not be reached.
    """

    images: int
    expected: int | None
    is_broken: bool
    silent_s: float
    unfit: str = ""
    is_open: bool = False
    is_unasked: bool = False


UNASKED = "unasked"
"""Code of a series that waits because the archive could not be asked about it."""

UNFIT: Mapping[str, str] = {
    "own": "HeartLens made it",
    "modality": "it is no CT",
    "derived": "its images are not original",
}
"""Why a series is not scored at all, by the code of the refusal."""


def unfit_for_scoring(modality: str, image_type: str, manufacturer: str) -> str:
    """The code of why images are none of ours; "" where nothing speaks against them.

    Parameters
    ----------
    modality
        As the header says.
    image_type
        The first value of ImageType.
    manufacturer
        As the header says.
    """
    if manufacturer.strip() == MANUFACTURER:
        return "own"
    if modality != "CT":
        return "modality"
    return "" if image_type == "ORIGINAL" else "derived"


def judge(facts: Facts, waits: Waits) -> Phase:
    """Where a series stands that has not been scored.

    Parameters
    ----------
    facts
        What is known of it.
    waits
        How long to wait.

    Examples
    --------
    >>> judge(Facts(images=41, expected=41, is_broken=False, silent_s=31), Waits()).value
    'complete'
    >>> judge(Facts(images=11, expected=41, is_broken=False, silent_s=9999), Waits()).value
    'incomplete'
    """
    if facts.unfit:
        return Phase.REFUSED
    if facts.silent_s < waits.quiet_s:
        return Phase.RECEIVING
    if facts.expected == facts.images:
        return Phase.COMPLETE
    if facts.expected is not None and facts.expected > facts.images:
        return Phase.INCOMPLETE
    # Nobody says how many there are, or who says it has fewer than we have and so is still receiving itself.
    if facts.is_broken:
        return Phase.INCOMPLETE
    # An archive that is down says nothing, and silence completes nothing: it is asked until it answers.
    must_wait = facts.is_unasked or facts.is_open or facts.silent_s < waits.unverified_s
    return Phase.RECEIVING if must_wait else Phase.UNVERIFIED


@dataclass(frozen=True)
class Outcome:
    """What becomes of a result.

    Parameters
    ----------
    state
        SCORED, which may be sent, or HELD, which never is.
    code, text
        Why it is held.
    """

    state: Phase
    code: str = ""
    text: str = ""


def outcome_of(report: Mapping[str, Any]) -> Outcome:
    """Whether a result may leave without a reader.

    Parameters
    ----------
    report
        report.json of the result.

    Returns
    -------
    Outcome
        Held where the scan allows no statement, or is shorter than a heart: parts of a scan look like that.
    """
    ct, assessment = report["ct"], report["assessment"]
    length_mm = (ct["slices"] - 1) * ct["increment_mm"]
    if length_mm < HEART_LENGTH_MM:
        text = (
            f"the scan is {length_mm:.0f} mm long, and a heart needs {HEART_LENGTH_MM:.0f} mm: a part of it is missing"
        )
        return Outcome(Phase.HELD, "short-scan", text)
    codes = [warning["code"] for warning in report["warnings"]]
    if assessment["evaluable"] == Evaluable.NO.value:
        code = next((code for code in assessment["reasons"] if EVALUABLE_BY_CODE.get(code) is Evaluable.NO), "")
        return Outcome(Phase.HELD, code or "not-evaluable", REASONS.get(code, "the scan allows no statement"))
    if "heart-cut-top" in codes:
        return Outcome(Phase.HELD, "heart-cut-top", REASONS["heart-cut-top"])
    return Outcome(Phase.SCORED)


def back_off_s(attempts: int, first_s: float, most_s: float = 3600.0) -> float:
    """How long to wait after so many attempts in vain, seconds.

    Examples
    --------
    >>> [back_off_s(n, 5) for n in (1, 2, 3, 20)]
    [5, 10, 20, 3600.0]
    """
    return min(first_s * 2 ** min(attempts - 1, 30), most_s)
