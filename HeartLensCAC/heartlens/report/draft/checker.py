"""Whether a re-wording says what the draft says: held sentence by sentence, without understanding a word of it.

A sentence makes claims in an order: its slots, its negations, and the words that carry meaning. A re-wording may set
other words of the vocabulary between them, and say a claim by a word of the same meaning; the claims, and their order,
are the draft's. What cannot be compared so is refused, also where a person would let it pass.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from heartlens.report.draft.sentences import SLOT, DraftText, Sentence
from heartlens.report.draft.vocabulary import CLAIM_OF, FILLERS, NEGATIONS, NOT, NUMBER_WORDS

LETTERS = re.compile(r"[A-Za-z{}_ \n.,;:()-]*")
"""Every character that an answer may hold: no digit, quote or markup, and no letter that only looks like one."""

TOKEN = re.compile(r"\{[a-z_]+\}|[A-Za-z]+(?:-[A-Za-z]+)*|[,;:()]")

GLUED = re.compile(r"[A-Za-z}-]\{|\}[A-Za-z{-]")
"""What would make another value of a slot's: a minus, a letter that reads as a unit."""

LONE_HYPHEN = re.compile(r"(?<![A-Za-z])-|-(?![A-Za-z])")
"""One that stands in no word: before a number it is a minus."""

SEPARATOR = ","
"""What stands between the pairs of a list: comma, semicolon, "and", or several of them."""

LONGER = 2
"""How many times as long as the draft's a sentence may be."""

MORE_WORDS = 4
"""And so many words more, because some sentences are short."""


@dataclass(frozen=True)
class Fault:
    """Why a re-wording is refused.

    Parameters
    ----------
    code
        ``empty``, ``length``, ``character``, ``number``, ``slot``, ``sentences``, ``word``, ``negation``, ``claim``
    text
        In words; it quotes nothing but letters of the answer, at most 40.
    """

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def lines_of(answer: str) -> list[str]:
    """The sentences of an answer, each with its full stop."""
    return [f"{' '.join(part.split())}." for part in re.split(r"[.\n]", answer) if part.strip()]


def faults_of(draft: DraftText, answer: str) -> tuple[Fault, ...]:
    """Why an answer may not stand in place of the draft's own sentences; empty where it may.

    Parameters
    ----------
    draft
        With what is fixed.
    answer
        Sentences for those of the draft that are not fixed, with its slots.
    """
    own = [sentence for sentence in draft.sentences if not sentence.is_fixed]
    if not answer.strip():
        return (Fault("empty", "the answer is empty"),)
    room = sum(LONGER * len(sentence.text) + 8 * MORE_WORDS for sentence in own)
    if len(answer) > room:
        return (Fault("length", f"the answer has {len(answer)} characters, at most {room} were expected"),)
    faults = [*_wrong_letters(answer), *_wrong_slots(own, answer)]
    lines = lines_of(answer)
    if len(lines) != len(own):
        faults.append(Fault("sentences", f"expected {len(own)} sentences, got {len(lines)}"))
    else:
        for number, (sentence, line) in enumerate(zip(own, lines, strict=True), 1):
            faults += _wrong_sentence(sentence, line, f"sentence {number}")
    faults += _wrong_words(answer)
    return tuple(sorted(dict.fromkeys(faults), key=lambda fault: _ORDER.index(fault.code)))


_ORDER = ("empty", "length", "character", "number", "word", "slot", "sentences", "negation", "claim")
"""What is wrong with a letter or a word says more than what follows from it."""


def _wrong_letters(answer: str) -> Iterator[Fault]:
    if any(letter.isnumeric() for letter in answer):
        yield Fault("number", "a digit outside of the slots")
    wrong = sorted({letter for letter in answer if not letter.isnumeric() and not LETTERS.fullmatch(letter)})
    if wrong:
        shown = ", ".join(f"U+{ord(letter):04X}" for letter in wrong[:5])
        yield Fault("character", f"characters that no sentence of a draft has: {shown}")
    if LONE_HYPHEN.search(answer):
        yield Fault("character", "a hyphen that stands in no word, and may be read as a minus")


def _wrong_slots(own: list[Sentence], answer: str) -> Iterator[Fault]:
    expected = Counter(slot for sentence in own for slot in sentence.slots)
    found = Counter(SLOT.findall(answer))
    for slot in sorted(expected | found):
        if slot not in expected:
            yield Fault("slot", f"{{{slot[:40]}}} is no slot of this draft")
        elif found[slot] != 1:
            yield Fault("slot", f"{{{slot}}} is {'missing' if not found[slot] else 'there more than once'}")
    if re.search(r"[{}_]", SLOT.sub("", answer)):
        yield Fault("slot", "a brace or an underscore that belongs to no slot")
    if GLUED.search(answer):
        yield Fault("slot", "a slot with a letter, a hyphen or another slot right beside it")


def _wrong_words(answer: str) -> Iterator[Fault]:
    for token in TOKEN.findall(answer):
        word = token.lower()
        if not word[0].isalpha() or word in FILLERS or word in CLAIM_OF:
            continue
        if set(word.split("-")) & NUMBER_WORDS:
            yield Fault("number", f"{word[:40]!r} is a number in words")
        else:
            yield Fault("word", f"{word[:40]!r} is not in the vocabulary of a draft")


def _wrong_sentence(sentence: Sentence, line: str, where: str) -> Iterator[Fault]:
    own, others = _claims(sentence, sentence.text), _claims(sentence, line)
    slots, found = [c for c in own if c[0] == "{"], [c for c in others if c[0] == "{"]
    if slots != found:
        yield Fault("slot", f"{where}: expected {' '.join(slots) or 'no slot'}, got {' '.join(found)[:80] or 'none'}")
    negations = own.count(NOT)
    if others.count(NOT) != negations:
        yield Fault("negation", f"{where}: {negations} times not was said, and now {others.count(NOT)} times")
    elif own != others:
        yield Fault("claim", f"{where}: {_difference(own, others)}")
    room = LONGER * len(TOKEN.findall(sentence.text)) + MORE_WORDS
    if len(TOKEN.findall(line)) > room:
        yield Fault("length", f"{where} has more than {room} words")


def _claims(sentence: Sentence, text: str) -> list[str]:
    """Slots, negations and words that carry meaning, in their order; of a list also what separates its pairs."""
    claims: list[str] = []
    is_listing = False
    for token in TOKEN.findall(text):
        word = token.lower()
        if token[0] == "{":
            claims.append(token)
            is_listing = sentence.is_list
        elif is_listing and word in (",", ";", "and"):
            claims += [SEPARATOR] if claims[-1] != SEPARATOR else []
        elif word in NEGATIONS:
            claims.append(NOT)
        elif word[0].isalpha() and word not in FILLERS:
            claims.append(CLAIM_OF.get(word, word))
    return claims


def _difference(own: list[str], others: list[str]) -> str:
    """The first claim that is not the draft's."""
    for mine, other in zip(own, others, strict=False):
        if mine != other:
            return f"expected {mine!r}, got {other[:40]!r}"
    if len(own) > len(others):
        return f"{own[len(others)]!r} is missing"
    return f"{others[len(own)][:40]!r} was added"
