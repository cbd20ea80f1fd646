"""Categories, percentiles, arterial age and 10-year risk against the published values."""

from __future__ import annotations

import hashlib
import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartlens.core.errors import InputRefused
from heartlens.risk.assess import Risk, assess, ordinal
from heartlens.risk.categories import SCHEMES, cac_drs, category
from heartlens.risk.population_tables import (
    RACES,
    OutsideCohort,
    RiskFactors,
    arterial_age_years,
    hoff_percentile_band,
    mesa_calcium_prevalence_percent,
    mesa_percentile,
    mesa_risk_percent,
    read_risk_factors,
    rounded_agatston,
    table_rows,
)

FACTORS = {
    "total_cholesterol_mg_dl": 200,
    "hdl_mg_dl": 50,
    "systolic_bp_mmhg": 130,
    "lipid_drug": False,
    "bp_drug": False,
    "diabetes": False,
    "smoker": False,
    "family_history": False,
}

# Written down a second time, from the schemes' sources: (least rounded score, category id)
EDGES = {
    "heartlens": [(0, "absent"), (1, "minimal"), (11, "mild"), (101, "moderate"), (401, "high")],
    "dino-lg": [(0, "0-10"), (11, "11-100"), (101, "101-400"), (401, "over-400")],
    "five-bin": [(0, "0"), (1, "1-10"), (11, "11-100"), (101, "101-400"), (401, "over-400")],
    "ai-cac": [(0, "0"), (1, "1-100"), (101, "101-400"), (401, "over-400")],
    "deepcac": [(0, "0"), (1, "1-100"), (101, "101-300"), (301, "over-300")],
    "cac-drs": [(0, "A0"), (1, "A1"), (100, "A2"), (300, "A3")],
    "accaha-2018": [(0, "0"), (1, "1-99"), (100, "from-100")],
    "accaha-2026": [
        (0, "0"),
        (1, "minimal"),
        (10, "mild"),
        (100, "moderate"),
        (300, "severe"),
        (1000, "extensive"),
    ],
}


def factors(**changes):
    return RiskFactors(**{**FACTORS, **changes})


# --- categories ---


def test_there_are_exactly_the_eight_schemes_and_heartlens_comes_first():
    assert list(SCHEMES) == list(EDGES)


@pytest.mark.parametrize(("scheme", "low", "expected"), [(s, *edge) for s, edges in EDGES.items() for edge in edges])
def test_a_category_starts_exactly_where_half_up_rounding_says(scheme, low, expected):
    assert category(low, scheme).category == expected
    if low > 1:
        before = [name for edge, name in EDGES[scheme] if edge < low][-1]
        assert category(low - 0.5, scheme).category == expected
        assert category(math.nextafter(low - 0.5, 0), scheme).category == before


@pytest.mark.parametrize("scheme", SCHEMES)
def test_categories_leave_no_gap_and_no_overlap(scheme):
    rows = SCHEMES[scheme].categories
    assert rows[0].low == 0
    assert rows[-1].high is None
    assert all(after.low == before.high + 1 for before, after in itertools.pairwise(rows))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_printed_range_says_the_bounds(scheme):
    for row in SCHEMES[scheme].categories:
        if row.high is None:
            assert row.shown.split(" or ")[0] in (f">{row.low - 1}", f"≥{row.low}")
        else:
            assert row.shown == (f"{row.low}" if row.low == row.high else f"{row.low}–{row.high}")


@pytest.mark.parametrize(
    ("score", "expected"), [(0, "absent"), (5e-324, "minimal"), (0.49, "minimal"), (0.5, "minimal")]
)
def test_only_exactly_zero_is_absent(score, expected):
    assert category(score).category == expected


@given(st.floats(0, 1e5), st.sampled_from(sorted(SCHEMES)))
def test_every_score_has_exactly_one_category_and_lies_in_its_bounds(score, scheme):
    row = category(score, scheme)
    whole = rounded_agatston(score)
    assert row.low <= whole
    assert row.high is None or whole <= row.high


@pytest.mark.parametrize("score", [-1, math.nan, math.inf])
def test_what_is_no_score_has_no_category(score):
    with pytest.raises(ValueError, match="finite and not negative"):
        category(score)


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"one of heartlens, dino-lg.*got 'mine'"):
        category(1, "mine")


def test_percentile_75_moves_a_low_score_up_in_the_2018_scheme_only():
    assert category(40, "accaha-2018", percentile=74.9).category == "1-99"
    assert category(40, "accaha-2018", percentile=75).category == "from-100"
    assert category(0, "accaha-2018", percentile=80).category == "0"
    assert category(40, "heartlens", percentile=99).category == "mild"


@pytest.mark.parametrize(
    ("score", "vessels", "expected"),
    [
        (0, 0, "A0/N0"),
        (0.2, 1, "A1/N1"),
        (99.4, 2, "A1/N2"),
        (99.5, 2, "A2/N2"),
        (299.5, 4, "A3/N4"),
        (150, None, "A2"),
    ],
)
def test_cac_drs(score, vessels, expected):
    assert cac_drs(score, vessels) == expected


@pytest.mark.parametrize(("score", "vessels"), [(0, 1), (10, 5), (10, -1)])
def test_cac_drs_refuses_impossible_vessel_counts(score, vessels):
    with pytest.raises(ValueError, match="0 to 4"):
        cac_drs(score, vessels)


# --- MESA percentile ---


@pytest.mark.parametrize(
    ("sex", "race", "age", "score", "expected"),
    [
        ("M", "white", 46, 45, 89),
        ("M", "white", 60, 100, 68),
        ("F", "white", 60, 100, 89),
        ("F", "black", 55, 20, 88),
        ("M", "chinese", 65, 300, 87),
        ("M", "hispanic", 75, 50, 39),
        ("F", "hispanic", 70, 1, 50),
        ("M", "white", 55, 400, 94),
    ],
)
def test_mesa_percentile_of_published_examples(sex, race, age, score, expected):
    assert round(mesa_percentile(score, age, sex, race)) == expected


# McClelland 2006, table 2: scores at percentiles 25, 50, 75, 90, 95; ages 50, 60, 70, 80 stand for the brackets
TABLE_2 = {
    ("M", "white"): "0 0 22 110 207 / 0 28 155 452 743 / 21 145 540 1345 2271 / 103 385 1200 2933 4619",
    ("F", "white"): "0 0 0 8 31 / 0 0 16 102 209 / 0 13 119 391 674 / 20 106 370 921 1535",
    ("M", "chinese"): "0 0 14 89 184 / 0 5 67 242 429 / 0 34 174 487 803 / 11 81 305 769 1299",
    ("F", "chinese"): "0 0 0 12 44 / 0 0 18 105 213 / 0 5 70 246 436 / 0 32 146 398 656",
    ("M", "black"): "0 0 2 45 105 / 0 0 40 173 318 / 0 32 191 575 945 / 23 141 516 1281 2176",
    ("F", "black"): "0 0 0 9 38 / 0 0 5 74 173 / 0 0 77 310 561 / 0 47 214 582 953",
    ("M", "hispanic"): "0 0 9 88 195 / 0 3 75 291 512 / 1 56 247 666 1091 / 36 153 494 1221 1943",
    ("F", "hispanic"): "0 0 0 2 18 / 0 0 2 50 118 / 0 1 51 203 361 / 0 45 205 557 917",
}


@pytest.mark.parametrize(("sex", "race"), TABLE_2)
def test_the_age_table_agrees_with_the_cut_offs_of_the_paper(sex, race):
    compared = 0
    for age, cut_offs in zip((50, 60, 70, 80), TABLE_2[sex, race].split(" / "), strict=True):
        for percentile, score in zip((25, 50, 75, 90, 95), map(int, cut_offs.split()), strict=True):
            if 0 < score <= 4000:
                assert mesa_percentile(score, age, sex, race) == pytest.approx(percentile, abs=2.3)
                compared += 1
    assert compared >= 12


@given(st.floats(45, 84), st.sampled_from("MF"), st.sampled_from(RACES), st.floats(0, 4000), st.floats(0, 4000))
def test_a_higher_score_never_has_a_lower_percentile(age, sex, race, a, b):
    low, high = sorted((a, b))
    assert 0 <= mesa_percentile(low, age, sex, race) <= mesa_percentile(high, age, sex, race) <= 99


def test_score_zero_is_percentile_zero_and_half_a_point_is_not():
    assert mesa_percentile(0, 60, "M", "white") == 0
    assert mesa_percentile(0.5, 60, "M", "white") == mesa_percentile(1, 60, "M", "white") == 31


def test_prevalence_is_what_the_first_column_leaves():
    assert mesa_calcium_prevalence_percent(60, "M", "white") == 69


def test_percentiles_count_completed_years():
    assert mesa_percentile(100, 84.9, "F", "black") == mesa_percentile(100, 84, "F", "black")
    assert mesa_percentile(100, 47.5, "F", "black") == mesa_percentile(100, 47, "F", "black")


@pytest.mark.parametrize(
    ("age", "sex", "race", "reason"),
    [
        (44.9, "M", "white", "ages 45 to 84, age is 44.9"),
        (85, "M", "white", "ages 45 to 84, age is 85"),
        (math.nan, "M", "white", "ages 45 to 84"),
        (60, "O", "white", "sex M or F"),
        (60, "M", "other", "cover white, chinese, black, hispanic"),
    ],
)
def test_outside_mesa_there_is_no_percentile_and_no_risk(age, sex, race, reason):
    with pytest.raises(OutsideCohort, match=reason):
        mesa_percentile(100, age, sex, race)
    with pytest.raises(OutsideCohort, match=reason):
        mesa_risk_percent(age, sex, race, factors(), 100)


def test_a_score_beyond_the_table_is_refused_not_clipped():
    assert mesa_percentile(4000, 84, "M", "white") == 90
    with pytest.raises(OutsideCohort, match=r"above 4000.*percentile 90"):
        mesa_percentile(4000.1, 84, "M", "white")


# --- Hoff ---


@pytest.mark.parametrize(
    ("score", "age", "sex", "band"),
    [
        (0, 35, "M", (0, 25)),
        (1, 39.9, "M", (50, 75)),
        (0.4, 35, "M", (25, 50)),
        (20, 35, "F", (90, 100)),
        (47.9, 55, "M", (25, 50)),
        (48, 59, "M", (50, 75)),
        (2000, 90, "M", (90, 100)),
        (74, 75, "F", (25, 50)),
        (2, 70, "F", (0, 25)),
    ],
)
def test_hoff_band(score, age, sex, band):
    assert hoff_percentile_band(score, age, sex) == band


@pytest.mark.parametrize(("age", "sex"), [(17, "M"), (50, "O"), (math.nan, "F")])
def test_hoff_is_of_adult_men_and_women(age, sex):
    with pytest.raises(OutsideCohort):
        hoff_percentile_band(10, age, sex)


# --- arterial age and 10-year risk ---


@pytest.mark.parametrize(
    ("score", "years"),
    [(0, 39.1), (1, 44.1), (10, 56.5), (50, 67.6), (100, 72.6), (300, 80.5), (400, 82.6), (1000, 89.2)],
)
def test_arterial_age_of_published_examples(score, years):
    assert arterial_age_years(score) == pytest.approx(years, abs=0.05)


def test_arterial_age_is_refused_with_diabetes():
    with pytest.raises(OutsideCohort, match="diabetes"):
        arterial_age_years(100, diabetes=True)


@pytest.mark.parametrize(
    ("person", "changes", "score", "with_cac", "without"),
    [
        ((70, "M", "hispanic"), {"total_cholesterol_mg_dl": 190, "bp_drug": True}, 0, 3.0590, 8.6137),
        ((60, "M", "white"), {}, 100, 7.58, 5.06),
        (
            (65, "F", "black"),
            {
                "total_cholesterol_mg_dl": 220,
                "systolic_bp_mmhg": 145,
                **dict.fromkeys(("lipid_drug", "bp_drug", "diabetes", "smoker", "family_history"), True),
            },
            0,
            8.07,
            21.30,
        ),
    ],
)
def test_mesa_risk_of_published_examples(person, changes, score, with_cac, without):
    digits = 4 if with_cac == 3.0590 else 2
    assert round(mesa_risk_percent(*person, factors(**changes), score), digits) == with_cac
    assert round(mesa_risk_percent(*person, factors(**changes)), digits) == without


@pytest.mark.parametrize(
    ("changes", "with_cac", "without"),
    [  # the exponent moves by exactly the coefficient (of table 3.5 of the method), one factor at a time
        ({"lipid_drug": True}, 0.1206, 0.2473),
        ({"bp_drug": True}, 0.2278, 0.3381),
        ({"diabetes": True}, 0.3892, 0.5168),
        ({"smoker": True}, 0.3717, 0.4732),
        ({"family_history": True}, 0.3239, 0.4522),
        ({"total_cholesterol_mg_dl": 210}, 0.043, 0.053),
        ({"hdl_mg_dl": 60}, -0.114, -0.140),
        ({"systolic_bp_mmhg": 140}, 0.066, 0.085),
    ],
)
def test_each_risk_factor_moves_the_exponent_by_its_coefficient(changes, with_cac, without):
    def exponent(f, score, survival):
        return math.log(math.log(1 - mesa_risk_percent(60, "M", "white", f, score) / 100) / math.log(survival))

    assert exponent(factors(**changes), 50, 0.99833) - exponent(factors(), 50, 0.99833) == pytest.approx(with_cac)
    assert exponent(factors(**changes), None, 0.99963) - exponent(factors(), None, 0.99963) == pytest.approx(without)


@pytest.mark.parametrize(("race", "with_cac", "without"), [
    ("chinese", -0.3475, -0.5055), ("black", 0.0353, -0.2111), ("hispanic", -0.0222, -0.1900)
])  # fmt: skip
def test_each_race_moves_the_exponent_by_its_coefficient(race, with_cac, without):
    def step(score):
        return math.log(
            math.log(1 - mesa_risk_percent(60, "M", race, factors(), score) / 100)
            / math.log(1 - mesa_risk_percent(60, "M", "white", factors(), score) / 100)
        )

    assert step(50) == pytest.approx(with_cac)
    assert step(None) == pytest.approx(without)


def test_a_risk_above_30_percent_is_not_capped():
    worst = factors(
        total_cholesterol_mg_dl=320,
        systolic_bp_mmhg=190,
        **dict.fromkeys(("lipid_drug", "bp_drug", "diabetes", "smoker", "family_history"), True),
    )
    assert mesa_risk_percent(84, "M", "white", worst, 3000) > 90


# --- risk factors ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_cholesterol_mg_dl": 5.2}, "total_cholesterol_mg_dl must lie in 50..1000, got 5.2; values in mmol/L"),
        ({"hdl_mg_dl": 1.3}, "hdl_mg_dl must lie in 10..300, got 1.3; values in mmol/L"),
        ({"systolic_bp_mmhg": 17.3}, "systolic_bp_mmhg must lie in 50..300, got 17.3; values in kPa"),
        ({"hdl_mg_dl": 200}, "hdl_mg_dl must be below total_cholesterol_mg_dl"),
        ({"smoker": 1}, "smoker must be true or false, got 1"),
        ({"bp_drug": "no"}, "bp_drug must be true or false, got 'no'"),
        ({"hdl_mg_dl": "50"}, "hdl_mg_dl must be a number, got '50'"),
        ({"hdl_mg_dl": True}, "hdl_mg_dl must be a number, got True"),
        ({"hdl_mg_dl": math.nan}, "hdl_mg_dl must lie in 10..300, got nan"),
    ],
)
def test_a_wrong_risk_factor_is_named_with_the_unit_it_may_be_in(changes, message):
    with pytest.raises(ValueError, match=message):
        RiskFactors.from_json({**FACTORS, **changes})


def test_missing_and_unknown_risk_factors_are_named():
    document = {name: value for name, value in FACTORS.items() if name != "smoker"} | {"smokes": True}
    with pytest.raises(ValueError, match="missing: smoker; unknown: smokes"):
        RiskFactors.from_json(document)


def test_risk_factors_are_read_from_a_file(tmp_path):
    path = tmp_path / "factors.json"
    path.write_text(json.dumps(FACTORS))
    assert read_risk_factors(path) == factors()


@pytest.mark.parametrize("content", [b"not json", b"[1, 2]", b"\xff\xfe", b"{}"])
def test_a_file_that_is_not_risk_factors_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "factors.json"
    path.write_bytes(content)
    with pytest.raises(InputRefused, match=r"risk factors .*factors\.json: ") as refused:
        read_risk_factors(path)
    assert refused.value.code == "input"


def test_a_missing_risk_factor_file_is_refused(tmp_path):
    with pytest.raises(InputRefused, match=r"risk factors: cannot read .*nowhere\.json"):
        read_risk_factors(tmp_path / "nowhere.json")


# --- assess ---

BLACK_MAN = {"age_years": 61, "sex": "M", "race": "black", "is_gated": True}


def test_a_gated_scan_of_a_known_person_gets_every_number():
    risk = assess(250.2, 3, **BLACK_MAN, risk_factors=factors())
    assert (risk.scheme, risk.category, risk.low, risk.high) == ("heartlens", "moderate", 101, 400)
    assert risk.cac_drs == "A2/N3"
    assert risk.percentile == pytest.approx(91.2, abs=0.05)
    assert risk.percentile_text.startswith("91st percentile for a 61-year-old Black man (MESA 2006)")
    assert risk.arterial_age_years == pytest.approx(39.1 + 7.25 * math.log(251.2))
    assert risk.mesa_risk_percent == mesa_risk_percent(61, "M", "black", factors(), 250.2)
    assert risk.mesa_risk_without_cac_percent == mesa_risk_percent(61, "M", "black", factors())
    assert risk.omitted == ()
    assert len(risk.sources) == 5


def test_score_zero_says_what_it_does_not_exclude():
    risk = assess(0, 0, **BLACK_MAN)
    assert (risk.category, risk.low, risk.high, risk.cac_drs, risk.percentile) == ("absent", 0, 0, "A0/N0", 0)
    assert risk.finding == "No calcified coronary plaque detected. This does not exclude non-calcified plaque."
    assert risk.percentile_text.startswith("0 (no calcium) for a 61-year-old Black man")


@pytest.mark.parametrize(("score", "very_high"), [(999.4, False), (999.5, True), (1000, True)])
def test_a_thousand_is_said(score, very_high):
    assert assess(score, 4).finding.endswith("Very high score (1000 or more).") is very_high


@pytest.mark.parametrize("is_gated", [False, None])
def test_without_known_gating_mesa_numbers_are_left_out_with_the_reason(is_gated):
    risk = assess(250, 3, age_years=61, sex="M", is_gated=is_gated)
    assert (risk.percentile, risk.arterial_age_years, risk.mesa_risk_percent) == (None, None, None)
    assert [what for what, _ in risk.omitted] == ["MESA percentile", "Arterial age (MESA)", "MESA 10-year CHD risk"]
    assert all("not known to be ECG-gated" in why for _, why in risk.omitted)


def test_without_known_gating_a_stated_race_asks_for_the_percentile_and_gets_a_note():
    risk = assess(250, 3, age_years=61, sex="M", race="black")
    assert risk.percentile == pytest.approx(91.2, abs=0.1)
    assert "not known to be ECG-gated" in risk.notes[0]


def test_missing_inputs_are_named():
    risk = assess(250, 3, sex="M", is_gated=True)
    assert dict(risk.omitted) == {
        "MESA percentile": "not known: age, race",
        "Arterial age (MESA)": "not known: age",
        "MESA 10-year CHD risk": "not known: age, race, risk factors",
    }


def test_outside_the_cohort_the_reason_is_kept():
    risk = assess(250, 3, **{**BLACK_MAN, "age_years": 40}, risk_factors=factors())
    assert [why for _, why in risk.omitted] == ["MESA covers ages 45 to 84, age is 40"] * 3
    assert (risk.percentile, risk.arterial_age_years, risk.mesa_risk_percent) == (None, None, None)
    assert risk.percentile_text == ""


def test_diabetes_leaves_out_arterial_age_alone():
    risk = assess(250, 3, **BLACK_MAN, risk_factors=factors(diabetes=True))
    assert risk.omitted == (("Arterial age (MESA)", "the formula does not apply to people with diabetes"),)
    assert any("without treated diabetes" in note for note in risk.notes)


def test_unstated_diabetes_is_noted_beside_arterial_age():
    assert any("diabetes was not stated" in note for note in assess(250, 3, **BLACK_MAN).notes)


def test_a_withheld_result_has_no_number_but_the_reason():
    risk = assess(250, 3, **BLACK_MAN, withhold="gaps between slices")
    assert (risk.category, risk.low, risk.high, risk.cac_drs, risk.percentile) == (None, None, None, None, None)
    assert risk.withheld == "gaps between slices"
    assert {why for _, why in risk.omitted} == {"gaps between slices"}


def test_unassigned_calcium_leaves_the_vessel_count_out():
    assert assess(120, 2, has_unassigned=True).cac_drs == "A2"
    risk = assess(120, 0)
    assert risk.cac_drs == "A2"
    assert risk.omitted[0] == ("CAC-DRS number of vessels", "some scored calcium has no artery yet")


def test_the_2018_scheme_uses_the_percentile_or_says_that_it_could_not():
    assert assess(60, 1, scheme="accaha-2018", **BLACK_MAN).category == "from-100"
    unknown = assess(60, 1, scheme="accaha-2018")
    assert unknown.category == "1-99"
    assert any("from percentile 75 on" in note for note in unknown.notes)


def test_risk_factors_may_come_as_a_mapping_and_are_checked():
    assert assess(50, 1, **BLACK_MAN, risk_factors=FACTORS) == assess(50, 1, **BLACK_MAN, risk_factors=factors())
    with pytest.raises(ValueError, match="missing: total_cholesterol_mg_dl"):
        assess(50, 1, risk_factors={"hdl_mg_dl": 50})


def test_no_text_recommends_anything():
    for scheme in SCHEMES.values():
        for row in scheme.categories:
            words = f"{row.finding} {row.text}".lower()
            assert not any(word in words for word in ("statin", "aspirin", "should", "recommend", "therapy"))


@given(
    st.floats(0, 5000),
    st.sampled_from(sorted(SCHEMES)),
    st.none() | st.floats(20, 100),
    st.sampled_from(["M", "F", None]),
    st.sampled_from([*RACES, None]),
    st.sampled_from([None, factors(), factors(diabetes=True)]),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, "gaps"]),
)
def test_risk_survives_json_bit_for_bit(score, scheme, age, sex, race, risk_factors, is_gated, withhold):
    risk = assess(
        score,
        min(4, math.ceil(score)),
        scheme=scheme,
        age_years=age,
        sex=sex,
        race=race,
        risk_factors=risk_factors,
        is_gated=is_gated,
        withhold=withhold,
    )
    assert Risk.from_json(json.loads(json.dumps(risk.to_json()))) == risk


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (12, "12th"), (13.4, "13th"), (22, "22nd"), (63, "63rd"), (98.6, "99th")]
)
def test_ordinals(number, text):
    assert ordinal(number) == text


# SHA-256 over the rows of each table as they were checked against their sources: a changed digit must be meant.
TABLES = {
    "mesa_percentile": "11e5ae643a63abf7",
    "mesa_risk": "82b3a674cefd8479",
    "hoff_percentile": "cc74ea76e6c91243",
}


@pytest.mark.parametrize("table", TABLES)
def test_no_digit_of_a_published_table_has_changed(table):
    rows = [",".join(row.values()) for row in table_rows(f"{table}.csv")]
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == TABLES[table]


@pytest.mark.parametrize(
    "table", ["category_schemes", "scheme_sources", "mesa_percentile", "mesa_risk", "hoff_percentile"]
)
def test_every_table_names_its_source_first(table):
    from importlib.resources import files

    first = (files("heartlens.risk") / "tables" / f"{table}.csv").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# source: ")
