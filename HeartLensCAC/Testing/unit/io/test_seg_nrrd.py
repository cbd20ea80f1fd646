"""`.seg.nrrd`: what Slicer writes is understood, what we write Slicer and every NRRD reader understand."""

from __future__ import annotations

import colorsys
import json
import time

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap, LesionNote
from heartlens.core.segment_names import artery_of_name
from heartlens.io.nrrd import read_nrrd, write_nrrd
from heartlens.io.volumes import read_labels, read_lesion_map, write_lesion_map, write_seg_nrrd


@pytest.fixture
def ct(a_ct):
    """6 slices of 5 rows and 4 columns, off the origin."""
    plain = a_ct(np.full((6, 5, 4), 200), spacing_mm=(2.5, 0.7, 0.7))
    affine = plain.affine.copy()
    affine[:3, 3] = [-12.25, 30.5, -401.125]
    return CTVolume(plain.hu, affine, plain.header)


def codes_with(ct, **voxels):
    codes = np.zeros(ct.shape, np.uint8)
    for name, where in voxels.items():
        codes[where] = Artery[name]
    return codes


def write_slicer_segments(path, ct, layers, segments, *, offset=(0, 0, 0), affine=None, old=False):
    """A segmentation the way Slicer writes it: layers first, its own extent, keys per segment.

    Parameters
    ----------
    layers : list of (k, j, i) uint8
    segments : (name, layer, value, terminology or "") each
    offset : (i, j, k) of the extent's first voxel; Slicer moves the origin along
    old : without layers and label values, as before Slicer 5.0
    """
    affine = ct.affine.copy() if affine is None else affine
    affine[:3, 3] += affine[:3, :3] @ np.array(offset)
    k, j, i = layers[0].shape
    vectors = ["(" + ",".join(repr(float(x)) for x in affine[:3, n]) + ")" for n in range(4)]
    many = len(layers) > 1
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "type: unsigned char",
        f"dimension: {4 if many else 3}",
        "space: left-posterior-superior",
        f"sizes: {f'{len(layers)} ' if many else ''}{i} {j} {k}",
        f"space directions: {'none ' if many else ''}{vectors[0]} {vectors[1]} {vectors[2]}",
        f"kinds: {'list ' if many else ''}domain domain domain",
        "encoding: raw",
        f"space origin: {vectors[3]}",
        "measurement frame: (1,0,0) (0,1,0) (0,0,1)",
    ]
    keys = {"Segmentation_ReferenceImageExtentOffset": " ".join(map(str, offset))}
    for n, (name, layer, value, terms) in enumerate(segments):
        keys[f"Segment{n}_ID"] = f"Segment_{n + 1}"
        keys[f"Segment{n}_Name"] = name
        keys[f"Segment{n}_Extent"] = f"0 {i - 1} 0 {j - 1} 0 {k - 1}"
        keys[f"Segment{n}_Tags"] = f"Segmentation.Status:inprogress|TerminologyEntry:{terms}|" if terms else ""
        if not old:
            keys |= {f"Segment{n}_Layer": str(layer), f"Segment{n}_LabelValue": str(value)}
    lines += [f"{key}:={value}" for key, value in keys.items()]
    path.write_bytes(("\n".join(lines) + "\n\n").encode() + np.stack(layers, axis=-1).tobytes())


def terms(region: str) -> str:
    return (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        f"~SCT^49755003^Morphologically Abnormal Structure~SCT^29483008^calcified atheromatous plaque~^^"
        f"~Anatomic codes - DICOM master list~SCT^{region}^a region~^^"
    )


# Reading


def test_segments_on_two_layers_are_read_by_name(tmp_path, ct):
    low, high = np.zeros(ct.shape, np.uint8), np.zeros(ct.shape, np.uint8)
    low[1, 2, 3], low[1, 2, 2], high[4, 0, 0] = 1, 2, 1
    write_slicer_segments(
        tmp_path / "s.seg.nrrd", ct, [low, high], [("LAD", 0, 1, ""), ("lm", 0, 2, ""), ("RCA", 1, 1, "")]
    )
    expected = codes_with(ct, LAD=(1, 2, 3), LM=(1, 2, 2), RCA=(4, 0, 0))
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), expected)


@pytest.mark.parametrize("offset", [(0, 0, 0), (1, 2, 3), (2, 0, 1)])
def test_a_cropped_extent_is_placed_on_the_grid_of_the_ct(tmp_path, ct, offset):
    i, j, k = offset
    write_slicer_segments(
        tmp_path / "s.seg.nrrd", ct, [np.ones((2, 2, 1), np.uint8)], [("LCX", 0, 1, "")], offset=offset
    )
    expected = codes_with(ct, LCX=np.s_[k : k + 2, j : j + 2, i : i + 1])
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), expected)


def test_an_extent_larger_than_the_ct_is_read_when_the_rest_is_empty(tmp_path, ct):
    layer = np.zeros((8, 9, 9), np.uint8)
    layer[2, 2, 2] = 1
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [layer], [("LAD", 0, 1, "")], offset=(-2, -1, -1))
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), codes_with(ct, LAD=(1, 1, 0)))
    layer[0, 0, 0] = 1
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [layer], [("LAD", 0, 1, "")], offset=(-2, -1, -1))
    with pytest.raises(InputRefused, match="found 1 outside") as refusal:
        read_labels(tmp_path / "s.seg.nrrd", ct)
    assert refusal.value.code == "grid"


def test_a_segmentation_in_ras_axes_is_placed_by_its_directions(tmp_path, ct):
    affine = ct.affine.copy()
    for axis, n in ((0, 4), (1, 5)):
        affine[:3, 3] += affine[:3, axis] * (n - 1)
        affine[:3, axis] *= -1
    layer = np.zeros(ct.shape, np.uint8)
    layer[2, 0, 0] = 1
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [layer], [("LAD", 0, 1, "")], affine=affine)
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), codes_with(ct, LAD=(2, 4, 3)))


def test_files_of_slicer_before_5_have_one_layer_a_segment(tmp_path, ct):
    layers = [np.zeros(ct.shape, np.uint8) for _ in range(3)]
    for n, layer in enumerate(layers):
        layer[n, n, n] = 1
    names = [("Right coronary artery", 0, 1, ""), ("OTHER", 0, 1, ""), ("UNASSIGNED", 0, 1, "")]
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, layers, names, old=True)
    expected = codes_with(ct, RCA=(0, 0, 0), OTHER=(1, 1, 1), UNASSIGNED=(2, 2, 2))
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), expected)


@pytest.mark.parametrize(
    ("region", "artery"),
    [
        ("3227004", "LM"), ("59438005", "LAD"), ("57396003", "LCX"), ("13647002", "RCA"), ("41801008", "UNASSIGNED"),
        ("91083009", "RCA"), ("450960006", "RCA"), ("41879009", "RCA"), ("68787002", "LAD"), ("91748002", "LAD"),
        ("36672000", "LAD"), ("52433000", "LCX"), ("91753007", "LCX"), ("6511003", "LCX"), ("244252004", "UNASSIGNED"),
        ("34202007", "OTHER"), ("65197004", "OTHER"), ("113262008", "OTHER"),
    ],
)  # fmt: skip
def test_a_segment_without_a_telling_name_is_known_by_its_region(tmp_path, ct, region, artery):
    layer = np.zeros(ct.shape, np.uint8)
    layer[0, 0, 0] = 3
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [layer], [("Segment_1", 0, 3, terms(region))])
    assert read_labels(tmp_path / "s.seg.nrrd", ct)[0, 0, 0] == Artery[artery]


@pytest.mark.parametrize(
    ("name", "artery"),
    [
        ("LM", "LM"), ("lmca", "LM"), ("Left main coronary artery", "LM"), ("LM-2", "LM"),
        ("LAD", "LAD"), ("LAD-03", "LAD"), ("LAD_2", "LAD"), ("lad1", "LAD"), ("LAD calcium", "LAD"),
        ("CAC LAD", "LAD"),
        ("Left anterior descending coronary artery", "LAD"),
        ("LCX", "LCX"), ("Cx", "LCX"), ("circumflex", "LCX"), ("Left Circumflex coronary artery", "LCX"),
        ("RCA", "RCA"), ("RCA plaque 4", "RCA"), ("Right Coronary Artery", "RCA"),
        ("other", "OTHER"), ("Not coronary", "OTHER"), ("unassigned", "UNASSIGNED"), ("CAC", "UNASSIGNED"),
        ("Coronary artery not assigned", "UNASSIGNED"),
        ("LM/LAD", None), ("LAD and LCX", None), ("Segment_1", None), ("salad", None), ("", None), ("aorta", None),
        ("first lads", None),
    ],
)  # fmt: skip
def test_names_say_one_artery_or_none(name, artery):
    assert artery_of_name(name) == (artery and Artery[artery])


def test_a_name_that_contradicts_the_terminology_is_refused(tmp_path, ct):
    write_slicer_segments(
        tmp_path / "s.seg.nrrd", ct, [np.ones(ct.shape, np.uint8)], [("RCA", 0, 1, terms("59438005"))]
    )
    with pytest.raises(InputRefused, match="named RCA, but its codes say LAD") as refusal:
        read_labels(tmp_path / "s.seg.nrrd", ct)
    assert refusal.value.code == "labels"


def test_a_segment_with_an_unknown_name_is_refused_only_when_it_has_voxels(tmp_path, ct):
    layer = codes_with(ct, LM=(0, 0, 0))
    segments = [("LAD", 0, 1, ""), ("Segment_2", 0, 2, "")]
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [layer], segments)
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), codes_with(ct, LAD=(0, 0, 0)))
    layer[1, 1, 1] = 2
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [layer], segments)
    with pytest.raises(InputRefused, match="found segment 'Segment_2'") as refusal:
        read_labels(tmp_path / "s.seg.nrrd", ct)
    assert refusal.value.code == "labels"


def test_overlapping_segments_are_refused_unless_they_are_one_artery(tmp_path, ct):
    layer = np.zeros(ct.shape, np.uint8)
    layer[0, 0, :2] = 1
    two = [layer, layer]
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, two, [("LAD-1", 0, 1, ""), ("LAD-2", 1, 1, "")])
    assert np.count_nonzero(read_labels(tmp_path / "s.seg.nrrd", ct) == Artery.LAD) == 2
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, two, [("LAD", 0, 1, ""), ("LM", 1, 1, "")])
    with pytest.raises(InputRefused, match="found 2 in both LAD and LM") as refusal:
        read_labels(tmp_path / "s.seg.nrrd", ct)
    assert refusal.value.code == "labels"


def test_a_layer_that_is_not_there_is_refused(tmp_path, ct):
    write_slicer_segments(tmp_path / "s.seg.nrrd", ct, [np.ones(ct.shape, np.uint8)], [("LAD", 1, 1, "")])
    with pytest.raises(InputRefused, match="lies on layer 1, the file has 1") as refusal:
        read_labels(tmp_path / "s.seg.nrrd", ct)
    assert refusal.value.code == "unreadable"


def test_a_segmentation_of_another_grid_is_refused(tmp_path, ct, a_ct):
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes_with(ct, LAD=(0, 0, 0)))
    with pytest.raises(InputRefused, match="expected the grid of the CT") as refusal:
        read_labels(tmp_path / "s.seg.nrrd", a_ct(np.zeros((6, 5, 4)), spacing_mm=(2.5, 0.7, 0.7)))
    assert refusal.value.code == "grid"


# Writing


def test_what_is_written_is_read_back(tmp_path, ct):
    codes = np.random.default_rng(0).integers(0, 7, ct.shape).astype(np.uint8)
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes)
    np.testing.assert_array_equal(read_labels(tmp_path / "s.seg.nrrd", ct), codes)


def test_other_programs_see_a_label_map_of_artery_codes_on_the_grid(tmp_path, ct):
    codes = codes_with(ct, RCA=(5, 4, 3), OTHER=(0, 1, 2))
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes)
    image = sitk.ReadImage(str(tmp_path / "s.seg.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), codes)
    assert image.GetOrigin() == (-12.25, 30.5, -401.125)
    names = [image.GetMetaData(f"Segment{n}_Name") for n in range(5)]
    assert names == ["LM", "LAD", "LCX", "RCA", "OTHER"]
    assert not image.HasMetaDataKey("Segment5_ID")
    assert [image.GetMetaData(f"Segment{n}_LabelValue") for n in range(5)] == ["1", "2", "3", "4", "5"]


def test_each_segment_declares_what_slicer_needs(tmp_path, ct):
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes_with(ct, LAD=(0, 0, 0)))
    keys = read_nrrd(tmp_path / "s.seg.nrrd").keys
    assert keys["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert keys["Segmentation_MasterRepresentation"] == "Binary labelmap"
    lad = {key.removeprefix("Segment1_"): value for key, value in keys.items() if key.startswith("Segment1_")}
    # Slicer takes a layer's extent from its first segment, so each has the whole.
    assert {keys[f"Segment{n}_Extent"] for n in range(4)} == {"0 3 0 4 0 5"}
    assert (lad["ID"], lad["Name"], lad["Layer"], lad["LabelValue"]) == ("LAD", "LAD", "0", "2")
    red, green, blue = (float(x) for x in lad["Color"].split())
    assert (round(red * 255), round(green * 255), round(blue * 255)) == (0x00, 0x9E, 0x73)
    assert lad["Tags"] == (
        "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^49755003^Morphologically Abnormal Structure~SCT^29483008^Calcified atheromatous plaque~^^"
        "~Anatomic codes - DICOM master list~SCT^59438005^Left Anterior Descending Coronary Artery~^^|"
    )


def test_other_claims_no_place_and_no_atheroma(tmp_path, ct):
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes_with(ct, OTHER=(0, 0, 0)))
    tags = read_nrrd(tmp_path / "s.seg.nrrd").keys["Segment4_Tags"]
    assert "~SCT^18115005^Pathologic calcification~^^~Anatomic codes - DICOM master list~^^~^^|" in tags


def test_an_empty_segmentation_keeps_its_four_segments(tmp_path, ct):
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, np.zeros(ct.shape, np.uint8))
    assert not read_labels(tmp_path / "s.seg.nrrd", ct).any()
    assert read_nrrd(tmp_path / "s.seg.nrrd").keys["Segment3_Name"] == "RCA"


def test_the_same_segmentation_gives_the_same_bytes(tmp_path, ct):
    for name in ("a", "b"):
        write_seg_nrrd(tmp_path / f"{name}.seg.nrrd", ct, codes_with(ct, LAD=(0, 0, 0)))
        time.sleep(0.01)
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()


def test_colours_tell_the_arteries_apart(tmp_path, ct):
    codes = np.zeros(ct.shape, np.uint8)
    codes.reshape(-1)[:6] = range(1, 7)
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes)
    keys = read_nrrd(tmp_path / "s.seg.nrrd").keys
    hues = {colorsys.rgb_to_hsv(*(float(x) for x in keys[f"Segment{n}_Color"].split())) for n in range(6)}
    assert len(hues) == 6


def test_labels_of_another_shape_are_a_mistake_of_the_caller(tmp_path, ct):
    with pytest.raises(ValueError, match=r"\(6, 5, 4\), got \(2, 2, 2\)"):
        write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, np.zeros((2, 2, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []


# Lesions


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(1, 65535), max_size=6, unique=True),
    arteries=st.lists(st.sampled_from(Artery), min_size=6, max_size=6),
    whys=st.lists(st.text(max_size=30), min_size=6, max_size=6),
    probabilities=st.lists(st.none() | st.floats(0, 1), min_size=6, max_size=6),
    seed=st.integers(0, 99),
)
def test_a_lesion_map_comes_back_exactly(tmp_path, ct, ids, arteries, whys, probabilities, seed):
    labels = np.random.default_rng(seed).choice(np.array([0, *ids], np.uint16), ct.shape)
    labels.reshape(-1)[: len(ids)] = ids
    notes = {i: LesionNote(p, "rules", why) for i, p, why in zip(ids, probabilities, whys, strict=False)}
    lesions = LesionMap(labels, dict(zip(ids, arteries, strict=False)), notes)
    write_lesion_map(tmp_path / "auto.seg.nrrd", ct, lesions)
    read = read_lesion_map(tmp_path / "auto.seg.nrrd", ct)
    np.testing.assert_array_equal(read.labels, labels)
    assert dict(read.arteries) == dict(lesions.arteries)
    assert dict(read.notes) == dict(lesions.notes)


@pytest.mark.parametrize("why", ["a|b:c", "line\nbreak\r\n", 'quote " and \\ backslash \\n', "naïve ∅ ~^", "x:=y"])
def test_notes_survive_a_program_that_reads_and_writes_the_keys(tmp_path, ct, why):
    labels = np.zeros(ct.shape, np.uint16)
    labels[0, 0, 0] = 12
    lesions = LesionMap(labels, {12: Artery.LM}, {12: LesionNote(0.1 + 0.2, "rules", why)})
    write_lesion_map(tmp_path / "auto.seg.nrrd", ct, lesions)
    image = sitk.ReadImage(str(tmp_path / "auto.seg.nrrd"))
    tags = image.GetMetaData("Segment0_Tags")
    assert tags.count("|") == 2  # Slicer cuts tags at bars
    assert json.loads(tags.split("|")[1].split(":", 1)[1])["why"] == why
    sitk.WriteImage(image, str(tmp_path / "again.seg.nrrd"), True)
    read = read_lesion_map(tmp_path / "again.seg.nrrd", ct)
    assert read.notes[12] == lesions.notes[12]
    assert read.arteries[12] is Artery.LM


def test_lesions_have_names_a_reader_knows_and_read_as_arteries(tmp_path, ct):
    labels = np.zeros(ct.shape, np.uint16)
    labels[0, 0, 0], labels[3, 3, 3] = 3, 300
    write_lesion_map(tmp_path / "auto.seg.nrrd", ct, LesionMap(labels, {3: Artery.LAD, 300: Artery.OTHER}))
    keys = read_nrrd(tmp_path / "auto.seg.nrrd").keys
    assert [keys["Segment0_Name"], keys["Segment1_Name"]] == ["LAD-03", "OTHER-300"]
    expected = codes_with(ct, LAD=(0, 0, 0), OTHER=(3, 3, 3))
    np.testing.assert_array_equal(read_labels(tmp_path / "auto.seg.nrrd", ct), expected)


def test_an_empty_lesion_map_comes_back_empty(tmp_path, ct):
    write_lesion_map(tmp_path / "auto.seg.nrrd", ct, LesionMap.empty(ct.shape))
    assert dict(read_lesion_map(tmp_path / "auto.seg.nrrd", ct).arteries) == {}


def test_a_segmentation_without_lesions_is_no_lesion_map(tmp_path, ct):
    write_seg_nrrd(tmp_path / "s.seg.nrrd", ct, codes_with(ct, LAD=(0, 0, 0)))
    with pytest.raises(InputRefused, match=r"HeartLens\.Lesion") as refusal:
        read_lesion_map(tmp_path / "s.seg.nrrd", ct)
    assert refusal.value.code == "unreadable"
    with pytest.raises(InputRefused) as refusal:
        read_lesion_map(tmp_path / "none.seg.nrrd", ct)
    assert refusal.value.code == "input"


def test_a_lesion_map_whose_voxels_were_changed_is_refused(tmp_path, ct):
    labels = np.zeros(ct.shape, np.uint16)
    labels[0, 0, 0] = 3
    write_lesion_map(tmp_path / "auto.seg.nrrd", ct, LesionMap(labels, {3: Artery.LAD}))
    image = read_nrrd(tmp_path / "auto.seg.nrrd")
    write_nrrd(tmp_path / "auto.seg.nrrd", np.zeros(ct.shape, np.uint8), image.affine, image.keys)
    with pytest.raises(InputRefused, match="arteries without voxels"):
        read_lesion_map(tmp_path / "auto.seg.nrrd", ct)
