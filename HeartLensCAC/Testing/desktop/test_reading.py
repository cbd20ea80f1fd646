"""A reader goes through the lesions: the list is a queue, to look is no edit, and a key means what is pointed at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from heartlens.case.folder import load_case, save_case
from heartlens.case.looked_at import LookedAt
from heartlens.core.lesions import Artery, LesionMap

pytestmark = pytest.mark.slow


@pytest.fixture
def unsure(reading, scored_case, tmp_path):
    """The third and the fifth lesion by score are undecided."""
    case = load_case(scored_case / "case")
    ids = [case.report.lesions[n].id for n in (2, 4)]
    notes = {**case.auto.notes, **{n: replace(case.auto.notes[n], probability=0.5, undecided=True) for n in ids}}
    auto = LesionMap(case.auto.labels, case.auto.arteries, notes)
    save_case(replace(case, inputs=replace(case.inputs, auto=auto)), tmp_path / "case")
    reading.open_case(tmp_path / "case")
    return ids


def case_of(reading):
    return reading.panel.reading.case


def ids_by_score(reading):
    return [row.id for row in case_of(reading).report.lesions]


# To look is no edit


def test_to_select_a_lesion_is_to_look_at_it_and_no_key_moves_it(reading):
    reading.click_row(0)
    reading.key("N")
    for key in ("4", "0", "Del"):
        reading.key(key)
    reading.click(reading.ui.rcaButton)
    assert case_of(reading).edits == ()
    assert not reading.ui.removeButton.enabled
    assert reading.panel.parameters.artery is Artery.RCA, "for clicks and the brush"


def test_a_held_lesion_takes_one_edit_and_no_second(reading):
    lesion = reading.lesions_shown()[0]
    reading.hold_row(0)
    assert f"Lesion {lesion} is held" in reading.ui.hintLabel.text
    reading.key("4")
    reading.key("3")
    assert case_of(reading).lesions.arteries[lesion] is Artery.RCA
    assert len(case_of(reading).edits) == 1
    assert reading.panel.parameters.artery is Artery.LCX
    assert reading.panel.review.heldLesion is None


@pytest.mark.parametrize("away", ["N", "P", "H", "Esc"])
def test_a_held_lesion_is_let_go_by_going_to_another_and_by_its_own_key(reading, away):
    reading.click_row(1)
    reading.key("H")
    assert reading.ui.holdButton.checked
    reading.key(away)
    assert reading.panel.review.heldLesion is None
    assert not reading.ui.holdButton.checked
    reading.key("4")
    assert case_of(reading).edits == ()


def test_what_is_held_is_let_go_with_the_module(reading):
    reading.hold_row(0)
    reading.module.widget.exit()
    reading.module.widget.enter()
    reading.key("4")
    assert case_of(reading).edits == ()


def test_undoing_the_lesion_that_is_held_away_lets_go_of_it(reading):
    reading.paint_free_calcium("LM")
    painted = next(row.id for row in case_of(reading).report.lesions if row.artery is Artery.LM)
    reading.hold_row(reading.row_of(painted))
    reading.key("Z")
    assert painted not in case_of(reading).lesions.arteries
    assert reading.panel.review.heldLesion is None
    count = len(case_of(reading).edits)
    reading.key("4")
    assert len(case_of(reading).edits) == count


# A key means what is under the mouse


def test_a_key_assigns_the_lesion_under_the_mouse_and_not_the_selected_one(reading):
    first, second = reading.lesions_shown()[:2]
    before = case_of(reading).lesions.arteries[first]
    reading.click_row(0)
    reading.point_at("Red", second)
    reading.key("4")
    assert case_of(reading).lesions.arteries[second] is Artery.RCA
    assert case_of(reading).lesions.arteries[first] is before
    reading.key("Del")
    assert second not in case_of(reading).lesions.arteries


def test_a_lesion_that_is_held_goes_before_the_one_under_the_mouse(reading):
    first, second = reading.lesions_shown()[:2]
    reading.hold_row(0)
    reading.point_at("Red", second)
    before = case_of(reading).lesions.arteries[second]
    reading.key("4")
    assert case_of(reading).lesions.arteries[first] is Artery.RCA
    assert case_of(reading).lesions.arteries[second] is before


def test_where_the_mouse_has_left_the_view_a_key_moves_nothing(reading):
    lesion = reading.lesions_shown()[0]
    reading.point_at("Red", lesion)
    reading.module.views["Red"].leave()
    reading.key("4")
    assert case_of(reading).edits == ()


def test_over_a_volume_under_a_transform_a_key_moves_nothing(reading):
    import slicer

    reading.point_at("Red", reading.lesions_shown()[0])
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    reading.volume.SetAndObserveTransformNodeID(transform.GetID())
    reading.key("4")
    assert case_of(reading).edits == ()


def test_a_button_means_no_lesion_that_the_mouse_rested_on_before(reading):
    reading.point_at("Red", reading.lesions_shown()[0])
    reading.click(reading.ui.rcaButton)
    assert case_of(reading).edits == ()


# The list is a queue


def test_what_is_to_be_decided_comes_first_and_then_the_highest_score(reading, unsure):
    rest = [n for n in ids_by_score(reading) if n not in unsure]
    assert reading.lesions_shown() == unsure + rest


def test_enter_agrees_goes_on_and_ends_when_every_lesion_was_seen_and_decided(reading, unsure):
    before = dict(case_of(reading).lesions.arteries)
    count = len(before)
    for _ in range(count + 1):  # the first one opens the queue
        reading.key("Return")
    assert case_of(reading).lesions.arteries == before
    assert not any(row.undecided for row in case_of(reading).report.lesions)
    assert [edit.lesion for edit in case_of(reading).edits] == unsure, "only what was undecided needed a word"
    assert [reading.ui.lesionTable.item(r, 8).text() for r in range(count)] == ["✓"] * count
    reading.key("Return")
    assert len(case_of(reading).edits) == len(unsure)


def test_agreeing_does_not_go_past_calcium_that_has_no_artery(reading):
    lesion = reading.lesions_shown()[-1]
    reading.panel.assign(lesion, Artery.UNASSIGNED)
    reading.key("Return")
    assert reading.panel.review.selectedLesion() == lesion, "it comes first now"
    reading.key("Return")
    assert reading.panel.review.selectedLesion() == lesion
    assert case_of(reading).lesions.arteries[lesion] is Artery.UNASSIGNED


def test_the_tick_of_what_was_seen_stands_where_it_stands_after_the_next_edit(reading):
    reading.key("N")
    lesion = reading.panel.review.selectedLesion()
    column = reading.ui.lesionTable.columnCount - 1

    def tick():
        item = reading.ui.lesionTable.item(reading.row_of(lesion), column)
        return item.text(), item.textAlignment()

    before = tick()
    assert before[0] == "✓"
    reading.panel.review.refresh(reading.panel.reading)
    assert tick() == before


def test_enter_in_a_field_that_is_written_in_agrees_with_nothing(reading, unsure):
    reading.click_row(0)
    reading.ui.observerEdit.setFocus()
    QTest.keyClick(reading.ui.observerEdit, Qt.Key_Return)
    assert case_of(reading).edits == ()


def test_what_was_seen_is_known_when_its_reader_opens_the_case_again(reading):
    """Without a name nothing is kept: it may be another reader the next time."""
    lesion, folder = reading.lesions_shown()[1], reading.panel.reading.folder
    reading.click_row(1)
    assert not (folder / "viewed.json").exists()
    reading.type_into(reading.ui.observerEdit, "Reader^Rita")
    reading.close_scene()
    reading.open_case(folder)
    reading.click_row(1)
    assert LookedAt(folder, "Reader^Rita").lesions == {lesion}
    reading.close_scene()
    reading.open_case(folder)
    seen = [reading.ui.lesionTable.item(r, 8).text() for r in range(3)]
    assert seen == ["", "✓", ""]
    reading.key("Return")
    reading.key("Return")
    assert reading.panel.review.selectedLesion() == reading.lesions_shown()[2], "the one that was seen is passed over"


def test_another_reader_who_signs_has_not_seen_what_the_last_one_saw(reading):
    first, second, folder = *reading.lesions_shown()[:2], reading.panel.reading.folder
    reading.type_into(reading.ui.observerEdit, "Reader^Rita")
    reading.close_scene()
    reading.open_case(folder)
    reading.click_row(0)
    reading.close_scene()
    reading.open_case(folder)
    reading.click_row(1)
    reading.panel.review.readBy("Second^Sam")
    assert LookedAt(folder, "Second^Sam").lesions == {second}
    assert LookedAt(folder, "Reader^Rita").lesions == {first, second}
    assert [reading.ui.lesionTable.item(r, 8).text() for r in range(2)] == ["", "✓"]


def test_what_was_seen_belongs_to_the_reader_who_signs(reading):
    reading.click_row(0)
    lesion = reading.lesions_shown()[0]
    reading.sign()
    folder = reading.panel.reading.folder
    assert LookedAt(folder, "Reader^Rita").lesions == {lesion}
    assert LookedAt(folder, "Second^Sam").lesions == set(), "a second reader begins anew"


def click_title(reading, column):
    header = reading.ui.lesionTable.horizontalHeader()
    at = QPoint(header.sectionViewportPosition(column) + header.sectionSize(column) // 2, header.height // 2)
    QTest.mouseClick(header.viewport(), Qt.LeftButton, Qt.NoModifier, at)
    QApplication.processEvents()


def test_a_click_on_a_title_sorts_a_second_the_other_way_and_a_third_brings_the_queue_back(reading, unsure):
    lesions = case_of(reading).report.lesions
    by_peak = [row.id for row in sorted(lesions, key=lambda row: row.peak_hu, reverse=True)]
    queue = reading.lesions_shown()
    click_title(reading, 4)
    assert reading.lesions_shown() == by_peak
    click_title(reading, 4)
    assert reading.lesions_shown() == by_peak[::-1]
    reading.hold_row(0)
    reading.key("1")
    assert case_of(reading).lesions.arteries[by_peak[-1]] is Artery.LM, "a row is its own lesion in any order"
    click_title(reading, 4)
    assert reading.lesions_shown() == queue


@pytest.mark.parametrize(("shown", "count"), [("LCX", None), ("to decide", 2), ("not seen yet", 6)])
def test_the_list_shows_what_is_asked_for_and_all_of_it_counts(reading, unsure, shown, count):
    total = case_of(reading).report.total.agatston
    reading.click_row(0)
    box = reading.ui.lesionFilterComboBox
    box.setCurrentIndex(box.findText(shown))
    if count is None:
        ids = [row.id for row in case_of(reading).report.lesions if row.artery is Artery.LCX]
        assert sorted(reading.lesions_shown()) == sorted(ids)
    else:
        assert len(reading.lesions_shown()) == count
    assert case_of(reading).report.total.agatston == total
    assert "Borderline, review first: 2" in reading.ui.hintLabel.text, "also where the list does not show them"


def test_what_the_reader_changed_can_be_listed(reading):
    lesion = reading.lesions_shown()[0]
    reading.hold_row(0)
    reading.key("4")
    box = reading.ui.lesionFilterComboBox
    box.setCurrentIndex(box.findText("changed by the reader"))
    assert reading.lesions_shown() == [lesion]
