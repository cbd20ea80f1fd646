"""Labels are proven: declared, meant, on calcium, and of this scan."""

from __future__ import annotations

import json

import highdicom as hd
import numpy as np
import pytest
import small_chest
from pydicom import dcmread
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.segment_names import ARTERY_OF_CODE, SCT_OF_SRT
from heartlens.io.label_proof import label_cautions, shares_at_threshold
from heartlens.io.nrrd import write_nrrd
from heartlens.io.volumes import read_labels
from heartlens.pipeline import Request, score_series


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    """The small chest as a DICOM series, read-only."""
    folder = tmp_path_factory.mktemp("chest") / "ct"
    small_chest.write_series(folder, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.9")
    return folder


@pytest.fixture(scope="module")
def ct():
    return CTVolume(small_chest.hu(), small_chest.affine())


def keys_of(*segments, **lines):
    """Keys as Slicer writes them: (number, name, value, TerminologyEntry) each; lines set to None are lost."""
    keys = {}
    for n, name, value, terms in segments:
        keys |= {
            f"Segment{n}_ID": f"Segment_{n}", f"Segment{n}_Name": name, f"Segment{n}_Layer": "0",
            f"Segment{n}_LabelValue": str(value), f"Segment{n}_Tags": f"TerminologyEntry:{terms}|",
        }  # fmt: skip
    keys |= lines
    return {key: text for key, text in keys.items() if text is not None}


def arteries(path, ct):
    """{artery: labelled voxels} of a file."""
    codes = read_labels(path, ct)
    return {Artery(a).name: int(np.count_nonzero(codes == a)) for a in np.unique(codes) if a}


def refusal(path, ct):
    with pytest.raises(InputRefused) as caught:
        read_labels(path, ct)
    assert caught.value.code == "labels", caught.value
    return caught.value.text


TWO = ((0, "LAD", 2, ""), (1, "RCA", 4, ""))
EIGHTEEN_EACH = {"LAD": 18, "RCA": 18}
"""Two slices of 3 x 3 voxels for each plaque of the small chest."""


@pytest.mark.parametrize(
    "keys",
    [
        keys_of(*TWO),
        keys_of(*TWO, Segment0_ID=None),
        keys_of(*TWO, Segment0_ID=None, Segment1_ID=None),
        keys_of((3, "LAD", 2, ""), (17, "RCA", 4, "")),
    ],
    ids=["whole", "first ID lost", "every ID lost", "numbers with gaps"],
)
def test_a_segment_is_a_segment_whatever_its_number_and_without_its_id(tmp_path, ct, keys):
    write_nrrd(tmp_path / "s.seg.nrrd", small_chest.codes(), small_chest.affine(), keys)
    assert arteries(tmp_path / "s.seg.nrrd", ct) == EIGHTEEN_EACH


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (keys_of(TWO[0]), "found 4, which no segment has"),
        (keys_of(*TWO, Segment1_LabelValue=None), "Segment1_LabelValue of segment 'RCA' are missing"),
        (keys_of(*TWO, Segment0_Layer=None), "Segment0_Layer of segment 'LAD' are missing"),
        (keys_of((0, "LAD", 2, ""), (1, "RCA", 5, "")), "found 4, which no segment has"),
        ({}, "no key that says what they are"),
        (keys_of((0, "Segment_1", 2, ""), (1, "Segment_2", 4, "")), "found segment 'Segment_1'"),
    ],
)
def test_voxels_of_which_nobody_says_what_they_are_are_refused_and_not_dropped(tmp_path, ct, keys, words):
    write_nrrd(tmp_path / "s.seg.nrrd", small_chest.codes(), small_chest.affine(), keys)
    assert words in refusal(tmp_path / "s.seg.nrrd", ct)


TERMS = "Segmentation category and type - 3D Slicer General Anatomy list~{}^{}^Anatomical Structure~{}^{}^x~^^~Anatomic"


@pytest.mark.parametrize(
    ("scheme", "lad", "rca"),
    [("SCT", "59438005", "13647002"), ("SRT", "T-43110", "T-43200"), ("SNM3", "T-43111", "T-43202")],
)
def test_slicer_says_the_artery_as_the_type_of_a_segment(tmp_path, ct, scheme, lad, rca):
    terms = [TERMS.format(scheme, "T-D000A", scheme, code) for code in (lad, rca)]
    keys = keys_of((0, "Segment_1", 2, terms[0]), (1, "Segment_2", 4, terms[1]))
    write_nrrd(tmp_path / "s.seg.nrrd", small_chest.codes(), small_chest.affine(), keys)
    assert arteries(tmp_path / "s.seg.nrrd", ct) == EIGHTEEN_EACH


def foreign_seg(path, chest, segments):
    """A SEG of another program: (label, property type code, voxels) each."""
    structure = Code("123037004", "SCT", "Anatomical Structure")
    described = [
        hd.seg.SegmentDescription(n, label, structure, kind, "MANUAL") for n, (label, kind, _) in enumerate(segments, 1)
    ]
    hd.seg.Segmentation(
        [dcmread(p) for p in sorted(chest.iterdir())], np.stack([v for *_, v in segments], -1).astype(np.uint8),
        "BINARY", described, hd.UID(), 300, hd.UID(), 1, "nobody", "none", "1", "0",
    ).save_as(path)  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("label", "code", "expected"),
    [
        ("Segment_1", Code("59438005", "SCT", "LAD"), {"LAD": 18}),
        ("Segment_1", Code("T-43110", "SRT", "LAD"), {"LAD": 18}),
        ("coronary_arteries", Code("41801008", "SCT", "Coronary artery"), {"UNASSIGNED": 18}),
        ("LAD", Code("41801008", "SCT", "Coronary artery"), {"LAD": 18}),
        ("coronary_arteries", Code("59438005", "SCT", "LAD"), {"LAD": 18}),
        ("aorta", Code("15825003", "SCT", "Aorta"), {"OTHER": 18}),
    ],
)
def test_dcmqi_and_totalsegmentator_say_it_as_type_or_label(tmp_path, chest, label, code, expected):
    path = foreign_seg(tmp_path / "s.dcm", chest, [(label, code, small_chest.codes() == Artery.LAD)])
    ct = score_series(chest, Request(bundle="none")).case.source_ct
    assert arteries(path, ct) == expected


def test_snomed_rt_and_snomed_ct_name_the_same_places():
    """By pydicom's table, which is the standard's; T-43203 is an older name of the right coronary artery."""
    assert {srt: mapping["SRT"][srt] for srt in SCT_OF_SRT if srt != "T-43203"} == {
        srt: sct for srt, sct in SCT_OF_SRT.items() if srt != "T-43203"
    }
    assert set(SCT_OF_SRT.values()) == set(ARTERY_OF_CODE)


def test_the_share_of_labelled_voxels_at_threshold_is_counted_for_each_artery(a_ct):
    ct = a_ct(np.array([[[200, 129, 130, 100], [500, 0, 0, 0]]]))
    codes = np.array([[[2, 2, 2, 2], [4, 0, 0, 0]]], np.uint8)
    assert shares_at_threshold(ct, codes, 130) == {"LAD": 0.5, "RCA": 1.0}


def test_few_labels_on_calcium_are_a_warning_and_no_lesion_at_all_a_refusal(tmp_path):
    (warning,) = label_cautions({"LAD": 0.24, "RCA": 1.0}, 130, tmp_path, counted=True)
    assert warning.code == "labels"
    assert "LAD 24 %, RCA 100 %" in warning.text
    assert label_cautions({"LAD": 0.25}, 130, tmp_path, counted=True) == []
    assert label_cautions({}, 130, tmp_path, counted=False) == [], "who labels nothing says that nothing is calcified"
    assert label_cautions({"LAD": 1.0}, 130, tmp_path, counted=False) == [], "one pixel, dropped as too small"
    assert [c.code for c in label_cautions({"OTHER": 0.0}, 130, tmp_path, counted=False)] == ["labels"]
    for share in (0.0, 0.05):
        with pytest.raises(InputRefused, match=r"^labels: .*found no lesion of LAD where the CT reaches 130") as caught:
            label_cautions({"LAD": share, "OTHER": 1.0}, 130, tmp_path, counted=False)
        assert "label map of zeros" in caught.value.text


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        (lambda v: v, "right"),
        (lambda v: np.zeros_like(v), "right"),
        (lambda v: v[:, ::-1], "refused"),
        (lambda v: v[:, :, ::-1], "refused"),
        (lambda v: np.roll(v, 2, 0), "refused"),
        (lambda v: np.where(np.indices(v.shape)[0] > 11, np.uint8(2), v), "warned"),
    ],
    ids=["as drawn", "none", "rows flipped", "columns flipped", "two slices off", "the LAD painted over the lung"],
)
def test_labels_that_lie_beside_the_calcium_never_score_without_a_word(tmp_path, chest, change, ends):
    labels = small_chest.write_labels(tmp_path / "l.nrrd", np.ascontiguousarray(change(small_chest.codes())))
    if ends == "refused":
        with pytest.raises(InputRefused, match=r"^labels: "):
            score_series(chest, Request(segmentation=labels))
        return
    document = score_series(chest, Request(segmentation=labels)).case.report_document()
    assert ends == ("warned" if "labels" in [w["code"] for w in document["warnings"]] else "right")
    if ends == "right" and change(small_chest.codes()).any():
        assert document["total"]["agatston"] == pytest.approx(small_chest.TOTAL)
        assert document["provenance"]["labels_at_threshold"] == {"LAD": 1.0, "RCA": 1.0}
    assert json.dumps(document)


def edited(path, target, **changes):
    dataset = dcmread(path)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    if "StudyInstanceUID" in changes:  # then it names other images, too
        for item in dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence:
            item.ReferencedSOPInstanceUID = generate_uid()
    dataset.save_as(target)
    return target


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({}, None),
        ({"PatientID": "SOMEBODY", "PatientName": "Else^S"}, "names these images and another patient"),
        ({"StudyInstanceUID": "9.9"}, "refused: expected the study of the CT"),
        ({"StudyInstanceUID": "9.9", "PatientID": "SOMEBODY"}, "refused: expected patient and study of the CT"),
    ],
)
def test_a_segmentation_of_another_patient_or_study_is_told(tmp_path, chest, changes, ends):
    ct_codes = small_chest.codes()
    made = foreign_seg(tmp_path / "s.dcm", chest, [("LAD", Code("59438005", "SCT", "x"), ct_codes == Artery.LAD)])
    path = edited(made, tmp_path / "t.dcm", **changes)
    if ends is not None and ends.startswith("refused: "):
        with pytest.raises(InputRefused, match=ends.removeprefix("refused: ")):
            score_series(chest, Request(segmentation=path))
        return
    texts = [w.text for w in score_series(chest, Request(segmentation=path)).case.cautions if w.code == "labels"]
    assert [bool(ends and ends in text) for text in texts] == ([True] if ends else [])
