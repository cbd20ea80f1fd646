"""Volumes that are on the screen, scored as they are or refused; and points of a view in them."""

from __future__ import annotations

import numpy as np
import pytest
from installed import need

slicer = need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")
vtk = need("vtk", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

from heartlens.case.case import Case  # noqa: E402
from heartlens.case.correction import lesion_at  # noqa: E402
from heartlens.core.errors import InputRefused  # noqa: E402
from heartlens.scene import case_ct, dicom_instances, index_of, position_of, show_case, voxels_in  # noqa: E402
from heartlens.scene.geometry import set_voxels  # noqa: E402


@pytest.fixture
def volume(scene, make_case):
    """The test case's CT, as somebody else loaded it."""
    ct = make_case().ct
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "heart")
    set_voxels(node, ct.hu, ct.affine)
    return node


def test_a_volume_is_a_ct_with_the_same_voxels_and_place(volume, make_case):
    ct, cautions = case_ct(volume, kvp=120.0, slice_thickness_mm=2.5)
    assert np.array_equal(ct.hu, make_case().ct.hu)
    assert np.array_equal(ct.affine, make_case().ct.affine)
    assert (ct.header.kvp, ct.header.slice_thickness_mm) == (120.0, 2.5)
    assert ct.header.sop_instance_uids == ()
    assert cautions == []


def test_a_volume_stored_head_first_and_back_to_front_is_the_same_ct(scene, make_case):
    wanted = make_case().ct
    affine = np.array(wanted.affine)
    for axis, last in ((2, 11), (1, 39)):
        affine[:3, 3] += affine[:3, axis] * last
        affine[:3, axis] *= -1
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    set_voxels(node, wanted.hu[::-1, ::-1].astype(np.float64), affine)
    ct, _ = case_ct(node)
    assert np.array_equal(ct.hu, wanted.hu)
    assert ct.hu.dtype == np.int16
    assert ct.affine == pytest.approx(wanted.affine)


def test_the_ct_keeps_its_voxels_when_the_volume_is_edited_later(volume):
    ct, _ = case_ct(volume)
    set_voxels(volume, np.zeros((3, 3, 3), np.int16), np.eye(4))
    assert ct.hu.max() == 700


def test_instances_are_those_of_an_unchanged_series(volume):
    assert dicom_instances(volume) == ()
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(f"2.25.3.{k}" for k in range(12)))
    assert dicom_instances(volume)[:2] == ("2.25.3.0", "2.25.3.1")
    assert case_ct(volume)[1] == []
    volume.SetAttribute("DICOM.instanceUIDs", "2.25.3")
    assert dicom_instances(volume) == ("2.25.3",)  # a multi-frame object


def test_a_volume_cropped_since_it_was_loaded_is_marked(volume, make_case):
    ct = make_case().ct
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(f"2.25.3.{k}" for k in range(12)))
    set_voxels(volume, ct.hu[2:9], ct.affine)
    assert dicom_instances(volume) == ()
    assert [caution.code for caution in case_ct(volume)[1]] == ["changed"]


def test_what_is_no_ct_is_refused_with_a_way_out(scene, volume):
    def refused(node, text: str, **options) -> None:
        with pytest.raises(InputRefused, match=text):
            case_ct(node, **options)

    refused(None, "input: expected a CT volume, found none")
    refused(scene.AddNewNodeByClass("vtkMRMLSegmentationNode"), "found a Segmentation node")
    refused(scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode"), "found a label map; choose the CT")
    refused(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"), "expected voxels, found none")
    colors = vtk.vtkImageData()
    colors.SetDimensions(4, 4, 4)
    colors.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    vector = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode")
    vector.SetAndObserveImageData(colors)
    refused(vector, "one value per voxel, found 3")

    affine, hu = np.diag([0.5, 0.5, 3.0, 1.0]), np.full((4, 8, 8), -900, np.int16)
    set_voxels(volume, hu + 900, affine)
    refused(volume, "no-hu: .*found values from 0 to 0")
    assert [caution.code for caution in case_ct(volume, allow={"no-hu"})[1]] == ["no-hu"]
    set_voxels(volume, hu[:2], affine)
    refused(volume, "few-slices: ")
    tilted = affine.copy()
    tilted[1, 2] = 0.3
    set_voxels(volume, hu, tilted)
    refused(volume, "tilt: ")
    set_voxels(volume, hu, np.array([[0.5, 0, 0, 0], [0, 0, 3.0, 0], [0, 0.5, 0, 0], [0, 0, 0, 1]]))
    refused(volume, "not-axial: .*coronal or sagittal")
    set_voxels(volume, hu, affine)
    volume.SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    refused(volume, "input: the volume: expected no transform, found one")


def test_a_point_of_a_view_is_found_in_the_ct_and_back(make_case, scene):
    case = make_case()
    ras = (50.0, 175.0, -692.75)
    assert index_of(case.ct, ras) == pytest.approx([3, 8, 20])
    assert position_of(case.ct, (3, 8, 20)) == pytest.approx(ras)
    lesion = case.report.lesions[0]
    x, y, z = lesion.centroid_lps_mm
    assert lesion_at(case, index_of(case.ct, (-x, -y, z))) == lesion.id
    node = show_case(scene, case).volume
    matrix = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(matrix)
    assert matrix.MultiplyPoint((*ras, 1))[:3] == pytest.approx(index_of(case.ct, ras)[::-1])


def test_voxels_in_an_extent_are_those_at_or_above_the_threshold(scene, make_case):
    case = make_case()
    nodes = show_case(scene, case)
    assert voxels_in(case, nodes.volume, (8, 11, 0, 39, 0, 11)).size == 16 * 2 + 16
    flipped = np.array(case.ct.affine)
    flipped[:3, 3] += flipped[:3, 0] * 47
    flipped[:3, 0] *= -1
    set_voxels(nodes.volume, case.ct.hu[..., ::-1], flipped)
    assert voxels_in(case, nodes.volume, (36, 39, 0, 39, 0, 11)).size == 16 * 2 + 16
    assert voxels_in(case, nodes.volume, (-9, 99, -9, 99, -9, 99)).size == 64 + 16 + 16 + 32


def test_a_volume_of_the_scene_is_scored_like_the_ct_it_came_from(volume, make_case):
    wanted = make_case()
    ct, _ = case_ct(volume, kvp=120.0, slice_thickness_mm=2.5)
    assert Case.of(ct, wanted.auto, wanted.protocol).report == wanted.report
