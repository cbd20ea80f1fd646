"""Pictures of the panel in each state, for people to look at and for docs/tutorial.md.

They are drawn with our stand-ins for CTK's and Slicer's widgets: the layout and the words are the panel's, the segment
editor and the section headers look otherwise in Slicer. `make pictures` keeps them in docs/pictures.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from desktop.conftest import processes_left
from desktop.reader import Reader

pytestmark = pytest.mark.slow

WIDTH = 540


@pytest.fixture
def keep(module, tmp_path):
    """`keep(name, part)` writes a picture of the whole panel or of a part of it; returns its (width, height)."""
    import qt

    folder = Path(os.environ.get("HEARTLENS_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def grab(name: str, part: Any = None) -> tuple[int, int]:
        panel = module.widget.uiWidget
        window = module.widget.parent
        for _ in range(3):  # hidden rows give their room back after one round of layout
            window.resize(WIDTH, panel.sizeHint.height() + 24)
            qt.QApplication.processEvents()
        picture = (part or window).grab()
        path = folder / f"{name}.png"
        assert picture.save(str(path))
        read_back = qt.QPixmap(str(path))
        return read_back.width(), read_back.height()

    return grab


def test_pictures_of_every_state(module, keep, phantom_ct, scored_case, tmp_path):
    ui = module.ui
    ui.casesPathEdit.currentPath = "/home/reader/HeartLens"
    _, empty = keep("panel-empty")
    reader = Reader(module, phantom_ct)
    keep("panel-ready")
    reader.open_case(scored_case)
    _, scored = keep("panel-scored")
    assert scored > 2 * empty
    ui.ageSpinBox.setValue(60)
    ui.raceComboBox.setCurrentIndex(ui.raceComboBox.findText("White"))
    reader.click_row(1)
    reader.click(ui.lcxButton)
    reader.click_row(5)
    reader.key("Del")
    reader.click_row(0)
    ui.segmentEditor.setActiveEffectByName("Paint")
    keep("panel-editing")
    ui.segmentEditor.setActiveEffectByName("")
    reader.sign()
    ui.exportLabel.setText(
        ui.exportLabel.text.replace(str(scored_case.parent), "/home/reader/HeartLens/20261121-101500")
    )
    keep("panel-signed")


def test_picture_while_it_scores(module, keep, phantom_ct):
    ui = module.ui
    ui.casesPathEdit.currentPath = str(module.cases)
    reader = Reader(module, phantom_ct)
    ui.optionsSection.collapsed = False
    reader.press_score()
    reader.wait(lambda: ui.progressBar.value > 0)
    ui.casesPathEdit.blockSignals(True)
    ui.casesPathEdit.currentPath = "/home/reader/HeartLens"
    width, _ = keep("panel-scoring")
    assert width == WIDTH
    assert ui.scoreButton.text == "Cancel"
    reader.press_score()
    reader.wait(lambda: ui.scoreButton.text == "Score")


def test_picture_while_it_is_cancelled(module, keep, phantom_ct):
    reader = Reader(module, phantom_ct)
    module.ui.casesPathEdit.currentPath = str(module.cases)
    reader.press_score()
    reader.wait(lambda: module.ui.progressBar.value > 0)
    (worker,) = processes_left()
    os.kill(worker, signal.SIGSTOP)  # it answers within milliseconds otherwise
    reader.press_score()
    keep("panel-cancelling")
    assert module.ui.scoreButton.text == "Cancelling..."
    os.kill(worker, signal.SIGCONT)
    reader.wait(lambda: module.ui.scoreButton.text == "Score")
    assert module.dialogs.shown == []


def test_pictures_of_what_the_reader_is_warned_of_and_of_what_is_refused(module, keep, phantom_ct, tmp_path):
    import pydicom
    import slicer

    folder = tmp_path / "warned"
    folder.mkdir()
    for path in phantom_ct.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.KVP, dataset.ConvolutionKernel = "100", "B60f"
        dataset.save_as(folder / path.name)
    reader = Reader(module, folder)
    keep("panel-warned")
    assert "100 kVp" in module.ui.warningsLabel.text
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    reader.volume.SetAndObserveTransformNodeID(transform.GetID())
    module.panel.input.refresh()
    module.panel.scoring.showReadiness()
    keep("panel-refused")
    assert "transform" in module.ui.warningsLabel.text


def test_pictures_of_what_stands_in_the_way_of_signing(module, keep, phantom_ct, scored_case):
    from heartlens.core.lesions import Artery

    reader = Reader(module, phantom_ct)
    reader.open_case(scored_case)
    lesion = module.panel.reading.case.report.lesions[0].id
    module.panel.assign(lesion, Artery.UNASSIGNED)
    module.panel.assign(module.panel.reading.case.report.lesions[1].id, Artery.OTHER)
    keep("panel-unassigned")
    assert "has no artery yet" in module.ui.obstaclesLabel.text
    for row in module.panel.reading.case.report.lesions:
        module.panel.remove(row.id)
    _, height = keep("panel-zero", module.ui.signSection)
    assert "there is no coronary calcium" in module.ui.confirmCheckBox.text
    assert height < 300
