"""Scans of islands whose place says their artery, and whose features say it to a network that may have it wrong."""

from __future__ import annotations

import numpy as np
from needed import torch
from torch import nn

from training.adaptation.islands import PLACE, ScanIslands

CLASSES = ("none", "LM", "LAD", "LCX", "RCA", "OTHER")
FITS = [PLACE.index(f"fit_{name}") for name in CLASSES[1:5]]
AT_MM = {1: (20, 0, 0), 2: (40, -40, -20), 3: (40, 30, -15), 4: (-20, -30, -25), 0: (0, 60, -60), 5: (0, 10, -10)}


def scan(seed: int, islands: int = 24) -> ScanIslands:
    """One voxel an island; its features are its class, one hot, and its place fits the course of that artery."""
    rng = np.random.default_rng([seed, 99])
    code = rng.permutation(np.resize([0, 0, 0, 1, 2, 2, 3, 4, 5], islands))
    place = rng.normal(0, 0.3, (islands, len(PLACE))).astype(np.float32)
    place[:, FITS] = -6
    place[:, PLACE.index("in_zone")] = 1
    place[:, PLACE.index("rules")] = np.where((code > 0) & (code < 5), 0.8, 0.0)
    coronary = np.flatnonzero((code > 0) & (code < 5))
    place[coronary, np.array(FITS)[code[coronary] - 1]] = -0.2
    center = np.array([AT_MM[int(c)] for c in code], float) + rng.normal(0, 3, (islands, 3))
    place[:, :3] = center / 30
    features = np.eye(len(CLASSES), dtype=np.float32)[code]
    return ScanIslands(features, np.arange(islands), place, center, code)


def head(wrong: dict[int, int] | None = None, sure: float = 3.0) -> nn.Conv2d:
    """A last layer that says of each class what it is, but for those that it takes for another."""
    layer = nn.Conv2d(len(CLASSES), len(CLASSES), 1)
    weight = torch.zeros(len(CLASSES), len(CLASSES))
    for true in range(len(CLASSES)):
        weight[(wrong or {}).get(true, true), true] = sure
    with torch.no_grad():
        layer.weight.copy_(weight[:, :, None, None])
        layer.bias.zero_()
    return layer
