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

    The issuer of the ID plays no part: archives add it to some files of a study.

    Parameters
    ----------
    value
        Gives an attribute by keyword, None where it is absent.
    """
    patient_id, birth = (str(value(k) or "").strip() for k in ("PatientID", "PatientBirthDate"))
    name = " ".join(str(value("PatientName") or "").upper().replace("^", " ").split())
    identity = ["id", patient_id] if patient_id else ["name", name, birth]
    if not any(identity[1:]):
        return ""  # two files that name nobody are not therefore of one person
    return hashlib.blake2b("\0".join(identity).encode(errors="surrogatepass"), key=_SALT, digest_size=8).hexdigest()
