"""Being told when the reader edits the segmentation, or deletes a node of the case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heartlens.scene.nodes import CaseNodes


class Watch:
    """Observers on a case's nodes; `close` removes every one of them.

    Parameters
    ----------
    edited : called with nothing after voxels or segments of the segmentation changed, `update_lesions` included
        (`read_segmentation` then returns the same case); it may be called several times for one stroke, so wait a
        moment before committing
    gone : called with the name of the node, when the volume or the segmentation left the scene
    """

    def __init__(self, scene: Any, nodes: CaseNodes, edited: Callable[[], None], gone: Callable[[str], None]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Remove the observers; may be called twice, and after nodes or scene are gone."""
        raise NotImplementedError
