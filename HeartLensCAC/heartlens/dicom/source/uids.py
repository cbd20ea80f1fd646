"""UIDs that follow from what an object says: the same result written twice is one object to a PACS, not two."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydicom.uid import generate_uid


@dataclass(frozen=True)
class ObjectUids:
    """The UIDs of everything that is written of one result.

    Parameters
    ----------
    made_from
        What all versions of a result share: source series, voxels, networks and protocol.
    content
        What this version says, without when and how fast it was made.
    automatic
        The same of the version that no reader has touched; "" where nobody knows it.
    number
        Of this version, 1 for the automatic one.
    """

    made_from: str
    content: str
    automatic: str = ""
    number: int = 1

    @property
    def is_corrected(self) -> bool:
        """Whether there is an automatic version that this one takes the place of."""
        return bool(self.automatic) and self.automatic != self.content

    def told_apart_by(self, **facts: Any) -> ObjectUids:
        """The UIDs of a version that says the same otherwise, in another language or with a name on it.

        Parameters
        ----------
        **facts
            What JSON can hold.
        """
        return replace(self, content=digest({"content": self.content, **facts}))

    def series(self, kind: str) -> str:
        """Of the series in which all versions of one kind of object stand."""
        return derived_uid("series", kind, self.made_from)

    def instance(self, kind: str, number: int = 1) -> str:
        """Of an object of this version; `number` tells apart the pages of one."""
        return derived_uid("instance", kind, str(number), self.made_from, self.content)

    def predecessor(self, kind: str) -> str:
        """Of the same object of the automatic version."""
        return derived_uid("instance", kind, "1", self.made_from, self.automatic)

    def finding(self, name: str) -> str:
        """By which a finding, such as a lesion, is known in every version."""
        return derived_uid("finding", name, self.made_from)


def derived_uid(*words: str) -> str:
    """A UID that is the same for the same words.

    Examples
    --------
    >>> derived_uid("series", "sr") == derived_uid("series", "sr") != derived_uid("seriess", "r")
    True
    """
    return str(generate_uid(entropy_srcs=[json.dumps(words)]))


def digest(facts: Mapping[str, Any]) -> str:
    """SHA-256 of facts that JSON can hold, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def unrelated_uids() -> ObjectUids:
    """UIDs that no other result has, for objects of which nothing else is known."""
    drawn = str(generate_uid())
    return ObjectUids(drawn, drawn)
