"""One case folder, read in the browser, in the panel and by the command line: the same numbers bit for bit everywhere,
and each sees what another edited."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desktop.reader import Reader as PanelReader
from desktop.reader import slicer
from viewer.page import Reader as PageReader
from viewer.reviewed_chest import Server

from heartlens.__main__ import main
from heartlens.case.folder import load_case
from heartlens.core.lesions import CORONARY, Artery
from heartlens.scoring.report import display_agatston
from heartlens.viewer.state import label_runs

pytestmark = pytest.mark.slow

NUMBERS = ("total", "arteries", "unassigned", "other", "lesions", "slices", "dropped_small", "risk")
"""Parts of report.json that are the case's, whoever wrote it and when."""


def numbers(document: dict[str, Any]) -> str:
    """Every number to its last digit, as JSON writes it."""
    return json.dumps({name: document[name] for name in NUMBERS}, sort_keys=True)


def numbers_of(folder: Path) -> str:
    """What the case of a folder comes to when its edits are replayed."""
    return numbers(json.loads(json.dumps(load_case(folder).report_document())))


@pytest.fixture
def page(browser, scored_case) -> Iterator[Any]:
    """Opens the case in Chromium; what it opens is closed when the next one is opened."""
    opened: list[Any] = []

    def close() -> None:
        if opened:
            reader, server = opened
            reader.close()
            code, _ = server.stop()
            assert code == 0
            server.__exit__()
            opened.clear()

    def open_page() -> PageReader:
        close()
        server = Server("--reader", "Rita", scored_case)
        opened.extend((PageReader(browser, server), server))
        opened[0].page.locator("#axial").focus()
        return opened[0]

    open_page.close = close
    yield open_page
    close()


def edit(reader: PageReader, *keys: str) -> None:
    """Press keys of which the last one edits, and wait until the page shows it: a cut in two may be several edits."""
    version = reader.version
    reader.key(*keys)
    reader.wait(f'body:not([data-version="{version}"])')


def page_shows(reader: PageReader, folder: Path) -> None:
    """The page draws the voxels of the case on the disk, and shows its numbers."""
    case, state = load_case(folder / "case"), reader.server.state()
    assert state["version"] == len(case.edits) == reader.version
    assert state["runs"] == label_runs(case)
    assert {row["id"]: row["order"] for row in state["lesions"]} == {
        row.id: row.agatston for row in case.report.lesions
    }
    shown = reader.totals()
    for artery in CORONARY:
        assert shown[artery.name] == display_agatston(case.report.arteries[artery].agatston)
    assert shown["total"] == display_agatston(case.report.total.agatston)


def panel_shows(reader: PanelReader, folder: Path) -> None:
    """The panel has the case of the disk, and shows its numbers."""
    case = reader.panel.reading.case
    assert reader.dialogs.shown == []
    assert numbers(json.loads(json.dumps(case.report_document()))) == numbers_of(folder / "case")
    assert label_runs(case) == label_runs(load_case(folder / "case"))
    table = reader.ui.totalsTable
    shown = table.item(table.rowCount - 1, 2).text()
    assert shown == display_agatston(case.report.total.agatston)


def command_says(folder: Path, ct: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line scores what was exported, by SEG and by label map, to the numbers of the case."""
    report = load_case(folder / "case").report
    capsys.readouterr()
    for name in ("segmentation.dcm", "segmentation.seg.nrrd"):
        assert main(["score", str(ct), "--segmentation", str(exported / name), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["total"]["agatston"] == report.total.agatston, name
        assert {name: said["arteries"][name]["agatston"] for name in ("LM", "LAD", "LCX", "RCA")} == {
            artery.name: report.arteries[artery].agatston for artery in CORONARY
        }
    assert numbers(json.loads((exported / "report.json").read_text())) == numbers_of(folder / "case")
    assert main(["verify", str(folder)]) == 0


def test_browser_panel_and_command_line_edit_and_score_one_case(page, module, phantom_ct, scored_case, capsys):
    automatic = numbers_of(scored_case / "case")

    # The browser: a lesion to another artery, a part of another one erased, and calcium decided.
    reader = page()
    page_shows(reader, scored_case)
    edit(reader, "n", "4")
    edit(reader, "n", "e", "Space")
    page_shows(reader, scored_case)
    by_browser = numbers_of(scored_case / "case")
    assert by_browser != automatic
    reader.page.locator("#export").click()
    reader.page.locator("#exports").get_by_role("button", name="segmentation.dcm").wait_for()
    page.close()
    assert numbers(json.loads((scored_case / "case" / "report.json").read_text())) == by_browser
    command_says(scored_case, phantom_ct, scored_case / "unsigned", capsys)

    # The panel sees it, and goes on: brush, eraser, and a key.
    panel = PanelReader(module, phantom_ct)
    panel.open_case(scored_case)
    panel_shows(panel, scored_case)
    assert numbers_of(scored_case / "case") == by_browser
    assert {edit.who for edit in panel.panel.reading.case.edits} == {"Rita"}
    panel.paint_free_calcium("LM")
    lesions = panel.panel.reading.case.lesions.arteries
    other = next(lesion for lesion in panel.lesions_shown() if lesions[lesion] in (Artery.LAD, Artery.RCA))
    panel.hold_row_of(other)
    panel.key("3")
    panel.key("Z")
    panel.hold_row_of(other)
    panel.key("3")
    panel_shows(panel, scored_case)
    by_panel = numbers_of(scored_case / "case")
    assert by_panel not in (by_browser, automatic)
    assert load_case(scored_case / "case").report.arteries[Artery.LM].agatston > 0
    panel.click(panel.ui.exportButton)
    slicer.mrmlScene.Clear()
    assert numbers(json.loads((scored_case / "case" / "report.json").read_text())) == by_panel
    command_says(scored_case, phantom_ct, scored_case / "unsigned-2", capsys)

    # The browser sees that, and takes the panel's last edit back; the panel sees this, too.
    reader = page()
    page_shows(reader, scored_case)
    assert numbers_of(scored_case / "case") == by_panel
    edit(reader, "z")
    page_shows(reader, scored_case)
    page.close()
    taken_back = numbers_of(scored_case / "case")
    assert taken_back != by_panel
    panel.open_case(scored_case)
    panel_shows(panel, scored_case)
    assert numbers_of(scored_case / "case") == taken_back
    slicer.mrmlScene.Clear()
