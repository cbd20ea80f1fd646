"""Worklist: the scans and cases of a reading room, from the one that nobody has scored to the one that is signed."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from heartlens.app.messages import Run
from HeartLensCACLib.Requirements import bundleToRun
from HeartLensCACLib.Sections.InputSection import chosen, fill
from HeartLensCACLib.Timers import singleShot
from HeartLensCACLib.Words import panelWords, showRefusal, tell
from HeartLensCACLib.Worklist.Batch import Batch, Job, Told
from HeartLensCACLib.Worklist.Database import filesOf, openDatabase
from HeartLensCACLib.Worklist.Differences import Differences
from HeartLensCACLib.Worklist.Listing import Listing
from HeartLensCACLib.Worklist.Readings import Readings
from HeartLensCACLib.Worklist.Rows import Row, State, nextRow, summary, withState
from HeartLensCACLib.Worklist.Table import FILTERS, Table

IMPORTED_MS = 1000
"""The list follows what is imported into the database at this distance: a series comes file by file."""

OF_ONE_SCAN = ("kvp", "thickness-mm")
"""What is said of the method for the scan that is open, and for no other."""


class WorklistSection:
    """The Worklist section: the table, what is done with its rows, and what is said of two of them.

    Parameters
    ----------
    ui
        Widgets by name.
    panel
        Panel: its sections, the case that is open, and how another one is opened.
    """

    def __init__(self, ui: Any, panel: Any) -> None:
        self.ui = ui
        self._panel = panel
        self._isWanted = False
        self._madeVolume = ""  # ID of the node that a case of the list brought into the scene
        self._database: Any = None
        self._promised: set[Path] = set()  # folders of results that wait to be made
        fill(ui.worklistStateBox, FILTERS)
        self.table = Table(ui.worklistTable, self._draw, self.open)
        self.listing = Listing(self._onRows, self._onRead)
        self.readings = Readings(
            ui,
            rows=lambda: list(self.listing.rows.values()),
            reader=lambda: str(panel.sign.observer),
            begun=self._onBegun,
            differences=Differences(ui, panel),
        )
        self.batch = Batch(
            tell=self._onTold,
            progress=self._onProgress,
            isFree=lambda: not panel.score.isBusy,
            stopped=showRefusal,
            log=lambda text: panel.score.log(text),
        )
        self._imported = singleShot(IMPORTED_MS, self.refresh)
        ui.worklistSection.connect("contentsCollapsed(bool)", self._onCollapsed)
        ui.worklistFilterEdit.connect("textChanged(QString)", self._onFilter)
        ui.worklistStateBox.connect("currentIndexChanged(int)", self._onFilter)
        ui.casesPathEdit.connect("currentPathChanged(QString)", lambda _path="": self.refresh())
        for button, act in (
            (ui.scoreSelectedButton, self.scoreSelected),
            (ui.cancelBatchButton, self.cancel),
            (ui.openRowButton, self.openSelected),
            (ui.nextCaseButton, self.nextCase),
            (ui.refreshButton, self.refresh),
            (ui.priorButton, self.compareWithPrior),
            (ui.secondButton, self.beginSecond),
            (ui.agreementButton, self.compareReadings),
            (ui.thirdButton, self.beginThird),
        ):
            button.connect("clicked(bool)", lambda _on=False, act=act: act())
        self._draw()

    def keys(self, agree: "Callable[[], None]") -> "dict[str, Callable[[], None]]":
        """Key sequences of the section, and what they do.

        Parameters
        ----------
        agree
            What Enter does while the keyboard is not in the table.
        """
        enter = partial(self._inTable, self.openSelected, agree)
        return {
            "K": self.focus,
            "G": self.nextCase,
            "S": partial(self._inTable, self.scoreSelected),
            "C": self.compareWithPrior,
            "V": self.compareReadings,
            "R": partial(self._inTable, self.beginSecond),
            "J": partial(self._inTable, self.beginThird),
            "D": self.readings.differences.step,
            "Return": enter,
            "Enter": enter,
        }

    @property
    def isWaiting(self) -> bool:
        """Whether scans of the list are being scored or wait for it."""
        return self.batch.isWaiting

    # The list

    def focus(self) -> None:
        """Unfold the section and give the table the keyboard."""
        self.ui.worklistSection.collapsed = False
        self.table.focus()

    def refresh(self) -> None:
        """Read the folder of cases and the database again, once somebody has looked at the list."""
        if self._isWanted:
            self._observe()
            self.listing.refresh(self._panel.score.casesFolder)

    def caseChanged(self, folder: Path) -> None:
        """A case was edited or signed."""
        if self._isWanted and str(folder) in self.listing.rows:
            self.listing.reread(folder)

    def close(self) -> None:
        """Before the module is reloaded or Slicer ends: nothing of it goes on."""
        self._imported.stop()
        self.listing.stop()
        self.readings.stop()
        self.batch.stop()
        self._unobserve()

    def _observe(self) -> None:
        database = openDatabase()
        if database is not self._database:
            self._unobserve()
            self._database = database
            if database is not None:
                database.connect("databaseChanged()", self._onDatabase)

    def _unobserve(self) -> None:
        if self._database is not None:
            self._database.disconnect("databaseChanged()", self._onDatabase)
            self._database = None

    def _onDatabase(self) -> None:
        self._imported.start()

    def _onCollapsed(self, collapsed: bool) -> None:
        if collapsed:
            return
        self._draw()  # unfolding has shown what was hidden
        self.readings.draw()
        if not self._isWanted:
            self._isWanted = True
            self.refresh()

    def _onFilter(self, *_args: Any) -> None:
        self.table.show(self.ui.worklistFilterEdit.text, chosen(self.ui.worklistStateBox))
        self._draw()

    def _onRows(self, rows: "list[Row]", gone: "set[str]") -> None:
        self.table.put(rows, gone)
        self._draw()

    def _onRead(self) -> None:
        if self.table.hasFocus:
            self.table.focus()  # the list was empty when the keyboard came
        self._draw()

    # A row

    def openSelected(self) -> None:
        """Open the selected row; of several, the first."""
        for row in self.table.selected()[:1]:
            self.open(row)

    def open(self, row: Row) -> None:
        """Open a case, or load a scan that has none, to be looked at and scored."""
        if row.case is None:
            self._load(row)
            return
        self._openCase(row.case)

    def nextCase(self) -> None:
        """Open the next case to read, one with undecided lesions first."""
        if not self._isWanted:
            self._isWanted = True
            self.refresh()
        row = nextRow(self.table.shown(), self._openRow())
        if row is None:
            isReading = self.listing.isReading
            text = _("The worklist is being read.") if isReading else _("No other case of the worklist is to be read.")
            slicer.util.showStatusMessage(text, 5000)
            return
        self._openCase(row.case)

    def _openRow(self) -> "Row | None":
        reading = self._panel.reading
        return None if reading is None else self.listing.rows.get(str(reading.folder))

    def _openCase(self, folder: Any) -> None:
        before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
        self._panel.openCaseFolder(folder)
        if self._panel.reading is None or self._panel.reading.folder != folder:
            return  # it was refused, and the panel has said why
        volume, made = self._panel.nodes.volume, self._madeVolume
        if volume.GetID() not in before:
            self._madeVolume = volume.GetID()
            self._dropVolume(made)
        elif made != volume.GetID():
            self._madeVolume = ""
            self._dropVolume(made)
        self.readings.caseOpened(folder)
        self.table.select(str(folder))
        self.ui.lesionTable.setFocus()  # Enter agrees with lesions from here on

    def _dropVolume(self, nodeID: str) -> None:
        """The CT of the case before, which nobody but the list has brought: a day's list fills no memory."""
        volume = slicer.mrmlScene.GetNodeByID(nodeID) if nodeID else None
        if volume is not None:
            display = volume.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(volume)
            if display is not None:
                slicer.mrmlScene.RemoveNode(display)

    def _load(self, row: Row) -> None:
        files, gone = self._files(row)
        if not files or gone:
            self.listing.put(withState(row, row.state, _goneWords(len(files), gone)))
            tell(_goneWords(len(files), gone))
            return
        import DICOMLib.DICOMUtils

        with slicer.util.WaitCursor(True):
            loaded = DICOMLib.DICOMUtils.loadSeriesByUID([row.scan.uid])
        nodes = [slicer.mrmlScene.GetNodeByID(nodeID) for nodeID in loaded]
        volumes = [node for node in nodes if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]
        if volumes:
            self.ui.volumeSelector.setCurrentNode(volumes[0])
        else:
            tell(_("Slicer could not load this series as a volume. Open the DICOM module to see why."))

    def _files(self, row: Row) -> "tuple[list[Path], int]":
        database = openDatabase()
        return ([], 0) if database is None else filesOf(database, row.scan.uid)

    # Scoring many

    def scoreSelected(self) -> None:
        """Put the selected scans that have no case into the queue of the worker."""
        waiting = self.batch.keys
        rows = [row for row in self.table.selected() if row.case is None and row.key not in waiting]
        if not rows:
            tell(_("Select scans that are new: the others have been scored, and can be scored again one by one."))
            return
        options = self._panel.score.options()
        bundle = bundleToRun(options["bundle"] or "", options["device"])
        if bundle is None:
            return
        root = self._panel.score.casesFolder
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            showRefusal("output", f"cannot write to {root}: {error.strerror or error}")
            return
        options = {**{k: v for k, v in options.items() if k not in OF_ONE_SCAN}, "bundle": bundle or None}
        self.batch.add([job for row in rows if (job := self._job(row, root, options)) is not None])
        self._panel.scoring.showReadiness()

    def _job(self, row: Row, root: Path, options: "dict[str, Any]") -> "Job | None":
        files, gone = self._files(row)
        if not files or gone:
            self.listing.put(withState(row, row.state, _goneWords(len(files), gone)))
            return None
        stamp, n = f"{datetime.now():%Y%m%d-%H%M%S}", 1
        taken = {*root.glob(f"{stamp}-*"), *self._promised}
        while (out := root / f"{stamp}-{n:03d}") in taken:
            n += 1
        self._promised.add(out)
        return Job(row.key, Run(out=out, options=options, files=files))

    def cancel(self) -> None:
        """Take back what waits, and stop the scan that is being scored."""
        self.batch.cancel()

    def wake(self) -> None:
        """Nobody else scores any more."""
        self.batch.wake()

    def _onTold(self, told: Told) -> None:
        row = self.listing.rows.get(told.key)
        if told.case is not None:
            self.listing.reread(told.case)
        elif row is not None:
            self.listing.put(withState(row, told.state, panelWords(told.text)))
        if not self.batch.isWaiting:
            self._panel.scoring.showReadiness()
        self._draw()

    def _onProgress(self, text: str, fraction: float) -> None:
        self.ui.batchLabel.setText(text)
        self.ui.batchProgressBar.setValue(round(100 * fraction))

    # Two cases

    def compareWithPrior(self) -> None:
        """Say what has changed since the scan before the selected one."""
        self.ui.worklistSection.collapsed = False
        for row in self.table.selected()[:1]:
            self.readings.compareWithPrior(row)

    def beginSecond(self) -> None:
        """Begin a second reading of the selected case."""
        for row in self.table.selected()[:1]:
            self.readings.beginSecond(row, self._panel.score.casesFolder)

    def compareReadings(self) -> None:
        """Say where the two readings of the selected case agree, and show where they differ."""
        self.ui.worklistSection.collapsed = False
        for row in self.table.selected()[:1]:
            self.readings.compareReadings(row)

    def beginThird(self) -> None:
        """Begin a third reading, which settles where the two of the selected case differ."""
        for row in self.table.selected()[:1]:
            self.readings.beginThird(row, self._panel.score.casesFolder)

    def _onBegun(self, folder: Path) -> None:
        self.listing.reread(folder)
        self._openCase(folder)

    def _inTable(self, act: "Callable[[], None]", otherwise: "Callable[[], None]" = lambda: None) -> None:
        act() if self.table.hasFocus else otherwise()

    def _draw(self, *_args: Any) -> None:
        ui, rows = self.ui, self.table.selected()
        one = rows[0] if len(rows) == 1 else None
        hasCase = one is not None and one.case is not None
        ui.openRowButton.setEnabled(one is not None)
        ui.scoreSelectedButton.setEnabled(any(row.state is State.NEW for row in rows))
        for button in (ui.priorButton, ui.secondButton, ui.agreementButton, ui.thirdButton):
            button.setEnabled(hasCase)
        isWaiting = self.batch.isWaiting
        for widget in (ui.batchProgressBar, ui.batchLabel, ui.cancelBatchButton):
            widget.setVisible(isWaiting)
        ui.worklistLabel.setText(one.note if one is not None and one.note else summary(self.listing.rows.values()))


def _goneWords(there: int, gone: int) -> str:
    if not there:
        return _("The files of this scan are no longer where Slicer's DICOM database says: import it again.")
    text = _("{gone} of {count} files of this scan are no longer there: import it again.")
    return text.format(gone=gone, count=there + gone)
