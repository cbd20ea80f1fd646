"""The closed vocabulary of a draft: which words a re-wording may use, and which of them carry a claim."""

from __future__ import annotations

from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILLERS = _words(
    "the a an is are was were be been has have of on in by for with as at this that these which it its here there and"
)
"""Words that carry no claim of their own; a re-wording sets and drops them freely. None compares, doubts or denies."""

NEGATIONS = _words("no not none nobody nothing never neither nor without cannot")
"""Each turns a statement around; they are the same claim, wherever the sentence needs another form of it."""

NOT = "not"
"""The claim of every negation."""

_SYNONYMS = (
    "total overall",
    "scored measured assessed",
    "score scores",
    "scan examination",
    "found detected seen",
    "named labeled",
    "called considered",
    "given reported",
    "adds sums amounts",
    "says tells",
    "person patient",
    "about regarding concerning",
    "lies falls",
    "range interval",
    "now currently presently",
    "depends hinges",
    "limited restricted",
    "uncertain unclear",
    "close near",
    "place location",
    "alone itself",
    "lesion lesions",
    "artery arteries",
    "calcium calcification",
)
"""Words that say the same in every sentence of a draft; the first is the claim."""

_ALONE = _words(
    "coronary agatston method ct stated date evaluable up estimated category scheme cac-drs class to cut-off but "
    "probabilities all reader must decide undecided changing statement plaque calcified excluded what"
)
"""Words for which there is no other."""

CLAIM_OF = MappingProxyType(
    {
        **{word: line.split()[0] for line in _SYNONYMS for word in line.split()},
        **dict.fromkeys(NEGATIONS, NOT),
        **{word: word for word in _ALONE},
    }
)
"""What each word that is no filler claims; no word is of the vocabulary that is neither here nor in `FILLERS`."""

NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands "
    "million dozen half halves third thirds quarter quarters once twice thrice double triple first second fourth "
    "fifth tenth percent percentage per single both several few many"
)
"""Numbers in words. None is in the vocabulary; they are named so that the refusal can say what it is."""
