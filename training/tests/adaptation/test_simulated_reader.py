"""A reader who is simulated, on eight islands that can be counted by hand: what is corrected, and what an error is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.case.folder import save_case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from training.adaptation.simulated_reader import Reading, _wrong, read_as_truth

A = Artery

ISLANDS = (  # row, columns, what the program lists it as (0: not at all), what it is
    (2, (2, 8), A.LAD, (A.RCA,)),
    (5, (2, 8), A.LAD, (0,)),
    (8, (2, 8), A.OTHER, (A.OTHER,)),  # for certain: the reader has nothing to say
    (11, (2, 8), A.OTHER, (A.LCX,)),
    (14, (2, 8), A.LAD, (A.LAD, A.LCX)),  # three voxels of each
    (17, (2, 8), A.LM, (A.LM,)),
    (20, (2, 8), 0, (A.RCA,)),
    (23, (2, 3), 0, (A.RCA,)),  # one voxel: too small to count, so nobody misses it
)
UNDECIDED = 6  # the one that is LM


def opened(folder, islands=ISLANDS):
    """The case of some islands, and its truth."""
    hu = np.full((3, 32, 32), -100, np.int16)
    labels, truth = np.zeros(hu.shape, np.uint16), np.zeros(hu.shape, np.uint8)
    arteries = {}
    for row, (first, last), listed, names in islands:
        hu[1, row, first:last] = 300
        truth[1, row, first:last] = np.repeat([int(name) for name in names], (last - first) // len(names))
        if listed:
            arteries[len(arteries) + 1] = listed
            labels[1, row, first:last] = len(arteries)
    ct = CTVolume(hu, np.diag([0.7, 0.7, 3.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=3.0))
    notes = {n: LesionNote(0.5, undecided=True) for n in arteries if n == UNDECIDED}
    lesions = LesionMap(labels, arteries, notes)
    save_case(Case.of(ct, lesions, ScoringProtocol()), folder)
    return ReviewSession.open(folder, reader="Reader^Simulated"), truth


def coronary(codes):
    return np.where(np.isin(codes, CORONARY), codes, 0)


def test_a_reader_without_errors_leaves_what_is_true(tmp_path):
    session, truth = opened(tmp_path / "case")
    with session:
        reading = read_as_truth(session, truth, 0.0, np.random.default_rng(0))
        session.sign("Reader^Simulated", "Simulated site", confirmed=True)
        codes = session.case.scored_codes
    assert reading == Reading(listed=5, missed=1, changed=4, painted=1, errors=0)
    truth[1, 23, 2] = 0  # the speck
    assert (coronary(codes) == coronary(truth)).all()
    assert [codes[1, row, 2] for row in (5, 8)] == [Artery.OTHER, Artery.OTHER]
    assert [edit.kind for edit in session.case.edits] == ["reassign"] * 3 + ["paint"] + ["reassign", "paint"]


def test_a_reader_who_always_errs_says_nothing_that_is_true_of_what_is_asked(tmp_path):
    session, truth = opened(tmp_path / "case")
    with session:
        reading = read_as_truth(session, truth, 1.0, np.random.default_rng(0))
        codes = session.case.scored_codes
    assert (reading.errors, reading.painted) == (6, 0)
    assert not (coronary(codes) == coronary(truth))[coronary(truth) > 0].any()
    assert codes[1, 5, 2] in CORONARY  # it is none
    assert (codes[1, 20] == 0).all()  # missed by program and reader
    assert codes[1, 8, 2] == Artery.OTHER  # was not asked


def test_a_lesion_that_a_painted_part_has_taken_in_is_still_asked_about(tmp_path):
    """The right half of the first is LCX and touches the second, which is called LCX, too, and is RCA."""
    islands = ((5, (2, 8), A.LAD, (A.LAD, A.LCX)), (6, (5, 8), A.LCX, (A.RCA,)), (9, (2, 8), A.LCX, (A.LCX,)))
    session, truth = opened(tmp_path / "case", islands)
    with session:
        reading = read_as_truth(session, truth, 0.0, np.random.default_rng(0))
        assert (session.case.scored_codes == truth).all()
    assert reading == Reading(listed=3, missed=0, changed=2, painted=0, errors=0)


def test_errors_are_drawn_for_each_lesion_at_their_rate(tmp_path):
    errors = 0
    for n in range(40):
        session, truth = opened(tmp_path / f"case{n}")
        with session:
            errors += read_as_truth(session, truth, 0.25, np.random.default_rng(n)).errors
    assert 40 <= errors <= 80  # of 240, 60 are expected, with a standard deviation of 6.7


def test_a_wrong_answer_is_as_often_not_coronary_as_one_of_the_other_arteries():
    rng = np.random.default_rng(0)
    of_lad = Counter(_wrong(np.array([A.LAD] * 3, np.uint8), rng) for _ in range(600))
    assert set(of_lad) == {A.OTHER, A.LM, A.LCX, A.RCA}
    assert 260 <= of_lad[A.OTHER] <= 340
    assert min(of_lad[artery] for artery in (A.LM, A.LCX, A.RCA)) > 70
    of_two = Counter(_wrong(np.array([A.LAD, A.OTHER], np.uint8), rng) for _ in range(60))
    assert set(of_two) == {A.LM, A.LCX, A.RCA}


def test_a_truth_on_another_grid_is_refused(tmp_path):
    session, truth = opened(tmp_path / "case")
    with session, pytest.raises(InputRefused, match=r"expected a truth of shape \(3, 32, 32\), found \(2, 32, 32\)"):
        read_as_truth(session, truth[:2], 0.0, np.random.default_rng(0))
    assert session.case.edits == ()
