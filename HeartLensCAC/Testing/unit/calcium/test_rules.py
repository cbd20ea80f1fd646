"""The rules: what each removes, what none removes, and what real scans score."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from schematic_chest import ROOT_MM, ROOT_RADIUS_MM, cropped, schematic_chest

from heartlens.anatomy import COURSES_MM, heart_region
from heartlens.calcium import RULES, candidate_mask, exclusion, find_lesions, find_pieces, judge_by_rules
from heartlens.calcium.arteries_by_rules import name_pieces_by_rules, with_neighbors
from heartlens.calcium.rings import find_rings
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.pipeline import Request, read_ct
from heartlens.scoring.report import score_lesions

pytestmark = pytest.mark.slow

PROTOCOL = ScoringProtocol()
LAD, LCX, RCA = (50, -42, -14), (42, 30, -14), (-18, -35, -12)
"""Places in the fat around the schematic heart, on the course of each artery."""


def ball(place, hu=500, radius=3.0):
    return (*place, radius, hu)


def pieces_of(ct):
    region = heart_region(ct)
    return find_pieces(ct, region, candidate_mask(ct, PROTOCOL, region.box(ct, margin_mm=8)), PROTOCOL)


def piece_at(pieces, place):
    return int(np.linalg.norm(pieces.center_mm - np.array(place), axis=1).argmin())


def removes(rule, place, *others, **chest):
    """Whether a rule removes the calcium at a place, and leaves plaque in the LAD alone."""
    ct = schematic_chest(add=[*others, ball(place) if len(place) == 3 else place, ball(LAD)], **chest)
    pieces = pieces_of(ct)
    removed = rule(pieces)
    assert not removed[piece_at(pieces, LAD)], f"{rule.__name__} removes plaque in the LAD"
    return bool(removed[piece_at(pieces, place[:3])])


def score(ct):
    lesions, ledger = find_lesions(ct, heart_region(ct), PROTOCOL)
    return score_lesions(ct, lesions, PROTOCOL), ledger


@pytest.fixture(scope="module")
def three_plaques():
    ct = schematic_chest(noise_hu=12, add=[ball(LAD), ball(LCX), ball(RCA)])
    return ct, *find_lesions(ct, heart_region(ct), PROTOCOL)


def test_plaques_are_named_by_where_they_lie(three_plaques):
    ct, lesions, _ = three_plaques
    report = score_lesions(ct, lesions, PROTOCOL)
    places = {lesion.artery: lesion.centroid_lps_mm for lesion in report.lesions if lesion.agatston > 5}
    assert set(places) == {Artery.LAD, Artery.LCX, Artery.RCA}
    for artery, place in ((Artery.LAD, LAD), (Artery.LCX, LCX), (Artery.RCA, RCA)):
        assert places[artery] == pytest.approx(place, abs=2.5)


def test_each_lesion_says_why_it_was_kept(three_plaques):
    _, lesions, _ = three_plaques
    note = lesions.notes[next(i for i, artery in lesions.arteries.items() if artery == Artery.LAD)]
    assert note.source == "rules"
    assert note.probability > 0.9
    assert note.why.startswith("near the course of the LAD, 6")
    assert "mm from the aortic root" in note.why


def test_the_ledger_and_the_lesions_share_out_every_candidate_once(three_plaques):
    ct, lesions, ledger = three_plaques
    pieces = pieces_of(ct)
    everywhere = np.concatenate([lesions.voxels.flat, *(entry.flat for entry in ledger)])
    assert np.array_equal(np.sort(everywhere), pieces.flat)
    kept = score_lesions(ct, lesions, PROTOCOL).total.agatston
    assert kept + sum(entry.agatston for entry in ledger) == pytest.approx(pieces.agatston.sum())
    assert [entry.rule for entry in ledger] == [*(rule.__name__ for rule in RULES), "unlikely"]
    assert all(entry.because for entry in ledger)


def test_bone_around_the_heart_scores_nothing():
    report, ledger = score(schematic_chest(noise_hu=12))
    assert report.total.agatston == 0
    assert sum(entry.agatston for entry in ledger) > 1000


def test_a_rib_of_the_size_of_a_rib_is_not_coronary():
    rib = [ball((x, -60, -40), 400, 9.0) for x in range(0, 60, 6)]
    assert removes(exclusion.bone, (30, -60, -40, 9.0, 400), *rib)


def test_the_wall_of_the_ascending_aorta_is_not_coronary():
    assert removes(exclusion.ascending_aorta, (ROOT_MM[0] + ROOT_RADIUS_MM - 1, 0, 12, 2.5, 500))


def test_the_left_main_beside_the_root_is_kept():
    assert not removes(exclusion.ascending_aorta, (ROOT_MM[0] + ROOT_RADIUS_MM + 6, 4, 6, 2.5, 500))


def test_the_wall_of_the_descending_aorta_is_not_coronary():
    assert removes(exclusion.descending_aorta, (19, 48, -30, 2.5, 500))
    assert removes(exclusion.behind_the_heart, (19, 48, -30, 2.5, 500))


def test_nothing_more_than_25_mm_above_the_root_is_coronary():
    assert removes(exclusion.above_the_arteries, (22, -20, 40, 3.0, 500), windpipe=False)
    assert not removes(exclusion.above_the_arteries, (26, -20, 10, 3.0, 500), windpipe=False)


def test_a_valve_deep_in_the_heart_is_not_coronary():
    assert removes(exclusion.deep_in_the_heart, (25, -8, -44))


def test_the_mitral_ring_is_not_the_circumflex():
    arc = [
        ball((ROOT_MM[0] + x, y, z), 400, 3.0) for x, y, z in ((4, 18, -33), (8, 19, -33), (12, 21, -32), (16, 23, -31))
    ]
    assert removes(exclusion.mitral_ring, (14, 20, -33, 3.0, 400), *arc)
    assert not removes(exclusion.mitral_ring, LCX)


def test_a_node_bare_against_lung_is_not_coronary():
    tissue = (-38, 0, -40, 9.0, 40)
    assert removes(exclusion.lung_border, (-42, 0, -40, 3.0, 300), tissue)


def test_a_ring_of_the_airway_is_not_coronary():
    assert removes(exclusion.airway_wall, (14, 36, -60, 2.5, 400), (22, 36, -60, 6.0, -1000), (6, 36, -60, 6.0, -1000))


def test_a_wide_faint_band_at_the_apex_is_motion():
    assert removes(exclusion.motion_streak, (78, -8, -44, 7.0, 170))
    assert not removes(exclusion.motion_streak, (78, -8, -44, 7.0, 600))


def test_a_faint_speck_in_wide_muscle_is_noise():
    assert removes(exclusion.noise, (45, -8, -44, 1.6, 135), noise_hu=25)


def test_plaque_near_metal_is_not_trusted_and_plaque_far_away_is():
    wire = ball((25, -8, -44), 3000, 4.0)
    assert removes(exclusion.metal, (43, -8, -44, 3.0, 500), wire)
    assert not removes(exclusion.metal, (43, -8, -62, 3.0, 500), wire)


def a_vessel(arcs, inside=40):
    """One slice of 0.7 mm pixels: blood to 15 mm from the middle, fat around, calcium on arcs (from, to) in degrees."""
    j, i = np.indices((128, 128))
    y, x = (j - 63.5) * 0.7, (i - 63.5) * 0.7
    radius, angle = np.hypot(x, y), np.rad2deg(np.arctan2(y, x)) % 360
    hu = np.where(radius < 15, inside, -100)
    for start, stop in arcs:
        hu[(np.abs(radius - 15) < 1.2) & (angle > start) & (angle < stop)] = 400
    ct = CTVolume(hu[None].astype(np.int16), np.diag([0.7, 0.7, 3.0, 1.0]))
    return ct, np.argwhere(ct.hu >= 130)


def test_arcs_on_one_circle_around_blood_are_a_vessel_wall():
    ct, calcium = a_vessel([(0, 60), (100, 150), (220, 250)])
    (ring,) = find_rings(ct, calcium)
    assert (ring.x_mm, ring.y_mm) == pytest.approx((63.5 * 0.7, 63.5 * 0.7), abs=2)
    assert ring.radius_mm == pytest.approx(15, abs=1.5)


def test_an_artery_that_follows_a_vessel_for_60_degrees_is_no_ring():
    assert find_rings(*a_vessel([(0, 60)])) == []


def test_arcs_around_fat_are_no_ring():
    assert find_rings(*a_vessel([(0, 60), (100, 150), (220, 250)], inside=-90)) == []


def test_neighbors_settle_a_doubtful_name_and_small_pieces_have_no_say():
    share = np.array([[0.0, 0.9, 0.1, 0.0], [0.0, 0.45, 0.55, 0.0]])
    near, far = np.array([[0.0, 0, 0], [5.0, 0, 0]]), np.array([[0.0, 0, 0], [60.0, 0, 0]])
    size = np.array([30.0, 10.0])
    assert with_neighbors(share, near, size).argmax(axis=1).tolist() == [1, 1]
    assert with_neighbors(share, far, size).argmax(axis=1).tolist() == [1, 2]
    assert with_neighbors(share, near, np.array([0.0, 10.0])).argmax(axis=1).tolist() == [1, 2]
    assert with_neighbors(share, near, size).sum(axis=1) == pytest.approx([1, 1])


def test_a_scan_without_candidates_gives_no_lesions():
    ct = schematic_chest()
    soft = CTVolume(np.minimum(ct.hu, 100), ct.affine, ct.header)
    lesions, ledger = find_lesions(soft, heart_region(soft), PROTOCOL)
    assert lesions.labels.max() == 0
    assert all(entry.pieces == 0 for entry in ledger)


def test_without_a_heart_nothing_is_found():
    hu = np.full((6, 64, 64), -1000, np.int16)
    hu[:, 10:54, 10:54] = 300
    ct = CTVolume(hu, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert score(ct)[0].total.agatston == 0


def test_a_cropped_field_of_view_scores_the_same():
    ct = schematic_chest(noise_hu=12, add=[ball(LAD), ball(RCA)])
    whole, small = (score(part)[0] for part in (ct, cropped(ct, slice(24, 104), slice(32, 105))))
    assert small.arteries[Artery.LAD].agatston == pytest.approx(whole.arteries[Artery.LAD].agatston)
    assert small.arteries[Artery.RCA].agatston == pytest.approx(whole.arteries[Artery.RCA].agatston)
    assert whole.total.agatston > 50


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 4), (40, 3, 3), (3, 512, 8), (7, 90, 80)])
@pytest.mark.parametrize("fill", ["noise", "bone", "lung and muscle"])
def test_no_volume_is_too_odd_to_be_looked_at(shape, fill):
    rng = np.random.default_rng(0)
    hu = {
        "noise": rng.integers(-1024, 3000, shape),
        "bone": np.full(shape, 3000),
        "lung and muscle": np.where(rng.random(shape) < 0.5, -800, 60),
    }[fill]
    ct = CTVolume(hu.astype(np.int16), np.diag([0.8, 0.8, 3.0, 1.0]))
    lesions, ledger = find_lesions(ct, heart_region(ct), PROTOCOL)
    assert lesions.shape == shape
    assert len(ledger) == len(RULES) + 1


def test_a_piece_far_from_every_course_is_not_assigned():
    ct = schematic_chest(add=[ball(LAD)])
    pieces = pieces_of(ct)
    pieces.region.__dict__["root_mm"] = (5000.0, 0.0, 0.0)
    codes, notes = name_pieces_by_rules(pieces, np.ones(pieces.count, bool))
    index = piece_at(pieces, LAD)
    assert codes[index] == Artery.UNASSIGNED
    assert notes[index].probability < 0.5


def test_every_course_lies_within_reach_of_the_heart():
    assert all(np.linalg.norm(COURSES_MM[artery], axis=1).max() < 100 for artery in CORONARY)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_phantom_without_traps_scores_within_a_tenth_of_the_truth(seed):
    parameters = PhantomParameters.random(
        seed, field_of_view="heart", matrix=256, category="101-400", traps=(), kernel="standard", motion_mm=0.0
    )
    phantom = make_phantom(parameters)
    report, _ = score(phantom.ct)
    truth = {a: phantom.truth["arteries"][a.name]["agatston"] for a in CORONARY}
    assert report.total.agatston == pytest.approx(sum(truth.values()), rel=0.1)
    largest = max(truth, key=lambda a: truth[a])
    assert report.arteries[largest].agatston > 0.5 * truth[largest]


def test_traps_alone_score_near_nothing():
    traps = (
        "aortic_wall_arch",
        "aortic_wall_descending",
        "aortic_valve",
        "hilar_node",
        "airway_ring",
        "costal_cartilage",
    )
    parameters = PhantomParameters.random(11, field_of_view="heart", matrix=256, category="0", traps=traps)
    report, ledger = score(make_phantom(parameters).ct)
    assert report.total.agatston < 10
    assert sum(entry.agatston for entry in ledger if entry.rule != "outside_the_heart") > 0


def repeated(path, times):
    ct, _, _ = read_ct(path, Request(allow=frozenset({"few-slices"})))
    header = replace(ct.header, sop_instance_uids=())
    return CTVolume(np.repeat(ct.hu, times, axis=0), ct.affine, header)


@pytest.fixture(scope="module")
def slices(shared_data):
    return shared_data / "covid19_nysbu_slices"


@pytest.mark.parametrize("times", [1, 3, 5])
def test_real_calcium_of_the_lad_is_found_whole_and_the_aortic_root_is_not(slices, times):
    report, _ = score(repeated(slices / "cac_lad_aortic_root_GE_2p5mm.dcm", times))
    assert report.arteries[Artery.LAD].agatston == pytest.approx(times * 89.7394, abs=times * 1e-3)
    assert report.total.agatston == report.arteries[Artery.LAD].agatston


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("name", ["aorta_plaque_GE_5mm", "clean_heart_TOSHIBA_5mm", "metal_hilum_GE_5mm"])
def test_real_slices_without_coronary_calcium_score_0(slices, name, times):
    report, _ = score(repeated(slices / f"{name}.dcm", times))
    assert report.total.agatston == 0


@pytest.fixture(scope="module")
def real_chest(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chest")
    with zipfile.ZipFile(shared_data / "lung_pet_ct_dx_a0001" / "series.zip") as archive:
        archive.extractall(folder)
    return read_ct(folder, Request())[0]


def test_a_real_chest_without_coronary_calcium_scores_0_and_says_what_it_left_out(real_chest):
    report, ledger = score(real_chest)
    assert report.total.agatston == 0
    by_rule = {entry.rule: entry for entry in ledger}
    assert by_rule["motion_streak"].agatston == pytest.approx(219.67, abs=0.01)


def test_the_aorta_of_a_real_chest_is_followed(real_chest):
    region = heart_region(real_chest)
    assert region.blood_hu == pytest.approx(37, abs=6)
    assert region.field == "chest"
    assert (region.cut_top, region.cut_bottom) == (False, False)
    k, j, i = real_chest.index_kji(region.root_mm)
    assert (k, j, i) == pytest.approx((30, 244, 262), abs=5)


def test_a_large_piece_that_shape_alone_removes_is_disputed_with_one_half():
    """A faint disc of 8 mm radius at the RCA is taken for a streak; 201 mm2 are not left out without a word."""
    ct = schematic_chest(add=[ball(RCA, 170, 8.0), ball(LAD)])
    opinion = judge_by_rules(ct, heart_region(ct), PROTOCOL)
    streak = piece_at(opinion.pieces, RCA)
    assert exclusion.motion_streak(opinion.pieces)[streak]
    assert opinion.pieces.largest_area_mm2[streak] == pytest.approx(np.pi * 64, rel=0.1)
    by_rule = {removed.rule: removed for removed in opinion.ledger}
    assert np.isin(opinion.pieces.flat[opinion.pieces.piece == streak], by_rule["motion_streak"].flat).all()
    assert opinion.disputes[streak] == 0.5


def test_half_of_a_group_must_be_disputed(three_plaques):
    """Voxels of the LAD and as many that the rules never judged: no word. One voxel fewer of those: a word."""
    ct, *_ = three_plaques
    opinion = judge_by_rules(ct, heart_region(ct), PROTOCOL)
    pieces = opinion.pieces
    lad = pieces.flat[pieces.piece == piece_at(pieces, LAD)]
    others = np.setdiff1d(np.arange(lad.size * 3), pieces.flat)[: lad.size]
    for strange, has_word in ((others, False), (others[1:], True)):
        flat = np.sort(np.concatenate([lad, strange]))
        (p,) = opinion.mean_of_groups(opinion.disputes, flat, np.zeros(flat.size, int), 1)
        assert bool(np.isfinite(p)) is has_word
    assert p == pytest.approx(opinion.notes[piece_at(pieces, LAD)].probability)
