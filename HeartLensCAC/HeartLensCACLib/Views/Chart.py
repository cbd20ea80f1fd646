"""The chart of the score along z beside the views: another layout, on the reader's word alone, and back again."""

from typing import Any

import slicer

from HeartLensCACLib.Timers import singleShot
from HeartLensCACLib.Views.ReadingRoom import LAYOUT_ID, LAYOUT_WITH_CHART_ID, addLayouts


class Chart:
    """The chart of the case that is shown; the reader's wish for it holds for the next case, too.

    Parameters
    ----------
    shown
        With `reading`, a ReviewSession or None, and `nodes` that show it.
    """

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._isWanted = False
        self._before: int | None = None  # layout that the reader had without the chart
        self._with: int | None = None
        self._timer = singleShot(0, self._settle)

    @property
    def isShown(self) -> bool:
        """Whether the layout has the chart now; the reader may have chosen another one in Slicer's menu."""
        manager = slicer.app.layoutManager()
        return self._before is not None and manager is not None and _arrangement(manager) == self._with

    def toggle(self) -> None:
        """Show the chart beside the views, or lay them out as they were before."""
        self._isWanted = not self.isShown
        self.follow()

    def follow(self) -> None:
        """The layout, and the case in it, are as the reader wants it."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        if not self._isWanted or self._shown.reading is None:
            self.leave()
            return
        if not self.isShown:
            self._before = _arrangement(manager)
            self._with = layoutWithChart(self._before)
            addLayouts(manager.layoutLogic().GetLayoutNode())
            manager.setLayout(self._with)
        for view in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
            view.SetPlotChartNodeID(self._shown.nodes.chart.GetID())

    def leave(self) -> None:
        """The layout is as it was before, where it still is the one with the chart."""
        if self.isShown:
            for view in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
                view.SetPlotChartNodeID(None)
            slicer.app.layoutManager().setLayout(self._before)
        self._before = self._with = None

    def forget(self) -> None:
        """The case goes: without another in its place the layout goes back as well."""
        self._timer.start()

    def _settle(self) -> None:
        self._timer.stop()
        if self._shown.reading is None:
            self.leave()


def layoutWithChart(arrangement: int) -> int:
    """The layout that is most like another one and has a view for charts."""
    if arrangement in (LAYOUT_ID, LAYOUT_WITH_CHART_ID):
        return LAYOUT_WITH_CHART_ID
    return int(slicer.vtkSlicerPlotsLogic.GetLayoutWithPlot(arrangement))


def _arrangement(manager: Any) -> int:
    return int(manager.layoutLogic().GetLayoutNode().GetViewArrangement())
