"""Pictures of the panel in each state, for people to look at and for docs/tutorial.md.

They are drawn with our stand-ins for CTK's and Slicer's widgets: the layout and the words are the panel's, the segment
editor and the section headers look otherwise in Slicer. `make pictures` keeps them in docs/pictures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from desktop.conftest import processes_left
from desktop.reader import Reader

pytestmark = pytest.mark.slow

WIDTH = 540

PUBLISHED = Path(__file__).resolve().parents[3] / "docs" / "pictures"
"""Each picture there holds the words that it was drawn with, so that a stale one is found without comparing pixels."""

CHANGING = {"stageLabel", "batchLabel", "exportLabel", "logText"}
"""Widgets whose words are another time's or another place's at each drawing."""


def words_of(window: Any) -> list[str]:
    """Every word that is to be read in a part of the panel, in one order."""
    import qt

    words = []
    for widget in window.findChildren(qt.QWidget):
        if not widget.visible or widget.name in CHANGING:
            continue
        if isinstance(widget, qt.QTableWidget):
            cells = [widget.item(r, c) for r in range(widget.rowCount) for c in range(widget.columnCount)]
            words += [cell.text() for cell in cells if cell is not None]
        elif isinstance(widget, qt.QTableView):
            model = widget.model()
            places = [(r, c) for r in range(model.rowCount()) for c in range(model.columnCount())]
            words += [str(model.index(r, c).data() or "") for r, c in places]
        elif isinstance(widget, qt.QPlainTextEdit):
            words.append(widget.toPlainText())
        elif isinstance(widget, qt.QLabel | qt.QAbstractButton):
            words.append(widget.text)
        elif isinstance(widget, qt.QComboBox):
            words.append(widget.currentText)
    return words


@pytest.fixture(scope="module")
def scored_by_networks(phantom_ct, tmp_path_factory):
    """The phantom's result folder as the shipped networks leave it: what a reader sees who changes nothing."""
    from heartlens.pipeline import Request, score_series
    from heartlens.report.outputs import write_outputs

    out = tmp_path_factory.mktemp("scored") / "result"
    write_outputs(score_series(sorted(phantom_ct.iterdir()), Request(device="cpu")), out)
    return out


@pytest.fixture
def scored_case(scored_by_networks, tmp_path):
    return Path(shutil.copytree(scored_by_networks, tmp_path / "scored"))


def at_the_panel(module: Any, folder: Path) -> Reader:
    """With the shipped networks chosen, as they are when the module is opened."""
    reader = Reader(module, folder)
    module.ui.bundleComboBox.setCurrentIndex(0)
    return reader


def timeless(words: str) -> list[str]:
    """Words of a picture without when it was signed, which is now."""
    return [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "(when)", text) for text in json.loads(words)]


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
        picture = (part or window).grab().toImage()
        words = json.dumps(words_of(part or window))
        picture.setText("words", words)
        path = folder / f"{name}.png"
        assert picture.save(str(path))
        if folder == tmp_path:
            published = qt.QImage(str(PUBLISHED / f"{name}.png")).text("words")
            assert timeless(published or "[]") == timeless(words), "docs/pictures is stale: make pictures"
        return picture.width(), picture.height()

    return grab


def test_pictures_of_every_state(module, keep, phantom_ct, scored_case, tmp_path):
    ui = module.ui
    ui.casesPathEdit.currentPath = "/home/reader/HeartLens"
    _, empty = keep("panel-empty")
    reader = at_the_panel(module, phantom_ct)
    keep("panel-ready")
    reader.open_case(scored_case)
    _, scored = keep("panel-scored")
    assert scored > 2 * empty
    ui.ageSpinBox.setValue(60)
    ui.raceComboBox.setCurrentIndex(ui.raceComboBox.findText("White"))
    reader.hold_row(1)
    reader.click(ui.lcxButton)
    reader.hold_row(ui.lesionTable.rowCount - 1)
    reader.key("Del")
    reader.hold_row(0)
    ui.segmentEditor.setActiveEffectByName("Paint")
    keep("panel-editing")
    ui.segmentEditor.setActiveEffectByName("")
    reader.sign()
    ui.exportLabel.setText(
        ui.exportLabel.text.replace(str(scored_case.parent), "/home/reader/HeartLens/20261121-101500")
    )
    keep("panel-signed")


def test_pictures_of_the_worklist(module, keep, phantom_ct, scored_once, tmp_path):
    import slicer
    from desktop.scans_of_people import ADA, JANE, JANE_BEFORE, JOHN, case_of, score, worklist_of, write_scan

    from heartlens.app.review_session import ReviewSession
    from heartlens.app.rounds.readings import make_second
    from heartlens.app.rounds.store import second_of
    from heartlens.core.lesions import Artery

    ui = module.ui
    folders = {}
    for n, person in enumerate((ADA, JOHN, JANE, JANE_BEFORE)):
        scan = write_scan(phantom_ct, tmp_path / "scans" / str(n), person)
        slicer.dicomDatabase.add(scan)
        result = module.cases / f"2026110{n}-101500-001"
        if person.offset:
            folders[person] = score(scan, result)
        elif person is not ADA:
            folders[person] = case_of(scored_once, scan, result)
    for person in (JOHN, JANE_BEFORE):
        with ReviewSession.open(folders[person], reader="Rita") as session:
            session.sign("Reader^Rita", "Phantom Hospital", confirmed=True)
    with ReviewSession.open(folders[JANE], reader="Rita") as session:
        session.remove(session.case.report.lesions[0].id)
    second = second_of(folders[JOHN], module.cases) / "case"
    make_second(folders[JOHN], second.parent, "Ravi")
    ui.bundleComboBox.setCurrentIndex(ui.bundleComboBox.findData("none"))
    section = worklist_of(module)
    module.load(tmp_path / "scans" / "0")
    section.table.focus()
    section.scoreSelected()
    module.wait(lambda: ui.batchProgressBar.value > 0)
    _, scoring = keep("panel-worklist", ui.worklistSection)
    assert scoring > 250
    section.cancel()
    module.wait(lambda: not section.isWaiting)
    section.table.select(str(folders[JANE]))
    section.compareWithPrior()
    module.wait(lambda: not section.readings.isRunning, 120)
    keep("panel-compared", ui.worklistSection)
    assert "2026-11-02 compared with 2024-03-05" in ui.comparisonText.toPlainText()
    with ReviewSession.open(second, reader="Ravi") as session:
        removed, renamed, *_rest = [row.id for row in session.case.report.lesions]
        session.remove(removed)
        session.assign(renamed, Artery.RCA)
        session.save_report()
        session.sign("Reader^Ravi", "Phantom Hospital", confirmed=True)
    section.listing.reread(second)
    section.table.select(str(second))
    section.compareReadings()
    module.wait(lambda: not section.readings.isRunning, 120)
    keep("panel-differences", ui.worklistSection)
    assert ui.differencesTable.rowCount == 2


def test_picture_while_it_scores(module, keep, phantom_ct):
    ui = module.ui
    ui.casesPathEdit.currentPath = str(module.cases)
    reader = at_the_panel(module, phantom_ct)
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
    reader = at_the_panel(module, phantom_ct)
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
    reader = at_the_panel(module, folder)
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

    reader = at_the_panel(module, phantom_ct)
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
