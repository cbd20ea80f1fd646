"""The panel: what happens between its sections. It holds the reading that is open and the nodes that show it.

Every way of editing ends in `_edited`: the case has changed and is on the disk, now the screen follows.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from heartlens.app.messages import Event, Run
from heartlens.app.review_session import Reading
from heartlens.case.signature import now
from heartlens.core.errors import Refused
from heartlens.core.lesions import Artery
from heartlens.core.protocol import NOTICE
from HeartLensCACLib.InputSection import InputSection
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Requirements import areSatisfied
from HeartLensCACLib.ResultSection import ResultSection
from HeartLensCACLib.ReviewSection import Actions, ReviewSection
from HeartLensCACLib.ScoreSection import ScoreSection
from HeartLensCACLib.Shortcuts import Shortcuts
from HeartLensCACLib.SignSection import SignSection
from HeartLensCACLib.ViewClicks import ViewClicks
from HeartLensCACLib.Words import TITLE, asksToAllow, tell, tellRefused

STROKE_MS = 40
"""The editor tells of one stroke several times; so long after the last of them it is committed."""

REPORT_MS = 500
"""The case folder's report.json follows the edits at this distance; the edits themselves do not wait."""


class Panel:
    """What the reader sees of the module: its sections, the case that is open, and edits on their way to the disk.

    Parameters
    ----------
    ui
        Widgets by name, from HeartLensCAC.ui.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.reading: Reading | None = None
        self.nodes: Any = None
        self._watch: Any = None
        self._showing = False
        self._scored: dict[str, Any] = {}
        self._copy: Path | None = None
        ui.noticeLabel.setText(NOTICE)
        self.input = InputSection(ui, self._onVolumeChanged, self.regrade)
        self.score = ScoreSection(ui, self.startScoring, self._onRunEnded, self.regrade)
        self.review = ReviewSection(ui, Actions(self.assign, self.remove, self.undo, self.redo))
        self.result = ResultSection(ui)
        self.sign = SignSection(ui, self.signAndExport, self.export)
        self.clicks = ViewClicks(self.onViewClick)
        self.shortcuts = Shortcuts(
            {
                "Z": self.undo,
                "Y": self.redo,
                "1": lambda: self.review.press(Artery.LM),
                "2": lambda: self.review.press(Artery.LAD),
                "3": lambda: self.review.press(Artery.LCX),
                "4": lambda: self.review.press(Artery.RCA),
                "0": lambda: self.review.press(Artery.OTHER),
                "N": lambda: self.review.step(+1),
                "P": lambda: self.review.step(-1),
                "T": self.review.toggleTint,
                "Del": self.review.removeSelected,
            }
        )
        self._strokeTimer = _singleShot(STROKE_MS, self.commitStrokes)
        self._reportTimer = _singleShot(REPORT_MS, self._saveReport)
        self._closed: tuple[str, Path] | None = None
        self._closedTimer = _singleShot(0, self._tellIfVolumeDeleted)
        ui.openCaseButton.connect("clicked(bool)", lambda _on=False: self.askForCase())

    # Life of the module

    def setParameters(self, parameters: Parameters) -> None:
        """Another parameter node: after setup, and after a scene was closed or loaded."""
        self.parameters = parameters
        self.input.setParameters(parameters)
        self.score.setParameters(parameters)
        self.review.setParameters(parameters)
        self._onVolumeChanged()

    def enter(self, window: Any) -> None:
        """The reader comes to the module: keys and clicks work from now on.

        Parameters
        ----------
        window
            Widget within whose window the keys work.
        """
        self.shortcuts.install(window)
        self.review.enter()
        if self.reading is not None:
            self.clicks.install()
        self.input.refresh()

    def exit(self) -> None:
        """Bring edits to the disk, and give back keys, clicks and the segment editor's view."""
        self._flush()
        self.shortcuts.remove()
        self.clicks.remove()
        self.review.exit()

    def leaveScene(self) -> None:
        """Before the scene closes: no run, no observer and no effect stays; the edits are on the disk already."""
        self.score.stop()
        self._dropCopy()
        self._closed = None
        self.closeCase()
        self.review.dropEditorNode()

    def close(self) -> None:
        """Before the module is reloaded or Slicer ends."""
        self.exit()
        self.leaveScene()

    # Score

    def startScoring(self, allow: "frozenset[str]" = frozenset(), asShown: bool = False) -> None:
        """Start a run of the chosen volume.

        Parameters
        ----------
        allow
            Refusals that the reader has lifted.
        asShown
            Score the voxels on the screen, although the volume came from DICOM files.
        """
        self._flush()
        self.input.refresh()
        self._showReadiness()
        scan = self.input.scan
        if scan is None:
            slicer.util.errorDisplay(_("Choose a CT volume first."), windowTitle=TITLE)
            return
        if not areSatisfied(self.parameters.bundle, self.parameters.device):
            return
        out = self.score.casesFolder / f"{datetime.now():%Y%m%d-%H%M%S}-{scan.volume.GetID()[-6:]}"
        options = {**self.input.options(), **self.score.options(), "allow": sorted(allow)}
        try:
            source = self._source(scan, options, allow, asShown)
            out.parent.mkdir(parents=True, exist_ok=True)
        except Refused as refused:
            self._dropCopy()
            if asksToAllow(refused.code, refused.text):
                self.startScoring(allow | {refused.code}, asShown)
            elif refused.code not in allow:
                self._tellUnlessAsked(refused)
            return
        except OSError as error:
            self._dropCopy()
            tellRefused("output", f"cannot write to {out.parent}: {error.strerror or error}")
            return
        self._scored = {"volume": scan.volume.GetID(), "allow": allow, "asShown": asShown, "series": not asShown}
        self.score.start(Run(out=out, options=options, **source))
        self.input.setEnabled(False)

    def _source(self, scan: Any, options: "dict[str, Any]", allow: "frozenset[str]", asShown: bool) -> "dict[str, Any]":
        """The DICOM files, or, where there are none or the volume is no longer what they say, its voxels as NRRD."""
        from heartlens.io.volumes import write_volume
        from heartlens.scene import case_ct

        header = scan.header
        ct, cautions = case_ct(scan.volume, kvp=header.kvp, slice_thickness_mm=header.slice_thickness_mm, allow=allow)
        isChanged = any(caution.code == "changed" for caution in cautions)
        if scan.files and not asShown and not isChanged:
            return {"files": scan.files}
        options.update({"kvp": header.kvp, "thickness-mm": header.slice_thickness_mm})
        folder = Path(slicer.app.temporaryPath) / f"HeartLens-{datetime.now():%Y%m%d%H%M%S%f}"
        folder.mkdir(parents=True)
        self._copy = folder
        write_volume(folder / "ct.nrrd", ct)
        return {"input": folder / "ct.nrrd"}

    def _dropCopy(self) -> None:
        """A copy of a person's scan is not left about: the case folder has its own."""
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None

    def _tellUnlessAsked(self, refused: Refused) -> None:
        from heartlens.core.errors import OVERRIDABLE

        if refused.code not in OVERRIDABLE:  # the others were asked about, and declined
            tell(refused)

    def _onRunEnded(self, event: Event) -> None:
        self._dropCopy()
        self.input.setEnabled(True)
        self._onVolumeChanged()
        scored, self._scored = self._scored, {}
        if event.kind == "cancelled":
            return
        if event.kind == "error":
            if asksToAllow(event.code, event.text):
                self.startScoring(scored["allow"] | {event.code}, scored["asShown"])
            elif not _isOverridable(event.code):
                tellRefused(event.code, event.text)
            return
        volume = slicer.mrmlScene.GetNodeByID(scored["volume"])
        if volume is None:
            text = _("The volume was deleted while it was scored. Nothing is lost: open the case folder {folder}.")
            slicer.util.errorDisplay(text.format(folder=event.case), windowTitle=TITLE)
            return
        try:
            self.openCase(Path(event.case), volume)
        except Refused as refused:
            if refused.code in ("grid", "checksum") and not scored["asShown"]:
                question = _(
                    "The volume on the screen is not what its DICOM files hold: it was changed after it was loaded.\n\n"
                    "Score what is on the screen? DICOM SEG and SR cannot be written then."
                )
                if slicer.util.confirmOkCancelDisplay(question, windowTitle=TITLE):
                    self.startScoring(scored["allow"], asShown=True)
            else:
                tell(refused)

    # A case

    def askForCase(self) -> None:
        """Let the reader choose a case folder, and open it."""
        folder = qt.QFileDialog.getExistingDirectory(
            self.ui.openCaseButton, _("Open a case folder"), str(self.score.casesFolder)
        )
        if folder:
            self.openCaseFolder(Path(folder))

    def openCaseFolder(self, folder: Path) -> None:
        """Open a case and tell what is wrong with it where it cannot be opened; then everything is as it was."""
        try:
            self.openCase(folder, None)
        except Refused as refused:
            tell(refused)

    def openCase(self, folder: Path, volume: Any) -> None:
        """Show a case folder.

        Parameters
        ----------
        volume
            The node on which it was scored; None finds or makes one.

        Raises
        ------
        Refused
            Nothing has changed then.
        """
        from heartlens.scene import Watch, show_case

        reading = Reading.open(folder, reader=self.sign.observer)
        if volume is None:
            volume = _volumeOf(reading)
        nodes = show_case(slicer.mrmlScene, reading.case, volume=volume)
        self.closeCase()
        self.reading, self.nodes = reading, nodes
        self.parameters.caseFolder = str(reading.folder)
        self.parameters.volume = nodes.volume
        self._showPerson()
        self._watch = Watch(slicer.mrmlScene, nodes, self._onStroke, self._onNodeGone)
        self._showing = True
        self.review.show(reading, nodes)
        self._showing = False
        self.result.show(reading)
        self.sign.show(reading)
        self.clicks.install()
        slicer.util.setSliceViewerLayers(background=nodes.volume, fit=True)

    def closeCase(self, removeNodes: bool = True) -> None:
        """Forget the case that is open; its folder keeps everything."""
        from heartlens.scene import remove_case

        self._flush()
        self.clicks.remove()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        nodes, self.nodes, self.reading = self.nodes, None, None
        self.review.clear()
        self.result.clear()
        self.sign.clear()
        if nodes is not None and removeNodes:
            remove_case(slicer.mrmlScene, nodes)

    def reopen(self) -> None:
        """After a scene was loaded or the module was reloaded: the case it shows, with the edits in its folder."""
        folder = Path(self.parameters.caseFolder) if self.parameters.caseFolder else None
        if folder is None or self.reading is not None:
            return
        if not (folder / "case.json").is_file():
            self.score.log(_("the case folder of this scene is no longer where it was"))
            return
        from heartlens.scene import find_cases, remove_case

        for nodes in find_cases(slicer.mrmlScene):
            if nodes.volume is self.parameters.volume:
                remove_case(slicer.mrmlScene, nodes)  # shown anew from the folder, which holds every edit
        try:
            self.openCase(folder, self.parameters.volume)
        except Refused as refused:
            tell(refused)

    # Of whom it is

    def regrade(self) -> None:
        """The reader said more of the person, or chose another table: the score stays, what it means follows."""
        if self.reading is None:
            return
        self._flush()
        said, was = self.parameters, self.reading.case.risk_inputs
        isSameAge = (said.ageYears or 0) == int(was.age_years or 0)  # the panel shows whole years
        age = was.age_years if isSameAge else said.ageYears
        inputs = replace(was, scheme=said.scheme, age_years=age, sex=said.sex or None, race=said.race or None)
        try:
            if self.reading.grade(inputs):
                self._edited()
        except Refused as refused:
            self._showPerson()
            tell(refused)

    def _showPerson(self) -> None:
        """The panel says of the person what the case does."""
        inputs = self.reading.case.risk_inputs
        self.parameters.ageYears = int(inputs.age_years or 0)
        self.parameters.sex, self.parameters.race = inputs.sex or "", inputs.race or ""
        self.parameters.scheme = inputs.scheme
        self.input.setParameters(self.parameters)
        self.score.setParameters(self.parameters)

    # Edits

    def assign(self, lesion: int, artery: Artery) -> None:
        """Give a lesion to an artery."""
        self._edit(lambda reading: reading.assign(lesion, artery))

    def remove(self, lesion: int) -> None:
        """Remove a lesion."""
        self._edit(lambda reading: reading.remove(lesion))

    def undo(self) -> None:
        """Take back the latest edit, brush strokes that wait for their timer included."""
        if self.reading is not None:
            self.commitStrokes()
            if self.reading.case.can_undo:
                self._edit(lambda reading: reading.undo())

    def redo(self) -> None:
        """Make again the edit that was taken back last."""
        if self.reading is not None:
            self.commitStrokes()
            if self.reading.case.can_redo:
                self._edit(lambda reading: reading.redo())

    def onViewClick(self, ras: "tuple[float, float, float]", inSlice: bool) -> None:
        """A click in a slice view, at a point of the patient in RAS mm; with Ctrl only that slice is meant."""
        from heartlens.scene import index_of, require_untransformed

        artery = self.review.clickArtery
        if self.reading is None or artery is None:
            return
        try:
            # Under a transform the views show another place than the one that would be edited.
            require_untransformed(self.nodes.volume, "the volume")
            require_untransformed(self.nodes.segmentation, "the segmentation")
        except Refused as refused:
            tell(refused)
            return
        kji = index_of(self.reading.case.source_ct, ras)
        try:
            if self.reading.give(kji, artery, in_slice=inSlice):
                self.review.select(None)
                self._edited()
        except Refused as refused:
            slicer.util.showStatusMessage(refused.text, 5000)
            self.score.log(refused.text)

    def commitStrokes(self) -> None:
        """Take what the segment editor did into the case."""
        from heartlens.scene import read_segmentation

        self._strokeTimer.stop()
        if self.reading is None or self._showing:
            return
        self.reading.reader = self.sign.observer
        try:
            edited = read_segmentation(
                slicer.mrmlScene, self.nodes, self.reading.case, who=self.reading.reader, when=now()
            )
            if self.reading.take(edited):
                self._edited()
            else:
                self._updateScene()
        except Refused as refused:
            tell(refused)
            self._updateScene(isTold=True)

    def _edit(self, make: Callable[[Reading], bool]) -> None:
        if self.reading is None:
            return
        if self._strokeTimer.active:
            self.commitStrokes()
        self.reading.reader = self.sign.observer
        try:
            if make(self.reading):
                self._edited()
        except Refused as refused:
            tell(refused)

    def _edited(self) -> None:
        self._updateScene()
        self.review.refresh(self.reading)
        self.result.refresh(self.reading)
        self.sign.refresh(self.reading)
        self._reportTimer.start()

    def _updateScene(self, isTold: bool = False) -> None:
        """Bring the state of the case into the scene.

        Parameters
        ----------
        isTold
            The reader was told already what stands in the way; one dialog is enough.
        """
        from heartlens.scene import update_lesions

        self._showing = True
        try:
            update_lesions(slicer.mrmlScene, self.nodes, self.reading.case)
        except Refused as refused:
            if not isTold:
                tell(refused)
        finally:
            self._showing = False

    def _onStroke(self) -> None:
        if not self._showing:
            self._strokeTimer.start()

    def _onNodeGone(self, name: str) -> None:
        """The reader deleted a node of the case: everything else of it leaves the panel, nothing the folder."""
        if self.reading is None:
            return
        folder = self.reading.folder
        self._strokeTimer.stop()
        self.closeCase(removeNodes=False)
        self.parameters.caseFolder = ""
        self._tellDeleted(name, folder)

    def _tellDeleted(self, name: str, folder: Path) -> None:
        text = _("The {name} was deleted, so the case was closed. Nothing is lost: open the case folder {folder}.")
        slicer.util.errorDisplay(text.format(name=name.replace("_", " "), folder=folder), windowTitle=TITLE)

    def _flush(self) -> None:
        """Bring everything to the disk that waits for a timer."""
        if self._strokeTimer.active:
            self.commitStrokes()
        if self._reportTimer.active:
            self._saveReport()

    def _saveReport(self) -> None:
        self._reportTimer.stop()
        if self.reading is not None:
            try:
                self.reading.save_report()
            except Refused as refused:
                self.score.log(_("report.json could not be written: {code}").format(code=refused.code))

    # Sign and export

    def signAndExport(self) -> None:
        """Sign what is on the screen and export it; a refusal is told, and then nothing is exported."""
        from heartlens.scene import require_scored

        self._flush()
        try:
            require_scored(self.nodes.volume, self.reading.case)  # who signs has looked at the volume on the screen
            self.reading.sign(self.sign.observer, self.sign.organization, confirmed=self.sign.isConfirmed)
        except Refused as refused:
            tell(refused)
            return
        self.export()

    def export(self) -> None:
        """Write the state that is shown into a new folder, with its signature where it has one."""
        self._flush()
        word = "unsigned" if self.reading.signature is None else "signed"
        out = _freeFolder(self.reading.folder.parent / word)
        try:
            with slicer.util.WaitCursor(True):
                leftOut = self.reading.export(out)
        except Refused as refused:
            tell(refused)
            return
        self.sign.exported(out, leftOut)

    def _onVolumeChanged(self) -> None:
        scan = self.input.scan
        if self.reading is not None and (scan is None or scan.volume is not self.nodes.volume):
            self._closed = (self.nodes.volume.GetID(), self.reading.folder)
            self.closeCase()
            self.parameters.caseFolder = ""
            self._closedTimer.start()  # the selector may tell of a deletion before the scene has made it
        self._showReadiness()

    def _tellIfVolumeDeleted(self) -> None:
        """The reader chose another volume, which needs no word, or deleted the one of the case."""
        closed, self._closed = self._closed, None
        if closed is not None and slicer.mrmlScene.GetNodeByID(closed[0]) is None:
            self._tellDeleted("volume", closed[1])

    def _showReadiness(self) -> None:
        scan = self.input.scan
        if scan is None:
            self.score.setReady(False, _("Choose a CT volume first."))
        else:
            self.score.setReady(not scan.refusal, scan.refusal or _("Find and score coronary calcium"))


def _volumeOf(reading: Reading) -> Any:
    """The volume of the scene that was loaded from the case's DICOM images and still shows them, or None."""
    from heartlens.scene import case_ct, dicom_instances

    ct = reading.case.source_ct
    for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        uids = dicom_instances(volume)
        if uids and set(uids) == set(ct.header.sop_instance_uids):
            try:
                shown, _cautions = case_ct(volume)
            except Refused:
                continue
            if shown.shape == ct.shape and (shown.hu == ct.hu).all():
                return volume
    return None


def _singleShot(ms: int, slot: Callable[[], None]) -> Any:
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(ms)
    timer.connect("timeout()", slot)
    return timer


def _freeFolder(wanted: Path) -> Path:
    """The wanted folder, or the next name that is free: an export never replaces another."""
    free, n = wanted, 2
    while free.exists():
        free = wanted.with_name(f"{wanted.name}-{n}")
        n += 1
    return free


def _isOverridable(code: str) -> bool:
    from heartlens.core.errors import OVERRIDABLE

    return code in OVERRIDABLE
