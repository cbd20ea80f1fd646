"""A reading day by the keyboard: the worklist, three scans scored, the first one corrected and signed, the next one
compared with its prior, a second reading, where both agree, and a third. At each stop the totals are those of a scorer
that shares no code with ours. Keys, mouse gestures and seconds are counted and printed; docs/tutorial.md quotes them.

A brush stroke and a box need the mouse, which is counted apart: a key can choose a tool and no place in an image.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from desktop.reader import KEYS, Reader, slicer
from desktop.scans_of_people import ADA, JANE, JANE_BEFORE, JOHN, lines, score, write_scan
from desktop.test_journey import scored_plainly
from plain_scoring import plain_score
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from heartlens.case.folder import load_case, save_case
from heartlens.core.lesions import CORONARY, Artery, LesionMap

pytestmark = pytest.mark.slow


class Hands(Reader):
    """A reader who presses keys where the keyboard is, and counts.

    Parameters
    ----------
    module : fixture of that name
    """

    puts_brush_down = False

    def __init__(self, module: Any) -> None:
        self.module = module
        self.ui, self.dialogs, self.wait = module.ui, module.dialogs, module.wait
        self.keys: Counter[str] = Counter()
        self.gestures: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self.at = ""
        window = module.widget.parent
        window.activateWindow()
        window.setFocus()
        self.wait(lambda: window.isActiveWindow)

    def press(self, *names: str) -> None:
        """Keys one after another, each where the keyboard is then; Shift+Down is one."""
        for name in names:
            shift = Qt.ShiftModifier if name.startswith("Shift+") else Qt.NoModifier
            begin = time.perf_counter()
            where = QApplication.focusWidget() or self.module.widget.parent
            QTest.keyClick(where, KEYS[name.removeprefix("Shift+")], shift)
            QApplication.processEvents()
            self.keys[self.at] += 1
            self.seconds[self.at] += time.perf_counter() - begin

    def until(self, what: Any) -> None:
        begin = time.perf_counter()
        self.wait(what, 180)
        self.seconds[self.at] += time.perf_counter() - begin

    def write(self, text: str) -> None:
        """Into the field that has the keyboard, in place of what is there."""
        field = QApplication.focusWidget()
        field.selectAll()
        QTest.keyClicks(field, text)
        self.keys[self.at] += len(text)

    def take_up(self, effect: str, diameter_mm: float) -> None:
        """The effect is in hand, by its key; its size is one turn of the wheel."""
        assert self.panel.review.brush.effect == effect
        super().take_up(effect, diameter_mm)
        self.gestures[self.at] += 1

    def stroke_over(self, *where: Any, **brush: Any) -> None:
        super().stroke_over(*where, **brush)
        self.gestures[self.at] += 1

    def box(self, lesion: int) -> None:
        x, y = self._at("Red", lesion)
        self.module.views["Red"].click(x - 6, y - 6, drag_to=(x + 6, y + 6))
        QApplication.processEvents()
        self.gestures[self.at] += 1

    def agree_with_all(self) -> None:
        """Enter on each lesion, until every one was seen and is decided."""
        review = self.panel.review
        for _ in range(3 * len(review._rows) + 3):
            self.press("Return")
            if not any(row.undecided or row.id not in review._seen.lesions for row in review._rows):
                return
        raise AssertionError("Enter does not get through the list")

    def confirm_and_sign(self) -> None:
        """F, Space on the sentence, Tab to the button, Space."""
        self.press("F", "Space")
        assert self.ui.confirmCheckBox.checked
        for _ in range(4):
            self.press("Tab")
            if QApplication.focusWidget() is self.ui.signButton:
                break
        self.press("Space")
        assert self.dialogs.shown == []
        assert self.panel.reading.signature is not None


def rescored(seg_file: Path, scan: Path) -> dict[Artery, float]:
    """Agatston per artery of a DICOM SEG on its CT, both read by pydicom alone."""
    slices = sorted((pydicom.dcmread(path) for path in scan.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    hu = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
    z = [float(one.ImagePositionPatient[2]) for one in slices]
    seg = pydicom.dcmread(seg_file)
    arteries = {int(one.SegmentNumber): Artery[_name(one.SegmentLabel)] for one in seg.SegmentSequence}
    labels = np.zeros(hu.shape, np.uint8)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, np.atleast_3d(seg.pixel_array), strict=True):
        at = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        k = int(np.argmin([abs(one - at) for one in z]))
        labels[k][pixels > 0] = arteries[int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
    k, j, i = (slice(at.min(), at.max() + 1) for at in np.nonzero(labels))
    rows_mm, columns_mm = map(float, slices[0].PixelSpacing)
    increment = z[1] - z[0]
    out, *_ = plain_score(
        hu[k, j, i].tolist(), labels[k, j, i].tolist(), pixel_area=rows_mm * columns_mm, increment=increment,
        edges=(130, 200, 300, 400), min_area=1.0, min_pixels=1, connectivity=4, k_factor=increment / 3, mass_factor=0.0,
    )  # fmt: skip
    return {artery: out[artery]["agatston"] for artery in Artery}


def _name(label: str) -> str:
    return {"not coronary": "OTHER", "unassigned": "UNASSIGNED"}.get(label.lower(), label.upper())


def assert_totals(panel: Any, plain: dict[Artery, float]) -> float:
    """The report has the totals of the plain scorer; returns the total."""
    report = panel.reading.case.report
    for artery in CORONARY:
        assert report.arteries[artery].agatston == pytest.approx(plain[artery])
    total = sum(plain[artery] for artery in (*CORONARY, Artery.UNASSIGNED))
    assert report.total.agatston == pytest.approx(total)
    return total


def left_undecided(case_folder: Path, lesion: int) -> None:
    """The same case, as networks would have left it that were not sure of one lesion."""
    case = load_case(case_folder)
    notes = {**case.auto.notes, lesion: replace(case.auto.notes[lesion], probability=0.51, undecided=True)}
    auto = LesionMap(case.auto.labels, case.auto.arteries, notes)
    case_folder.rename(case_folder.with_name("before"))
    save_case(replace(case, inputs=replace(case.inputs, auto=auto)), case_folder)


def test_a_reading_day_by_the_keyboard(module, phantom_ct, tmp_path, capsys):
    people = {"john": JOHN, "jane": JANE, "ada": ADA, "jane before": JANE_BEFORE}
    scans = {name: write_scan(phantom_ct, tmp_path / "scans" / name, person) for name, person in people.items()}
    for scan in scans.values():
        slicer.dicomDatabase.add(scan)
    score(scans["jane before"], module.cases / "20240305-110000-001")
    ui, panel = module.ui, module.panel
    ui.bundleComboBox.setCurrentIndex(ui.bundleComboBox.findData("none"))
    ui.organizationEdit.setText("Phantom Hospital")  # both are remembered from the day before
    ui.observerEdit.setText("Rita")
    hands = Hands(module)

    # The list, and three scans into the queue
    hands.at = "score three"
    hands.press("K")
    hands.until(lambda: not panel.worklist.listing.isReading)
    assert [line[3] for line in lines(module)] == ["new", "new", "new", "scored"]
    hands.press("Shift+Down", "Shift+Down", "S")
    assert [line[3] for line in lines(module)][:3] == ["scoring", "queued", "queued"]
    hands.until(lambda: not panel.worklist.isWaiting)
    assert [line[3] for line in lines(module)] == ["scored"] * 4
    folders = {row.scan.patient: row.case for row in panel.worklist.table.shown() if row.scan.studyDate > "2026"}
    unsure = load_case(folders["Roe, John"]).report.lesions[2].id
    left_undecided(folders["Roe, John"], unsure)
    panel.worklist.refresh()
    module.wait(lambda: not panel.worklist.listing.isReading)

    # The first one: it has a lesion to decide
    hands.at = "first case, corrected"
    hands.press("G")
    assert panel.reading.folder == folders["Roe, John"]
    assert_totals(panel, scored_plainly(panel))
    hands.press("N")
    assert panel.review.selectedLesion() == unsure
    hands.press("H", "3")
    assert panel.reading.case.lesions.arteries[unsure] is Artery.LCX
    assert_totals(panel, scored_plainly(panel))
    hands.press("A", "1")
    hands.paint_free_calcium("LM")
    hands.press("A")
    assert panel.review.brush.effect == ""
    assert panel.reading.case.report.arteries[Artery.LM].agatston > 0
    assert_totals(panel, scored_plainly(panel))
    hands.press("X")
    lad = [row for row in panel.reading.case.report.lesions if row.artery is Artery.LAD]
    erased = min(lad, key=lambda row: row.slices[1] - row.slices[0]).id
    hands.erase_lesion(erased)
    hands.press("X")
    assert erased not in {row.id for row in panel.reading.case.report.lesions}
    assert_totals(panel, scored_plainly(panel))
    before = panel.reading.case.report
    boxed = next(row.id for row in before.lesions if row.artery is Artery.LAD)
    hands.press("4", "B")
    hands.box(boxed)
    assert panel.reading.case.lesions.arteries[boxed] is Artery.RCA
    assert_totals(panel, scored_plainly(panel))
    hands.press("Z")
    assert panel.reading.case.report == before
    hands.agree_with_all()
    hands.confirm_and_sign()
    first_total = assert_totals(
        panel, rescored(folders["Roe, John"].parent / "signed" / "segmentation.dcm", scans["john"])
    )

    # The next one, and what has changed since its prior
    hands.at = "second case, agreed with"
    hands.press("G")
    assert panel.reading.folder == folders["Doe, Jane"]
    hands.agree_with_all()
    hands.at = "prior compared"
    hands.press("C")
    hands.until(lambda: not panel.worklist.readings.isRunning)
    change = ui.comparisonText.toPlainText()
    assert change.startswith("2026-11-02 compared with 2024-03-05")
    assert "matched" in change
    hands.at = "second case, agreed with"
    hands.confirm_and_sign()
    assert_totals(panel, rescored(folders["Doe, Jane"].parent / "signed" / "segmentation.dcm", scans["jane"]))

    # A second reader of the first one, who sees nothing of what was done
    hands.at = "second reading"
    ui.observerEdit.setFocus()  # a click into the field
    hands.gestures[hands.at] += 1
    hands.write("Ravi")
    panel.worklist.table.select(str(folders["Roe, John"]))  # a click on the row
    hands.gestures[hands.at] += 1
    ui.worklistTable.setFocus()
    hands.press("R")
    hands.until(lambda: not panel.worklist.readings.isRunning)
    second = module.cases / "second" / folders["Roe, John"].parent.name
    assert panel.reading.folder == second / "case"
    assert panel.reading.case.edits == ()
    hands.agree_with_all()
    hands.confirm_and_sign()
    second_total = assert_totals(panel, rescored(second / "signed" / "segmentation.dcm", scans["john"]))
    assert second_total != pytest.approx(first_total)

    hands.at = "agreement"
    hands.press("V")
    hands.until(lambda: not panel.worklist.readings.isRunning)
    agreement = ui.comparisonText.toPlainText()
    assert f"A: Agatston {round(first_total)}," in agreement
    assert f"B: Agatston {round(second_total)}," in agreement
    assert module.dialogs.shown == []
    assert [line[3] for line in lines(module) if line[0] == "Roe, John"] == ["signed", "second: signed"]
    differs = [ui.differencesTable.item(r, 0).text() for r in range(ui.differencesTable.rowCount)]
    assert sorted(differs) == ["A alone", "B alone", "another artery"], "painted, erased, reassigned"

    # A third one settles where the two differ
    hands.at = "third reading"
    ui.observerEdit.setFocus()  # a click into the field
    hands.gestures[hands.at] += 1
    hands.write("Ruth")
    ui.worklistTable.setFocus()  # a click on the row, which is selected
    hands.gestures[hands.at] += 1
    hands.press("J")
    third = module.cases / "third" / folders["Roe, John"].parent.name
    hands.until(lambda: panel.reading.folder == third / "case" and not panel.worklist.readings.isRunning)
    hands.press("D", "D", "D")
    for row in [row for row in panel.reading.case.report.lesions if row.artery is Artery.UNASSIGNED]:
        while panel.review.selectedLesion() != row.id:
            hands.press("N")
        hands.press("H", "3")
    hands.agree_with_all()
    assert_totals(panel, scored_plainly(panel))
    hands.confirm_and_sign()
    third_total = assert_totals(panel, rescored(third / "signed" / "segmentation.dcm", scans["john"]))
    assert third_total > max(first_total, second_total), "what each of them alone had seen is in it"
    states = sorted(line[3] for line in lines(module) if line[0] == "Roe, John")
    assert states == ["second: signed", "signed", "third: signed"]

    lesions = len(load_case(second / "case").report.lesions)
    with capsys.disabled():
        print(f"\nA reading day ({lesions} lesions a case):")
        for at in hands.keys:
            print(f"  {at}: {hands.keys[at]} keys, {hands.gestures[at]} gestures, {hands.seconds[at]:.1f} s of machine")
