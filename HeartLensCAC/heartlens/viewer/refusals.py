"""Why a request is not answered, beside what the library itself refuses."""

from __future__ import annotations


class Stale(Exception):
    """The page has not seen all edits: it shows the case anew, and what it asked for was not done."""


class BodyTooLarge(Exception):
    """A body whose length was not said goes on and on."""
