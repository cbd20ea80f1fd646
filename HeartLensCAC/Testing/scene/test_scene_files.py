"""Files written by Slicer's own code and read by ours, and the other way round; scenes saved and opened again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from installed import need

slicer = need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

from heartlens.core.lesions import ARTERY_COLORS, Artery  # noqa: E402
from heartlens.io.seg_nrrd import terminology_entry  # noqa: E402
from heartlens.io.volumes import read_labels, read_volume, write_lesion_map, write_seg_nrrd, write_volume  # noqa: E402
from heartlens.scene import case_ct, find_cases, labels_of, read_segmentation, show_case, update_lesions  # noqa: E402


def write(scene, class_name: str, node, path: Path) -> None:
    storage = scene.AddNewNodeByClass(class_name)
    storage.SetFileName(str(path))
    assert storage.WriteData(node) == 1
    scene.RemoveNode(storage)


def read(scene, class_name: str, node_class: str, path: Path):
    node, storage = scene.AddNewNodeByClass(node_class), scene.AddNewNodeByClass(class_name)
    storage.SetFileName(str(path))
    assert storage.ReadData(node) == 1
    return node


def test_a_segmentation_saved_by_slicer_is_read_by_us(scene, make_case, tmp_path):
    case = make_case()
    nodes = show_case(scene, case)
    write(scene, "vtkMRMLSegmentationStorageNode", nodes.segmentation, tmp_path / "reader.seg.nrrd")
    assert np.array_equal(read_labels(tmp_path / "reader.seg.nrrd", case.ct), case.scored_codes)


def test_an_empty_segmentation_is_saved_and_read(scene, make_case, tmp_path):
    case = make_case().remove(1).remove(2).remove(3)
    nodes = show_case(scene, case)
    write(scene, "vtkMRMLSegmentationStorageNode", nodes.segmentation, tmp_path / "empty.seg.nrrd")
    assert not read_labels(tmp_path / "empty.seg.nrrd", case.ct).any()


def test_our_segmentation_is_read_by_slicer_with_names_colors_and_codes(scene, make_case, tmp_path):
    case = make_case()
    write_seg_nrrd(tmp_path / "ours.seg.nrrd", case.ct, case.scored_codes)
    node = read(scene, "vtkMRMLSegmentationStorageNode", "vtkMRMLSegmentationNode", tmp_path / "ours.seg.nrrd")
    inside = node.GetSegmentation()
    assert list(inside.GetSegmentIDs()) == ["LM", "LAD", "LCX", "RCA", "OTHER"]
    for segment_id in inside.GetSegmentIDs():
        segment, artery = inside.GetSegment(segment_id), Artery[segment_id]
        assert (segment.GetName(), segment.GetTerminology()) == (artery.name, terminology_entry(artery))
        assert "#" + "".join(f"{round(255 * c):02X}" for c in segment.GetColor()) == ARTERY_COLORS[artery]
    assert np.array_equal(labels_of(node, case.ct), case.scored_codes)


def test_a_lesion_map_is_read_by_slicer_as_one_segment_a_lesion(scene, make_case, tmp_path):
    case = make_case()
    write_lesion_map(tmp_path / "auto.seg.nrrd", case.ct, case.auto)
    node = read(scene, "vtkMRMLSegmentationStorageNode", "vtkMRMLSegmentationNode", tmp_path / "auto.seg.nrrd")
    assert node.GetSegmentation().GetNumberOfSegments() == 3
    assert np.array_equal(labels_of(node, case.ct), case.scored_codes)


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
def test_volumes_go_both_ways(scene, make_case, tmp_path, ending):
    wanted = make_case().ct
    write_volume(tmp_path / f"ours{ending}", wanted)
    node = read(
        scene, "vtkMRMLVolumeArchetypeStorageNode", "vtkMRMLScalarVolumeNode", tmp_path / f"ours{ending}"
    )  # fmt: skip
    ct, _ = case_ct(node)
    assert np.array_equal(ct.hu, wanted.hu)
    assert ct.affine == pytest.approx(wanted.affine, abs=1e-4 if ending == ".nii.gz" else 1e-9)
    write(scene, "vtkMRMLVolumeArchetypeStorageNode", node, tmp_path / f"slicer{ending}")
    again, _ = read_volume(tmp_path / f"slicer{ending}")
    assert np.array_equal(again.hu, wanted.hu)
    assert again.affine == pytest.approx(wanted.affine, abs=1e-4 if ending == ".nii.gz" else 1e-9)


def test_a_saved_scene_opens_to_the_same_case(make_case, tmp_path):
    from headless_scene import HeadlessScene

    case = make_case(slice_probability=np.linspace(0, 1, 12))
    first = HeadlessScene(tmp_path / "first")
    edited = case.remove(2)
    nodes = show_case(first.scene, case)
    update_lesions(first.scene, nodes, edited)
    assert first.scene.WriteToMRB(str(tmp_path / "reading.mrb"))

    second = HeadlessScene(tmp_path / "second")
    assert second.scene.ReadFromMRB(str(tmp_path / "reading.mrb"), True)
    (reopened,) = find_cases(second.scene)
    assert set(reopened.all()) == set(nodes.all())
    assert np.array_equal(labels_of(reopened.segmentation, case.ct), edited.scored_codes)
    assert np.array_equal(labels_of(reopened.automatic, case.ct), case.scored_codes)
    assert reopened.automatic.GetHideFromEditors()
    assert np.array_equal(case_ct(reopened.volume)[0].hu, case.ct.hu)
    assert reopened.chart.GetNthPlotSeriesNode(0).GetTableNode() is reopened.slice_table
    assert read_segmentation(second.scene, reopened, edited) is edited
    update_lesions(second.scene, reopened, case)
    assert np.array_equal(labels_of(reopened.segmentation, case.ct), case.scored_codes)
    agatston = reopened.totals_table.GetTable().GetColumnByName("agatston")
    assert [agatston.GetValue(n) for n in range(7)][5] == case.report.total.agatston
