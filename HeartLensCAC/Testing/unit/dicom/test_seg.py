"""DICOM SEG: on the pixels of the source images, judged by highdicom, pydicom and dciodvfy."""

from __future__ import annotations

import copy
import itertools
import subprocess

import highdicom as hd
import numpy as np
import pytest
from dicom_builder import write_converted_ct, write_ct_series, write_enhanced_ct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.tag import Tag
from pydicom.uid import generate_uid

from heartlens import __version__
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.seg import read_seg, write_seg
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.dicom.source.uids import ObjectUids
from heartlens.dicom.sr import write_sr
from heartlens.io.volumes import read_labels
from heartlens.risk.assess import assess
from heartlens.risk.assessment import assess_score
from heartlens.scoring.report import score_lesions

KNOWN_ERRORS: dict[str, str] = {}
"""Error lines of dciodvfy that are not ours, with the reason. None so far."""

SHAPE = (5, 6, 8)
CORNER = (-50.0, -60.0, -100.0)

AXIAL_PLANES = [
    ((a, s), (1 - a, t)) for a, s, t in itertools.product((0, 1), (1, -1), (1, -1))
]  # columns and rows run left/right and front/back, in every order and direction


def hu_of(shape=SHAPE):
    """Every voxel another value, air and calcium among them."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 - 700).astype(np.int16)


def opened(source, *, allow=frozenset()):
    """The CT of a folder or file and the headers it came from, as the pipeline gets them."""
    series = choose_series(rank_series(find_series(source)), None)
    ct, _ = read_series(series, allow=allow)
    return ct, source_datasets(series, ct)


def codes_of(ct, seed=0):
    """Some voxels of every artery on three slices."""
    codes = np.zeros(ct.shape, np.uint8)
    codes[1:4] = np.random.default_rng(seed).choice(7, (3, *ct.shape[1:]), p=[0.7, *[0.05] * 6])
    return codes


def place_of(seg, frame):
    """Patient positions, rounded to 1 um, of the labeled pixels of one frame: from the SEG alone."""
    per_frame, shared = seg.PerFrameFunctionalGroupsSequence[frame], seg.SharedFunctionalGroupsSequence[0]
    group = {
        k: (per_frame if k in per_frame else shared)[k][0] for k in ("PlanePositionSequence", "PixelMeasuresSequence")
    }
    orientation = (per_frame if "PlaneOrientationSequence" in per_frame else shared).PlaneOrientationSequence[0]
    iop = np.array(orientation.ImageOrientationPatient, float)
    dy, dx = (float(x) for x in group["PixelMeasuresSequence"].PixelSpacing)
    ipp = np.array(group["PlanePositionSequence"].ImagePositionPatient, float)
    pixels = seg.pixel_array if seg.pixel_array.ndim == 3 else seg.pixel_array[None]
    rows, columns = np.nonzero(pixels[frame])
    points = ipp + columns[:, None] * dx * iop[:3] + rows[:, None] * dy * iop[3:]
    return {tuple(np.round(p, 3)) for p in points}


def places_by_segment(seg):
    """{label: patient positions} of a SEG, computed with nothing of HeartLens."""
    labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in seg.SegmentSequence}
    places: dict[str, set] = {label: set() for label in labels.values()}
    for n, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        holder = group if "SegmentIdentificationSequence" in group else seg.SharedFunctionalGroupsSequence[0]
        number = int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        places[labels[number]] |= place_of(seg, n)
    return places


def expected_places(ct, codes):
    points = {Artery(a).name: ct.lps_mm(np.argwhere(codes == a)) for a in np.unique(codes) if a}
    return {name: {tuple(np.round(p, 3)) for p in where} for name, where in points.items()}


def complaints(tool, path):
    """Error lines of dciodvfy without the known ones."""
    run = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False, timeout=60)
    lines = (run.stdout + run.stderr).splitlines()
    assert lines, "dciodvfy said nothing at all"
    return [line for line in lines if line.startswith(("Error", "Abort")) and line not in KNOWN_ERRORS]


@pytest.fixture
def classic(tmp_path):
    write_ct_series(tmp_path / "ct", hu_of())
    return opened(tmp_path / "ct")


@pytest.mark.parametrize("plane", AXIAL_PLANES)
def test_each_voxel_keeps_its_place_in_the_patient_whichever_way_the_images_run(tmp_path, plane):
    write_ct_series(tmp_path / "ct", hu_of(), plane=plane, corner_lps_mm=CORNER)
    ct, sources = opened(tmp_path / "ct")
    np.testing.assert_array_equal(ct.hu, hu_of())
    codes = codes_of(ct)
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    seg = dcmread(tmp_path / "seg.dcm")
    assert (seg.Rows, seg.Columns) == (sources[0].Rows, sources[0].Columns)
    assert places_by_segment(seg) == expected_places(ct, codes)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes)


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    plane=st.sampled_from(AXIAL_PLANES),
    shape=st.tuples(st.integers(3, 5), st.integers(3, 9), st.integers(3, 9)),  # highdicom needs 8 pixels
    seed=st.integers(0, 999),
    corner=st.tuples(*[st.floats(-300, 300)] * 3),
)
def test_any_labels_come_back_from_any_orientation(tmp_path_factory, plane, shape, seed, corner):
    folder = tmp_path_factory.mktemp("any")
    hu = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    write_ct_series(folder / "ct", hu, plane=plane, corner_lps_mm=corner, spacing_mm=(2.5, 0.7, 0.6))
    ct, sources = opened(folder / "ct")
    codes = np.random.default_rng(seed).integers(0, 7, shape).astype(np.uint8)
    seg = write_seg(folder / "seg.dcm", ct=ct, codes=codes, sources=sources)
    if not codes.any():
        assert seg is None
        return
    np.testing.assert_array_equal(read_seg(folder / "seg.dcm", ct), codes)


@pytest.mark.parametrize("converted", [False, True])
def test_frames_of_a_multi_frame_ct_are_referred_to_by_number(tmp_path, converted):
    paths = write_ct_series(tmp_path / "ct", hu_of(), plane=((1, -1), (0, 1)))
    target = tmp_path / "multi.dcm"
    (write_converted_ct if converted else write_enhanced_ct)(paths[::-1], target)
    ct, sources = opened(target)
    codes = codes_of(ct)
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    seg = dcmread(tmp_path / "seg.dcm")
    assert places_by_segment(seg) == expected_places(ct, codes)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes)
    frames = set()
    for group in seg.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == sources[0].SOPInstanceUID
        frames.add(source.ReferencedFrameNumber)
    assert frames == {ct.header.frame_numbers[k] for k in (1, 2, 3)}


def test_slices_spread_over_two_multi_frame_images_keep_their_places(tmp_path):
    paths = write_ct_series(tmp_path / "ct", hu_of())
    (tmp_path / "multi").mkdir()
    for name, part in (("a", paths[:2]), ("b", paths[2:])):
        write_enhanced_ct(part, tmp_path / "multi" / name)
        dataset = dcmread(tmp_path / "multi" / name)
        dataset.SeriesInstanceUID = "1.2.3.4"
        dataset.save_as(tmp_path / "multi" / name)
    ct, sources = opened(tmp_path / "multi")
    assert len(sources) == 2
    np.testing.assert_array_equal(ct.hu, hu_of())
    codes = codes_of(ct)
    seg = write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    assert places_by_segment(dcmread(tmp_path / "seg.dcm")) == expected_places(ct, codes)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes)
    named = {
        item.ReferencedSOPInstanceUID for s in seg.ReferencedSeriesSequence for item in s.ReferencedInstanceSequence
    }
    assert named == {source.SOPInstanceUID for source in sources}


def test_only_slices_with_voxels_are_stored_and_refer_to_their_images(tmp_path, classic):
    ct, sources = classic
    codes = np.zeros(ct.shape, np.uint8)
    codes[2, 3, 4], codes[4, 0, 0] = Artery.LAD, Artery.RCA
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    seg = dcmread(tmp_path / "seg.dcm")
    assert seg.NumberOfFrames == 2
    referred = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert referred == [ct.header.sop_instance_uids[2], ct.header.sop_instance_uids[4]]


def test_highdicom_reads_the_segments_with_their_codes(tmp_path, classic):
    ct, sources = classic
    codes = codes_of(ct)
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    assert seg.segmentation_type is hd.seg.SegmentationTypeValues.BINARY
    described = {
        d.segment_label: (d.anatomic_regions[0].value if d.anatomic_regions else None, d.segmented_property_type.value)
        for d in (seg.get_segment_description(n) for n in range(1, 7))
    }
    assert described == {
        "LM": ("3227004", "29483008"),
        "LAD": ("59438005", "29483008"),
        "LCX": ("57396003", "29483008"),
        "RCA": ("13647002", "29483008"),
        "OTHER": (None, "18115005"),
        "UNASSIGNED": ("41801008", "29483008"),
    }
    lad = seg.get_segment_description(2)
    assert lad.segmented_property_category == standard.SCT.MorphologicallyAbnormalStructure
    assert lad.tracking_id == "LAD"
    assert lad.algorithm_type is hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    assert lad.algorithm_identification[0].AlgorithmVersion == __version__
    pixels = seg.get_pixels_by_source_instance(
        [ct.header.sop_instance_uids[k] for k in range(1, 4)], segment_numbers=[2], combine_segments=False
    )
    np.testing.assert_array_equal(pixels[..., 0], codes[1:4] == Artery.LAD)


def test_the_segmentation_belongs_to_the_study_and_space_of_the_ct_and_to_a_series_of_its_own(tmp_path, classic):
    ct, sources = classic
    seg = write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    assert seg.StudyInstanceUID == ct.header.study_uid
    assert seg.FrameOfReferenceUID == ct.header.frame_of_reference_uid
    assert seg.SeriesInstanceUID != ct.header.series_uid
    assert (seg.PatientID, seg.PatientName, seg.PatientSex) == ("P1", "Test^Phantom", "F")
    assert (seg.Manufacturer, seg.SoftwareVersions, seg.Modality) == ("HeartLens", __version__, "SEG")
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == ct.header.series_uid


def test_no_voxels_no_file(tmp_path, classic):
    ct, sources = classic
    assert write_seg(tmp_path / "seg.dcm", ct=ct, codes=np.zeros(ct.shape, np.uint8), sources=sources) is None
    assert not (tmp_path / "seg.dcm").exists()


def test_a_later_version_keeps_series_and_segments_and_is_another_object(tmp_path, classic):
    ct, sources = classic
    codes = codes_of(ct)
    automatic = ObjectUids("scan", "as found", "as found")
    corrected = ObjectUids("scan", "LAD given to LCX", "as found", number=2)
    first = write_seg(tmp_path / "a.dcm", ct=ct, codes=codes, sources=sources, uids=automatic)
    again = write_seg(tmp_path / "a2.dcm", ct=ct, codes=codes, sources=sources, uids=automatic)
    second = write_seg(
        tmp_path / "b.dcm", ct=ct, codes=codes, sources=sources, algorithm_type="SEMIAUTOMATIC", uids=corrected
    )
    assert first.SOPInstanceUID == again.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert [s.TrackingUID for s in second.SegmentSequence] == [s.TrackingUID for s in first.SegmentSequence]
    assert len({s.TrackingUID for s in first.SegmentSequence}) == len(first.SegmentSequence) > 1
    assert {item.SegmentAlgorithmType for item in second.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)


def test_networks_are_named_by_bundle_version_and_checksum(tmp_path, classic):
    ct, sources = classic
    found_by = Provenance(labels=LabelSource.NETWORK, bundle="embedded 3.1", checksums={"vessel.onnx": "ab" * 32})
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources, provenance=found_by, reader="Doe^Jane")
    seg = dcmread(tmp_path / "seg.dcm")
    for segment in seg.SegmentSequence:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("embedded", "3.1")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert "ab" * 32 in algorithm.AlgorithmParameters
    assert seg.ContentCreatorName == "Doe^Jane"


@pytest.mark.parametrize("labels", [LabelSource.RULES, LabelSource.FILE])
def test_what_no_network_found_is_not_called_intelligence(tmp_path, classic, labels):
    ct, sources = classic
    seg = write_seg(
        tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources, provenance=Provenance(labels=labels)
    )
    families = {
        segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeMeaning
        for segment in seg.SegmentSequence
    }
    assert families == {"Histogram Analysis"}


def test_manual_segments_claim_no_algorithm(tmp_path, classic):
    ct, sources = classic
    seg = write_seg(tmp_path / "s.dcm", ct=ct, codes=codes_of(ct), sources=sources, algorithm_type="MANUAL")
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"MANUAL"}
    assert all("SegmentAlgorithmName" not in item for item in seg.SegmentSequence)


def test_a_stripped_header_is_enough(tmp_path, capfd, recwarn):
    """De-identified CT often lacks what SEG must copy; nothing of the patient may reach stderr."""
    gone = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "PatientBirthDate",
            "PatientID", "PatientSex")  # fmt: skip
    write_ct_series(tmp_path / "ct", hu_of(), PatientName="ODD NAME", **dict.fromkeys(gone))
    ct, sources = opened(tmp_path / "ct")
    before = copy.deepcopy(sources[0])
    seg = write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    assert (seg.AccessionNumber, seg.StudyDate, seg.PatientID) == ("", None, "") or seg.StudyDate == ""
    assert sources[0] == before
    assert capfd.readouterr().err == ""
    assert not [w for w in recwarn if "ODD" in str(w.message)]
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes_of(ct))


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        ("PatientSex", "CS", b"X "),
        ("PatientBirthDate", "DA", b"19XX0101"),
        ("StudyDate", "DA", b"0000"),
        ("StudyTime", "TM", b"99:99 "),
        ("PatientWeight", "DS", b"heavy "),
        ("PatientSize", "DS", b"1.8 m "),
        ("PatientAge", "AS", b"old "),
        ("PatientName", "PN", b"A=B=C=D=E "),
        ("PatientName", "PN", b"^^^^^^^^"),
        ("PatientID", "LO", b"x" * 80),
        ("StudyID", "SH", b"longer than sixteen characters"),
        ("StudyDescription", "LO", b"caf\xe9 " * 20),
    ],
)
def test_a_value_that_nobody_can_read_is_left_out_not_fatal(tmp_path, capfd, caplog, tag, vr, value):
    write_ct_series(tmp_path / "ct", hu_of())
    for path in (tmp_path / "ct").iterdir():
        dataset = dcmread(path)
        if tag in dataset:
            del dataset[tag]
        dataset._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True, True)
        dataset.save_as(path)
    ct, sources = opened(tmp_path / "ct")
    seg = write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes_of(ct))
    report = score_lesions(ct, LesionMap.empty(ct.shape), ScoringProtocol())
    write_sr(
        tmp_path / "sr.dcm",
        ct=ct,
        report=report,
        risk=assess(0, 0),
        assessment=assess_score(report, (), scheme="heartlens", labels=None, is_read=False),
        protocol=ScoringProtocol(),
        sources=sources,
        seg=seg,
    )
    assert dcmread(tmp_path / "sr.dcm").Modality == "SR"
    assert capfd.readouterr().err == ""
    assert "A=B=C" not in caplog.text


def test_names_in_another_alphabet_are_kept(tmp_path):
    write_ct_series(tmp_path / "ct", hu_of(), SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jürgen=山田^太郎")
    ct, sources = opened(tmp_path / "ct")
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    assert dcmread(tmp_path / "seg.dcm").PatientName == "Müller^Jürgen=山田^太郎"


def test_a_coronal_stack_that_the_user_allowed_is_labelled_on_its_own_images(tmp_path):
    write_ct_series(tmp_path / "ct", hu_of(), plane=((0, 1), (2, -1)), spacing_mm=(0.5, 3.0, 0.5))
    ct, sources = opened(tmp_path / "ct", allow=frozenset({"not-axial"}))
    codes = codes_of(ct)
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    assert places_by_segment(dcmread(tmp_path / "seg.dcm")) == expected_places(ct, codes)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes)


def test_positions_rounded_by_the_scanner_do_not_part_labels_from_slices(tmp_path):
    def jitter(dataset, n):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + (0.02 if n % 2 else -0.02)]

    write_ct_series(tmp_path / "ct", hu_of(), edit=jitter)
    ct, sources = opened(tmp_path / "ct")
    codes = codes_of(ct)
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes)


# Judged by a program that shares no code with us


@pytest.mark.parametrize("kind", ["classic", "one voxel", "enhanced", "converted", "stripped", "half a reference"])
def test_dciodvfy_finds_no_error(tmp_path, require_tool, kind):
    tool = require_tool("dciodvfy")
    gone = dict.fromkeys(("AccessionNumber", "StudyID", "StudyDate", "PatientBirthDate")) if kind == "stripped" else {}
    if kind == "half a reference":  # as in the real chest of Lung-PET-CT-Dx
        study = Dataset()
        study.ReferencedSOPInstanceUID = "1.2.3"
        gone = {"ReferencedStudySequence": [study]}
    paths = write_ct_series(tmp_path / "ct", hu_of(), **gone)
    source = tmp_path / "ct"
    if kind in ("enhanced", "converted"):
        source = tmp_path / "multi.dcm"
        (write_converted_ct if kind == "converted" else write_enhanced_ct)(paths, source)
    ct, sources = opened(source)
    codes = codes_of(ct)
    if kind == "one voxel":
        codes[:] = 0
        codes[2, 2, 2] = Artery.UNASSIGNED
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    assert complaints(tool, tmp_path / "seg.dcm") == []


def test_dciodvfy_would_find_an_error(tmp_path, require_tool, classic):
    ct, sources = classic
    seg = write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    del seg.SegmentSequence
    seg.save_as(tmp_path / "seg.dcm")
    assert complaints(require_tool("dciodvfy"), tmp_path / "seg.dcm")


def test_real_series_of_a_phantom_scan(tmp_path, qrm_series, require_tool):
    ct, sources = opened(qrm_series)
    codes = np.zeros(ct.shape, np.uint8)
    codes[17:27, 150:350, 150:350][ct.hu[17:27, 150:350, 150:350] >= 130] = Artery.LAD
    write_seg(tmp_path / "seg.dcm", ct=ct, codes=codes, sources=sources)
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", ct), codes)
    assert complaints(require_tool("dciodvfy"), tmp_path / "seg.dcm") == []


# Segmentations of other programs


def foreign_seg(path, sources, pixels, labels, **changes):
    """A SEG as another program makes it: its own labels and codes, all source slices, frames of one segment each."""
    finding = hd.sr.CodedConcept("52988006", "SCT", "Lesion")
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=changes.pop("segmentation_type", "BINARY"),
        segment_descriptions=[
            hd.seg.SegmentDescription(
                n,
                label,
                finding,
                finding,
                "MANUAL",
                anatomic_regions=None if region is None else [hd.sr.CodedConcept(region, "SCT", "a region")],
            )
            for n, (label, region) in enumerate(labels, 1)
        ],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
        **changes,
    )
    seg.save_as(path)
    return seg


def test_a_foreign_segmentation_is_read_by_region_and_by_label(tmp_path, classic):
    ct, sources = classic
    pixels = np.zeros(ct.shape, np.uint8)
    pixels[0, 0, 0], pixels[1, 1, 1], pixels[2, 2, 2] = 1, 2, 3
    labels = [("Segment 1", "68787002"), ("calcified LCX", None), ("valve", "34202007")]
    foreign_seg(tmp_path / "s.dcm", sources, pixels, labels, omit_empty_frames=False)
    expected = np.zeros(ct.shape, np.uint8)
    expected[0, 0, 0], expected[1, 1, 1], expected[2, 2, 2] = Artery.LAD, Artery.LCX, Artery.OTHER
    np.testing.assert_array_equal(read_seg(tmp_path / "s.dcm", ct), expected)
    np.testing.assert_array_equal(read_labels(tmp_path / "s.dcm", ct), expected)


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_label_maps_and_whole_fractions_are_read(tmp_path, classic, kind):
    ct, sources = classic
    pixels = np.zeros(ct.shape, np.uint8)
    pixels[0, 0, 0], pixels[1, 1, 1] = 1, 2
    foreign_seg(tmp_path / "s.dcm", sources, pixels, [("LM", None), ("RCA", None)], segmentation_type=kind)
    expected = np.zeros(ct.shape, np.uint8)
    expected[0, 0, 0], expected[1, 1, 1] = Artery.LM, Artery.RCA
    np.testing.assert_array_equal(read_seg(tmp_path / "s.dcm", ct), expected)


def refusal_of(path, ct):
    with pytest.raises(InputRefused) as refusal:
        read_labels(path, ct)
    return refusal.value


def test_fractions_are_refused(tmp_path, classic):
    ct, sources = classic
    foreign_seg(
        tmp_path / "s.dcm", sources, np.full(ct.shape, 0.3, np.float32), [("LM", None)], segmentation_type="FRACTIONAL"
    )
    refusal = refusal_of(tmp_path / "s.dcm", ct)
    assert (refusal.code, "fractions" in refusal.text) == ("labels", True)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([("tumor", None)], "found segment 'tumor'"),
        ([("LAD", "13647002")], "named LAD, but its codes say RCA"),
    ],
)
def test_segments_that_say_no_artery_are_refused(tmp_path, classic, labels, reason):
    ct, sources = classic
    foreign_seg(tmp_path / "s.dcm", sources, np.ones(ct.shape, np.uint8), labels)
    refusal = refusal_of(tmp_path / "s.dcm", ct)
    assert (refusal.code, reason in refusal.text) == ("labels", True), refusal.text


def test_overlapping_arteries_are_refused(tmp_path, classic):
    ct, sources = classic
    pixels = np.ones((*ct.shape, 2), np.uint8)
    foreign_seg(tmp_path / "s.dcm", sources, pixels, [("LAD", None), ("LM", None)])
    assert refusal_of(tmp_path / "s.dcm", ct).code == "labels"


def test_a_segmentation_of_another_space_or_grid_is_refused(tmp_path, classic):
    ct, sources = classic
    seg = write_seg(tmp_path / "s.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    seg.FrameOfReferenceUID = generate_uid()
    seg.save_as(tmp_path / "other_space.dcm")
    assert refusal_of(tmp_path / "other_space.dcm", ct).code == "grid"
    half_a_pixel = ct.affine.copy()
    half_a_pixel[0, 3] += 0.25
    assert refusal_of(tmp_path / "s.dcm", CTVolume(ct.hu, half_a_pixel)).code == "grid"
    elsewhere = ct.affine.copy()
    elsewhere[2, 3] += 300
    assert refusal_of(tmp_path / "s.dcm", CTVolume(ct.hu, elsewhere)).code == "grid"


def test_what_is_no_segmentation_is_refused(tmp_path, classic):
    ct, sources = classic
    write_seg(tmp_path / "s.dcm", ct=ct, codes=codes_of(ct), sources=sources)
    data = (tmp_path / "s.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(data[:-10])
    (tmp_path / "head.dcm").write_bytes(data[:1000])
    seg = dcmread(tmp_path / "s.dcm")
    del seg.PerFrameFunctionalGroupsSequence
    seg.save_as(tmp_path / "no_groups.dcm")
    image = next((tmp_path / "ct").iterdir())
    codes = {
        name: refusal_of(path, ct).code
        for name, path in {
            "cut": tmp_path / "cut.dcm",
            "head": tmp_path / "head.dcm",
            "no groups": tmp_path / "no_groups.dcm",
            "image": image,
        }.items()
    }
    assert codes == {"cut": "truncated", "head": "truncated", "no groups": "unreadable", "image": "labels"}
