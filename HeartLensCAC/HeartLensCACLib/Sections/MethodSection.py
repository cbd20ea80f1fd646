"""Method: what the command line has of protocol options, and the segmentation that is to be scored instead of found.

Nothing here changes a score that is shown: the next press of Score takes it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from slicer.i18n import tr as _

from heartlens.app.options import UsageError, options_of, request_of
from heartlens.core.ct import CTHeader
from heartlens.core.protocol import CONNECTIVITIES, NORMALIZATIONS, PROFILES, ScoringProtocol
from HeartLensCACLib.Parameters import Parameters
from HeartLensCACLib.Sections.InputSection import choose, chosen, fill

OF_PROFILE = ("", _("as the profile says"))

NORMALIZATION_NAMES = {
    "increment": _("by the distance of slices"),
    "thickness": _("by the slice thickness"),
    "none": _("none"),
}

UNSET = {
    "kvp": _("as the file says"),
    "thickness-mm": _("as the file says"),
    "slab-mm": _("none"),
    "min-area-mm2": _("as the profile says"),
    "mass-factor": _("the scan's own, else no mass"),
}
"""What the least value of a number means."""


class MethodSection:
    """The Method box within Score.

    Parameters
    ----------
    ui
        Widgets by name.
    changed
        Called when the reader chose something else.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self.ui = ui
        self._changed = changed
        self._parameters: Parameters | None = None
        self._combos = {
            "profile": ui.profileComboBox,
            "connectivity": ui.connectivityComboBox,
            "normalisation": ui.normalizationComboBox,
        }
        self._numbers = {
            "kvp": ui.kvpSpinBox,
            "thickness-mm": ui.thicknessSpinBox,
            "slab-mm": ui.slabSpinBox,
            "min-area-mm2": ui.minimumAreaSpinBox,
            "mass-factor": ui.massFactorSpinBox,
        }
        self._boxes = {"kvp-adapted": ui.kvpAdaptedCheckBox, "isotropic-volume": ui.isotropicCheckBox}
        fill(ui.profileComboBox, [(name, name) for name in PROFILES])
        fill(ui.connectivityComboBox, [OF_PROFILE, *((str(n), str(n)) for n in CONNECTIVITIES)])
        fill(ui.normalizationComboBox, [OF_PROFILE, *((n, NORMALIZATION_NAMES[n]) for n in NORMALIZATIONS)])
        for name, box in self._numbers.items():
            box.setSpecialValueText(UNSET[name])
        for combo in self._combos.values():
            combo.connect("currentIndexChanged(int)", self._onChoice)
        for box in self._numbers.values():
            box.connect("valueChanged(double)", self._onChoice)
        for box in self._boxes.values():
            box.connect("toggled(bool)", self._onChoice)

    def setParameters(self, parameters: Parameters) -> None:
        """Show the method of a parameter node, and write changes there from now on."""
        self._parameters = None  # so that filling the widgets writes nothing back
        method = parameters.method
        for name, combo in self._combos.items():
            choose(combo, str(method.get(name, "")))
        for name, box in self._numbers.items():
            box.setValue(float(method.get(name, box.minimum)))
        for name, box in self._boxes.items():
            box.setChecked(bool(method.get(name, False)))
        self._parameters = parameters

    def setEnabled(self, enabled: bool) -> None:
        """Let the reader choose, or not."""
        for widget in (*self._combos.values(), *self._numbers.values(), *self._boxes.values()):
            widget.setEnabled(enabled)
        self.ui.segmentationSelector.setEnabled(enabled)

    def options(self) -> "dict[str, Any]":
        """The method in the worker's words; None for what is not said."""
        said: dict[str, Any] = {name: chosen(combo) or None for name, combo in self._combos.items()}
        said |= {name: box.value if box.value > box.minimum else None for name, box in self._numbers.items()}
        said |= {name: bool(box.checked) for name, box in self._boxes.items()}
        return said

    @property
    def segmentation(self) -> Any:
        """The segmentation to score; None to find calcium."""
        return self.ui.segmentationSelector.currentNode()

    def told(self, header: CTHeader) -> CTHeader:
        """What is known of a scan with what is said here of what its file does not say."""
        said = self.options()
        kvp = said["kvp"] if header.kvp is None else header.kvp
        thickness = said["thickness-mm"] if header.slice_thickness_mm is None else header.slice_thickness_mm
        return replace(header, kvp=kvp, slice_thickness_mm=thickness)

    def protocol(self, kvp: "float | None") -> ScoringProtocol:
        """The protocol with which a scan of that tube voltage would be scored, as far as it can be.

        Where it cannot, the worker refuses and says why.
        """
        try:
            request = request_of(options_of(self.options()))
        except UsageError:
            return ScoringProtocol()
        if request.kvp_adapted and kvp is not None:
            try:
                return request.protocol.adapted_to(kvp)
            except ValueError:
                return request.protocol
        return request.protocol

    def say(self, name: str, value: "float | bool") -> None:
        """Say something of the method as if the reader had."""
        if name in self._boxes:
            self._boxes[name].setChecked(bool(value))
        else:
            self._numbers[name].setValue(float(value))

    def forgetScan(self) -> None:
        """Another scan: what was said of the last one does not hold for it."""
        for name in ("kvp", "thickness-mm"):
            self._numbers[name].setValue(self._numbers[name].minimum)

    def ask(self, name: str) -> None:
        """Bring the reader to a number that only a person can say."""
        self.ui.scoreSection.collapsed = False
        self.ui.methodSection.collapsed = False
        self._numbers[name].setFocus()
        self._numbers[name].selectAll()

    def _onChoice(self, *_args: Any) -> None:
        if self._parameters is not None:
            said = {name: value for name, value in self.options().items() if value}
            self._parameters.method = said
            self._changed()
