"""Whose a file is, as an opaque mark: it can be compared, not turned back into an identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

_SALT = os.urandom(16)
"""Another one in every run: a mark means nothing outside it."""


def patient_mark(value: Callable[[str], Any]) -> str:
    """Mark of PatientID, or of name and birth date where there is no ID; empty where a file says none of them.

    Parameters
    ----------
    value
        Gives an attribute by keyword, None where it is absent.
    """
    identity = patient_identity(value)
    if not identity:
        return ""  # two files that name nobody are not therefore of one person
    return hashlib.blake2b(identity.encode(errors="surrogatepass"), key=_SALT, digest_size=8).hexdigest()


def patient_identity(value: Callable[[str], Any]) -> str:
    """Whose a file is, in the clear: to be turned into a mark or a pseudonym at once, and written nowhere.

    Empty where a file says none of it. The issuer of the ID plays no part: archives add it to some files of a study.

    Parameters
    ----------
    value
        Gives an attribute by keyword, None where it is absent.
    """
    patient_id, birth = (str(value(k) or "").strip() for k in ("PatientID", "PatientBirthDate"))
    name = " ".join(str(value("PatientName") or "").upper().replace("^", " ").split())
    identity = ["id", patient_id] if patient_id else ["name", name, birth]
    return "\0".join(identity) if any(identity[1:]) else ""
