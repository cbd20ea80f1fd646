"""The Score button and the real worker behind it: states, cancel, second run, a run that is abandoned."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

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


def program(folder, text):
    """A program that stands in the place of Slicer's Python, and takes the same arguments."""
    path = folder / "program"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.path.insert(0, os.getcwd())
from heartlens.app.messages import Event
os.write(1, Event("ready", pid=os.getpid()).line)
open({here!r}, "w").write(str(os.getpid()))
while True:
    time.sleep(1)
"""
"""A worker that hears neither a cancellation, nor the end of stdin, nor SIGTERM."""

LAUNCHER = """
import signal, subprocess, sys
worker = subprocess.Popen([sys.executable, {deaf!r}, *sys.argv[1:]])
signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
sys.exit(worker.wait())
"""
"""What Slicer puts between itself and Python: it hands SIGTERM on, and its own end is not the worker's."""


@pytest.mark.parametrize("is_launched", [False, True], ids=["itself", "behind a launcher"])
def test_a_worker_that_hears_nothing_is_killed_in_the_end(module, phantom_ct, monkeypatch, tmp_path, is_launched):
    from HeartLensCACLib import ScoreRun

    here = tmp_path / "here"
    deaf = program(tmp_path, DEAF.format(here=str(here)))
    if is_launched:
        deaf = str(Path(deaf).rename(tmp_path / "deaf"))
        deaf = program(tmp_path, LAUNCHER.format(deaf=deaf))
    monkeypatch.setattr(ScoreRun, "pythonProgram", lambda: deaf)
    monkeypatch.setattr(ScoreRun, "GRACE_MS", 300)
    ready(module, phantom_ct)
    module.ui.scoreButton.click()
    module.wait(lambda: here.is_file() and here.read_text() and module.panel.score._run.run.pid)
    pid = int(here.read_text())
    try:
        module.ui.scoreButton.click()
        module.wait(lambda: module.ui.scoreButton.text == "Score", 20)
        module.wait(lambda: not is_running(pid), 5)
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    assert not processes_left()
    assert module.dialogs.shown == []


def is_running(pid):
    """Whether a process is there and no zombie, which has ended and waits only to be counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
