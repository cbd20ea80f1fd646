"""The worklist: what it shows of database and folder, batch scoring, the next case, the prior, and a second reading."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

import pytest
from desktop.conftest import processes_left
from desktop.dicom_database import Series
from desktop.reader import Reader, slicer
from desktop.scans_of_people import ADA, JANE, JANE_BEFORE, JOHN, case_of, lines, score, worklist_of, write_scan
from PySide6.QtWidgets import QApplication

from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import load_case
from heartlens.case.lock import CaseLock, lock_case
from heartlens.core.lesions import Artery
from heartlens.scene.geometry import array_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def people(phantom_ct, tmp_path_factory) -> dict[str, Path]:
    """Series of Jane on two days, of John and of Ada."""
    folder = tmp_path_factory.mktemp("people")
    scans = {"jane": JANE, "jane before": JANE_BEFORE, "john": JOHN, "ada": ADA}
    return {name: write_scan(phantom_ct, folder / name, person) for name, person in scans.items()}


@pytest.fixture(scope="session")
def scored_before(people, tmp_path_factory) -> Path:
    """Jane's earlier scan, scored: it has other voxels than the rest."""
    return score(people["jane before"], tmp_path_factory.mktemp("before") / "result").parent


@pytest.fixture
def cases(scored_once, scored_before, people, module) -> dict[str, Path]:
    """Case folders of three of them, in the folder of cases; all four are in the database."""
    for scan in people.values():
        slicer.dicomDatabase.add(scan)
    return {
        name: case_of(
            scored_before if "before" in name else scored_once, people[name], module.cases / f"2026110{n}-101500-001"
        )
        for n, name in enumerate(("jane before", "jane", "john"), 1)
    }


def select(module, *names: str) -> None:
    """Select rows by patient and day, as clicks with Ctrl do."""
    view = module.ui.worklistTable
    view.clearSelection()
    flags = view.selectionModel().SelectionFlag
    for r, (patient, day, *_) in enumerate(lines(module)):
        if f"{patient} {day}" in names:
            view.selectionModel().select(view.model().index(r, 0), flags.Select | flags.Rows)


# What is shown


def test_a_series_is_new_and_a_case_tells_how_far_it_has_come(module, cases):
    worklist_of(module)
    assert lines(module) == [
        ("Poe, Ada", "2026-11-04", "", "new"),
        ("Roe, John", "2026-11-03", "0", "scored"),
        ("Doe, Jane", "2026-11-02", "0", "scored"),
        ("Doe, Jane", "2024-03-05", "0", "scored"),
    ]
    assert module.ui.worklistLabel.text == "1 new, 3 scored"


def test_only_ct_series_of_enough_slices_are_shown(module):
    patient = {"PatientID": "1", "PatientsName": "Doe^Jane", "PatientsBirthDate": ""}
    for uid, modality, slices, frames in (
        ("1.1", "CT", 40, ""), ("1.2", "MR", 40, ""), ("1.3", "CT", 2, ""), ("1.4", "CT", 1, "60"),
        ("1.5", "CT", 1, ""),
    ):  # fmt: skip
        fields = {"Modality": modality, "SeriesDescription": uid}
        files = {f"{uid}.{n}": f"/nowhere/{uid}.{n}" for n in range(slices)}
        slicer.dicomDatabase.add(uid=uid, series=Series(patient, "1", "20261102", fields, files, frames))
    worklist_of(module)
    assert {row.scan.description for row in module.panel.worklist.table.shown()} == {"1.1", "1.4"}


def test_a_case_that_the_database_does_not_know_is_named_by_its_own_files(module, scored_once, people):
    case_of(scored_once, people["jane"], module.cases / "20261101-101500-001")
    worklist_of(module)
    assert lines(module) == [("Doe, Jane", "2026-11-02", "0", "scored")]


def test_the_list_is_filtered_by_words_and_by_state_and_sorted_by_a_title(module, cases):
    worklist_of(module)
    ui = module.ui
    ui.worklistFilterEdit.setText("doe 2026")
    assert [line[:2] for line in lines(module)] == [("Doe, Jane", "2026-11-02")]
    ui.worklistFilterEdit.setText("(")  # no pattern, a bracket
    assert lines(module) == []
    ui.worklistFilterEdit.setText("")
    ui.worklistStateBox.setCurrentIndex(ui.worklistStateBox.findText("new"))
    assert [line[0] for line in lines(module)] == ["Poe, Ada"]
    ui.worklistStateBox.setCurrentIndex(0)
    ui.worklistTable.sortByColumn(0, ui.worklistTable.horizontalHeader().sortIndicatorOrder().AscendingOrder)
    assert [line[0] for line in lines(module)] == ["Doe, Jane", "Doe, Jane", "Poe, Ada", "Roe, John"]


def test_an_import_and_a_deleted_case_are_followed(module, cases, people):
    section = worklist_of(module)
    shutil.rmtree(cases["john"].parent)
    slicer.dicomDatabase.imported()
    module.wait(lambda: lines(module)[1] == ("Roe, John", "2026-11-03", "", "new"))
    assert len(lines(module)) == 4
    assert str(cases["john"]) not in section.listing.rows


def test_a_damaged_case_is_told_and_the_others_are_read(module, cases):
    (cases["jane"] / "case.json").write_text("{")
    worklist_of(module)
    assert sorted(line[3] for line in lines(module)) == ["damaged", "new", "new", "scored", "scored"]


# Opening


def test_a_double_click_opens_a_case_and_the_volume_of_the_one_before_leaves_the_scene(module, cases):
    section = worklist_of(module)
    view = module.ui.worklistTable
    view.doubleClicked.emit(view.model().index(1, 0))
    assert module.panel.reading.folder == cases["john"]
    first = module.panel.nodes.volume.GetID()
    view.doubleClicked.emit(view.model().index(2, 0))
    assert module.panel.reading.folder == cases["jane"]
    assert slicer.mrmlScene.GetNodeByID(first) is None
    assert [row.key for row in section.table.selected()] == [str(cases["jane"])]
    assert module.dialogs.shown == []
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1


def test_a_volume_that_the_reader_loaded_stays(module, cases, people):
    worklist_of(module)
    mine = module.load(people["john"])
    section = module.panel.worklist
    section.open(section.listing.rows[str(cases["john"])])
    assert module.panel.nodes.volume is mine
    section.open(section.listing.rows[str(cases["jane"])])
    assert slicer.mrmlScene.GetNodeByID(mine.GetID()) is mine


def test_opening_a_new_scan_loads_it_to_be_scored(module, cases):
    section = worklist_of(module)
    section.open(section.table.shown()[0])
    assert module.ui.volumeSelector.currentNode() is not None
    assert module.ui.scoreButton.enabled
    assert module.panel.reading is None


def test_files_that_are_gone_are_told_and_nothing_is_loaded_or_queued(module, people, tmp_path):
    scan = Path(shutil.copytree(people["ada"], tmp_path / "ada"))
    slicer.dicomDatabase.add(scan)
    section = worklist_of(module)
    for path in sorted(scan.iterdir())[:5]:
        path.unlink()
    section.open(section.table.shown()[0])
    assert module.dialogs.shown == ["5 of 42 files of this scan are no longer there: import it again."]
    section.table.focus()
    section.scoreSelected()
    assert lines(module)[0][3] == "new"
    assert not section.isWaiting
    assert module.ui.worklistLabel.text == "5 of 42 files of this scan are no longer there: import it again."
    shutil.rmtree(scan)
    section.open(section.table.shown()[0])
    assert "no longer where" in module.dialogs.shown[-1]


def test_a_case_that_another_slicer_has_open_is_read_here_and_not_edited(module, cases, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, pathlib\n"
        "from heartlens.case.lock import lock_case\n"
        "kept = lock_case(pathlib.Path(sys.argv[1]), 'Rita')\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(cases["john"])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "locked\n"
        section = worklist_of(module)
        section.open(section.listing.rows[str(cases["john"])])
        assert len(module.dialogs.shown) == 1
        assert module.dialogs.shown[0].startswith("The case is open elsewhere (Rita on ")
        panel = module.panel
        panel.remove(panel.reading.case.report.lesions[0].id)
        assert panel.reading.case.edits == ()
        assert "close it there" in module.dialogs.shown[1]
    finally:
        other.communicate("")
    assert isinstance(lock_case(cases["john"]), CaseLock)


# The next case


def with_undecided(case: Path, lesions: int) -> None:
    """The report of a case says of some lesions that a reader has to decide."""
    report = json.loads((case / "report.json").read_text())
    for row in report["lesions"][:lesions]:
        row["undecided"] = True
    (case / "report.json").write_text(json.dumps(report))


def test_the_next_case_has_undecided_lesions_then_the_order_of_the_list_and_no_signed_one(module, cases):
    with_undecided(cases["jane before"], 2)
    section = worklist_of(module)
    opened = []
    module.panel.openCaseFolder, real = (
        lambda folder: (opened.append(folder), real(folder)),
        module.panel.openCaseFolder,
    )
    section.nextCase()
    section.nextCase()
    assert opened == [cases["jane before"], cases["john"]]
    module.panel.sign.ui.observerEdit.setText("Reader^Rita")
    reading = module.panel.reading
    reading.sign("Reader^Rita", "Phantom Hospital", confirmed=True)
    section.caseChanged(cases["john"])
    assert section.listing.rows[str(cases["john"])].state.value == "signed"
    section.nextCase()
    section.nextCase()
    assert opened[2:] == [cases["jane before"], cases["jane"]]


def test_a_signed_case_whose_files_were_changed_is_not_called_signed(module, cases):
    with ReviewSession.open(cases["john"], reader="Rita") as session:
        session.sign("Reader^Rita", "Phantom Hospital", confirmed=True)
    report = cases["john"] / "report.json"
    report.write_text(report.read_text().replace('"agatston"', '"agatston" ', 1))
    worklist_of(module)
    assert ("Roe, John", "2026-11-03", "0", "altered after signing") in lines(module)


# Scoring many


@pytest.fixture
def rules(module):
    """Scored by rules, which is quick."""
    module.ui.bundleComboBox.setCurrentIndex(module.ui.bundleComboBox.findData("none"))


def test_selected_scans_are_scored_one_after_another_by_one_worker_while_a_case_is_read(module, cases, people, rules):
    for name in ("jane", "john"):
        shutil.rmtree(cases[name].parent)
    section = worklist_of(module)
    section.open(section.listing.rows[str(cases["jane before"])])
    select(module, "Poe, Ada 2026-11-04", "Roe, John 2026-11-03", "Doe, Jane 2026-11-02")
    module.ui.scoreSelectedButton.click()
    workers, together = set(), []

    def over() -> bool:
        workers.update(processes_left())
        together.append(sum(line[3] == "scoring" for line in lines(module)))
        return not section.isWaiting

    assert [line[3] for line in lines(module)] == ["scoring", "queued", "queued", "scored"]
    assert not module.ui.scoreButton.enabled
    assert "worklist" in module.ui.scoreButton.toolTip
    panel = module.panel
    panel.remove(panel.reading.case.report.lesions[0].id)  # the reader goes on meanwhile
    module.wait(over, 120)
    module.wait(lambda: not processes_left(), 20)
    assert len(workers) == 1
    assert max(together) == 1
    assert [line[3] for line in lines(module)] == ["scored", "scored", "scored", "read"]
    assert panel.reading.folder == cases["jane before"]
    assert len(panel.reading.case.edits) == 1
    assert len(list(module.cases.iterdir())) == 4
    assert not module.ui.cancelBatchButton.isVisible()
    assert module.dialogs.shown == []


def test_a_refused_scan_keeps_its_reason_and_the_next_one_is_scored(module, people, rules, tmp_path):
    import pydicom

    folder = tmp_path / "gap"
    shutil.copytree(people["ada"], folder)
    sorted(folder.iterdir())[20].unlink()
    for path in folder.iterdir():
        assert pydicom.dcmread(path, stop_before_pixels=True).PatientID == "H-19"
    slicer.dicomDatabase.add(folder)
    slicer.dicomDatabase.add(people["john"])
    section = worklist_of(module)
    select(module, "Poe, Ada 2026-11-04", "Roe, John 2026-11-03")
    section.scoreSelected()
    module.wait(lambda: not section.isWaiting, 120)
    assert [line[3] for line in lines(module)] == ["new", "scored"]
    select(module, "Poe, Ada 2026-11-04")
    assert "gap" in module.ui.worklistLabel.text or "missing" in module.ui.worklistLabel.text
    assert module.dialogs.shown == []


def test_cancel_takes_back_what_waits_and_stops_what_is_scored(module, people, rules):
    for name in ("ada", "john"):
        slicer.dicomDatabase.add(people[name])
    section = worklist_of(module)
    module.ui.worklistTable.selectAll()
    section.scoreSelected()
    module.wait(lambda: module.ui.batchProgressBar.value > 0)
    module.ui.cancelBatchButton.click()
    module.wait(lambda: not section.isWaiting)
    assert [line[3] for line in lines(module)] == ["new", "new"]
    assert list(module.cases.iterdir()) == []
    section.scoreSelected()  # and again
    module.wait(lambda: not section.isWaiting, 120)
    assert [line[3] for line in lines(module)] == ["scored", "scored"]


def test_a_batch_waits_for_the_run_of_the_score_button(module, people, rules, phantom_ct):
    slicer.dicomDatabase.add(people["ada"])
    section = worklist_of(module)
    reader = Reader(module, phantom_ct)
    reader.press_score()
    module.ui.worklistTable.selectAll()
    section.scoreSelected()
    assert lines(module)[0][3] == "queued"
    module.wait(lambda: lines(module)[0][3] == "scoring", 60)
    module.wait(lambda: not section.isWaiting, 60)
    assert lines(module)[0][3] == "scored"


def test_a_folder_of_cases_that_cannot_be_written_is_told_once_and_nothing_is_queued(module, people, rules, tmp_path):
    for name in ("ada", "john"):
        slicer.dicomDatabase.add(people[name])
    (tmp_path / "file").write_text("")
    module.ui.casesPathEdit.currentPath = str(tmp_path / "file" / "cases")
    section = worklist_of(module)
    module.ui.worklistTable.selectAll()
    section.scoreSelected()
    assert len(module.dialogs.shown) == 1
    assert module.dialogs.shown[0].startswith("Cannot write to ")
    assert not section.isWaiting
    assert [line[3] for line in lines(module)] == ["new", "new"]


def test_a_disk_that_fills_while_many_are_scored_stops_them_with_one_word(module, people, rules):
    for name in ("ada", "john"):
        slicer.dicomDatabase.add(people[name])
    section = worklist_of(module)
    module.ui.worklistTable.selectAll()
    section.scoreSelected()
    shutil.rmtree(module.cases)
    module.cases.write_text("")  # as good as full: nothing can be written there any more
    module.wait(lambda: not section.isWaiting, 120)
    assert [line[3] for line in lines(module)] == ["new", "new"]
    assert len(module.dialogs.shown) == 1


def test_a_worker_that_dies_costs_one_scan(module, people, rules):
    import os
    import signal

    for name in ("ada", "john"):
        slicer.dicomDatabase.add(people[name])
    section = worklist_of(module)
    module.ui.worklistTable.selectAll()
    section.scoreSelected()
    module.wait(lambda: module.ui.batchProgressBar.value > 0)
    (worker,) = processes_left()
    os.kill(worker, signal.SIGKILL)
    module.wait(lambda: not section.isWaiting, 120)
    assert [line[3] for line in lines(module)] == ["new", "scored"]
    assert "died" in section.table.shown()[0].note


# Beside another case


def said(module) -> str:
    module.wait(lambda: not module.panel.worklist.readings.isRunning, 120)
    return str(module.ui.comparisonText.toPlainText())


def test_a_scan_is_compared_with_the_latest_earlier_one_of_the_same_patient(module, cases):
    section = worklist_of(module)
    select(module, "Doe, Jane 2026-11-02")
    section.compareWithPrior()
    text = said(module)
    assert module.dialogs.shown == []
    assert text.startswith("2026-11-02 compared with 2024-03-05\n\n")
    assert "matched" in text
    select(module, "Roe, John 2026-11-03")
    section.compareWithPrior()
    assert said(module) == "No earlier scan of this patient is in the list."


def test_a_prior_that_is_another_persons_after_all_is_refused(module, scored_once, scored_before, phantom_ct, tmp_path):
    """Two people got one ID; the files say two sexes."""
    from dataclasses import replace

    for n, person in enumerate((replace(JANE_BEFORE, sex="M"), JANE)):
        scan = write_scan(phantom_ct, tmp_path / f"scan{n}", person)
        slicer.dicomDatabase.add(scan)
        scored = scored_before if person.offset else scored_once
        case = case_of(scored, scan, module.cases / f"2026110{n}-101500-001")
        document = json.loads((case / "case.json").read_text())
        document["risk_inputs"]["sex"] = person.sex
        (case / "case.json").write_text(json.dumps(document))
    section = worklist_of(module)
    select(module, "Doe, Jane 2026-11-02")
    section.compareWithPrior()
    assert said(module) == ""
    assert len(module.dialogs.shown) == 1
    assert module.dialogs.shown[0].startswith("The prior scan is of a person of sex M, the current one of sex F")
    assert "--same-person" not in module.dialogs.shown[0]


def test_a_second_reading_is_blind_and_is_compared_when_both_are_signed(module, cases):
    section, panel, ui = worklist_of(module), module.panel, module.ui
    ui.observerEdit.setText("Rita")
    ui.organizationEdit.setText("Phantom Hospital")
    section.open(section.listing.rows[str(cases["john"])])
    panel.remove(panel.reading.case.report.lesions[0].id)
    ui.confirmCheckBox.setChecked(True)
    ui.signButton.click()
    assert module.dialogs.shown == []

    section.beginSecond()  # by Rita, who has read it
    said(module)
    assert "no second reading by the same reader is blind" in module.dialogs.shown.pop()
    ui.observerEdit.setText("Ravi")
    section.beginSecond()
    said(module)
    assert module.dialogs.shown == []
    second = module.cases / "second" / cases["john"].parent.name / "case"
    assert panel.reading.folder == second
    assert panel.reading.case.edits == ()
    assert panel.reading.signature is None
    assert ("Roe, John", "2026-11-03", "0", "second: in review") in lines(module)

    section.compareReadings()
    assert said(module) == "The readings are compared when both are signed. First: signed. Second: in review."
    ui.confirmCheckBox.setChecked(True)
    ui.signButton.click()
    section.compareReadings()
    text = said(module)
    assert text.startswith("A is the first reading, B the second\n\nA: Agatston ")
    assert "only B: lesion" in text


def test_a_second_reading_needs_a_name(module, cases):
    section = worklist_of(module)
    select(module, "Roe, John 2026-11-03")
    section.beginSecond()
    assert module.dialogs.shown == [
        "Enter the name of the second reader under Sign and export, Observer, then begin again."
    ]
    assert not (module.cases / "second").exists()


# Where they differ, and a third


@pytest.fixture
def read_twice(module, cases):
    """John's scan, read by Rita, who has removed a lesion and renamed another, and by Ravi; both have signed.

    Returns
    -------
    Folders of both cases, and the lesions that Rita removed and renamed
    """
    from heartlens.app.rounds.readings import make_second
    from heartlens.app.rounds.store import second_of

    first, second = cases["john"], second_of(cases["john"], module.cases) / "case"
    make_second(first, second.parent, "Ravi")
    with ReviewSession.open(first, reader="Rita") as session:
        removed, renamed = [row for row in session.case.report.lesions if row.artery is Artery.LAD][:2]
        session.remove(removed.id)
        session.assign(renamed.id, Artery.RCA)
        session.save_report()
        session.sign("Reader^Rita", "Phantom Hospital", confirmed=True)
    with ReviewSession.open(second, reader="Ravi") as session:
        session.sign("Reader^Ravi", "Phantom Hospital", confirmed=True)
    return first, second, removed, renamed


def differences_shown(module):
    table = module.ui.differencesTable
    return [tuple(table.item(r, c).text() for c in range(3)) for r in range(table.rowCount)]


def map_shown():
    """Voxels of each segment of the difference map, and the texts in the views; None where there is none."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    found = next((node for node in nodes if node.GetName() == "HeartLens differences"), None)
    if found is None:
        return None
    assert (found.GetHideFromEditors(), found.GetSaveWithScene(), found.GetSelectable()) == (1, 0, 0)
    voxels = {}
    for n in range(found.GetSegmentation().GetNumberOfSegments()):
        segment = found.GetSegmentation().GetNthSegment(n)
        image = segment.GetRepresentation("Binary labelmap")
        voxels[segment.GetName()] = int((array_of(image) == segment.GetLabelValue()).sum())
    markers = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    texts = [
        node.GetNthControlPointLabel(n)
        for node in markers if node.GetName().startswith("HeartLens differences")
        for n in range(node.GetNumberOfControlPoints())
    ]  # fmt: skip
    return voxels, sorted(texts)


def test_where_two_readings_differ_is_listed_and_outlined_over_whichever_of_them_is_open(module, read_twice):
    first, second, removed, renamed = read_twice
    section, ui = worklist_of(module), module.ui
    assert not ui.differencesTable.visible
    section.table.select(str(first))
    section.compareReadings()
    assert said(module).startswith("A is the first reading, B the second\n\nA: Agatston ")
    a, b = (load_case(folder) for folder in (first, second))
    places = {str(n): float(x.agatston) for n, x in ((1, removed), (2, renamed))}
    assert sorted(differences_shown(module)) == sorted(
        [
            ("B alone", "\u2013", f"LAD {places['1']:.0f}"),
            ("another artery", f"RCA {places['2']:.0f}", f"LAD {places['2']:.0f}"),
        ]
    )
    assert map_shown() is None, "no case is open"
    count = {
        "B alone": int(((a.scored_codes == 0) & (b.scored_codes > 0)).sum()),
        "another artery": int(((a.scored_codes > 0) & (b.scored_codes > 0) & (a.scored_codes != b.scored_codes)).sum()),
    }
    for folder in (second, first):
        section.open(section.listing.rows[str(folder)])
        voxels, texts = map_shown()
        assert voxels == count
        assert [text.partition(": ")[2].strip() for text in texts] == [row[0] for row in differences_shown(module)]
        ui.lesionTable.setFocus()
    row = next(r for r, words in enumerate(differences_shown(module)) if words[0] == "B alone")
    for _ in range(row + 1):
        Reader.key(Keys(module), "D")
    assert ui.differencesTable.currentRow() == row
    x, y, z = removed.centroid_lps_mm
    matrix = module.views["Red"].node.GetSliceToRAS()
    at = [matrix.GetElement(axis, 3) for axis in range(3)]
    assert at == pytest.approx([-x, -y, z], abs=12), "somewhere in the lesion"
    section.open(section.listing.rows[str(module.cases / "20261102-101500-001" / "case")])
    assert map_shown() is None
    assert differences_shown(module) == []
    assert not ui.differencesTable.visible


class Keys:
    """As much of a reader as presses keys."""

    def __init__(self, module) -> None:
        self.module = module


def test_a_map_of_differences_goes_with_its_case_and_with_the_scene(module, read_twice):
    section = worklist_of(module)
    section.open(section.listing.rows[str(read_twice[0])])
    section.compareReadings()
    said(module)
    assert map_shown() is not None
    module.panel.closeCase()
    assert map_shown() is None
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode") == []
    section.open(section.listing.rows[str(read_twice[0])])
    assert map_shown() is not None, "what was compared is of this scan still"
    slicer.mrmlScene.Clear()
    assert map_shown() is None


def test_a_third_reading_settles_where_the_two_differ_and_is_gone_on_with(module, read_twice):
    first, second, removed, _renamed = read_twice
    section, panel, ui = worklist_of(module), module.panel, module.ui
    ui.observerEdit.setText("Ruth")
    ui.organizationEdit.setText("Phantom Hospital")
    section.table.select(str(second))
    ui.thirdButton.click()
    said(module)
    third = module.cases / "third" / first.parent.name / "case"
    module.wait(lambda: panel.reading is not None and panel.reading.folder == third)
    said(module)
    assert module.dialogs.shown == []
    assert ("Roe, John", "2026-11-03", "2", "third: scored") in lines(module)
    assert len(differences_shown(module)) == len(map_shown()[1]) == 2
    report = panel.reading.case.report
    (open_one,) = [row for row in report.lesions if row.undecided]
    assert open_one.agatston == pytest.approx(removed.agatston)
    (nameless,) = [row for row in report.lesions if row.artery is Artery.UNASSIGNED]
    assert not ui.signButton.enabled
    panel.assign(open_one.id, Artery.LAD)
    panel.assign(nameless.id, Artery.RCA)

    section.nextCase()  # no other third reading is to be read
    assert panel.reading.folder == third
    panel.openCaseFolder(first)
    section.table.select(str(third))
    section.beginThird()
    said(module)
    module.wait(lambda: panel.reading.folder == third)
    said(module)
    assert len(panel.reading.case.edits) == 2, "and not anew"
    ui.confirmCheckBox.setChecked(True)
    ui.signButton.click()
    assert module.dialogs.shown == []
    assert ("Roe, John", "2026-11-03", "0", "third: signed") in lines(module)
    assert panel.reading.case.report.total.agatston == pytest.approx(load_case(second).report.total.agatston)


def test_without_two_signed_readings_there_is_no_third(module, cases):
    section = worklist_of(module)
    select(module, "Roe, John 2026-11-03")
    section.beginThird()
    assert said(module) == "This case was not read twice: Second reading begins another, blind to the first."
    assert not (module.cases / "third").exists()


# Many, and in nobody's log


def test_a_thousand_cases_are_shown_a_few_at_a_time_and_the_times_are_printed(module, scored_once, capsys):
    from HeartLensCACLib.Worklist.Listing import ROWS_AT_ONCE

    case = scored_once / "case"
    document = json.loads((case / "case.json").read_text())
    for n in range(1000):
        folder = module.cases / f"20261101-{n:06d}" / "case"
        folder.mkdir(parents=True)
        (folder / "case.json").write_text(json.dumps({**document, "series_uid": f"1.2.{n}"}))
        (folder / "edits.jsonl").write_text("")
        (folder / "report.json").hardlink_to(case / "report.json")
        patient = {"PatientID": str(n), "PatientsName": f"Doe^Jane {n}", "PatientsBirthDate": ""}
        fields = {"Modality": "CT", "SeriesDescription": "CaSc 3.0"}
        files = {f"1.2.{n}.{k}": f"/nowhere/{k}" for k in range(3)}
        slicer.dicomDatabase.add(uid=f"1.2.{n}", series=Series(patient, f"1.{n}", "20261102", fields, files))
    section = module.panel.worklist
    blocked, sizes, shown_s = [], [], None
    work, take = section.listing._work, section.listing._changed
    section.listing._changed = lambda rows, gone: (sizes.append(len(rows)), take(rows, gone))

    def timed() -> None:
        begin = time.perf_counter()
        work()
        blocked.append(time.perf_counter() - begin)

    section.listing._timer.disconnect("timeout()", work)
    section.listing._timer.connect("timeout()", timed)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    module.ui.worklistSection.collapsed = False
    opened = time.perf_counter() - begin
    while section.listing.isReading:
        QApplication.processEvents()
        if shown_s is None and module.ui.worklistTable.model().rowCount() == 1000:
            shown_s, shown_cpu_s = time.perf_counter() - begin, time.process_time() - begin_cpu
    whole_s = time.perf_counter() - begin
    assert len(lines(module)) == 1000
    assert max(sizes) <= ROWS_AT_ONCE
    assert {line[3] for line in lines(module)} == {"scored"}
    with capsys.disabled():
        print(
            f"\n1,000 cases: rows after {shown_s:.2f} s ({shown_cpu_s:.2f} s of one core), complete after "
            f"{whole_s:.2f} s; longest step {1000 * max(blocked):.0f} ms, unfolding {1000 * opened:.0f} ms"
        )


def test_no_name_and_no_path_of_a_patient_is_logged(module, cases, caplog, rules):
    caplog.set_level(logging.DEBUG)
    section = worklist_of(module)
    module.ui.worklistTable.selectAll()
    section.scoreSelected()
    module.wait(lambda: not section.isWaiting, 120)
    section.open(section.listing.rows[str(cases["john"])])
    text = caplog.text + module.ui.logText.toPlainText()
    assert "scoring" in text or "job" in text
    for word in ("Doe", "Jane", "Roe", "Poe", "H-17", "H-18", "H-19"):
        assert word not in text
