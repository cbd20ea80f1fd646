"""Votes of islands worked out by hand, the rules' second opinion, and islands that run through several arteries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_islands import name_islands, sigmoid, squares
from schematic_chest import schematic_chest

from heartlens.anatomy import heart_region
from heartlens.calcium import extract_lesions, judge_by_rules
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import Calibration
from heartlens.networks.fusion import Fusion
from heartlens.networks.islands import LEAST_PART_MM3, name_along_islands, segment_vessels
from heartlens.scoring.report import score_lesions

PROTOCOL = ScoringProtocol()
CLASSES = ("none", "LM", "LAD", "LCX", "RCA", "OTHER")

LAD_MM = (50, -42, -14)
"""In the fat before the schematic heart, where the rules see the LAD."""


def by_place(lesions, k: int, j: int, i: int):
    """Artery and note of the lesion at a voxel; None where there is none."""
    lesion = int(lesions.labels[k, j, i])
    return (lesions.arteries[lesion], lesions.notes[lesion]) if lesion else None


@pytest.mark.parametrize(
    ("hu", "artery", "review"),
    [
        (620, Artery.LAD, False),  # log odds 2.2
        (500, Artery.LAD, True),  # 1, and ln 3 is 1.0986
        (400, Artery.LAD, True),  # 0: on the cut-off
        (300, Artery.OTHER, True),  # -1: not coronary, but in doubt
        (150, Artery.OTHER, False),  # -2.5
    ],
)
def test_the_vote_by_hand(bundle, networks, hu, artery, review):
    ct = squares((slice(1, 3), slice(10, 14), slice(20, 23), hu))
    lesions = name_islands(ct, bundle, networks)
    named, note = by_place(lesions, 1, 10, 20)
    assert named is artery
    assert note.probability == pytest.approx(sigmoid((hu - 400) / 100), abs=1e-5)
    assert (note.source, note.undecided) == ("network", review)
    assert ("review" in note.why) == review
    assert (lesions.labels > 0).sum() == 2 * 4 * 3


def test_voxels_of_an_island_vote_together(bundle, networks):
    """Nine voxels of 700 HU and one of 200: their mean probability, not that of their mean."""
    ct = squares((2, 10, slice(20, 29), 700), (2, 11, 20, 200))
    _, note = by_place(name_islands(ct, bundle, networks), 2, 11, 20)
    assert note.probability == pytest.approx((9 * sigmoid(3) + sigmoid(-2)) / 10, abs=1e-5)
    assert note.why == f"network votes: LAD {note.probability:.2f}, none {1 - note.probability:.2f}"


def test_calibration_moves_the_probability_and_not_the_decision(bundle, networks):
    """Log odds 1 and -2.5 become 2 * 1 - 0.5 = 1.5 and 2 * -2.5 - 0.5 = -5.5; the cut-off's 0 becomes -0.5."""
    ct = squares((1, slice(10, 14), slice(20, 24), 500), (3, slice(50, 54), slice(20, 24), 150))
    lesions = name_islands(ct, bundle, networks, calibration=Calibration(2.0, -0.5))
    artery, note = by_place(lesions, 1, 10, 20)
    assert artery is Artery.LAD
    assert note.probability == pytest.approx(sigmoid(1.5), abs=1e-5)
    assert not note.undecided, "2 from the cut-off, where uncalibrated it would be 1"
    assert by_place(lesions, 3, 50, 20) is None  # 0.0041: too little to keep in doubt


def test_what_is_too_small_to_count_is_not_kept_in_doubt(bundle, networks):
    """Pixels of 0.5 mm2 and a minimum of 1 mm2: one pixel is too small. The view is laid over all of the slice."""
    hu = np.zeros((3, 40, 40), np.int16)
    hu[1, 10, 10], hu[1, 20, 20:24] = 300, 300
    ct = CTVolume(hu, np.diag([0.7, 0.7, 3.0, 1.0]))
    lesions = segment_vessels(
        ct, heart_region(ct), lambda x: np.stack([x[:, 1] * 0, x[:, 1] * 0 - 1], axis=1),
        replace(bundle.vessel, cut_off=0.5, calibration=Calibration()), PROTOCOL,
    )  # fmt: skip
    assert by_place(lesions, 1, 10, 10) is None
    assert by_place(lesions, 1, 20, 20)[0] is Artery.OTHER


def test_an_island_is_named_whole_by_the_slices_that_were_chosen(bundle, networks):
    """500 HU on slice 1 and 700 HU on slice 2: named by slice 2 alone, with all its voxels."""
    ct = squares((1, slice(10, 14), slice(20, 24), 500), (2, slice(10, 14), slice(20, 24), 700),
                 (4, slice(60, 64), slice(20, 24), 700))  # fmt: skip
    only = np.array([False, False, True, False, False])
    lesions = name_islands(ct, bundle, networks, chosen_slices=only)
    _, note = by_place(lesions, 1, 10, 20)
    assert note.probability == pytest.approx(sigmoid(3), abs=1e-5)
    assert by_place(lesions, 2, 10, 20) == by_place(lesions, 1, 10, 20)
    assert by_place(lesions, 4, 60, 20) is None


def refusing(*log_odds: float):
    """A network that says the same of every pixel: logits of none, LAD and OTHER."""
    return lambda image: np.tile(np.array(log_odds, np.float32)[None, :, None, None], (len(image), 1, *image.shape[2:]))


def refuse(ct: CTVolume, bundle, log_odds, place=LAD_MM, *, rules=True, fusion=None):
    region = heart_region(ct)
    stage = replace(bundle.vessel, classes=("none", "LAD", "OTHER"), calibration=Calibration(), fusion=fusion)
    opinion = judge_by_rules(ct, region, PROTOCOL) if rules else None
    lesions = segment_vessels(ct, region, refusing(*log_odds), stage, PROTOCOL, rules=opinion)
    k, j, i = ct.index_kji(np.array([place]))[0].round().astype(int)
    return by_place(lesions, k, j, i), opinion


def test_what_the_rules_believe_in_is_not_refused_as_something_else_without_a_word(bundle):
    """OTHER 0.98, LAD 0.01: it stays OTHER, undecided, with the mean of both opinions for its probability."""
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    votes = (0.0, 0.0, math.log(98))
    (artery, note), opinion = refuse(ct, bundle, votes)
    believed = opinion.notes[int(np.flatnonzero(opinion.left)[0])].probability
    assert believed > 0.7
    assert artery is Artery.OTHER
    assert note.undecided
    assert note.probability == pytest.approx((0.01 + believed) / 2, abs=1e-3)
    assert "may be coronary: review" in note.why
    (artery, note), _ = refuse(ct, bundle, votes, rules=False)
    assert (artery, note.undecided) == (Artery.OTHER, False)


@pytest.mark.parametrize(
    ("none", "is_heard"), [(0.49, True), (0.51, False)], ids=["just likelier something", "just likelier nothing"]
)
def test_the_rules_are_not_heard_on_what_the_network_takes_for_nothing(bundle, none, is_heard):
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    found, _ = refuse(ct, bundle, (math.log(none), math.log(0.01), math.log(0.99 - none)))
    assert (found is not None and found[1].undecided) is is_heard


def test_a_coronary_island_keeps_its_name_and_probability_whatever_the_rules_say(bundle):
    (artery, note), _ = refuse(schematic_chest(add=[(*LAD_MM, 3, 500)]), bundle, (0.0, math.log(98), 0.0))
    assert artery is Artery.LAD
    assert note.probability == pytest.approx(0.98, abs=1e-3)
    assert not note.undecided


def test_the_rules_dispute_nothing_that_they_remove_by_its_place(bundle):
    """Calcium beside the spine: OTHER for both, and decided."""
    ct = schematic_chest(add=[(0, 60, -14, 3, 500), (*LAD_MM, 3, 500)])
    region = heart_region(ct)
    opinion = judge_by_rules(ct, region, PROTOCOL)
    away = np.linalg.norm(opinion.pieces.center_mm - np.array((0, 60, -14)), axis=1)
    assert np.isnan(opinion.disputes[away.argmin()])
    near = np.linalg.norm(opinion.pieces.center_mm - np.array(LAD_MM), axis=1)
    assert opinion.disputes[near.argmin()] > 0.7


def rod(slices: int, px: int = 4) -> CTVolume:
    """Plaque that runs straight up through the slices, 4 x 4 pixels of 1 mm; slices of 3 mm, so 48 mm3 in each."""
    hu = np.zeros((slices, 20, 20), np.int16)
    hu[:, 8 : 8 + px, 8 : 8 + px] = 400
    return CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]))


def named_along(ct: CTVolume, shares: list[dict[str, float]], whole: Artery) -> tuple[list[str], float]:
    """Artery of each slice, and the total, when the votes in a slice are these and the island had one name."""
    flat = np.flatnonzero(ct.hu)
    k = flat // (ct.shape[1] * ct.shape[2])
    votes = np.zeros((flat.size, len(CLASSES)), np.float32)
    for n, share in enumerate(shares):
        for name, p in share.items():
            votes[k == n, CLASSES.index(name)] = p
    artery = np.full(flat.size, int(whole), np.uint8)
    codes = name_along_islands(ct, flat, k, artery, votes, CLASSES)
    total = score_lesions(ct, extract_lesions(ct, flat, codes, PROTOCOL), PROTOCOL).total.agatston
    return [Artery(int(codes[k == n][0])).name for n in range(ct.shape[0])], total


def test_a_long_island_is_shared_out_where_its_votes_are_clear_and_the_total_stays():
    """Six slices: LM in two, LAD in three, and one whose votes are split and keeps the island's name."""
    lm, lad, split = {"LM": 0.8, "LAD": 0.2}, {"LAD": 0.9, "LM": 0.1}, {"LM": 0.55, "LAD": 0.45}
    ct = rod(6)
    arteries, total = named_along(ct, [lm, lm, split, lad, lad, lad], Artery.LAD)
    assert arteries == ["LM", "LM", "LAD", "LAD", "LAD", "LAD"]
    assert total == named_along(ct, [lad] * 6, Artery.LAD)[1] == 6 * 16 * 4


def test_a_part_that_is_too_small_keeps_the_name_of_its_island():
    """4 x 4 pixels in one slice are 48 mm3 and enough; 2 x 2 are 12 mm3 and not."""
    lm, lad = {"LM": 1.0}, {"LAD": 1.0}
    assert 12 < LEAST_PART_MM3 < 48
    assert named_along(rod(4), [lm, lad, lad, lad], Artery.LAD)[0] == ["LM", "LAD", "LAD", "LAD"]
    assert named_along(rod(4, px=2), [lm, lad, lad, lad], Artery.LAD)[0] == ["LAD"] * 4
    assert named_along(rod(4, px=2), [lm, lm, lad, lad], Artery.LAD)[0] == ["LM", "LM", "LAD", "LAD"]


def test_what_is_not_coronary_is_not_shared_out():
    ct = rod(3)
    arteries, total = named_along(ct, [{"LM": 0.3, "OTHER": 0.7}] * 3, Artery.OTHER)
    assert arteries == ["OTHER"] * 3
    assert total == 0


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=5, max_size=5), st.integers(1, 4))
def test_whatever_the_votes_the_total_stays_and_every_part_hangs_together(votes, whole):
    ct = rod(5)
    shares = [dict(zip(CLASSES[1:5], vote, strict=True)) for vote in votes]
    arteries, total = named_along(ct, shares, Artery(whole))
    assert total == 5 * 16 * 4
    flat = np.flatnonzero(ct.hu)
    codes = np.repeat([int(Artery[name]) for name in arteries], 16)
    part = label_components(flat, ct.shape, connectivity=26, group=codes)
    changed = codes != whole
    assert (np.bincount(part)[part[changed]] * ct.voxel_volume_mm3 >= LEAST_PART_MM3).all()


RULES_ALONE_IN_DOUBT = Fusion(
    intercept=0.0, network=1e-9, rules=1.0, nothing=0.0, cut_off=0.6, undecided_from=0.2, undecided_to=0.99
)


def test_a_fusion_calls_what_the_network_alone_refuses(bundle):
    """With next to no weight for the network the probability is the rules', and 0.7 and more is called, in doubt."""
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    votes = (0.0, 0.0, math.log(98))
    (artery, note), opinion = refuse(ct, bundle, votes, fusion=RULES_ALONE_IN_DOUBT)
    believed = opinion.notes[int(np.flatnonzero(opinion.left)[0])].probability
    assert artery is Artery.LAD
    assert note.probability == pytest.approx(believed, abs=1e-6)
    assert note.undecided
    assert "do not agree for certain" in note.why
    strict = replace(RULES_ALONE_IN_DOUBT, cut_off=believed + 1e-3)
    assert refuse(ct, bundle, votes, fusion=strict)[0][0] is Artery.OTHER


@pytest.mark.parametrize(("other", "is_torn"), [(0.32, True), (0.30, False)], ids=["a third", "less"])
def test_what_the_network_takes_for_something_else_as_well_is_left_to_a_reader(bundle, other, is_torn):
    """The rules are sure; the network gives arteries 0.62, of which the half is 0.31."""
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    sure = replace(RULES_ALONE_IN_DOUBT, undecided_to=0.7)
    votes = (math.log(1 - 0.62 - other), math.log(0.62), math.log(other))
    (artery, note), _ = refuse(ct, bundle, votes, fusion=sure)
    assert (artery, note.undecided) == (Artery.LAD, is_torn)


@pytest.mark.parametrize(("radius_mm", "is_left"), [(5, True), (2, False)], ids=["large", "small"])
def test_large_plaque_that_the_rules_believe_in_is_never_refused_without_a_word(bundle, radius_mm, is_left):
    """A fusion that hears next to nothing of the rules refuses both; the large one has 79 mm2 in a slice, not 13."""
    deaf = Fusion(0.0, 1.0, 1e-9, 0.0, 0.5, 0.4, 0.6)
    ct = schematic_chest(add=[(*LAD_MM, radius_mm, 500)])
    (artery, note), opinion = refuse(ct, bundle, (0.0, 0.0, math.log(98)), fusion=deaf)
    assert np.isfinite(opinion.disputes[opinion.left]).all()
    assert (artery, note.undecided) == (Artery.OTHER, is_left)


def test_a_fusion_is_not_asked_where_the_rules_were_not(bundle):
    """LAD 0.01 by the network alone, whose cut-off stands: refused, and no doubt."""
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    (artery, note), _ = refuse(ct, bundle, (0.0, 0.0, math.log(98)), rules=False, fusion=RULES_ALONE_IN_DOUBT)
    assert (artery, note.undecided) == (Artery.OTHER, False)


def test_votes_for_nothing_speak_against_an_island_in_a_fusion():
    fusion = Fusion(0.0, 1.0, 1.0, -1.0, 0.5, 0.2, 0.8)
    quiet = np.array([np.nan, 0.0])
    something, nothing = fusion([0.5, 0.5], [0.1, 0.1], quiet), fusion([0.5, 0.5], [0.9, 0.9], quiet)
    # log odds 0 + 0 + ln 9, and 0 + ln(0.02 / 0.98) + ln 9: a rule that removed it is heard as 0.02
    assert something == pytest.approx([0.9, 1 / (1 + math.exp(-math.log(9) - math.log(0.02 / 0.98)))])
    assert nothing[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "change",
    [{"network": 0.0}, {"rules": -0.1}, {"undecided_from": 0.7}, {"undecided_to": 0.5}, {"intercept": float("nan")},
     {"cut_off": "0.5"}, {"nothing": True}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_fusion_that_makes_no_sense_does_not_exist(change):
    with pytest.raises(ValueError, match="fusion"):
        replace(RULES_ALONE_IN_DOUBT, **change)
