"""The page in other languages: the same numbers, every text, and no English on the sheet that decides."""

from __future__ import annotations

import re
import sys
from gettext import NullTranslations
from html import unescape
from importlib import util
from pathlib import Path

import pytest
from report_cases import BOXES, PERSON, make_case

from heartlens.core.ct import CTHeader
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.report.catalogs.language import LANGUAGES, Language, language_of, language_of_page
from heartlens.report.html import render_report

pytest.importorskip("babel", reason="the extra languages is not installed")

OTHERS = [code for code in LANGUAGES if code != "en"]
SCRIPT = Path(__file__).resolve().parents[4] / "scripts" / "catalogs.py"


def words_of(html: str) -> str:
    """What is read, without what is marked as English."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", html, flags=re.DOTALL)
    text = re.sub(r'<((?!html)\w+)[^>]* lang="en"[^>]*>.*?</\1>', " ", text, flags=re.DOTALL)
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)))


CASES = {
    "zero": make_case(),
    "all": make_case(BOXES, risk_inputs=PERSON, cautions=(WarningRecord("metal", "metal on slices 3 to 4"),)),
    "unknown": make_case(BOXES, header=CTHeader()),
    "withheld": make_case(BOXES, cautions=(WarningRecord("contrast", "blood pool measures 210 HU"),)),
    "undecided": make_case(
        BOXES,
        notes={4: LesionNote(0.45, LabelSource.NETWORK, "close to the cut-off", undecided=True)},
        labels=LabelSource.NETWORK,
    ),
}


class Marking(NullTranslations):
    """A catalog that shows which texts went through it."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, singular: str, plural: str, n: int) -> str:
        return f"⟦{singular if n == 1 else plural}⟧"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the script is in a checkout alone")
def test_every_text_is_in_every_catalog_and_keeps_its_blanks(monkeypatch, capsys):
    spec = util.spec_from_file_location("catalogs", SCRIPT)
    script = util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["catalogs.py", "--check"])
    assert script.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", CASES)
def test_every_word_that_is_not_marked_as_english_comes_from_the_catalog(name):
    """What is left are numbers, letters of arteries, codes, and what a header says."""
    html = render_report(CASES[name], language=Language("xx", Marking()))
    left = re.sub(r"⟦[^⟦⟧]*⟧", " ", words_of(html))
    while "⟦" in left and re.search(r"⟦[^⟦⟧]*⟧", left):
        left = re.sub(r"⟦[^⟦⟧]*⟧", " ", left)
    known = {"HeartLens", "CAC", "DRS", "LM", "LAD", "LCX", "RCA", "kVp", "mm", "HU", "Agatston"}
    assert set(re.findall(r"[A-Za-z]{2,}", left)) <= known | allowed_of(CASES[name])


def allowed_of(case) -> set[str]:
    """Words of a scheme's title and of names that a header gives."""
    from heartlens.risk.categories import SCHEMES

    title = SCHEMES[case.risk.scheme].title
    return set(re.findall(r"[A-Za-z]{2,}", f"{title} {case.risk.scheme} {case.source_ct.header.kernel}"))


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("name", ["all", "zero", "undecided"])
def test_the_numbers_are_those_of_the_english_page(code, name):
    english, other = (words_of(render_report(CASES[name], language=language_of(c))) for c in ("en", code))
    point = language_of(code).decimal_symbol
    assert point == ","
    numbers = [re.findall(r"\d+(?:[.,]\d+)?", text) for text in (english, other)]
    dates = r"\d{4}-\d{2}-\d{2}"
    assert not re.search(dates, other)
    kept = [sorted(n.replace(",", ".") for n in found if "." in n or "," in n) for found in numbers]
    assert [n for n in kept[0] if n.count(".") == 1] == [n for n in kept[1] if n.count(".") == 1]


def test_a_german_page_says_what_a_reader_decides_by_in_german():
    html = render_report(CASES["undecided"], language=language_of("de"))
    text = words_of(html)
    assert '<html lang="de">' in html
    assert "ENTWURF, von niemandem befundet" in text
    assert "Leicht oder mäßig: ein Befunder muss entscheiden" in text
    assert "67, oder 103, wenn Läsion 4 koronar ist." in text
    assert "Zuerst entscheiden" in text
    assert "Decide first" not in text
    assert "Warnungen, Begründungen und Methoden stehen auf Englisch" in text


def test_the_language_of_a_page_is_read_back(tmp_path):
    page = tmp_path / "report.html"
    assert language_of_page(page) == "en"
    for code in LANGUAGES:
        page.write_text(render_report(CASES["zero"], language=language_of(code)), encoding="utf-8")
        assert language_of_page(page) == code
    page.write_text('<html lang="xx">')
    assert language_of_page(page) == "en"


def test_a_turkish_page_begins_its_sentences_with_turkish_letters():
    case = make_case(BOXES, cautions=(WarningRecord("false-zero", "unlike a body"),))
    text = words_of(render_report(case, language=language_of("tr")))
    assert "İnsanlardakine benzemeyen" in text
    assert "Insanlardakine" not in text


def test_a_language_without_a_catalog_is_refused_with_those_there_are():
    with pytest.raises(InputRefused, match=r"expected one of en \(English\), de \(Deutsch\).*found 'tlh'"):
        language_of("tlh")


def test_without_babel_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel.numbers", None)
    with pytest.raises(InputRefused, match=r"pip install 'heartlens\[languages\]'"):
        language_of("fr")
    assert language_of("en").number("1.5") == "1.5"


def test_days_are_written_as_people_there_write_them():
    assert [language_of(code).date("2026-11-09") for code in LANGUAGES] == [
        "2026-11-09", "09.11.2026", "9 nov. 2026", "9 nov 2026", "9 Kas 2026",
    ]  # fmt: skip
    assert language_of("de").date("November") == "November"
