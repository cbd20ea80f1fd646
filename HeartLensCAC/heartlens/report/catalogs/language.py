"""The language of the page: words from a catalog of gettext, decimals and dates as its readers write them.

What a reader decides by is translated. Warnings, reasons of lesions and methods stay in English, in which they were
checked, and the page says so. report.json, SR and SEG are English: programs and codes read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from gettext import GNUTranslations, NullTranslations
from importlib.resources import files
from types import MappingProxyType

from heartlens.core.errors import InputRefused
from heartlens.risk.assessment import ENGLISH

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español", "tr": "Türkçe"}
)
"""Of which there is a catalog, by ISO 639-1 code."""

_POINT = re.compile(r"(?<=\d)\.(?=\d)")


@dataclass(frozen=True)
class Language:
    """One language.

    Parameters
    ----------
    code
        ISO 639-1.
    say
        Its catalog.
    decimal_symbol
        Between whole and tenths.
    """

    code: str
    say: NullTranslations
    decimal_symbol: str = "."

    def text(self, english: str) -> str:
        """A text of the page; the English one where the catalog has none."""
        return self.say.gettext(english) if english else ""  # gettext gives the head of the catalog for nothing

    def number(self, text: str) -> str:
        """A text with numbers in it, its decimals as they are written here.

        Examples
        --------
        >>> Language("de", ENGLISH, ",").number("12.5 (3 of 4)")
        '12,5 (3 of 4)'
        """
        return _POINT.sub(self.decimal_symbol, text)

    def date(self, iso: str) -> str:
        """A day as it is written here; English pages, which are read in many countries, keep the ISO form.

        Parameters
        ----------
        iso
            YYYY-MM-DD; anything else is left as it is.
        """
        if self.code == "en" or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", iso):
            return iso
        from babel.dates import format_date

        return str(format_date(date.fromisoformat(iso), "medium", locale=self.code))


PLAIN = Language("en", ENGLISH)
"""The page as it is written where nobody asks for another language."""


def language_of(code: str) -> Language:
    """The language of a code.

    Parameters
    ----------
    code
        Of `LANGUAGES`.

    Raises
    ------
    InputRefused
        ``input``: there is no such catalog, or Babel is missing
    """
    if code == PLAIN.code:
        return PLAIN
    if code not in LANGUAGES:
        known = ", ".join(f"{known} ({name})" for known, name in LANGUAGES.items())
        raise InputRefused("input", f"--language: expected one of {known}, found {code!r}")
    try:
        from babel.numbers import get_decimal_symbol
    except ModuleNotFoundError:
        text = f"--language {code} needs Babel for numbers and dates: pip install 'heartlens[languages]'"
        raise InputRefused("input", text) from None
    with (files("heartlens.report.catalogs") / f"{code}.mo").open("rb") as file:
        return Language(code, GNUTranslations(file), get_decimal_symbol(code))
