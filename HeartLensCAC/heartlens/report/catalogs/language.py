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
from pathlib import Path
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

    def capital(self, text: str) -> str:
        """A text with a large first letter.

        Examples
        --------
        >>> Language("tr", ENGLISH).capital("inen aort"), Language("de", ENGLISH).capital("inen aort")
        ('İnen aort', 'Inen aort')
        """
        return ("İ" if self.code == "tr" and text[:1] == "i" else text[:1].upper()) + text[1:]

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

_LANG = re.compile(r'<html lang="([a-z]{2})">')
_HEAD_CHARACTERS = 200


def language_of_page(page: Path) -> str:
    """Code of the language that a page says it is in; English where there is no page, or it cannot be written again."""
    if not page.is_file():
        return PLAIN.code
    with page.open(encoding="utf-8", errors="replace") as file:
        said = _LANG.search(file.read(_HEAD_CHARACTERS))
    try:
        return language_of(said[1]).code if said else PLAIN.code
    except InputRefused:
        return PLAIN.code


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
