"""A chest of ellipses whose landmarks are known: 52 slices of 3 mm, 128 x 128 pixels of 2.8 mm, 0 at the aortic root.

Not a phantom for scoring (see heartlens.phantom): every shape here is a formula that a test can check by hand.
"""

from __future__ import annotations

import numpy as np

from heartlens.core.ct import CTHeader, CTVolume

SPACING_MM = (3.0, 2.8, 2.8)
SHAPE = (52, 128, 128)
ORIGIN_MM = (-178.0, -140.0, -90.0)
SPINE_X_MM, SPINE_FRONT_MM = 0.0, 65.0
ROOT_MM = (4.0, 0.0, 0.0)
ROOT_RADIUS_MM = 16.0
DESCENDING_MM, DESCENDING_RADIUS_MM = (25.0, 58.0), 13.0
CARINA_MM = 27.0
BLOOD_HU, FAT_HU, LUNG_HU, AIR_HU = 40.0, -100.0, -850.0, -1000.0


def schematic_chest(*, noise_hu: float = 0.0, blood_hu: float = BLOOD_HU, windpipe: bool = True, add=()) -> CTVolume:
    """The chest, and calcium: `add` holds (x, y, z, radius, HU) balls in LPS mm."""
    k, j, i = np.indices(SHAPE, dtype=np.float32)
    x, y, z = (o + a * s for o, a, s in zip(ORIGIN_MM, (i, j, k), SPACING_MM[::-1], strict=True))
    hu = np.full(SHAPE, AIR_HU, np.float32)
    hu[(x / 165) ** 2 + ((y - 5) / 115) ** 2 < 1] = 45  # body
    for side in (-1, 1):
        hu[((x - side * 68) / 62) ** 2 + ((y - 5) / 95) ** 2 < 1] = LUNG_HU
    hu[(np.abs(x) < 28) & (y > -85) & (y < 100)] = FAT_HU  # mediastinum
    hu[(np.abs(x) < 22) & (y > SPINE_FRONT_MM) & (y < 100)] = 250  # vertebrae
    hu[(np.abs(x) < 18) & (np.abs(y + 96) < 6)] = 250  # sternum
    pericardium = ((x - 25) / 65) ** 2 + ((y + 8) / 56) ** 2 + ((z + 38) / 58) ** 2 < 1
    hu[pericardium] = FAT_HU
    hu[((x - 25) / 55) ** 2 + ((y + 8) / 46) ** 2 + ((z + 44) / 46) ** 2 < 1] = blood_hu  # ventricles and atria
    column = np.hypot(x - ROOT_MM[0], y - ROOT_MM[1])
    hu[(column < ROOT_RADIUS_MM + 7) & (z > -2)] = FAT_HU
    hu[(column < ROOT_RADIUS_MM) & (z > -2)] = blood_hu
    hu[np.hypot(x - DESCENDING_MM[0], y - DESCENDING_MM[1]) < DESCENDING_RADIUS_MM] = blood_hu
    if windpipe:
        hu[(np.hypot(x, y - 44) < 9) & (z > CARINA_MM)] = AIR_HU
    if noise_hu:
        hu += np.random.default_rng(0).normal(0, noise_hu, SHAPE)
    for cx, cy, cz, radius, value in add:
        hu[(x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < radius**2] = value
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = ORIGIN_MM
    header = CTHeader(kvp=120.0, slice_thickness_mm=3.0, kernel="B35f", is_gated=True)
    return CTVolume(np.rint(hu).astype(np.int16), affine, header)


def cropped(ct: CTVolume, rows: slice, columns: slice, slices: slice = slice(None)) -> CTVolume:
    """Part of a CT, in its place."""
    affine = ct.affine.copy()
    start = [part.indices(n)[0] for part, n in zip((slices, rows, columns), ct.shape, strict=True)]
    affine[:3, 3] = ct.lps_mm(start)
    return CTVolume(ct.hu[slices, rows, columns], affine, ct.header)
