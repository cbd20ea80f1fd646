"""Signing: what has to be settled, what is written, and what takes a signature back."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.case.correction import assign_at
from heartlens.case.folder import save_case
from heartlens.case.result import Result
from heartlens.case.seal import SealState, read_seal, sign_case
from heartlens.case.signature import Signature, confirmation, now, obstacles
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource
from heartlens.io.volumes import read_labels
from heartlens.report.outputs import write_outputs
from heartlens.risk.person import RiskInputs

RITA = {"observer": "Reader^Rita", "organization": "Phantom Hospital"}


@pytest.fixture
def two_lesions(a_ct):
    """8 pixels of 0.25 mm2 at 200 HU (4.0) and 4 pixels at 450 HU (4.0), on one slice each."""
    hu = np.zeros((4, 16, 16), np.int16)
    hu[1, 2:4, 2:6], hu[2, 9:11, 9:11] = 200, 450
    labels = np.zeros(hu.shape, np.uint16)
    labels[1, 2:4, 2:6], labels[2, 9:11, 9:11] = 1, 2
    return Case.of(a_ct(hu), LesionMap(labels, {1: Artery.LAD, 2: Artery.UNASSIGNED}), ScoringProtocol())


@pytest.fixture
def reading(two_lesions, tmp_path):
    save_case(two_lesions, tmp_path / "case")
    return ReviewSession.open(tmp_path / "case", reader="Rita")


def test_calcium_without_artery_and_a_missing_word_stand_in_the_way(two_lesions):
    assert [text.split(":")[0] for text in obstacles(two_lesions, confirmed=False)] == [
        "1 lesion has no artery yet",
        "Not confirmed yet",
    ]
    assigned = two_lesions.reassign(2, Artery.RCA)
    assert obstacles(assigned, confirmed=True) == ()
    assert len(obstacles(assigned, confirmed=False)) == 1


def test_what_is_confirmed_names_the_number_or_the_zero(two_lesions):
    assert confirmation(two_lesions) == "I have checked all 2 lesions: total Agatston score 8."
    one = two_lesions.reassign(1, Artery.OTHER)
    assert confirmation(one) == "I have checked the 1 lesion: total Agatston score 4."
    none = one.remove(2)
    assert confirmation(none).endswith("there is no coronary calcium.")


@pytest.fixture
def one_undecided(two_lesions):
    """The lesion of the LAD could be something else."""
    doubt = LesionNote(0.6, LabelSource.NETWORK, "close", undecided=True)
    lesions = two_lesions.auto.named(notes={**two_lesions.auto.notes, 1: doubt})
    return Case.of(two_lesions.source_ct, lesions, ScoringProtocol()).reassign(2, Artery.RCA)


def test_an_undecided_lesion_stands_in_the_way_until_a_reader_says_what_it_is(one_undecided):
    (why,) = obstacles(one_undecided, confirmed=True)
    assert why == "Lesion 1 is undecided: say of each which artery it lies in, or that it is not coronary."
    for decided in (one_undecided.accept(1), one_undecided.reassign(1, Artery.OTHER), one_undecided.remove(1)):
        assert obstacles(decided, confirmed=True) == ()
    assert one_undecided.accept(1).lesions.arteries[1] is Artery.LAD
    assert one_undecided.accept(2) is one_undecided, "nobody doubted it"


def test_what_was_left_to_the_reader_is_in_what_the_reader_says(one_undecided):
    case = one_undecided.accept(1)
    words = "I have checked all 2 lesions and decided on the one lesion that was undecided: total Agatston score 8."
    assert confirmation(case) == words
    warned = replace(case, cautions=(WarningRecord("unsettled", "why"),))
    assert "looked at every slice on which the networks contradict each other" in confirmation(warned)
    none = case.remove(1).remove(2)
    assert confirmation(none).startswith("I have looked through the heart on every slice and decided on the one lesion")


def test_a_reader_keeps_an_undecided_lesion_by_naming_its_own_artery(one_undecided, tmp_path):
    save_case(one_undecided, tmp_path / "doubt")
    reading = ReviewSession.open(tmp_path / "doubt", reader="Rita")
    with pytest.raises(InputRefused, match="Lesion 1 is undecided"):
        reading.sign(**RITA, confirmed=True)
    assert reading.assign(1, Artery.LAD)
    assert not reading.assign(1, Artery.LAD), "once is enough"
    assert reading.sign(**RITA, confirmed=True)
    assert json.loads((reading.folder / "edits.jsonl").read_text().splitlines()[-1])["who"] == "Rita"


def test_a_click_with_its_own_artery_keeps_an_undecided_lesion(one_undecided):
    clicked = assign_at(one_undecided, (1, 2, 3), Artery.LAD)
    assert clicked.assessment.undecided == ()
    assert clicked.report.total == one_undecided.report.total
    assert assign_at(clicked, (1, 2, 3), Artery.LAD) is clicked


@pytest.mark.parametrize(
    "changed", [{"observer": " "}, {"organization": ""}, {"observer": "x" * 65}, {"organization": "A\nB"}]
)
def test_a_signature_needs_a_name_and_an_organization(changed):
    with pytest.raises(ValueError, match=r"must|missing"):
        Signature(**{**RITA, "when": now(), **changed})


def test_a_signature_without_a_time_zone_is_none():
    with pytest.raises(ValueError, match="UTC"):
        Signature(**RITA, when="2026-11-21T12:00:00")


def test_a_signature_holds_for_the_edits_that_were_there(reading):
    signature = Signature(**RITA, when=now())
    sign_case(reading.folder, reading.case, signature)
    seal = read_seal(reading.folder, 0)
    assert (seal.state, seal.signature, seal.changed) == (SealState.HOLDS, signature, ())
    reading.assign(2, Artery.RCA)
    assert read_seal(reading.folder, 1).state is SealState.LAPSED


def test_a_damaged_signature_is_an_altered_one(reading):
    (reading.folder / "signature.json").write_text("{}")
    assert read_seal(reading.folder, 0).state is SealState.ALTERED


def test_a_reading_keeps_each_edit_on_the_disk_and_opens_to_the_same_report(reading):
    assert reading.assign(2, Artery.RCA)
    assert reading.remove(1)
    assert reading.undo()
    lines = (reading.folder / "edits.jsonl").read_text().splitlines()
    assert [json.loads(line)["who"] for line in lines] == ["Rita"] * 3
    again = ReviewSession.open(reading.folder)
    assert again.case.report == reading.case.report
    assert again.case.report.arteries[Artery.RCA].agatston == 4


def test_an_edit_to_the_same_artery_is_none(reading):
    assert not reading.assign(1, Artery.LAD)
    assert (reading.folder / "edits.jsonl").read_text() == ""


def test_an_edit_that_cannot_be_made_is_refused_in_words(reading):
    with pytest.raises(InputRefused, match="no lesion 7"):
        reading.remove(7)
    with pytest.raises(InputRefused, match="nothing to undo"):
        reading.undo()


def test_an_edit_that_the_disk_does_not_take_is_not_made_and_leaves_the_journal_as_it_was(reading, monkeypatch):
    reading.assign(2, Artery.RCA)
    journal = (reading.folder / "edits.jsonl").read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(InputRefused, match="the edit was not made"):
            reading.remove(1)
    assert 1 in reading.case.lesions.arteries
    assert (reading.folder / "edits.jsonl").read_text() == journal
    assert reading.remove(1)
    assert ReviewSession.open(reading.folder).case.report == reading.case.report


def test_a_state_of_another_case_is_not_taken(reading, two_lesions):
    reading.assign(2, Artery.RCA)
    with pytest.raises(ValueError, match="later state"):
        reading.keep_edits(two_lesions)


def test_signing_is_refused_until_everything_is_settled(reading):
    with pytest.raises(InputRefused, match="no artery yet"):
        reading.sign(**RITA, confirmed=True)
    reading.assign(2, Artery.RCA)
    with pytest.raises(InputRefused, match="Not confirmed yet: I have checked all 2 lesions"):
        reading.sign(**RITA, confirmed=False)
    with pytest.raises(InputRefused, match="missing"):
        reading.sign("", "Phantom Hospital", confirmed=True)
    assert reading.signature is None
    assert not (reading.folder / "signature.json").exists()
    assert reading.sign(**RITA, confirmed=True) == reading.signature
    assert ReviewSession.open(reading.folder).signature == reading.signature
    reading.remove(1)
    assert reading.signature is None
    assert ReviewSession.open(reading.folder).signature is None


def test_an_export_says_who_signed_and_holds_labels_that_score_the_same(reading, tmp_path):
    reading.assign(2, Artery.RCA)
    reading.sign(**RITA, confirmed=True)
    assert reading.export(tmp_path / "signed") == []
    assert json.loads((tmp_path / "signed" / "report.json").read_text())["signature"]["observer"] == "Reader^Rita"
    assert "SIGNED by Rita Reader, Phantom Hospital" in (tmp_path / "signed" / "report.html").read_text()
    labels = read_labels(tmp_path / "signed" / "labels.nrrd", reading.case.source_ct)
    assert np.array_equal(labels, reading.case.scored_codes)
    assert ReviewSession.open(tmp_path / "signed").signature == reading.signature


def test_an_unsigned_export_says_that_nobody_signed(two_lesions, tmp_path):
    write_outputs(Result(two_lesions, ()), tmp_path / "out")
    assert "signature" not in json.loads((tmp_path / "out" / "report.json").read_text())
    assert "DRAFT, read by nobody" in (tmp_path / "out" / "report.html").read_text()
    assert not (tmp_path / "out" / "labels.nrrd").exists()


def test_a_folder_without_a_case_is_refused(tmp_path):
    with pytest.raises(InputRefused, match=r"no HeartLens case: expected a case folder .* found no case\.json"):
        ReviewSession.open(tmp_path)


def test_what_is_known_of_the_person_changes_the_grading_and_not_the_score(reading):
    reading.assign(2, Artery.RCA)
    report = reading.case.report
    assert reading.case.risk.percentile is None
    person = RiskInputs(age_years=60.0, sex="F", race="white")
    assert reading.grade(person)
    assert reading.case.risk.percentile is not None
    assert reading.case.report == report
    again = ReviewSession.open(reading.folder)
    assert again.case.risk_inputs == person
    assert again.case.report == report
    assert again.case.risk == reading.case.risk


def test_the_same_person_again_is_no_change_and_keeps_the_signature(reading):
    reading.assign(2, Artery.RCA)
    reading.sign(**RITA, confirmed=True)
    assert not reading.grade(RiskInputs())
    assert ReviewSession.open(reading.folder).signature is not None


def test_another_person_takes_the_signature_back(reading):
    reading.assign(2, Artery.RCA)
    reading.sign(**RITA, confirmed=True)
    reading.grade(RiskInputs(age_years=60.0))
    assert reading.signature is None
    again = ReviewSession.open(reading.folder)
    assert (again.signature, again.seal.state) == (None, SealState.NONE), "taken back, which is no alteration"


def test_a_person_that_cannot_be_kept_is_not_taken(reading):
    (reading.folder / "case.json").rename(reading.folder / "elsewhere.json")
    with pytest.raises(InputRefused, match="cannot write"):
        reading.grade(RiskInputs(age_years=60.0))
    assert reading.case.risk_inputs == RiskInputs()
