"""What each output says of a score, read off the output itself: its number, range, category and state.

Nothing here looks at the case or its assessment: a page is read as a page, a structured report as DICOM.
"""

from __future__ import annotations

import html
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from dicom_builder import write_ct_series
from pydicom import dcmread
from pydicom.dataset import Dataset
from situations import Situation

from heartlens.core import codes
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.dicom.sr import write_sr
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.report import display_agatston

NONE = ""
"""What is not said."""


@dataclass(frozen=True)
class Said:
    """What an output says of a score.

    Parameters
    ----------
    now : as the lesions are named, as it is shown; NONE without a total
    low, high : what it may be; NONE where nothing may be said
    categories : the lowest and the highest that it may have; empty where nothing may be said
    evaluable : "yes", "limited" or "no"
    estimated : called an estimate; nothing is where nothing may be said
    state : "draft", "read", "signed" or "altered"
    words : the output's own, for a table
    """

    now: str
    low: str
    high: str
    categories: tuple[str, ...]
    evaluable: str
    estimated: bool
    state: str
    words: str

    @property
    def facts(self) -> tuple[Any, ...]:
        """All but the words: what no two outputs may differ in."""
        return self.now, self.low, self.high, self.categories, self.evaluable, self.estimated, self.state


def ends(text: str) -> tuple[str, str]:
    """Of a range "17 to 103", or of one number."""
    low, _, high = text.partition(" to ")
    return low, high or low


def label(text: str) -> str:
    """Of a category: "mild" of "mild, range 11–100", "1–99" of "range 1–99"."""
    return text.strip().lower().split(", range ")[0].removeprefix("range ")


def labels(text: str) -> tuple[str, ...]:
    """Of the categories in "mild, range 11–100, or moderate, range 101–400"."""
    return tuple(label(part) for part in re.split(r", or |, up to ", text))


SENTENCE = re.compile(r"(Estimated t|T)otal Agatston score (.+?) \([\w-]+: (.+?)\)\. CAC-DRS")
FOUND = re.compile(r"adds up to (?:an )?Agatston (?:score of )?(\S+?),")


def in_sentences(text: str, now: str, state: str, words: str) -> Said:
    """Of the sentences that terminal, structured report and panel share, beside a number of their own."""
    said = SENTENCE.search(text)
    if said is None:
        assert "Not evaluable: " in text
        found = FOUND.search(text)
        assert (found[1] if found else NONE) == now
        return Said(now, NONE, NONE, (), "no", False, state, words)
    assert "Not evaluable" not in text
    evaluable = "limited" if "Limited: " in text else "yes"
    return Said(now, *ends(said[2]), labels(said[3]), evaluable, said[1] != "T", state, words)


def state_in(words: str) -> str:
    """By its first word, as it is shown: "DRAFT, read by nobody"."""
    return re.match(r"[A-Z]+", words)[0].lower()


def number(text: str) -> str:
    """A cell of a table; a dash is no number."""
    return NONE if text in ("-", "–") else text


def by_page(page: str) -> Said:
    """Of report.html."""

    def texts(pattern: str) -> list[str]:
        return [html.unescape(re.sub(r"<[^>]+>", "", found)) for found in re.findall(pattern, page, re.DOTALL)]

    (state,), (grade,) = (
        texts(r'<div class="band \w+" role="status"><b>(.*?)</b>'),
        texts(r'<p class="grade">(.*?)</p>'),
    )
    (total,) = re.findall(r'<tr class="total">(.*?)</tr>', page, re.DOTALL)
    now = number(re.findall(r'<td class="n">(.*?)</td>', html.unescape(total))[1])
    scores = texts(r'<div class="score"><span>(?:.*?)</span><b>(.*?)</b>')
    if not scores:
        assert grade == "Not evaluable"
        found = FOUND.search(page)
        assert (found[1] if found else NONE) == now
        return Said(now, NONE, NONE, (), "no", False, state_in(state), f"{now or '–'} · {grade}")
    name, _, _ = grade.partition(": a reader must decide")
    both = tuple(label(part) for part in re.split(r" or | up to ", name))
    (title,) = re.findall(r'<div class="score"><span>(.*?)</span>', page)
    evaluable = "limited" if "Limited: " in page else "yes"
    estimated = title == "Estimated Agatston score"
    return Said(now, *ends(scores[0]), both, evaluable, estimated, state_in(state), f"{scores[0]} · {grade}")


def by_command(text: str) -> Said:
    """Of what `heartlens score` prints."""
    now = number(re.search(r"^total +\d+ +(\S+)", text, re.MULTILINE)[1])
    state = re.search(r"^(DRAFT|READ|SIGNED|ALTERED)\b.*$", text, re.MULTILINE)[0]
    said = SENTENCE.search(text)
    words = f"{said[2]} ({said[3]})" if said else re.search(r"Not evaluable: .*?\.", text)[0]
    return in_sentences(text, now, state_in(state), words)


def by_draft(text: str) -> Said:
    """Of what `heartlens draft` prints."""
    state = state_in(re.search(r"State of the result: (.*)", text)[1])
    said = re.search(r"The (estimated )?total Agatston score (?:is|lies in the range) (.+?), and by", text)
    if said is None:
        assert "The scan is not evaluable: " in text
        found = FOUND.search(text)
        now = found[1] if found else NONE
        return Said(now, NONE, NONE, (), "no", False, state, f"{now or 'no total'}: not evaluable")
    category = re.search(r"the category is (.+?)\. Its CAC-DRS", text)[1]
    named = re.search(r"named now, the score is (\S+?),", text)
    now = named[1] if named else said[2]
    evaluable = "limited" if "This statement is limited: " in text else "yes"
    return Said(now, *ends(said[2]), labels(category), evaluable, bool(said[1]), state, f"{said[2]}: {category}")


def by_json(document: dict[str, Any]) -> Said:
    """Of report.json."""
    said, total = document["assessment"], document["total"]["agatston"]
    now = NONE if total is None else display_agatston(total)
    if said["evaluable"] == "no":
        assert (said["category_low"], said["category_high"], said["cac_drs_low"]) == (None, None, None)
        return Said(now, NONE, NONE, (), "no", False, said["state"], f"{'null' if total is None else now}, no")
    rows = {row.category: row for row in SCHEMES[said["scheme"]].categories}
    order = list(rows)
    codes_ = sorted({said["category_low"], said["category_high"], said["likeliest"]} - {None}, key=order.index)
    names = tuple(dict.fromkeys(rows[code].label for code in (codes_[0], codes_[-1])))
    low, high = (display_agatston(said[name]) for name in ("total_low", "total_high"))
    between = [
        " to ".join(dict.fromkeys(pair)) for pair in ((low, high), (said["category_low"], said["category_high"]))
    ]
    likeliest = said["likeliest"] not in (None, said["category_low"], said["category_high"])
    words = ", ".join([*between, *([f"likeliest {said['likeliest']}"] if likeliest else []), said["evaluable"]])
    return Said(now, low, high, names, said["evaluable"], said["is_estimate"], said["state"], words)


def by_sr(document: Dataset) -> Said:
    """Of report.dcm: the measured number, the coded category, and the words that a viewer shows."""
    items = list(_items(document))
    total = next(item for item in items if _says(item, "112039", "Total"))
    inside = list(_items(total))
    numbers = [i for i in total.ContentSequence if _named(i) == codes.CORONARY_CALCIUM_SCORE.value and not _has_site(i)]
    now = NONE
    if numbers:
        (one,) = numbers
        now = display_agatston(float(one.MeasuredValueSequence[0].FloatingPointValue))
    (text,) = [item.TextValue for item in total.ContentSequence if _named(item) == codes.COMMENT.value]
    comments = [i.TextValue for i in document.ContentSequence if _named(i) == codes.COMMENT.value]
    (state,) = [text for text in comments if re.match(r"(DRAFT|READ|SIGNED|ALTERED)\b", text)]
    coded = [i.ConceptCodeSequence[0].CodeMeaning for i in inside if _named(i) == codes.RISK_CATEGORY.value]
    said = in_sentences(text, now, state_in(state), f"{now or 'no number'} · {coded[0] if coded else 'not coded'}")
    assert (document.VerificationFlag, document.PreliminaryFlag) == (
        ("VERIFIED", "FINAL") if said.state == "signed" else ("UNVERIFIED", "PRELIMINARY")
    )
    # A category is coded where it is one and may be said.
    assert len(coded) == (len(said.categories) == 1)
    assert not coded or (label(coded[0].partition(" (Agatston")[0]),) == said.categories
    return said


def _items(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _named(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def _has_site(item: Dataset) -> bool:
    return any(_named(child) == "363698007" for child in item.get("ContentSequence", ()))


def _says(item: Dataset, code: str, text: str) -> bool:
    """Whether a container has a child of this name and text."""
    return any(_named(child) == code and child.get("TextValue") == text for child in item.get("ContentSequence", ()))


@cache
def _images() -> Sequence[Dataset]:
    """Headers of 14 images that lie where those of `report_cases` do."""
    with tempfile.TemporaryDirectory() as folder:
        write_ct_series(Path(folder) / "ct", np.zeros((14, 64, 64), np.int16), corner_lps_mm=(0.0, 0.0, 0.0))
        series = choose_series(rank_series(find_series(Path(folder))), None)
        ct, _ = read_series(series)
        return source_datasets(series, ct)


def sr_of(situation: Situation) -> Dataset:
    """report.dcm of a situation, written and read again."""
    case, signature = situation.case, situation.signature
    with tempfile.TemporaryDirectory() as folder:
        write_sr(
            Path(folder) / "report.dcm",
            ct=case.source_ct,
            report=case.report,
            risk=case.risk,
            assessment=situation.assessment,
            protocol=case.protocol,
            sources=_images(),
            state=situation.state_words,
            provenance=case.provenance,
            cautions=case.cautions,
            observer=None if signature is None else signature.observer,
            organization=None if signature is None else signature.organization,
            signed=None if signature is None else signature.when,
        )
        return dcmread(Path(folder) / "report.dcm")


def by_panel(ui: Any) -> Said:
    """Of the Result section of the Slicer panel."""
    rows = ui.totalsTable.rowCount
    now = number(ui.totalsTable.item(rows - 1, 2).text())
    text = ui.riskLabel.text
    cells = [[ui.riskTable.item(row, column).text() for column in (0, 1)] for row in range(ui.riskTable.rowCount)]
    marked = [(shown.removeprefix("\u25b6 "), name) for shown, name in cells if shown.startswith("\u25b6 ")]
    said = in_sentences(
        text, now, state_in(text), f"{now or '–'} · {' '.join(f'▶ {shown}' for shown, _ in marked) or 'no row'}"
    )
    names = tuple(name or shown for shown, name in marked)
    assert tuple(dict.fromkeys((*names[:1], *names[-1:]))) == said.categories
    return said
