"""Found means half of the score; what is called elsewhere is false; the range is held against what is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heartlens.calcium import extract_lesions
from heartlens.case.case import Case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from training.evaluation.answers import Known, KnownIsland, answer_of, known_islands
from training.evaluation.estimates import Statistics, estimate_all
from training.evaluation.recall import add_answers

PROTOCOL = ScoringProtocol()
SURE, ASKED = LesionNote(probability=0.9), LesionNote(probability=0.4, undecided=True)


def scan(*blocks: tuple[tuple[slice, slice], int]) -> CTVolume:
    """One slice of 3 mm with pixels of 1 mm2; a block of n pixels of 150 HU scores n."""
    hu = np.full((1, 32, 32), -50, np.int16)
    for block, value in blocks:
        hu[0][block] = value
    return CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=3.0))


def voxels(ct: CTVolume, block: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(ct.shape, bool)
    mask[0][block] = True
    return np.flatnonzero(mask)


def case_of(ct: CTVolume, *named: tuple[tuple[slice, slice], Artery, LesionNote]) -> Case:
    flat = np.concatenate([voxels(ct, block) for block, _, _ in named]) if named else np.zeros(0, np.int64)
    sizes = [voxels(ct, block).size for block, _, _ in named]
    arteries = np.repeat([int(artery) for _, artery, _ in named], sizes)
    number = np.repeat(np.arange(len(named)), sizes)
    notes = [note for _, _, note in named] or [LesionNote()]
    lesions = extract_lesions(ct, flat, arteries, PROTOCOL, notes=notes, note_of_voxel=number)
    return Case.of(ct, lesions, PROTOCOL, provenance=Provenance(LabelSource.NETWORK))


LEFT_PART, RIGHT_PART = (slice(4, 6), slice(4, 8)), (slice(4, 6), slice(8, 14))
WHOLE, ELSEWHERE = (slice(4, 6), slice(4, 14)), (slice(20, 23), slice(20, 23))


def test_an_island_is_found_from_half_of_its_score_on_and_not_by_a_voxel():
    """Of 20 pixels 8 are called, or 12."""
    ct = scan((WHOLE, 150))
    known = Known((KnownIsland("LAD", voxels(ct, WHOLE)),))
    for part, share, is_called in ((LEFT_PART, 0.4, False), (RIGHT_PART, 0.6, True)):
        (answer,) = answer_of(case_of(ct, (part, Artery.LAD, SURE)), known).islands
        assert (answer.called, answer.is_called, answer.agatston) == (pytest.approx(share), is_called, 20)
        assert (answer.area_mm2, answer.peak_hu, answer.probability) == (20, 150, 0.9)


def test_an_undecided_refusal_meets_an_island_and_does_not_call_it():
    ct = scan((WHOLE, 150))
    known = Known((KnownIsland("LCX", voxels(ct, WHOLE)),))
    answer = answer_of(case_of(ct, (WHOLE, Artery.OTHER, ASKED)), known)
    (island,) = answer.islands
    assert (island.is_called, island.is_met, island.named) == (False, True, "")
    assert (answer.total, answer.total_low, answer.total_high, answer.reference) == (0, 0, 20, 20)
    assert answer.range_holds_reference
    assert answer.spans_categories
    refused = answer_of(case_of(ct, (WHOLE, Artery.OTHER, SURE)), known)
    assert not refused.islands[0].is_met
    assert not refused.range_holds_reference


def test_a_single_wrong_category_counts_and_no_less_for_a_scan_that_nobody_knows_to_be_gated():
    """20 of LAD and 1 undecided (absent to mild), called for nothing (minimal, truly absent), and called as it is."""
    ct = scan((WHOLE, 150), (ELSEWHERE, 150))
    known = Known((KnownIsland("LAD", voxels(ct, WHOLE)),))
    open_case = case_of(ct, (WHOLE, Artery.LAD, ASKED))
    missed = case_of(ct, (ELSEWHERE, Artery.LAD, SURE))
    right = case_of(ct, (WHOLE, Artery.LAD, SURE))
    answers = [answer_of(case, known) for case in (open_case, missed, right)]
    assert [answer.categories for answer in answers] == [("absent", "mild"), ("minimal",) * 2, ("mild",) * 2]
    assert [answer.is_single_and_wrong for answer in answers] == [False, True, False]
    beside = [(), ("non-gated",), ("non-gated", "metal"), ("metal",)]
    told = [replace(answers[1], reasons=reasons) for reasons in beside]
    assert [answer.is_wrong_without_reason for answer in told] == [True, True, False, False]
    assert not replace(answers[1], is_evaluable=False).is_single_and_wrong


@pytest.mark.parametrize(
    ("read", "said", "is_right"),
    [
        ("LM", Artery.LAD, True), ("LAD", Artery.LM, True), ("LM/LCX", Artery.LM, True), ("LM/LCX", Artery.LCX, True),
        ("LCX", Artery.LM, False), ("LM/LAD", Artery.LCX, False), ("RCA", Artery.UNASSIGNED, False),
    ],
)  # fmt: skip
def test_the_left_main_and_its_branch_are_one_name_and_no_name_is_wrong(read, said, is_right):
    ct = scan((WHOLE, 150))
    (answer,) = answer_of(case_of(ct, (WHOLE, said, SURE)), Known((KnownIsland(read, voxels(ct, WHOLE)),))).islands
    assert answer.is_called
    assert answer.is_named_right is is_right


def test_the_artery_of_the_larger_score_names_an_island_of_two_names():
    """8 pixels of weight 4 against 12 of weight 1 in one island: weights are those of the whole island."""
    ct = scan((LEFT_PART, 450), (RIGHT_PART, 150))
    case = case_of(ct, (LEFT_PART, Artery.LAD, SURE), (RIGHT_PART, Artery.LCX, SURE))
    (answer,) = answer_of(case, Known((KnownIsland("LAD", voxels(ct, WHOLE)),))).islands
    assert (answer.called, answer.named, answer.is_named_right) == (1, "LCX", False)


def test_what_is_called_elsewhere_is_false_and_what_nobody_is_sure_of_is_neither():
    ct = scan((WHOLE, 150), (ELSEWHERE, 250))
    case = case_of(ct, (WHOLE, Artery.RCA, SURE), (ELSEWHERE, Artery.LAD, ASKED))
    answer = answer_of(case, Known((KnownIsland("RCA", voxels(ct, WHOLE)),)))
    (other,) = answer.others
    assert (other.artery, other.agatston, other.called, other.undecided) == ("LAD", 18, True, True)
    assert (other.place, answer.slices_without_calcium) == ((0, 21, 21), 0)
    unsure = answer_of(case, Known((KnownIsland("RCA", voxels(ct, WHOLE)),), voxels(ct, ELSEWHERE)))
    assert unsure.others == ()
    assert (unsure.reference, unsure.reference_high) == (20, 38)
    nothing = answer_of(case, Known())
    assert [(x.artery, x.called) for x in nothing.others] == [("RCA", True), ("LAD", True)]
    assert nothing.slices_without_calcium == 1


def test_islands_of_labels_are_those_of_each_artery_that_count():
    ct = scan((LEFT_PART, 200), (RIGHT_PART, 200), (ELSEWHERE, 200))
    codes = np.zeros(ct.shape, np.uint8)
    codes.reshape(-1)[voxels(ct, LEFT_PART)] = Artery.LM
    codes.reshape(-1)[voxels(ct, RIGHT_PART)] = Artery.LAD
    codes.reshape(-1)[voxels(ct, ELSEWHERE)] = Artery.OTHER
    known = known_islands(ct, codes, PROTOCOL)
    assert [(island.artery, island.flat.size) for island in known.islands] == [("LM", 8), ("LAD", 12)]
    assert np.array_equal(known.codes(ct), np.where(codes == Artery.OTHER, 0, codes))


def test_an_island_has_voxels_and_an_artery_that_is_known():
    with pytest.raises(ValueError, match=r"one of LM, LAD, LM/LAD, LCX, LM/LCX, RCA, got 'D1'"):
        KnownIsland("D1", np.array([1]))
    with pytest.raises(ValueError, match="must have voxels"):
        KnownIsland("LAD", np.zeros(0, np.int64))


def estimates(*answers):
    statistics = Statistics(len(answers))
    add_answers(statistics, answers)
    return estimate_all({"": statistics}, draws=50, seed=1)[0][""], statistics.shares


def test_statistics_of_two_scans_by_hand():
    """One scan with 20 of its 20 called by a wrong name; one without calcium that has a false call and a question."""
    ct = scan((WHOLE, 150), (ELSEWHERE, 250))
    named_wrong = answer_of(
        case_of(ct, (WHOLE, Artery.LCX, SURE)), Known((KnownIsland("LAD", voxels(ct, WHOLE)),), voxels(ct, ELSEWHERE))
    )
    false = answer_of(case_of(ct, (WHOLE, Artery.LAD, SURE), (ELSEWHERE, Artery.OTHER, ASKED)), Known())
    found, shares = estimates(named_wrong, false)
    assert shares["islands.all.called"] == shares["islands.LM/LAD.called"] == shares["islands.size.1.met"] == (1, 1)
    assert shares["islands.all.named_right"] == (0, 1)
    assert found["islands.RCA.called"].value is None
    assert found["others.false_per_slice"].value == found["others.undecided_per_slice"].value == 1
    assert found["others.false_per_scan"].value == 0.5
    assert found["answers.false_zero"].value == 0
    assert shares["range.holds"] == (1, 2)
    assert shares["range.spans"] == (0, 2)  # 20 and 38 are both of 11 to 100
    assert found["answers.mean_score"].value == 20


def test_no_false_call_on_a_slice_has_the_interval_of_a_share_that_is_zero():
    clean = answer_of(case_of(scan()), Known())
    found, _ = estimates(*[clean] * 20)
    assert found["others.false_per_slice"] == (0, 0, pytest.approx(3.8416 / 23.8416))


def test_a_pair_agrees_within_five_points_or_five_percent():
    answer = answer_of(case_of(scan((WHOLE, 150)), (WHOLE, Artery.LAD, SURE)), Known())
    for before, agrees in (((25.0, 0.0), 1), ((14.9, 0.0), 0), ((21.0, 6.0), 1)):
        found, _ = estimates(replace(answer, before=before))
        assert found["pairs.within"].value == agrees
    assert found["pairs.reference_within"].value == 0  # 0 on this image, 6 before
    assert found["pairs.mean_change"].value == 1


@pytest.mark.parametrize(("p", "credible"), [(0.9, ("mild", "absent")), (0.96, ("mild",))])
def test_the_likeliest_categories_with_95_in_100_are_held_against_the_reference(p, credible):
    """A lesion of 20 is coronary with p, and the score mild or 0; nothing of it is coronary, or all."""
    ct = scan((WHOLE, 150))
    case = case_of(ct, (WHOLE, Artery.RCA, LesionNote(probability=p)))
    wrong = answer_of(case, Known())
    right = answer_of(case, Known((KnownIsland("RCA", voxels(ct, WHOLE)),)))
    assert dict(wrong.probability) == pytest.approx(
        {"absent": 1 - p, "minimal": 0, "mild": p, "moderate": 0, "high": 0}
    )
    assert wrong.credible_categories == right.credible_categories == credible
    assert (wrong.reference_categories, right.reference_categories) == (("absent",) * 2, ("mild",) * 2)
    assert right.probability_holds_reference
    assert wrong.probability_holds_reference is (p == 0.9)
    silent = answer_of(case_of(ct), Known())
    assert (silent.probability, silent.credible_categories) == ((), ())
    found, shares = estimates(wrong, right, silent)
    assert shares["range.credible"] == (1 + (p == 0.9), 2)
    assert found["range.credible"].value == (1 + (p == 0.9)) / 2
