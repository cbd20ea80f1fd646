"""A scan's kernel shows in its noise, and only a sharp and noisy one is softened."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from heartlens.anatomy.sharpness import (
    REFERENCE_LIKENESS,
    SHARP_BELOW,
    SHARP_NOISE_HU,
    NoiseTexture,
    noise_texture,
    softened,
)
from heartlens.core.ct import CTVolume

PIXEL_MM = 0.7


def tissue(
    deviation_hu: float, sigma_px: float = 0.0, *, pixel_mm: float = PIXEL_MM, tissue_hu: float = 40.0
) -> CTVolume:
    """Two slices of even tissue under Gaussian noise, smoothed and brought back to the deviation."""
    noise = np.random.default_rng(5).normal(size=(2, 160, 160))
    if sigma_px:
        noise = gaussian_filter(noise, (0, sigma_px, sigma_px))
    hu = np.rint(tissue_hu + deviation_hu * noise / noise.std()).astype(np.int16)
    return CTVolume(hu, np.diag([pixel_mm, pixel_mm, 3.0, 1.0]))


def test_white_noise_is_alike_nowhere_and_its_deviation_is_read():
    texture = noise_texture(tissue(40.0))
    assert texture is not None
    assert abs(texture.likeness) < 0.06  # pixels lie one lag apart; taking the mean of 49 away leaves -1/49
    assert texture.deviation_hu == pytest.approx(40 * np.sqrt(48 / 49), rel=0.03)


@pytest.mark.parametrize("pixel_mm", [0.35, 0.5, 0.7])
def test_likeness_of_smoothed_noise_is_that_of_its_gaussian(pixel_mm):
    """Noise smoothed with sigma s has the correlation exp(-d^2 / 4 s^2) at a distance d; the mean around takes some."""
    sigma_mm = 0.6
    texture = noise_texture(tissue(40.0, sigma_mm / pixel_mm, pixel_mm=pixel_mm))
    assert texture is not None
    assert texture.likeness == pytest.approx(np.exp(-(0.7**2) / (4 * sigma_mm**2)), abs=0.12)


@pytest.mark.parametrize(
    ("deviation_hu", "likeness", "is_sharp"),
    [
        (SHARP_NOISE_HU + 1, SHARP_BELOW - 0.01, True),
        (SHARP_NOISE_HU - 1, SHARP_BELOW - 0.01, False),
        (SHARP_NOISE_HU + 1, SHARP_BELOW + 0.01, False),
    ],
)
def test_sharp_is_noisy_and_unlike(deviation_hu, likeness, is_sharp):
    assert NoiseTexture(deviation_hu, likeness).is_sharp is is_sharp


def test_a_soft_or_quiet_scan_is_looked_at_as_it_is():
    for ct in (tissue(40.0, 1.2), tissue(12.0)):
        soft = softened(ct)
        assert soft.ct is ct
        assert soft.original is ct
        assert soft.sigma_mm == 0


def test_a_sharp_scan_is_softened_to_the_reference_and_no_further():
    ct = tissue(60.0)
    soft = softened(ct)
    texture = noise_texture(soft.ct)
    assert texture is not None
    assert REFERENCE_LIKENESS - 0.02 <= texture.likeness < REFERENCE_LIKENESS + 0.1
    assert 0.4 < soft.sigma_mm < 1.0
    assert soft.original is ct
    assert soft.ct.hu.dtype == np.int16
    assert soft.ct.hu.mean() == pytest.approx(ct.hu.mean(), abs=0.5)


def test_a_slice_does_not_soften_its_neighbors():
    ct = tissue(60.0)
    marked = np.array(ct.hu)
    marked[0, 80, 80] = 2000
    changed = softened(CTVolume(marked, ct.affine)).ct.hu.astype(int) - softened(ct).ct.hu
    assert changed[0].any()
    assert not changed[1].any()


def test_nothing_is_said_of_a_scan_without_soft_tissue():
    ct = tissue(60.0, tissue_hu=-850)
    assert noise_texture(ct) is None
    assert softened(ct).ct is ct
    even = CTVolume(np.full((2, 160, 160), 40, np.int16), ct.affine)
    assert noise_texture(even) is None
