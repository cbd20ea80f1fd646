"""DICOM SR: the numbers of the report, unrounded, judged by highdicom, pydicom, dciodvfy and dsrdump."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from dicom_builder import write_converted_ct, write_ct_series, write_enhanced_ct
from pydicom import dcmread
from pydicom.sr.codedict import codes as standard

from heartlens import __version__
from heartlens.calcium import extract_lesions
from heartlens.core.codes import REGIONS
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.seg import write_seg
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.dicom.source.uids import ObjectUids
from heartlens.dicom.sr import write_sr
from heartlens.dicom.sr_content.compared import Compared
from heartlens.risk.assess import assess
from heartlens.risk.assessment import assess_score
from heartlens.risk.categories import SCHEMES
from heartlens.scoring.counted import scored_voxels
from heartlens.scoring.report import score_lesions

KNOWN_ERRORS: dict[str, str] = {}
"""Error lines of dciodvfy that are not ours, with the reason. None so far."""

PROTOCOL = ScoringProtocol()
CALIBRATED = ScoringProtocol(mass_factor_mg_per_mm3_hu=0.0008)

SCORE = hd.sr.CodedConcept("450360000", "SCT", "Coronary artery calcium score")
MASS = hd.sr.CodedConcept("112199", "DCM", "Mass of Vascular Calcification")


def plaques(**arteries):
    """HU and labels of 4 slices with one 3x4 plaque an artery: 130 HU and one pixel of the given peak, at 0.5 mm."""
    hu = np.full((4, 40, 12), -50, np.int16)
    hu[0, 0, 0] = -1000
    codes = np.zeros(hu.shape, np.uint8)
    for n, (name, peak) in enumerate(arteries.items()):
        box = np.s_[1, 6 * n : 6 * n + 3, 2:6]
        hu[box], codes[box] = 150, Artery[name]
        hu[1, 6 * n + 1, 3] = peak
    return hu, codes


def named(item):
    return item.ConceptNameCodeSequence[0].CodeValue


class Written:
    """A CT with plaques, scored, with its SEG and SR on disk."""

    def __init__(
        self, folder, protocol=PROTOCOL, *, kind="classic", cautions=(), risk=None, sign=None, tags=None, more=None,
        undecided=(), said=None, **arteries,
    ):  # fmt: skip
        folder.mkdir(exist_ok=True)
        hu, codes = plaques(**arteries)
        if more is not None:
            more(hu, codes)
        paths = write_ct_series(folder / "ct", hu, **(tags or {}))
        source = folder / "ct"
        if kind != "classic":
            source = folder / "multi.dcm"
            (write_converted_ct if kind == "converted" else write_enhanced_ct)(paths, source)
        series = choose_series(rank_series(find_series(source)), None)
        self.ct, _ = read_series(series)
        self.sources = source_datasets(series, self.ct)
        flat = np.flatnonzero(codes)
        lesions = extract_lesions(self.ct, flat, codes.reshape(-1)[flat], protocol)
        doubt = LesionNote(0.5, LabelSource.NETWORK, "close", undecided=True)
        notes = {n: doubt for n, artery in lesions.arteries.items() if artery.name in undecided}
        lesions = lesions.named(notes={**lesions.notes, **notes})
        self.report = score_lesions(self.ct, lesions, protocol)
        self.risk = assess(self.report.total.agatston, self.report.calcified_vessels, **(risk or {}))
        risk = risk or {}
        self.assessment = assess_score(
            self.report,
            ["extrapolated-gaps"] if "withhold" in risk else [],
            scheme=risk.get("scheme", "heartlens"),
            labels=None,
            is_read=False,
            is_gated=risk.get("is_gated"),
        )
        self.seg_path, self.path = folder / "seg.dcm", folder / "sr.dcm"
        self.seg = write_seg(
            self.seg_path, ct=self.ct, codes=scored_voxels(self.ct, lesions, protocol), sources=self.sources
        )
        write_sr(
            self.path,
            ct=self.ct,
            report=self.report,
            risk=self.risk,
            assessment=self.assessment,
            protocol=protocol,
            sources=self.sources,
            seg=self.seg,
            cautions=cautions,
            **(sign or {}),
            **(said or {}),
        )
        self.dataset = dcmread(self.path)
        self.document = hd.sr.srread(self.path)

    def groups(self):
        """Measurement groups by tracking identifier, as highdicom finds them."""
        content = self.document.content
        groups = content.get_planar_roi_measurement_groups() + content.get_image_measurement_groups()
        return {group.tracking_identifier: group for group in groups}

    def measurements(self, tracking_identifier):
        """(artery code or None, measurement) of a group."""
        for m in self.groups()[tracking_identifier].get_measurements():
            sites = [c for c in m[0].ContentSequence if named(c) == "363698007"] if "ContentSequence" in m[0] else []
            yield (sites[0].ConceptCodeSequence[0].CodeValue if sites else None), m

    def numbers(self, tracking_identifier, artery=None):
        """{meaning: value} of a group, of an artery that is named in the group of the total."""
        site = None if artery is None else REGIONS[Artery[artery]].value
        return {m.name.meaning: m.value for code, m in self.measurements(tracking_identifier) if code == site}

    def texts(self, tracking_identifier):
        """Sentences of a group."""
        content = self.groups()[tracking_identifier][0].ContentSequence
        return [item.TextValue for item in content if named(item) == "121106"]

    def comments(self):
        return [
            item.TextValue
            for item in self.dataset.ContentSequence
            if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeValue == "121106"
        ]


@pytest.fixture
def two(tmp_path):
    """LAD 12 pixels with peak 280 (6.0), RCA 12 pixels with peak 430 (12.0), mass calibrated."""
    return Written(tmp_path, CALIBRATED, LAD=280, RCA=430)


@pytest.fixture
def zero(tmp_path):
    return Written(tmp_path)


def test_each_artery_and_the_total_have_their_numbers(two):
    assert set(two.groups()) == {"Total", "LAD 1", "RCA 1"}
    assert two.numbers("LAD 1") == {
        "Coronary artery calcium score": 6.0,
        "Volume of Vascular Calcification": 9.0,
        "Mass of Vascular Calcification": pytest.approx(0.0008 * 9.0 * (11 * 150 + 280) / 12),
        "Maximum Attenuation Coefficient": 280.0,
        "Mean Attenuation Coefficient": pytest.approx((11 * 150 + 280) / 12),
    }
    assert two.numbers("Total", "LAD") == {
        "Coronary artery calcium score": 6.0,
        "Volume of Vascular Calcification": 9.0,
        "Mass of Vascular Calcification": pytest.approx(0.0008 * 9.0 * (11 * 150 + 280) / 12),
        "Number of lesions": 1,
    }
    assert two.numbers("Total", "RCA")["Coronary artery calcium score"] == 12.0
    assert set(two.numbers("Total", "LM").values()) == {0}
    total = two.numbers("Total")
    assert total["Coronary artery calcium score"] == 18.0
    assert total["Volume of Vascular Calcification"] == 18.0
    assert (total["Number of lesions"], total["Number of calcified coronary vessels"]) == (2, 2)
    assert total["Agatston Score Threshold"] == 130.0


def test_lesions_of_an_artery_are_numbered_by_their_score(tmp_path):
    """12 voxels of weight 2 score 6; 8 of 400 HU, weight 4, score more."""

    def second_lesion(hu, codes):
        hu[3, 30:32, 2:6], codes[3, 30:32, 2:6] = 400, Artery.LAD

    written = Written(tmp_path, LAD=280, more=second_lesion)
    assert [written.numbers(f"LAD {n}")["Coronary artery calcium score"] for n in (1, 2)] == [8.0, 6.0]
    assert written.numbers("Total", "LAD")["Number of lesions"] == 2
    assert len({group.tracking_uid for group in written.groups().values()}) == 3


def test_codes_units_and_methods_are_those_of_the_standard(two):
    codes = {
        (m.name.scheme_designator, m.name.value): (m.unit.value, m.method and m.method.value)
        for group in two.groups().values()
        for m in group.get_measurements()
    }
    assert codes == {
        ("SCT", "450360000"): ("{score}", "112055"),
        ("DCM", "112197"): ("mm3", "112056"),
        ("DCM", "112199"): ("mg", "112057"),
        ("SCT", "246206008"): ("{lesions}", None),
        ("DCM", "112180"): ("[hnsf'U]", None),
        ("DCM", "112181"): ("[hnsf'U]", None),
        ("DCM", "122657"): ("[hnsf'U]", None),
        ("99HEARTLENS", "HL-VESSELS"): ("{vessels}", None),
        ("99HEARTLENS", "HL-DROPPED"): ("{islands}", None),
    }


def test_no_number_has_a_unit_that_a_viewer_could_show_in_its_place(zero):
    """A viewer that leaves a 0 out prints the unit, and "1" beside a calcium score is a number."""
    units = {m.unit.value for group in zero.groups().values() for m in group.get_measurements()}
    assert not [unit for unit in units if unit[0].isdigit()]


def test_numbers_are_rounded_to_be_read_and_exact_beside_it(tmp_path):
    written = Written(tmp_path, replace(PROTOCOL, mass_factor_mg_per_mm3_hu=0.0007220477104), LAD=287)
    item = next(m for _, m in written.measurements("LAD 1") if m.name == MASS)
    assert item.value == written.report.arteries[Artery.LAD].mass_mg  # every bit

    def numbers(item):
        if item.ValueType == "NUM":
            yield named(item), item.MeasuredValueSequence[0]
        for child in item.get("ContentSequence", ()):
            yield from numbers(child)

    shown = {name: str(value.NumericValue) for name, value in numbers(written.dataset)}  # as it lies on the disk
    assert (shown[MASS.value], shown["112197"], shown["246206008"]) == (
        "1.0",
        "9.0",
        "0",
    )  # the lesion's, and the RCA's count
    of_lesion = [str(v.NumericValue) for name, v in numbers(written.dataset) if name == MASS.value]
    assert f"{item.value:.1f}" in of_lesion
    assert max(len(text) for text in of_lesion) <= 4


def test_without_calibration_there_is_no_mass(tmp_path):
    written = Written(tmp_path, LAD=280)
    assert all("Mass" not in name for tracking in written.groups() for name in written.numbers(tracking))


def coordinates(group, value_type="SCOORD"):
    """Coordinates anywhere in a group, with the images that they were drawn on."""
    found = []

    def walk(item):
        for child in item.get("ContentSequence", ()):
            if child.ValueType == value_type:
                image = child.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
                found.append((child.GraphicType, [float(x) for x in child.GraphicData], image))
            walk(child)

    walk(group[0])
    return found


def test_every_group_has_coordinates_and_no_two_share_them(two, zero):
    """A viewer that meets a group without coordinates shows nothing of the whole document."""
    for written in (two, zero):
        places = [coordinates(group) for group in written.groups().values()]
        assert all(len(place) == 1 for place in places)
        assert len({str(place) for place in places}) == len(places)
    assert coordinates(zero.groups()["Total"])[0][0] == "POLYLINE"


def test_a_lesion_is_a_point_in_its_middle_on_its_own_image(two):
    """Rows 0 to 2 and columns 2 to 5: the middle, from the corner of the first pixel, is 1.5 and 4."""
    ((kind, point, image),) = coordinates(two.groups()["LAD 1"])
    assert kind == "POINT"
    assert point == pytest.approx([4.0, 1.5])
    assert image == two.ct.header.sop_instance_uids[1]


def test_the_total_is_inferred_from_a_closed_line_about_the_heart(tmp_path):
    written = Written(tmp_path, LAD=280, said={"heart": (2, slice(4, 20), slice(1, 9))})
    ((kind, line, image),) = coordinates(written.groups()["Total"])
    assert kind == "POLYLINE"
    assert line == pytest.approx([1.5, 4.5, 8.5, 4.5, 8.5, 19.5, 1.5, 19.5, 1.5, 4.5])
    assert image == written.ct.header.sop_instance_uids[2]


def test_every_container_stands_alone(two):
    """A renderer of continuous text prints numbers without their names."""

    def containers(item):
        yield from ([item] if item.ValueType == "CONTAINER" else [])
        for child in item.get("ContentSequence", ()):
            yield from containers(child)

    assert {one.ContinuityOfContent for one in containers(two.dataset)} == {"SEPARATE"}


def test_the_first_words_of_the_total_are_those_of_every_other_place(two):
    (text,) = two.texts("Total")
    assert text == f"{' '.join(two.assessment.lines())} LM 0, LAD 6, LCX 0, RCA 12."


def test_what_a_reader_must_decide_is_said_and_not_coded(tmp_path):
    """An RCA of 12 that may be none: absent up to mild."""
    written = Written(tmp_path, RCA=430, undecided=("RCA",))
    assert written.assessment.must_decide
    assert written.groups()["Total"].get_qualitative_evaluations() == []
    assert "a reader must decide" in written.texts("Total")[0]
    assert written.texts("RCA 1") == ["RCA 1, Agatston 12; undecided: a reader must decide."]


def test_bundle_and_state_are_stated(tmp_path):
    said = {
        "state": "DRAFT, read by nobody",
        "provenance": Provenance(LabelSource.NETWORK, bundle="plain 1", checksums={"vessel.onnx": "ab"}),
    }
    comments = Written(tmp_path, said=said, LAD=280).comments()
    assert "DRAFT, read by nobody" in comments
    assert "Calcium found and named by the networks of bundle plain 1; SHA-256: vessel.onnx ab" in comments


def evidence(dataset):
    return {
        item.ReferencedSOPInstanceUID
        for sequence in (
            dataset.get("CurrentRequestedProcedureEvidenceSequence", []),
            dataset.get("PertinentOtherEvidenceSequence", []),
        )
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def images_in_library(dataset):
    library = next(i for i in dataset.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "111028")
    group = library.ContentSequence[0].ContentSequence
    return [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in group if item.ValueType == "IMAGE"]


def test_evidence_is_the_ct_and_the_segmentation(two):
    assert evidence(two.dataset) == {*two.ct.header.sop_instance_uids, two.seg.SOPInstanceUID}
    assert images_in_library(two.dataset) == list(two.ct.header.sop_instance_uids)


def test_a_score_of_0_is_reported_and_refers_to_the_ct_alone(zero):
    assert zero.seg is None
    assert not zero.seg_path.exists()
    assert set(zero.groups()) == {"Total"}
    assert zero.groups()["Total"].finding_type is None
    for artery in (None, "LM", "LAD", "LCX", "RCA"):
        assert zero.numbers("Total", artery)["Coronary artery calcium score"] == 0.0
    assert evidence(zero.dataset) == set(zero.ct.header.sop_instance_uids)


@pytest.mark.parametrize("kind", ["enhanced", "converted"])
def test_a_multi_frame_ct_is_one_reference(tmp_path, kind):
    written = Written(tmp_path, kind=kind, LAD=280)
    assert images_in_library(written.dataset) == [written.sources[0].SOPInstanceUID]
    assert written.numbers("LAD 1")["Coronary artery calcium score"] == 6.0


def test_what_is_not_coronary_is_shown_and_not_summed(tmp_path):
    written = Written(tmp_path, OTHER=450, LCX=250, UNASSIGNED=220, undecided=("OTHER",))
    total = written.numbers("Total")
    assert total["Coronary artery calcium score"] == 12.0
    assert total["Agatston score of calcium judged not coronary"] == 12.0
    assert "Number of calcified coronary vessels" not in total, "nobody knows while calcium has no artery"
    assert written.numbers("Total", "UNASSIGNED")["Coronary artery calcium score"] == 6.0
    other = written.groups()["OTHER 1"]
    assert other.finding_sites == []
    assert other.finding_type.value == "18115005"
    assert "Coronary artery calcium score" not in written.numbers("OTHER 1"), "a harvester would add it"
    assert "judged not coronary and not part of the total" in written.texts("OTHER 1")[0]
    assert "the artery has not been said yet" in written.texts("UNASSIGNED 1")[0]


def test_category_and_cac_drs_are_private_codes_with_a_declared_scheme(two):
    total = two.groups()["Total"]
    evaluations = {e.name.value: e.value for e in total.get_qualitative_evaluations()}
    assert set(evaluations) == {"HL-CATEGORY", "HL-CACDRS"}
    assert evaluations["HL-CACDRS"].meaning == "A1/N2"
    assert (evaluations["HL-CATEGORY"].value, evaluations["HL-CATEGORY"].meaning) == (
        "heartlens:mild",
        "mild (Agatston 11–100)",
    )
    assert {e.scheme_designator for e in evaluations.values()} == {"99HEARTLENS"}
    scheme = two.dataset.CodingSchemeIdentificationSequence[0]
    assert (scheme.CodingSchemeDesignator, bool(scheme.CodingSchemeName)) == ("99HEARTLENS", True)


def test_a_withheld_category_is_said_and_not_coded(tmp_path):
    written = Written(tmp_path, risk={"withhold": "slices have gaps"}, LAD=280)
    assert written.groups()["Total"].get_qualitative_evaluations() == []
    assert written.assessment.sentence() in written.comments()
    assert "Not evaluable: gaps between the slices." in written.assessment.sentence()


def test_percentile_and_arterial_age_are_given_with_their_population(tmp_path):
    written = Written(tmp_path, risk={"age_years": 60, "sex": "M", "race": "white", "is_gated": True}, LAD=280, RCA=430)
    numbers = written.numbers("Total")
    assert numbers["Percentile of the calcium score"] == written.risk.percentile
    assert numbers["Arterial age"] == written.risk.arterial_age_years
    assert written.risk.percentile_text in written.comments()
    assert "MESA" in written.risk.percentile_text


def test_a_reader_finds_technique_cautions_and_notice_in_words(tmp_path):
    cautions = (WarningRecord("kvp", "tube voltage is 100 kVp"), WarningRecord("no-bundle", "named by rules"))
    written = Written(tmp_path, CALIBRATED, cautions=cautions, LAD=280)
    comments = written.comments()
    assert comments[-1] == NOTICE
    assert "kvp: tube voltage is 100 kVp" in comments
    assert "no-bundle: named by rules" in comments
    technique = comments[0]
    for phrase in ("120 kVp", "3 mm slices every 3 mm", f"HeartLens {__version__}", "agatston-1990", "130 HU", "1 mm2"):
        assert phrase in technique
    assert any("0.0008 mg per mm3 per HU" in text for text in comments)


def test_the_document_is_a_preliminary_measurement_report_by_a_device(two):
    dataset = two.dataset
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (dataset.VerificationFlag, dataset.CompletionFlag, dataset.PreliminaryFlag) == (
        "UNVERIFIED",
        "COMPLETE",
        "PRELIMINARY",
    )
    assert (dataset.Manufacturer, dataset.SoftwareVersions) == ("HeartLens", __version__)
    assert (dataset.StudyInstanceUID, dataset.PatientID) == (two.ct.header.study_uid, "P1")
    context = two.document.content.get_observer_contexts(standard.DCM.Device)[0]
    assert context.observer_identifying_attributes.name == "HeartLens CAC"
    codes = [i.ConceptCodeSequence[0].CodeValue for i in dataset.ContentSequence if i.ValueType == "CODE"]
    assert "426005005" in codes


def test_a_signed_report_names_who_signed(tmp_path):
    written = Written(tmp_path, sign={"observer": "Reader^One", "organization": "Clinic"}, LAD=280)
    assert (written.dataset.VerificationFlag, written.dataset.PreliminaryFlag) == ("VERIFIED", "FINAL")
    who = written.dataset.VerifyingObserverSequence[0]
    assert (who.VerifyingObserverName, who.VerifyingOrganization) == ("Reader^One", "Clinic")


def test_the_moment_of_verification_is_that_of_the_signature(tmp_path):
    sign = {"observer": "Reader^One", "organization": "Clinic", "signed": "2026-11-21T13:03:02-05:00"}
    written = Written(tmp_path, sign=sign, LAD=280)
    assert written.dataset.VerifyingObserverSequence[0].VerificationDateTime == "20261121130302-0500"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 192", "Иванов^Иван"),
        (None, "Plain^Name"),
    ],
)
def test_names_and_texts_in_any_alphabet_are_kept(tmp_path, caplog, charset, name):
    tags = {"SpecificCharacterSet": charset, "PatientName": name}
    written = Written(tmp_path, tags=tags, cautions=(WarningRecord("noise", "σ = 31 HU – high"),), LAD=280)
    assert written.dataset.PatientName == name
    assert "noise: σ = 31 HU – high" in written.comments()
    assert dcmread(written.seg_path).PatientName == name
    assert "encode" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("peak", [None, 280, 430])
def test_every_category_of_every_scheme_has_a_code_of_its_own(tmp_path, scheme, peak):
    plaque = {} if peak is None else {"LAD": peak}
    written = Written(tmp_path, risk={"scheme": scheme}, **plaque)
    (category,) = [e.value for e in written.groups()["Total"].get_qualitative_evaluations() if "CAT" in e.name.value]
    assert category.value == f"{scheme}:{written.risk.category}"
    assert category.meaning == f"{written.risk.label} (Agatston {written.risk.shown})"


# Judged by programs that share no code with us


@pytest.mark.parametrize(
    "case",
    [
        {"LAD": 280, "RCA": 430},
        {},
        {"LAD": 280, "OTHER": 500, "UNASSIGNED": 300, "protocol": CALIBRATED},
        {"LAD": 280, "kind": "enhanced"},
        {"kind": "enhanced"},
        {"LAD": 280, "kind": "converted"},
        {"LM": 280, "sign": {"observer": "Reader^One", "organization": "Clinic"}},
        {"LM": 280, "tags": dict.fromkeys(("AccessionNumber", "StudyID", "StudyDate", "PatientBirthDate"))},
        {"LM": 280, "risk": {"age_years": 60, "sex": "M", "race": "white", "is_gated": True}},
    ],
    ids=lambda case: " ".join(str(part) for part in case) or "zero",
)
def test_dciodvfy_finds_no_error_and_dsrdump_shows_the_score(tmp_path, require_tool, case):
    judge, printer = require_tool("dciodvfy"), require_tool("dsrdump")
    written = Written(tmp_path, **case)
    run = subprocess.run([judge, str(written.path)], capture_output=True, text=True, check=False, timeout=60)
    lines = (run.stdout + run.stderr).splitlines()
    assert "Comprehensive3DSR" in lines
    assert [x for x in lines if x.startswith(("Error", "Abort")) and x not in KNOWN_ERRORS] == []
    shown = subprocess.run([printer, str(written.path)], capture_output=True, text=True, check=True, timeout=60)
    total = re.search(r'Tracking Identifier"\)="Total".*?calcium score"\)="([0-9.]+)"', shown.stdout, re.DOTALL)
    assert total is not None
    assert float(total[1]) == written.report.total.agatston
    known = "does not support this Specific Character Set"  # UTF-8 is too new for dcmtk's checker, not for DICOM
    assert [line for line in shown.stderr.splitlines() if known not in line] == []


def test_dciodvfy_would_find_an_error(tmp_path, require_tool, two):
    del two.dataset.CompletionFlag
    two.dataset.save_as(two.path)
    run = subprocess.run([require_tool("dciodvfy"), str(two.path)], capture_output=True, text=True, check=False)
    assert any(line.startswith("Error") for line in (run.stdout + run.stderr).splitlines())


def test_a_corrected_document_names_the_automatic_one_that_it_replaces(tmp_path):
    automatic = ObjectUids("scan", "as found", "as found")
    corrected = ObjectUids("scan", "LAD given to LCX", "as found", number=2)
    first = Written(tmp_path / "a", LAD=280, said={"uids": automatic}).dataset
    second = Written(tmp_path / "b", LCX=280, said={"uids": corrected}).dataset
    assert "PredecessorDocumentsSequence" not in first
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (document,) = series.ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert document.ReferencedSOPClassUID == first.SOPClassUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID == second.SeriesInstanceUID


def test_the_same_lesion_is_known_by_the_same_uid_in_a_later_version(tmp_path):
    uids = ObjectUids("scan", "as found", "as found")
    first = Written(tmp_path / "a", LAD=280, said={"uids": uids}).groups()
    second = Written(tmp_path / "b", LCX=280, said={"uids": replace(uids, content="moved")}).groups()
    assert first["LAD 1"].tracking_uid == second["LCX 1"].tracking_uid != first["Total"].tracking_uid


def test_a_change_since_an_earlier_scan_stands_in_the_group_of_the_total_and_in_words(tmp_path, require_tool):
    """From 60.4 to what is here: -12.5 in all, -6.25 a year."""
    compared = Compared(("No change beyond measurement noise.", "Agatston 60, then 48."), "1.2.3", -12.5, -6.25)
    written = Written(tmp_path, LAD=250, said={"compared": compared})
    numbers = written.numbers("Total")
    assert numbers["Change of the Agatston score since an earlier scan"] == -12.5
    assert numbers["Change of the Agatston score a year"] == -6.25
    first, second = [text for text in written.comments() if "noise" in text or "then" in text]
    assert first == "Compared with an earlier scan (study 1.2.3): No change beyond measurement noise."
    assert second == "Agatston 60, then 48."
    run = subprocess.run([require_tool("dciodvfy"), written.path], capture_output=True, text=True, check=False)
    assert [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")] == []


def test_a_change_that_is_left_open_is_said_and_not_coded(tmp_path):
    written = Written(tmp_path, LAD=250, said={"compared": Compared(("Whether calcium has changed is open.",))})
    assert not [name for name in written.numbers("Total") if "Change" in name]
    assert "Compared with an earlier scan: Whether calcium has changed is open." in written.comments()
