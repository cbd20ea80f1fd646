"""Input: which CT, what is known of it, and of whom it is."""

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from heartlens.core.ct import CTHeader
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Scan import Scan, scanOf, showCalciumWindow
from HeartLensCACLib.Words import WARNING, panelWords

SEXES = (("", _("sex unknown")), ("F", _("female")), ("M", _("male")))
RACES = (
    ("", _("race not stated")),
    ("white", _("White")),
    ("chinese", _("Chinese")),
    ("black", _("Black")),
    ("hispanic", _("Hispanic")),
)
"""The groups of MESA's tables."""


class InputSection:
    """The Input section: the volume, and what is said of the person.

    Parameters
    ----------
    ui
        Widgets by name.
    changed
        Called when another volume was chosen.
    described
        Called when something else was said of the person.
    method
        MethodSection, for what the reader says of the scan and how it would be scored.
    offer
        Called with the scan that is shown, or None: its remedies are offered.
    """

    def __init__(
        self,
        ui: Any,
        changed: Callable[[], None],
        described: Callable[[], None],
        method: Any,
        offer: "Callable[[Scan | None], None]",
    ) -> None:
        self.ui = ui
        self._changed, self._described, self._method, self._offer = changed, described, method, offer
        self._parameters: Parameters | None = None
        self.scan: Scan | None = None
        self._known: tuple[str, CTHeader] | None = None  # by the node's ID: it would live on here when it is deleted
        fill(ui.sexComboBox, SEXES)
        fill(ui.raceComboBox, RACES)
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._onVolume)
        ui.ageSpinBox.connect("valueChanged(int)", self._onPatient)
        ui.sexComboBox.connect("currentIndexChanged(int)", self._onPatient)
        ui.raceComboBox.connect("currentIndexChanged(int)", self._onPatient)

    def setParameters(self, parameters: Parameters) -> None:
        """Show the volume, age, sex and race of a parameter node, and write changes there from now on."""
        self._parameters = None  # so that filling the widgets writes nothing back
        self.ui.volumeSelector.setCurrentNode(parameters.volume)
        self.ui.ageSpinBox.setValue(parameters.ageYears or 0)
        choose(self.ui.sexComboBox, parameters.sex)
        choose(self.ui.raceComboBox, parameters.race)
        self._parameters = parameters
        self._look(self.ui.volumeSelector.currentNode())

    def setEnabled(self, enabled: bool) -> None:
        """Let the reader choose a volume or open a case, or not."""
        for widget in (self.ui.volumeSelector, self.ui.openCaseButton):
            widget.setEnabled(enabled)

    def options(self) -> "dict[str, Any]":
        """What the panel says of the person, in the worker's words."""
        parameters = self._parameters
        return {"age": parameters.ageYears, "sex": parameters.sex or None, "race": parameters.race or None}

    def belongs(self, nodes: Any, header: CTHeader) -> None:
        """A case is shown: what it says of its volume is known, and what it made itself is no CT to be scored."""
        self._known = (nodes.volume.GetID(), header)
        made = [nodes.overlay.GetID()] if nodes.overlay is not None else []
        self.ui.volumeSelector.sortFilterProxyModel().hiddenNodeIDs = made
        showCalciumWindow(nodes.volume)

    def forget(self) -> None:
        """Before the scene closes."""
        self._known = None
        self.ui.volumeSelector.sortFilterProxyModel().hiddenNodeIDs = []

    def refresh(self) -> None:
        """Look at the volume again: it may have been changed since."""
        self._look(self.ui.volumeSelector.currentNode())

    def _onVolume(self, volume: Any = None) -> None:
        if self._parameters is None:
            return
        volume = self.ui.volumeSelector.currentNode()
        isOther = volume is not None and volume is not self._parameters.volume
        self._parameters.volume = volume
        if isOther:
            self._method.forgetScan()
        if volume is not None:
            showCalciumWindow(volume)
        self._look(volume)
        self._changed()  # first: the case that was open is not of this person
        if isOther:
            self._fillPatient(self.scan.header)

    def _look(self, volume: Any) -> None:
        volumeID, header = self._known or ("", None)
        known = header if volume is not None and volume.GetID() == volumeID else None
        self.scan = None if volume is None else scanOf(volume, self._method, known)
        if self.scan is None:
            facts, notes = (_("Choose a CT volume, or open a case."),), ()
        elif self.scan.refusal:
            facts, notes = (_("Cannot be scored."),), (self.scan.refusal,)
        else:
            facts, notes = self.scan.facts, tuple(caution.text for caution in self.scan.cautions)
        self.ui.factsLabel.setText("\n".join(facts))
        self.ui.warningsLabel.setText("\n".join(f"{WARNING} {panelWords(note)}" for note in notes) or _("none"))
        self.ui.notesLabel.setVisible(self.scan is not None)
        self.ui.warningsLabel.setVisible(self.scan is not None)
        self._offer(self.scan)

    def _fillPatient(self, header: CTHeader) -> None:
        """Replace what was said of another patient by what the header says, or by nothing; it never says the race."""
        self.ui.ageSpinBox.setValue(int(header.patient_age_years or 0))
        choose(self.ui.sexComboBox, header.patient_sex or "")
        choose(self.ui.raceComboBox, "")

    def _onPatient(self, *_args: Any) -> None:
        if self._parameters is not None:
            self._parameters.ageYears = self.ui.ageSpinBox.value
            self._parameters.sex = chosen(self.ui.sexComboBox)
            self._parameters.race = chosen(self.ui.raceComboBox)
            self._described()


def fill(combo: Any, choices: Any) -> None:
    """Append (value, text) choices to a combo box."""
    for value, text in choices:
        combo.addItem(text, value)


def choose(combo: Any, value: str) -> None:
    """Select the entry of a combo box with this value; the first one where there is none."""
    combo.setCurrentIndex(max(0, combo.findData(value)))


def chosen(combo: Any) -> str:
    """Value of the selected entry of a combo box; "" when nothing is selected."""
    return str(combo.itemData(combo.currentIndex) or "")
