"""A draft re-worded by a model, where every sentence of it holds; else the draft's own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heartlens.app.draft.endpoint import Endpoint, NoAnswer, ask
from heartlens.report.draft.checker import Fault, faults_of, lines_of
from heartlens.report.draft.sentences import DraftText
from heartlens.report.draft.vocabulary import CLAIM_OF, FILLERS, NEGATIONS

ORDERS = (
    "Re-word the sentences below. Keep their number and order, each on a line of its own. Keep every slot in braces as "
    "it is, in its sentence and in its order. Write no digit and no number. Add nothing, leave nothing out, keep every "
    "negation. Answer with the sentences alone. You may use these words and those of the sentences: "
)


@dataclass(frozen=True)
class Rewording:
    """What a model was asked, what it said, and whether that may stand.

    Parameters
    ----------
    model
        Its name at the endpoint.
    endpoint
        Host and port.
    messages
        What it was shown: sentences with slots, and no value.
    answer
        As it came; None where none did.
    why_none
        Why none did; "" where one did.
    faults
        What is wrong with it.
    """

    model: str
    endpoint: str
    messages: Sequence[Mapping[str, str]]
    answer: str | None = None
    why_none: str = ""
    faults: tuple[Fault, ...] = ()

    @property
    def lines(self) -> list[str] | None:
        """The sentences that stand in place of the draft's own; None where those stand."""
        return None if self.answer is None or self.faults else lines_of(self.answer)

    @property
    def note(self) -> str:
        """One line on why the draft's own words stand; "" where the model's do."""
        if self.answer is None:
            return f"not re-worded: {self.why_none}; the draft stands as the program wrote it"
        if self.faults:
            more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            return f"re-wording refused: {self.faults[0]}{more}; the draft stands as the program wrote it"
        return ""

    def to_json(self) -> dict[str, Any]:
        """What is kept of it beside the draft."""
        return {
            "model": self.model,
            "endpoint": self.endpoint,
            "messages": [dict(message) for message in self.messages],
            "answer": self.answer,
            "why_none": self.why_none,
            "accepted": self.lines is not None,
            "faults": [{"code": fault.code, "text": fault.text} for fault in self.faults],
        }


def messages_for(draft: DraftText) -> list[dict[str, str]]:
    """What a model is shown: orders, and the sentences with slots in place of every value."""
    words = " ".join(sorted(FILLERS | NEGATIONS | set(CLAIM_OF)))
    return [{"role": "system", "content": f"{ORDERS}{words}"}, {"role": "user", "content": draft.skeleton}]


def max_tokens_for(draft: DraftText) -> int:
    """Where a model is to stop: at twice the draft, which is refused anyway. A token has about four letters."""
    return len(draft.skeleton) // 2


def reword(draft: DraftText, url: str, model: str, *, allow_remote: bool = False, seconds: float = 120.0) -> Rewording:
    """Ask a model for other words, and look whether they may stand.

    Parameters
    ----------
    draft
        To re-word.
    url
        Of the endpoint.
    model
        Its name there.
    allow_remote
        Ask another computer, too.
    seconds
        For all of it.
    """
    messages = messages_for(draft)
    try:
        endpoint = Endpoint.of(url)
    except NoAnswer as problem:
        return Rewording(model, "", messages, why_none=str(problem))
    try:
        answer = ask(
            endpoint, model, messages, allow_remote=allow_remote, seconds=seconds, max_tokens=max_tokens_for(draft)
        )
    except NoAnswer as problem:
        return Rewording(model, str(endpoint), messages, why_none=str(problem))
    return Rewording(model, str(endpoint), messages, answer, faults=faults_of(draft, answer))
