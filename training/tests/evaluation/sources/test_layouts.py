"""Other programs' segmentations as they write them: masks, codes, other grids and orientations; judged as ours are."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.io.volumes import write_volume
from training import evaluate, rival
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits
from training.evaluation.sources.layouts import PARTLY_COVERED, RESAMPLED, Layout, place_on, read_layout

LAD, RCA = int(Artery.LAD), int(Artery.RCA)
AFFINE = np.array([[0.7, 0, 0, -20.0], [0, 0.7, 0, -130.0], [0, 0, 3.0, 40.0], [0, 0, 0, 1]])
LAYOUTS = Path(__file__).resolve().parents[3] / "layouts"


def scan() -> tuple[CTVolume, np.ndarray]:
    """A plaque of 16 voxels in the LAD, one of 12 in the RCA, and a dense block that is neither."""
    hu = np.full((12, 48, 48), -80, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[5, 10:14, 30:34], labels[5, 10:14, 30:34] = 350, LAD
    hu[8, 30:33, 8:12], labels[8, 30:33, 8:12] = 450, RCA
    hu[2, 40:44, 40:44] = 300
    return CTVolume(hu, AFFINE, CTHeader(kvp=120.0, slice_thickness_mm=3.0)), labels


def save_nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    """Values (k, j, i) and an affine to LPS mm, as any program writes NIfTI: (i, j, k) and to RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), ras), path)
    return path


def turned(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels, stored by another program: columns first and from the other side, slices from the head."""
    k, j, _ = values.shape
    flipped = np.transpose(values, (2, 1, 0))[:, ::-1, ::-1]  # now (i, j, k), the last two turned round
    other = np.zeros((4, 4))
    other[3, 3] = 1
    other[:3, 0], other[:3, 1], other[:3, 2] = -affine[:3, 2], -affine[:3, 1], affine[:3, 0]
    other[:3, 3] = affine[:3, :3] @ [0, j - 1, k - 1] + affine[:3, 3]
    return np.ascontiguousarray(flipped), other


def finer(values: np.ndarray, affine: np.ndarray, times: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Each voxel as so many along each axis."""
    fine = values.repeat(times, 0).repeat(times, 1).repeat(times, 2)
    other = affine.copy()
    other[:3, :3] /= times
    other[:3, 3] += affine[:3, :3] @ np.full(3, 0.5 / times - 0.5)
    return fine, other


def test_masks_of_structures_become_arteries_and_where_they_overlap_the_first_named_counts(tmp_path):
    ct, labels = scan()
    for name, mask in (("lad", labels == LAD), ("rca", labels > 0), ("heart", np.ones(labels.shape, bool))):
        save_nifti(tmp_path / f"{name}.nii.gz", mask.astype(np.uint8) * (255 if name == "lad" else 1), AFFINE)
    codes, cautions = Layout(masks=(("lad", "LAD"), ("rca", "RCA"), ("heart", "none"))).read(tmp_path, ct)
    np.testing.assert_array_equal(codes, labels)
    assert cautions == ()
    codes, _ = Layout(masks=(("rca", "RCA"), ("lad", "LAD"))).read(tmp_path, ct)
    assert set(np.unique(codes)) == {0, RCA}


def test_codes_of_one_map_are_translated_and_one_without_a_name_is_refused(tmp_path):
    ct, labels = scan()
    theirs = np.select([labels == LAD, labels == RCA, ct.hu == 300], [40, 7, 9], 0).astype(np.int16)
    path = save_nifti(tmp_path / "any_name.nii.gz", theirs, AFFINE)
    layout = Layout(codes=((7, "RCA"), (40, "LAD"), (9, "none")))
    for place in (path, tmp_path):
        codes, _ = layout.read(place, ct)
        np.testing.assert_array_equal(codes, labels)
    nameless = Layout(codes=((7, "RCA"),))
    with pytest.raises(InputRefused, match=r"found 9, 40; name them in \[codes\]"):
        nameless.read(path, ct)
    codes, _ = Layout(codes=((7, "RCA"),), is_closed=False).read(path, ct)
    assert set(np.unique(codes)) == {0, RCA}


@pytest.mark.parametrize(("stored", "cautions"), [(turned, ()), (finer, (RESAMPLED,))])
def test_another_orientation_and_another_grid_give_the_same_labels(tmp_path, stored, cautions):
    ct, labels = scan()
    path = save_nifti(tmp_path / "map.nii.gz", *stored(labels, AFFINE))
    codes, found = Layout(codes=((LAD, "LAD"), (RCA, "RCA"))).read(path, ct)
    np.testing.assert_array_equal(codes, labels)
    assert found == cautions


def test_a_coarse_map_is_taken_by_its_nearest_voxel(tmp_path):
    """Voxels of 1.4 mm: each has two of the scan's, and the one whose middle is nearest decides."""
    ct, _ = scan()
    coarse = np.zeros((12, 24, 24), np.uint8)
    coarse[5, 5, 15] = 1
    affine = AFFINE.copy()
    affine[:2, :2] *= 2
    affine[:3, 3] += AFFINE[:3, :3] @ [0.5, 0.5, 0]
    codes, _ = Layout(codes=((1, "LAD"),)).read(save_nifti(tmp_path / "m.nii.gz", coarse, affine), ct)
    assert np.argwhere(codes).tolist() == [[5, j, i] for j in (10, 11) for i in (30, 31)]


def test_a_map_of_a_part_is_taken_and_said_and_one_of_another_place_is_refused(tmp_path):
    ct, labels = scan()
    upper = AFFINE.copy()
    upper[:3, 3] += AFFINE[:3, 2] * 4
    part = save_nifti(tmp_path / "part.nii.gz", labels[4:7], upper)
    placed = place_on(part, ct)
    np.testing.assert_array_equal(placed.values == LAD, labels == LAD)
    assert not placed.values[7:].any()
    assert placed.cautions == (RESAMPLED, PARTLY_COVERED)
    far = AFFINE.copy()
    far[2, 3] += 500
    with pytest.raises(InputRefused, match=r"grid: .*expected a map of this scan, found one that has no voxel in it"):
        place_on(save_nifti(tmp_path / "far.nii.gz", labels, far), ct)


def test_what_lies_beside_a_structure_belongs_to_the_nearest_one(tmp_path):
    ct, _ = scan()
    lumen = np.zeros(ct.shape, np.uint8)
    lumen[5, 12, 28], lumen[5, 12, 36] = LAD, RCA
    path = save_nifti(tmp_path / "m.nii.gz", lumen, AFFINE)
    codes, _ = Layout(codes=((LAD, "LAD"), (RCA, "RCA")), within_mm=1.5).read(path, ct)
    assert codes[5, 12, 24:41].tolist() == [0, 0, LAD, LAD, LAD, LAD, LAD, 0, 0, 0, RCA, RCA, RCA, RCA, RCA, 0, 0]
    assert not codes[4].any()  # the next slice is 3 mm away


def test_a_missing_mask_and_two_maps_are_refused(tmp_path):
    ct, labels = scan()
    save_nifti(tmp_path / "a.nii.gz", labels, AFFINE)
    with pytest.raises(InputRefused, match="found no lad, lcx"):
        Layout(masks=(("a", "RCA"), ("lad", "LAD"), ("lcx", "LCX"), ("heart", "none"))).read(tmp_path, ct)
    save_nifti(tmp_path / "b.nii.gz", labels, AFFINE)
    with pytest.raises(InputRefused, match=r"expected one label map, found a\.nii\.gz, b\.nii\.gz"):
        Layout(codes=((1, "LM"),)).read(tmp_path, ct)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[masks]\nlad = "LAD"\n[codes]\n1 = "LM"\n', "found both or none"),
        ("", "found both or none"),
        ('[masks]\nlad = "LDA"\n', "lad: expected one of LM, LAD, LCX, RCA, OTHER, UNASSIGNED, none, found 'LDA'"),
        ('[codes]\nx = "LAD"\n', "invalid literal"),
        ('[codes]\n1 = "LAD"\nothers = "LM"\n', 'codes.others: expected "none"'),
        ('within = 2\n[codes]\n1 = "LAD"\n', "expected the tables masks or codes, and within_mm; found within"),
        ('within_mm = -2\n[codes]\n1 = "LAD"\n', "within_mm must be 0 or more"),
    ],
)
def test_a_layout_that_says_too_little_or_too_much_is_refused(tmp_path, text, message):
    (tmp_path / "l.toml").write_text(text)
    with pytest.raises(InputRefused, match=message):
        read_layout(tmp_path / "l.toml")


def test_layouts_that_come_along_are_read():
    layouts = {path.stem: read_layout(path) for path in LAYOUTS.glob("*.toml")}
    assert layouts["totalsegmentator-coronary"].masks == (("coronary_arteries", "UNASSIGNED"),)
    assert dict(layouts["codes-example"].codes)[2] == "LAD"


def reference(folder: Path) -> Path:
    ct, labels = scan()
    (folder / "one").mkdir(parents=True)
    write_volume(folder / "one" / "ct.nrrd", ct)
    save_nifti(folder / "one" / "labels.nii.gz", labels, AFFINE)
    return folder


def test_a_folder_of_masks_is_judged_as_our_own_labels_are(tmp_path):
    """The foreign folder holds the LAD alone: its Dice is 1, the RCA is missed, and so it is in our own layout."""
    known = reference(tmp_path / "reference")
    _, labels = scan()
    only_lad = np.where(labels == LAD, labels, 0).astype(np.uint8)
    save_nifti(tmp_path / "ours" / "one" / "labels.nii.gz", only_lad, AFFINE)
    for name, mask in (("left_anterior", only_lad > 0), ("right", only_lad > 9)):
        save_nifti(tmp_path / "theirs" / "one" / f"{name}.nii.gz", *turned(mask.astype(np.uint8), AFFINE))
    (tmp_path / "l.toml").write_text('[masks]\nleft_anterior = "LAD"\nright = "RCA"\n')
    words = ["--reference", str(known), "--draws", "5", "--out"]
    assert evaluate.main([*words, str(tmp_path / "a"), "--prediction", str(tmp_path / "ours")]) == 0
    layout = ["--layout", str(tmp_path / "l.toml")]
    assert evaluate.main([*words, str(tmp_path / "b"), "--prediction", str(tmp_path / "theirs"), *layout]) == 0
    a, b = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("a", "b"))
    assert a["stages"] == b["stages"]
    estimates = b["stages"]["segmentation alone"]["estimates"]
    assert estimates["overlap.LAD.dice"]["value"] == 1
    assert estimates["overlap.RCA.dice"]["value"] == 0
    single = [*words, str(tmp_path / "c"), "--prediction", str(tmp_path / "theirs" / "one"), *layout]
    single[1] = str(known / "one")
    assert evaluate.main(single) == 0


def test_a_layout_without_a_prediction_is_refused(tmp_path, capsys):
    known = reference(tmp_path / "reference")
    (tmp_path / "l.toml").write_text('[codes]\n1 = "LAD"\n')
    words = ["--reference", str(known), "--bundle", "none", "--layout", str(tmp_path / "l.toml")]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 3
    assert "--layout says how --prediction is laid out" in capsys.readouterr().err


def test_a_rival_is_given_the_test_patients_and_its_masks_are_judged(tmp_path, capsys):
    ct, labels = scan()
    scans = [LabeledScan(f"made/{n}", f"p{n}", "made-up", ct_of(ct, n), labels) for n in range(3)]
    write_shards(tmp_path / "shards", scans)
    Splits(("p0",), ("p1",), ("p2",)).save(tmp_path / "splits.json")
    words = ["--shards", str(tmp_path / "shards"), "--splits", str(tmp_path / "splits.json"), "--draws", "5"]
    (tmp_path / "l.toml").write_text('[masks]\ncoronary_arteries = "UNASSIGNED"\n')
    words += ["--out", str(tmp_path / "out"), "--layout", str(tmp_path / "l.toml")]
    assert rival.main(words) == 3
    assert "--layout goes with --prediction" in capsys.readouterr().err
    words += ["--prediction", str(tmp_path / "masks")]
    assert rival.main(words) == 0
    assert "scans to segment" in capsys.readouterr().out
    (asked,) = (tmp_path / "out" / "imagesTs").iterdir()
    name = asked.name.removesuffix("_0000.nii.gz")
    image = nibabel.load(asked)
    both = np.isin(np.asarray(image.dataobj), [350, 450])
    target = tmp_path / "masks" / name / "coronary_arteries.nii.gz"
    target.parent.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(both.astype(np.uint8), image.affine), target)
    assert rival.main(words) == 0
    report = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert [patient["name"] for patient in report["patients"]] == [name]
    estimates = report["stages"]["segmentation alone"]["estimates"]
    assert estimates["overlap.all.dice"]["value"] == 1
    assert estimates["overlap.LAD.dice"]["value"] == 0  # it names no artery


def ct_of(ct: CTVolume, number: int) -> CTVolume:
    hu = ct.hu.copy()
    hu[0, 0, 0] = number
    return CTVolume(hu, ct.affine, ct.header)
