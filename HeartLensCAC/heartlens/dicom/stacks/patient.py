"""Whose a file is, as opaque marks: they can be compared, not turned back into an identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_SALT = os.urandom(16)
"""Another one in every run: a mark means nothing outside it."""


class PatientMarks(NamedTuple):
    """Marks of one file.

    Parameters
    ----------
    patient
        Of PatientID, or of name and birth date where there is no ID. The issuer of the ID plays no part: archives add
        it to some files of a study.
    name
        Of the name without case and empty components; "" when there is none.
    """

    patient: str
    name: str


def patient_marks(value: Callable[[str], Any]) -> PatientMarks:
    """The marks of a file.

    Parameters
    ----------
    value
        Gives an attribute by keyword, None where it is absent.
    """
    patient_id, birth = (str(value(k) or "").strip() for k in ("PatientID", "PatientBirthDate"))
    name = " ".join(str(value("PatientName") or "").upper().replace("^", " ").split())
    identity = ["id", patient_id] if patient_id else ["name", name, birth]
    return PatientMarks(_mark(identity), _mark(["name", name]) if name else "")


def _mark(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), key=_SALT, digest_size=8).hexdigest()
