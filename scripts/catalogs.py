"""Keep the catalogs of the page's languages complete: collect its texts, merge them, compile what is read at run time.

python scripts/catalogs.py [--check]

Texts stand in the template (`_("…")`), in code (`say.gettext`, `say.ngettext`) and in a few tables, which are read
here. report/catalogs/XX.po is where people translate; XX.mo is made of it. With --check nothing is written: exit 1 says
that a text is missing, changed its blanks, or that a .mo is older than its .po.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from heartlens.core.lesions import ARTERY_NAMES, SITE_NAMES
from heartlens.core.protocol import NOTICE
from heartlens.report.catalogs.language import LANGUAGES
from heartlens.report.lights import LIGHT_BY_CODE, SHORT
from heartlens.risk.categories import SCHEMES
from heartlens.risk.evaluable import REASONS

PACKAGE = Path(__file__).resolve().parents[1] / "HeartLensCAC" / "heartlens"
CATALOGS = PACKAGE / "report" / "catalogs"
KEYWORDS = {"gettext": None, "ngettext": (1, 2), "_": None}

Text = str | tuple[str, str]


def texts() -> Iterator[Text]:
    """Every text that the page may say, plural ones as (singular, plural)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from _extracted("python", path)
    yield from _extracted("jinja2.ext:babel_extract", PACKAGE / "report" / "report.html.jinja")
    yield from (NOTICE, *SHORT.values(), *REASONS.values(), *LIGHT_BY_CODE.values())
    yield from (*ARTERY_NAMES.values(), *SITE_NAMES.values())
    yield from (name.replace(" coronary artery", "") for name in ARTERY_NAMES.values())
    for scheme in SCHEMES.values():
        for row in scheme.categories:
            if row.label != row.shown and scheme.id != "cac-drs":
                yield row.label
            yield from (text for text in (row.finding, row.text) if text)
            if re.search("[a-z]{2}", row.shown):
                yield row.shown


def _extracted(method: str, path: Path) -> Iterator[Text]:
    with path.open("rb") as file:
        for _, message, _, _ in extract(method, file, keywords=KEYWORDS):
            if message:
                yield message


def blanks(text: str) -> set[str]:
    """The places of a text that are filled in."""
    return set(re.findall(r"\{\w+\}", text))


def merged(code: str) -> tuple[Catalog, list[str]]:
    """The catalog of a language with every text of today, and what is wrong with it."""
    path = CATALOGS / f"{code}.po"
    known = Catalog(locale=code)
    if path.is_file():
        with path.open("rb") as file:
            known = read_po(file, locale=code)
    catalog = Catalog(
        locale=code, project="HeartLens", header_comment=f"# {LANGUAGES[code]}: report.html of HeartLens.",
        fuzzy=False, creation_date=known.creation_date, revision_date=known.creation_date,
    )  # fmt: skip
    faults = []
    for text in dict.fromkeys(texts()):
        old = known.get(text if isinstance(text, str) else text[0])
        catalog.add(text, old.string if old else "")
        forms = old.string if old and isinstance(old.string, tuple) else (old.string if old else "",)
        wanted = blanks(text if isinstance(text, str) else text[1])
        for form in forms:
            if not form:
                faults.append(f"{code}: no translation of {text!r}")
            elif blanks(form) != wanted:
                faults.append(f"{code}: expected the blanks {sorted(wanted)} in {form!r}")
    return catalog, faults


def compiled(catalog: Catalog) -> bytes:
    """What gettext reads."""
    file = io.BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def said(content: bytes) -> list[str]:
    """What a compiled catalog says, without its head, which names the day and the program."""
    translations = GNUTranslations(io.BytesIO(content))
    return sorted(f"{text!r}: {form}" for text, form in translations._catalog.items() if text)  # type: ignore[attr-defined]


def as_text(catalog: Catalog) -> bytes:
    """What people edit."""
    file = io.BytesIO()
    write_po(file, catalog, width=118, no_location=True, include_previous=False)
    return file.getvalue()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    faults: list[str] = []
    for code in LANGUAGES:
        if code == "en":
            continue
        catalog, missing = merged(code)
        faults += missing
        path, source = CATALOGS / f"{code}.mo", CATALOGS / f"{code}.po"
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            source.write_bytes(as_text(catalog))
            path.write_bytes(compiled(catalog))
        elif not path.is_file() or said(path.read_bytes()) != said(compiled(catalog)):
            faults.append(f"{path.name}: not what {source.name} and the texts of today make; run scripts/catalogs.py")
    print("\n".join(faults) or "complete")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
