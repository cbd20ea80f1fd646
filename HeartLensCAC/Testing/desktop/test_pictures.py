"""Pictures of the panel in each state, for people to look at and for docs/tutorial.md.

They are drawn with our stand-ins for CTK's and Slicer's widgets: the layout and the words are the panel's, the segment
editor and the section headers look otherwise in Slicer. `make pictures` keeps them in docs/pictures.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from desktop.reader import Reader

WIDTH = 540


@pytest.fixture
def keep(module, tmp_path):
    """`keep(name)` writes a picture of the whole panel; returns its (width, height)."""
    import qt

    folder = Path(os.environ.get("HEARTLENS_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def grab(name: str) -> tuple[int, int]:
        panel = module.widget.uiWidget
        window = module.widget.parent
        for _ in range(3):  # hidden rows give their room back after one round of layout
            window.resize(WIDTH, panel.sizeHint.height() + 24)
            qt.QApplication.processEvents()
        picture = window.grab()
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
