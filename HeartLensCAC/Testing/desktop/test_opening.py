"""A case is opened while Slicer goes on drawing: what waits meanwhile, and what comes of it."""

from __future__ import annotations

import threading
import time

import pytest
from desktop.reader import Reader, slicer
from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtWidgets import QApplication

from heartlens.app.review_session import ReviewSession
from heartlens.core.errors import InputRefused

pytestmark = pytest.mark.slow


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
