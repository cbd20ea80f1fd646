"""The page: what it must say, what it must never say, and that it stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.case.case import Case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import NOTICE, PROFILES, ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.report.html import (
    MOST_PICTURES,
    START_POSITION_NOTE,
    Identity,
    render_report,
    technique_sentence,
    write_report,
)
from heartlens.risk.categories import SCHEMES
from heartlens.risk.person import RiskInputs

VOID = {"meta", "link", "br", "img", "hr", "input", "base"}
SELF_CLOSED = {"path", "rect", "image"}


class Page(HTMLParser):
    """Balanced tags, text without style, and every address that a browser could load."""

    def __init__(self, html):
        super().__init__()
        self.open, self.words, self.addresses, self.tags, self.attributes = [], [], [], set(), []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()
        assert tag in SELF_CLOSED

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def page_of(case, **options):
    return Page(render_report(case, **options))


ALL_CASES = {
    "zero": make_case(),
    "small": make_case(BOXES[2:3]),
    "everything": make_case(
        BOXES,
        risk_inputs=PERSON,
        cautions=(WarningRecord("kvp", "100 kVp: scored with the 120 kVp thresholds"),),
        protocol=replace(ScoringProtocol(), mass_factor_mg_per_mm3_hu=0.0008, isotropic_volume=True),
    ),
    "withheld": make_case(BOXES, cautions=(WarningRecord("extrapolated-gaps", "slices 5 mm apart, 3 mm thick"),)),
    "unknown": make_case(BOXES, header=CTHeader()),
    "few slices": make_case(BOXES[:1], slices=6),
    **{scheme: make_case(BOXES, risk_inputs=RiskInputs(scheme=scheme)) for scheme in SCHEMES},
    **{name: make_case(BOXES, protocol=profile) for name, profile in PROFILES.items()},
}


@pytest.fixture(scope="module")
def pages():
    return {name: page_of(case) for name, case in ALL_CASES.items()}


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_page_carries_the_notice_at_head_and_foot(pages, name):
    assert pages[name].text.count(NOTICE) == 2


@pytest.mark.parametrize("name", ALL_CASES)
def test_every_page_stands_alone(pages, name):
    page = pages[name]
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "img", "form", "base", "video", "audio"}
    assert not [attribute for attribute in page.attributes if attribute.startswith("on")]
    html = render_report(ALL_CASES[name])
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


@pytest.mark.parametrize("name", ALL_CASES)
def test_no_page_says_what_a_report_must_never_say(pages, name):
    text = pages[name].text.lower()
    for words in ("no coronary disease", "no coronary artery disease", "statin", "aspirin", "therapy", "recommend"):
        assert words not in text
    for words in ("excellent", "congratulations", "great news", "healthy"):
        assert words not in text


@pytest.mark.parametrize("name", [name for name in ALL_CASES if name != "withheld"])
def test_a_category_never_stands_without_its_range(pages, name):
    case = ALL_CASES[name]
    assert f"range {case.risk.shown}" in pages[name].text
    assert case.assessment.sentence() in pages[name].text
    assert f"CAC-DRS {case.risk.cac_drs}" in pages[name].text
    for row in SCHEMES[case.risk.scheme].categories:
        assert f" {row.shown} " in pages[name].text
        assert row.text in pages[name].text


def test_only_the_row_of_this_scan_is_marked():
    html = render_report(ALL_CASES["everything"])
    rows = re.findall(r"<tr class=\"marked\".*?</tr>", html)
    assert len(rows) == 1
    assert "11–100" in rows[0]
    assert "Mild or minimal coronary stenosis is likely" in rows[0]
    assert "this scan" in rows[0]


def test_score_zero_is_worded_with_what_it_does_not_exclude(pages):
    assert "No calcified coronary plaque detected. This does not exclude non-calcified plaque." in pages["zero"].text
    assert START_POSITION_NOTE in pages["zero"].text
    assert "Scored lesions" not in pages["zero"].text
    assert "Agatston score 0 " in pages["zero"].text


def test_score_zero_is_worded_the_same_in_schemes_without_words():
    page = page_of(make_case(risk_inputs=RiskInputs(scheme="five-bin")))
    assert "No calcified coronary plaque detected. This does not exclude non-calcified plaque." in page.text


def test_a_zero_with_dropped_islands_says_so():
    page = page_of(make_case([(Artery.LAD, 5, 10, 10, 1, 300)]))
    assert "Below the minimum size, not counted 1 (0.25 mm²)" in page.text
    assert "Score 0, with 1 island at or above the threshold dropped as too small (0.25 mm² in all)." in page.text


def test_totals_arteries_and_lesions_are_those_of_the_report(pages):
    text = pages["everything"].text
    # lesions, Agatston, volume (100 and 16 and 4 voxels of 0.75 mm3), isotropic volume, mass, density
    assert re.search(r"LAD Left anterior descending coronary artery 1 50 75\.0 \S+ 15\.00 2\.00", text)
    assert re.search(r"LM Left main coronary artery 1 16 12\.0 \S+ 4\.32 4\.00", text)
    assert re.search(r"LCX Left circumflex coronary artery 0 0 0\.0 0\.0 0\.00 –", text)
    assert re.search(r"Total 3 67 90\.0 \S+ 19\.68", text)
    assert "Judged not coronary, not counted 1 lesion Below" in text
    assert re.search(r"4 other 36 27\.0 \d", text)
    assert "Gray rows (1) were judged not coronary and are not counted." in text
    assert "Calcium in the left main coronary artery: Agatston 16, 24 % of the total." in text


def test_mass_is_shown_only_with_a_calibration(pages):
    assert "Mass mg" in pages["everything"].text
    assert "0.0008 mg/mm³ per HU (given by the user)" in pages["everything"].text
    assert "Mass mg" not in pages["zero"].text
    assert "not calibrated, no mass given" in pages["zero"].text


def test_a_tiny_score_is_less_than_one_and_minimal():
    case = make_case(
        [(Artery.LAD, 5, 10, 10, 2, 150)], protocol=replace(ScoringProtocol(), normalisation="increment"), slices=14
    )
    thin = replace(
        case, inputs=replace(case.inputs, source_ct=CTVolume(case.source_ct.hu, np.diag([0.5, 0.5, 0.6, 1.0]), HEADER))
    )
    page = page_of(thin)
    assert "Agatston score <1 Minimal, range 1–10" in page.text
    assert "k = 0.2" in page.text


def test_context_gives_the_population_and_year(pages):
    text = pages["everything"].text
    assert re.search(r"Percentile \d+\w\w percentile for a 61-year-old Black man \(MESA 2006\)", text)
    assert "Arterial age 70 years (MESA 2009)" in text
    assert re.search(r"10-year CHD risk [\d.]+ % with this score, [\d.]+ % without it \(MESA 2015\)", text)


def test_what_is_left_out_is_named_with_the_reason(pages):
    assert "Not available: MESA percentile. Reason: not known: age, sex, race." in pages["small"].text
    assert (
        "Not available: MESA percentile, Arterial age (MESA), MESA 10-year CHD risk. Reason: not shown by default"
        in (pages["unknown"].text)
    )


@pytest.mark.parametrize(("is_gated", "words"), [(False, "not ECG-gated"), (None, "not known to be ECG-gated")])
def test_without_gating_the_score_is_called_estimated(is_gated, words):
    page = page_of(make_case(BOXES, header=replace(HEADER, is_gated=is_gated)))
    assert "Estimated Agatston score 67" in page.text
    assert f"the scan is {words}, so the score is an estimate" in page.text
    assert "Total (estimated)" in page.text


def test_a_gated_score_is_not_called_estimated(pages):
    assert "stimated" not in pages["everything"].text


def test_a_withheld_category_leaves_the_reason_alone(pages):
    text = pages["withheld"].text
    assert "Not evaluable slices 5 mm apart, 3 mm thick" in text
    assert "this scan" not in text
    assert "CAC-DRS A" not in text


def test_warnings_are_badges_with_their_text(pages):
    assert "kvp 100 kVp: scored with the 120 kVp thresholds" in pages["everything"].text
    assert "no warning" in pages["zero"].text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Non-contrast CT, ECG-gated, 120 kVp, 3 mm slices every 3 mm, kernel I30f."),
        ({"is_gated": False, "kvp": 100.0}, "Non-contrast CT, non-gated, 100 kVp"),
        ({"contrast": None, "kvp": None}, "CT, contrast not stated, ECG-gated, tube voltage not stated"),
        ({"contrast": "Iohexol"}, "CT with contrast stated (Iohexol)"),
        ({"slice_thickness_mm": None, "kernel": None}, "slices of unstated thickness every 3 mm, kernel not stated."),
    ],
)
def test_technique_says_what_is_known_and_what_is_not(changes, words):
    sentence = technique_sentence(make_case(header=replace(HEADER, **changes)))
    assert words in sentence
    assert sentence.endswith("profile agatston-1990, threshold 130 HU, minimum area 1 mm².")


def test_every_profile_states_its_own_minimum():
    assert technique_sentence(make_case(protocol=PROFILES["canon"])).endswith("minimum area 0 mm² and 3 pixels.")


def test_no_identity_unless_asked_and_no_path_ever():
    case = make_case(BOXES, source=["/data/DOE^JANE-1234567/ct"])
    html = render_report(case)
    assert "DOE" not in html
    assert "1234567" not in html
    with_identity = render_report(case, identity=Identity("1234567", "DOE^JANE"))
    assert "DOE^JANE · ID 1234567" in with_identity
    assert "/data/" not in with_identity


def test_hostile_text_stays_text():
    attack = '<script>alert("x")</script>'
    header = replace(HEADER, kernel=attack, manufacturer=attack, contrast=attack, study_uid=attack)
    case = make_case(
        BOXES[:1],
        header=header,
        cautions=(WarningRecord(attack, attack),),
        notes={1: LesionNote(0.5, LabelSource.NETWORK, attack)},
        bundle=attack,
        checksums={attack: attack},
    )
    page = page_of(case, identity=Identity(attack, attack))
    assert "script" not in page.tags
    assert page.text.count(attack) >= 10


def test_every_scored_lesion_has_a_picture_and_its_letters(pages):
    html = render_report(ALL_CASES["everything"])
    strip = html[html.index('<div class="strip">') : html.index("Lesion table")]
    assert strip.count("<image ") == 3
    assert [strip.find(words) > 0 for words in ("LAD · 50", "LM · 16", "RCA · 1", "other")] == [True, True, True, False]


def test_of_many_lesions_the_highest_are_shown_and_the_rest_is_counted():
    grid = [(j, i) for j in range(2, 60, 8) for i in range(2, 60, 8)][:30]
    case = make_case([(Artery.LCX, n % 14, j, i, 2 + n % 3, 300) for n, (j, i) in enumerate(grid)])
    html = render_report(case)
    strip = html[html.index('<div class="strip">') : html.index("Lesion table")]
    assert strip.count("<image ") == MOST_PICTURES
    assert f"The {MOST_PICTURES} highest scores are shown; 6 more stand in the table below." in Page(html).text
    assert html[html.index("Lesion table") :].count('<tr><th scope="row" class="n">') == 30


def test_unassigned_calcium_is_flagged_and_an_edit_is_counted():
    page = page_of(make_case(BOXES).reassign(1, Artery.UNASSIGNED))
    assert "1 lesion (Agatston 50) counted in the total but not assigned to an artery." in page.text
    assert "1 edit by a reader" in page.text
    assert "? Coronary artery not assigned 1 50" in page.text


def test_few_slices_have_no_front_view(pages):
    assert "from front to back" not in pages["few slices"].text
    assert "from front to back" in pages["small"].text


def test_the_file_is_utf8_and_the_same_every_time(tmp_path):
    write_report(tmp_path / "a.html", ALL_CASES["everything"])
    write_report(tmp_path / "b.html", ALL_CASES["everything"])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert "mm³" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_the_page_prints_on_a4():
    html = render_report(ALL_CASES["zero"])
    assert "@page { size: A4;" in html
    assert "@media print" in html


def test_the_reason_of_each_lesion_stands_below_it():
    notes = {1: LesionNote(0.91, "rules", "on the course of the LAD, 20 mm from the aortic root")}
    page = page_of(make_case(BOXES[:2], notes=notes))
    assert "0.91 rules: on the course of the LAD, 20 mm from the aortic root" in page.text
    assert "Probability" in page.text


def by_networks(*review: int) -> Case:
    """LAD of 50 with probability 0.6, LM of 16 with 0.98, RCA of 1 with 0.3, and 36 judged not coronary with 0.2."""
    numbered = enumerate((0.6, 0.98, 0.3, 0.2), 1)
    notes = {n: LesionNote(p, LabelSource.NETWORK, "a vote", n in review) for n, p in numbered}
    return make_case(BOXES, notes=notes, labels=LabelSource.NETWORK)


def test_lesions_near_the_cut_off_are_marked_wherever_they_stand():
    html = render_report(by_networks(1, 4))
    assert html.count('<span class="badge">review</span>') == 3  # two rows, and the picture of the one that counts
    text = page_of(by_networks(1, 4)).text
    assert (
        "2 lesions borderline (close to the networks' cut-off), review first: 1, 4. Included in the score: 1." in text
    )
    assert "review" not in page_of(by_networks()).text


def test_the_probability_of_the_category_stands_beside_it():
    """Moderate needs LAD, LM and what was left out: 0.6 * 0.98 * 0.2. At most 10 needs none: 0.4 * 0.02 * 0.8."""
    text = page_of(by_networks()).text
    assert "Likeliest by the networks: mild (88 %)." in text
    assert "101–400 moderate 12 %" in text
    assert "1–10 minimal <1 %" in text
    assert "Likeliest" not in page_of(make_case(BOXES)).text  # rules: nobody calibrated them
