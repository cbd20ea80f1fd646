"""Sign and export: what still stands in the way, who signs, and where everything was written."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.case.seal import SealState
from heartlens.case.signature import confirmation, obstacles
from heartlens.core.errors import InputRefused
from HeartLensCACLib.Parameters import keepUserSetting, userSetting
from HeartLensCACLib.Sections.LeftOutTable import LeftOutTable
from HeartLensCACLib.Timers import meanwhile
from HeartLensCACLib.Words import plainToolTip, showError


class SignSection:
    """The Sign section: who signs, what stands in the way, and where the export lies.

    Parameters
    ----------
    ui
        Widgets by name.
    flush
        Called to bring edits to the disk before anything is signed or exported.
    volume
        Gives the volume node on the screen.
    signed
        Called after a signature, which changes what may be said of the score.
    """

    def __init__(
        self, ui: Any, flush: Callable[[], None], volume: Callable[[], Any], signed: Callable[[], None]
    ) -> None:
        self.ui = ui
        self._flush, self._volume, self._signed = flush, volume, signed
        self._reading: ReviewSession | None = None
        self.leftOut = LeftOutTable(ui)
        ui.observerEdit.setText(userSetting("observer"))
        ui.organizationEdit.setText(userSetting("organization"))
        ui.observerEdit.connect("textChanged(QString)", self._draw)
        ui.organizationEdit.connect("textChanged(QString)", self._draw)
        ui.confirmCheckBox.connect("toggled(bool)", self._draw)
        ui.signButton.connect("clicked(bool)", lambda _on=False: self.signAndExport())
        ui.exportButton.connect("clicked(bool)", lambda _on=False: self.export())
        ui.openFolderButton.connect("clicked(bool)", self._onOpenFolder)
        self.clear()

    @property
    def observer(self) -> str:
        """Name of who signs, without blanks around it."""
        return self.ui.observerEdit.text.strip()

    @property
    def organization(self) -> str:
        """For whom the observer signs, without blanks around it."""
        return self.ui.organizationEdit.text.strip()

    @property
    def isConfirmed(self) -> bool:
        """Whether the box that confirms the reading is ticked."""
        return bool(self.ui.confirmCheckBox.checked)

    def focus(self) -> None:
        """Give the keyboard to what is to be filled in or confirmed next; it signs nothing."""
        edits = [edit for edit in (self.ui.observerEdit, self.ui.organizationEdit) if not edit.text.strip()]
        if self._reading is not None:
            (edits[0] if edits else self.ui.confirmCheckBox).setFocus()

    def clear(self) -> None:
        """Let go of the case; take back the confirmation, disable and fold the section."""
        self._reading = None
        self._written: Path | None = None
        self.leftOut.clear()
        self.ui.confirmCheckBox.setChecked(False)
        for label in (self.ui.exportLabel, self.ui.obstaclesLabel):
            label.setText("")
        self.ui.signSection.setEnabled(False)
        self.ui.signSection.collapsed = True

    def show(self, reading: ReviewSession) -> None:
        """Show what signing a case that was opened needs, and unfold the section."""
        self._written = None
        self.ui.signSection.setEnabled(True)
        self.ui.signSection.collapsed = False  # first: unfolding shows what was hidden while it was folded
        self.refresh(reading)

    def refresh(self, reading: ReviewSession) -> None:
        """After every edit: what was confirmed is another result now."""
        self._reading = reading
        self.ui.confirmCheckBox.setChecked(False)
        self.ui.confirmCheckBox.setText(confirmation(reading.case))
        self.leftOut.refresh(reading.case)
        self._draw()

    def signAndExport(self) -> None:
        """Sign what is on the screen and export it; a refusal is told, and then nothing is exported."""
        from heartlens.scene import require_scored

        self._flush()
        try:
            # Who signs has looked at the volume on the screen.
            require_scored(self._volume(), self._reading.case, aside=meanwhile)
            signing = partial(self._reading.sign, self.observer, self.organization, confirmed=self.isConfirmed)
            meanwhile(signing)
        except InputRefused as refused:
            showError(refused)
            return
        self._signed()
        self.export()

    def export(self) -> None:
        """Write the state that is shown into a new folder, with its signature where it has one."""
        self._flush()
        word = "unsigned" if self._reading.signature is None else "signed"
        out = _freeFolder(self._reading.folder.parent / word)
        try:
            with slicer.util.WaitCursor(True):
                leftOut = meanwhile(partial(self._reading.export, out))
        except InputRefused as refused:
            showError(refused)
            return
        self.exported(out, leftOut)

    def exported(self, folder: Path, leftOut: "list[str]") -> None:
        """Tell where the export lies and what it lacks; the observer is remembered for the next case."""
        keepUserSetting("observer", self.observer)
        keepUserSetting("organization", self.organization)
        self._written = folder
        self._leftOut = leftOut
        self._draw()

    def _draw(self, *_args: Any) -> None:
        reading = self._reading
        if reading is None:
            return
        open_ = list(obstacles(reading.case, confirmed=self.isConfirmed))
        if not self.isConfirmed:
            open_.pop()  # the box that is to be ticked says it already
        if not (self.observer and self.organization):
            open_.append(_("Enter the observer's name and the organization."))
        signature = reading.signature
        self.ui.obstaclesLabel.setText("\n".join(open_))
        self.ui.obstaclesLabel.setVisible(bool(open_) and signature is None)
        self.ui.confirmCheckBox.setVisible(signature is None)
        self.ui.signButton.setEnabled(not open_ and self.isConfirmed and signature is None)
        self.ui.signButton.setToolTip(
            plainToolTip(" ".join(open_) or _("Signing applies to this state; any edit revokes it."))
        )
        # A signature stands even where writing failed after it, or the case was opened on another day.
        self.ui.exportButton.setText(_("Export unsigned") if signature is None else _("Export again"))
        self.ui.openFolderButton.setEnabled(True)
        lines = []
        if signature is not None:
            lines.append(
                _("Signed by {observer}, {organization}, {when}.").format(
                    observer=signature.observer,
                    organization=signature.organization,
                    when=signature.when.replace("T", " "),
                )
            )
        elif reading.seal.state is not SealState.NONE:
            lines.append(_("This case: {seal}.").format(seal=reading.seal))
        if self._written is not None:
            names = ", ".join(sorted(path.name for path in self._written.iterdir()))
            lines.append(_("Written to {folder}: {names}.").format(folder=self._written, names=names))
            lines += self._leftOut
        self.ui.exportLabel.setText("\n".join(lines))
        self.ui.exportLabel.setVisible(bool(lines))

    def _onOpenFolder(self, *_args: Any) -> None:
        folder = self._written or self._reading.folder
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))


def _freeFolder(wanted: Path) -> Path:
    """The wanted folder, or the next name that is free: an export never replaces another."""
    free, n = wanted, 2
    while free.exists():
        free = wanted.with_name(f"{wanted.name}-{n}")
        n += 1
    return free
