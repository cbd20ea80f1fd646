"""Why a request is not answered, beside what the library itself refuses."""

from __future__ import annotations


def sentence(text: str) -> str:
    """With a capital letter and a full stop: it stands alone on the page.

    Examples
    --------
    >>> sentence("nothing to undo")
    'Nothing to undo.'
    """
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


class Stale(Exception):
    """The page has not seen all edits: it shows the case anew, and what it asked for was not done."""


class BodyTooLarge(Exception):
    """A body whose length was not said goes on and on."""
