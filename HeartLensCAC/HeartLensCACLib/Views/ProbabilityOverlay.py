"""What the networks say of each slice, as a color over the CT: on the reader's word alone."""

from typing import Any

import slicer

OPACITY = 0.3
"""The CT below must stay readable."""


class ProbabilityOverlay:
    """The slice probability of the case that is shown, as the foreground of all slice views.

    The reader's wish for it holds for the next case, too; what was the foreground before comes back.

    Parameters
    ----------
    shown
        With `nodes` that show a case, or None.
    """

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._isWanted = False
        self._overlayID = ""
        self._before: dict[str, tuple[str | None, float]] = {}  # by the view's composite node

    @property
    def isThere(self) -> bool:
        """Whether the case has a probability to show."""
        return self._shown.nodes is not None and self._shown.nodes.overlay is not None

    @property
    def isShown(self) -> bool:
        """Whether the views show it."""
        return self._isWanted and self.isThere

    def toggle(self) -> None:
        """Show it, or what was there before."""
        self._isWanted = not self._isWanted
        self.follow()

    def follow(self) -> None:
        """All slice views, new ones of a layout included, are as the reader wants it."""
        if not self.isShown:
            self.leave()
            return
        self._overlayID = self._shown.nodes.overlay.GetID()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            there = composite.GetForegroundVolumeID()
            if there != self._overlayID:
                self._before[composite.GetID()] = (there, composite.GetForegroundOpacity())
                composite.SetForegroundVolumeID(self._overlayID)
                composite.SetForegroundOpacity(OPACITY)

    def leave(self) -> None:
        """The views have the foreground that they had before, where it still is this one."""
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            before, opacity = self._before.get(composite.GetID(), (None, 0.0))
            if self._overlayID and composite.GetForegroundVolumeID() == self._overlayID:
                isThere = before is not None and slicer.mrmlScene.GetNodeByID(before) is not None
                composite.SetForegroundVolumeID(before if isThere else None)
                composite.SetForegroundOpacity(opacity)
        self._before, self._overlayID = {}, ""
