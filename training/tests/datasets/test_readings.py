"""Signed cases as truth: what is left out is named and counted, and nothing is learned that no reader looked at."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.case.case import Case
from heartlens.case.folder import append_edit, load_case, save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from training.datasets.readings import signed_scans, state_of_cases
from training.datasets.scans import UNREVIEWED, LabeledScan, Skipped


def make(folder, *, seed=1, artery=Artery.RCA, reader="One^R", emptied=False, signed=True):
    """Eight voxels that the program called LAD, a bright row that it never listed; an edit, a signature."""
    hu = np.full((4, 16, 16), -100, np.int16)
    hu[0, 0, 0] = seed
    hu[1, 4:6, 4:8] = 300
    hu[2, 10, 10:14] = 200
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=3.0))
    labels = np.zeros(hu.shape, np.uint16)
    labels[1, 4:6, 4:8] = 1
    provenance = Provenance(LabelSource.NETWORK, bundle="b 1")
    case = Case.of(ct, LesionMap(labels, {1: Artery.LAD}), ScoringProtocol(), provenance=provenance)
    case = case.remove(1, who=reader) if emptied else case.reassign(1, artery, who=reader)
    save_case(case, folder)
    if signed:
        sign_case(folder, load_case(folder), Signature(reader, "Hospital", "2026-01-04T10:00:00+00:00"))
    return folder


def read(*folders):
    """Scans, skips by code, contradictions."""
    contradictions = []
    found = list(signed_scans(folders, contradictions))
    scans = [one for one in found if isinstance(one, LabeledScan)]
    return scans, {one.name: one for one in found if isinstance(one, Skipped)}, contradictions


def test_what_was_never_put_before_the_reader_is_neither_calcium_nor_none(tmp_path):
    (scan,), _, _ = read(make(tmp_path / "a"))
    expected = np.zeros((4, 16, 16), np.uint8)
    expected[1, 4:6, 4:8] = Artery.RCA
    expected[2, 10, 10:14] = UNREVIEWED
    np.testing.assert_array_equal(scan.labels, expected)
    assert scan.is_labeled
    assert scan.provenance["signed"] == {
        "observer": "One^R", "organization": "Hospital", "when": "2026-01-04T10:00:00+00:00",
    }  # fmt: skip


def test_a_correction_that_unlabels_everything_teaches_that_this_was_none_and_says_so(tmp_path):
    (scan,), _, _ = read(make(tmp_path / "a", emptied=True))
    assert not scan.labels[1].any()  # what was taken out was looked at: none, and not unreviewed
    assert (scan.labels[2] == UNREVIEWED).sum() == 4
    assert "left none of the coronary lesions" in scan.notes[-1]


def test_a_case_that_nobody_signed_or_that_was_edited_since_is_named_and_skipped(tmp_path):
    make(tmp_path / "unsigned", signed=False)
    edited = make(tmp_path / "edited", seed=2)
    append_edit(edited, *load_case(edited).reassign(1, Artery.LCX, who="Two").edits[1:])
    scans, skips, _ = read(tmp_path / "unsigned", edited, make(tmp_path / "good", seed=3))
    assert len(scans) == 1
    assert {name: skip.code for name, skip in skips.items()} == {"case 1 of 3": "unsigned", "case 2 of 3": "unsigned"}


def test_a_ct_that_is_gone_is_skipped_without_the_name_of_its_folder(tmp_path):
    place = make(tmp_path / "Doe^Jane")
    (place / "ct.nrrd").unlink()
    scans, skips, _ = read(place, tmp_path / "nowhere")
    assert not scans
    assert set(skips) == {"case 1 of 2", "case 2 of 2"}
    assert not any("Doe" in skip.text or "nowhere" in skip.text for skip in skips.values())


def test_two_readers_who_agree_count_once(tmp_path):
    scans, skips, contradictions = read(make(tmp_path / "a"), make(tmp_path / "b", reader="Two^R"))
    assert [scan.provenance["readers"] for scan in scans] == [["One^R"]]
    assert skips["case 2 of 2"].code == "second-reading"
    assert not contradictions


@pytest.mark.parametrize("contrary", [{"artery": Artery.LCX}, {"emptied": True}], ids=["another artery", "nothing"])
def test_two_readers_who_contradict_each_other_are_reported_and_neither_teaches(tmp_path, contrary):
    scans, skips, contradictions = read(
        make(tmp_path / "a"), make(tmp_path / "b", reader="Two^R", **contrary), make(tmp_path / "c", seed=2)
    )
    assert len(scans) == 1  # that of the other scan
    assert [skips[f"case {n} of 3"].code for n in (1, 2)] == ["disagreement"] * 2
    (one,) = contradictions
    assert (one.cases, one.readers) == ((1, 2), ("One^R", "Two^R"))
    assert one.lesions == ({"other artery": 1} if "artery" in contrary else {"only A": 1})


def test_cases_that_were_edited_since_are_other_cases(tmp_path):
    place = make(tmp_path / "a")
    before = state_of_cases([place])
    assert state_of_cases([place]) == before
    append_edit(place, *load_case(place).reassign(1, Artery.LCX, who="Two").edits[1:])
    assert state_of_cases([place]) != before
