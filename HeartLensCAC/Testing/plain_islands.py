"""Islands that the networks of `plain_bundle` name, and their arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from heartlens.anatomy import heart_region
from heartlens.core.ct import CTVolume
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import Calibration
from heartlens.networks.islands import segment_vessels

PROTOCOL = ScoringProtocol()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def squares(*islands: tuple[slice, slice, slice, float]) -> CTVolume:
    """(5, 80, 80) of the view's own pixels, 2.8 mm, so that nothing is resampled; no heart is seen in it."""
    hu = np.zeros((5, 80, 80), np.int16)
    for k, j, i, value in islands:
        hu[k, j, i] = value
    return CTVolume(hu, np.diag([2.8, 2.8, 3.0, 1.0]))


def name_islands(ct: CTVolume, bundle, networks, *, calibration=None, **more):
    stage = replace(bundle.vessel, calibration=calibration or Calibration())
    return segment_vessels(ct, heart_region(ct), networks.vessel, stage, PROTOCOL, **more)
