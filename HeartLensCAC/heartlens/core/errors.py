"""What HeartLens says when it will not score, and what it says beside a score.

A `InputRefused` ends the run (exit 3 on the command line); a `WarningRecord` goes into the report.
The codes are a contract: users pass them to ``--allow`` and programs read them in report.json.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

_STEERS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Kinds of characters that draw nothing and steer what draws: controls, marks of direction, halves of characters."""

_JOINERS = "\u200c\u200d"
"""Of those, what words of Persian and of Indian languages are written with."""

OVERRIDABLE = frozenset({"clipped", "contrast", "derived", "few-slices", "no-hu", "not-axial", "orientation"})
"""Refusals that a user may turn into a warning with ``--allow CODE``."""

FINAL = frozenset(
    {
        "tilt", "gap", "duplicate", "uneven", "mixed", "truncated", "unreadable", "modality",
        "grid", "labels", "checksum", "ambiguous", "output", "input", "geometry",
    }
)  # fmt: skip
"""Refusals that no option lifts: the number would be wrong, or nothing could be written."""


def visible(text: str) -> str:
    r"""A text on one line in which every character that steers a terminal is written out.

    A description or a file name may hold sequences that recolor, move or answer for the terminal, and marks that show
    letters in another order than they have.

    Examples
    --------
    >>> visible("CaSc \x1b[2J 3,0 mm\u202e"), visible("Schädel 冠動脈")
    ('CaSc \\x1b[2J 3,0 mm\\u202e', 'Schädel 冠動脈')
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _STEERS and character not in _JOINERS
        else character
        for character in text
    )


class WarningRecord(NamedTuple):
    """A warning that travels with the result: it changes how the score may be read.

    Its text goes into reports: it names tags and says what they mean, and quotes neither a file's name nor free text
    of a header, because both may hold an identity.
    """

    code: str
    text: str


class InputRefused(Exception):
    """The input cannot be scored honestly.

    Parameters
    ----------
    code
        One of `OVERRIDABLE` or `FINAL`.
    text
        One line: what, where, what was expected, what was found, the way out. Never an identity. What would steer a
        terminal is made visible.
    """

    def __init__(self, code: str, text: str) -> None:
        if code not in OVERRIDABLE | FINAL:
            raise ValueError(f"refusal code must be one of {sorted(OVERRIDABLE | FINAL)}, got {code!r}")
        self.code = code
        self.text = visible(" ".join(text.splitlines()))
        super().__init__(f"{code}: {self.text}")


class NotWritten(Exception):
    """One of several outputs cannot be made from this source; the result stands without it.

    Its text becomes a note: it says why in words, and quotes no value.
    """


def refuse_or_warn(
    code: str, text: str, allow: frozenset[str] | set[str], *, where: str = "", found: str = ""
) -> WarningRecord:
    """Refuse, or, when the user has allowed this code, return the warning that takes its place.

    Parameters
    ----------
    code
        Of the refusal.
    text
        What is wrong, without the name of a file and without free text of a header.
    allow
        Codes that the user has lifted.
    where, found
        The file or slice, and what its header says: for the refusal alone, because a warning goes into reports.

    Raises
    ------
    InputRefused
        `code` is not in `allow`, or is one that cannot be allowed
    """
    if code in allow and code in OVERRIDABLE:
        return WarningRecord(code, f"allowed by the user: {text}")
    place = f"{where}: " if where else ""
    quote = f" (found {found})" if found else ""
    way_out = f"; --allow {code} scores it anyway" if code in OVERRIDABLE else ""
    raise InputRefused(code, f"{place}{text}{quote}{way_out}")
