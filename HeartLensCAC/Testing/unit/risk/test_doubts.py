"""A zero is one only where heart, lungs and blood are as in people; metal on an artery is not plaque."""

from dataclasses import replace

import numpy as np
import pytest
from schematic_chest import schematic_chest

from heartlens.anatomy import heart_region
from heartlens.anatomy.metal import _of_one_material, find_clips
from heartlens.anatomy.quality import content_findings
from heartlens.calcium import extract_lesions
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.risk.doubts import doubts, doubts_about_zero


@pytest.fixture(scope="module")
def chest():
    return schematic_chest(noise_hu=12)


def test_the_zero_of_a_body_is_not_doubted(chest):
    assert doubts_about_zero(heart_region(chest)) is None


@pytest.mark.parametrize("factor", [2.2, 1.6])
def test_a_body_of_another_size_is_doubted(chest, factor):
    affine = chest.affine.copy()
    affine[:3] *= factor
    region = heart_region(CTVolume(chest.hu, affine, chest.header))
    assert region.in_view
    assert "expected" in doubts_about_zero(region)


def test_values_that_are_not_finite_are_doubted(chest):
    region = replace(heart_region(chest))
    region.__dict__["core_hu"] = float("nan")
    assert "measured nan HU" in doubts_about_zero(region)


@pytest.mark.parametrize("artery", [None, Artery.OTHER], ids=["nothing", "something else"])
def test_a_zero_is_doubted_whatever_else_is_calcified(chest, artery):
    region = replace(heart_region(chest))
    region.__dict__["core_hu"] = 200.0
    lesions = LesionMap.empty(chest.shape) if artery is None else lesions_of(with_row(2, 2000), artery)
    assert [warning.code for warning in doubts(chest, region, lesions)] == ["false-zero"]


def lesions_of(ct, artery=Artery.LAD):
    flat = np.flatnonzero((ct.hu > 600).ravel())
    return extract_lesions(ct, flat, np.full(flat.size, int(artery)), ScoringProtocol())


def with_row(count, hu):
    """The chest with single voxels, 8 mm2 each, in a row through the front of the heart."""
    ct = schematic_chest()
    voxels = ct.hu.copy()
    for n in range(count):
        voxels[15 + 2 * n, 47 - 2 * n, 70 + 2 * n] = hu
    return CTVolume(voxels, ct.affine, ct.header)


@pytest.mark.parametrize(("count", "hu"), [(4, 2000), (6, 1000)])
def test_a_row_of_small_dense_islands_is_metal_and_said_of_the_total(count, hu):
    ct = with_row(count, hu)
    region = heart_region(ct)
    assert "metal" in dict(content_findings(ct, region))
    assert [warning.code for warning in doubts(ct, region, lesions_of(ct))] == ["metal-on-artery"]


@pytest.mark.parametrize(
    ("peaks_hu", "is_metal"),
    [
        ((960, 980, 985, 1015, 1030), True),  # 1.07 times the lowest
        ((960, 980, 985, 1015, 1240), False),  # four alike are too few
        ((960, 980, 985, 1015, 1030, 1240, 1390), True),  # five of seven
        ((750, 960, 980, 985, 1015, 1030, 1240, 1390), False),  # five of eight
    ],
)
def test_clips_of_one_material_are_told_by_their_peaks_though_some_touch(peaks_hu, is_metal):
    assert _of_one_material(np.array(peaks_hu)) is is_metal


@pytest.mark.parametrize(("count", "hu"), [(1, 2000), (2, 2000), (4, 1000), (8, 600)])
def test_a_few_or_fainter_ones_are_plaque(count, hu):
    ct = with_row(count, hu)
    assert find_clips(ct, heart_region(ct)).size == 0


def test_where_there_is_no_heart_there_are_no_clips():
    ct = with_row(12, 2000)
    assert find_clips(ct, heart_region(ct)).size > 0
    assert find_clips(ct, replace(heart_region(ct), in_view=False)).size == 0


def test_large_dense_islands_are_plaque():
    ct = schematic_chest(add=[(20.0 + 5 * n, -8.0 - 5 * n, -44.0 + 6 * n, 5.0, 1600) for n in range(6)])
    assert find_clips(ct, heart_region(ct)).size == 0
