"""How the panel says what the library says, and where it takes its numbers from."""

from __future__ import annotations

import pytest


@pytest.fixture
def words(slicer_running):
    from HeartLensCACLib import Words

    return Words


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("80 kVp, scored as 120 kVp; --kvp-adapted uses other thresholds", "80 kVp, scored as 120 kVp"),
        ("contrast found; choose another series; --allow contrast scores it", "contrast found; choose another series"),
        ("a plain text", "a plain text"),
        ("a range of 3--4 mm", "a range of 3--4 mm"),
    ],
)
def test_clauses_about_options_are_left_out(words, message, shown):
    assert words.panelWords(message) == shown


def test_a_text_that_is_all_option_is_kept(words):
    assert words.panelWords("give --kvp N") == "give --kvp N"


def test_no_caution_of_the_library_loses_its_first_clause(words, a_ct):
    import numpy as np

    from heartlens.anatomy.quality import acquisition_cautions
    from heartlens.core.protocol import ScoringProtocol

    ct = a_ct(np.zeros((4, 8, 8), np.int16), kvp=80.0, slice_thickness_mm=1.0, kernel="B70f")
    for caution in acquisition_cautions(ct, ScoringProtocol()):
        shown = words.panelWords(caution.text)
        assert "--" not in shown
        assert caution.text.startswith(shown[:20])


def test_the_row_of_the_score_is_marked_and_context_says_why_a_number_is_missing(slicer_running):
    from heartlens.risk.assess import assess
    from HeartLensCACLib.Sections.ResultSection import contextLines

    lines = contextLines(assess(250.0, 2, age_years=60, sex="F", race="white", is_gated=True))
    assert any("percentile for a 60-year-old White woman" in line for line in lines)
    assert any(line.startswith("Arterial age") for line in lines)
    assert any("risk factors" in line for line in lines if line.startswith("Not available"))


def test_facts_say_what_is_unknown(slicer_running, a_ct):
    import numpy as np

    from HeartLensCACLib.Scan import factsOf

    hu = np.zeros((4, 8, 8), np.int16)
    grid, how = factsOf(a_ct(hu, spacing_mm=(3, 0.5, 0.4), kvp=None, slice_thickness_mm=None))
    assert grid == "8 x 8 pixels of 0.4 x 0.5 mm, 4 slices every 3 mm, unknown thickness"
    assert how == "unknown tube voltage, unknown kernel, gating unknown, contrast not stated"


@pytest.mark.parametrize(
    ("was", "now", "shown"),
    [
        (10.0, 20.0, "+10"),
        (265.6, 258.4, "\u22128"),  # shown as 266 and 258
        (266.4, 258.6, "\u22127"),  # shown as 266 and 259
        (0.0, 0.3, "+<1"),
        (10.4, 10.2, "\u2212<1"),
        (7.0, 7.0, "0"),
    ],
)
def test_the_difference_is_that_of_the_scores_as_they_are_shown(slicer_running, was, now, shown):
    from HeartLensCACLib.Sections.ResultSection import shownDifference

    assert shownDifference(was, now) == shown
