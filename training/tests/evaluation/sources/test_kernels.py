"""A kernel is found again from the edges that it sharpened."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.evaluation.sources.kernels import SharpKernel, edge_profile, fit_kernel


@pytest.fixture(scope="module")
def chest() -> CTVolume:
    """A disk of soft tissue in lung, by a soft kernel."""
    rows, columns = np.mgrid[:200, :200] - 99.5
    hu = np.where(np.hypot(rows, columns) < 60, 40.0, -850.0)
    hu = ndimage.gaussian_filter(hu, 1.4) + np.random.default_rng(1).normal(0, 3, hu.shape)
    return CTVolume(np.rint(hu).astype(np.int16)[None], np.diag([0.7, 0.7, 2.5, 1.0]))


def test_the_kernel_that_sharpened_an_edge_is_found_again(chest):
    kernel = SharpKernel(boost=2.0, sigma_mm=1.2)
    found = fit_kernel(edge_profile([chest]), edge_profile([kernel.applied(chest)]))
    assert found.boost == pytest.approx(2.0, rel=0.25)
    assert found.sigma_mm == pytest.approx(1.2, rel=0.2)
    assert found.misfit < 0.01


def test_a_sharp_kernel_overshoots_and_a_soft_one_does_not(chest):
    soft, sharp = edge_profile([chest]), edge_profile([SharpKernel(2.0, 1.2).applied(chest)])
    assert soft.max() < 1.02
    assert sharp.max() > 1.05
    assert soft[len(soft) // 2] == pytest.approx(0.5, abs=0.02)


def test_no_boost_changes_nothing(chest):
    assert np.array_equal(SharpKernel(0.0, 1.0).applied(chest).hu, chest.hu)


def test_an_image_without_lung_has_no_edges_to_learn_from(chest):
    water = CTVolume(np.zeros_like(chest.hu), chest.affine)
    with pytest.raises(InputRefused, match="expected 200 profiles across the lung's border, found 0"):
        edge_profile([water])
