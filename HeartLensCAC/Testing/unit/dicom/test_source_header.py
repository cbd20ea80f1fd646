"""SEG and SR of headers as they come: each attribute that is taken, gone, empty, doubled or garbled."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_chest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from pydicom import dcmread
from pydicom.config import IGNORE, settings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from heartlens.core.errors import InputRefused
from heartlens.dicom.header import pydicom_warnings_logged
from heartlens.dicom.source.attributes import TAKEN, Rule, patient_and_study
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs

DAMAGE = ("deleted", "empty", "doubled", "garbled")

ATTRIBUTES = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "PositionReferenceIndicator", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "OtherPatientNames", "PatientComments", "EthnicGroupCodeSequence",
    "ReferencedPatientSequence", "PatientIdentityRemoved", "DeidentificationMethod", "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID", "ClinicalTrialTimePointID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
    "StudyDescription", "ReferringPhysicianName", "ReferencedStudySequence", "PregnancyStatus", "SmokingStatus",
    "AdditionalPatientHistory", "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "InstitutionName",
    "AcquisitionDateTime", "SliceThickness", "SpacingBetweenSlices", "LossyImageCompression",
    "LossyImageCompressionRatio", "SpecificCharacterSet", "InstanceNumber", "PatientPosition",
)  # fmt: skip

GARBAGE = {
    "UI": b"not a UID",
    "SQ": b"\xfe\xff\x00\xe0\x10\x00",
    "US": b"\x01",
    "DS": b"3.0 mm",
    "IS": b"two",
    "CS": b"?nobody knows what this is\x07",
}
FULL = {
    "IssuerOfPatientID": "CLINIC", "OtherPatientNames": "A^B", "PatientComments": "none",
    "PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand", "ClinicalTrialSponsorName": "S",
    "ClinicalTrialProtocolID": "P", "ClinicalTrialTimePointID": "T", "ClinicalTrialProtocolName": "",
    "ClinicalTrialSiteID": "", "ClinicalTrialSiteName": "", "ClinicalTrialSubjectID": "1", "PregnancyStatus": 4,
    "SmokingStatus": "NO", "AdditionalPatientHistory": "-", "SoftwareVersions": "1", "InstitutionName": "I",
    "AcquisitionDateTime": "20240229101112", "SpacingBetweenSlices": 3.0, "LossyImageCompression": "00",
    "SpecificCharacterSet": "ISO_IR 100",
}  # fmt: skip


def damage(dataset: Dataset, keyword: str, how: str) -> None:
    """Change one attribute of a header, as bytes, past every check."""
    tag = Tag(keyword)
    vr = dictionary_VR(tag)
    old = (
        str(dataset[tag].value).encode()
        if tag in dataset and vr not in ("SQ", "US")
        else b"X\x01"
        if vr != "SQ"
        else b""
    )
    if tag in dataset:
        del dataset[tag]
    if how == "deleted":
        return
    value = {"empty": b"", "doubled": old + (b"" if vr in ("US", "SQ") else b"\\") + old}.get(how)
    if value is None:
        value = GARBAGE.get(vr, b"\xff\x01" + b"garbled " * 40)
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def damaged_series(folder: Path, keyword: str, how: str) -> Path:
    def edit(dataset: Dataset, n: int) -> None:
        damage(dataset, keyword, how)

    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
    try:
        small_chest.write_series(folder, edit=None, **FULL)
        for n, path in enumerate(sorted(folder.iterdir())):
            dataset = dcmread(path)
            edit(dataset, n)
            dataset.save_as(path)
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before
    return folder


def invalid(tool: str, out: Path) -> list[str]:
    """What dciodvfy calls an error in the objects of a result."""
    lines: list[str] = []
    for name in ("segmentation.dcm", "report.dcm"):
        if (out / name).exists():
            run = subprocess.run([tool, str(out / name)], capture_output=True, check=False, timeout=60)
            lines += [
                x for x in (run.stdout + run.stderr).decode("latin-1").splitlines() if x.startswith(("Error", "Abort"))
            ]
    return lines


def cases(count: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Some of all, the same ones each time; those that once ended badly always."""
    known = [("SliceThickness", "deleted"), ("SliceThickness", "garbled"), ("SOPInstanceUID", "deleted"),
             ("StudyInstanceUID", "doubled"), ("SOPClassUID", "garbled"), ("AccessionNumber", "garbled")]  # fmt: skip
    rest = [(k, how) for k in ATTRIBUTES for how in DAMAGE if (k, how) not in known]
    yield from known
    yield from random.Random(seed).sample(rest, count)


def outcome(folder: Path, keyword: str, how: str, tool: str) -> str:
    """What becomes of one damaged header: "refused: CODE", or the notes; anything else fails."""
    ct = damaged_series(folder / "ct", keyword, how)
    labels = small_chest.write_labels(folder / "labels.nrrd")
    try:
        result = score_series(ct, Request(segmentation=labels))
    except InputRefused as refusal:
        return f"refused: {refusal.code}"
    notes = write_outputs(result, folder / "out")
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["total"]["agatston"] == pytest.approx(small_chest.TOTAL), (keyword, how)
    assert not [note for note in notes if "Error in" in note], (keyword, how, notes)
    kept = "kept so that references match" in " ".join(notes)
    errors = [x for x in invalid(tool, folder / "out") if not (kept and ("UID" in x or "<UI>" in x))]
    assert errors == [], (keyword, how, notes)
    left_out = "segmentation.dcm was not written" in " ".join(notes)
    assert left_out != (folder / "out" / "segmentation.dcm").exists()
    return "; ".join(notes)


@pytest.mark.slow
@pytest.mark.parametrize(("keyword", "how"), list(cases(2)), ids=str)
def test_a_damaged_attribute_costs_neither_the_score_nor_a_valid_object(tmp_path, require_tool, keyword, how):
    assert not outcome(tmp_path, keyword, how, require_tool("dciodvfy")).startswith("refused")


def test_a_name_longer_than_the_standard_allows_is_not_passed_on(tmp_path):
    (path, *_) = small_chest.write_series(tmp_path, PatientName="A" * 64, StudyID="CORONARY")
    dataset = dcmread(path)
    taken, illegal = patient_and_study(dataset)
    assert (taken.PatientName, illegal) == ("A" * 64, [])
    dataset._dict[Tag("PatientName")] = RawDataElement(Tag("PatientName"), "PN", 65, b"A" * 65, 0, False, True)
    with pydicom_warnings_logged():
        taken, illegal = patient_and_study(dataset)
    assert (taken.PatientName, illegal, taken.StudyID) == ("", ["PatientName"], "CORONARY")


def test_the_table_holds_every_attribute_of_patient_and_study():
    """What highdicom copies from a CT image is what the table rules."""
    modules = [item["key"] for item in get_iod_module_map()["ct-image"] if item["ie"] in ("Patient", "Study")]
    copied = {item["keyword"] for module in modules for item in get_module_attribute_map()[module] if not item["path"]}
    assert copied <= set(TAKEN)
    assert all(tag_for_keyword(keyword) for keyword in TAKEN)
    assert {k for k, rule in TAKEN.items() if rule is Rule.REFER} == {
        "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"
    }  # fmt: skip
