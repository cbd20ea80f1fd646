"""The remedy of a caution is a button beside it, where the panel has one."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import qt
from slicer.i18n import tr as _

from heartlens.case.case import Case
from heartlens.core.ct import CTHeader
from heartlens.core.errors import WarningRecord
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import installed_bundles
from HeartLensCACLib.Requirements import RULES
from HeartLensCACLib.Sections.InputSection import choose

SLAB_MM = 3.0
"""To which thin slices are averaged: what the Agatston score was defined on."""


class Remedy(NamedTuple):
    """What can be done about a caution.

    Parameters
    ----------
    text
        Of the button.
    do
        What it does.
    isWhole
        Scoring again is all that is left to do; else the reader has to say something first.
    """

    text: str
    do: "Callable[[], None]"
    isWhole: bool


class Remedies:
    """The table from the code of a caution to what can be done about it.

    Parameters
    ----------
    ui
        Widgets by name.
    method
        MethodSection.
    scoreAgain
        Called after a remedy of a case that was scored already.
    """

    def __init__(self, ui: Any, method: Any, scoreAgain: "Callable[[], None]") -> None:
        self._ui, self._method, self._scoreAgain = ui, method, scoreAgain
        self._ofInput, self._ofResult = RemedyButtons(ui.inputRemedies), RemedyButtons(ui.resultRemedies)
        self._table: dict[str, Callable[[CTHeader], Remedy | None]] = {
            "kvp": self._ofVoltage,
            "unknown-thickness": self._ofThickness,
            "thin-slices": self._ofThinSlices,
            "rules": self._ofRules,
            "no-bundle": self._ofRules,
        }

    def offer(self, scan: Any) -> None:
        """Under the notes on a volume that is not scored yet; None offers nothing."""
        cautions = () if scan is None else scan.cautions
        self._ofInput.show(remedy for caution in cautions if (remedy := self.of(caution, scan.header)))

    def offerOfCase(self, case: "Case | None") -> None:
        """Under the cautions of a case that was scored: its remedies end in another score."""
        shown = []
        for caution in () if case is None else case.cautions:
            remedy = self.of(caution, case.source_ct.header)
            if remedy is not None and remedy.isWhole:
                text = _("{remedy} and score again").format(remedy=remedy.text)
                remedy = Remedy(text, partial(self._doAndScore, remedy.do), True)
            if remedy is not None:
                shown.append(remedy)
        self._ofResult.show(shown)

    def of(self, caution: WarningRecord, header: CTHeader) -> "Remedy | None":
        """The remedy of a caution on a scan; None where the panel has none, or it was taken already."""
        make = self._table.get(caution.code)
        return None if make is None else make(header)

    def _doAndScore(self, do: "Callable[[], None]") -> None:
        do()
        self._scoreAgain()

    def _ofVoltage(self, header: CTHeader) -> "Remedy | None":
        said = self._method.options()
        if header.kvp is None:
            ask = partial(self._method.ask, "kvp")
            return None if said["kvp"] else Remedy(_("State the tube voltage"), ask, False)
        if said["kvp-adapted"]:
            return None
        try:
            ScoringProtocol().adapted_to(header.kvp)
        except ValueError:  # none are published
            return None
        text = _("Use the thresholds for {kvp:g} kVp").format(kvp=header.kvp)
        return Remedy(text, partial(self._method.say, "kvp-adapted", True), True)

    def _ofThickness(self, header: CTHeader) -> "Remedy | None":
        if self._method.options()["thickness-mm"]:
            return None
        return Remedy(_("State the slice thickness"), partial(self._method.ask, "thickness-mm"), False)

    def _ofThinSlices(self, header: CTHeader) -> "Remedy | None":
        if self._method.options()["slab-mm"]:
            return None
        text = _("Average slices to {mm:g} mm").format(mm=SLAB_MM)
        return Remedy(text, partial(self._method.say, "slab-mm", SLAB_MM), True)

    def _ofRules(self, header: CTHeader) -> "Remedy | None":
        combo, installed = self._ui.bundleComboBox, next(iter(installed_bundles()), "")
        if not installed or combo.itemData(combo.currentIndex) != RULES:
            return None
        text = _("Use the networks {name}").format(name=installed)
        return Remedy(text, partial(choose, combo, installed), True)


class RemedyButtons:
    """A row of buttons under the cautions.

    Parameters
    ----------
    widget
        That they are laid out in.
    """

    def __init__(self, widget: Any) -> None:
        self._widget = widget
        self._layout = qt.QVBoxLayout(widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._shown: list[Any] = []

    def show(self, remedies: "Iterable[Remedy]") -> None:
        """Offer these remedies and no others."""
        remedies = list(remedies)
        for button in self._shown:
            button.setVisible(False)
            button.deleteLater()
        self._shown = []
        for remedy in remedies:
            button = qt.QPushButton(remedy.text)
            button.connect("clicked(bool)", lambda _on=False, do=remedy.do: do())
            self._layout.addWidget(button)
            self._shown.append(button)
        self._widget.setVisible(bool(remedies))
