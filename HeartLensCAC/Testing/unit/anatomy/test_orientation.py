"""A body that lies otherwise than its file says is noticed; one that lies as it says is not."""

import itertools

import numpy as np
import pytest
from schematic_chest import DESCENDING_MM, DESCENDING_RADIUS_MM, cropped, schematic_chest

from heartlens.anatomy import heart_region
from heartlens.anatomy.orientation import orientation_finding, posture
from heartlens.core.ct import CTVolume


@pytest.fixture(scope="module")
def chest():
    """With a dome of liver under the right lung: its lungs narrow toward the feet, as lungs do."""
    ct = schematic_chest(noise_hu=12)
    k, j, i = np.indices(ct.shape)
    x, y, z = np.moveaxis(ct.lps_mm(np.stack([k, j, i], -1)), -1, 0)
    liver = ((x + 60) / 60) ** 2 + ((y - 5) / 90) ** 2 + ((z + 100) / 62) ** 2 < 1
    return CTVolume(np.where(liver & (ct.hu < -500), 55, ct.hu).astype(np.int16), ct.affine, ct.header)


def turned(ct, flips, *, swap=False):
    """The voxels flipped along slice, row and column, rows and columns exchanged; the affine says what it said."""
    hu = ct.hu[tuple(slice(None, None, sign) for sign in flips)]
    if swap:
        hu = hu.transpose(0, 2, 1)
    return CTVolume(np.ascontiguousarray(hu), ct.affine, ct.header)


def test_an_upright_body_is_not_doubted(chest):
    found = posture(heart_region(chest))
    assert orientation_finding(heart_region(chest)) is None
    assert found.spine_mm == pytest.approx((0, 78), abs=12)
    assert found.left > 0.5
    assert found.upright > 0.5


WRONG = [w for w in itertools.product((1, -1), (1, -1), (1, -1), (False, True)) if w != (1, 1, 1, False)]


@pytest.mark.parametrize(("k", "j", "i", "swap"), WRONG)
def test_a_body_turned_or_mirrored_is_noticed(chest, k, j, i, swap):
    assert orientation_finding(heart_region(turned(chest, (k, j, i), swap=swap))) is not None


@pytest.mark.parametrize(
    ("flips", "words"),
    [((1, -1, -1), "in front"), ((1, 1, -1), "to the right of the spine"), ((-1, 1, 1), "toward the head")],
)
def test_what_lies_elsewhere_is_named(chest, flips, words):
    assert words in orientation_finding(heart_region(turned(chest, flips)))


def test_without_an_aorta_on_either_side_nobody_knows_left_from_right(chest):
    """Hearts that lie in the middle are no mirror images."""
    k, j, i = np.indices(chest.shape)
    x, y, _ = np.moveaxis(chest.lps_mm(np.stack([k, j, i], -1)), -1, 0)
    at_aorta = np.hypot(x - DESCENDING_MM[0], y - DESCENDING_MM[1]) < DESCENDING_RADIUS_MM + 3
    ct = CTVolume(np.where(at_aorta, -100, chest.hu).astype(np.int16), chest.affine, chest.header)
    mirrored = turned(ct, (1, 1, -1))
    assert posture(heart_region(mirrored)).left is None
    assert orientation_finding(heart_region(mirrored)) is None
    assert posture(heart_region(turned(chest, (1, 1, -1)))).left < -0.8


@pytest.mark.parametrize("slices", [1, 3, 10])
def test_a_few_slices_are_not_judged(chest, slices):
    few = cropped(turned(chest, (-1, -1, -1)), slice(None), slice(None), slice(20, 20 + slices))
    assert orientation_finding(heart_region(few)) is None
