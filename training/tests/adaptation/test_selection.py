"""Which case next, and what the curve says: orders and means by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.case.case import Case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from training.adaptation.curve import (
    CurveCell,
    active_minus_random,
    curve_table,
    kept_errors,
    over_seeds,
    to_document,
)
from training.adaptation.judged import ScanError
from training.adaptation.selection import Doubt, doubt_of, order_patients
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.evaluation.results import Failure

pytestmark = pytest.mark.slow


def case(*notes: tuple[bool, float | None]) -> Case:
    """A lesion of 8 mm2 and 300 HU for each note, in the LAD; what is undecided, and how probable it is."""
    hu = np.full((4, 32, 32), -100, np.int16)
    labels = np.zeros(hu.shape, np.uint16)
    for n, _ in enumerate(notes, 1):
        hu[1, 5 * n : 5 * n + 2, 4:8], labels[1, 5 * n : 5 * n + 2, 4:8] = 300, n
    ct = CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=3.0))
    numbered = dict(enumerate(notes, 1))
    lesions = LesionMap(
        labels, dict.fromkeys(numbered, Artery.LAD),
        notes={n: LesionNote(probability=p, undecided=undecided) for n, (undecided, p) in numbered.items()},
    )  # fmt: skip
    return Case.of(ct, lesions, ScoringProtocol(), provenance=Provenance(LabelSource.NETWORK, bundle="b 1"))


def test_the_doubt_of_a_case_is_the_score_that_hangs_on_what_is_undecided():
    sure = doubt_of(case((False, 0.9), (False, None)))
    assert sure == Doubt(0.0, 0, pytest.approx(0.2))
    one, two = doubt_of(case((True, 0.6), (False, 0.99))), doubt_of(case((True, 0.6), (True, 0.45)))
    assert one.score == pytest.approx(24)  # 8 mm2 of weight 3
    assert (one.lesions, one.nearness) == (1, pytest.approx(0.8))
    assert (two.score, two.lesions, two.nearness) == (pytest.approx(48), 2, pytest.approx(0.9))
    assert sure < one < two


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Patients a to f with a scan each, and a second one of f."""

    def scan(number: int, patient: str) -> LabeledScan:
        hu = np.full((3, 8, 8), -80, np.int16)
        hu[0, 0, 0] = number
        return LabeledScan(f"s/{number}", patient, "made-up", CTVolume(hu, np.eye(4)), np.zeros(hu.shape, np.uint8))

    return write_shards(tmp_path_factory.mktemp("order") / "s", [scan(n, p) for n, p in enumerate("abcdeff")])


def test_in_active_order_the_most_doubtful_scan_of_a_patient_decides(shards):
    scores = {0: 1.0, 1: 30.0, 2: 0.0, 3: 8.0, 4: 0.0, 5: 0.0, 6: 99.0}  # the second scan of f
    asked: list[int] = []

    def doubts(scans):
        asked.extend(scans)
        return {n: Doubt(scores[n]) for n in scans}

    found = order_patients("abcdef", "active", 3, shards=shards, doubts=doubts)
    assert found[:4] == ["f", "b", "d", "a"]
    assert set(found[4:]) == {"c", "e"}
    assert sorted(asked) == list(range(7))


def test_a_random_order_asks_nobody_and_is_another_one_for_another_seed(shards):
    def doubts(scans):
        raise AssertionError("a random order needs no scores")

    orders = [order_patients("abcdef", "random", seed, shards=shards, doubts=doubts) for seed in range(8)]
    assert all(sorted(order) == list("abcdef") for order in orders)
    assert orders[0] == order_patients("fedcba", "random", 0, shards=shards, doubts=doubts)
    assert len({tuple(order) for order in orders}) > 4


def cells(gains: dict[tuple[str, int], tuple[float | None, ...]]) -> list[CurveCell]:
    return [
        CurveCell(order, seed, size, gain, None, None, 5, "" if gain is not None else "only 9 patients may teach")
        for (order, size), row in gains.items()
        for seed, gain in enumerate(row)
    ]


GAINS = {
    ("random", 10): (0.01, 0.03, 0.02), ("active", 10): (0.05, 0.06, 0.04),
    ("random", 25): (0.08, 0.10, None), ("active", 25): (0.09, 0.13, 0.11),
}  # fmt: skip


def test_the_start_is_judged_once_and_what_it_could_not_score_is_kept_too(tmp_path):
    found = {3: ScanError(0.25, 100.0, 50.0), 7: Failure("case/x", "no heart")}
    assert kept_errors(tmp_path / "before.json", lambda: found) == found

    def again():
        raise AssertionError("scored twice")

    assert kept_errors(tmp_path / "before.json", again) == found


def test_the_mean_over_seeds_has_students_interval():
    """Of 0.01, 0.02 and 0.03 the half width is 4.303 x 0.01 / sqrt(3)."""
    mean, low, high = over_seeds(cells({("random", 10): GAINS["random", 10]}))
    assert (mean, high - mean, mean - low) == pytest.approx((0.02, 0.024841, 0.024841), abs=1e-5)
    assert over_seeds(cells({("random", 10): (None,)})) == (None, None, None)


def test_orders_are_compared_in_pairs_of_seeds_that_have_both():
    mean, by_seed = active_minus_random(cells(GAINS), 10)
    assert by_seed == pytest.approx([0.04, 0.03, 0.02])
    assert mean.value == pytest.approx(0.03)
    assert active_minus_random(cells(GAINS), 25)[1] == pytest.approx([0.01, 0.03])
    assert active_minus_random(cells({("random", 10): (0.1,)}), 10)[1] == []


def test_the_table_says_gain_by_size_and_order_and_what_was_not_learned():
    text = curve_table(cells(GAINS))
    assert "| 10 | random | +0.020 (−0.005 to +0.045) | +0.010, +0.030, +0.020 |" in text
    assert "| 25 | random | +0.090" in text
    assert "none (only 9 patients may teach)" in text
    assert "| 10 | +0.030 (+0.005 to +0.055) | +0.040, +0.030, +0.020 |" in text
    document = to_document(cells(GAINS), {"schema": "x"})
    assert [(row["size"], row["order"]) for row in document["curve"]] == [
        (10, "active"), (10, "random"), (25, "active"), (25, "random"),
    ]  # fmt: skip
    json.dumps(document, allow_nan=False)
    assert replace(cells(GAINS)[0], seed=4).folder == "seed-4/random-10"
