"""The nodes of one case: made, found again, brought up to date, removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.case import Case


@dataclass(frozen=True)
class CaseNodes:
    """The nodes of one case. The segmentation refers to all others, so a saved scene keeps them together.

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode, the CT
    segmentation : vtkMRMLSegmentationNode, one segment per `Artery`, ids LM, LAD, LCX, RCA, OTHER, UNASSIGNED;
        one layer, label value = artery code; what the reader edits
    automatic : the result before any edit; hidden from selectors, so that no tool can edit it
    lesion_table, totals_table, risk_table, slice_table : vtkMRMLTableNode
    chart : vtkMRMLPlotChartNode, score (and probability) along z, drawn from `slice_table`
    overlay : vtkMRMLScalarVolumeNode of the slice probability, or None when the case has none
    """

    volume: Any
    segmentation: Any
    automatic: Any
    lesion_table: Any
    totals_table: Any
    risk_table: Any
    slice_table: Any
    chart: Any
    overlay: Any = None


def show_case(scene: Any, case: Case, *, volume: Any = None, name: str | None = None) -> CaseNodes:
    """Put a case into a scene.

    Parameters
    ----------
    scene : vtkMRMLScene
    volume : the node on which the case was scored; None makes one. Other nodes go into its study of the subject
        hierarchy.
    name : start of the nodes' names; the volume's name, or "HeartLens"

    Raises
    ------
    Refused : ``grid`` or ``checksum``: the volume is another grid, or its voxels changed since they were scored;
        ``input``: a transform, or not a volume. Nothing was added.
    """
    raise NotImplementedError


def update_lesions(scene: Any, nodes: CaseNodes, case: Case) -> None:
    """Show another state of the same case (after an edit, undo or redo): voxels and rows that differ are written.

    Strokes that were not committed by `read_segmentation` are overwritten.

    Raises
    ------
    Refused : ``input``: a node of the case was deleted; show the case again (no edit is lost: they are in the case)
    """
    raise NotImplementedError


def show_overlay(
    scene: Any, nodes: CaseNodes, case: Case, values: NDArray[np.floating], *, name: str = "overlay"
) -> Any:
    """A map of the network over the CT (attention, probability) as a scalar volume that covers the same space.

    Parameters
    ----------
    values : (k, rows, columns), one plane per slice of `case.ct`, any number of rows and columns; (k,) is one value
        per slice

    Returns
    -------
    vtkMRMLScalarVolumeNode, in the case's study; show it as foreground
    """
    raise NotImplementedError


def find_cases(scene: Any) -> list[CaseNodes]:
    """The cases in a scene whose nodes are all there, as after loading an MRB or reloading the module."""
    raise NotImplementedError


def remove_case(scene: Any, nodes: CaseNodes, *, with_volume: bool = False) -> None:
    """Take the case's nodes out of the scene; nodes that are gone already are no matter."""
    raise NotImplementedError
