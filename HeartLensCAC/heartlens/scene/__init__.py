"""A `Case` as nodes of a MRML scene, and back. The only part that knows slicer and vtk.

The scene is always passed in: nothing here asks for the application, its modules or Qt, so the same calls run in the
desktop, in a browser's server and in tests. Errors for the reader are `InputRefused`; the scene is then as it was.
Slicer's space is RAS and ours is LPS; only `scene.geometry` turns one into the other.
"""

from heartlens.scene.geometry import (
    case_ct,
    dicom_instances,
    index_of,
    position_of,
    require_scored,
    require_untransformed,
    shows_ct,
    voxels_in,
)
from heartlens.scene.marks import Mark, show_marks
from heartlens.scene.nodes import (
    SCENE_WINDOW_HU,
    CaseNodes,
    find_cases,
    read_segmentation,
    remove_case,
    show_case,
    show_overlay,
    update_lesions,
)
from heartlens.scene.segmentation import labels_of
from heartlens.scene.watch import Watch

__all__ = [
    "SCENE_WINDOW_HU",
    "CaseNodes",
    "Mark",
    "Watch",
    "case_ct",
    "dicom_instances",
    "find_cases",
    "index_of",
    "labels_of",
    "position_of",
    "read_segmentation",
    "remove_case",
    "require_scored",
    "require_untransformed",
    "show_case",
    "show_marks",
    "show_overlay",
    "shows_ct",
    "update_lesions",
    "voxels_in",
]
