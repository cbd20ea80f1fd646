"""What counts as a miss on a real scan: found nothing, named wrong, or called coronary where it is not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from needed import torch  # noqa: F401

from training.evaluate_real import RealScan, evaluate_case

SCAN = RealScan("made up", "none", lad=((0, 4), (0, 4)), not_coronary=(("aortic root", ((4, 8), (0, 4))),))

CLEAN = RealScan("clean", "none")


def case(*labeled: tuple[int, int, int]):
    """A scored case of one slice of 8 x 8 voxels; what is judged of it is two facts."""
    codes = np.zeros((1, 8, 8), np.uint8)
    for row, column, code in labeled:
        codes[0, row, column] = code
    return SimpleNamespace(scored_codes=codes, report=SimpleNamespace(total=SimpleNamespace(agatston=3.0)))


@pytest.mark.parametrize(
    ("scan", "labeled", "misses"),
    [
        (SCAN, [(1, 1, 2)], ()),
        (SCAN, [(1, 1, 2), (5, 1, 5)], ()),
        (SCAN, [], ("calcium of the LAD not found",)),
        (SCAN, [(1, 1, 5)], ("calcium of the LAD not found",)),
        (SCAN, [(1, 1, 4)], ("calcium of the LAD called RCA",)),
        (SCAN, [(1, 1, 2), (5, 1, 2), (5, 2, 1)], ("aortic root called coronary (2 voxels)",)),
        (SCAN, [(1, 1, 2), (6, 6, 3)], ("called coronary elsewhere: LCX (1 voxels)",)),
        (CLEAN, [(6, 6, 5)], ()),
        (CLEAN, [(6, 6, 6)], ("called coronary elsewhere: UNASSIGNED (1 voxels)",)),
    ],
)
def test_misses_are_said_in_words(scan, labeled, misses):
    assert evaluate_case(scan, case(*labeled)).misses == misses
