"""The strip: total and arteries, and what lies under the mouse, docked below the views, where nothing scrolls it away.

It is there while the reader is in the module and a case is open; where Slicer has no main window, in the panel.
"""

from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from heartlens.app.review_session import ReviewSession
from heartlens.case.signature import answered
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, Artery
from heartlens.risk.evaluable import Evaluable
from heartlens.scoring.report import display_agatston
from HeartLensCACLib.Interaction.Pointing import pointedAt, voxelAt
from HeartLensCACLib.Sections.LesionQueue import arteryOrSite, isOpen
from HeartLensCACLib.Sections.Tables import LETTERS

NAME = "HeartLensStrip"
"""Of the dock widget; Slicer keeps the place of what has a name."""


class Strip:
    """One line of numbers, in a dock of Slicer's main window.

    Parameters
    ----------
    ui
        Widgets by name.
    shown
        With `reading`, a ReviewSession or None, and `nodes` that show it.
    """

    def __init__(self, ui: Any, shown: Any) -> None:
        self.ui = ui
        self._shown = shown
        self._isEntered = False
        self._window: Any = None
        self._dock: Any = None
        self._crosshair: Any = None
        self._tag: int | None = None
        ui.stripWidget.setVisible(False)

    def enter(self) -> None:
        """The reader comes to the module."""
        self._isEntered = True
        if self._dock is None:
            self._putIntoDock()
        self._observe()
        self.refresh()

    def exit(self) -> None:
        """The reader leaves the module."""
        self._isEntered = False
        self._unobserve()
        self.refresh()

    def close(self) -> None:
        """Before the module is reloaded or Slicer ends."""
        self.exit()
        if self._dock is not None:
            self._window.removeDockWidget(self._dock)
            self._dock.deleteLater()
            self._dock = self._window = None

    def refresh(self) -> None:
        """Show the numbers of the case as it is after the latest edit; no case, no strip."""
        reading = self._shown.reading
        isShown = self._isEntered and reading is not None
        self.ui.stripWidget.setVisible(isShown)
        if self._dock is not None:
            self._dock.setVisible(isShown)
        if reading is not None:
            self.ui.numbersLabel.setText(numbersOf(reading))
            self._onMouse()

    def _putIntoDock(self) -> None:
        self._window = slicer.util.mainWindow()
        if self._window is None:
            return
        self._dock = qt.QDockWidget(_("HeartLens"), self._window)
        self._dock.setObjectName(NAME)
        self._dock.setFeatures(qt.QDockWidget.NoDockWidgetFeatures)
        self._dock.setWidget(self.ui.stripWidget)
        self._window.addDockWidget(qt.Qt.BottomDockWidgetArea, self._dock)

    def _observe(self) -> None:
        self._unobserve()
        self._crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if self._crosshair is not None:
            event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
            self._tag = self._crosshair.AddObserver(event, self._onMouse)

    def _unobserve(self) -> None:
        if self._crosshair is not None:
            self._crosshair.RemoveObserver(self._tag)
            self._crosshair = None

    def _onMouse(self, *_args: Any) -> None:
        if self._shown.reading is not None:
            self.ui.pointedLabel.setText(underMouse(self._shown.reading, self._shown.nodes))


def numbersOf(reading: ReviewSession) -> str:
    """The total, each artery, how many lesions are to be decided, and whether the case is signed."""
    case = reading.case
    report, assessment = case.report, answered(case, reading.state)
    if not assessment.has_total:
        return _("No score: no heart was found.")
    parts = [_("Agatston {total}").format(total=assessment.score())]
    for artery in (*CORONARY, Artery.UNASSIGNED):
        totals = report.arteries[artery]
        if artery is Artery.UNASSIGNED and not totals.lesions:
            continue
        parts.append(f"{LETTERS[artery]} {display_agatston(totals.agatston)}")
    count = sum(isOpen(row) for row in report.lesions)
    if count:
        parts.append(_("to decide: {count}").format(count=count))
    if assessment.evaluable is Evaluable.NO:
        parts.append(assessment.headline())
    parts.append(_("signed") if reading.signature is not None else _("not signed"))
    return " \u00b7 ".join(parts)


def underMouse(reading: ReviewSession, nodes: Any) -> str:
    """What lies under the mouse in a slice view: the HU, and the lesion with its artery and score; "" outside."""
    ras = pointedAt()
    if ras is None:
        return ""
    try:
        kji = voxelAt(reading, nodes, ras)
    except InputRefused:
        return ""
    ct = reading.case.source_ct
    index = tuple(int(n) for n in np.rint(kji))
    if not all(0 <= n < size for n, size in zip(index, ct.shape, strict=True)):
        return ""
    text = _("{hu:.0f} HU").format(hu=float(ct.hu[index]))
    lesion = reading.lesion_at(kji)
    row = next((row for row in reading.case.report.lesions if row.id == lesion), None)
    if row is None:
        return text
    score = _("not counted") if row.artery is Artery.OTHER else display_agatston(row.agatston)
    return _("lesion {number}, {artery}: {score} \u00b7 {hu}").format(
        number=row.id, artery=arteryOrSite(row), score=score, hu=text
    )
