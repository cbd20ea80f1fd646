"""Scenes that load, close and lose nodes: what the panel does then, and that no event is disturbed by it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from desktop.reader import slicer

pytestmark = pytest.mark.slow

EVENTS = ("NodeAboutToBeRemovedEvent", "NodeRemovedEvent", "StartCloseEvent", "EndCloseEvent", "EndImportEvent")


@pytest.fixture
def calm(reading, monkeypatch):
    """What happens within an event of the scene, or within the selector's answer to one: boxes, and nodes that go.

    An event is open between an observer that is called first and one that is called last.
    """
    from HeartLensCACLib import Words

    scene, within, happened = slicer.mrmlScene, [], []
    kept_box = slicer.util.messageBox
    tags = []
    for event in EVENTS:
        number = getattr(slicer.vtkMRMLScene, event)
        tags.append(scene.AddObserver(number, lambda *_, event=event: within.append(event), 1000.0))
        tags.append(scene.AddObserver(number, lambda *_: within.pop(), -1000.0))

    def box(text, **properties):
        happened.extend(f"a box in {event}" for event in within)
        return kept_box(text, **properties)

    monkeypatch.setattr(slicer.util, "messageBox", box)
    assert Words.slicer.util.messageBox is box

    from heartlens.scene import nodes

    def remove(removed_scene, node, plain=nodes._remove):
        happened.extend(f"a node removed in {event}" for event in within)
        plain(removed_scene, node)

    monkeypatch.setattr(nodes, "_remove", remove)
    yield happened
    for tag in tags:
        scene.RemoveObserver(tag)


@pytest.mark.parametrize("node", ["segmentation", "volume", "totals_table"])
def test_a_deleted_node_is_told_when_the_scene_is_done_with_it(reading, calm, node):
    slicer.mrmlScene.RemoveNode(getattr(reading.panel.nodes, node))
    assert reading.panel.reading is None, "no edit goes to a case of which a part is gone"
    assert reading.dialogs.shown == []
    reading.wait(lambda: reading.dialogs.shown)
    assert "was deleted" in reading.dialogs.shown[0]
    reading.wait(lambda: not reading.panel.later.isWaiting)
    assert calm == []


def test_of_a_case_whose_segmentation_was_deleted_only_the_volume_stays(reading):
    named = reading.panel.nodes.all()
    assert {"automatic", "totals_table", "chart"} <= named.keys()
    slicer.mrmlScene.RemoveNode(named["segmentation"])
    reading.wait(lambda: not reading.panel.later.isWaiting)
    assert [name for name, node in named.items() if slicer.mrmlScene.IsNodePresent(node)] == ["volume"]


def test_a_stroke_that_is_refused_while_its_volume_goes_is_told_afterwards(reading, calm):
    panel = reading.panel
    panel._strokeTimer.setInterval(600_000)
    panel._onStroke()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    panel.nodes.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    slicer.mrmlScene.RemoveNode(panel.nodes.volume)
    reading.wait(lambda: not panel.later.isWaiting)
    assert any("Harden transform" in text for text in reading.dialogs.shown)
    assert calm == []


def test_a_scene_that_closes_and_one_that_loads_find_nothing_removed_under_their_feet(reading, calm, tmp_path):
    bundle = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear()
    assert slicer.mrmlScene.ReadFromMRB(bundle)
    reading.wait(lambda: reading.panel.reading is not None)
    assert calm == []


def test_another_volume_takes_the_case_out_of_the_scene_a_moment_later(reading):
    import numpy as np

    nodes = reading.panel.nodes
    slicer.util.addVolumeFromArray(np.zeros((24, 64, 64), np.int16), name="other")
    reading.ui.volumeSelector.setCurrentNode(slicer.util.getNode("other"))
    assert slicer.mrmlScene.IsNodePresent(nodes.segmentation)
    reading.wait(lambda: not slicer.mrmlScene.IsNodePresent(nodes.segmentation))
    assert slicer.mrmlScene.IsNodePresent(nodes.volume)
    assert reading.dialogs.shown == []


@pytest.fixture
def saved(reading, tmp_path):
    """A scene saved with an edited case, and closed; returns (bundle, case folder, what was shown)."""
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    folder, shown = reading.panel.reading.folder, reading.shown()
    (tmp_path / "scenes").mkdir()
    bundle = tmp_path / "scenes" / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(bundle))
    slicer.mrmlScene.Clear()
    return bundle, folder, shown


def load(bundle):
    slicer.mrmlScene.SetURL(str(bundle))
    assert slicer.mrmlScene.ReadFromMRB(str(bundle))


@pytest.mark.parametrize("where", ["beside the scene", "among the cases"])
def test_a_scene_whose_case_folder_was_moved_finds_it(reading, saved, where):
    bundle, folder, shown = saved
    result = folder.parent
    place = bundle.parent if where == "beside the scene" else reading.module.cases
    place.mkdir(exist_ok=True)
    shutil.move(result, place / result.name)
    load(bundle)
    reading.wait(lambda: reading.panel.reading is not None)
    assert reading.shown() == shown
    assert reading.dialogs.shown == []


def segmentations():
    return sorted(node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))


def test_a_scene_whose_case_folder_is_gone_asks_for_it(reading, saved, monkeypatch, tmp_path):
    import qt

    bundle, folder, shown = saved
    elsewhere = tmp_path / "elsewhere"
    shutil.move(folder.parent, elsewhere)
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(elsewhere))
    load(bundle)
    reading.wait(lambda: reading.panel.reading is not None)
    (asked,) = reading.dialogs.shown
    assert str(folder) in asked
    assert "show where it is now?" in asked
    assert reading.shown() == shown
    assert segmentations() == ["CT calcium", "CT calcium, automatic"], "the saved nodes made room, names and all"


def test_a_case_of_another_scan_that_is_shown_instead_is_refused_and_the_loaded_nodes_stay(
    reading, saved, monkeypatch, tmp_path
):
    import qt
    from report_cases import BOXES, make_case

    from heartlens.case.folder import save_case

    bundle, folder, _shown = saved
    shutil.move(folder.parent, tmp_path / "elsewhere")
    save_case(make_case(BOXES), tmp_path / "another")
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "another"))
    load(bundle)
    reading.wait(lambda: len(reading.dialogs.shown) == 2)
    assert "show where it is now?" in reading.dialogs.shown[0]
    assert "grid" in reading.dialogs.shown[1]
    assert reading.panel.reading is None
    assert segmentations() == ["CT calcium", "CT calcium, automatic"]


def test_a_scene_that_is_added_to_an_open_case_shows_its_own(reading, scored_case, tmp_path):
    second = shutil.copytree(scored_case, tmp_path / "second")
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    first, shown = reading.panel.reading.folder, reading.shown()
    bundle = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(bundle))
    slicer.mrmlScene.Clear()
    reading.open_case(second)
    assert reading.panel.reading.folder == second / "case"
    assert reading.shown() != shown
    load(bundle)
    reading.wait(lambda: reading.panel.reading is not None and reading.panel.reading.folder == first)
    assert reading.shown() == shown
    assert len(segmentations()) == 2, "of the case that was open before nothing stays"
    assert reading.dialogs.shown == []


def test_a_reader_who_shows_no_folder_is_asked_once_and_the_scene_stays(reading, saved):
    bundle, folder, _shown = saved
    shutil.rmtree(folder.parent)
    reading.dialogs.answer = False
    load(bundle)
    reading.wait(lambda: reading.dialogs.shown)
    reading.wait(lambda: not reading.panel.later.isWaiting)
    assert len(reading.dialogs.shown) == 1
    assert reading.panel.reading is None
    assert len(segmentations()) == 2
    slicer.mrmlScene.InvokeEvent(slicer.vtkMRMLScene.EndImportEvent)  # something else is loaded into it
    reading.wait(lambda: not reading.panel.later.isWaiting)
    assert len(reading.dialogs.shown) == 1, "it was said once"
    assert reading.panel.parameters.caseFolder == str(folder), "and a scene saved now still knows its case"


def test_the_end_of_slicer_closes_the_panel_once(reading, monkeypatch):
    closed = []
    plain = reading.panel.close
    monkeypatch.setattr(reading.panel, "close", lambda: closed.append(1) or plain())
    slicer.app.emit("aboutToQuit()")
    reading.module.widget.cleanup()
    assert closed == [1]


def test_a_reload_closes_the_old_panel_by_its_own_classes_and_leaves_the_keys_on(reading, monkeypatch):
    from desktop import slicer_app

    widget, known = reading.module.widget, {}
    for name in [n for n in sys.modules if n.split(".")[0] in ("heartlens", "HeartLensCACLib")]:
        known[name] = sys.modules[name]
    here = []
    panel = reading.panel
    monkeypatch.setattr(panel, "close", lambda: here.append("HeartLensCACLib.Panel" in sys.modules))
    monkeypatch.setattr(
        slicer_app.ScriptedLoadableModuleWidget,
        "onReload",
        lambda self: here.append("HeartLensCACLib.Panel" in sys.modules),
    )
    entered = []

    class Fresh:
        def enter(self):
            entered.append(True)

    monkeypatch.setattr(slicer.modules, "HeartLensCACWidget", Fresh(), raising=False)
    try:
        widget.onReload()
    finally:
        sys.modules.update(known)
    assert here == [True, False], "closed first, then read again"
    assert entered == [True], "the reader is there already, and Slicer does not say so again"
    monkeypatch.undo()
    panel.close()


def test_a_folder_of_cases_is_told_by_its_last_names(slicer_running, tmp_path):
    from HeartLensCACLib.CaseFolders import savedCase

    place = tmp_path / "here" / "20261129-1" / "case"
    place.mkdir(parents=True)
    (place / "case.json").write_text("{}")
    gone = Path("/gone/20261129-1/case")
    assert savedCase(gone, (tmp_path / "nowhere", tmp_path / "here")) == place
    assert savedCase(gone, (tmp_path,)) is None
    assert savedCase(place, ()) == place
