"""Three small cases, made whole: what they hold, that they stay what they are, and that they judge alone."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.io.volumes import read_labels
from heartlens.networks.bundle import RULES
from heartlens.pipeline import Request, score_series
from heartlens.scoring.report import score_lesions
from training.datasets.phantom_sets import (
    CALIBRATION,
    SECOND_FAMILY,
    SECOND_FAMILY_ELSEWHERE,
    SPARE,
    TEST,
    TRAINING,
    VALIDATION,
)
from training.datasets.shard_writer import write_shards
from training.evaluation.answers import known_islands
from training.evaluation.second_family.cases import PROTOCOL, Case, Scan, draw_motion, make_case
from training.evaluation.second_family.scanner import Kernel
from training.evaluation.sources.second_family import (
    GENERATOR,
    as_labeled_scan,
    generator_hash,
    make_cases,
    write_case,
)
from training.metrics.overlap import compare

pytestmark = pytest.mark.slow

SEEDS = (830_001, 830_002, 830_004)

FROZEN = {
    830_001: (-491.090, 468.677, 91.48),
    830_002: (-662.292, 457.997, 0.00),
    830_004: (-407.540, 450.487, 513.05),
}
"""Mean HU of the scan, standard deviation, and Agatston's total without noise, of each small case."""


@pytest.fixture(scope="module")
def cases() -> dict[int, Case]:
    return {seed: make_case(seed, size="small") for seed in SEEDS}


def test_the_generator_is_the_frozen_one():
    assert generator_hash() == GENERATOR, "another generator makes other cases: freeze it anew, and judge again"


def test_small_cases_are_what_they_were(cases):
    """Within what another processor's rounding may move."""
    for seed, case in cases.items():
        mean, deviation, total = FROZEN[seed]
        assert case.ct.hu.mean() == pytest.approx(mean, abs=0.05), seed
        assert case.ct.hu.std() == pytest.approx(deviation, abs=0.05), seed
        assert case.truth["agatston_noise_free"] == pytest.approx(total, rel=0.02, abs=4), seed


def test_a_seed_gives_the_same_case_again(cases):
    again = make_case(SEEDS[0], size="small")
    assert np.array_equal(again.ct.hu, cases[SEEDS[0]].ct.hu)
    assert np.array_equal(again.lesions.labels, cases[SEEDS[0]].lesions.labels)


def test_labels_are_islands_of_the_final_image_and_their_score_is_the_truth(cases):
    for case in cases.values():
        inside = case.lesions.labels > 0
        assert case.ct.hu[inside].min(initial=130) >= 130
        report = score_lesions(case.ct, case.lesions, PROTOCOL)
        assert report.total.agatston == pytest.approx(case.truth["agatston"])
        laid = {d["artery"] for d in case.truth["deposits"]}
        assert {a.name for a in case.lesions.arteries.values()} <= laid


def test_a_scan_shows_blood_lung_fat_and_bone_where_they_belong(cases):
    for case in cases.values():
        k = round((-8 - case.ct.affine[2, 3]) / case.ct.increment_mm)
        x, y = (round((v - case.ct.affine[n, 3]) / case.ct.affine[n, n]) for n, v in ((0, 0.0), (1, 2.0)))
        heart = case.ct.hu[k, y - 2 : y + 3, x - 2 : x + 3]
        assert 20 < np.median(heart) < 75
        assert (case.ct.hu < -700).mean() > 0.1
        assert (case.ct.hu > 300).mean() > 0.003


def test_a_heart_at_rest_is_not_moved():
    scan = Scan(120, Kernel("k", 0.3, 0, 0.3, 2), 10, 3, 3, -70, 40, 200, (0, 0), (0, 0), True, 0.04)
    assert draw_motion(np.random.default_rng(0), scan, 30).phase == ()


def test_judging_seeds_have_no_other_purpose():
    others = (TRAINING, VALIDATION, SPARE, CALIBRATION, TEST, SECOND_FAMILY_ELSEWHERE)
    assert SECOND_FAMILY.count == 150
    assert not any(set(SECOND_FAMILY.range) & set(other.range) for other in others)


def test_a_case_that_judges_is_refused_in_a_training_set_and_one_for_elsewhere_is_not(cases, tmp_path):
    case = cases[SEEDS[0]]
    for seed in (SECOND_FAMILY.first, SECOND_FAMILY.range[-1]):
        judging = as_labeled_scan(case._replace(truth=case.truth | {"seed": seed}))
        with pytest.raises(InputRefused, match="judges, and nothing may learn from it"):
            write_shards(tmp_path / "shards", [judging])
    assert not (tmp_path / "shards").exists()
    assert len(write_shards(tmp_path / "shards", [as_labeled_scan(case)]).scans) == 1


def test_a_case_goes_through_the_pipeline_as_a_scan_from_a_scanner(cases, tmp_path):
    case = cases[SEEDS[0]]
    home = tmp_path / generator_hash()[:12] / "small"
    home.mkdir(parents=True)
    write_case(home / str(SEEDS[0]), case)  # make_cases leaves what is there as it is
    (made,) = make_cases(tmp_path, SEEDS[:1], size="small")
    scored = score_series(made.scan, Request(allow=OVERRIDABLE, bundle=RULES)).case
    assert np.array_equal(scored.source_ct.hu, case.ct.hu)
    assert scored.source_ct.header.kernel == case.ct.header.kernel
    codes = read_labels(made.folder / "labels.nrrd", scored.source_ct)
    known = known_islands(scored.source_ct, codes, PROTOCOL).codes(scored.source_ct)
    stage = compare(scored.source_ct, known, scored.scored_codes, PROTOCOL)
    assert stage.reference_agatston["all"] == pytest.approx(case.truth["agatston"], rel=1e-3)
    assert made.truth["seed"] == SEEDS[0]
