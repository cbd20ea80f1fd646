"""Phantoms, COCA and saved cases become shards by one command, and nothing is dropped silently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from heartlens.case.case import Case
from heartlens.case.folder import append_edit, load_case, save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.dicom.read import read_series
from heartlens.dicom.series import find_series
from heartlens.dicom.write import write_ct_series
from training.datasets.shards import ShardSet
from training.datasets.sources import case_scan
from training.datasets.splits import Splits
from training.prepare import main

pytestmark = pytest.mark.slow

SMALL = [
    f"--set={setting}"
    for setting in ("matrix=64", "slice_thickness_mm=8", "increment_mm=8", "field_of_view=heart", "motion_mm=0")
]
LAD = "Left Anterior Descending Artery"


def make_case(folder, *, seed: int = 1, dicom=None, edits: bool = True) -> Case:
    """A tiny case: one lesion of 8 voxels found automatically as LAD, which a reader then gives to the RCA."""
    hu = np.full((4, 16, 16), -100, np.int16)
    hu[0, 0, 0] = seed
    hu[1, 4:6, 4:8] = 300
    hu[2, 10, 10:14] = 200
    root = f"2.25.{seed}"
    header = CTHeader(
        study_uid=f"{root}.1", series_uid=f"{root}.2", frame_of_reference_uid=f"{root}.3",
        sop_instance_uids=tuple(f"{root}.4.{k}" for k in range(4)), kvp=120.0, slice_thickness_mm=3.0,
    )  # fmt: skip
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]), header if dicom else CTHeader(kvp=120.0, slice_thickness_mm=3.0))
    source = []
    if dicom:
        dicom.mkdir(parents=True)
        write_ct_series(dicom, ct, patient_name="Nobody", patient_id="none", description="x")
        ct, _ = read_series(find_series(dicom)[0])
        source = [str(dicom)]
    labels = np.zeros(hu.shape, np.uint16)
    labels[1, 4:6, 4:8] = 1
    case = Case.of(
        ct,
        LesionMap(labels, {1: Artery.LAD}),
        ScoringProtocol(),
        provenance=Provenance(LabelSource.RULES, source=tuple(source)),
    )
    if edits:
        case = case.reassign(1, Artery.RCA, who="Reader One", when="2026-01-02T10:00:00Z")
        flat = np.flatnonzero((hu == 200).ravel())
        case = case.paint(flat, Artery.LCX, who="Reader Two", when="2026-01-03T10:00:00Z")
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_case(case, folder)
    return case


def test_phantoms_become_shards_with_any_number_of_workers(tmp_path, capsys):
    for workers in (1, 2):
        out = tmp_path / f"shards{workers}"
        assert main(["phantoms", f"--out={out}", "--count=2", "--seed=3", f"--workers={workers}", *SMALL]) == 0
    assert "phantom: 2 scans, 2 labeled" in capsys.readouterr().out
    one, two = ((tmp_path / f"shards{n}" / "images-00000.npy").read_bytes() for n in (1, 2))
    assert one == two
    record = ShardSet.open(tmp_path / "shards1").scans[0]
    assert (record.name, record.source, record.provenance["parameters"]["seed"]) == ("phantom/3", "phantom", 3)
    assert record.shape[1:] == (64, 64)


def test_balanced_phantoms_have_every_amount_of_calcium_in_turn(tmp_path):
    out = tmp_path / "shards"
    assert main(["phantoms", f"--out={out}", "--count=5", "--seed=10", "--workers=1", "--balanced", *SMALL]) == 0
    asked_for = [scan.provenance["parameters"]["category"] for scan in ShardSet.open(out).scans]
    assert asked_for == ["0", "1-10", "11-100", "101-400", ">400"]


def test_a_phantom_setting_that_does_not_exist_is_refused_in_one_line(tmp_path, capsys):
    assert main(["phantoms", f"--out={tmp_path / 's'}", "--count=1", "--set=colour=red"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: input: phantom setting: expected KEY=VALUE")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert main(["phantoms", f"--out={tmp_path / 's'}", "--count=0"]) == 3


def test_a_whole_coca_download_becomes_shards_and_every_loss_is_listed(coca, roi, image, plaque_ct, coca_ct, capsys):
    def another(n):
        hu = plaque_ct.hu.copy()
        hu[0, 0, 0] = n
        return coca_ct(hu, uid=n)

    entry = roi(plaque_ct, LAD, 2, (10, 12), (20, 22))
    for n in (1, 2, 3, 4, 5):
        coca.images(n, another(n))
    coca.annotations(1, [image(2, entry)])
    coca.annotations(2, [image(2, entry, {**entry, "Max": 999.0})])
    coca.annotations(12, [image(2, entry)])
    (coca.release / "calcium_xml" / "4.xml").write_bytes(b"<plist>")
    (coca.release / "patient" / "5" / "Pro_Gated_CS_3.0_I30f_3_70% (1)" / "IM-6130-0004.dcm").unlink()
    coca.nongated_images(1, another(6), inner="1")
    coca.nongated_images(2, another(7), inner=".")
    coca.scores([["filename ", "LCA", "LAD", "LCX", "RCA", "total"], ["1A", 1, 2, 0, 200, 203]])
    out = coca.root / "shards"
    assert main(["coca", str(coca.root), f"--out={out}"]) == 0

    shards = ShardSet.open(out)
    assert [(s.name, s.is_labeled, s.category, s.calcified_slices) for s in shards.scans] == [
        ("coca-gated/1", True, "0-10", (2,)),
        ("coca-gated/2", False, None, ()),
        ("coca-gated/3", False, None, ()),
        ("coca-nongated/1", False, "101-400", ()),
        ("coca-nongated/2", False, None, ()),
    ]
    assert shards.scans[1].why_unlabelled == "1 of 2 outlines could not be proven"
    assert f"image 2, ROI 2 ({LAD}) failed: Max is 999, the brightest pixel inside has 420 HU" in shards.scans[1].notes
    assert shards.scans[2].why_unlabelled == "no XML file: nobody annotated this scan"
    assert not shards.labels(1).any()
    assert [(s.name, s.code) for s in shards.skipped] == [
        ("coca-gated/4", "unreadable"),
        ("coca-gated/5", "gap"),
        ("coca-gated/12", "input"),
    ]
    assert len({scan.patient for scan in shards.scans}) == 5
    assert shards.scans[0].agatston["LAD"] == pytest.approx(9 * 0.16 * 4)
    text = capsys.readouterr().out
    assert "coca-gated: 3 scans, 1 labeled, 24 slices, 1 with calcium" in text
    assert "coca-gated/12: input: gated patient 12 has labels but no images" in text


def test_a_folder_without_coca_is_refused_by_the_command(tmp_path, capsys):
    assert main(["coca", str(tmp_path), f"--out={tmp_path / 's'}"]) == 3
    assert capsys.readouterr().err.startswith("error: input: ")


def test_a_case_brings_the_readers_labels(tmp_path):
    make_case(tmp_path / "result" / "case")
    scan = case_scan(tmp_path / "result")
    expected = np.zeros((4, 16, 16), np.uint8)
    expected[1, 4:6, 4:8] = Artery.RCA
    expected[2, 10, 10:14] = Artery.LCX
    np.testing.assert_array_equal(scan.labels, expected)
    provenance = scan.provenance
    assert provenance["made_by"] == "edited"
    assert provenance["readers"] == ["Reader One", "Reader Two"]
    assert (provenance["last_edit"], provenance["labels_from"]) == ("2026-01-03T10:00:00Z", "rules")


def test_a_case_that_nobody_edited_is_automatic(tmp_path):
    make_case(tmp_path / "case", edits=False)
    provenance = case_scan(tmp_path / "case").provenance
    assert (provenance["made_by"], provenance["edits"], provenance["readers"]) == ("automatic", 0, [])


@pytest.mark.parametrize(("accept", "labeled"), [([], False), (["--accept-automatic"], True)])
def test_labels_that_nobody_edited_are_learned_from_only_on_request(tmp_path, accept, labeled):
    make_case(tmp_path / "case", edits=False)
    assert main(["cases", str(tmp_path / "case"), f"--out={tmp_path / 's'}", *accept]) == 0
    shards = ShardSet.open(tmp_path / "s")
    assert shards.scans[0].is_labeled is labeled
    assert shards.labels(0).any() == labeled
    assert ("nobody edited them" in shards.scans[0].why_unlabelled) is not labeled


def sign(folder):
    """Sign a saved case as a reader does."""
    sign_case(folder, load_case(folder), Signature("Reader^Three", "Hospital", "2026-01-04T10:00:00+00:00"))


def test_a_case_whose_one_edit_was_taken_back_is_as_automatic_as_before(tmp_path):
    """What is left of it is what the program said, and nobody stands for that."""
    case = make_case(tmp_path / "case", edits=False).reassign(1, Artery.RCA, who="Reader One").undo(who="Reader One")
    append_edit(tmp_path / "case", *case.edits)
    provenance = case_scan(tmp_path / "case").provenance
    assert (provenance["made_by"], provenance["edits"], provenance["readers"]) == ("automatic", 0, [])
    assert main(["cases", str(tmp_path / "case"), f"--out={tmp_path / 's'}"]) == 0
    assert not ShardSet.open(tmp_path / "s").scans[0].is_labeled


def test_a_signed_case_without_an_edit_is_labeled_by_who_signed_it(tmp_path):
    make_case(tmp_path / "case", edits=False)
    sign(tmp_path / "case")
    assert main(["cases", str(tmp_path / "case"), f"--out={tmp_path / 's'}"]) == 0
    scan = ShardSet.open(tmp_path / "s").scans[0]
    assert scan.is_labeled
    assert (scan.provenance["made_by"], scan.provenance["readers"]) == ("signed", ["Reader^Three"])
    assert scan.provenance["signed"]["organization"] == "Hospital"


def test_a_case_of_which_half_was_read_teaches_nothing_until_it_is_signed(tmp_path, capsys):
    case = make_case(tmp_path / "case", edits=False)
    painted = case.paint(np.flatnonzero((case.ct.hu == 200).ravel()), Artery.LCX, who="Reader Two")
    append_edit(tmp_path / "case", *painted.edits)
    assert main(["cases", str(tmp_path / "case"), f"--out={tmp_path / 's'}"]) == 0
    assert "1 of its 2 islands were reviewed and nobody signed it" in capsys.readouterr().out
    assert not ShardSet.open(tmp_path / "s").scans[0].is_labeled
    sign(tmp_path / "case")
    assert main(["cases", str(tmp_path / "case"), f"--out={tmp_path / 't'}"]) == 0
    assert ShardSet.open(tmp_path / "t").scans[0].is_labeled


def test_a_case_that_was_altered_after_it_was_signed_is_no_truth(tmp_path):
    make_case(tmp_path / "case")
    sign(tmp_path / "case")
    journal = tmp_path / "case" / "edits.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))
    with pytest.raises(InputRefused, match="altered after it was signed"):
        case_scan(tmp_path / "case")


def test_splits_that_are_there_are_never_replaced_by_others(tmp_path, capsys):
    """Who was tested on decides what every figure means."""
    for n in range(10):
        make_case(tmp_path / f"case{n}", seed=n + 1)
    shards, splits = tmp_path / "shards", tmp_path / "splits.json"
    assert main(["cases", *(str(tmp_path / f"case{n}") for n in range(10)), f"--out={shards}"]) == 0
    assert main(["split", str(shards), f"--out={splits}", "--seed=2"]) == 0
    before = splits.read_bytes()
    assert main(["split", str(shards), f"--out={splits}", "--seed=2"]) == 0  # the same are no other
    assert main(["split", str(shards), f"--out={splits}", "--seed=3"]) == 3
    assert "holds other splits: who was tested on must not change" in capsys.readouterr().err
    assert splits.read_bytes() == before


def test_preparing_data_and_exporting_labels_needs_no_torch():
    code = (
        "import sys, training.prepare, training.datasets.sources, training.datasets.labels.__main__\n"
        "print(sorted(m for m in ('torch', 'timm', 'monai', 'openpyxl', 'SimpleITK') if m in sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'HeartLensCAC'}"},
    )  # fmt: skip
    assert run.stdout.strip() == "[]"


def test_cases_of_one_person_have_one_pseudonym_and_no_identity(tmp_path):
    for n, patient in enumerate(("MRN-77", "MRN-77", "MRN-78")):
        dicom = tmp_path / f"dicom{n}"
        make_case(tmp_path / f"case{n}", seed=n + 1, dicom=dicom)
        for path in dicom.iterdir():
            dataset = dcmread(path)
            dataset.PatientID = patient
            dataset.save_as(path)
    out = tmp_path / "shards"
    assert main(["cases", *(str(tmp_path / f"case{n}") for n in range(3)), f"--out={out}"]) == 0
    patients = [scan.patient for scan in ShardSet.open(out).scans]
    assert patients[0] == patients[1] != patients[2]
    text = (out / "index.json").read_text()
    assert "MRN" not in text
    assert "Nobody" not in text


def test_a_case_that_cannot_be_opened_is_skipped_and_listed_without_its_name(tmp_path, capsys):
    make_case(tmp_path / "good")
    make_case(tmp_path / "Doe^Jane" / "case", seed=2)
    (tmp_path / "Doe^Jane" / "case" / "auto.seg.nrrd").unlink()
    out = tmp_path / "shards"
    assert main(["cases", str(tmp_path / "good"), str(tmp_path / "Doe^Jane"), f"--out={out}"]) == 0
    skip = ShardSet.open(out).skipped[0]
    assert skip.name == "case 2 of 2"
    assert "case 2 of 2: " in capsys.readouterr().out
    assert "Doe" not in (out / "index.json").read_text()


def test_two_cases_of_one_ct_count_once(tmp_path):
    make_case(tmp_path / "a")
    make_case(tmp_path / "b", edits=False)
    assert main(["cases", str(tmp_path / "a"), str(tmp_path / "b"), f"--out={tmp_path / 's'}"]) == 0
    shards = ShardSet.open(tmp_path / "s")
    assert len(shards.scans) == 1
    assert shards.skipped[0].code == "duplicate"


def test_split_and_check_follow_the_shards(tmp_path, capsys):
    for n in range(10):
        make_case(tmp_path / f"case{n}", seed=n + 1)
    cases = [str(tmp_path / f"case{n}") for n in range(10)]
    shards, splits = tmp_path / "shards", tmp_path / "splits.json"
    assert main(["cases", *cases, f"--out={shards}"]) == 0
    assert main(["split", str(shards), f"--out={splits}", "--seed=2"]) == 0
    loaded = Splits.load(splits)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (8, 1, 1)
    capsys.readouterr()
    assert main(["check", str(shards), f"--splits={splits}"]) == 0
    text = capsys.readouterr().out
    assert "total                 8           1           1" in text
    assert "Every file is what was written." in text
    assert main(["check", str(shards), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scans"] == 10

    damaged = bytearray((shards / "images-00000.npy").read_bytes())
    damaged[-1] ^= 1
    (shards / "images-00000.npy").write_bytes(damaged)
    assert main(["check", str(shards)]) == 3
    assert capsys.readouterr().err.startswith("error: checksum: ")


def test_nothing_in_the_shards_is_no_shards(tmp_path, capsys):
    assert main(["cases", str(tmp_path / "nowhere"), f"--out={tmp_path / 's'}"]) == 3
    assert "no scan can be used" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
