"""What HeartLens says when it will not score, and what it says beside a score.

A `InputRefused` ends the run (exit 3 on the command line); a `WarningRecord` goes into the report.
The codes are a contract: users pass them to ``--allow`` and programs read them in report.json.
"""

from __future__ import annotations

from typing import NamedTuple

OVERRIDABLE = frozenset({"contrast", "derived", "few-slices", "not-axial", "no-hu"})
"""Refusals that a user may turn into a warning with ``--allow CODE``."""

FINAL = frozenset(
    {
        "tilt", "gap", "duplicate", "uneven", "mixed", "truncated", "unreadable", "modality",
        "grid", "labels", "checksum", "ambiguous", "output", "input",
    }
)  # fmt: skip
"""Refusals that no option lifts: the number would be wrong, or nothing could be written."""


class WarningRecord(NamedTuple):
    """A warning that travels with the result: it changes how the score may be read."""

    code: str
    text: str


class InputRefused(Exception):
    """The input cannot be scored honestly.

    Parameters
    ----------
    code
        One of `OVERRIDABLE` or `FINAL`.
    text
        One line: what, where, what was expected, what was found, the way out. Never an identity.
    """

    def __init__(self, code: str, text: str) -> None:
        if code not in OVERRIDABLE | FINAL:
            raise ValueError(f"refusal code must be one of {sorted(OVERRIDABLE | FINAL)}, got {code!r}")
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def refuse_or_warn(code: str, text: str, allow: frozenset[str] | set[str]) -> WarningRecord:
    """Refuse, or, when the user has allowed this code, return the warning that takes its place.

    Raises
    ------
    InputRefused
        `code` is not in `allow`, or is one that cannot be allowed
    """
    if code in allow and code in OVERRIDABLE:
        return WarningRecord(code, f"allowed by the user: {text}")
    way_out = f"; --allow {code} scores it anyway" if code in OVERRIDABLE else ""
    raise InputRefused(code, text + way_out)
