"""The promises of the project, checked through the command line on real and worked input.

The QRM phantom is a real scan whose Agatston, volume and mass per insert were published.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from worked_examples import EXAMPLES, OPTIONS, block, t3

from heartlens.__main__ import main

pytestmark = pytest.mark.slow

MASS_FACTOR = "0.0007220477104"
VISIBLE = (  # the inserts that reach 130 HU, as two sets of four arteries
    ("Large_HD", "Medium_HD", "Small_HD", "Large_MD"),
    ("Medium_MD", "Large_LD", "Medium_LD"),
)
ARTERIES = ("LM", "LAD", "LCX", "RCA")


def write_volume_with_labels(folder, hu, codes, *, spacing_mm):
    """ct.nrrd and labels.nrrd of a small image, with air around it as every CT has; (slice, row, column) mm."""
    hu = np.pad(np.asarray(hu, np.float32), ((1, 1), (4, 4), (4, 4)), constant_values=-1000)
    codes = np.pad(np.asarray(codes, np.uint8), ((1, 1), (4, 4), (4, 4)))
    for name, array in (("ct.nrrd", hu), ("labels.nrrd", codes)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([float(s) for s in spacing_mm[::-1]])
        sitk.WriteImage(image, str(folder / name))
    return folder / "ct.nrrd", folder / "labels.nrrd"


def score_image(folder, hu, codes, *options, spacing_mm, thickness, capsys):
    ct, labels = write_volume_with_labels(folder, hu, codes, spacing_mm=spacing_mm)
    return score(ct, "--segmentation", labels, "--thickness-mm", thickness, *options, capsys=capsys)


def totals_of_image(folder, hu, *options, spacing_mm, thickness, capsys):
    """Agatston score and volume of an image that is labelled LAD throughout.

    Where no lesion counts the command refuses such labels as lying beside the calcium: they are worth 0, and a score of
    0 for labels on nothing is what it must not print.
    """
    ct, labels = write_volume_with_labels(folder, hu, np.full(hu.shape, 2), spacing_mm=spacing_mm)
    words = ["score", ct, "--json", "--segmentation", labels, "--thickness-mm", thickness, *options]
    code, printed = main([str(word) for word in words]), capsys.readouterr()
    if code == 3:
        assert printed.err.startswith("error: labels: ")
        assert "found no lesion of LAD" in printed.err
        return 0, 0
    assert code == 0
    total = json.loads(printed.out)["total"]
    return total["agatston"], total["volume_mm3"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples_hold_through_the_command_line(tmp_path, capsys, name):
    image, dz, thickness, expected = EXAMPLES[name]
    hu = image if image.ndim == 3 else image[None]
    for column, options in OPTIONS.items():
        agatston, _ = totals_of_image(
            tmp_path, hu, *options, spacing_mm=(dz, 0.5, 0.5), thickness=thickness, capsys=capsys
        )
        assert agatston == pytest.approx(expected[column], abs=1e-9), column


@pytest.mark.parametrize(
    ("hu", "kvp", "expected"), [(140, 120, 3), (140, 100, 0), (330, 120, 9), (330, 100, 6), (330, 80, 6), (330, 70, 6)]
)
def test_tube_voltage_examples_hold_through_the_command_line(tmp_path, capsys, hu, kvp, expected):
    image = block(3, 4, hu)[None]
    agatston, _ = totals_of_image(
        tmp_path, image, "--kvp", kvp, "--kvp-adapted", spacing_mm=(3, 0.5, 0.5), thickness=3, capsys=capsys
    )
    assert agatston == pytest.approx(expected)


def test_two_arteries_and_an_empty_mask_hold_through_the_command_line(tmp_path, capsys):
    hu = np.hstack([t3(), t3()])[None]
    codes = np.zeros(hu.shape, np.uint8)
    codes[:, :, :12], codes[:, :, 12:] = 2, 4
    report = score_image(tmp_path, hu, codes, spacing_mm=(3, 0.5, 0.5), thickness=3, capsys=capsys)
    assert {a: t["agatston"] for a, t in report["arteries"].items()} == {"LM": 0, "LAD": 6, "LCX": 0, "RCA": 6}
    assert (report["total"]["agatston"], report["total"]["lesions"]) == (12, 2)
    assert report["distribution"]["calcified_vessels"] == 2
    report = score_image(tmp_path, hu, np.zeros(hu.shape), spacing_mm=(3, 0.5, 0.5), thickness=3, capsys=capsys)
    assert report["total"] == {
        "agatston": 0, "volume_mm3": 0, "mass_mg": None, "density": None, "lesions": 0, "volume_isotropic_mm3": None,
    }  # fmt: skip
    assert report["risk"]["category"] == "absent"


def test_oracle_cases_of_other_programs_hold_through_the_command_line(shared_data, tmp_path, capsys):
    cases = json.loads((shared_data / "oracles" / "oracle_cases.json").read_text())["block_cases"]
    for case in cases:
        nx, ny, nz = case["dims_xyz"]
        dx, dy, dz = case["spacing_xyz_mm"]
        hu = np.full((nz, ny, nx), case["fill_hu"], np.int16)
        for x0, y0, z0, x1, y1, z1, value in case["blocks_inclusive_x0y0z0_x1y1z1_hu"]:
            hu[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = value
        agatston, volume_mm3 = totals_of_image(
            tmp_path, hu, spacing_mm=(dz, dy, dx), thickness=case["slice_thickness_mm"], capsys=capsys
        )
        assert agatston == pytest.approx(case["ref_agatston"], abs=1e-6), case["id"]
        assert volume_mm3 == pytest.approx(case["ref_volume_mm3"]), case["id"]


def test_oracles_with_options_hold_through_the_command_line(shared_data, tmp_path, capsys):
    oracles = json.loads((shared_data / "oracles" / "oracle_cases.json").read_text())

    hu = np.full((20, 20, 20), 129.0)  # x, y, z as in the source
    hu[10:14, 8:12, 6:8] = 130
    hu[10, 8, 6:8], hu[11, 8, 6:8], hu[12, 8, 6:8] = 200, 300, 400
    hu[14:15, 12:14, 8:14] = 500
    mask = np.zeros(hu.shape)
    mask[10:14, 8:11, 7:8] = mask[14:15, 12:13, 8:10] = 2
    total = score_image(
        tmp_path, hu.transpose(2, 1, 0), mask.transpose(2, 1, 0), "--min-area-mm2", 0, "--mass-factor", 0.001,
        spacing_mm=(2.0, 0.75, 0.75), thickness=2.5, capsys=capsys,
    )["total"]  # fmt: skip
    expected = oracles["mask_case"]["expected"]
    assert total["agatston"] == pytest.approx(expected["agatston"])
    assert total["volume_mm3"] == pytest.approx(expected["volume_mm3"])
    assert total["mass_mg"] == pytest.approx(expected["mass"])

    hu = np.zeros((2, 8, 8))
    hu[:, 2:5, 2:5] = 350
    report = score_image(tmp_path, hu, np.full(hu.shape, 2), spacing_mm=(2.5, 1, 1), thickness=2.5, capsys=capsys)
    assert report["total"]["agatston"] == pytest.approx(oracles["open_med_mcp"]["expected"]["agatston"])

    hu = np.zeros((2, 4, 4))
    hu[:, :, :2] = 400
    total = score_image(
        tmp_path, hu, np.full(hu.shape, 2), "--normalisation", "none", "--mass-factor", 0.00075,
        spacing_mm=(0.5, 0.5, 0.5), thickness=0.5, capsys=capsys,
    )["total"]  # fmt: skip
    expected = next(c for c in oracles["calciumscoring_jl"] if c["id"].endswith("/agatston"))["expected"]
    assert total["agatston"] == pytest.approx(expected["agatston"])
    assert total["volume_mm3"] == pytest.approx(expected["volume_mm3"])
    assert total["mass_mg"] == pytest.approx(expected["mass_with_factor_0.00075"])
    for kvp, value in ((135, 260), (120, 280), (100, 310), (80, 400)):
        hu = np.zeros((2, 4, 7))
        hu[:, :, :3] = value
        report = score_image(
            tmp_path, hu, np.full(hu.shape, 2), "--normalisation", "none", "--kvp", kvp, "--kvp-adapted",
            spacing_mm=(0.5, 0.5, 0.5), thickness=0.5, capsys=capsys,
        )  # fmt: skip
        assert report["total"]["agatston"] == pytest.approx(12), kvp


@pytest.fixture(scope="session")
def inserts(shared_data):
    with (shared_data / "qrm_cci_canon" / "expected.csv").open() as file:
        return {row["insert"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def qrm_labels(qrm_series, inserts, tmp_path_factory):
    """Two label maps on the QRM grid: each insert's search circle has the number of an artery."""
    positions = [pydicom.dcmread(p, stop_before_pixels=True) for p in qrm_series.rglob("*") if p.is_file()]
    positions.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    first, second = positions[:2]
    dz = float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    rows, columns = np.mgrid[: first.Rows, : first.Columns]
    folder = tmp_path_factory.mktemp("labels")
    paths = []
    for number, names in enumerate(VISIBLE):
        labels = np.zeros((len(positions), first.Rows, first.Columns), np.uint8)
        for code, name in enumerate(names, start=1):
            row, column, radius = (float(inserts[name][k]) for k in ("centre_row", "centre_col", "search_radius_px"))
            low, high = (int(z) for z in inserts[name]["z_range"].split(".."))
            labels[low : high + 1, (rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = code
        image = sitk.GetImageFromArray(labels)
        image.SetOrigin([float(v) for v in first.ImagePositionPatient])
        image.SetSpacing([float(first.PixelSpacing[1]), float(first.PixelSpacing[0]), dz])
        paths.append(folder / f"inserts{number}.nrrd")
        sitk.WriteImage(image, str(paths[-1]))
    return paths


def score(source, *options, capsys):
    """Run `heartlens score --json` and return report.json."""
    assert main(["score", str(source), "--json", *map(str, options)]) == 0
    return json.loads(capsys.readouterr().out)


def per_insert(source, labels, *options, capsys):
    """{insert: (agatston, volume, mass)} of the seven visible inserts."""
    scores_by_insert = {}
    for path, names in zip(labels, VISIBLE, strict=True):
        report = score(source, "--segmentation", path, "--mass-factor", MASS_FACTOR, *options, capsys=capsys)
        for artery, name in zip(ARTERIES, names, strict=False):
            row = report["arteries"][artery]
            scores_by_insert[name] = (row["agatston"], row["volume_mm3"], row["mass_mg"])
    return scores_by_insert


@pytest.mark.parametrize(("connectivity", "columns"), [(8, "fqm"), (8, "ref_conn8_min1mm2"), (4, "ref_conn4_min1mm2")])
def test_qrm_phantom_gives_the_published_numbers_per_insert(
    qrm_series, qrm_labels, inserts, capsys, connectivity, columns
):
    scores_by_insert = per_insert(qrm_series, qrm_labels, "--connectivity", connectivity, capsys=capsys)
    for name, numbers in scores_by_insert.items():
        published = [float(inserts[name][f"{columns}_{k}"]) for k in ("agatston", "volume_mm3", "mass_mg")]
        assert numbers == pytest.approx(published, abs=5e-6), name
    total = sum(agatston for agatston, _, _ in scores_by_insert.values())
    assert total == pytest.approx({8: 966.62649, 4: 962.81619}[connectivity], abs=5e-5)


def test_qrm_phantom_with_the_canon_minimum_of_three_pixels(qrm_series, qrm_labels, inserts, capsys):
    scores_by_insert = per_insert(qrm_series, qrm_labels, "--profile", "canon", capsys=capsys)
    for name, numbers in scores_by_insert.items():
        reference = [float(inserts[name][f"ref_conn4_min3px_{k}"]) for k in ("agatston", "volume_mm3", "mass_mg")]
        assert numbers == pytest.approx(reference, abs=5e-6), name


# Lossless variants of the same series must give the same numbers.


def copies(qrm_series, folder, change, *, names=None):
    folder.mkdir()
    for number, path in enumerate(sorted(p for p in qrm_series.rglob("*") if p.is_file())):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(folder / (names(number) if names else path.name))
    return folder


def flip_rows(dataset):
    """The same slice with its rows stored from the back: other pixels, other orientation, same patient."""
    pixels = dataset.pixel_array[::-1]
    row, column = np.array(dataset.ImageOrientationPatient[:3]), np.array(dataset.ImageOrientationPatient[3:])
    shift = column.astype(float) * float(dataset.PixelSpacing[0]) * (dataset.Rows - 1)
    dataset.ImagePositionPatient = [f"{v:.6f}" for v in np.array(dataset.ImagePositionPatient, float) + shift]
    dataset.ImageOrientationPatient = [*map(float, row), *map(float, -column.astype(float))]
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()


def transpose(dataset):
    pixels = dataset.pixel_array.T
    orientation = list(dataset.ImageOrientationPatient)
    dataset.ImageOrientationPatient = orientation[3:] + orientation[:3]
    dataset.PixelSpacing = list(dataset.PixelSpacing)[::-1]
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()


def compress(syntax):
    def change(dataset):
        dataset.compress(syntax)

    return change


VARIANTS = {
    "shuffled names": (lambda d: None, lambda n: f"{(n * 29 + 11) % 97:03d}.ima"),
    "no extension": (lambda d: None, lambda n: f"IM{n}"),
    "rows flipped": (flip_rows, None),
    "rows and columns exchanged": (transpose, None),
    "RLE": (compress(pydicom.uid.RLELossless), None),
    "JPEG-LS": (compress(pydicom.uid.JPEGLSLossless), None),
    "JPEG 2000": (compress(pydicom.uid.JPEG2000Lossless), None),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_lossless_variants_of_the_series_give_the_same_numbers(qrm_series, qrm_labels, tmp_path, capsys, variant):
    change, names = VARIANTS[variant]
    folder = copies(qrm_series, tmp_path / "series", change, names=names)
    assert per_insert(folder, qrm_labels, capsys=capsys) == per_insert(qrm_series, qrm_labels, capsys=capsys)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_volume_files_in_any_orientation_give_the_same_numbers(qrm_series, qrm_labels, tmp_path, capsys, ending, axes):
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(
        str(next(p for p in qrm_series.rglob("*") if p.is_file()).parent)
    )
    image = sitk.DICOMOrient(sitk.ReadImage(list(names)), axes)
    sitk.WriteImage(image, str(tmp_path / f"ct{ending}"))
    ours = per_insert(tmp_path / f"ct{ending}", qrm_labels, "--thickness-mm", "3", "--kvp", "120", capsys=capsys)
    theirs = per_insert(qrm_series, qrm_labels, capsys=capsys)
    for name, numbers in ours.items():
        # A NIfTI header holds float32; the others hold all digits.
        assert numbers == pytest.approx(theirs[name], rel=1e-6 if ending == ".nii.gz" else 1e-12)


@pytest.mark.filterwarnings("ignore:The string:UserWarning")  # highdicom, about a name in this phantom's header
def test_enhanced_multi_frame_gives_the_same_numbers(qrm_series, qrm_labels, tmp_path, capsys):
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    slices = [pydicom.dcmread(p) for p in sorted(qrm_series.rglob("*")) if p.is_file()]
    LegacyConvertedEnhancedCTImage(
        slices, series_instance_uid=pydicom.uid.generate_uid(), series_number=7,
        sop_instance_uid=pydicom.uid.generate_uid(), instance_number=1,
    ).save_as(tmp_path / "enhanced.dcm")  # fmt: skip
    assert per_insert(tmp_path / "enhanced.dcm", qrm_labels, capsys=capsys) == per_insert(
        qrm_series, qrm_labels, capsys=capsys
    )


def test_one_slice_less_is_a_gap_and_one_twice_a_duplicate(qrm_series, tmp_path, capsys):
    files = sorted(p for p in qrm_series.rglob("*") if p.is_file())
    folder = tmp_path / "series"
    shutil.copytree(files[0].parent, folder)
    (folder / files[20].name).unlink()
    assert main(["score", str(folder)]) == 3
    assert capsys.readouterr().err.startswith("error: gap: ")
    shutil.copy(files[20], folder / files[20].name)
    twice = pydicom.dcmread(files[20])
    twice.SOPInstanceUID = twice.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    twice.save_as(folder / "again.dcm")
    assert main(["score", str(folder)]) == 3
    assert capsys.readouterr().err.startswith("error: duplicate: ")


# Real people.


def test_a_chest_without_coronary_calcium_scores_zero(chest_series, capsys):
    report = score(chest_series, "--bundle", "none", capsys=capsys)
    assert report["total"]["agatston"] == 0
    assert report["risk"]["category"] == "absent"


@pytest.mark.parametrize("repeat", [1, 5])
def test_the_calcified_slice_names_lad_and_not_the_aortic_root(shared_data, tmp_path, capsys, repeat):
    source = shared_data / "covid19_nysbu_slices" / "cac_lad_aortic_root_GE_2p5mm.dcm"
    folder = tmp_path / "series"
    folder.mkdir()
    for n in range(repeat):
        dataset = pydicom.dcmread(source)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        position = [float(v) for v in dataset.ImagePositionPatient]
        dataset.ImagePositionPatient = [position[0], position[1], position[2] + 2.5 * n]
        dataset.save_as(folder / f"{n}.dcm")
    report = score(folder, "--bundle", "none", "--allow", "few-slices", capsys=capsys)
    lad = report["arteries"]["LAD"]["agatston"]
    assert lad == pytest.approx(89.739 * repeat, abs=0.01 * repeat)
    assert report["total"]["agatston"] == lad


def test_the_clean_heart_slice_scores_zero(shared_data, capsys):
    source = shared_data / "covid19_nysbu_slices" / "clean_heart_TOSHIBA_5mm.dcm"
    assert score(source, "--bundle", "none", "--allow", "few-slices", capsys=capsys)["total"]["agatston"] == 0


@pytest.mark.parametrize("name", ["metal_hilum_GE_5mm", "aorta_plaque_GE_5mm"])
def test_metal_and_aortic_plaque_are_not_coronary(shared_data, capsys, name):
    source = shared_data / "covid19_nysbu_slices" / f"{name}.dcm"
    assert score(source, "--bundle", "none", "--allow", "few-slices", capsys=capsys)["total"]["agatston"] == 0


REAL_REFUSALS = {
    "covid19_nysbu_slices/coronal_reformat_GE.dcm": {"derived", "not-axial"},
    "totalsegmentator_tests/cta_dissection_heart_1p5mm.nii.gz": {"contrast"},
}


@pytest.mark.parametrize("name", REAL_REFUSALS)
def test_real_input_that_must_not_be_scored_is_refused(shared_data, capsys, name):
    assert main(["score", str(shared_data / name)]) == 3
    line = capsys.readouterr().err.strip()
    assert line.count("\n") == 0
    assert line.split(": ")[1] in REAL_REFUSALS[name]


@pytest.mark.parametrize(
    ("archive", "code"),
    [
        ("lidc_idri_0001_contrast/series.zip", "contrast"),
        ("dicom2nifti_bad_geometry/gantrytilting.zip", "tilt"),
        ("dicom2nifti_bad_geometry/notavolume.zip", "duplicate"),
        ("dicom2nifti_bad_geometry/sliceincrement.zip", "gap"),
    ],
)
def test_real_series_that_must_not_be_scored_are_refused(shared_data, tmp_path, capsys, archive, code):
    shutil.unpack_archive(shared_data / archive, tmp_path / "series")
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "series"), "--out", str(out)]) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {code}: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["series"]


def test_an_abdomen_has_no_heart_to_score_and_says_so(shared_data: Path, capsys):
    report = score(
        shared_data / "totalsegmentator_tests" / "abdomen_noncontrast_3mm.nii.gz", "--bundle", "none", capsys=capsys
    )
    assert report["total"]["agatston"] is None, "nothing was looked at, and 0 would be an answer"
    assert report["assessment"]["evaluable"] == "no"
    assert "no-heart" in {warning["code"] for warning in report["warnings"]}


def test_manual_masks_of_another_group_are_read_with_their_volume(shared_data, tmp_path):
    """DeepCAC's label 3 is coronary calcium; its voxel counts are in the table beside it."""
    from heartlens.core.ct import CTVolume
    from heartlens.io.volumes import read_labels

    for row in csv.DictReader((shared_data / "deepcac_reference" / "expected.csv").read_text().splitlines()):
        image = sitk.ReadImage(str(shared_data / "deepcac_reference" / f"{row['patient']}_msk.nrrd"))
        calcium = sitk.Cast(image == 3, sitk.sitkUInt8)
        sitk.WriteImage(calcium, str(tmp_path / "labels.nrrd"))
        sx, sy, sz = image.GetSpacing()
        affine = np.diag([sx, sy, sz, 1.0])
        affine[:3, 3] = image.GetOrigin()
        ct = CTVolume(np.zeros(image.GetSize()[::-1], np.int16), affine)
        codes = read_labels(tmp_path / "labels.nrrd", ct)
        assert np.count_nonzero(codes) == int(row["voxels_label3_cac"])
        assert np.count_nonzero(codes) * ct.voxel_volume_mm3 == pytest.approx(
            float(row["cac_mask_volume_mm3"]), rel=1e-6
        )
