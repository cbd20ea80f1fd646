"""The page: what it must say, what it must never say, and that it stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.case.case import Case
from heartlens.case.signature import Signature
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import NOTICE, PROFILES, ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.report.html import MOST_OTHER_ROWS, START_POSITION_NOTE, Identity, render_report, write_report
from heartlens.report.lights import LEVELS, LIGHT_BY_CODE, SHORT, lights_of
from heartlens.report.methods import technique_sentence
from heartlens.risk.categories import SCHEMES
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, State
from heartlens.risk.person import RiskInputs

VOID = {"meta", "link", "br", "img", "hr", "input", "base"}
SELF_CLOSED = {"path", "rect", "image", "circle"}


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
    assert case.assessment.headline() in pages[name].text
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
    assert "Counted lesions" not in pages["zero"].text
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
    assert re.search(r"LAD Left anterior descending 1 50 75\.0 \S+ 15\.00 2\.00", text)
    assert re.search(r"LM Left main 1 16 12\.0 \S+ 4\.32 4\.00", text)
    assert re.search(r"LCX Left circumflex 0 0 0\.0 0\.0 0\.00 –", text)
    assert re.search(r"Total 3 67 90\.0 \S+ 19\.68", text)
    assert "Calcified and judged not coronary, never summed: 1 lesion, Agatston 36 (4)." in text
    assert re.search(r"4 other not coronary, place not known 36 27\.0 \d", text)
    assert "Gray rows were judged not coronary and are not counted." in text
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
    assert "Agatston score <1 Minimal, range 1–10 CAC-DRS A1/N1 (1–99)" in page.text
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


@pytest.mark.parametrize(("is_gated", "words"), [(False, "not gated"), (None, "not known to be gated")])
def test_without_gating_the_score_is_called_estimated(is_gated, words):
    page = page_of(make_case(BOXES, header=replace(HEADER, is_gated=is_gated)))
    assert "Estimated Agatston score 67" in page.text
    assert f"Gating {words}" in page.text
    assert "Total (estimated)" in page.text


def test_a_gated_score_is_not_called_estimated(pages):
    assert "stimated" not in pages["everything"].text


def test_a_withheld_category_leaves_the_reason_alone(pages):
    text = pages["withheld"].text
    assert "Not evaluable Gaps between the slices. Slices 5 mm apart, 3 mm thick." in text
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
    assert "<b>DOE^JANE</b></span><span><b>ID 1234567</b>" in with_identity
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


def strip_of(html):
    return html[html.index('<div class="strip">') : html.index("Lesion table")]


def test_every_counted_lesion_has_a_picture_and_its_letters(pages):
    strip = strip_of(render_report(ALL_CASES["everything"]))
    assert strip.count("<figure>") == 3
    assert [strip.find(words) > 0 for words in ("LAD · 50", "LM · 16", "RCA · 1", "other ·")] == [
        True,
        True,
        True,
        False,
    ]


def test_of_many_lesions_every_one_has_a_picture_and_a_row():
    grid = [(j, i) for j in range(2, 60, 8) for i in range(2, 60, 8)][:30]
    case = make_case([(Artery.LCX, n % 14, j, i, 2 + n % 3, 300) for n, (j, i) in enumerate(grid)])
    html = render_report(case)
    assert strip_of(html).count("<figure>") == 30
    assert html[html.index("Lesion table") :].count('<tr><th scope="row" class="n">') == 30


def test_of_what_is_not_coronary_only_the_highest_scores_have_rows():
    """Bone of a cut chest makes hundreds of them; a lesion that is undecided keeps its row."""
    boxes = [(Artery.OTHER, n % 14, 4 * (n // 5), 10 * (n % 5), 3, 200 + n) for n in range(30)]
    case = make_case(boxes, notes={30: LesionNote(0.5, LabelSource.NETWORK, "", True)})
    text = page_of(case).text
    assert f"{29 - MOST_OTHER_ROWS} more of them, of lower scores, are in lesions.csv." in text
    html = render_report(case)
    assert html[html.index("Lesion table") :].count('<tr><th scope="row" class="n">') == MOST_OTHER_ROWS + 1


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


def by_networks(*review: int, **more) -> Case:
    """LAD of 50 with probability 0.6, LM of 16 with 0.98, RCA of 1 with 0.3, and 36 judged not coronary with 0.2."""
    numbered = enumerate((0.6, 0.98, 0.3, 0.2), 1)
    notes = {n: LesionNote(p, LabelSource.NETWORK, "a vote", n in review) for n, p in numbered}
    return make_case(BOXES, notes=notes, labels=LabelSource.NETWORK, **more)


def articles(html):
    return re.findall(r"<article>.*?</article>", html, flags=re.DOTALL)


def test_what_is_undecided_is_shown_first_large_and_with_boxes_to_tick():
    html = render_report(by_networks(1, 4))
    first = html[html.index("Decide first") : html.index("Arteries")]
    shown = articles(first)
    assert len(shown) == 2
    for article, words in zip(
        shown, ("Counted as LAD; Agatston 50", "Not counted, called other; Agatston 36"), strict=True
    ):
        assert article.count("<figure>") == 3
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", article)).replace(" ;", ";")
        assert words in text
        assert "LM LAD LCX RCA not coronary" in text
    text = page_of(by_networks(1, 4)).text
    assert "67, or 17 if lesion 1 is not, or 103 if lesion 4 is, too." in text
    assert "Agatston score 17 to 103" in text
    assert strip_of(html).count("<figure>") == 2, "each lesion is shown once"
    assert "No lesion is undecided" in page_of(by_networks()).text


def test_no_undecided_lesion_is_without_a_picture_however_many_there_are():
    html = render_report(by_networks(1, 2, 3, 4))
    assert len(articles(html)) == 4
    assert "2 more on the sheet of pictures: 2, 3." in page_of(by_networks(1, 2, 3, 4)).text


def test_a_picture_is_named_as_the_pacs_names_it():
    header = replace(HEADER, instance_numbers=tuple(range(114, 100, -1)))  # image 101 is the uppermost slice
    case = make_case(BOXES, header=header, notes={1: LesionNote(0.5, LabelSource.NETWORK, "", True)})
    text = page_of(case).text
    assert "Lesion 1 · image 109" in text
    assert "lesion 2 · image 105" in text
    assert "lesion 2 · slice 10 of 14" in page_of(make_case(BOXES)).text


def test_slices_on_which_the_networks_disagree_are_named_until_somebody_signs():
    probability = np.full(14, np.nan)
    probability[[2, 5]] = 0.95, 0.99  # the LAD lies on slice 5
    case = make_case(BOXES, labels=LabelSource.NETWORK, slice_probability=probability)
    words = "no lesion called coronary there: slice 3 of 14"
    assert words in page_of(case).text
    assert words not in page_of(case, signature=SIGNATURE).text


SIGNATURE = Signature("Doe^Jane^^Dr.", "Phantom Hospital", "2026-11-29T10:00:00+01:00")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "DRAFT, read by nobody"),
        ({"state": State.READ}, "READ, edited by a reader and not signed"),
        ({"signature": SIGNATURE}, "SIGNED by Dr. Jane Doe, Phantom Hospital, 2026-11-29 10:00 (UTC+01:00)"),
        ({"state": State.ALTERED}, "ALTERED after it was signed: no signature is valid"),
    ],
)
def test_how_far_somebody_answers_for_it_stands_at_the_head(options, words):
    text = page_of(make_case(BOXES), **options).text
    assert text.index(words) < text.index("Agatston score")


def test_a_signed_page_contradicts_itself_nowhere():
    codes = ("network", "unsettled", "kvp")
    case = by_networks(cautions=tuple(WarningRecord(code, f"about {code}") for code in codes))
    draft, signed = page_of(case).text, page_of(case, signature=SIGNATURE).text
    by = "Resolved, SIGNED by Dr. Jane Doe, Phantom Hospital, 2026-11-29 10:00 (UTC+01:00)."
    assert f"network {by} about network" in signed
    assert f"unsettled {by} about unsettled" in signed
    assert "kvp about kvp" in signed, "no reader makes another tube voltage"
    assert ("Limited:" in draft, "Limited:" in signed) == (True, False)
    assert ("Likeliest" in draft, "Likeliest" in signed) == (True, False)
    assert "not by a reader" not in signed
    assert "nobody yet" not in signed


def test_the_automatic_result_stands_beside_that_of_the_reader():
    case = make_case(BOXES).remove(1)
    assert "Agatston score 17 automatic result: 67" in page_of(case).text
    assert "automatic result" not in page_of(make_case(BOXES)).text


def test_age_sex_and_dates_are_shown_and_no_name():
    header = replace(HEADER, acquired="2026-01-31")
    page = page_of(make_case(BOXES, header=header, risk_inputs=PERSON, scored_at="2026-02-01T08:15:00+01:00"))
    assert "61 years man scanned 2026-01-31 scored 2026-02-01 08:15" in page.text
    assert "day of the scan not stated" in page_of(make_case(BOXES)).text


def test_every_warning_that_changes_what_may_be_said_has_a_light():
    assert set(EVALUABLE_BY_CODE) <= set(LIGHT_BY_CODE)
    assert set(SHORT) <= set(LIGHT_BY_CODE)
    for code, leads_to in EVALUABLE_BY_CODE.items():
        case = make_case(BOXES, cautions=(WarningRecord(code, "why"),))
        (light,) = (one for one in lights_of(case, State.DRAFT) if one.name == LIGHT_BY_CODE[code])
        assert light.level in {"no": ("bad",), "limited": ("limited",)}[leads_to.value]


def test_six_lights_are_green_when_all_is_well_and_somebody_has_signed():
    lights = lights_of(make_case(BOXES), State.SIGNED)
    assert [one.name for one in lights] == ["coverage", "gating", "slices", "tube", "noise", "reader"]
    assert {one.level for one in lights} == {LEVELS[0]}
    assert [one.text for one in lights][:3] == ["whole heart", "ECG-gated", "3 mm every 3 mm"]


def test_what_waits_for_a_decision_is_not_looked_up_yet():
    case = by_networks(4, risk_inputs=PERSON)
    assert case.risk.percentile is not None
    text = page_of(case).text
    assert "percentile for" not in text
    assert "are given when a reader has decided" in text


def test_every_picture_says_what_it_shows(pages):
    html = render_report(ALL_CASES["everything"])
    assert html.count("<svg ") == html.count('role="img" aria-label="') + html.count('aria-hidden="true"')
    assert 'aria-label=""' not in html


def test_the_probability_of_the_category_stands_beside_it():
    """Moderate needs LAD, LM and what was left out: 0.6 * 0.98 * 0.2. At most 10 needs none: 0.4 * 0.02 * 0.8."""
    text = page_of(by_networks()).text
    assert "Likeliest by the networks: mild (88 %)." in text
    assert "101–400 moderate 12 %" in text
    assert "1–10 minimal <1 %" in text
    assert "Likeliest" not in page_of(make_case(BOXES)).text  # rules: nobody calibrated them
