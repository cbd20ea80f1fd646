"""The Score button and the real worker behind it: states, cancel, second run, a run that is abandoned."""

from __future__ import annotations

import os
import signal

import pytest
from desktop.conftest import processes_left

pytestmark = pytest.mark.slow


def ready(module, phantom_ct):
    """The phantom chosen in the panel, by the rules, which need no network."""
    volume = module.load(phantom_ct)
    module.ui.volumeSelector.setCurrentNode(volume)
    module.ui.bundleComboBox.setCurrentIndex(module.ui.bundleComboBox.findData("none"))
    return volume


def test_without_a_volume_nothing_can_be_scored(module):
    assert not module.ui.scoreButton.enabled
    assert module.ui.scoreButton.toolTip == "Choose a CT volume first."


def test_a_chosen_volume_says_how_it_was_made_and_of_whom(module, phantom_ct):
    ready(module, phantom_ct)
    facts = module.ui.factsLabel.text
    assert "192 x 192 pixels of 1.22 mm, 42 slices every 3 mm, 3 mm thick" in facts
    assert "120 kVp" in facts
    assert "ECG-gated" in facts
    assert module.ui.ageSpinBox.value == 35
    assert module.ui.sexComboBox.currentText == "female"
    assert module.ui.raceComboBox.currentText == "race not stated"
    assert module.ui.scoreButton.enabled


def test_the_button_is_score_then_cancel_then_cancelling(module, phantom_ct):
    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    assert module.ui.scoreButton.text == "Cancel"
    assert not module.ui.volumeSelector.enabled
    module.wait(lambda: module.ui.progressBar.value > 0)
    assert module.ui.progressBar.visible
    assert module.ui.stageLabel.text
    module.ui.scoreButton.click()
    assert module.ui.scoreButton.text == "Cancelling..."
    assert not module.ui.scoreButton.enabled
    module.wait(lambda: module.ui.scoreButton.text == "Score")
    assert module.panel.reading is None
    assert module.dialogs.shown == []
    assert list(module.cases.iterdir()) == []
    assert module.ui.volumeSelector.enabled


def test_cancel_before_the_worker_is_there_leaves_nothing(module, phantom_ct):
    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    module.ui.scoreButton.click()
    module.wait(lambda: module.ui.scoreButton.text == "Score")
    assert module.dialogs.shown == []
    assert list(module.cases.iterdir()) == []


def test_a_killed_worker_is_told_in_one_dialog(module, phantom_ct):
    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    module.wait(processes_left)
    os.kill(processes_left()[0], signal.SIGKILL)
    module.wait(lambda: module.ui.scoreButton.text == "Score")
    assert len(module.dialogs.shown) == 1
    assert "died" in module.dialogs.shown[0]
    assert "log" in module.dialogs.shown[0]


def test_closing_the_scene_stops_the_run_and_hears_nothing_of_it(module, phantom_ct):
    import slicer

    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    module.wait(lambda: module.ui.progressBar.value > 0)
    slicer.mrmlScene.Clear()
    assert not processes_left()
    assert module.ui.scoreButton.text == "Score"
    assert not module.ui.scoreButton.enabled
    assert module.dialogs.shown == []


def test_quitting_slicer_while_it_scores_leaves_no_process(module, phantom_ct):
    import slicer

    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    module.wait(processes_left)
    slicer.app.emit("aboutToQuit()")
    assert not processes_left()


def test_a_module_reloaded_while_it_scores_leaves_no_process(module, phantom_ct):
    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    module.wait(processes_left)
    module.widget.cleanup()
    assert not processes_left()
    assert module.dialogs.shown == []


def test_networks_of_another_folder_can_be_chosen_and_are_remembered(module, monkeypatch, tmp_path):
    import qt

    combo = module.ui.bundleComboBox
    before = module.panel.parameters.bundle
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: "")
    combo.setCurrentIndex(combo.findData("?"))
    assert module.panel.parameters.bundle == before, "a dialog that is closed chooses nothing"
    (tmp_path / "my-networks").mkdir()
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "my-networks"))
    combo.setCurrentIndex(combo.findData("?"))
    assert combo.currentText == "my-networks"
    assert module.panel.score.options()["bundle"] == str(tmp_path / "my-networks")


def test_checking_the_environment_reports_into_the_log_and_imports_nothing_here(module):
    import sys

    loaded = set(sys.modules)
    module.ui.checkButton.click()
    module.wait(lambda: "worked example" in module.ui.logText.toPlainText())
    assert not {name.split(".")[0] for name in set(sys.modules) - loaded} & {"torch", "onnxruntime", "highdicom"}


def test_diagnostics_hold_versions_and_the_log(module):
    import slicer

    module.panel.score.log("something happened")
    module.ui.copyButton.click()
    assert "HeartLens " in slicer.app.clipped
    assert "Slicer 5.12" in slicer.app.clipped
    assert "something happened" in slicer.app.clipped
