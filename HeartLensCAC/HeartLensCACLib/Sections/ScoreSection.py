"""Score: one button, what it is doing, its log, and the environment that it runs in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from heartlens.app.messages import Event, Run
from heartlens.risk.categories import SCHEMES
from HeartLensCACLib.Environment import DoctorRun, diagnostics
from HeartLensCACLib.Parameters import Parameters, keepUserSetting, userSetting
from HeartLensCACLib.ScoreRun import ScoreRun
from HeartLensCACLib.Sections.InputSection import choose, chosen, fill
from HeartLensCACLib.Sections.MethodSection import MethodSection
from HeartLensCACLib.Words import plainToolTip

IDLE, RUNNING, CANCELLING = "idle", "running", "cancelling"

LOG_LINES = 2000
"""Older lines of the log are dropped."""

OTHER_FOLDER = "?"
"""Entry that asks for a folder."""

DEVICES = (("auto", _("automatic: GPU for 100 slices or more")), ("cpu", _("CPU")), ("cuda", _("GPU (needs PyTorch)")))


class ScoreSection:
    """The Score section: options of a run, its progress and its log.

    Parameters
    ----------
    ui
        Widgets by name.
    pressed
        Called when Score is pressed; the panel then calls `start`.
    ended
        Called with the last `Event` of the run.
    tableChosen
        Called when another risk table was chosen.
    method
        The Method box within the section.
    """

    def __init__(
        self,
        ui: Any,
        pressed: Callable[[], None],
        ended: Callable[[Event], None],
        tableChosen: Callable[[], None],
        method: MethodSection,
    ) -> None:
        self.ui = ui
        self._pressed, self._onEnded, self._tableChosen = pressed, ended, tableChosen
        self.method = method
        self._parameters: Parameters | None = None
        self._run: ScoreRun | None = None
        self._leaving: list[ScoreRun] = []  # told everything, but their process still has to end
        self._doctor: DoctorRun | None = None
        self._isReady = False
        fill(ui.deviceComboBox, DEVICES)
        fill(ui.schemeComboBox, [(scheme.id, scheme.title) for scheme in SCHEMES.values()])
        fill(ui.bundleComboBox, bundles())
        ui.casesPathEdit.currentPath = userSetting("casesFolder", defaultCasesFolder())
        ui.logText.setMaximumBlockCount(LOG_LINES)
        ui.progressBar.setVisible(False)
        ui.stageLabel.setVisible(False)
        ui.scoreButton.connect("clicked(bool)", self._onButton)
        ui.checkButton.connect("clicked(bool)", self.checkEnvironment)
        ui.copyButton.connect("clicked(bool)", self.copyDiagnostics)
        ui.casesPathEdit.connect("currentPathChanged(QString)", self._onCasesFolder)
        ui.bundleComboBox.connect("currentIndexChanged(int)", self._onBundle)
        ui.deviceComboBox.connect("currentIndexChanged(int)", self._onOption)
        ui.schemeComboBox.connect("currentIndexChanged(int)", self._onScheme)
        ui.segmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", lambda _node=None: self._draw())
        self._draw()

    def setParameters(self, parameters: Parameters) -> None:
        """Show method, bundle, device and risk table of a parameter node, and write changes there from now on."""
        self.method.setParameters(parameters)
        self._parameters = None
        self._showBundle(parameters.bundle)
        choose(self.ui.deviceComboBox, parameters.device)
        choose(self.ui.schemeComboBox, parameters.scheme)
        self._parameters = parameters
        self._onOption()  # what is shown is what runs

    @property
    def state(self) -> str:
        """One of `IDLE`, `RUNNING` and `CANCELLING`."""
        if self._run is None:
            return IDLE
        return CANCELLING if self._run.cancelling else RUNNING

    @property
    def isBusy(self) -> bool:
        """Whether a run of this section goes on."""
        return self._run is not None

    @property
    def casesFolder(self) -> Path:
        """Folder in which new cases are made."""
        return Path(self.ui.casesPathEdit.currentPath or defaultCasesFolder()).expanduser()

    def options(self) -> "dict[str, Any]":
        """What the panel says of the method, in the worker's words."""
        parameters = self._parameters
        return {
            "bundle": parameters.bundle or None,
            "device": parameters.device,
            "scheme": parameters.scheme,
            **self.method.options(),
        }

    def setReady(self, ready: bool, why: str) -> None:
        """Let the reader press Score, or not.

        Parameters
        ----------
        why
            Shown as the tool tip, also when it is ready.
        """
        self._isReady = ready
        self.ui.scoreButton.setToolTip(plainToolTip(why))
        self._draw()

    def start(self, run: Run) -> None:
        """Start a run; one that still runs is abandoned."""
        self.stop()
        self._run = ScoreRun(run, self._onEvent, self.log)
        self.log(_("scoring started"))
        self._stage(_("starting"), 0.0)
        self._run.start()
        self._draw()

    def stop(self) -> None:
        """Abandon what runs; nothing of it is told any more."""
        if self._run is not None:
            self._leaving.append(self._run)
            self._run = None
        for run in self._leaving:
            run.stop()
        self._leaving = []
        if self._doctor is not None:
            self._doctor.stop()
            self._doctor = None
        self._draw()

    def log(self, text: str) -> None:
        """Append a line to the log that the reader sees."""
        self.ui.logText.appendPlainText(text)

    def checkEnvironment(self, *_args: Any) -> None:
        """Ask the worker's Python what it has; installs nothing, blocks nothing."""
        if self._doctor is not None and self._doctor.isRunning:
            return
        self.ui.optionsSection.collapsed = False
        self.log(_("checking the environment..."))
        self._doctor = DoctorRun(self.log)
        self._doctor.start()

    def copyDiagnostics(self, *_args: Any) -> None:
        """Copy versions and the log to the clipboard, without patient data."""
        slicer.app.clipboard().setText(diagnostics(self.ui.logText.toPlainText()))
        self.log(_("diagnostics copied to the clipboard; they hold no patient data"))

    def _onButton(self, *_args: Any) -> None:
        if self._run is None:
            self._pressed()
        elif not self._run.cancelling:
            self._run.cancel()
            self._draw()

    def _onEvent(self, event: Event) -> None:
        if event.kind == "progress":
            self._stage(event.stage, event.fraction)
        if not (event.is_last and self._run is not None and event.job == self._run.run.job):
            return
        self._leaving = [run for run in self._leaving if not run.isGone] + [self._run]
        self._run = None
        # An error's text may hold a path, and a path a name: it is shown, and not kept in a log that people send.
        texts = {"cancelled": _("cancelled"), "error": _("error: {code}").format(code=event.code)}
        self.log(texts.get(event.kind) or event.text or _("done"))
        self._draw()
        self._onEnded(event)

    def _stage(self, stage: str, fraction: float) -> None:
        self.ui.stageLabel.setText(stage)
        self.ui.progressBar.setValue(round(100 * fraction))

    def _draw(self) -> None:
        state = self.state
        name = self.method.segmentation.GetName() if self.method.segmentation is not None else ""
        score = _("Score the segmentation {name}").format(name=name) if name else _("Score")
        words = {IDLE: score, RUNNING: _("Cancel"), CANCELLING: _("Cancelling...")}
        self.ui.scoreButton.setText(words[state])
        self.ui.scoreButton.setEnabled(state == RUNNING or (state == IDLE and self._isReady))
        self.ui.progressBar.setVisible(state != IDLE)
        self.ui.stageLabel.setVisible(state != IDLE)
        for widget in (self.ui.bundleComboBox, self.ui.deviceComboBox, self.ui.schemeComboBox, self.ui.casesPathEdit):
            widget.setEnabled(state == IDLE)
        self.method.setEnabled(state == IDLE)
        for widget in (self.ui.inputRemedies, self.ui.resultRemedies):
            widget.setEnabled(state == IDLE)  # one that scores again would drop the run without a word

    def _showBundle(self, bundle: str) -> None:
        """Choose a bundle; a folder of the reader's own gets an entry."""
        combo = self.ui.bundleComboBox
        if combo.findData(bundle) < 0 and bundle and Path(bundle).is_dir():
            combo.insertItem(0, Path(bundle).name, bundle)
        choose(combo, bundle)

    def _onBundle(self, *_args: Any) -> None:
        if chosen(self.ui.bundleComboBox) == OTHER_FOLDER:
            folder = qt.QFileDialog.getExistingDirectory(self.ui.bundleComboBox, _("Open a folder of networks"), "")
            self._showBundle(folder or (self._parameters.bundle if self._parameters is not None else ""))
        self._onOption()

    def _onOption(self, *_args: Any) -> None:
        if self._parameters is not None:
            self._parameters.bundle = chosen(self.ui.bundleComboBox)
            self._parameters.device = chosen(self.ui.deviceComboBox)
            self._parameters.scheme = chosen(self.ui.schemeComboBox)

    def _onScheme(self, *_args: Any) -> None:
        if self._parameters is not None:
            self._onOption()
            self._tableChosen()

    def _onCasesFolder(self, *_args: Any) -> None:
        keepUserSetting("casesFolder", self.ui.casesPathEdit.currentPath)


def bundles() -> "list[tuple[str, str]]":
    """Value and text of what can find calcium: installed networks first, always the rules."""
    from heartlens.networks.bundle import installed_bundles

    return [
        *((name, name) for name in installed_bundles()),
        ("none", _("none: rules without a network")),
        (OTHER_FOLDER, _("networks in another folder...")),
    ]


def defaultCasesFolder() -> str:
    """Folder "HeartLens" in Slicer's default folder for scenes."""
    return str(Path(slicer.app.defaultScenePath) / "HeartLens")
