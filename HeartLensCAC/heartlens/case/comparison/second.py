"""A second reading that is blind: it begins where the first one began, and knows nothing of what that one did."""

from __future__ import annotations

from heartlens.case.case import Case
from heartlens.case.comparison.adjudication import is_adjudicated
from heartlens.core.errors import InputRefused


def unread(first: Case) -> Case:
    """The automatic result of a case, as a case that nobody has read: without edits, names and times of a reader.

    What is known of the scan and of its person is no reading, and stays.

    Parameters
    ----------
    first
        The case, read or not.

    Raises
    ------
    InputRefused
        ``input``: it was made of two readings, and is no automatic result.
    """
    if is_adjudicated(first):
        raise InputRefused(
            "input",
            "the case was made of two readings, and who begins with it is not blind: name one of the two readings",
        )
    return Case(first.inputs, risk_inputs=first.risk_inputs, cautions=first.cautions, provenance=first.provenance)
