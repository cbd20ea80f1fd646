"""Every export is read back by the format's own library, and says where its labels come from."""

from __future__ import annotations

import json
import os
import plistlib
import subprocess
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from full_disk import a_disk_with_room_for

from heartlens.case.case import Case
from heartlens.case.folder import save_case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.dicom.read import read_series
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.dicom.write import write_ct_series
from heartlens.io.volumes import read_labels, read_volume
from training.datasets.coca import CocaDataset
from training.datasets.coca.outlines import pixels_inside, polygon_area_px
from training.datasets.labels import export_labels
from training.datasets.labels.__main__ import main
from training.datasets.labels.coca_plist import outline
from training.datasets.labels.coco import png16, votes
from training.datasets.labels.nifti import write_image
from training.datasets.scans import LabeledScan

REPOSITORY = Path(__file__).resolve().parents[3]
WHEN = "2026-03-04T05:06:07+00:00"


def skip_or_fail(reason: str) -> None:
    """Skip on a user's machine; in CI a missing part is a failure, because nobody would notice a skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


def random_island(rng: np.random.Generator) -> np.ndarray:
    """The largest 4-connected island of a random mask: ragged, with holes and corners that touch."""
    codes = (rng.random((14, 14)) < 0.62).astype(np.uint8)
    return max((mask for _, mask in votes(codes)), key=np.count_nonzero)


@pytest.fixture(scope="module")
def crowded() -> LabeledScan:
    """Ragged islands of every artery, of calcium outside them and of no artery yet, on each of five slices."""
    rng = np.random.default_rng(8)
    hu = np.full((5, 48, 64), -300, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    for k in range(5):
        for n, artery in enumerate(Artery):
            top, left = 16 * (n // 3) + 1, 20 * (n % 3) + 1
            mask = random_island(rng)
            hu[k, top : top + 14, left : left + 14][mask] = rng.integers(130, 1500, int(mask.sum()))
            labels[k, top : top + 14, left : left + 14][mask] = artery
    header = CTHeader(
        study_uid="2.25.7.1", series_uid="2.25.7.2", frame_of_reference_uid="2.25.7.3",
        sop_instance_uids=tuple(f"2.25.7.4.{k}" for k in range(5)), kvp=120.0, slice_thickness_mm=2.5,
    )  # fmt: skip
    affine = np.diag([0.35, 0.45, 2.5, 1.0])
    affine[:3, 3] = (-80.25, -200.5, 1200.0)
    return LabeledScan("phantom/4", "p4", "phantom", CTVolume(hu, affine, header), labels)


@pytest.fixture(scope="module")
def oblique() -> LabeledScan:
    """Two pixels of calcium on a grid whose axes are slightly turned, with three different spacings."""
    turn = np.deg2rad(4)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.4, 0.5, 3.0]
    affine[:3, 3] = (-90.5, -230.25, -120.0)
    hu = np.full((4, 12, 10), -100, np.int16)
    hu[2, 3, 4:6] = (180, 1200)
    hu[0, 0, 0] = -1024
    labels = np.zeros(hu.shape, np.uint8)
    labels[2, 3, 4:6] = Artery.RCA
    facts = {"made_by": "edited", "readers": ["Reader One"], "last_edit": "2026-01-02T10:00:00Z"}
    return LabeledScan("case/ab12", "p", "case", CTVolume(hu, affine, CTHeader(kvp=120.0)), labels, provenance=facts)


# outlines


@pytest.mark.parametrize("seed", range(25))
def test_an_outline_holds_exactly_its_island(seed):
    mask = random_island(np.random.default_rng(seed))
    points = outline(mask)
    np.testing.assert_array_equal(pixels_inside(points, mask.shape), np.flatnonzero(mask))
    assert polygon_area_px(points) == mask.sum()


def test_an_outline_goes_around_a_hole_and_what_lies_in_it():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    points = outline(mask)
    np.testing.assert_array_equal(pixels_inside(points, (7, 7)), np.flatnonzero(mask))
    mask[3, 3] = True
    inner = np.zeros((7, 7), bool)
    inner[3, 3] = True
    assert 24 not in pixels_inside(points, (7, 7))
    np.testing.assert_array_equal(pixels_inside(outline(inner), (7, 7)), [24])


def test_the_outline_of_a_box_has_its_four_corners():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:5] = True
    assert outline(mask).tolist() == [[1.5, 0.5], [4.5, 0.5], [4.5, 3.5], [1.5, 3.5]]


# COCA


def test_coca_outlines_come_back_as_the_same_labels_with_every_check_passed(tmp_path, crowded):
    export_labels(tmp_path / "coca", [crowded], "coca", when=WHEN)
    images = tmp_path / "coca" / "patient" / "1" / "series"
    images.mkdir(parents=True)
    write_ct_series(images, crowded.ct, patient_name="Nobody", patient_id="none", description="x")
    patient = CocaDataset.find(tmp_path / "coca").read_gated(1)
    coronary = np.where(crowded.labels == Artery.OTHER, 0, crowded.labels)
    assert np.unique(coronary).tolist() == [0, 1, 2, 3, 4, 6]
    np.testing.assert_array_equal(patient.labels, coronary)
    assert {check.verdict for check in patient.checks} == {"proven"}
    assert {note for check in patient.checks for note in check.notes} == {"the name 'Unassigned' names no artery"}
    for check in patient.checks:
        assert check.pixels == check.labeled == pytest.approx(check.roi.total_hu / check.roi.mean_hu)
        assert check.mean_hu == pytest.approx(check.roi.mean_hu)
        assert check.area_mm2 == pytest.approx(check.roi.area_mm2, rel=1e-5)


def test_coca_leaves_out_what_is_not_coronary_and_counts_it(tmp_path, crowded):
    export_labels(tmp_path / "coca", [crowded], "coca", when=WHEN)
    expected = sum(artery is Artery.OTHER for codes in crowded.labels for artery, _ in votes(codes))
    provenance = json.loads((tmp_path / "coca" / "scans.json").read_text())["1"]
    assert provenance["islands_not_coronary_left_out"] == expected > 0
    document = plistlib.loads((tmp_path / "coca" / "calcium_xml" / "1.xml").read_bytes())
    assert json.loads(document["HeartLens"])["exported_at"] == WHEN


def test_an_artery_without_a_name_stays_unassigned_through_coca(tmp_path, oblique):
    labels = np.where(oblique.labels > 0, Artery.UNASSIGNED, 0).astype(np.uint8)
    scan = LabeledScan("case/1", "p", "case", oblique.ct, labels)
    export_labels(tmp_path / "coca", [scan], "coca", when=WHEN)
    roi = plistlib.loads((tmp_path / "coca" / "calcium_xml" / "1.xml").read_bytes())["Images"][0]["ROIs"][0]
    assert (roi["Name"], roi["Max"], roi["NumberOfPoints"]) == ("Unassigned", 1200, 4)
    x, y, z = (float(v) for v in roi["Center"].strip("()").split(","))
    np.testing.assert_allclose((x, y, z), oblique.ct.lps_mm([2, 3, 4.5]), atol=1e-6)


# NIfTI and nnU-Net


def test_nifti_pairs_are_read_by_nibabel_at_the_same_place(tmp_path, oblique):
    nibabel = pytest.importorskip("nibabel")
    export_labels(tmp_path / "out", [oblique], "nifti", when=WHEN)
    for part, expected in (("ct", oblique.ct.hu), ("labels", oblique.labels)):
        image = nibabel.load(tmp_path / "out" / f"case-ab12_{part}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), expected.transpose(2, 1, 0))
        # nibabel is RAS, HeartLens LPS: x and y change their sign
        np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ oblique.ct.affine, atol=1e-4)
        assert image.get_data_dtype() == expected.dtype
        assert image.header.get_xyzt_units()[0] == "mm"


def test_nifti_pairs_are_read_by_heartlens_too(tmp_path, crowded):
    export_labels(tmp_path / "out", [crowded], "nifti", when=WHEN)
    ct, _ = read_volume(tmp_path / "out" / "phantom-4_ct.nii.gz")
    np.testing.assert_array_equal(ct.hu, crowded.ct.hu)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "phantom-4_labels.nii.gz", ct), crowded.labels)


def test_the_sidecar_says_who_when_which_version_and_whether_edited(tmp_path, oblique):
    export_labels(tmp_path / "out", [oblique], "nifti", when=WHEN)
    document = json.loads((tmp_path / "out" / "case-ab12.json").read_text())
    assert document["labels"]["LAD"] == 2
    assert document["provenance"] == {
        "scan": "case/ab12",
        "source": "case",
        "exported_by": f"HeartLens {__import__('heartlens').__version__}",
        "exported_at": WHEN,
        "made_by": "edited",
        "readers": ["Reader One"],
        "last_edit": "2026-01-02T10:00:00Z",
    }


NNUNET_CHECK = """
import sys
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace
from nnunetv2.experiment_planning import verify_dataset_integrity as check

# Threads for its processes: each of those would import torch again, which takes longer than the check.
check.multiprocessing = SimpleNamespace(get_context=lambda method: SimpleNamespace(Pool=ThreadPool))
for dataset in sys.argv[1:]:
    try:
        check.verify_dataset_integrity(dataset, num_processes=1)
        print("ACCEPTED")
    except Exception as error:
        print("REJECTED", error)
"""


@pytest.mark.slow
def test_nnunets_own_check_accepts_the_dataset_and_rejects_spoiled_ones(tmp_path, crowded, oblique):
    python = REPOSITORY / ".venv-nnunet" / "bin" / "python"
    if not python.exists():
        skip_or_fail("nnU-Net is not installed in .venv-nnunet (make .venv-nnunet/installed)")
    for name in ("good", "swapped", "unknown", "missing"):
        export_labels(tmp_path / name, [crowded, oblique], "nnunet", when=WHEN)
    dataset = {p.name: p / "Dataset770_HeartLens" for p in tmp_path.iterdir()}
    # The same check must see what is wrong: labels of another image, a label without a name, a case without labels.
    labels = dataset["swapped"] / "labelsTr"
    (labels / "case-ab12.nii.gz").write_bytes((labels / "phantom-4.nii.gz").read_bytes())
    write_image(dataset["unknown"] / "labelsTr" / "case-ab12.nii.gz", oblique.labels + 9, oblique.ct)
    (dataset["missing"] / "labelsTr" / "case-ab12.nii.gz").unlink()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [str(python), "-c", NNUNET_CHECK, *(str(dataset[n]) for n in ("good", "swapped", "unknown", "missing"))],
        capture_output=True, text=True, timeout=200, check=False,
        env=clean | {"nnUNet_raw": str(tmp_path), "nnUNet_preprocessed": "", "nnUNet_results": ""},
    )  # fmt: skip
    verdicts = [line for line in run.stdout.splitlines() if line.startswith(("ACCEPTED", "REJECTED"))]
    assert [verdict.split()[0] for verdict in verdicts] == ["ACCEPTED", "REJECTED", "REJECTED", "REJECTED"], run.stderr
    assert "Warning" not in run.stdout[: run.stdout.index("ACCEPTED")]


def test_the_nnunet_dataset_has_the_names_that_nnunet_asks_for(tmp_path, crowded, oblique):
    export_labels(tmp_path / "raw", [crowded, oblique], "nnunet", when=WHEN)
    dataset = tmp_path / "raw" / "Dataset770_HeartLens"
    assert sorted(str(p.relative_to(dataset)) for p in dataset.rglob("*") if p.is_file()) == [
        "dataset.json",
        "imagesTr/case-ab12_0000.nii.gz",
        "imagesTr/phantom-4_0000.nii.gz",
        "labelsTr/case-ab12.nii.gz",
        "labelsTr/phantom-4.nii.gz",
    ]
    document = json.loads((dataset / "dataset.json").read_text())
    assert document["provenance"]["case-ab12"]["made_by"] == "edited"
    assert document["numTraining"] == 2
    assert list(document["labels"].values()) == list(range(7))


# COCO


def test_coco_masks_are_read_by_pycocotools(tmp_path, crowded, oblique, capsys):
    try:
        from pycocotools.coco import COCO
    except ModuleNotFoundError:
        skip_or_fail("pycocotools is not installed (training/requirements-test.txt)")
    export_labels(tmp_path / "coco", [crowded, oblique], "coco", when=WHEN)
    coco = COCO(str(tmp_path / "coco" / "annotations.json"))
    assert len(coco.imgs) == crowded.ct.shape[0] + oblique.ct.shape[0]
    rebuilt = {scan.name: np.zeros(scan.ct.shape, np.uint8) for scan in (crowded, oblique)}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.imgs[annotation["image_id"]]
        with warnings.catch_warnings():  # pycocotools speaks numpy 1
            warnings.simplefilter("ignore", DeprecationWarning)
            mask = coco.annToMask(annotation).astype(bool)
        x, y, width, height = annotation["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum() == annotation["area"]
        rebuilt[image["scan"]][image["slice"]][mask] = annotation["category_id"]
    for scan in (crowded, oblique):
        np.testing.assert_array_equal(rebuilt[scan.name], scan.labels)
    assert coco.cats[int(Artery.OTHER)]["supercategory"] == "not coronary"
    assert [provenance["scan"] for provenance in coco.dataset["info"]["provenance"]] == ["phantom/4", "case/ab12"]


def test_coco_images_keep_every_hu(tmp_path, oblique):
    pillow = pytest.importorskip("PIL.Image")
    export_labels(tmp_path / "coco", [oblique], "coco", when=WHEN)
    with pillow.open(tmp_path / "coco" / "images" / "case-ab12_0002.png") as image:
        np.testing.assert_array_equal(np.asarray(image).astype(int) - 1024, oblique.ct.hu[2])
    assert png16(np.array([[-3000, 70000]])).startswith(b"\x89PNG")


# what cannot be exported


def test_scans_without_labels_are_refused_and_nothing_is_left(tmp_path, oblique):
    plain = LabeledScan("coca-gated/3", "p", "coca-gated", oblique.ct, None, why_unlabelled="no XML file")
    with pytest.raises(InputRefused, match="labels: coca-gated/3 has no labels to export: no XML file"):
        export_labels(tmp_path / "out", [oblique, plain], "coco")
    assert list(tmp_path.iterdir()) == []


def test_two_scans_of_one_name_are_refused(tmp_path, oblique):
    with pytest.raises(InputRefused, match="ambiguous: case/ab12 is given twice"):
        export_labels(tmp_path / "out", [oblique, oblique], "nifti")


def test_exporting_nothing_is_refused(tmp_path):
    with pytest.raises(InputRefused, match="input: no scan to export"):
        export_labels(tmp_path / "out", [], "nnunet")
    with pytest.raises(ValueError, match="format must be one of"):
        export_labels(tmp_path / "out", [], "dicom")


@pytest.fixture
def saved_case(tmp_path, oblique):
    lesions = LesionMap((oblique.labels > 0).astype(np.uint16), {1: Artery.RCA})
    case = Case.of(oblique.ct, lesions, ScoringProtocol(minimum_area_mm2=0.0), provenance=Provenance(LabelSource.RULES))
    case = case.reassign(1, Artery.LM, who="Reader One", when="2026-01-02T10:00:00Z")
    save_case(case, tmp_path / "case")
    return tmp_path / "case"


@pytest.mark.parametrize("format", ["nnunet", "nifti", "coco", "coca"])
def test_a_saved_case_is_exported_with_the_readers_edit(tmp_path, saved_case, format, capsys):
    out = tmp_path / "out"
    assert main([str(saved_case), f"--format={format}", f"--out={out}"]) == 0
    assert "1 cases" in capsys.readouterr().out
    text = "".join(p.read_text() for p in sorted(out.rglob("*")) if p.suffix in (".json", ".xml"))
    for fact in ("Reader One", "2026-01-02T10:00:00Z", "edited", "exported_at"):
        assert fact in text
    if format == "coca":
        assert "Left Coronary Artery" in text


def test_a_case_that_cannot_be_opened_ends_the_export_in_one_line(tmp_path, saved_case, capsys):
    assert main([str(saved_case), str(tmp_path / "none"), "--format=nifti", f"--out={tmp_path / 'out'}"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: input: ")
    assert "none holds no HeartLens case" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_not_overwritten(tmp_path, saved_case, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    assert main([str(saved_case), "--format=nifti", f"--out={tmp_path / 'out'}"]) == 3
    assert "exists; choose another --out" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("format", ["nnunet", "nifti", "coco", "coca"])
def test_a_full_disk_ends_the_export_in_one_line_and_leaves_no_half_export(tmp_path, saved_case, format, capsys):
    before = sorted(tmp_path.rglob("*"))
    with a_disk_with_room_for(100):
        assert main([str(saved_case), f"--format={format}", f"--out={tmp_path / 'out'}"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: output: cannot write ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_outlines_on_a_real_scan_come_back_through_its_own_dicom_files(tmp_path):
    series = REPOSITORY.parent / "shared" / "data" / "qrm_cci_canon" / "series.zip"
    if not series.is_file():
        pytest.skip("needs the real CT data beside the repository (shared/data), which is not distributed")
    images = tmp_path / "coca" / "patient" / "1" / "Pro_Gated_CS_3.0_I30f_3_70% (1)"
    with zipfile.ZipFile(series) as archive:
        archive.extractall(tmp_path / "unzipped")
    ct, _ = read_series(choose_series(rank_series(find_series(tmp_path / "unzipped"))))
    labels = np.zeros(ct.shape, np.uint8)
    for k in range(*np.quantile(np.arange(ct.shape[0]), [0.4, 0.6]).astype(int)):
        bright = [mask for _, mask in votes((ct.hu[k] >= 130).astype(np.uint8)) if 4 < mask.sum() < 400]
        for n, mask in enumerate(bright[:8]):
            labels[k][mask] = 1 + n % 4
    assert np.isin([1, 2, 3, 4], labels).all()
    export_labels(tmp_path / "out", [LabeledScan("case/1", "p", "case", ct, labels)], "coca", when=WHEN)
    images.parent.mkdir(parents=True)
    (tmp_path / "unzipped").rename(images)
    (tmp_path / "out" / "calcium_xml").rename(tmp_path / "coca" / "calcium_xml")
    patient = CocaDataset.find(tmp_path / "coca").read_gated(1)
    np.testing.assert_array_equal(patient.labels, labels)
    assert {(check.verdict, check.notes) for check in patient.checks} == {("proven", ())}
