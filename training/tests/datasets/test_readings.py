"""Signed cases as truth: what is left out is named and counted, and nothing is learned that no reader looked at."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import small_chest
from signed_cases import make_signed

from heartlens.__main__ import main
from heartlens.case.comparison.adjudication import adjudicated
from heartlens.case.comparison.opened import open_case
from heartlens.case.folder import append_edit, load_case, save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.lesions import Artery
from training.datasets.readings import signed_scans, state_of_cases
from training.datasets.scans import UNREVIEWED, LabeledScan, Skipped, without_places
from training.datasets.sources import case_scans


def read(*folders):
    """Scans, skips by code, contradictions."""
    contradictions = []
    found = list(signed_scans(folders, contradictions))
    scans = [one for one in found if isinstance(one, LabeledScan)]
    return scans, {one.name: one for one in found if isinstance(one, Skipped)}, contradictions


def test_what_was_never_put_before_the_reader_is_neither_calcium_nor_none(tmp_path):
    (scan,), _, _ = read(make_signed(tmp_path / "a"))
    expected = np.zeros((4, 16, 16), np.uint8)
    expected[1, 4:6, 4:8] = Artery.RCA
    expected[2, 10, 10:14] = UNREVIEWED
    np.testing.assert_array_equal(scan.labels, expected)
    assert scan.is_labeled
    assert scan.provenance["signed"] == {
        "observer": "One^R", "organization": "Hospital", "when": "2026-01-04T10:00:00+00:00",
    }  # fmt: skip


def test_a_correction_that_unlabels_everything_teaches_that_this_was_none_and_says_so(tmp_path):
    (scan,), _, _ = read(make_signed(tmp_path / "a", emptied=True))
    assert not scan.labels[1].any()  # what was taken out was looked at: none, and not unreviewed
    assert (scan.labels[2] == UNREVIEWED).sum() == 4
    assert "left none of the coronary lesions" in scan.notes[-1]


def test_a_case_that_nobody_signed_or_that_was_edited_since_is_named_and_skipped(tmp_path):
    make_signed(tmp_path / "unsigned", signed=False)
    edited = make_signed(tmp_path / "edited", seed=2)
    append_edit(edited, *load_case(edited).reassign(1, Artery.LCX, who="Two").edits[1:])
    scans, skips, _ = read(tmp_path / "unsigned", edited, make_signed(tmp_path / "good", seed=3))
    assert len(scans) == 1
    assert {name: skip.code for name, skip in skips.items()} == {"case 1 of 3": "unsigned", "case 2 of 3": "unsigned"}


def test_a_ct_that_is_gone_is_skipped_without_the_name_of_its_folder(tmp_path):
    place = make_signed(tmp_path / "Doe^Jane")
    (place / "ct.nrrd").unlink()
    scans, skips, _ = read(place, tmp_path / "nowhere")
    assert not scans
    assert set(skips) == {"case 1 of 2", "case 2 of 2"}
    assert not any("Doe" in skip.text or "nowhere" in skip.text for skip in skips.values())


def test_two_readers_who_agree_count_once(tmp_path):
    scans, skips, contradictions = read(make_signed(tmp_path / "a"), make_signed(tmp_path / "b", reader="Two^R"))
    assert [scan.provenance["readers"] for scan in scans] == [["One^R"]]
    assert skips["case 2 of 2"].code == "second-reading"
    assert not contradictions


@pytest.mark.parametrize("contrary", [{"artery": Artery.LCX}, {"emptied": True}], ids=["another artery", "nothing"])
def test_two_readers_who_contradict_each_other_are_reported_and_neither_teaches(tmp_path, contrary):
    scans, skips, contradictions = read(
        make_signed(tmp_path / "a"),
        make_signed(tmp_path / "b", reader="Two^R", **contrary),
        make_signed(tmp_path / "c", seed=2),
    )
    assert len(scans) == 1  # that of the other scan
    assert [skips[f"case {n} of 3"].code for n in (1, 2)] == ["disagreement"] * 2
    (one,) = contradictions
    assert (one.cases, one.readers) == ((1, 2), ("One^R", "Two^R"))
    assert one.lesions == ({"other artery": 1} if "artery" in contrary else {"only A": 1})


def settle(folder, one, other, artery=None):
    """The third case of two readings, as `heartlens compare --adjudicate` makes it, and signed by a third reader."""
    case = adjudicated(open_case(one), open_case(other))
    for lesion in sorted(case.lesions.arteries):
        case = case.reassign(lesion, artery, who="Third^R") if artery else case.remove(lesion, who="Third^R")
    save_case(case, folder)
    sign_case(folder, load_case(folder), Signature("Third^R", "Hospital", "2026-01-06T10:00:00+00:00"))
    return folder


def test_where_two_readers_contradict_each_other_a_signed_third_case_decides(tmp_path):
    one = make_signed(tmp_path / "a")
    other = make_signed(tmp_path / "b", reader="Two^R", artery=Artery.LCX)
    third = settle(tmp_path / "c", one, other, Artery.LM)
    (scan,), skips, (contradiction,) = read(one, other, third)
    assert set(np.unique(scan.labels)) == {0, Artery.LM, UNREVIEWED}
    assert scan.provenance["signed"]["observer"] == "Third^R"
    assert {name: skip.code for name, skip in skips.items()} == dict.fromkeys(
        ("case 1 of 3", "case 2 of 3"), "adjudicated"
    )
    assert (contradiction.cases, contradiction.settled_by) == ((1, 2), 3)
    (alone,), _, none = read(third)
    np.testing.assert_array_equal(alone.labels, scan.labels)
    assert not none


def test_a_third_case_that_takes_everything_out_teaches_that_this_was_none(tmp_path):
    one = make_signed(tmp_path / "a")
    other = make_signed(tmp_path / "b", reader="Two^R", emptied=True)
    (scan,), _, _ = read(settle(tmp_path / "c", one, other), one, other)
    assert not scan.labels[1].any()


def test_what_both_readers_call_something_else_stays_known_though_the_third_case_does_not_list_it(tmp_path):
    """They differ on the plaque; of the bright row, which both painted as no coronary calcium, they say the same."""
    readings = []
    for n, artery in enumerate((Artery.RCA, Artery.LCX)):
        folder = make_signed(tmp_path / f"r{n}", artery=artery, reader=f"R{n}", listed_row=True)
        readings.append(folder)
    (scan,), _, _ = read(*readings, settle(tmp_path / "c", *readings, Artery.RCA))
    assert (scan.labels[2] == Artery.OTHER).sum() == 4
    (scan,), _, _ = read(readings[0], tmp_path / "c")  # one reader's word alone is not both
    assert (scan.labels[2] == UNREVIEWED).sum() == 4


def test_third_cases_that_contradict_each_other_settle_nothing_and_one_alone_does(tmp_path):
    one, other = make_signed(tmp_path / "a"), make_signed(tmp_path / "b", reader="Two^R", artery=Artery.LCX)
    thirds = [settle(tmp_path / f"t{n}", one, other, a) for n, a in enumerate((Artery.LM, Artery.LAD))]
    scans, skips, contradictions = read(one, other, *thirds, make_signed(tmp_path / "c", seed=2))
    assert len(scans) == 1
    assert {skip.code for skip in skips.values()} == {"disagreement"}
    assert "leave all of these third cases out but one" in skips["case 3 of 5"].text
    assert [c.settled_by for c in contradictions] == [None, None]
    assert len(read(one, other, thirds[0])[0]) == 1  # the way out


def test_a_ct_that_has_moved_is_skipped_without_any_name_of_a_folder(tmp_path):
    """The CT lay in a folder named after the patient, far from the case; the case itself is given by a link."""
    source = tmp_path / "scans" / "Roe^Richard" / "ct"
    small_chest.write_series(source)
    labels = small_chest.write_labels(tmp_path / "labels.nrrd")
    out = tmp_path / "results" / "Roe Richard"
    assert main(["score", str(source), "--segmentation", str(labels), "--out", str(out)]) == 0
    (tmp_path / "link").symlink_to(tmp_path / "results" / "Roe Richard")
    for damage in (lambda: (source / "Roe1.dcm").write_bytes(b"none"), lambda: shutil.rmtree(source.parent)):
        damage()
        for place in (tmp_path / "results" / "Roe Richard", tmp_path / "link"):
            _, skips, _ = read(place)
            (of_cases,) = case_scans([place])
            for skip in (skips["case 1 of 1"], of_cases):
                assert skip.code in ("input", "unreadable")
                assert not any(word in skip.text for word in ("Roe", "Richard", "link", str(tmp_path))), skip.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no DICOM file in {place}/sub: found none", "no DICOM file in case 3: found none"),
        ("case folder Doe Jane: case.json: no JSON", "case 3: case.json: no JSON"),
        ("cannot read /mnt/other/Doe/x.dcm: gone", "cannot read a file: gone"),
        ("expected 1/2 mm and SHA-256 ab/cd", "expected 1/2 mm and SHA-256 ab/cd"),
    ],
)
def test_a_message_keeps_its_words_and_loses_its_paths(tmp_path, text, expected):
    place = tmp_path / "Doe Jane"
    (place / "sub").mkdir(parents=True)
    assert without_places(text.format(place=place), place, "case 3") == expected


def test_cases_that_were_edited_since_are_other_cases(tmp_path):
    place = make_signed(tmp_path / "a")
    before = state_of_cases([place])
    assert state_of_cases([place]) == before
    append_edit(place, *load_case(place).reassign(1, Artery.LCX, who="Two").edits[1:])
    assert state_of_cases([place]) != before
