"""A score of 0 in the panel: the candidates of the page, with its reasons, above the box that confirms the reading."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
import pytest
from desktop.reader import slicer
from PySide6.QtWidgets import QApplication

from heartlens.case.case import Case
from heartlens.case.folder import save_case
from heartlens.core.lesions import SCORED_ARTERIES, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.report.html import render_report
from heartlens.report.zero_dossier import left_out

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def missed():
    """A scan with calcium on which nothing at all was found."""
    parameters = PhantomParameters.random(
        3, matrix=160, increment_mm=5.0, slice_thickness_mm=5.0, field_of_view="heart", category="101-400"
    )
    ct = make_phantom(parameters).ct
    header = replace(ct.header, sop_instance_uids=(), frame_numbers=(), instance_numbers=())
    ct = replace(ct, header=header)  # then its voxels are in the case folder
    return Case.of(ct, LesionMap.empty(ct.shape), ScoringProtocol())


@pytest.fixture
def zero(module, missed, tmp_path):
    """The panel with that scan open, and its candidates found."""
    save_case(missed, tmp_path / "missed")
    module.panel.openCaseFolder(tmp_path / "missed")
    found(module)
    return module


def found(module):
    """Candidates are there, or there are none to come."""
    module.wait(lambda: not module.panel.sign.leftOut.isLooking)


def remove_all(reading):
    """The reader takes away everything that counts."""
    for row in reading.panel.reading.case.report.lesions:
        if row.artery in SCORED_ARTERIES:
            reading.panel.remove(row.id)
    assert reading.panel.reading.case.report.total.agatston == 0
    found(reading)


def rows_shown(module):
    """Titles and rows of the table, as texts."""
    table = module.ui.leftOutTable
    titles = [table.horizontalHeaderItem(c).text().replace("\n", " ") for c in range(table.columnCount)]
    return [titles, *([table.item(r, c).text() for c in range(table.columnCount)] for r in range(table.rowCount))]


def rows_of_page(case):
    """The same of the page, and what stands below its table."""
    page = render_report(case)
    table = page[page.index("Left out, and why") :]
    table, rest = table[: table.index("</table>")], table[table.index("</table>") :]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    below = re.search(r"<small>(.*?)</small>", rest)[1]
    return [[html.unescape(cell) for cell in row] for row in rows], html.unescape(below)


def test_at_0_the_candidates_are_those_of_the_page_with_its_words(zero, missed):
    rows, below = rows_of_page(missed)
    assert zero.ui.leftOutTable.visible
    assert len(rows) > 3
    assert rows_shown(zero) == rows
    assert zero.ui.leftOutRestLabel.text == below
    assert any("the rules would count it" in row[-1] for row in rows)
    zero.wait(lambda: zero.ui.leftOutTable.rowHeight(0) > zero.ui.leftOutTable.rowHeight(1))  # a longer reason


def test_where_nothing_reaches_the_threshold_the_sentence_of_the_page_stands_without_a_table(zero, missed):
    zero.panel.sign.leftOut._show(replace(left_out(missed), candidates=()))
    said = "Left out, and why\nNothing in the heart reaches the threshold at the size of a lesion."
    assert zero.ui.leftOutLabel.text == said
    assert not zero.ui.leftOutTable.visible
    assert zero.ui.leftOutRestLabel.visible


def test_a_click_on_a_candidate_brings_the_views_to_its_brightest_voxel_and_edits_nothing(zero):
    case = zero.panel.reading.case
    table, candidates = zero.ui.leftOutTable, left_out(case).listed
    for r in (2, 0):
        table.selectRow(r)
        QApplication.processEvents()
        ras = [zero.views["Red"].node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
        kji = np.rint(case.ct.index_kji(np.array([-ras[0], -ras[1], ras[2]]))).astype(int)
        assert tuple(kji) == candidates[r].index_kji
        assert table.item(r, 1).text() == f"slice {kji[0] + 1} of {case.ct.shape[0]}"
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 0.0, 0.0, 0.0)
    table.cellClicked.emit(0, 0)  # once more on the row that is selected
    assert [zero.views["Red"].node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)] == ras
    assert case.edits == zero.panel.reading.case.edits == ()


def test_it_is_there_when_the_last_lesion_goes_and_gone_when_one_counts_again(reading):
    found(reading)
    assert not reading.ui.leftOutTable.visible
    assert reading.ui.leftOutTable.rowCount == 0
    remove_all(reading)
    assert reading.ui.leftOutTable.visible
    assert rows_shown(reading) == rows_of_page(reading.panel.reading.case)[0]
    reading.key("Z")
    assert reading.panel.reading.case.report.total.agatston > 0
    assert not reading.ui.leftOutTable.visible, "at once"
    assert reading.ui.leftOutTable.rowCount == 0


def test_candidates_of_one_case_are_not_shown_with_another(zero, scored_case, missed, tmp_path):
    other = replace(missed.ct, hu=missed.ct.hu[:, ::-1, ::-1].copy())
    save_case(Case.of(other, LesionMap.empty(other.shape), ScoringProtocol()), tmp_path / "empty")
    first = rows_shown(zero)
    zero.panel.openCaseFolder(tmp_path / "empty")
    assert not zero.ui.leftOutTable.visible, "those of the case before are gone before the next ones are found"
    assert zero.panel.sign.leftOut.isLooking
    zero.panel.openCaseFolder(tmp_path / "missed")  # while the other one is still being looked at
    found(zero)
    assert rows_shown(zero) == first
    zero.panel.openCaseFolder(scored_case)
    found(zero)
    assert not zero.ui.leftOutTable.visible


def test_what_comes_after_the_scene_was_closed_is_shown_to_nobody(zero, tmp_path):
    zero.panel.closeCase()
    zero.panel.openCaseFolder(tmp_path / "missed")
    zero.wait(lambda: zero.panel.sign.leftOut._aside.isWorking)
    work = zero.panel.sign.leftOut._aside._work
    slicer.mrmlScene.Clear()
    zero.wait(lambda: work.isDone)
    QApplication.processEvents()
    assert not zero.ui.leftOutTable.visible
    assert zero.ui.leftOutTable.rowCount == 0


def test_slicer_goes_on_drawing_while_the_candidates_are_looked_for(reading, monkeypatch):
    import threading

    from HeartLensCACLib.Sections import LeftOutTable

    threads, really = [], LeftOutTable.found

    def looked(case):
        threads.append(threading.current_thread() is threading.main_thread())
        return really(case)

    monkeypatch.setattr(LeftOutTable, "found", looked)
    remove_all(reading)
    assert threads
    assert not any(threads), "not in Slicer's own thread"
