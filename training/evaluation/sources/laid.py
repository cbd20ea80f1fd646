"""Plaques of known shape laid into real hearts at marked places, and beside the arteries too.

Only hearts that judge are taken: those that serve as backgrounds for training would be no test. Places are facts that
an engineer noted (`laid_places.json`); the images stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.evaluation.answers import Known, KnownIsland
from training.evaluation.results import Failure
from training.evaluation.sources.hearts import SETS, lidc_scan, nysbu_slices, soft_slices
from training.evaluation.sources.judged import PROTOCOL, JudgedScan, written

PLACES = Path(__file__).with_name("laid_places.json")

BLUR_FWHM_MM = 1.1
"""Of the plaque's image within slices: a standard kernel."""

SUPERSAMPLING = 4

SEEN_SHARE = 0.1
"""A voxel belongs to a plaque that fills at least so much of it."""

CALM_MM = 2.0
"""Sigma of the Gaussian that takes noise away from what a plaque replaces; the noise itself stays on the plaque."""

AIR_HU, BONE_HU = -300.0, 300.0
"""A place whose surroundings are darker, or as bright already, is no artery's."""


@dataclass(frozen=True)
class Shape:
    """An ellipsoid along the artery.

    Parameters
    ----------
    name
        Of its group.
    length_mm, width_mm
        Along the artery within the slice, and across it in both directions.
    hu
        Where nothing blurs it.
    """

    name: str
    length_mm: float
    width_mm: float
    hu: float


SHAPES = (Shape("spot", 3.0, 2.6, 500.0), Shape("plaque", 8.0, 3.6, 700.0), Shape("long", 17.0, 4.4, 900.0))
"""About 5, 25 and 60 mm2 on a slice: one for each bin of size."""


def laid_scans(data: Path, work: Path, places: Path = PLACES) -> Iterator[JudgedScan | Failure]:
    """Every marked heart with each shape at all of its places at once; those beside the arteries are no calcium.

    A heart whose set is not there is a failure with the reason.
    """
    document = json.loads(places.read_text())
    readers = {s.folder: s for s in SETS if s.read in (soft_slices, nysbu_slices, lidc_scan)}
    names = {"real_heart_slices": "heart-{}-soft", "covid19_nysbu_slices": "nysbu-{}", "lidc_idri_0314": "lidc-{}"}
    for folder, source in readers.items():
        marked = {names[h["set"]].format(h["key"]): h["places"] for h in document["hearts"] if h["set"] == folder}
        if not marked:
            continue
        for scan in source.scans(data, work / folder):
            if isinstance(scan, Failure):
                yield Failure(f"plaques laid into {source.name}", scan.reason)
            elif scan.name in marked:
                for shape in SHAPES:
                    yield lay_plaques(scan, marked[scan.name], shape, work)


def lay_plaques(scan: JudgedScan, places: Sequence[dict[str, Any]], shape: Shape, work: Path) -> JudgedScan:
    """A scan with one plaque at each place.

    Parameters
    ----------
    places
        See `laid_places.json`.

    Raises
    ------
    InputRefused
        "input": a place outside of the scan, in air or in bone, by its slice
    """
    hu = scan.ct.hu.astype(np.float64)
    owner, largest = np.full(scan.ct.shape, -1), np.full(scan.ct.shape, SEEN_SHARE)
    for n, place in enumerate(places):
        calm = _check_place(scan, place)
        box, share = plaque_share(scan.ct, place["at"], place["course_deg"], shape)
        hu[box] += share * (shape.hu - calm[box[1:]])
        larger = share >= largest[box]
        owner[box][larger] = n
        largest[box][larger] = share[larger]
    ct = replace(scan.ct, hu=np.rint(hu).clip(-32768, 32767).astype(np.int16))
    owner[ct.hu < PROTOCOL.threshold_hu] = -1
    islands = [
        KnownIsland(place["artery"], np.flatnonzero(owner == n))
        for n, place in enumerate(places)
        if place["artery"] is not None and (owner == n).any()
    ]
    own = [
        scan.known.uncertain,
        *(island.flat for island in scan.known.islands),
    ]  # of the heart itself
    taken = np.flatnonzero(owner >= 0)
    known = Known(tuple(islands), np.setdiff1d(np.unique(np.concatenate(own)), taken))
    name = f"{scan.name}-{shape.name}"
    return JudgedScan(name, written(work, name, ct), ct, known, scan.is_sharp, person=scan.name)


def plaque_share(
    ct: CTVolume, at: Sequence[float], course_deg: float, shape: Shape
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """Which share of each voxel an ellipsoid fills, blurred within slices as a scanner does.

    Parameters
    ----------
    at
        Slice, row and column of its middle.
    course_deg
        Direction of its long axis within the slice, from the left of the person (0) to the back (90).

    Returns
    -------
    box : tuple[slice, ...]
        Slices, rows and columns around it.
    share : NDArray[np.float64]
        (k, j, i) of the voxels in the box
    """
    spacing = np.array(ct.spacing_mm)
    reach = np.ceil((shape.length_mm / 2 + 3.0) / spacing).astype(int)
    low = np.maximum(np.floor(at).astype(int) - reach, 0)
    high = np.minimum(np.floor(at).astype(int) + reach + 1, ct.shape)
    fine = [low[n] - 0.5 + (np.arange((high[n] - low[n]) * SUPERSAMPLING) + 0.5) / SUPERSAMPLING for n in range(3)]
    z, y, x = np.meshgrid(*((fine[n] - at[n]) * spacing[n] for n in range(3)), indexing="ij")
    angle = np.deg2rad(course_deg)
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    inside = (2 * along / shape.length_mm) ** 2 + ((2 * across) ** 2 + (2 * z) ** 2) / shape.width_mm**2 <= 1
    size = high - low
    counted = inside.reshape(size[0], SUPERSAMPLING, size[1], SUPERSAMPLING, size[2], SUPERSAMPLING)
    filled = counted.mean(axis=(1, 3, 5))
    sigma_mm = BLUR_FWHM_MM / np.sqrt(8 * np.log(2))
    share = ndimage.gaussian_filter(filled, (0.0, sigma_mm / spacing[1], sigma_mm / spacing[2]))
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), share


def _check_place(scan: JudgedScan, place: dict[str, Any]) -> NDArray[np.float64]:
    """(j, i) the slice of a place without its noise; refused where no artery can be."""
    k, j, i = (int(v) for v in place["at"])
    what = f"{scan.name}, {place['artery'] or place['what']}, slice {k}: row {j}, column {i}"
    if not all(0 <= index < n for index, n in zip((k, j, i), scan.ct.shape, strict=True)):
        raise InputRefused("input", f"{what} lies outside of the scan, {scan.ct.shape}; mark it anew")
    calm = ndimage.gaussian_filter(scan.ct.hu[k].astype(np.float64), [CALM_MM / mm for mm in scan.ct.spacing_mm[1:]])
    if not AIR_HU <= calm[j, i] <= BONE_HU:
        raise InputRefused("input", f"{what} is air or bone ({calm[j, i]:.0f} HU); mark it anew")
    return calm
