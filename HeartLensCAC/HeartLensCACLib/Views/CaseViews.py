"""Everything of the panel that is in the views: clicks and boxes, markers, the strip, and the layout for reading."""

from collections.abc import Callable
from functools import partial
from typing import Any

import slicer
from slicer.i18n import tr as _

from HeartLensCACLib.Interaction.BoxPrompt import BoxPrompt
from HeartLensCACLib.Interaction.ViewClicks import ViewClicks
from HeartLensCACLib.Sections.Strip import Strip
from HeartLensCACLib.Views.Chart import Chart
from HeartLensCACLib.Views.DifferenceMap import DifferenceMap
from HeartLensCACLib.Views.Markers import Markers
from HeartLensCACLib.Views.ProbabilityOverlay import ProbabilityOverlay
from HeartLensCACLib.Views.ReadingRoom import WINDOWS, ReadingRoom

PROBABILITY = _("How probable calcium is on each slice to the networks, as a color over the CT")
NO_PROBABILITY = _("No network looked at the slices of this case: it has no probability to show.")


class CaseViews:
    """What the views show and take while the reader is in the module.

    Parameters
    ----------
    shown
        With `reading`, a ReviewSession or None, and `nodes` that show it.
    ui
        Widgets by name.
    review
        ReviewSection: whose artery clicks and boxes go to.
    clicked
        Called with (r, a, s) in mm of a click, and whether it means the part in the slice.
    boxed
        Called with the corners of a box, RAS in mm, and the slice node.
    """

    def __init__(
        self,
        shown: Any,
        ui: Any,
        review: Any,
        *,
        clicked: "Callable[[tuple[float, float, float], bool], None]",
        boxed: "Callable[[list[Any], Any], None]",
    ) -> None:
        self.ui = ui
        self._shown, self._review = shown, review
        self.clicks = ViewClicks(clicked, lambda: review.clickArtery is not None, lambda: bool(review.brush.effect))
        self.box = BoxPrompt(boxed, self._showBox, lambda: review.clickArtery is not None)
        self.room = ReadingRoom(shown)
        self.chart = Chart(shown)
        self.probability = ProbabilityOverlay(shown)
        self.strip = Strip(ui, shown)
        self.differences = DifferenceMap(shown)
        self._markers: Markers | None = None
        self._isEntered = False
        self._isUnseen = False  # a case that no view has shown yet
        ui.boxButton.connect("clicked(bool)", lambda _on=False: self.toggleBox())
        ui.readingRoomButton.connect("clicked(bool)", lambda _on=False: self.toggleRoom())
        ui.chartButton.connect("clicked(bool)", lambda _on=False: self._toggle(self.chart))
        ui.probabilityButton.connect("clicked(bool)", lambda _on=False: self._toggle(self.probability))
        ui.calciumWindowButton.connect("clicked(bool)", lambda _on=False: self.room.window("W"))
        ui.wideWindowButton.connect("clicked(bool)", lambda _on=False: self.room.window("E"))
        ui.markersCheckBox.connect("toggled(bool)", self._onMarkers)

    def keys(self) -> "dict[str, Callable[[], None]]":
        """Key sequences, and what they do."""
        return {
            "B": self.toggleBox,
            "Esc": self.escape,
            "L": self.toggleRoom,
            "M": lambda: self.ui.markersCheckBox.setChecked(not self.ui.markersCheckBox.checked),
            **{key: partial(self.room.window, key) for key in WINDOWS},
        }

    def enter(self) -> None:
        """The reader comes to the module."""
        self._isEntered = True
        self.strip.enter()
        self.present()

    def present(self) -> None:
        """Clicks work and the views show the case while the reader is here, and not while another module is open."""
        if self._shown.reading is None or not self._isEntered:
            return
        self.clicks.install()
        if self._isUnseen:
            self._isUnseen = False
            if self.room.isShown:
                self.room.arrange()  # fits, then zooms
            else:
                slicer.util.setSliceViewerLayers(background=self._shown.nodes.volume, fit=True)
            self.chart.follow()
            self.probability.follow()
        self._showButtons()

    def exit(self) -> None:
        """The reader leaves the module."""
        self._isEntered = False
        self.box.disarm()
        self.clicks.remove()
        self.strip.exit()

    def show(self) -> None:
        """Another case: its markers; `present` brings it into the views."""
        self._isUnseen = True
        self._markers = Markers(self._shown.reading.case)
        self._onMarkers()
        self.strip.refresh()

    def refresh(self) -> None:
        """Another state of the case."""
        if self._markers is not None:
            self._markers.refresh(self._shown.reading.case)
        self.room.refresh()
        self.strip.refresh()

    def leave(self) -> "Callable[[], None]":
        """The case goes; what is returned takes markers, differences, heart and aorta out of the scene."""
        self.box.disarm()
        self.clicks.remove()
        removeSurfaces = self.room.forget()
        self.chart.forget()
        self.probability.leave()
        self.strip.refresh()
        markers, self._markers = self._markers, None
        differences, self.differences = self.differences, DifferenceMap(self._shown)

        def remove() -> None:
            removeSurfaces()
            differences.remove()
            if markers is not None:
                markers.remove()

        return remove

    def toggleBox(self) -> None:
        """Arm the box, or give the mouse back."""
        if self.box.isArmed:
            self.box.disarm()
        elif self._shown.reading is not None and self._review.clickArtery is not None:
            self.box.arm()
        self._showBox()

    def escape(self) -> None:
        """Give the mouse back, where a box was to be drawn; else let go of what the review holds."""
        if self.box.isArmed:
            self.box.disarm()
        else:
            self._review.letGo()

    def toggleRoom(self) -> None:
        """Lay the views out for reading, or as they were before."""
        self.chart.leave()  # the layout to go back to has none
        self.room.toggle()
        self.chart.follow()
        self.probability.follow()
        self._showButtons()

    def _toggle(self, extra: "Chart | ProbabilityOverlay") -> None:
        if self._shown.reading is not None:
            extra.toggle()
        self._showButtons()

    def _showButtons(self) -> None:
        self.ui.readingRoomButton.setChecked(self.room.isShown)
        self.ui.chartButton.setChecked(self.chart.isShown)
        self.ui.probabilityButton.setChecked(self.probability.isShown)
        self.ui.probabilityButton.setEnabled(self.probability.isThere)
        self.ui.probabilityButton.setToolTip(PROBABILITY if self.probability.isThere else NO_PROBABILITY)

    def _showBox(self) -> None:
        self.ui.boxButton.setChecked(self.box.isArmed)

    def _onMarkers(self, *_args: Any) -> None:
        if self._markers is not None:
            self._markers.setVisible(bool(self.ui.markersCheckBox.checked))
