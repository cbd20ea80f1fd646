"""Neighboring slices show the same tissue."""

import numpy as np
import pytest
from schematic_chest import schematic_chest

from heartlens.anatomy.continuity import jumps, median_steps_hu
from heartlens.core.ct import CTVolume


@pytest.fixture(scope="module")
def chest():
    return schematic_chest(noise_hu=12)


def changed(ct, change):
    hu = ct.hu.astype(np.float32)
    hu[20] = change(hu[20])
    return CTVolume(hu, ct.affine, ct.header)


def test_a_body_does_not_jump(chest):
    assert jumps(chest) == []


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda hu: hu - 100, -100),
        (lambda hu: hu + 60, 60),
        (lambda hu: (hu + 1024) * 1.2 - 1024, 185),  # fat, stored 924, moves by 0.2 of that
    ],
)
def test_one_slice_with_another_rescale_jumps_there_and_back(chest, change, step):
    found = jumps(changed(chest, change))
    assert [k for k, _ in found] == [20, 21]
    assert [hu for _, hu in found] == pytest.approx([step, -step], abs=6)


def test_iodine_that_arrives_from_one_slice_to_the_next_is_no_jump(chest):
    """Blood and muscle alike, and nothing else: then fat stays, and lung does."""
    assert jumps(changed(chest, lambda hu: np.where(hu > 0, hu + 150, hu))) == []


def test_slices_without_tissue_tell_nothing():
    assert np.isnan(median_steps_hu(np.full((2, 64, 64), -1000, np.int16), [1])).all()
