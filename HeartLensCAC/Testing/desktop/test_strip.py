"""The strip below the views: the numbers of the case while the reader is here, and what lies under the mouse."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from desktop.reader import Reader, slicer
from desktop.slicer_facts import conforming
from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QApplication, QDockWidget, QMainWindow

from heartlens.case.signature import answered
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import CORONARY, Artery, Site

pytestmark = pytest.mark.slow


def words(reading):
    """The numbers, and what lies under the mouse."""
    return reading.ui.numbersLabel.text, reading.ui.pointedLabel.text


def test_the_strip_shows_total_and_arteries_and_follows_each_edit(reading):
    report = reading.panel.reading.case.report
    text, _ = words(reading)
    assert f"Agatston {round(report.total.agatston)} ·" in text
    for artery in CORONARY:
        assert f"{artery.name} {round(report.arteries[artery].agatston)}" in text
    lesion = reading.lesions_shown()[0]
    reading.hold_row(0)
    reading.key("1")
    edited = reading.panel.reading.case.report
    assert edited.arteries[Artery.LM].agatston > 0
    assert f"LM {round(edited.arteries[Artery.LM].agatston)}" in words(reading)[0]
    assert "to decide" not in text
    reading.panel.assign(lesion, Artery.UNASSIGNED)
    text, _ = words(reading)
    assert f"unassigned {round(edited.arteries[Artery.LM].agatston)}" in text
    assert "to decide: 1" in text


def test_the_strip_says_when_the_case_is_signed_and_no_longer(reading):
    assert words(reading)[0].endswith("not signed")
    reading.sign()
    text, _ = words(reading)
    assert text.endswith("signed")
    assert "not signed" not in text
    reading.hold_row(0)
    reading.key("4")
    assert words(reading)[0].endswith("not signed")


def test_the_strip_says_no_more_than_the_result_where_the_scan_is_not_evaluable(reading):
    from HeartLensCACLib.Sections.Strip import numbersOf

    session = reading.panel.reading
    cautions = (*session.case.cautions, WarningRecord("few-slices", "found 2 slices"))
    session.case = replace(session.case, cautions=cautions)
    assert answered(session.case, session.state).headline() in numbersOf(session)


def test_the_strip_is_there_with_a_case_in_the_module_and_nowhere_else(module, phantom_ct, scored_case):
    strip = module.ui.stripWidget
    assert not strip.visible
    reader = Reader(module, phantom_ct)
    reader.open_case(scored_case)
    assert strip.visible
    module.widget.exit()
    assert not strip.visible
    module.widget.enter()
    assert strip.visible
    reader.close_scene()
    assert not strip.visible


def test_the_strip_is_docked_in_slicers_window_once_and_leaves_it_with_the_module(reading, monkeypatch):
    window = QMainWindow()
    monkeypatch.setattr(slicer.util, "mainWindow", conforming("slicer.util.mainWindow", lambda: window))
    for _ in range(2):
        reading.panel.exit()
        reading.panel.enter(reading.module.widget.parent)
    (dock,) = window.findChildren(QDockWidget)
    assert window.dockWidgetArea(dock) == Qt.BottomDockWidgetArea
    assert dock.features == QDockWidget.NoDockWidgetFeatures, "nobody loses it"
    assert not dock.isHidden()
    assert reading.ui.stripWidget.parent() is dock
    reading.panel.exit()
    assert dock.isHidden()
    reading.module.widget.cleanup()
    QApplication.sendPostedEvents(None, QEvent.DeferredDelete)
    assert window.findChildren(QDockWidget) == []


def test_what_lies_under_the_mouse_is_named_with_its_score_and_hu(reading):
    case = reading.panel.reading.case
    row = case.report.lesions[0]
    reading.point_at("Red", row.id)
    flat = case.lesions.voxels.flat[case.lesions.voxels.ids == row.id]
    hu = case.ct.hu.reshape(-1)[flat[len(flat) // 2]]
    _, under = words(reading)
    assert under == f"lesion {row.id}, {row.artery.name}: {round(row.agatston)} · {hu:.0f} HU"
    reading.key("0")
    assert "not coronary: not counted" in words(reading)[1], "it follows the edit while the mouse rests"
    reading.module.views["Red"].hover(2, 2)
    assert re.fullmatch(r"(-?\d+ HU)?", words(reading)[1])
    reading.module.views["Red"].leave()
    assert words(reading)[1] == ""


def test_calcium_that_is_not_coronary_is_called_by_its_place_in_the_list_and_under_the_mouse(reading):
    lesion = reading.lesions_shown()[0]
    reading.panel._edit(lambda session: session.place(lesion, Site.AORTIC_VALVE))
    assert reading.shown_artery(lesion) == "aortic valve"
    reading.point_at("Red", lesion)
    assert words(reading)[1].startswith(f"lesion {lesion}, aortic valve: not counted")
    reading.key("2")
    assert reading.shown_artery(lesion) == "LAD"


def test_the_hu_under_the_mouse_is_that_of_the_voxel_there(reading):
    ct = reading.panel.reading.case.source_ct
    k, j, i = ct.shape[0] // 2, ct.shape[1] // 2, ct.shape[2] // 2
    x, y, z = ct.lps_mm(np.array([k, j, i], float))
    view = reading.module.views["Red"]
    view.node.JumpSliceByCentering(-x, -y, z)
    view.hover(200, 200)
    assert words(reading)[1].endswith(f"{ct.hu[k, j, i]:.0f} HU")
