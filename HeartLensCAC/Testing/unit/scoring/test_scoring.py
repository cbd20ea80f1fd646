"""The scores: worked examples by hand, published oracles, and a second implementation that must agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from plain_scoring import plain_score
from tiny_ct import make_ct
from worked_examples import COLUMNS, DEFAULT, EIGHT, EXAMPLES, NO_K, all_280, block, t3, t5

from heartlens import calcium
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery, LesionMap
from heartlens.core.protocol import EDGES_BY_KVP_HU, PROFILES, ScoringProtocol
from heartlens.scoring.counted import scored_voxels
from heartlens.scoring.mass import calibration_factor
from heartlens.scoring.report import ScoreReport, score_lesions


def extract_lesions(ct, codes, protocol):
    """Lesions of a full label array."""
    flat = np.flatnonzero(codes)
    return calcium.extract_lesions(ct, flat, codes.reshape(-1)[flat], protocol)


def score_image(a_ct, image, protocol, *, dz=3.0, thickness=3.0, codes=None, spacing=0.5, **header):
    volume = np.atleast_3d(image) if image.ndim == 3 else image[None]
    ct = a_ct(volume, spacing_mm=(dz, spacing, spacing), slice_thickness_mm=thickness, **header)
    codes = np.full(ct.shape, Artery.LAD, np.uint8) if codes is None else codes
    return score_lesions(ct, extract_lesions(ct, codes, protocol), protocol)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_example_scores_as_by_hand(a_ct, name, column):
    image, dz, thickness, expected = EXAMPLES[name]
    report = score_image(a_ct, image, COLUMNS[column], dz=dz, thickness=thickness)
    assert report.total.agatston == pytest.approx(expected[column], abs=1e-9)


@pytest.mark.parametrize(
    ("hu", "kvp", "expected"), [(140, 120, 3), (140, 100, 0), (330, 120, 9), (330, 100, 6), (330, 80, 6), (330, 70, 6)]
)
def test_tube_voltage_sets_score_as_by_hand(a_ct, hu, kvp, expected):
    report = score_image(a_ct, block(3, 4, hu), DEFAULT.adapted_to(kvp))
    assert report.total.agatston == pytest.approx(expected)


def test_two_arteries_share_the_total(a_ct):
    codes = np.zeros((1, 12, 24), np.uint8)
    codes[:, :, :12], codes[:, :, 12:] = Artery.LAD, Artery.RCA
    report = score_image(a_ct, np.hstack([t3(), t3()]), DEFAULT, codes=codes)
    scores = {artery.name: report.arteries[artery].agatston for artery in CORONARY}
    assert scores == {"LM": 0, "LAD": 6, "LCX": 0, "RCA": 6}
    assert (report.total.agatston, report.total.lesions, report.calcified_vessels) == (12, 2, 2)


def test_an_empty_scan_scores_zero_without_dividing_by_it(a_ct):
    report = score_image(a_ct, np.zeros((3, 4, 4)), DEFAULT)
    assert report.total.agatston == report.total.volume_mm3 == report.total.lesions == 0
    assert report.total.density is report.diffusivity is report.left_main_share is None
    assert report.lesions == ()
    assert [s.agatston for s in report.slices] == [0, 0, 0]


def test_other_is_listed_but_not_summed_and_unassigned_is_summed(a_ct):
    codes = np.zeros((1, 12, 24), np.uint8)
    codes[:, :, :12], codes[:, :, 12:] = Artery.OTHER, Artery.UNASSIGNED
    report = score_image(a_ct, np.hstack([t3(), t3()]), DEFAULT, codes=codes)
    assert report.total.agatston == report.arteries[Artery.UNASSIGNED].agatston == 6
    assert report.arteries[Artery.OTHER].agatston == 6
    assert [lesion.artery for lesion in report.lesions] == [Artery.UNASSIGNED, Artery.OTHER]
    assert report.calcified_vessels == 0


def test_volume_mass_and_density_of_two_slices(a_ct):
    protocol = ScoringProtocol(mass_factor_mg_per_mm3_hu=0.0008)
    total = score_image(a_ct, t5(), protocol).total
    assert total.volume_mm3 == pytest.approx(16 * 0.75)
    assert total.density == pytest.approx(2.5)
    assert total.mass_mg == pytest.approx(0.0008 * 0.75 * (7 * 200 + 450 + 8 * 180))


def test_no_calibration_gives_no_mass(a_ct):
    report = score_image(a_ct, t5(), DEFAULT)
    assert report.total.mass_mg is None
    assert report.lesions[0].mass_mg is None
    assert report.mass_factor_source is None


@pytest.mark.parametrize(
    ("header", "factor"),
    [
        ({"mass_factor_patient": 0.75, "mass_factors_device": (0.7, 0.8, 0.9)}, 0.00075),
        ({"mass_factors_device": (0.7, 0.7, 0.7)}, 0.0007),
        ({"mass_factors_device": (0.7, 0.8, 0.9)}, None),
        ({"mass_factor_patient": 0.00075}, None),  # another unit than scanners write: not guessed at
        ({"mass_factor_patient": 750.0}, None),
        ({"mass_factor_patient": 2.5}, None),
    ],
)
def test_mass_factor_comes_from_the_header_only_when_it_is_certain(a_ct, header, factor):
    assert score_image(a_ct, t5(), DEFAULT, **header).mass_factor_mg_per_mm3_hu == (factor and pytest.approx(factor))


def test_the_users_mass_factor_wins_over_the_header(a_ct):
    report = score_image(a_ct, t5(), ScoringProtocol(mass_factor_mg_per_mm3_hu=0.0008), mass_factor_patient=0.75)
    assert report.mass_factor_mg_per_mm3_hu == 0.0008


def test_left_main_share_and_diffusivity(a_ct):
    image = np.hstack([block(3, 4, 150), block(3, 4, 150), block(3, 4, 300)])
    codes = np.repeat(np.array([Artery.LM, Artery.RCA, Artery.LAD], np.uint8), 12)[None, None].repeat(12, axis=1)
    report = score_image(a_ct, image, DEFAULT, codes=codes)
    assert report.total.agatston == 15
    assert report.left_main_share == pytest.approx(3 / 15)
    assert report.diffusivity == pytest.approx(1 - 9 / 15)


def test_pieces_below_the_minimum_are_counted_and_not_scored(a_ct):
    image = block(3, 4, 200)
    image[9, 9:11] = 500
    report = score_image(a_ct, image, DEFAULT)
    assert report.total.agatston == 6
    assert (report.dropped_small_count, report.dropped_small_area_mm2) == (1, 0.5)


def test_a_lesion_row_tells_where_and_how_bright(a_ct):
    (lesion,) = score_image(a_ct, t5(), DEFAULT).lesions
    assert (lesion.peak_hu, lesion.mean_hu) == (450, (7 * 200 + 450 + 8 * 180) / 16)
    assert lesion.slices == (0, 1)
    assert lesion.area_mm2 == 2.0
    assert lesion.centroid_lps_mm == pytest.approx((3.5 * 0.5, 2.5 * 0.5, 0.5 * 3))


def test_anisotropic_pixels_count_with_their_true_area(a_ct):
    ct = a_ct(block(2, 2, 130)[None], spacing_mm=(3, 0.5, 0.6))
    codes = np.full(ct.shape, Artery.LAD, np.uint8)
    assert score_lesions(ct, extract_lesions(ct, codes, DEFAULT), DEFAULT).total.agatston == pytest.approx(1.2)


def test_normalisation_by_thickness_uses_the_header(a_ct):
    protocol = ScoringProtocol(normalisation="thickness")
    assert score_image(a_ct, all_280(), protocol, dz=1.5, thickness=3.0).total.agatston == pytest.approx(12)
    with pytest.raises(ValueError, match="--thickness-mm"):
        score_image(a_ct, all_280(), protocol, dz=1.5, thickness=None)


def test_philips_volume_reaches_below_the_agatston_threshold(a_ct):
    image = block(3, 4, 120)
    image[3, 3] = 150
    report = score_image(a_ct, image, PROFILES["philips"])
    assert report.total.agatston == 0  # one pixel of 0.25 mm2 is below 0.5 mm2
    assert report.total.volume_mm3 == pytest.approx(12 * 0.75)
    assert score_image(a_ct, block(3, 4, 112.5), PROFILES["philips"]).total.volume_mm3 == 0  # strictly above
    assert score_image(a_ct, block(3, 4, 112.6), PROFILES["philips"]).total.volume_mm3 == pytest.approx(9)


def test_isotropic_volume_of_a_block_is_interpolated_along_z(a_ct):
    # 4 x 4 pixels of 1 mm at 230 HU on slices 2 and 3 of 6, zero elsewhere, 3 mm apart. Between a bright and a dark
    # slice 130 HU is reached up to 100/230 of the way (1.304 mm), so cubes at z = 5..10 mm count: 6 layers of 16.
    hu = np.zeros((6, 8, 8))
    hu[2:4, 2:6, 2:6] = 230
    ct = a_ct(hu, spacing_mm=(3, 1, 1))
    protocol = ScoringProtocol(isotropic_volume=True)
    lesions = extract_lesions(ct, np.full(ct.shape, Artery.LAD, np.uint8), protocol)
    report = score_lesions(ct, lesions, protocol)
    assert report.total.volume_isotropic_mm3 == 6 * 16
    assert report.total.volume_mm3 == 2 * 16 * 3
    assert report.arteries[Artery.LAD].volume_isotropic_mm3 == 96


def test_isotropic_volume_drops_small_islands_of_cubes(a_ct):
    # A pyramid: 3 x 3 pixels at 400 HU below one at 140 HU that is too small by itself (0.25 mm2).
    hu = np.zeros((3, 7, 7))
    hu[1, 2:5, 2:5] = 400
    ct = a_ct(hu, spacing_mm=(1.0, 0.5, 0.5))
    protocol = ScoringProtocol(isotropic_volume=True)
    report = score_lesions(ct, extract_lesions(ct, np.full(ct.shape, Artery.LAD, np.uint8), protocol), protocol)
    # Planes at z = 0, 0.5, 1, 1.5, 2 mm: 0, 200, 400, 200, 0 HU: three of them count, 9 cubes each.
    assert report.total.volume_isotropic_mm3 == pytest.approx(27 * 0.5**3)


def test_isotropic_cubes_of_exactly_the_threshold_count_up_to_the_last_slice(a_ct):
    hu = np.zeros((3, 6, 6))
    hu[2, 1:5, 1:5] = 130
    report = isotropic(a_ct, hu, np.full(hu.shape, Artery.LAD, np.uint8), spacing_mm=(1, 1, 1))
    assert report.total.volume_isotropic_mm3 == 16
    hu[1:] = hu[2]
    report = isotropic(a_ct, hu, np.full(hu.shape, Artery.LAD, np.uint8), spacing_mm=(1.5, 1, 1))
    assert report.total.volume_isotropic_mm3 == 2 * 16  # cubes at 2 and 3 mm, and the scan ends at 3 mm


@pytest.mark.parametrize(("increment", "lower", "upper"), [(3.0, 2, 2), (2.0, 2, 1)])
def test_isotropic_cubes_go_to_the_nearer_slice_and_a_tie_to_the_lower(a_ct, increment, lower, upper):
    hu = np.full((2, 4, 4), 200.0)
    codes = np.zeros(hu.shape, np.uint8)
    codes[0], codes[1] = Artery.LAD, Artery.RCA
    report = isotropic(a_ct, hu, codes, spacing_mm=(increment, 1, 1))
    assert report.arteries[Artery.LAD].volume_isotropic_mm3 == lower * 16
    assert report.arteries[Artery.RCA].volume_isotropic_mm3 == upper * 16


def isotropic(a_ct, hu, codes, *, spacing_mm):
    ct = a_ct(hu, spacing_mm=spacing_mm)
    protocol = ScoringProtocol(isotropic_volume=True)
    return score_lesions(ct, extract_lesions(ct, codes, protocol), protocol)


def random_scan(data, *, edges):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)), label="shape")
    values = [0, edges[0] - 1, edges[0], edges[1] - 0.5, edges[1], edges[2], edges[3], 1200]
    hu = data.draw(hnp.arrays(np.float64, shape, elements=st.sampled_from(values)), label="hu")
    codes = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 6)), label="codes")
    return hu, codes


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_the_plain_implementation_agrees_on_random_volumes(data):
    kvp = data.draw(st.sampled_from(sorted(EDGES_BY_KVP_HU)))
    protocol = ScoringProtocol(
        edges_hu=EDGES_BY_KVP_HU[kvp],
        connectivity=data.draw(st.sampled_from([4, 8])),
        minimum_area_mm2=data.draw(st.sampled_from([0.0, 0.5, 1.0, 1.5])),
        minimum_pixels=data.draw(st.sampled_from([1, 3])),
        normalisation=data.draw(st.sampled_from(["increment", "thickness", "none"])),
        mass_factor_mg_per_mm3_hu=0.0007,
    )
    hu, codes = random_scan(data, edges=protocol.edges_hu)
    spacing = data.draw(st.tuples(st.sampled_from([0.7, 2.5, 3.0]), st.sampled_from([0.5, 0.6]), st.just(0.5)))
    ct = make_ct(hu, spacing_mm=spacing, slice_thickness_mm=3.0)
    report = score_lesions(ct, extract_lesions(ct, codes, protocol), protocol)
    k_factor = {"increment": spacing[0] / 3, "thickness": 1.0, "none": 1.0}[protocol.normalisation]
    plain, dropped, dropped_area, accepted = plain_score(
        hu.tolist(), codes.tolist(), pixel_area=spacing[1] * spacing[2], increment=spacing[0],
        edges=protocol.edges_hu, min_area=protocol.minimum_area_mm2, min_pixels=protocol.minimum_pixels,
        connectivity=protocol.connectivity, k_factor=k_factor, mass_factor=0.0007,
    )  # fmt: skip
    for artery in Artery:
        totals = report.arteries[artery]
        assert totals.agatston == pytest.approx(plain[artery]["agatston"])
        assert totals.volume_mm3 == pytest.approx(plain[artery]["volume"])
        assert totals.mass_mg == pytest.approx(plain[artery]["mass"])
        assert totals.lesions == plain[artery]["lesions"]
        area = len(accepted[artery]) * spacing[1] * spacing[2]
        density = plain[artery]["agatston"] / k_factor / area if area else None
        assert totals.density == (density and pytest.approx(density))
    assert report.dropped_small_count == dropped
    assert report.dropped_small_area_mm2 == pytest.approx(dropped_area)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_totals_arteries_lesions_and_slices_agree(data):
    hu, codes = random_scan(data, edges=DEFAULT.edges_hu)
    protocol = ScoringProtocol(mass_factor_mg_per_mm3_hu=0.0008)
    ct = make_ct(hu)
    lesions = extract_lesions(ct, codes, protocol)
    report = score_lesions(ct, lesions, protocol)
    scored = [lesion for lesion in report.lesions if lesion.artery in SCORED_ARTERIES]
    for measure in ("agatston", "volume_mm3", "mass_mg"):
        total = getattr(report.total, measure)
        assert total == pytest.approx(sum(getattr(report.arteries[a], measure) for a in SCORED_ARTERIES))
        assert total == pytest.approx(sum(getattr(lesion, measure) for lesion in scored))
    assert report.total.agatston == pytest.approx(sum(s.agatston for s in report.slices))
    assert report.total.lesions == len(scored)
    assert (report.total.agatston == 0) == (not scored)
    assert ScoreReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert np.count_nonzero(np.isin(scored_voxels(ct, lesions, protocol), SCORED_ARTERIES)) * ct.voxel_volume_mm3 == (
        pytest.approx(report.total.volume_mm3)
    )


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_every_lesion_row_describes_its_own_voxels(data):
    hu, codes = random_scan(data, edges=DEFAULT.edges_hu)
    protocol = ScoringProtocol(minimum_area_mm2=0.5)
    ct = make_ct(hu)
    lesions = extract_lesions(ct, codes, protocol)
    report = score_lesions(ct, lesions, protocol)
    counted = scored_voxels(ct, lesions, protocol) > 0
    for row in report.lesions:
        mine = (lesions.labels == row.id) & counted
        values, kji = hu[mine], np.argwhere(mine)
        assert (row.peak_hu, row.mean_hu) == (values.max(), pytest.approx(values.mean()))
        assert row.slices == (kji[:, 0].min(), kji[:, 0].max())
        assert row.area_mm2 == pytest.approx(mine.sum(axis=(1, 2)).max() * 0.25)
        assert row.volume_mm3 == pytest.approx(len(values) * 0.75)
        assert row.centroid_lps_mm == pytest.approx(tuple(kji.mean(axis=0)[::-1] * (0.5, 0.5, 3.0)))
    assert {row.id for row in report.lesions} == set(np.unique(lesions.labels[counted]))


def test_a_dropped_piece_of_a_painted_lesion_does_not_move_its_row(a_ct):
    hu = block(3, 4, 200)
    hu[9, 9] = 900
    labels = (hu > 0).astype(np.uint16)[None]
    report = score_lesions(a_ct(hu[None]), LesionMap(labels, {1: Artery.LAD}), DEFAULT)
    (row,) = report.lesions
    assert (row.peak_hu, row.mean_hu, row.area_mm2, row.agatston) == (200, 200, 3.0, 6.0)
    assert np.count_nonzero(scored_voxels(a_ct(hu[None]), LesionMap(labels, {1: Artery.LAD}), DEFAULT)) == 12


def test_a_lesion_seen_by_the_volume_threshold_alone_has_a_row_of_its_own(a_ct):
    hu = np.hstack([block(3, 4, 120), block(3, 4, 300)])
    hu[3, 3] = 150  # one pixel of 0.25 mm2 reaches 130 HU: below the 0.5 mm2 of the profile
    philips = PROFILES["philips"]
    ct = a_ct(hu[None])
    codes = np.full(ct.shape, Artery.LAD, np.uint8)
    first, second = score_lesions(ct, extract_lesions(ct, codes, philips), philips).lesions
    assert (first.agatston, first.peak_hu, first.mean_hu) == (9.0, 300, 300)
    assert (second.agatston, second.volume_mm3, second.peak_hu) == (0.0, 9.0, 150)


def test_scores_below_one_still_count_as_calcium(a_ct):
    report = score_image(a_ct, block(1, 2, 130), PROFILES["siemens"])
    assert report.total.agatston == 0.5
    assert report.calcified_vessels == 1
    assert (report.diffusivity, report.left_main_share) == (0.0, 0.0)


@pytest.mark.parametrize(("rod_hu", "water_hu"), [(10, 10), (9, 10)])
def test_a_rod_no_brighter_than_water_calibrates_nothing(rod_hu, water_hu):
    with pytest.raises(ValueError, match="brighter than water"):
        calibration_factor(rod_hu=rod_hu, water_hu=water_hu)


def test_isotropic_cubes_are_offered_only_by_calcium_on_their_own_or_a_neighbouring_slice(a_ct):
    # Slice 0 is bright and not labeled, slice 1 is labeled. The cube on slice 0 itself belongs to slice 0 alone;
    # the one halfway (1.5 mm) is offered by slice 1.
    hu = np.full((2, 4, 4), 200.0)
    codes = np.zeros(hu.shape, np.uint8)
    codes[1] = Artery.LAD
    report = isotropic(a_ct, hu, codes, spacing_mm=(2.0, 1, 1))
    assert report.total.volume_isotropic_mm3 == 2 * 16  # at 1 and 2 mm, not at 0


def test_isotropic_cubes_are_interpolated_in_the_last_interval_too(a_ct):
    hu = np.zeros((3, 4, 4))
    hu[2] = 260
    report = isotropic(a_ct, hu, np.full(hu.shape, Artery.LAD, np.uint8), spacing_mm=(4.0, 1, 1))
    assert report.total.volume_isotropic_mm3 == 3 * 16  # 260 HU at 8 mm, 195 at 7, 130 at 6


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_naming_does_not_move_the_total_where_lesions_do_not_touch(data):
    hu, codes = random_scan(data, edges=DEFAULT.edges_hu)
    ct = make_ct(hu)
    lesions = extract_lesions(ct, np.where(codes == 5, 0, np.minimum(codes, 1)).astype(np.uint8), DEFAULT)
    before = score_lesions(ct, lesions, DEFAULT).total.agatston
    arteries = {lesion_id: data.draw(st.sampled_from(SCORED_ARTERIES)) for lesion_id in lesions.arteries}
    lesions = lesions.named(arteries=arteries)
    assert score_lesions(ct, lesions, DEFAULT).total.agatston == pytest.approx(before)


def test_lesions_on_another_grid_are_refused(a_ct):
    with pytest.raises(ValueError, match="grid"):
        score_lesions(a_ct(np.zeros((2, 3, 4))), LesionMap.empty((2, 3, 5)), DEFAULT)


# Published oracles (synthetic inputs of other programs' unit tests, re-encoded).


@pytest.fixture(scope="module")
def oracles(shared_data):
    return json.loads((shared_data / "oracles" / "oracle_cases.json").read_text())


def test_block_cases_of_other_programs_hold(a_ct, oracles):
    assert len(oracles["block_cases"]) == 12
    for case in oracles["block_cases"]:
        nx, ny, nz = case["dims_xyz"]
        dx, dy, dz = case["spacing_xyz_mm"]
        hu = np.full((nz, ny, nx), case["fill_hu"], np.int16)
        for x0, y0, z0, x1, y1, z1, value in case["blocks_inclusive_x0y0z0_x1y1z1_hu"]:
            hu[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = value
        ct = a_ct(hu, spacing_mm=(dz, dy, dx), slice_thickness_mm=case["slice_thickness_mm"])
        for protocol in (DEFAULT, EIGHT):
            lesions = extract_lesions(ct, np.full(ct.shape, Artery.LAD, np.uint8), protocol)
            report = score_lesions(ct, lesions, protocol)
            assert report.total.agatston == pytest.approx(case["ref_agatston"], abs=1e-6), case["id"]
            assert report.total.volume_mm3 == pytest.approx(case["ref_volume_mm3"]), case["id"]
            if "lesions" in case["expected"]:
                assert report.total.lesions == case["expected"]["lesions"], case["id"]


def test_tiger_mask_case_holds_with_its_conventions(a_ct, oracles):
    case = oracles["mask_case"]
    hu = np.full((20, 20, 20), 129.0)  # x, y, z as in the source
    hu[10:14, 8:12, 6:8] = 130
    hu[10, 8, 6:8], hu[11, 8, 6:8], hu[12, 8, 6:8] = 200, 300, 400
    hu[14:15, 12:14, 8:14] = 500
    mask = np.zeros(hu.shape, np.uint8)
    mask[10:14, 8:11, 7:8] = mask[14:15, 12:13, 8:10] = Artery.LAD
    # Mass there is sum(HU) x voxel / 1000: our factor of 0.001.
    protocol = ScoringProtocol(minimum_area_mm2=0.0, mass_factor_mg_per_mm3_hu=0.001)
    ct = a_ct(hu.transpose(2, 1, 0), spacing_mm=(2.0, 0.75, 0.75), slice_thickness_mm=2.5)
    report = score_lesions(ct, extract_lesions(ct, mask.transpose(2, 1, 0).copy(), protocol), protocol)
    assert report.total.agatston == pytest.approx(case["expected"]["agatston"])
    assert report.total.volume_mm3 == pytest.approx(case["expected"]["volume_mm3"])
    assert report.total.mass_mg == pytest.approx(case["expected"]["mass"])


def test_two_slices_of_nine_pixels_at_350_score_45(a_ct, oracles):
    hu = np.zeros((2, 8, 8))
    hu[:, 2:5, 2:5] = 350
    ct = a_ct(hu, spacing_mm=(2.5, 1, 1))
    report = score_lesions(ct, extract_lesions(ct, np.full(ct.shape, Artery.LAD, np.uint8), DEFAULT), DEFAULT)
    assert report.total.agatston == pytest.approx(oracles["open_med_mcp"]["expected"]["agatston"])


def test_calcium_scoring_jl_block_agrees_without_slice_factor(a_ct, oracles):
    hu = np.zeros((2, 4, 4))
    hu[:, :, :2] = 400
    protocol = ScoringProtocol(normalisation="none", mass_factor_mg_per_mm3_hu=0.00075)
    ct = a_ct(hu, spacing_mm=(0.5, 0.5, 0.5))
    report = score_lesions(ct, extract_lesions(ct, np.full(ct.shape, Artery.LAD, np.uint8), protocol), protocol)
    expected = next(c for c in oracles["calciumscoring_jl"] if c["id"].endswith("/agatston"))["expected"]
    assert report.total.agatston == pytest.approx(expected["agatston"])
    assert report.total.volume_mm3 == pytest.approx(expected["volume_mm3"])
    assert report.total.mass_mg == pytest.approx(expected["mass_with_factor_0.00075"])
    for kvp, value in ((135, 260), (120, 280), (100, 310), (80, 400)):
        hu = np.zeros((2, 4, 7))
        hu[:, :, :3] = value
        ct = a_ct(hu, spacing_mm=(0.5, 0.5, 0.5))
        adapted = NO_K.adapted_to(kvp)
        report = score_lesions(ct, extract_lesions(ct, np.full(ct.shape, Artery.LAD, np.uint8), adapted), adapted)
        assert report.total.agatston == pytest.approx(12), kvp
