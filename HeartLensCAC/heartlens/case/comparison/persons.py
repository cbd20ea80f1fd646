"""Whether two scans are of one person, by what their headers say; no identity leaves this file."""

from __future__ import annotations

from heartlens.case.comparison.opened import OpenedCase
from heartlens.core.errors import InputRefused

AGE_SLACK_YEARS = 2.0
"""Ages are whole years, and typed in; more than this apart from what the dates say, they are of two people."""


def check_same_person(prior: OpenedCase, current: OpenedCase, *, asserted: bool) -> tuple[str, ...]:
    """Refuse two scans of two people.

    Parameters
    ----------
    prior, current
        The two scans.
    asserted
        The user says that they are of one person.

    Returns
    -------
    tuple[str, ...]
        What a reader must know of it, a sentence each.

    Raises
    ------
    InputRefused
        ``input``: patient IDs, or sexes, differ.
    """
    notes = []
    marks = (prior.patients, current.patients)
    if all(marks):
        if not marks[0] & marks[1]:
            if not asserted:
                raise InputRefused(
                    "input",
                    "the headers of the two scans name two patients: expected one patient ID; "
                    "if one person has two of them, say so with --same-person",
                )
            notes.append("The headers name two patients; the user said that they are one person.")
    else:
        notes.append("No header says whose both scans are: that they are of one person is the user's word.")
    a, b = (one.case.risk_inputs for one in (prior, current))
    if a.sex is not None and b.sex is not None and a.sex != b.sex:
        if not asserted:
            raise InputRefused(
                "input",
                f"the prior scan is of a person of sex {a.sex}, the current one of sex {b.sex}; "
                "if one of them is wrong and both are of one person, say so with --same-person",
            )
        notes.append("The two scans state different sexes; the user said that they are of one person.")
    days = None if prior.acquired is None or current.acquired is None else (current.acquired - prior.acquired).days
    if days is not None and a.age_years is not None and b.age_years is not None:
        off = b.age_years - a.age_years - days / 365.2425
        if abs(off) > AGE_SLACK_YEARS:
            apart = f"{b.age_years - a.age_years:+.0f} years apart and the scans {days / 365.2425:.1f}"
            notes.append(f"The stated ages are {apart}: check that both are of one person.")
    return tuple(notes)
