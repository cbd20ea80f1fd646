"""A MRML scene without Slicer's application: real scene, real logics, no window. For the slicer-core wheel.

What the desktop builds at start-up is built here by hand, because the wheel has no application: the logics that the
node classes and `slicer.util` expect, and a cache folder without which an MRB cannot be opened.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import vtk


class HeadlessScene:
    """A scene and the logics around it.

    Parameters
    ----------
    cache : folder for unpacked scene bundles
    """

    def __init__(self, cache: Path) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = application = slicer.vtkSlicerApplicationLogic()
        application.SetMRMLScene(self.scene)
        colors = application.GetColorLogic()
        colors.SetMRMLScene(self.scene)
        colors.AddDefaultColorNodes()
        application.SetSliceLogics(vtk.vtkCollection())
        application.SetViewLogics(vtk.vtkCollection())
        self._cache = slicer.vtkCacheManager()
        self._cache.SetRemoteCacheDirectory(str(cache))
        self._cache.SetMRMLScene(self.scene)
        self._files = slicer.vtkDataIOManager()
        self._files.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._files)
        self.scene.SetCacheManager(self._cache)
        application.SetModuleLogic("Colors", colors)
        self.logics: dict[str, Any] = {
            "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic(),
            "Volumes": slicer.vtkSlicerVolumesLogic(),
            "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
            "Tables": slicer.vtkSlicerTablesLogic(),
            "Plots": slicer.vtkSlicerPlotsLogic(),
        }
        for name, logic in self.logics.items():
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(self.scene)
            application.SetModuleLogic(name, logic)

    def modules(self) -> SimpleNamespace:
        """What `slicer.modules` is on the desktop, for code that asks it for a logic."""
        return SimpleNamespace(
            **{name.lower(): SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in self.logics.items()}
        )
