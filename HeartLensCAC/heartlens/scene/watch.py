"""Being told when the reader edits the segmentation, or deletes a node of the case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk

from heartlens.scene.nodes import CaseNodes

_EDITED = ("SourceRepresentationModified", "SegmentModified", "SegmentAdded", "SegmentRemoved")


class Watch:
    """Observers on a case's nodes; `close` removes every one of them.

    Parameters
    ----------
    scene
        vtkMRMLScene
    nodes
        Those of the case.
    edited
        Called with nothing after voxels or segments of the segmentation changed, `update_lesions` included
        (`read_segmentation` then returns the same case); it may be called several times for one stroke, so wait a
        moment before committing.
    gone
        Called with the name of the node ("segmentation"), when a node of the case left the scene.
    """

    def __init__(self, scene: Any, nodes: CaseNodes, edited: Callable[[], None], gone: Callable[[str], None]) -> None:
        names = {node: name for name, node in nodes.all().items()}

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def removed(_caller: Any, _event: str, node: Any) -> None:
            if node in names:
                gone(names[node])

        self._observed: list[tuple[Any, int]] = []
        segmentation = nodes.segmentation.GetSegmentation()
        for event in _EDITED:
            tag = segmentation.AddObserver(getattr(slicer.vtkSegmentation, event), lambda *_: edited())
            self._observed.append((segmentation, tag))
        self._observed.append((scene, scene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, removed)))

    def close(self) -> None:
        """Remove the observers; may be called twice, and after nodes or scene are gone."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed.clear()
