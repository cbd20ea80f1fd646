"""A run from the button to the case that it leaves: what is scored, what the reader allows, what is shown then."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from heartlens.app.messages import Event, Run
from heartlens.app.requirements import is_installed
from heartlens.core.errors import OVERRIDABLE, InputRefused
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Requirements import RULES, bundleToRun
from HeartLensCACLib.Sections.InputSection import InputSection
from HeartLensCACLib.Sections.MethodSection import MethodSection
from HeartLensCACLib.Sections.ScoreSection import ScoreSection
from HeartLensCACLib.Timers import meanwhile
from HeartLensCACLib.Words import asks, asksToAllow, showError, showRefusal, tell

WORKLIST_FIRST = _("Scans of the worklist are being scored. Wait until they are, or cancel that in the worklist.")


@dataclass(frozen=True)
class _Scored:
    """What the run that is under way scores."""

    volumeID: str
    allow: "frozenset[str]"
    asShown: bool


class Scoring:
    """Runs of the chosen volume, one at a time.

    Parameters
    ----------
    ui
        Widgets by name.
    inputSection
        Where the volume is chosen.
    beforeRun
        Called before a run, to bring edits to the disk.
    opened
        Called with the case folder and the volume when a run has ended well; raises `InputRefused`.
    volumeChanged
        Called when the input may be used again.
    tableChosen
        Called when another risk table was chosen.
    method
        Where the method is chosen, and the segmentation that is to be scored.
    worklist
        Gives the section whose scans are scored by turns with these: with `isWaiting` and `wake`.
    """

    parameters: Parameters

    def __init__(
        self,
        ui: Any,
        inputSection: InputSection,
        *,
        beforeRun: Callable[[], None],
        opened: Callable[[Path, Any], None],
        volumeChanged: Callable[[], None],
        tableChosen: Callable[[], None],
        method: MethodSection,
        worklist: Callable[[], Any],
    ) -> None:
        self.method, self._worklist = method, worklist
        self.input = inputSection
        self._beforeRun, self._opened, self._volumeChanged = beforeRun, opened, volumeChanged
        self._scored: _Scored | None = None
        self._copy: Path | None = None
        self._arrived: set[str] = set()  # decoders installed under this Slicer, which sees them after a restart
        self.section = ScoreSection(ui, self.start, self._onRunEnded, tableChosen, method)

    def stop(self) -> None:
        """Abandon a run that is under way, and its copy of the scan."""
        self.section.stop()
        self._dropCopy()

    def start(self, allow: "frozenset[str]" = frozenset(), asShown: bool = False) -> None:
        """Start a run of the chosen volume.

        Parameters
        ----------
        allow
            Refusals that the reader has lifted.
        asShown
            Score the voxels on the screen, although the volume came from DICOM files.
        """
        if self._worklist().isWaiting:
            tell(WORKLIST_FIRST)
            return
        self._beforeRun()
        self.input.refresh()
        self.showReadiness()
        scan = self.input.scan
        if scan is None:
            tell(_("Choose a CT volume first."))
            return
        decoder = "" if asShown else scan.decoder
        lacked = bool(decoder) and not is_installed(decoder)
        isGiven = self.method.segmentation is not None  # labels that are there need no network
        bundle = bundleToRun(RULES if isGiven else self.parameters.bundle, self.parameters.device, decoder)
        if lacked and is_installed(decoder):
            self._arrived.add(decoder)
        if bundle is None:
            return
        if decoder:
            asShown = self._asksForScreen(decoder)
            if not asShown:
                return
        out = self.section.casesFolder / f"{datetime.now():%Y%m%d-%H%M%S}-{scan.volume.GetID()[-6:]}"
        options = {**self.input.options(), **self.section.options(), "bundle": bundle or None, "allow": sorted(allow)}
        try:
            source = self._source(scan, options, allow, asShown)  # may add to the options
            out.parent.mkdir(parents=True, exist_ok=True)
        except InputRefused as refused:
            self._dropCopy()
            if asksToAllow(refused.code, refused.text):
                self.start(allow | {refused.code}, asShown)
            elif refused.code not in allow:
                self._warnUnlessRequested(refused)
            return
        except OSError as error:
            self._dropCopy()
            showRefusal("output", f"cannot write to {out.parent}: {error.strerror or error}")
            return
        self._scored = _Scored(scan.volume.GetID(), allow, asShown)
        self.section.start(Run(out=out, options=options, **source))
        self.input.setEnabled(False)

    def _source(self, scan: Any, options: "dict[str, Any]", allow: "frozenset[str]", asShown: bool) -> "dict[str, Any]":
        """The DICOM files, or, where there are none or the volume is no longer what they say, its voxels as NRRD."""
        from heartlens.io.seg_nrrd import write_seg_nrrd
        from heartlens.io.volumes import write_volume
        from heartlens.scene import case_ct, labels_of

        header = scan.header
        told = {"kvp": header.kvp, "slice_thickness_mm": header.slice_thickness_mm}
        # Not kept: nobody can change the volume until all of this is written.
        ct, cautions = case_ct(scan.volume, **told, allow=allow, is_kept=False, aside=meanwhile)
        isChanged = any(caution.code == "changed" for caution in cautions)
        if self.method.segmentation is not None:
            path = self._folder() / "labels.seg.nrrd"
            labels = labels_of(self.method.segmentation, ct)
            meanwhile(partial(write_seg_nrrd, path, ct, labels))
            options.update({"segmentation": str(path), "bundle": None})
        if scan.files and not asShown and not isChanged:
            for name, known in (("kvp", header.kvp), ("thickness-mm", header.slice_thickness_mm)):
                if options[name] != known:
                    options[name] = None  # the files say it, and what is said in the panel is for those that do not
            return {"files": scan.files}
        options.update({"kvp": header.kvp, "thickness-mm": header.slice_thickness_mm})
        path = self._folder() / "ct.nrrd"
        meanwhile(partial(write_volume, path, ct))
        return {"input": path}

    def _folder(self) -> Path:
        """For what is handed to the run; of the user alone, as results are."""
        if self._copy is None:
            self._copy = Path(slicer.app.temporaryPath) / f"HeartLens-{datetime.now():%Y%m%d%H%M%S%f}"
            self._copy.mkdir(mode=0o700, parents=True)
        return self._copy

    def _asksForScreen(self, decoder: str) -> bool:
        """Slicer shows more kinds of DICOM than its Python decodes: what is on the screen can be scored."""
        if decoder in self._arrived:
            tell(_("{name} was installed. Restart Slicer, then score this scan.").format(name=decoder))
            return False
        state = _("is installed and cannot be used here") if is_installed(decoder) else _("is not installed")
        question = _(
            "The DICOM files of this scan are compressed in a way that needs {name}, which {state}.\n\n"
            "Score what is on the screen? DICOM SEG and SR cannot be written then."
        )
        return asks(question.format(name=decoder, state=state))

    def _dropCopy(self) -> None:
        """A copy of a person's scan is not left about: the case folder has its own."""
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)
            self._copy = None

    def _warnUnlessRequested(self, refused: InputRefused) -> None:
        if refused.code not in OVERRIDABLE:  # the others were asked about, and declined
            showError(refused)

    def _onRunEnded(self, event: Event) -> None:
        try:
            self._takeResult(event)
        finally:
            self._worklist().wake()

    def _takeResult(self, event: Event) -> None:
        self._dropCopy()
        self.input.setEnabled(True)
        self._volumeChanged()
        scored, self._scored = self._scored, None
        if event.kind == "cancelled":
            return
        if event.kind == "error":
            if asksToAllow(event.code, event.text):
                self.start(scored.allow | {event.code}, scored.asShown)
            elif event.code not in OVERRIDABLE:
                showRefusal(event.code, event.text)
            return
        volume = slicer.mrmlScene.GetNodeByID(scored.volumeID)
        if volume is None:
            text = _("The volume was deleted while it was scored. Nothing is lost: open the case folder {folder}.")
            tell(text.format(folder=event.case))
            return
        try:
            self._opened(Path(event.case), volume)
        except InputRefused as refused:
            if refused.code in ("grid", "checksum") and not scored.asShown:
                question = _(
                    "The volume on the screen is not what its DICOM files hold: it was changed after it was loaded.\n\n"
                    "Score what is on the screen? DICOM SEG and SR cannot be written then."
                )
                if asks(question):
                    self.start(scored.allow, asShown=True)
            else:
                showError(refused)

    def showReadiness(self) -> None:
        """Say whether the chosen volume can be scored, and why not."""
        scan = self.input.scan
        if self._worklist().isWaiting:
            self.section.setReady(False, WORKLIST_FIRST)
        elif scan is None:
            self.section.setReady(False, _("Choose a CT volume first."))
        else:
            self.section.setReady(not scan.refusal, scan.refusal or _("Find and score coronary calcium"))
