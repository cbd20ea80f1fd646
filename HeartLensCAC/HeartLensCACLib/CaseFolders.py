"""Where the folder of a case is: the reader shows it, or a saved scene names it, and folders are moved; its report."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.core.errors import InputRefused
from HeartLensCACLib.Timers import singleShot
from HeartLensCACLib.Words import asks

REPORT_MS = 500
"""The case folder's report.json follows the edits at this distance; the edits themselves do not wait."""


class ReportFile:
    """report.json of the case that is open.

    Parameters
    ----------
    reading
        Gives the session that is open, or None.
    written
        Called with the folder of a case whose report was written.
    log
        Called with a line for the log.
    """

    def __init__(
        self,
        reading: "Callable[[], ReviewSession | None]",
        written: "Callable[[Path], None]",
        log: Callable[[str], None],
    ) -> None:
        self._reading, self._written, self._log = reading, written, log
        self._timer = singleShot(REPORT_MS, self.write)

    @property
    def isWaiting(self) -> bool:
        """Whether an edit is not in the report yet."""
        return bool(self._timer.active)

    def follow(self) -> None:
        """The case has changed: its report is written a little later."""
        self._timer.start()

    def flush(self) -> None:
        """Write what waits for its time."""
        if self.isWaiting:
            self.write()

    def write(self) -> None:
        """Bring the report up to date."""
        self._timer.stop()
        reading = self._reading()
        if reading is None:
            return
        try:
            reading.save_report()
            self._written(reading.folder)
        except InputRefused as refused:
            self._log(_("report.json could not be written: {code}").format(code=refused.code))


def chooseFolder(parent: Any, start: Path) -> "Path | None":
    """The case folder that the reader chooses in a dialog; None for none."""
    folder = qt.QFileDialog.getExistingDirectory(parent, _("Open a case folder"), str(start))
    return Path(folder) if folder else None


def folderOfScene(named: Path, parent: Any, casesFolder: Path) -> "Path | None":
    """The case of a loaded scene: where it says, beside it, among the cases, or where the reader shows it.

    Whether what lies there is the same case is for who opens it to check, by the voxels.
    """
    beside = Path(slicer.mrmlScene.GetURL() or ".").parent
    found = savedCase(named, (beside, casesFolder))
    if found is not None:
        return found
    text = _("The case of this scene is no longer where it was: {folder}.\n\nDo you want to show where it is now?")
    return chooseFolder(parent, casesFolder) if asks(text.format(folder=named)) else None


def savedCase(named: Path, roots: Iterable[Path]) -> "Path | None":
    """The case folder that a scene names, at its old place or under one of several others; None where it is gone.

    Parameters
    ----------
    named
        As the scene keeps it.
    roots
        Folders in which it may lie now.
    """
    words = named.parts[-2:] if named.name == "case" else named.parts[-1:]
    for place in (named, *(root.joinpath(*words) for root in roots)):
        if (place / "case.json").is_file():
            return place
    return None


def shownOf(volume: Any) -> "list[Any]":
    """What a loaded scene shows of the volume's case, as nodes of each."""
    from heartlens.scene import find_cases

    return [nodes for nodes in find_cases(slicer.mrmlScene) if nodes.volume is volume]


def replaceShown(shown: "Iterable[Any]", nodes: Any) -> None:
    """Let the nodes of the case, shown from its folder, which holds every edit, take the place of a loaded scene's.

    Parameters
    ----------
    shown
        The loaded ones; their names pass on.
    nodes
        Of the case that is open now.
    """
    from heartlens.scene import remove_case

    fresh = nodes.all()
    for old in shown:
        names = {what: node.GetName() for what, node in old.all().items()}
        remove_case(slicer.mrmlScene, old)
        for what in names.keys() & fresh.keys():
            fresh[what].SetName(names[what])
