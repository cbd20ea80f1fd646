"""A case is opened while Slicer goes on drawing: what waits meanwhile, and what comes of it."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from pathlib import Path

import pytest
from desktop.reader import Reader, slicer
from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtWidgets import QApplication

from heartlens.app.review_session import ReviewSession
from heartlens.case.lock import LOCK
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow

GONE = (
    "The scene was closed while the case was put into it; open the case again.",
    "The volume: it is no longer in the scene; load the series again.",
)
"""What a reader is told whose scene is closed while a case opens, as long as the case has not taken the panel."""


@pytest.fixture
def slow(monkeypatch):
    """Opening takes half a second more; whether it was done in Slicer's own thread is kept in a list."""
    threads, really = [], ReviewSession.open

    def opened(*arguments, **named):
        threads.append(threading.current_thread() is threading.main_thread())
        time.sleep(0.5)
        return really(*arguments, **named)

    monkeypatch.setattr(ReviewSession, "open", opened)
    return threads


def test_timers_go_on_while_a_case_is_read_and_it_is_open_when_the_call_returns(module, scored_case, slow):
    beats = []
    heart = QTimer()
    heart.setInterval(5)
    heart.timeout.connect(lambda: beats.append(module.panel.reading))
    heart.start()
    module.panel.openCaseFolder(scored_case)
    heart.stop()
    assert slow == [False], "not in Slicer's own thread"
    assert beats.count(None) > 5
    assert module.panel.reading.folder == scored_case / "case"


def test_what_was_put_off_until_slicer_is_done_waits_for_the_end_of_it(module, phantom_ct, scored_case, slow):
    reader = Reader(module, phantom_ct)
    seen = []
    told = QTimer()
    told.setSingleShot(True)
    told.timeout.connect(lambda: module.panel.later.do(lambda: seen.append(module.panel.reading is not None)))
    told.start(50)
    reader.open_case(scored_case)
    reader.wait(lambda: seen)
    assert seen == [True]


def test_a_case_that_cannot_be_opened_is_told_as_before_and_the_one_that_was_open_stays(reading, slow):
    before = reading.panel.reading
    reading.panel.openCaseFolder(reading.panel.reading.folder.parent.parent)
    assert len(reading.dialogs.shown) == 1
    assert "no case.json" in reading.dialogs.shown[0]
    assert reading.panel.reading is before
    reading.dialogs.shown.clear()


@pytest.fixture
def drawn(monkeypatch):
    """Calls to be made each time that Slicer draws in the middle of something."""
    from HeartLensCACLib import Panel, Timers

    calls, really = [], Timers.breathe

    def breathe():
        really()
        for call in list(calls):
            call()

    for place in (Panel, Timers):
        monkeypatch.setattr(place, "breathe", breathe)
    return calls


def visible():
    """Names of the segmentations that the views show."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node.GetName() for node in nodes if node.GetDisplayNode() and node.GetDisplayNode().GetVisibility()]


def lock_of(folder):
    """Whether somebody has a case open."""
    return (folder / LOCK).exists()


def another_case(reading, tmp_path):
    """A copy of the result that is open."""
    return Path(shutil.copytree(reading.panel.reading.folder.parent, tmp_path / "another")) / "case"


def test_whenever_slicer_draws_while_a_case_opens_the_views_show_all_of_one_case(reading, drawn, tmp_path):
    panel, other = reading.panel, another_case(reading, tmp_path)
    before, seen = panel.reading, []
    drawn.append(lambda: seen.append((panel.reading is before, visible(), panel.nodes.segmentation.GetName())))
    panel.openCaseFolder(other)
    assert {is_before for is_before, *_ in seen} == {True, False}
    assert all(shown == [of_panel] for _, shown, of_panel in seen)
    assert panel.reading.folder == other


def test_nothing_can_be_edited_until_all_of_a_case_is_there(reading, drawn, tmp_path):
    panel, other = reading.panel, another_case(reading, tmp_path)
    lesion, tried = panel.reading.case.report.lesions[0], []

    def edit():
        tried.append(panel.isEditable)
        panel.assign(lesion.id, Artery.RCA)
        panel.remove(lesion.id)
        panel.undo()
        panel.onViewClick((0.0, 0.0, 0.0), False)
        panel.onBox([(0.0, 0.0, 0.0)], None)

    old = panel.reading.folder
    drawn.append(edit)
    panel.openCaseFolder(other)
    drawn.clear()
    assert len(tried) > 5
    assert set(tried) == {False}
    assert [(folder / "edits.jsonl").read_text() for folder in (old, other)] == ["", ""]
    assert panel.isEditable
    panel.assign(lesion.id, Artery.RCA)
    assert panel.reading.case.lesions.arteries[lesion.id] is Artery.RCA


def test_a_case_that_is_to_be_opened_while_one_opens_comes_after_it(reading, drawn, tmp_path):
    panel, first = reading.panel, another_case(reading, tmp_path)
    second = Path(shutil.copytree(first.parent, tmp_path / "second")) / "case"
    opened = []
    drawn.append(lambda: None if opened else opened.append(panel.openCaseFolder(second)))
    panel.openCaseFolder(first)
    assert panel.reading.folder == first
    reading.wait(lambda: not panel.later.isWaiting)
    assert panel.reading.folder == second
    assert len(visible()) == 1
    assert not lock_of(first)


@pytest.mark.parametrize("at", [1, 3, 6, 9, 12])
def test_a_scene_that_is_closed_while_a_case_opens_leaves_no_case_and_no_lock(reading, drawn, tmp_path, at):
    panel, other = reading.panel, another_case(reading, tmp_path)
    count = []

    def close():
        count.append(1)
        if len(count) == at:
            slicer.mrmlScene.Clear()

    old = panel.reading.folder
    drawn.append(close)
    panel.openCaseFolder(other)
    drawn.clear()
    reading.wait(lambda: not panel.later.isWaiting)
    assert len(count) >= at
    assert panel.reading is None or visible() == [panel.nodes.segmentation.GetName()]
    assert not lock_of(old)
    assert bool(lock_of(other)) == (panel.reading is not None)
    assert all(told in GONE for told in reading.dialogs.shown)
    reading.dialogs.shown.clear()
    panel.openCaseFolder(other)
    assert panel.isEditable
    assert len(visible()) == 1


def test_what_a_process_says_while_slicer_draws_is_heard_afterwards(slicer_running):
    from HeartLensCACLib import Timers

    heard = []
    slot = Timers.afterwards(heard.append)
    slot("at once")
    Timers.meanwhile(lambda: time.sleep(0.02))
    ticks = QTimer()
    ticks.setSingleShot(True)
    ticks.timeout.connect(lambda: slot("meanwhile"))
    ticks.start(0)
    Timers.meanwhile(lambda: time.sleep(0.1))
    assert heard == ["at once"]
    slot("later")
    end = time.monotonic() + 20
    while len(heard) < 3 and time.monotonic() < end:
        QApplication.processEvents()
    assert heard == ["at once", "meanwhile", "later"]


def test_python_looks_for_no_garbage_while_slicer_waits_and_does_so_again_afterwards(slicer_running):
    from HeartLensCACLib.Timers import meanwhile

    assert gc.isenabled()
    assert meanwhile(gc.isenabled) is False
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        meanwhile(lambda: 1 / 0)
    assert gc.isenabled()


def test_what_a_thread_raises_is_raised_where_the_result_is_asked_for(slicer_running):
    from HeartLensCACLib.Timers import meanwhile

    def refused():
        raise InputRefused("input", "no")

    with pytest.raises(InputRefused, match="no"):
        meanwhile(refused)
    assert meanwhile(lambda: 3) == 3


def test_work_that_was_forgotten_comes_to_nothing_and_the_next_one_is_told(slicer_running):
    from HeartLensCACLib.Timers import Aside

    told = []
    aside = Aside(told.append)
    aside.do(lambda: time.sleep(0.05) or "first")
    aside.do(lambda: "second")
    end = time.monotonic() + 20
    while aside.isWorking and time.monotonic() < end:
        QApplication.processEvents()
    aside.do(lambda: "third")
    aside.forget()
    time.sleep(0.05)
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    QApplication.processEvents()
    assert told == ["second"]
    assert slicer.mrmlScene is not None
