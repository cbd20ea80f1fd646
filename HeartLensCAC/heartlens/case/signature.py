"""Signing: who answers for a result, and what has to be settled before anybody can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from gettext import NullTranslations

from heartlens.case.case import Case
from heartlens.core.lesions import Artery
from heartlens.risk.assessment import ENGLISH, Assessment
from heartlens.risk.evaluable import SETTLED_BY_SIGNING, State, evaluability
from heartlens.scoring.report import display_agatston

SIGNATURE_SCHEMA = "heartlens.signature/2"

MAX_NAME = 64
"""Characters of a DICOM person name or long string, PS3.5 6.2."""


@dataclass(frozen=True)
class Signature:
    """Who has signed, for whom, and when.

    Parameters
    ----------
    observer
        Name of the reader, as DICOM writes it ("Family^Given") or as people do.
    organization
        Hospital or group.
    when
        ISO 8601 time with its offset from UTC

    Raises
    ------
    ValueError
        A field is empty, too long, or has characters that DICOM does not take; the text is for readers.
    """

    observer: str
    organization: str
    when: str

    def __post_init__(self) -> None:
        for what, name in (("observer's name", self.observer), ("organization", self.organization)):
            if not name.strip():
                raise ValueError(f"the {what} is missing; a result is signed by a named person for an organization")
            if len(name) > MAX_NAME or "\\" in name or not name.isprintable():
                raise ValueError(f"the {what} must have at most {MAX_NAME} characters on one line, without a backslash")
        if datetime.fromisoformat(self.when).tzinfo is None:
            raise ValueError(f"when must say its offset from UTC, got {self.when!r}")


def now() -> str:
    """The present moment as edits and signatures keep it: ISO 8601, whole seconds, with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def state_of(case: Case, signature: Signature | None, state: State | None) -> State:
    """The state in which a case is written: signed with a signature, else what is known of it, else its own."""
    return State.SIGNED if signature is not None else state or case.assessment.state


def answered(case: Case, state: State) -> Assessment:
    """What may be said of a case in the state that is known of it.

    Where somebody has signed, what asked for a reader limits the statement no more, and no network's probability stands
    beside the reader's word.
    """
    assessment = replace(case.assessment, state=state)
    if state is not State.SIGNED:
        return assessment
    evaluable, reasons = evaluability(
        (code for code in assessment.reasons if code not in SETTLED_BY_SIGNING), case.provenance.labels
    )
    return replace(assessment, evaluable=evaluable, reasons=reasons, likeliest=None, likeliest_probability=None)


def state_words(state: State, signature: Signature | None = None, say: NullTranslations = ENGLISH) -> str:
    """How far a person has answered for a result, in words.

    Parameters
    ----------
    state
        Of the result.
    signature
        Of a signed one.
    say
        The language.

    Examples
    --------
    >>> state_words(State.SIGNED, Signature("Reader^Rita", "Clinic", "2026-11-29T10:00:00+01:00"))
    'SIGNED by Rita Reader, Clinic, 2026-11-29 10:00 (UTC+01:00)'
    """
    if state is State.SIGNED and signature is not None:
        moment = datetime.fromisoformat(signature.when)
        text = say.gettext("SIGNED by {who}, {organization}, {when}")
        return text.format(
            who=shown_name(signature.observer),
            organization=signature.organization,
            when=f"{moment:%Y-%m-%d %H:%M} ({moment.tzinfo})",
        )
    return {
        State.DRAFT: say.gettext("DRAFT, read by nobody"),
        State.READ: say.gettext("READ, edited by a reader and not signed"),
        State.SIGNED: say.gettext("SIGNED"),
        State.ALTERED: say.gettext("ALTERED after it was signed: no signature is valid"),
    }[state]


def shown_name(name: str) -> str:
    """A name as people write it.

    Examples
    --------
    >>> shown_name("Reader^Rita^A^Dr."), shown_name("Rita Reader")
    ('Dr. Rita A Reader', 'Rita Reader')
    """
    if "^" not in name:
        return name
    family, given, middle, prefix, suffix = (*name.split("=")[0].split("^"), "", "", "", "")[:5]
    return " ".join(part for part in (prefix, given, middle, family, suffix) if part)


def obstacles(case: Case, *, confirmed: bool) -> tuple[str, ...]:
    """Why a result cannot be signed yet, one sentence each; empty when it can.

    Calcium without an artery blocks, an undecided lesion does, and so does a result that nobody said they looked
    through. Spec 7.2.

    Parameters
    ----------
    case
        What is to be signed.
    confirmed
        The reader said so: that each lesion is right, or, at score 0, that the heart holds no calcium.
    """
    reasons = []
    unassigned = sum(artery is Artery.UNASSIGNED for artery in case.lesions.arteries.values())
    if unassigned:
        what = "1 lesion has" if unassigned == 1 else f"{unassigned} lesions have"
        reasons.append(f"{what} no artery yet: give each to LM, LAD, LCX or RCA, or exclude it.")
    undecided = case.assessment.undecided
    if undecided:
        numbers = ", ".join(str(lesion) for lesion in undecided)
        what = f"Lesion {numbers} is" if len(undecided) == 1 else f"Lesions {numbers} are"
        reasons.append(f"{what} undecided: say of each which artery it lies in, or that it is not coronary.")
    if not confirmed:
        reasons.append("Not confirmed yet: " + confirmation(case))
    return tuple(reasons)


def confirmation(case: Case) -> str:
    """What a reader says by signing this result, with what the networks left to the reader."""
    left = sum(note.undecided for note in case.auto.notes.values())
    more = ""
    if left:
        one = " and decided on the one lesion that was undecided"
        more = one if left == 1 else f" and decided on the {left} lesions that were undecided"
    if any(caution.code == "unsettled" for caution in case.cautions):
        more += ", and looked at every slice on which the networks contradict each other"
    if case.report.total.agatston == 0:
        return f"I have looked through the heart on every slice{more}: there is no coronary calcium."
    counted = sum(totals.lesions for artery, totals in case.report.arteries.items() if artery is not Artery.OTHER)
    lesions = "the 1 lesion" if counted == 1 else f"all {counted} lesions"
    return f"I have checked {lesions}{more}: total Agatston score {display_agatston(case.report.total.agatston)}."
