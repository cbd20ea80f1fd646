"""Sentences with slots: what a draft says without the values, and the values that the program puts into it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SLOT = re.compile(r"\{([a-z_]+)\}")
"""A place for a value. No digit in the name: outside its values a draft holds no digit at all."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of a draft.

    Parameters
    ----------
    text
        With slots in place of every number, category, artery and date.
    is_fixed
        It stands on a line of its own and may not be re-worded: the state and the notice.
    is_list
        Its slots belong together in pairs, and commas between the pairs say which.
    """

    text: str
    is_fixed: bool = False
    is_list: bool = False

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of its slots, in their order."""
        return tuple(SLOT.findall(self.text))


@dataclass(frozen=True)
class DraftText:
    """A result in sentences.

    Parameters
    ----------
    sentences
        The first and the last are fixed.
    values
        Of each slot; what is shown, never empty.

    Raises
    ------
    ValueError
        A slot without a value, a value without a slot, or a slot twice.
    """

    sentences: tuple[Sentence, ...]
    values: Mapping[str, str]

    def __post_init__(self) -> None:
        counts = Counter(slot for sentence in self.sentences for slot in sentence.slots)
        if set(counts) != set(self.values) or set(counts.values()) - {1} or not all(self.values.values()):
            raise ValueError(f"expected each slot once, with a value; got {dict(counts)} and {dict(self.values)}")

    @property
    def skeleton(self) -> str:
        """The sentences that may be re-worded, one a line, without a value: all that a model is shown."""
        return "\n".join(sentence.text for sentence in self.sentences if not sentence.is_fixed)

    def text(self, lines: Sequence[str] | None = None) -> str:
        """All sentences with their values.

        Parameters
        ----------
        lines
            What stands in place of the sentences that are not fixed, with the same slots; None is their own text.
        """
        own = [sentence for sentence in self.sentences if not sentence.is_fixed]
        body = [sentence.text for sentence in own] if lines is None else list(lines)
        fixed = [self._filled(sentence.text) for sentence in self.sentences if sentence.is_fixed]
        return "\n\n".join([*fixed[:-1], " ".join(self._filled(line) for line in body), fixed[-1]])

    def _filled(self, text: str) -> str:
        # In one pass: a value, such as a reader's name, may itself look like a slot.
        return SLOT.sub(lambda found: self.values[found[1]], text)
