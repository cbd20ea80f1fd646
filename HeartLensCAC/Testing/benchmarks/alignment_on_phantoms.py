"""How well the heart of one scan is laid on that of another, on phantoms that turned, moved and got new noise.

`python HeartLensCAC/Testing/benchmarks/alignment_on_phantoms.py` prints the figures of docs/method.md, section 13.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from heartlens.anatomy import HeartRegion, heart_region
from heartlens.anatomy.alignment.rigid import Alignment, align_hearts
from heartlens.core.ct import CTVolume
from heartlens.phantom import PhantomParameters, make_phantom

FIRST_SEED = 870_000
"""Of the phantoms; no other purpose has these."""

SCANS = tuple((field, slice_mm) for field in ("heart", "chest") for slice_mm in (2.5, 3.0))
"""Field of view and slice thickness, in turn."""

MOST_TURN_DEG, MOST_SHIFT_MM, NOISE_HU = 6.0, 20.0, 12.0
"""About and along each axis; and standard deviation of the noise that is added."""


def scan_of(seed: int, number: int) -> CTVolume:
    """A phantom, slices without a gap."""
    field, slice_mm = SCANS[number % len(SCANS)]
    drawn = PhantomParameters.random(
        seed, matrix=144, field_of_view=field, slice_thickness_mm=slice_mm, increment_mm=slice_mm
    )
    return make_phantom(drawn).ct


def scanned_again(ct: CTVolume, rng: np.random.Generator) -> tuple[CTVolume, Alignment]:
    """The same body in another place, and how it truly got there."""
    turn = Rotation.from_euler("xyz", rng.uniform(-MOST_TURN_DEG, MOST_TURN_DEG, 3), degrees=True).as_matrix()
    middle = ct.lps_mm(np.array(ct.shape) / 2)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle - turn @ middle + rng.uniform(-MOST_SHIFT_MM, MOST_SHIFT_MM, 3)
    truth = Alignment(matrix, 1.0, 1.0, 0.0)
    places = ct.lps_mm(np.stack(np.indices(ct.shape, dtype=np.float32), axis=-1).reshape(-1, 3))
    hu = ndimage.map_coordinates(ct.hu.astype(np.float32), ct.index_kji(truth.back(places)).T, order=1, cval=-1000)
    hu = hu.reshape(ct.shape) + rng.normal(0, NOISE_HU, ct.shape)
    return CTVolume(np.rint(hu).astype(np.int16), ct.affine, ct.header), truth


def heart_places(region: HeartRegion) -> NDArray[np.float64]:
    """(n, 3) LPS of the blocks of the heart."""
    k, j, i = np.nonzero(region.heart)
    return np.stack([region.grid.x_mm[i], region.grid.y_mm[j], region.grid.z_mm[k]], axis=1)


def main() -> None:
    """Print a line for each phantom, and one for all pairs of two people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=6, help="how many phantoms")
    options = parser.parse_args()
    regions = []
    for number in range(options.count):
        seed = FIRST_SEED + number
        ct = scan_of(seed, number)
        later, truth = scanned_again(ct, np.random.default_rng([seed, 78]))
        region = heart_region(ct)
        regions.append(region)
        aligned = align_hearts(region, heart_region(later))
        if aligned is None:
            print(f"{seed}: not aligned")
            continue
        places = heart_places(region)
        off_mm = np.linalg.norm(aligned.moved(places) - truth.moved(places), axis=1)
        print(
            f"{seed}: turned by {truth.turn_deg:.1f} degrees; off by {off_mm.mean():.2f} mm in the mean, "
            f"{off_mm.max():.2f} at most; correlation {aligned.correlation:.3f}; "
            f"came back to within {aligned.inconsistency_mm:.2f} mm",
            flush=True,
        )
    strangers = [align_hearts(a, b) for a, b in combinations(regions, 2)]
    known = sorted(one.correlation for one in strangers if one is not None)
    print(
        f"{len(strangers)} pairs of two people: {len(strangers) - len(known)} not aligned; "
        f"correlation {known[0]:.3f} to {known[-1]:.3f}"
    )


if __name__ == "__main__":
    main()
