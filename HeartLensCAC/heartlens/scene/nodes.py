"""The nodes of one case: made, found again, brought up to date, removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.case.correction import apply_labeled_voxels
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.grid import IndexMap, index_map
from heartlens.scene.geometry import (
    Aside,
    array_of,
    at_once,
    image_of,
    lps_affine,
    require_scored,
    require_untransformed,
    set_image,
    set_voxels,
)
from heartlens.scene.hierarchy import put_beside, put_in_study
from heartlens.scene.segmentation import drop_voxels, fill, is_filled, labeled_voxels
from heartlens.scene.tables import fill_table, lesion_columns, risk_columns, slice_columns, total_columns

SCENE_WINDOW_HU = (-220.0, 580.0)
"""Black and white of a CT: width 800, level 180, as calcium is read; fat stays visible, and calcium keeps shades up to
the highest weight."""

FILL_OPACITY = 0.4
"""Of the color inside a segment in slice views: the HU below must stay readable."""

_ROLE = "HeartLens."


@dataclass(frozen=True)
class CaseNodes:
    """The nodes of one case. The segmentation refers to all others, so a saved scene keeps them together.

    Parameters
    ----------
    volume
        vtkMRMLScalarVolumeNode, the CT
    segmentation
        vtkMRMLSegmentationNode, one segment per `Artery`, ids LM, LAD, LCX, RCA, OTHER, UNASSIGNED, all in one layer
        with the artery's code as label value; what the reader edits
    automatic
        The result before any edit; hidden from selectors, so that no tool can edit it.
    lesion_table, totals_table, risk_table, slice_table
        vtkMRMLTableNode, columns as in `scene.tables`
    series, chart
        vtkMRMLPlotSeriesNode and vtkMRMLPlotChartNode, score along z, drawn from `slice_table`
    overlay
        vtkMRMLScalarVolumeNode of the slice probability, or None when the case has none
    """

    volume: Any
    segmentation: Any
    automatic: Any
    lesion_table: Any
    totals_table: Any
    risk_table: Any
    slice_table: Any
    series: Any
    chart: Any
    overlay: Any = None

    def all(self) -> dict[str, Any]:
        """The nodes by name, without those that the case does not have."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: node for name, node in named.items() if node is not None}


def show_case(
    scene: Any, case: Case, *, volume: Any = None, name: str | None = None, aside: Aside = at_once
) -> CaseNodes:
    """Put a case into a scene. No view shows anything of it before all of it is there.

    Parameters
    ----------
    scene
        vtkMRMLScene
    case
        What to show.
    volume
        The node on which the case was scored; None makes one. Other nodes go into its study of the subject hierarchy.
    name
        start of the nodes' names; the volume's name, or "CT"
    aside
        Makes the calls that touch no node, and may draw meanwhile.

    Raises
    ------
    InputRefused
        ``grid`` or ``checksum``: the volume is another grid, or its voxels changed since they were scored; ``input``: a
        transform, not a volume, or nodes that left the scene meanwhile. Nothing was added.
    """
    if volume is not None:
        require_scored(volume, case, aside=aside)
        if not scene.IsNodePresent(volume):
            raise InputRefused("input", "the volume: it is no longer in the scene; load the series again")
    added: list[Any] = []
    try:
        return _show(scene, case, volume, name or (volume.GetName() if volume is not None else "CT"), aside, added)
    except BaseException:
        for node in reversed(added):
            _remove(scene, node)
        raise


def update_lesions(scene: Any, nodes: CaseNodes, case: Case) -> None:
    """Show another state of the same case (after an edit, undo or redo): voxels and rows that differ are written.

    Strokes that were not committed by `read_segmentation` are overwritten.

    Raises
    ------
    InputRefused
        ``input``: a node of the case was deleted; show the case again (no edit is lost: they are in the case)
    """
    mapping = _require_whole(scene, nodes, case)
    if not is_filled(nodes.segmentation, case.shown, case.source_ct):
        _fill(nodes.segmentation, case, nodes.volume, mapping)
    _fill_tables(nodes, case)


def read_segmentation(scene: Any, nodes: CaseNodes, case: Case, *, who: str = "", when: str = "") -> Case:
    """Commit what the Segment Editor did: the case whose labels are those of the segmentation on the screen.

    Call it after every stroke, then `update_lesions` with its result, which takes painted voxels below the threshold
    and pieces below the minimum area off the screen again. All changes are one action in the case's undo.

    Parameters
    ----------
    scene
        vtkMRMLScene
    nodes
        Those of the case.
    case
        The case as it was shown last.
    who, when
        Reader and ISO 8601 time, kept with each edit.

    Returns
    -------
    Case
        `case` itself, the same object, when nothing that counts has changed

    Raises
    ------
    InputRefused
        As `labels_of`, or ``input`` when a node of the case was deleted; case and scene are as they were.
    """
    _require_whole(scene, nodes, case)
    return apply_labeled_voxels(case, labeled_voxels(nodes.segmentation, case.source_ct), who=who, when=when)


def show_overlay(
    scene: Any, nodes: CaseNodes, case: Case, values: NDArray[np.floating], *, name: str = "overlay"
) -> Any:
    """A map of the network over the CT (attention, probability) as a scalar volume that covers the same space.

    Parameters
    ----------
    scene
        vtkMRMLScene
    nodes
        Those of the case.
    case
        The case that is shown.
    values
        (k, rows, columns), one plane per slice of `case.ct`, any number of rows and columns; (k,) is one value per
        slice
    name
        End of the node's name.

    Returns
    -------
    Any
        vtkMRMLScalarVolumeNode, in the case's study; show it as foreground
    """
    _require_whole(scene, nodes, case)
    added: list[Any] = []
    try:
        return _add_overlay(scene, nodes.volume, case.ct, values, f"{nodes.volume.GetName()} {name}", added)
    except BaseException:
        for node in reversed(added):
            _remove(scene, node)
        raise


def find_cases(scene: Any) -> list[CaseNodes]:
    """The cases in a scene whose nodes are all there, as after loading an MRB or reloading the module."""
    cases = []
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        segmentation = scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
        named = {
            field.name: segmentation.GetNodeReference(_ROLE + field.name)
            for field in fields(CaseNodes)
            if field.name != "segmentation"
        }
        if all(node is not None for name, node in named.items() if name != "overlay"):
            cases.append(CaseNodes(segmentation=segmentation, **named))
    return cases


def remove_case(scene: Any, nodes: CaseNodes, *, with_volume: bool = False) -> None:
    """Take the case's nodes out of the scene; nodes that are gone already are no matter."""
    for name, node in reversed(nodes.all().items()):
        if name != "volume" or with_volume:
            _remove(scene, node)


def _remove(scene: Any, node: Any) -> None:
    """Take a node out of the scene, with what only it used: how it is drawn and where it was saved."""
    if not scene.IsNodePresent(node):
        return
    count = node.GetNumberOfDisplayNodes() if node.IsA("vtkMRMLDisplayableNode") else 0
    own = [node.GetNthDisplayNode(n) for n in range(count)]
    own += [node.GetStorageNode()] if node.IsA("vtkMRMLStorableNode") else []
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node)
    scene.RemoveNode(node)
    if node.IsA("vtkMRMLSegmentationNode"):
        drop_voxels(node.GetSegmentation())
    left = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), left, True)
    if left.IsId(item) >= 0:  # the desktop took it out with the node, a scene without an application did not
        hierarchy.RemoveItem(item, False, False)
    for other in own:
        if other is not None and scene.IsNodePresent(other):
            scene.RemoveNode(other)


def _show(scene: Any, case: Case, volume: Any, name: str, draws: Aside, added: list[Any]) -> CaseNodes:
    def add(class_name: str, what: str) -> Any:
        node = scene.AddNewNodeByClass(class_name, scene.GenerateUniqueName(f"{name} {what}".strip()))
        added.append(node)
        return node

    def aside(do: Callable[[], Any]) -> Any:
        result = draws(do)
        if not all(scene.IsNodePresent(node) for node in (*added, *given)):
            raise InputRefused("input", "the scene was closed while the case was put into it; open the case again")
        return result

    given = () if volume is None else (volume,)
    if volume is None:
        volume = _add_volume(add, case, aside)
    mapping = _mapping(volume, case.source_ct)
    segmentation = _add_segmentation(add, "calcium", volume)
    _fill(segmentation, case, volume, mapping, aside)
    automatic = _add_segmentation(add, "calcium, automatic", volume)
    unedited = aside(lambda: replace(case, edits=())) if case.edits else case
    _fill(automatic, unedited, volume, mapping, aside)
    automatic.SetHideFromEditors(True)

    tables = {what: add("vtkMRMLTableNode", what) for what in ("lesions", "totals", "risk", "slices")}
    series, chart = _add_chart(add, tables["slices"])
    overlay = None
    if case.slice_probability is not None:
        title = f"{name} slice probability"
        overlay = _add_overlay(scene, volume, case.ct, np.nan_to_num(case.slice_probability), title, added)
    nodes = CaseNodes(
        volume=volume,
        segmentation=segmentation,
        automatic=automatic,
        lesion_table=tables["lesions"],
        totals_table=tables["totals"],
        risk_table=tables["risk"],
        slice_table=tables["slices"],
        series=series,
        chart=chart,
        overlay=overlay,
    )
    aside(lambda: case.auto_report)
    _fill_tables(nodes, case)
    for role, node in nodes.all().items():
        if node is not segmentation:
            segmentation.SetNodeReferenceID(_ROLE + role, node.GetID())
    put_in_study(scene, volume, nodes.all().values(), case.source_ct.header.study_uid)
    segmentation.GetDisplayNode().SetVisibility(True)
    return nodes


def _add_volume(add: Callable[[str, str], Any], case: Case, aside: Aside) -> Any:
    image = aside(partial(image_of, case.source_ct.hu))
    volume = add("vtkMRMLScalarVolumeNode", "")
    _draw_between(volume, *SCENE_WINDOW_HU)
    set_image(volume, image, case.source_ct.affine)
    instances = dict.fromkeys(case.source_ct.header.sop_instance_uids)  # a multi-frame object repeats its own
    if instances:
        volume.SetAttribute("DICOM.instanceUIDs", " ".join(instances))
    return volume


def _draw_between(volume: Any, low: float, high: float) -> Any:
    """Display a volume with this window; before it has voxels, or Slicer works out a window of its own for a second."""
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    return display


def _add_segmentation(add: Callable[[str, str], Any], what: str, volume: Any) -> Any:
    node = add("vtkMRMLSegmentationNode", what)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)
    node.GetDisplayNode().SetOpacity2DFill(FILL_OPACITY)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node


def _add_chart(add: Callable[[str, str], Any], table: Any) -> tuple[Any, Any]:
    series = add("vtkMRMLPlotSeriesNode", "score along z")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("z")
    series.SetYColumnName("agatston")
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar)
    series.SetColor(0.0, 0.0, 0.0)
    chart = add("vtkMRMLPlotChartNode", "score along z (chart)")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetTitle("Agatston score along z")
    chart.SetXAxisTitle("z, mm (feet to head)")
    chart.SetYAxisTitle("Agatston score of the slice")
    chart.SetLegendVisibility(False)
    return series, chart


def _add_overlay(
    scene: Any, volume: Any, ct: CTVolume, values: NDArray[np.floating], name: str, added: list[Any]
) -> Any:
    if values.ndim == 1:
        values = np.repeat(values, 4).reshape(-1, 2, 2)  # two by two: one voxel has no inside to draw
    slices, rows, columns = values.shape
    if slices != ct.shape[0]:
        raise ValueError(f"expected a plane for each of {ct.shape[0]} slices, got {slices}")
    affine = np.array(ct.affine)
    for axis, coarse, fine in ((0, columns, ct.shape[2]), (1, rows, ct.shape[1])):
        step = fine / coarse  # columns of the CT that one of the map's covers
        affine[:3, 3] += ct.affine[:3, axis] * (step - 1) / 2
        affine[:3, axis] *= step
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    added.append(node)
    display = _draw_between(node, 0.0, max(1.0, float(values.max(initial=0.0))))
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    display.SetInterpolate(False)
    set_voxels(node, values.astype(np.float32), affine)
    put_beside(scene, volume, node)
    return node


def _fill(node: Any, case: Case, volume: Any, mapping: IndexMap, aside: Aside = at_once) -> None:
    algorithm_type = "SEMIAUTOMATIC" if case.edits else "AUTOMATIC"
    labels = aside(lambda: case.shown)
    fill(node.GetSegmentation(), labels, case.source_ct, volume, mapping, algorithm_type)


def _fill_tables(nodes: CaseNodes, case: Case) -> None:
    fill_table(nodes.lesion_table, lesion_columns(case))
    fill_table(nodes.totals_table, total_columns(case))
    fill_table(nodes.risk_table, risk_columns(case))
    fill_table(nodes.slice_table, slice_columns(case))


def _require_whole(scene: Any, nodes: CaseNodes, case: Case) -> IndexMap:
    """Refuse to go on when a node of the case was deleted, moved by a transform, or belongs to another case."""
    for name, node in nodes.all().items():
        if not scene.IsNodePresent(node):
            what = name.replace("_", " ")
            text = f"the {what} of this case was deleted from the scene; show the case again, its edits are not lost"
            raise InputRefused("input", text)
    require_untransformed(nodes.volume, "the volume")
    require_untransformed(nodes.segmentation, "the segmentation")
    return _mapping(nodes.volume, case.source_ct)


def _mapping(volume: Any, ct: CTVolume) -> IndexMap:
    k, j, i = array_of(volume.GetImageData()).shape
    return index_map((k, j, i), lps_affine(volume), ct, "the volume")
