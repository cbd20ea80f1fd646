"""Values that are no HU are refused whatever went wrong with them; those of bodies are not."""

import numpy as np
import pytest
from schematic_chest import schematic_chest

from heartlens.anatomy.coarse import coarse_grid
from heartlens.anatomy.hu_scale import scale_findings, tissue_peaks
from heartlens.core.ct import CTVolume, hu_array


@pytest.fixture(scope="module")
def chest():
    """With bone of every density up to 1,150 HU, as scans of people have it."""
    dense = [(0.0, 80.0, z, 9.0, 1100.0) for z in range(-80, 60, 20)]
    ct = schematic_chest(noise_hu=12, add=dense)
    bone = np.random.default_rng(1).uniform(200, 1150, ct.shape)
    return CTVolume(np.where(ct.hu == 1100, np.rint(bone), ct.hu).astype(np.int16), ct.affine, ct.header)


def codes(ct, change=lambda hu: hu):
    hu = hu_array(np.rint(change(ct.hu.astype(np.float64))))
    changed = CTVolume(hu, ct.affine, ct.header)
    return [code for code, _ in scale_findings(changed, coarse_grid(changed))]


def test_a_chest_is_in_hu(chest):
    assert codes(chest) == []


def test_fat_and_soft_tissue_peak_where_they_were_put(chest):
    peaks = tissue_peaks(coarse_grid(chest).hu)
    assert sorted(peaks[:2]) == pytest.approx([-100, 42.5], abs=5)


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: hu - 1024,
        lambda hu: hu + 1024,
        lambda hu: hu - 100,
        lambda hu: hu + 100,
        lambda hu: (hu + 1024) * 0.8 - 1024,
        lambda hu: (hu + 1024) * 1.2 - 1024,
        lambda hu: (hu + 1024) * 10 - 1024,
        lambda hu: -hu,
        lambda hu: np.where(hu < 0, hu + 65536, hu),
        lambda hu: np.rint((np.clip(hu, -1000, 1000) + 1000) / 8) * 8 - 1000,
    ],
    ids=["twice", "not at all", "-100", "+100", "slope 0.8", "1.2", "10", "negative", "unsigned", "8 bits"],
)
def test_a_rescale_that_went_wrong_is_no_hu(chest, change):
    assert "no-hu" in codes(chest, change)


@pytest.mark.parametrize(("top", "expected"), [(240, ["clipped"]), (400, ["clipped"]), (900, ["clipped"]), (1000, [])])
def test_peaks_that_were_cut_off_below_bone_are_clipped(chest, top, expected):
    assert codes(chest, lambda hu: np.minimum(hu, top)) == expected


def test_one_slice_in_other_units_is_a_jump(chest):
    def one(hu):
        hu = hu.copy()
        hu[20] -= 100
        return hu

    assert codes(chest, one) == ["hu-jump"]


def test_too_little_tissue_tells_nothing(a_ct):
    hu = np.full((3, 16, 16), -1000)
    hu[:, 4:12, 4:12] = 140
    assert scale_findings(a_ct(hu), coarse_grid(a_ct(hu))) == []
