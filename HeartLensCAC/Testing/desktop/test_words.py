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
    from report_cases import BOXES, make_case

    from heartlens.core.lesions import LesionNote
    from heartlens.core.provenance import LabelSource
    from heartlens.risk.assess import assess
    from HeartLensCACLib.Sections.ResultSection import contextLines

    risk = assess(250.0, 2, age_years=60, sex="F", race="white", is_gated=True)
    lines = contextLines(risk, make_case(BOXES).assessment)
    open_lesion = {4: LesionNote(0.45, LabelSource.NETWORK, "close to the cut-off", undecided=True)}
    waiting = make_case(BOXES, notes=open_lesion, labels=LabelSource.NETWORK).assessment
    assert contextLines(risk, waiting) == [
        "Percentile, arterial age and risk are given when a reader has decided on the category."
    ]
    assert any("percentile for a 60-year-old White woman" in line for line in lines)
    assert any(line.startswith("Arterial age") for line in lines)
    assert any("risk factors" in line for line in lines if line.startswith("Not available"))


def agatston_columns(table):
    """Automatic, edited and difference, row by row."""
    return [[table.item(row, column).text() for column in (1, 2, 3)] for row in range(table.rowCount)]


@pytest.mark.parametrize(("code", "shown"), [("no-heart", "\u2013"), ("kvp", "0")])
def test_where_no_heart_was_found_no_total_is_shown_and_no_zero(slicer_running, code, shown):
    from types import SimpleNamespace

    import qt
    from report_cases import make_case

    from heartlens.core.errors import WarningRecord
    from HeartLensCACLib.Sections.ResultSection import ResultSection

    section = SimpleNamespace(setEnabled=lambda on: None, collapsed=True)
    labels = {name: qt.QLabel() for name in ("riskLabel", "contextLabel", "cautionsLabel")}
    ui = SimpleNamespace(totalsTable=qt.QTableWidget(), riskTable=qt.QTableWidget(), resultSection=section, **labels)
    case = make_case((), cautions=(WarningRecord(code, "a caution"),))
    ResultSection(ui)._fillTotals(SimpleNamespace(case=case))
    assert agatston_columns(ui.totalsTable) == [[shown] * 3] * 5, "LM, LAD, LCX, RCA and the total"


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


HOSTILE = '<img src="file:///etc/passwd"><b>Doe^Jane</b> & co'


def test_every_label_of_the_panel_shows_its_text_as_it_is(module):
    import qt

    labels = module.widget.parent.findChildren(qt.QLabel)
    own = [label for label in labels if getattr(module.ui, label.name, None) is not None]
    assert len(own) >= 20
    assert {label.name for label in own if label.textFormat != qt.Qt.PlainText} == set()


def test_no_label_is_made_anywhere_else():
    """A label that code makes would be born with Qt's guess, which takes tags for mark-up."""
    from pathlib import Path

    import HeartLensCACLib

    sources = list(Path(HeartLensCACLib.__file__).parent.rglob("*.py"))
    assert not [path.name for path in sources if "QLabel" in path.read_text() or "QMessageBox(" in path.read_text()]
    assert [path.name for path in sources if "QMessageBox" in path.read_text()] == ["Words.py"], "names of its buttons"


def test_every_dialog_shows_its_text_as_it_is(module, words):
    import qt

    from heartlens.core.errors import InputRefused

    words.showError(InputRefused("input", HOSTILE))
    words.showRefusal("crash", HOSTILE)
    words.asksToAllow("contrast", HOSTILE)
    words.showFindings((HOSTILE,))
    words.tell(HOSTILE)
    assert len(module.dialogs.shown) == 5
    assert all(HOSTILE in text for text in module.dialogs.shown)
    assert set(module.dialogs.formats) == {qt.Qt.PlainText}


LOGGING = ("slicer.util.errorDisplay", "slicer.util.warningDisplay", "slicer.util.infoDisplay", "slicer.util.confirm")
"""These write what they show into Slicer's log (`_messageDisplay`, Base/Python/slicer/util.py)."""


def test_dialogs_are_opened_in_one_file_and_by_what_logs_no_text(words):
    from pathlib import Path

    texts = {path.name: path.read_text() for path in Path(words.__file__).parent.rglob("*.py")}
    assert {name for name, text in texts.items() if "messageBox" in text} == {"Words.py"}
    assert not {name for name, text in texts.items() if any(word in text for word in LOGGING)}


def test_a_path_that_is_shown_does_not_reach_slicers_log(module, words, caplog):
    from heartlens.core.errors import InputRefused

    path = "/home/reader/Doe^Jane/cases"
    words.showError(InputRefused("output", f"cannot write to {path}: no space left on device"))
    words.asksToAllow("contrast", f"{path}/1.dcm: names a contrast agent")
    words.showFindings((f"{path} was changed",))
    words.tell(path)
    assert len(module.dialogs.shown) == 4
    assert all(path in text for text in module.dialogs.shown)
    assert "Doe" not in caplog.text
    assert "HeartLens: output" in caplog.text, "the code alone, for who helps"


def test_cancel_is_no_yes(module, words):
    """A box tells the button as a number, and that of Cancel is true."""
    module.dialogs.answer = False
    assert words.asks("Score it anyway?") is False
    module.dialogs.answer = True
    assert words.asks("Score it anyway?") is True


def test_a_tool_tip_shows_tags_and_is_otherwise_left_alone(words):
    import qt

    assert words.plainToolTip("LAD & LM > 3") == "LAD & LM > 3"
    document = qt.QTextDocument()
    document.setHtml(words.plainToolTip(HOSTILE))
    assert document.toPlainText() == HOSTILE


def test_a_cell_of_a_table_shows_a_hostile_text_as_it_is(slicer_running):
    import qt

    from HeartLensCACLib.Sections.Tables import fillTable

    table = qt.QTableWidget()
    fillTable(table, ["why"], [[HOSTILE]])
    assert table.item(0, 0).text() == HOSTILE
    assert "<img" not in table.item(0, 0).toolTip()
