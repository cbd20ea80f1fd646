"""Phantoms of the own generator, as drawn and outside of what is drawn: nearer decoys, other hearts, worse images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from training.datasets.phantom_sets import SHIFTED, SHIFTED_OF_A_SET, TEST, Seeds
from training.evaluation.answers import known_islands
from training.evaluation.sources.judged import PROTOCOL, JudgedScan, written
from training.evaluation.sources.kernels import SharpKernel
from training.evaluation.sources.phantoms import make_phantoms

OVERSHOOT = SharpKernel(boost=4.0, sigma_mm=0.6)
"""A kernel beyond those of the generator, none of which overshoots. About as strong as a lung kernel; the one that is
fitted to a real scan serves the pairs of real images."""

DECOYS_WITHIN_MM = 8.0
"""The generator keeps decoys 6.5 mm and half their length away; here their surface lies 2 mm to so far off."""


def drawn(seed: int) -> dict[str, Any]:
    """Nothing is changed: new seeds of the sets that calibrate and test."""
    return {}


def near_decoys(seed: int) -> dict[str, Any]:
    """Decoys beside the arteries, as many as there is room for in a burden of 101 to 400."""
    return {"decoys_within_mm": DECOYS_WITHIN_MM, "matched_burden": "101-400"}


def other_hearts(seed: int) -> dict[str, Any]:
    """Turned by 12 to 20 degrees (drawn: up to 9), shifted by 12 to 22 mm (9), and smaller or larger.

    Sizes are 0.80 to 0.87 or 1.15 to 1.25 of the usual one (drawn: 0.9 to 1.12).
    """
    rng = np.random.default_rng([seed, 7])
    sign = rng.choice((-1.0, 1.0), 3)
    scale = rng.uniform(0.80, 0.87) if rng.random() < 0.5 else rng.uniform(1.15, 1.25)
    return {
        "heart_turn_deg": (float(sign[0] * rng.uniform(12, 20)), float(sign[1] * rng.uniform(12, 20))),
        "heart_shift_mm": float(sign[2] * rng.uniform(12, 22)),
        "heart_scale": float(scale),
    }


def worse_images(seed: int) -> dict[str, Any]:
    """Noise of 28 to 40 HU (drawn: up to 27), 10 to 15 mm of motion (9), the sharpest kernel."""
    rng = np.random.default_rng([seed, 8])
    return {
        "noise_hu": float(rng.uniform(28, 40)),
        "motion_mm": float(rng.uniform(10, 15)),
        "is_gated": False,
        "kernel": "sharp",
    }


@dataclass(frozen=True)
class ShiftedSet:
    """Phantoms that differ from the drawn ones in one way.

    Parameters
    ----------
    name
        Of its group in tables, and of its folder.
    overrides
        Parameters of a seed.
    kernel
        Applied to the finished image; None leaves it.
    like
        Name of the set whose phantoms are altered; its own where that is empty.
    seeds
        Of the phantoms; None where the set has its share of `SHIFTED`.
    """

    name: str
    overrides: Callable[[int], Mapping[str, Any]]
    kernel: SharpKernel | None = None
    like: str = ""
    seeds: Seeds | None = None

    def scans(self, cache: Path, work: Path, count: int, *, matrix: int | None = None) -> Iterator[JudgedScan]:
        """The first phantoms of the set.

        Parameters
        ----------
        cache
            Keeps phantoms from one run to the next.
        work
            Folder for files that have to be made.
        count
            At most as many as the set has seeds.
        matrix
            Rows and columns, for a quick trial.
        """
        own = self.like or self.name
        seeds = self.seeds or _share_of(own)
        if not 1 <= count <= seeds.count:
            raise ValueError(f"a set has 1 to {seeds.count} phantoms, got {count}")
        work.mkdir(parents=True, exist_ok=True)
        folder = cache / own.replace(" ", "-").replace(",", "")
        overrides: Callable[[int], Mapping[str, Any]] = self.overrides
        if matrix is not None:
            folder, overrides = folder / str(matrix), _Smaller(self.overrides, matrix)
        for phantom in make_phantoms(folder, seeds.range[:count], overrides=overrides):
            ct, codes = phantom.read()
            name, source = f"phantom-{phantom.seed}", phantom.scan
            if self.kernel is not None:
                ct = self.kernel.applied(ct)
                codes = relabeled(ct, codes)
                source = written(work, name, ct)
            yield JudgedScan(name, source, ct, known_islands(ct, codes, PROTOCOL), self.kernel is not None)


@dataclass(frozen=True)
class _Smaller:
    """Overrides of a quick trial; an object, so that other processes can be given it."""

    overrides: Callable[[int], Mapping[str, Any]]
    matrix: int

    def __call__(self, seed: int) -> Mapping[str, Any]:
        return {**self.overrides(seed), "matrix": self.matrix}


SHIFTED_SETS = (
    ShiftedSet("own phantoms, as drawn", drawn),
    ShiftedSet("own phantoms, decoys near arteries", near_decoys),
    ShiftedSet("own phantoms, other hearts", other_hearts),
    ShiftedSet("own phantoms, noise and motion", worse_images),
    ShiftedSet("own phantoms, kernel that overshoots", drawn, OVERSHOOT, like="own phantoms, as drawn"),
)

TEST_SET = ShiftedSet("own phantoms, test range", drawn, seeds=TEST)
"""The phantoms of the published figures (`training.evaluate_phantoms`), here by what the report says of them."""


def _share_of(name: str) -> Seeds:
    number = [s.name for s in SHIFTED_SETS].index(name)
    return Seeds(SHIFTED.first + SHIFTED_OF_A_SET * number, SHIFTED_OF_A_SET)


def relabeled(ct: CTVolume, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whole islands of an altered image, each with the code that most of its labeled voxels had before.

    Parameters
    ----------
    labels
        (k, j, i) `Artery` codes of islands before the image was altered
    """
    islands, count = ndimage.label(ct.hu >= PROTOCOL.threshold_hu, np.ones((3, 3, 3), int))
    votes = np.stack([np.bincount(islands[labels == code], minlength=count + 1) for code in range(1, max(Artery) + 1)])
    code = np.where(votes.any(axis=0), votes.argmax(axis=0) + 1, 0).astype(np.uint8)
    code[0] = 0
    return code[islands]
