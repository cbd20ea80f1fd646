"""A case in a scene: every voxel, name, code and number of it, where Slicer looks for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from installed import need

slicer = need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")
vtk = need("vtk", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

from heartlens.core.errors import InputRefused, WarningRecord  # noqa: E402
from heartlens.core.lesions import ARTERY_COLORS, Artery, LesionMap  # noqa: E402
from heartlens.core.provenance import LabelSource, Provenance  # noqa: E402
from heartlens.scene import (  # noqa: E402
    find_cases,
    labels_of,
    remove_case,
    require_scored,
    show_case,
    show_overlay,
    update_lesions,
)
from heartlens.scene.geometry import array_of, lps_affine, set_voxels  # noqa: E402
from heartlens.scene.segmentation import BINARY  # noqa: E402


def rows_of(table) -> list[dict[str, str]]:
    names = [table.GetColumnName(c) for c in range(table.GetNumberOfColumns())]
    return [{name: table.GetCellText(r, c) for c, name in enumerate(names)} for r in range(table.GetNumberOfRows())]


def column_of(table, name: str) -> list[float]:
    array = table.GetTable().GetColumnByName(name)
    return [array.GetValue(n) for n in range(array.GetNumberOfTuples())]


def segments_of(node) -> dict:
    inside = node.GetSegmentation()
    return {segment_id: inside.GetSegment(segment_id) for segment_id in inside.GetSegmentIDs()}


def test_the_volume_holds_every_voxel_at_its_place_in_ras(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    assert np.array_equal(array_of(nodes.volume.GetImageData()), case.ct.hu)
    assert np.array_equal(lps_affine(nodes.volume), case.ct.affine)
    ijk_to_ras = vtk.vtkMatrix4x4()
    nodes.volume.GetIJKToRASMatrix(ijk_to_ras)
    point = ijk_to_ras.MultiplyPoint((20, 8, 3, 1))  # LPS -50, -175, -692.75: right and front are positive in RAS
    assert point == (50.0, 175.0, -692.75, 1.0)


def test_every_artery_has_a_segment_with_its_color_and_codes(scene, make_case):
    segments = segments_of(show_case(scene, make_case()).segmentation)
    assert list(segments) == ["LM", "LAD", "LCX", "RCA", "OTHER", "UNASSIGNED"]
    for artery in Artery:
        segment = segments[artery.name]
        assert segment.GetName() == artery.name
        assert "#" + "".join(f"{round(255 * c):02X}" for c in segment.GetColor()) == ARTERY_COLORS[artery]
        assert segment.GetLabelValue() == int(artery)
    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.vtkSlicerTerminologiesModuleLogic
    assert logic.DeserializeTerminologyEntry(segments["LCX"].GetTerminology(), entry)
    coded = (entry.GetCategoryObject(), entry.GetTypeObject(), entry.GetAnatomicRegionObject())
    assert [(c.GetCodeValue(), c.GetCodingSchemeDesignator()) for c in coded] == [
        ("49755003", "SCT"), ("29483008", "SCT"), ("57396003", "SCT"),
    ]  # fmt: skip


def test_segments_carry_the_tags_that_slicers_dicom_export_asks_for(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    text = vtk.mutable("")
    segments_of(nodes.segmentation)["LAD"].GetTag("DICOM.SegmentAlgorithmType", text)
    assert text == "AUTOMATIC"
    segments_of(nodes.segmentation)["LAD"].GetTag("DICOM.SegmentAlgorithmName", text)
    assert text == "HeartLens"
    update_lesions(scene, nodes, case.reassign(1, Artery.LM))
    segments_of(nodes.segmentation)["LM"].GetTag("DICOM.SegmentAlgorithmType", text)
    assert text == "SEMIAUTOMATIC"
    assert nodes.volume.GetAttribute("DICOM.instanceUIDs").split()[3] == "2.25.3.3"


def test_all_segments_share_one_label_map_as_large_as_the_labels(scene, make_case):
    case = make_case()
    node = show_case(scene, case).segmentation
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation(BINARY)
    assert image.GetExtent() == (8, 39, 8, 23, 2, 9)
    assert np.array_equal(array_of(image), case.scored_codes[2:10, 8:24, 8:40])
    assert np.array_equal(labels_of(node, case.ct), case.scored_codes)
    geometry = node.GetSegmentation().GetConversionParameter("Reference image geometry")
    assert geometry.endswith("0;47;0;39;0;11;")


def test_a_case_without_calcium_has_all_its_segments_and_rows(scene, make_case):
    case = make_case()
    empty = replace(case, inputs=replace(case.inputs, auto=LesionMap.empty(case.auto.shape)))
    nodes = show_case(scene, empty)
    assert len(segments_of(nodes.segmentation)) == 6
    assert not labels_of(nodes.segmentation, case.ct).any()
    assert [row["artery"] for row in rows_of(nodes.totals_table)][:4] == ["LM", "LAD", "LCX", "RCA"]
    assert column_of(nodes.totals_table, "agatston") == [0.0] * 7
    assert nodes.lesion_table.GetNumberOfRows() == 0
    update_lesions(scene, nodes, case)
    assert np.array_equal(labels_of(nodes.segmentation, case.ct), case.scored_codes)


def test_tables_hold_the_unrounded_numbers_of_the_report(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    pixel, k = 0.5 * 0.625, 2.5 / 3
    lad, rca, other = 64 * 2, 16 * 4, 32 * 4  # voxels times weight
    expected = [0, lad, 0, rca, 0, lad + rca, other]
    assert column_of(nodes.totals_table, "agatston") == [weight * pixel * k for weight in expected]
    assert nodes.totals_table.GetColumnUnitLabel("volume") == "mm3"
    first = rows_of(nodes.lesion_table)[0]
    assert (first["artery"], first["first slice"], first["last slice"]) == ("LAD", "2", "3")
    lesion = case.report.lesions[0]
    place = [column_of(nodes.lesion_table, axis)[0] for axis in "RAS"]
    assert place == [-lesion.centroid_lps_mm[0], -lesion.centroid_lps_mm[1], lesion.centroid_lps_mm[2]]
    assert np.isnan(column_of(nodes.totals_table, "density")[0])
    assert column_of(nodes.slice_table, "agatston") == [s.agatston for s in case.report.slices]


def test_the_table_shows_the_automatic_score_beside_the_edited_one(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    update_lesions(scene, nodes, case.remove(2))
    rows = rows_of(nodes.totals_table)
    total = next(n for n, row in enumerate(rows) if row["artery"] == "TOTAL")
    before, now = case.report.total.agatston, case.remove(2).report.total.agatston
    assert column_of(nodes.totals_table, "automatic agatston")[total] == before
    assert column_of(nodes.totals_table, "difference")[total] == now - before


def test_where_no_heart_was_found_the_totals_are_empty_and_not_zero(scene, make_case):
    by_rules = {"provenance": Provenance(labels=LabelSource.RULES)}
    nodes = show_case(scene, make_case(cautions=(WarningRecord("no-heart", "no heart in view"),), **by_rules))
    for name in ("agatston", "automatic agatston", "difference"):
        assert np.isnan(column_of(nodes.totals_table, name)).all(), name
    assert not np.isnan(column_of(show_case(scene, make_case(**by_rules)).totals_table, "difference")).any()


def test_the_risk_table_marks_the_row_of_the_case_and_none_when_withheld(scene, make_case):
    case = make_case()
    marked = [row["category"] for row in rows_of(show_case(scene, case).risk_table) if row["this case"]]
    assert marked == [case.risk.label]
    withheld = make_case(cautions=(WarningRecord("extrapolated-gaps", "slices are missing"),))
    assert not [row for row in rows_of(show_case(scene, withheld).risk_table) if row["this case"]]


def test_the_chart_draws_the_score_along_z(scene, make_case):
    nodes = show_case(scene, make_case())
    assert nodes.chart.GetNumberOfPlotSeriesNodes() == 1
    series = nodes.chart.GetNthPlotSeriesNode(0)
    assert series is nodes.series
    assert series.GetTableNode() is nodes.slice_table
    for name in (series.GetXColumnName(), series.GetYColumnName()):
        assert nodes.slice_table.GetTable().GetColumnByName(name) is not None
    assert column_of(nodes.slice_table, "z")[:2] == [-700.25, -697.75]


def test_the_slice_probability_covers_exactly_the_ct(scene, make_case):
    probability = np.linspace(0, 1, 12)
    probability[3] = np.nan
    nodes = show_case(scene, make_case(slice_probability=probability))
    bounds, of_ct = np.zeros(6), np.zeros(6)
    nodes.overlay.GetRASBounds(bounds)
    nodes.volume.GetRASBounds(of_ct)
    assert bounds == pytest.approx(of_ct, abs=1e-9)
    values = array_of(nodes.overlay.GetImageData())
    assert values.shape == (12, 2, 2)
    assert values[11].tolist() == [[1, 1], [1, 1]]
    assert values[3, 0, 0] == 0


def test_a_map_of_attention_lies_over_the_voxels_it_was_made_from(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    attention = np.zeros((12, 10, 12), np.float32)
    attention[6, 5, 5] = 1.0  # rows 20-23 and columns 20-23 of slice 6: the RCA block
    node = show_overlay(scene, nodes, case, attention)
    affine = lps_affine(node)
    assert (affine @ [5, 5, 6, 1])[:3] == pytest.approx(case.ct.lps_mm((6, 21.5, 21.5)))
    with pytest.raises(ValueError, match="plane for each of 12"):
        show_overlay(scene, nodes, case, attention[:3])


def test_all_nodes_are_in_the_study_of_the_volume(scene, make_case):
    nodes = show_case(scene, make_case(slice_probability=np.zeros(12)))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    studies = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes.all().values()}
    (study,) = studies
    assert hierarchy.GetItemUID(study, "DICOM") == "2.25.1"
    assert hierarchy.GetItemLevel(study) == "Study"
    again = show_case(scene, make_case())
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(again.segmentation)) == study


def test_a_volume_in_a_study_keeps_it(scene, make_case):
    case = make_case()
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    set_voxels(volume, case.ct.hu, case.ct.affine)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "2026-01-01")
    hierarchy.CreateItem(study, volume)
    nodes = show_case(scene, case, volume=volume)
    assert nodes.volume is volume
    assert nodes.segmentation.GetName() == "heart calcium"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(nodes.segmentation)) == study


@pytest.mark.parametrize("flips", [(2,), (0,), (0, 1), (0, 1, 2)])
def test_a_volume_that_is_stored_the_other_way_round_gets_a_segmentation_on_its_own_grid(scene, make_case, flips):
    case = make_case()
    affine = np.array(case.ct.affine)
    for axis in flips:  # of i, j, k
        affine[:3, 3] += affine[:3, axis] * (case.ct.shape[2 - axis] - 1)
        affine[:3, axis] *= -1
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    set_voxels(volume, np.flip(case.ct.hu, [2 - axis for axis in flips]), affine)
    nodes = show_case(scene, case, volume=volume)
    image = nodes.segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation(BINARY)
    assert np.array_equal(lps_affine(image), affine)
    assert np.array_equal(labels_of(nodes.segmentation, case.ct), case.scored_codes)


def test_an_update_writes_voxels_and_keeps_segments_selection_and_observers(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    before = segments_of(nodes.segmentation)
    image = before["LAD"].GetRepresentation(BINARY)
    nodes.segmentation.GetDisplayNode().SetSegmentVisibility("RCA", False)
    edited = case.reassign(1, Artery.LM).remove(2)
    update_lesions(scene, nodes, edited)
    after = segments_of(nodes.segmentation)
    assert all(before[name] is after[name] for name in before)
    assert after["LAD"].GetRepresentation(BINARY) is image
    assert not nodes.segmentation.GetDisplayNode().GetSegmentVisibility("RCA")
    assert np.array_equal(labels_of(nodes.segmentation, case.ct), edited.scored_codes)


def test_an_update_that_changes_nothing_touches_no_voxel(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    image = nodes.segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation(BINARY)
    touched = image.GetMTime()
    update_lesions(scene, nodes, case)
    assert image.GetMTime() == touched


def test_the_3d_surface_is_made_again_after_an_update(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    nodes.segmentation.CreateClosedSurfaceRepresentation()
    surface = nodes.segmentation.GetClosedSurfaceInternalRepresentation("RCA")
    assert surface.GetNumberOfPoints() > 0
    update_lesions(scene, nodes, case.remove(2))
    nodes.segmentation.CreateClosedSurfaceRepresentation()
    surface = nodes.segmentation.GetClosedSurfaceInternalRepresentation("RCA")
    assert surface is None or surface.GetNumberOfPoints() == 0


def test_the_automatic_result_stays_and_no_selector_offers_it(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    update_lesions(scene, nodes, case.remove(1))
    assert np.array_equal(labels_of(nodes.automatic, case.ct), case.scored_codes)
    assert nodes.automatic.GetHideFromEditors()
    assert not nodes.automatic.GetDisplayNode().GetVisibility()
    edited = show_case(scene, case.remove(1))
    assert np.array_equal(labels_of(edited.automatic, case.ct), case.scored_codes)


def test_a_case_is_found_again_and_removed_without_its_volume(scene, make_case, state_of):
    case = make_case(slice_probability=np.zeros(12))
    before = state_of(scene)
    nodes = show_case(scene, case)
    assert find_cases(scene) == [nodes]
    remove_case(scene, nodes)
    remove_case(scene, nodes)
    assert set(state_of(scene)) - set(before) == {
        "vtkMRMLScalarVolumeNode1", "vtkMRMLScalarVolumeNode1 voxels", "vtkMRMLScalarVolumeDisplayNode1",
    }  # fmt: skip
    assert find_cases(scene) == []
    remove_case(scene, show_case(scene, case, volume=nodes.volume), with_volume=True)
    assert state_of(scene) == before


def test_cases_shown_and_removed_again_and_again_leave_nothing_in_the_hierarchy(scene, make_case):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for _ in range(3):
        remove_case(scene, show_case(scene, make_case()), with_volume=True)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    assert [hierarchy.GetItemLevel(items.GetId(n)) for n in range(items.GetNumberOfIds())] == ["Study"]


def test_the_window_of_the_volume_shows_fat_and_grades_of_calcium(scene, make_case):
    display = show_case(scene, make_case()).volume.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (-220, 580)  # 800 wide around 180
    assert not display.GetAutoWindowLevel()


# What is refused, and that the scene is as it was


def test_another_volume_is_refused_and_nothing_is_added(scene, make_case, state_of):
    case = make_case()
    other = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "other")
    hu = case.ct.hu.copy()
    hu[6, 20, 20] = 451
    set_voxels(other, hu, case.ct.affine)
    before = state_of(scene)
    with pytest.raises(
        InputRefused, match=r"checksum: .*found 1 at or above 130 HU that changed.*score the volume again"
    ):
        show_case(scene, case, volume=other)
    affine = np.array(case.ct.affine)
    affine[0, 3] += 0.2
    set_voxels(other, case.ct.hu, affine)
    with pytest.raises(InputRefused, match="grid: "):
        show_case(scene, case, volume=other)
    set_voxels(other, case.ct.hu[:8], case.ct.affine)
    with pytest.raises(InputRefused, match="grid: "):
        show_case(scene, case, volume=other)
    set_voxels(other, case.ct.hu, case.ct.affine)
    scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    other.SetAndObserveTransformNodeID(scene.GetFirstNodeByName("moved").GetID())
    with pytest.raises(InputRefused, match=r"input: .*Harden transform"):
        show_case(scene, case, volume=other)
    other.SetAndObserveTransformNodeID(None)
    scene.RemoveNode(scene.GetFirstNodeByName("moved"))
    assert state_of(scene) == {**before, f"{other.GetID()} voxels": case.ct.hu.tobytes()}


def test_a_volume_edited_after_it_was_shown_is_found_out_before_signing(scene, make_case):
    case = make_case()
    volume = show_case(scene, case).volume
    require_scored(volume, case)
    array_of(volume.GetImageData())[0, 0, 0] = 1000
    with pytest.raises(InputRefused, match=r"checksum: .*found 1 at or above 130 HU"):
        require_scored(volume, case)


def test_a_volume_of_double_values_is_the_same_volume(scene, make_case):
    case = make_case()
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    set_voxels(volume, case.ct.hu.astype(np.float64), case.ct.affine)
    assert show_case(scene, case, volume=volume).volume is volume


def test_a_failure_halfway_takes_back_what_was_added(scene, make_case, state_of, monkeypatch):
    from heartlens.scene import nodes as scene_nodes

    before = state_of(scene)
    monkeypatch.setattr(scene_nodes, "risk_columns", lambda case: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        show_case(scene, make_case())
    assert state_of(scene) == before


@pytest.mark.parametrize("name", ["volume", "segmentation", "lesion_table", "chart"])
def test_a_deleted_node_is_named_and_the_rest_stays(scene, make_case, state_of, name):
    case = make_case()
    nodes = show_case(scene, case)
    scene.RemoveNode(getattr(nodes, name))
    before = state_of(scene)
    with pytest.raises(InputRefused, match=f"the {name.replace('_', ' ')} of this case was deleted.*not lost"):
        update_lesions(scene, nodes, case.remove(1))
    assert state_of(scene) == before


def test_the_same_case_gives_the_same_scene(make_case, state_of, tmp_path):
    from headless_scene import HeadlessScene

    first, second = HeadlessScene(tmp_path / "a"), HeadlessScene(tmp_path / "b")
    show_case(first.scene, make_case())
    show_case(second.scene, make_case())
    assert state_of(first.scene) == state_of(second.scene)


def test_while_a_case_is_put_into_a_scene_no_view_shows_anything_of_it(scene, make_case):
    seen = []

    def aside(do):
        nodes = [scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(2)]
        seen.append([node.GetDisplayNode().GetVisibility() for node in nodes if node is not None])
        return do()

    nodes = show_case(scene, make_case().remove(1), aside=aside)
    assert [0] in seen
    assert [0, 0] in seen
    assert not any(sum(visible) for visible in seen)
    assert nodes.segmentation.GetDisplayNode().GetVisibility()
    assert not nodes.automatic.GetDisplayNode().GetVisibility()


def test_a_scene_that_is_closed_meanwhile_is_left_without_a_node_of_the_case(scene, make_case):
    count = scene.GetNumberOfNodesByClass("vtkMRMLNode")
    calls = []

    def aside(do):
        calls.append(do)
        if len(calls) == 3:
            scene.Clear()
        return do()

    with pytest.raises(InputRefused, match="the scene was closed while the case was put into it"):
        show_case(scene, make_case(), aside=aside)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLNode") <= count


def test_a_segmentation_that_was_taken_out_has_let_go_of_its_voxels(scene, make_case):
    """Else VTK writes over the whole label map once for each of its segments."""
    nodes = show_case(scene, make_case())
    image = nodes.segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation(BINARY)
    assert image.GetNumberOfPoints() > 0
    remove_case(scene, nodes)
    assert image.GetNumberOfPoints() == 0
