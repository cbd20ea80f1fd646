"""Whose island is whose: worked by hand on a few voxels."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from training.evaluation.second_family.truth import BONE, NAMES, artery_scores, name_islands

PROTOCOL = ScoringProtocol()


def scan(row: list[int]) -> CTVolume:
    """One slice of 3 mm with pixels of 1 mm, one row of HU in it, fat elsewhere."""
    hu = np.full((1, 3, len(row)), -100, np.int16)
    hu[0, 1] = row
    return CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]))


def added(ct: CTVolume, **by_name: dict[int, float]) -> np.ndarray:
    """What deposits add at the columns of the row's candidates."""
    columns = np.flatnonzero(ct.hu[0, 1] >= 130)
    out = np.zeros((BONE + 1, columns.size), np.float32)
    for name, values in by_name.items():
        for column, value in values.items():
            row = BONE if name == "bone" else NAMES.index(Artery[name])
            out[row, np.flatnonzero(columns == column)[0]] = value
    return out


def named(ct: CTVolume, values: np.ndarray) -> list[int]:
    return name_islands(ct, values, PROTOCOL).artery_map()[0, 1].tolist()


def test_an_island_belongs_to_its_deposit_whole_and_noise_belongs_to_nobody():
    ct = scan([0, 150, 300, 140, 0, 180, 200, 0])
    assert named(ct, added(ct, LAD={2: 250.0})) == [0, 2, 2, 2, 0, 0, 0, 0]


def test_a_deposit_that_adds_little_does_not_make_noise_its_own():
    ct = scan([0, 150, 160, 0])
    assert named(ct, added(ct, LAD={1: 30.0})) == [0, 0, 0, 0]


def test_a_lesion_across_a_fork_is_cut_where_the_arteries_meet():
    ct = scan([400] * 6)
    values = added(ct, LM={0: 300, 1: 300, 2: 260, 3: 90}, LAD={2: 80, 3: 250, 4: 300, 5: 300})
    assert named(ct, values) == [1, 1, 1, 2, 2, 2]
    # Three pixels of 1 mm2 with the weight of 400 HU on each side.
    assert artery_scores(ct, name_islands(ct, values, PROTOCOL), PROTOCOL) == {"LM": 12, "LAD": 12, "LCX": 0, "RCA": 0}


def test_one_or_two_voxels_of_another_name_stay_with_the_rest_of_the_island():
    ct = scan([400] * 6)
    values = added(ct, LM={0: 300, 1: 300}, LAD=dict.fromkeys(range(2, 6), 250) | {1: 40})
    assert named(ct, values) == [2] * 6


def test_bone_that_touches_calcium_is_not_calcium():
    ct = scan([400] * 8)
    values = added(ct, LAD={0: 300, 1: 300, 2: 300, 3: 60}, bone={3: 200, 4: 400, 5: 400, 6: 400, 7: 400})
    assert named(ct, values) == [2, 2, 2, 0, 0, 0, 0, 0]


def test_what_is_added_must_be_known_for_every_candidate():
    ct = scan([0, 150, 160, 0])
    with pytest.raises(ValueError, match="shape"):
        name_islands(ct, np.zeros((6, 3), np.float32), PROTOCOL)
