"""What scanners and technologists write: words and image types, as data.

Free text in a CT header follows no standard. The lists below were collected from spec 6.1 and 6.2 and from the
public samples named in the comments; a word that is not here counts for nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

CALCIUM_WORDS = frozenset(
    {"agatston", "cac", "cacs", "calc", "calcio", "calcique", "calcium", "calcscore", "cascore", "casc", "cascoring",
     "kalk", "kalkscore", "smartscore", "caescore"}
)  # fmt: skip
"""Whole tokens of a series or protocol name that announce a calcium scan: spec 6.2 after AI-CAC's list; "smartscore" is
GE's product, "casc" Siemens's. "ca" alone is not here: in radiology it is also short for carcinoma."""

GATED_WORDS = re.compile(r"bestdiast|bestsyst|\bgated\b|\b(ecg|ekg)[ _-]*(trig|gat|sync)")
"""Words that say ECG-gated: spec 6.1 (BestDiast), GE "SmartScore - Gated"."""

UNGATED_WORDS = re.compile(r"\b(un|non?|not|without|w/?o)[ _-]*((ecg|ekg)\b[ _-]*)?(gat(ed|ing)|trig|sync)")
"""Words that say the opposite, which must be looked for first: "non-gated" contains "gated"."""

PHASE_PERCENT = re.compile(
    r"(?<![\w.])(asir|asir-?v|dlir|ar|ss|sa|sv|veo|idose|dose|tube|imar)?[ _-]{0,2}(?<![\d.])(\d{1,3})([.,]\d)? ?%"
)
"""A cardiac phase such as "75 %"; the same sign after ASiR (GE) is the strength of iterative reconstruction."""

NO_CONTRAST = re.compile(
    r"(n ?/ ?a|na|n|0|-+|false|nil|none|no|non|not|unenhanced|plain|w/?o|without|native|nativ)?"
    r"([ ._^/-]*(iv|i\.v|intravenous|oral|contrast|agent|media|medium|con|cm|km|none))*"
    r"([ ._^/-]*(given|used|injected|administered))?"
    r"[ ._^-]*"
)
"""A ContrastBolusAgent that says there is none; "non-ionic 370" does not match, nor does "IV" alone."""

# Image types that are not slices of the patient, or not one acquisition; spec 6.1 and PS3.3 C.8.16.1.4.
PROJECTION_TYPES = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "PROJECTION", "PROJECTION IMAGE"})
COMBINED_TYPES = frozenset(
    {"MIP", "MINIP", "MIN IP", "MAX IP", "MAX_IP", "MIN_IP", "AVERAGE", "AVG", "MEAN", "MAXIMUM", "MINIMUM", "ADDITION",
     "SUBTRACTION", "DIVISION", "MULTIPLICATION", "STD_DEVIATION", "VOLREN", "VOLUME_RENDER"}
)  # fmt: skip
SPECTRAL_TYPES = frozenset(
    {"VMI", "VNC", "VNI", "MONOENERGETIC", "MONO_E", "MATERIAL", "EFF_ATOMIC_NUM", "ENERGY_PROP_WT"}
)
"""Image types of spectral CT: none of them is a 120 kVp image; spec 6.1."""

HU_NAMES = frozenset({"HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNSFIELDUNIT", "HOUNSFIELDUNITS"})
"""RescaleType values that mean HU. GE also writes "Houndsfield Unit"; see `is_hu`."""


def tokens(text: str) -> frozenset[str]:
    """Whole words of a description, lower case; digits and signs divide.

    Examples
    --------
    >>> sorted(tokens("CaSc3.0 B35f / Calcium Score (Volume)"))
    ['b', 'calcium', 'casc', 'f', 'score', 'volume']
    """
    return frozenset(re.findall(r"[a-zà-ÿ]+", text.lower()))


def names_calcium(text: str) -> bool:
    """Whether a series or protocol name announces a calcium scan.

    Examples
    --------
    >>> [names_calcium(t) for t in ("CaSc 3.0", "Ca Score", "Calcification? Ca bronchi", "Scapula")]
    [True, True, False, False]
    """
    return bool(tokens(text) & CALCIUM_WORDS) or re.search(r"\bca[ _-]+scor", text.lower()) is not None


def names_gating(text: str) -> bool | None:
    """Whether a description says gated (True), not gated (False), or nothing (None).

    Examples
    --------
    >>> [names_gating(t) for t in ("BestDiast 71 %", "SmartScore - Gated 0.5 sec", "CaSc 75.0%", "ECG_TRIGGERED")]
    [True, True, True, True]
    >>> [names_gating(t) for t in ("Non-gated chest", "ungated", "NON ECG GATED", "w/o ECG gating", "No gating")]
    [False, False, False, False, False]
    >>> [names_gating(t) for t in ("ASiR 40%", "AR40 %", "Chest 3.0", "investigated", "150 %")]
    [None, None, None, None, None]
    """
    lower = text.lower()
    if UNGATED_WORDS.search(lower):
        return False
    if GATED_WORDS.search(lower):
        return True
    phases = [m for m in PHASE_PERCENT.finditer(lower) if not m[1] and int(m[2]) <= 100]
    return True if phases else None


def says_no_contrast(agent: str) -> bool:
    """Whether a contrast tag that is present says that none was given.

    Examples
    --------
    >>> [says_no_contrast(t) for t in ("", "NONE", "n/a", "No IV contrast", "None.", "NONE^NONE", "Noncontrast", "W/O")]
    [True, True, True, True, True, True, True, True]
    >>> [says_no_contrast(t) for t in ("IV", "Omnipaque 350", "NON-IONIC", "Contrast", "CE", "none, Iohexol", "1")]
    [False, False, False, False, False, False, False]
    """
    text = agent.strip().lower()
    match = NO_CONTRAST.fullmatch(text)
    return text == "" or (match is not None and bool(match[1]))


UNSPECIFIED_UNIT = "US"
"""RescaleType of programs that rewrite CT without knowing its unit (GDCM adds it where the tag was missing). Classic
CT with a rescale is in HU by definition (PS3.3 C.8.2.1, RescaleIntercept), so this says no less than a missing tag."""


def is_hu(rescale_type: str) -> bool:
    """Whether a RescaleType means HU, misspelled or not.

    Examples
    --------
    >>> [is_hu(t) for t in ("HU", "Houndsfield Unit", "US", "HU_MOD")]
    [True, True, False, False]
    """
    return rescale_type.strip().upper().replace("HOUNDS", "HOUNS") in HU_NAMES


def numbers_in(text: str) -> tuple[float, ...]:
    r"""The numbers of a Decimal String, also as programs write them that know a comma; empty where that is ambiguous.

    PS3.5 6.2 knows the point alone, and the backslash between two values. A comma stands for the point, or where
    points are there too, for the backslash.

    Examples
    --------
    >>> numbers_in("0.36\\0.36"), numbers_in("0,36\\0,36"), numbers_in("0.36,0.36"), numbers_in("1,5")
    ((0.36, 0.36), (0.36, 0.36), (0.36, 0.36), (1.5,))
    >>> numbers_in("1.234,5"), numbers_in("3.0 mm"), numbers_in("nan"), numbers_in("")
    ((), (), (), ())
    """
    parts = text.strip("\0 ").split("\\")
    if "," in text and "." in text:
        parts = [piece for part in parts for piece in part.split(",")]
        if len({"." in piece for piece in parts}) > 1:
            return ()  # 1.234,5: thousands, or two numbers
    try:
        numbers = tuple(float(part.replace(",", ".")) for part in parts)
    except ValueError:
        return ()
    return numbers if all(math.isfinite(number) for number in numbers) else ()


def one_uid(value: Any) -> str | None:
    """The UID that an attribute holds, also one of too many digits or with leading zeros; None for anything else.

    Examples
    --------
    >>> one_uid("1.2.016"), one_uid(["1.2", "1.3"]), one_uid("not a UID"), one_uid(None)
    ('1.2.016', None, None, None)
    """
    text = value.strip("\0 ") if isinstance(value, str) else ""
    return text if re.fullmatch(r"[0-9.]+", text) else None


def joined(image_type: Sequence[str]) -> str:
    """An image type as DICOM writes it."""
    return "\\".join(image_type) or "none"


def derived_type(image_type: Sequence[str]) -> str | None:
    """What makes an image type no stack of scanned slices, one of the words above, or None; spec 6.1.

    Examples
    --------
    >>> derived_type(("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")), derived_type(("DERIVED", "PRIMARY", "MPR"))
    ('AVERAGE', None)
    >>> derived_type(("DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MIP"))
    'MIP'
    """
    for value in image_type:
        if known := sorted({value, *value.split()} & (PROJECTION_TYPES | COMBINED_TYPES)):
            return known[-1]
    return "DERIVED\\SECONDARY" if tuple(image_type[:2]) == ("DERIVED", "SECONDARY") else None
