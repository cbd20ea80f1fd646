"""Who was scanned stays out of every file and log: pseudonyms by HMAC, and sentences without names."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from pathlib import Path

from heartlens.core.disk.reading import read_regular
from heartlens.core.errors import InputRefused
from heartlens.dicom.header import Instance

KEY_VARIABLE = "HEARTLENS_COHORT_KEY"
"""Environment variable with the key of the pseudonyms."""

LEAST_KEY_BYTES = 16
"""A shorter key is guessed, and with it every patient ID by trying all."""

MOST_KEY_BYTES = 4096

LEAST_LETTERS = 3
"""A shorter word of a path or header is no identity by itself, and would be found in every sentence."""

HIDDEN = "…"


def read_key(file: Path | None = None) -> bytes | None:
    """The key of the pseudonyms, from a file or the environment; None where nobody gave one.

    Parameters
    ----------
    file
        With the key; white space around it does not count.

    Raises
    ------
    InputRefused
        ``input``: the file cannot be read, or the key is too short.
    """
    key = read_regular(file, MOST_KEY_BYTES).strip() if file is not None else os.environ.get(KEY_VARIABLE, "").encode()
    if not key and file is None:
        return None
    if len(key) < LEAST_KEY_BYTES:
        where = KEY_VARIABLE if file is None else str(file)
        raise InputRefused(
            "input",
            f"{where}: expected a key of {LEAST_KEY_BYTES} bytes or more, found {len(key)}; openssl rand -hex 32 "
            "makes one",
        )
    return key


def pseudonym(key: bytes, identity: str) -> str:
    """A name for a person that only who has the key can tie to an identity.

    Parameters
    ----------
    key
        Secret; the same key gives the same pseudonym in every cohort.
    identity
        From `heartlens.dicom.stacks.patient.patient_identity`.

    Examples
    --------
    >>> pseudonym(b"0123456789abcdef", "id P1") == pseudonym(b"0123456789abcdeg", "id P1")
    False
    """
    return hmac.new(key, identity.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:24]


def without_identity(text: str, places: Iterable[Path], instance: Instance | None = None) -> str:
    """A sentence without the names of files and folders, and without what a header says of the person.

    Parameters
    ----------
    text
        Of a refusal.
    places
        Paths whose every part may hold a name.
    instance
        Header of a file of the series.

    Examples
    --------
    >>> without_identity("DOE_JOHN.dcm ends before its pixel data; copy it again", [Path("/scans/DOE_JOHN.dcm")])
    '… ends before its pixel data; copy it again'
    """
    words: set[str] = set()
    for place in places:
        words |= {str(place), *place.parts, place.stem}
    if instance is not None:
        for keyword in ("PatientID", "PatientName", "PatientBirthDate"):
            value = str(instance.value(keyword) or "").strip()
            words |= {value, *re.split(r"[\^=\s]+", value)}
    for word in sorted((w for w in words if len(w) >= LEAST_LETTERS), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", HIDDEN, text, flags=re.IGNORECASE)
    return text
