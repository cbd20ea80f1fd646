"""The chart of the score along z, and the probability of each slice over the CT: a button each, and gone again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from desktop.reader import Reader, slicer
from PySide6.QtWidgets import QApplication

from heartlens.case.folder import load_case, save_case

pytestmark = pytest.mark.slow

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
FOUR_UP_WITH_PLOT = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotView


@pytest.fixture
def judged(scored_case, tmp_path):
    """The scored case as if the slice classifier had looked at it, surest of its last slice."""
    case = load_case(scored_case / "case")
    probability = np.linspace(0.0, 1.0, case.ct.shape[0])
    save_case(replace(case, inputs=replace(case.inputs, slice_probability=probability)), tmp_path / "judged")
    return tmp_path / "judged"


@pytest.fixture
def reading(module, phantom_ct, judged):
    slicer.app.layoutManager().setLayout(FOUR_UP)
    module.widget.enter()
    reader = Reader(module, phantom_ct)
    reader.open_case(judged)
    yield reader
    slicer.app.layoutManager().setLayout(FOUR_UP)


def layout_shown():
    return slicer.app.layoutManager().layoutLogic().GetLayoutNode().GetViewArrangement()


def charts_shown():
    """Charts in the views of the layout that is shown."""
    nodes = slicer.app.layoutManager().layoutLogic().GetViewNodes()
    views = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
    return [view.GetPlotChartNodeID() for view in views if view.IsA("vtkMRMLPlotViewNode")]


def foregrounds():
    """Volume and opacity over the CT, in each slice view of the layout that is shown."""
    widgets = [slicer.app.layoutManager().sliceWidget(name) for name in slicer.app.layoutManager().sliceViewNames()]
    nodes = [widget.mrmlSliceCompositeNode() for widget in widgets]
    return {(node.GetForegroundVolumeID(), node.GetForegroundOpacity()) for node in nodes}


def test_the_chart_comes_beside_the_views_and_goes_again(reading):
    button = reading.ui.chartButton
    assert not button.checked
    reading.click(button)
    assert layout_shown() == FOUR_UP_WITH_PLOT
    assert charts_shown() == [reading.panel.nodes.chart.GetID()]
    assert button.checked
    reading.click(button)
    assert layout_shown() == FOUR_UP
    assert charts_shown() == []
    assert not button.checked


def test_in_the_reading_layout_the_chart_is_below_the_calcium_and_both_can_go_first(reading):
    reading.click(reading.ui.readingRoomButton)
    reading.click(reading.ui.chartButton)
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "HeartLensSlab")
    assert charts_shown() == [reading.panel.nodes.chart.GetID()]
    assert reading.panel.views.room.isShown
    reading.click(reading.ui.readingRoomButton)
    assert layout_shown() == FOUR_UP_WITH_PLOT, "the chart stays"
    reading.click(reading.ui.readingRoomButton)
    assert len(charts_shown()) == 1
    reading.click(reading.ui.chartButton)
    assert reading.panel.views.room.isShown, "the reading layout stays"
    assert charts_shown() == []
    reading.click(reading.ui.readingRoomButton)
    assert layout_shown() == FOUR_UP


def test_a_layout_that_the_reader_chose_meanwhile_is_left_alone_and_the_button_shows_the_chart_there(reading):
    conventional = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
    reading.click(reading.ui.chartButton)
    slicer.app.layoutManager().setLayout(conventional)
    reading.click(reading.ui.chartButton)
    assert layout_shown() == slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView
    assert reading.ui.chartButton.checked
    reading.click(reading.ui.chartButton)
    assert layout_shown() == conventional


def test_another_case_comes_with_its_own_chart_and_without_a_case_the_layout_goes_back(reading, scored_case):
    reading.click(reading.ui.chartButton)
    first = reading.panel.nodes.chart.GetID()
    reading.open_case(scored_case)
    assert charts_shown() == [reading.panel.nodes.chart.GetID()] != [first]
    assert reading.ui.chartButton.checked
    reading.panel.closeCase()
    reading.wait(lambda: layout_shown() == FOUR_UP)
    reading.open_case(scored_case)
    assert charts_shown() == [reading.panel.nodes.chart.GetID()], "the reader's wish holds"
    reading.close_scene()
    reading.wait(lambda: layout_shown() == FOUR_UP)


def test_the_probability_of_each_slice_lies_over_the_ct_and_what_was_there_comes_back(reading):
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "PET")
    slicer.util.setSliceViewerLayers(foreground=other, foregroundOpacity=0.5)
    before = foregrounds()
    assert before == {(other.GetID(), 0.5)}
    button = reading.ui.probabilityButton
    reading.click(button)
    overlay = reading.panel.nodes.overlay
    assert foregrounds() == {(overlay.GetID(), 0.3)}
    assert overlay.GetImageData().GetScalarRange() == (0.0, 1.0)
    assert button.checked
    reading.click(button)
    assert foregrounds() == before
    assert not button.checked


def test_views_that_a_layout_brings_show_the_probability_too(reading):
    reading.click(reading.ui.probabilityButton)
    reading.click(reading.ui.readingRoomButton)
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", "HeartLensSlab")
    assert foregrounds() == {(reading.panel.nodes.overlay.GetID(), 0.3)}


def test_a_case_without_a_probability_has_the_button_disabled_with_the_reason_and_the_next_one_shows_it(
    reading, scored_case, judged
):
    button = reading.ui.probabilityButton
    assert button.enabled
    assert "color over the CT" in button.toolTip
    reading.click(button)
    reading.open_case(scored_case)
    assert reading.panel.nodes.overlay is None
    assert not button.enabled
    assert not button.checked
    assert "No network looked at the slices" in button.toolTip
    assert foregrounds() == {(None, 0.0)}
    reading.open_case(judged)
    assert button.enabled
    assert button.checked, "the reader's wish holds"
    assert foregrounds() == {(reading.panel.nodes.overlay.GetID(), 0.3)}


def test_a_case_that_opens_while_another_module_is_open_changes_no_view(reading, scored_case):
    reading.click(reading.ui.chartButton)
    reading.click(reading.ui.probabilityButton)
    reading.panel.closeCase()
    reading.wait(lambda: layout_shown() == FOUR_UP)
    reading.module.widget.exit()
    reading.panel.openCaseFolder(scored_case / "case")
    QApplication.processEvents()
    assert layout_shown() == FOUR_UP
    assert foregrounds() == {(None, 0.0)}
    reading.module.widget.enter()
    assert len(charts_shown()) == 1
