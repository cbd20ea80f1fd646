"""Rays and filtered back-projection against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.second_family.projection import geometry_of
from training.evaluation.second_family.scanner import Beam, Kernel

GEOMETRY = geometry_of(152, 2.72, 256, 150)
SOFT = Kernel("soft", 0.08, 0.0, 0.05, 2.0)


def disc(x_mm: float, y_mm: float, radius_mm: float) -> np.ndarray:
    """A disc of water with soft edges."""
    off = np.hypot(GEOMETRY.axis_mm[None] - x_mm, GEOMETRY.axis_mm[:, None] - y_mm) - radius_mm
    return np.clip(0.5 - off / GEOMETRY.pitch_mm, 0, 1).astype(np.float32)


@pytest.mark.parametrize("degrees", [0, 30, 90, 144])
def test_a_ray_through_a_disc_is_as_long_as_its_chord(degrees):
    rays = GEOMETRY.rays(GEOMETRY.project(disc(30, -20, 100)))
    view = round(degrees / 180 * GEOMETRY.views)
    angle = GEOMETRY.angles[view]
    off = GEOMETRY.detector_mm - (30 * np.cos(angle) - 20 * np.sin(angle))
    inside = np.abs(off) < 90
    assert rays[view, inside] == pytest.approx(2 * np.sqrt(100**2 - off[inside] ** 2), abs=1.5)


def test_back_projection_gives_back_what_was_projected_and_where():
    image = disc(30, -20, 100) - 0.5 * disc(60, 30, 22)
    back = GEOMETRY.back_project(GEOMETRY.rays(GEOMETRY.project(image)), SOFT.transfer(GEOMETRY.frequencies))
    for x_mm, y_mm, expected in ((30, -60, 1.0), (-30, -20, 1.0), (60, 30, 0.5), (-120, 100, 0.0)):
        row, column = (int(np.argmin(np.abs(GEOMETRY.axis_mm - v))) for v in (y_mm, x_mm))
        assert back[row - 1 : row + 2, column - 1 : column + 2].mean() == pytest.approx(expected, abs=0.006)


def test_noise_is_as_large_as_was_foretold():
    transfer = SOFT.transfer(GEOMETRY.frequencies)
    rays = np.random.default_rng(0).standard_normal((GEOMETRY.views, GEOMETRY.padded)).astype(np.float32)
    middle = GEOMETRY.back_project(rays, transfer)[26:-26, 26:-26]
    assert middle.var() == pytest.approx(GEOMETRY.noise_gain(transfer), rel=0.1)


@pytest.mark.parametrize(("boost", "least", "most"), [(0.0, -0.005, 0.01), (1.5, 0.08, 0.5)])
def test_only_a_kernel_that_boosts_overshoots_at_an_edge(boost, least, most):
    kernel = Kernel("k", 0.10, boost, 0.06, 2.0)
    rays = GEOMETRY.rays(GEOMETRY.project(disc(0, 0, 100)))
    row = GEOMETRY.back_project(rays, kernel.transfer(GEOMETRY.frequencies))[GEOMETRY.pixels // 2]
    assert least < row.max() - 1 < most


@pytest.mark.parametrize("kvp", [100.0, 120.0, 140.0])
def test_bone_hardens_the_beam_and_more_of_it_is_seen_as_less(kvp):
    weight, water, bone = Beam(kvp).tables()
    seen = [-np.log((weight * np.exp(-bone * b - water * 200)).sum()) for b in (0, 10, 20, 40)]
    first, second, third = np.diff(seen) / np.array([10, 10, 20])
    assert first > second > third
    assert water @ weight == pytest.approx(0.0205, abs=0.002)  # of water at 60 keV: 0.0206 per mm
