"""The panel: what happens between its sections. It holds the reading that is open and the nodes that show it.

Every way of editing ends in `_edited`: the case has changed and is on the disk, now the screen follows.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.case.signature import now
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.protocol import NOTICE
from HeartLensCACLib.CaseFolders import ReportFile, chooseFolder, folderOfScene, replaceShown, shownOf
from HeartLensCACLib.Interaction.Pointing import assignAt, assignBox, lesionUnderMouse
from HeartLensCACLib.Interaction.Shortcuts import Shortcuts
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Scan import volumeOf
from HeartLensCACLib.Scoring import Scoring
from HeartLensCACLib.Sections.InputSection import InputSection
from HeartLensCACLib.Sections.MethodSection import MethodSection
from HeartLensCACLib.Sections.Remedies import Remedies
from HeartLensCACLib.Sections.ResultSection import ResultSection
from HeartLensCACLib.Sections.ReviewSection import Actions, ReviewSection
from HeartLensCACLib.Sections.SignSection import SignSection
from HeartLensCACLib.Timers import Later, breathe, meanwhile, singleShot, uncollected
from HeartLensCACLib.Views.CaseViews import CaseViews
from HeartLensCACLib.Words import showError, showFindings, tellDeleted
from HeartLensCACLib.Worklist.WorklistSection import WorklistSection

STROKE_MS = 40
"""The editor tells of one stroke several times; so long after the last of them it is committed."""


class Panel:
    """What the reader sees of the module: its sections, the case that is open, and edits on their way to the disk.

    Parameters
    ----------
    ui
        Widgets by name, from HeartLensCAC.ui.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.reading: ReviewSession | None = None
        self.nodes: Any = None
        self._watch: Any = None
        self._showing = self._isOpening = False
        self._unopened = ""  # folder that the scene names and that was not opened: asked for once
        ui.noticeLabel.setText(NOTICE)
        method = MethodSection(ui, self._onMethod)
        self.remedies = Remedies(ui, method, lambda: self.scoring.start())
        self.input = InputSection(ui, self._onVolumeChanged, self.regrade, method, self.remedies.offer)
        self.scoring = Scoring(
            ui, self.input, beforeRun=self._flush, opened=self.openCase, volumeChanged=self._onVolumeChanged,
            tableChosen=self.regrade, method=method, worklist=lambda: self.worklist,
        )  # fmt: skip
        self.score = self.scoring.section
        edits = (self.assign, self.remove, self.undo, self.redo)
        self.review = ReviewSection(ui, Actions(*edits, partial(lesionUnderMouse, self)))
        self.result = ResultSection(ui, self.remedies.offerOfCase)
        self.sign = SignSection(ui, self._flush, lambda: self.nodes.volume, self._signed)
        self.views = CaseViews(self, ui, self.review, clicked=self.onViewClick, boxed=self.onBox)
        self.worklist = WorklistSection(ui, self)
        self.report = ReportFile(lambda: self.reading, self.worklist.caseChanged, self.score.log)
        keys = {**self.review.keys(), **self.review.brush.keys(), **self.views.keys(), "F": self.sign.focus}
        keys |= self.worklist.keys(self.review.agree)
        self.shortcuts = Shortcuts({"Z": self.undo, "Y": self.redo, **keys})
        self._strokeTimer = singleShot(STROKE_MS, self.commitStrokes)
        self.later = Later()
        ui.openCaseButton.connect("clicked(bool)", lambda _on=False: self.askForCase())

    # Life of the module

    def setParameters(self, parameters: Parameters) -> None:
        """Another parameter node, or another content: after setup, and after a scene was closed or loaded."""
        case = (parameters.caseFolder, parameters.volume)  # a scene that was added may have brought another one
        if self.reading is not None and case != (str(self.reading.folder), self.nodes.volume):
            self.closeCase(soon=True)
        self.parameters = parameters
        self.scoring.parameters = parameters
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
        self.views.enter()
        self.input.refresh()

    def exit(self) -> None:
        """Bring edits to the disk, and give back keys, clicks and the segment editor's view."""
        self._flush()
        self.shortcuts.remove()
        self.views.exit()
        self.review.exit()

    def leaveScene(self) -> None:
        """Before the scene closes: no run, no observer and no effect stays; the edits are on the disk already."""
        self.scoring.stop()
        self.later.forget()
        self._unopened = ""
        self.closeCase(removeNodes=False)  # the scene is about to do it
        self.input.forget()
        self.review.brush.drop()

    def close(self) -> None:
        """Before the module is reloaded or Slicer ends."""
        self.exit()
        self.closeCase()
        self.leaveScene()
        self.worklist.close()
        self.views.strip.close()

    # A case

    def askForCase(self) -> None:
        """Let the reader choose a case folder, and open it."""
        if (folder := chooseFolder(self.ui.openCaseButton, self.score.casesFolder)) is not None:
            self.openCaseFolder(folder)

    @property
    def isEditable(self) -> bool:
        """Whether there is a case to edit: none while one is opened, which reads what the edits have left."""
        return self.reading is not None and not self._isOpening

    def openCaseFolder(self, folder: Path, volume: Any = None, shown: "Iterable[Any]" = ()) -> None:
        """Open a case and tell what is wrong with it where it cannot be opened; then everything is as it was.

        While another one is being opened, it waits for the end of that.
        """
        if self._isOpening:
            self.later.do(partial(self.openCaseFolder, folder, volume, shown))
            return
        try:
            self.openCase(folder, volume, shown)
        except InputRefused as refused:
            showError(refused)

    def openCase(self, folder: Path, volume: Any, shown: "Iterable[Any]" = ()) -> None:
        """Show a case folder. Slicer draws meanwhile, and nothing can be edited until all of it is shown.

        Parameters
        ----------
        volume
            The node on which it was scored; None finds or makes one.
        shown
            Nodes of the case that a loaded scene brought; they make room once it is open.

        Raises
        ------
        InputRefused
            Nothing has changed then.
        """
        self._flush()
        self._isOpening = True
        try:
            with uncollected():
                self._takePlace(*self._read(folder, volume), shown)
        finally:
            self._isOpening = self._showing = False
        if self.reading is not None:
            showFindings(self.reading.findings)

    def _read(self, folder: Path, volume: Any) -> "tuple[ReviewSession, Any]":
        """A case, and its nodes in the scene; what is open stays open."""
        reading = meanwhile(partial(ReviewSession.open, folder, reader=self.sign.observer, instead_of=self.reading))
        from heartlens.scene import show_case

        try:
            volume = volumeOf(reading) if volume is None else volume
            return reading, show_case(slicer.mrmlScene, reading.case, volume=volume, aside=meanwhile)
        except BaseException:
            reading.close(instead_of=self.reading)
            raise

    def _takePlace(self, reading: ReviewSession, nodes: Any, shown: "Iterable[Any]") -> None:
        """Show a case in the place of the one that is open."""
        from heartlens.scene import Watch

        self.closeCase()
        replaceShown(shown, nodes)
        self.reading, self.nodes, self._unopened = reading, nodes, ""
        self.parameters.caseFolder = str(reading.folder)
        if self.parameters.volume is not nodes.volume:
            self.scoring.method.forgetScan()
        self.parameters.volume = nodes.volume
        self.input.belongs(nodes, reading.case.source_ct.header)
        self._watch = Watch(slicer.mrmlScene, nodes, self._onStroke, self._onNodeGone)
        self._showing = True  # the segment editor is told of the nodes, and tells of strokes that are none
        steps = [self._showPerson, self.scoring.showReadiness, partial(self.review.show, reading, nodes)]
        steps += [partial(self.result.show, reading), partial(self.sign.show, reading), self.views.show]
        for step in [*steps, self.views.present]:
            breathe()
            if self.reading is not reading:  # the scene was closed meanwhile
                return
            step()

    def closeCase(self, removeNodes: bool = True, soon: bool = False) -> None:
        """Forget the case that is open; its folder keeps everything.

        Parameters
        ----------
        removeNodes
            Take its nodes out of the scene; the volume stays.
        soon
            Take them out only when the scene is done with the event that this call answers.
        """
        from heartlens.scene import remove_case

        self._flush()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        reading, nodes, self.nodes, self.reading = self.reading, self.nodes, None, None
        if reading is not None:
            reading.close()
        for section in (self.review, self.result, self.sign):
            section.clear()
        for remove in (self.views.leave(), partial(remove_case, slicer.mrmlScene, nodes)):
            if nodes is not None and removeNodes:
                self.later.do(remove) if soon else remove()

    def reopen(self) -> None:
        """After a scene was loaded or the module was reloaded: the case it shows, with the edits in its folder."""
        named, volume = self.parameters.caseFolder, self.parameters.volume
        if self.reading is not None or named in ("", self._unopened):
            return
        self._unopened = named
        if (folder := folderOfScene(Path(named), self.ui.openCaseButton, self.score.casesFolder)) is not None:
            self.openCaseFolder(folder, volume, shownOf(volume))

    def regrade(self) -> None:
        """The reader said more of the person, or chose another table: the score stays, what it means follows."""
        if not self.isEditable:
            return
        self._flush()
        try:
            if self.reading.grade(self.parameters.person(self.reading.case.risk_inputs)):
                self._edited()
        except InputRefused as refused:
            self._showPerson()
            showError(refused)

    def _showPerson(self) -> None:
        """The panel says of the person what the case does."""
        self.parameters.keepPerson(self.reading.case.risk_inputs)
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
        self.commitStrokes()
        if self.isEditable and self.reading.case.can_undo:
            self._edit(lambda reading: reading.undo())

    def redo(self) -> None:
        """Make again the edit that was taken back last."""
        self.commitStrokes()
        if self.isEditable and self.reading.case.can_redo:
            self._edit(lambda reading: reading.redo())

    def onViewClick(self, ras: "tuple[float, float, float]", inSlice: bool) -> None:
        """A click in a slice view, at a point of the patient in RAS mm; with Ctrl only that slice is meant."""
        artery = self.review.clickArtery
        if not self.isEditable or artery is None:
            return
        refused = assignAt(self.reading, self.nodes, ras, artery, inSlice, partial(self._edited, True))
        if refused:
            self.score.log(_("a click was refused: {code}").format(code=refused))

    def onBox(self, corners: "list[Any]", _view: Any) -> None:
        """A box in a slice view, by its corners in RAS mm."""
        if self.isEditable and (artery := self.review.clickArtery) is not None:
            assignBox(self.reading, self.nodes, corners, artery, partial(self._edited, True))

    def commitStrokes(self) -> None:
        """Take what the segment editor did into the case."""
        from heartlens.scene import read_segmentation

        self._strokeTimer.stop()
        if self.reading is None or self._showing:
            return
        who = self.reading.reader = self.sign.observer
        try:
            edited = read_segmentation(slicer.mrmlScene, self.nodes, self.reading.case, who=who, when=now())
            if self.reading.keep_edits(edited):
                self._edited()
            else:
                self._updateScene()
        except InputRefused as refused:
            self.later.do(partial(showError, refused))  # a stroke may be committed because its volume is going
            self._updateScene(isTold=True)

    def _edit(self, make: Callable[[ReviewSession], bool]) -> None:
        if not self.isEditable:
            return
        if self._strokeTimer.active:
            self.commitStrokes()
        self.reading.reader = self.sign.observer
        try:
            if make(self.reading):
                self._edited()
        except InputRefused as refused:
            showError(refused)

    def _edited(self, isClick: bool = False) -> None:
        if isClick:
            self.review.select(None)
        self._updateScene()
        self.review.refresh(self.reading)
        self.result.refresh(self.reading)
        self.sign.refresh(self.reading)
        self.views.refresh()
        self.report.follow()

    def _updateScene(self, isTold: bool = False) -> None:
        """Bring the case into the scene; who `isTold` what stands in the way already gets no second dialog."""
        from heartlens.scene import update_lesions

        try:
            self.unheard(partial(update_lesions, slicer.mrmlScene, self.nodes, self.reading.case))
        except InputRefused as refused:
            if not isTold:
                showError(refused)

    def unheard(self, change: Callable[[], None]) -> None:
        """Change something of the segmentation that is no edit."""
        self._showing, was = True, self._showing
        try:
            change()
        finally:
            self._showing = was

    def _onStroke(self) -> None:
        if not self._showing:
            self._strokeTimer.start()

    def _onNodeGone(self, name: str) -> None:
        """The reader deleted a node of the case: all else of it leaves panel and scene, nothing leaves the folder."""
        if self.reading is None:
            return
        self._strokeTimer.stop()
        told = partial(tellDeleted, name, self.reading.folder)
        self.closeCase(soon=True)
        self.later.do(told)
        self.parameters.caseFolder = ""

    def _flush(self) -> None:
        """Bring everything to the disk that waits for a timer."""
        if self._strokeTimer.active:
            self.commitStrokes()
        self.report.flush()

    def _signed(self) -> None:
        self.review.readBy(self.sign.observer)
        self.result.refresh(self.reading)
        self.views.strip.refresh()
        self.worklist.caseChanged(self.reading.folder)

    def _onMethod(self) -> None:
        """Another method: what is noted of the scan follows, and a case that is shown stays as it was scored."""
        self.input.refresh()
        self.scoring.showReadiness()
        self.remedies.offerOfCase(None if self.reading is None else self.reading.case)

    def _onVolumeChanged(self) -> None:
        scan = self.input.scan
        if self.reading is not None and (scan is None or scan.volume is not self.nodes.volume):
            # The selector tells also of a deletion that the scene is in the middle of; another choice needs no word.
            told, volumeID = partial(tellDeleted, "volume", self.reading.folder), self.nodes.volume.GetID()
            self.closeCase(soon=True)
            self.later.do(lambda: told() if slicer.mrmlScene.GetNodeByID(volumeID) is None else None)
            self.parameters.caseFolder = ""
        self.scoring.showReadiness()
