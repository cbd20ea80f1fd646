"""From parameters to a phantom: person, scan, calcium to the asked-for burden, truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.ct import CTHeader, CTVolume
from heartlens.lesions import CORONARY, Artery
from heartlens.phantom.acquisition import digitize, metal_streaks, noise
from heartlens.phantom.anatomy import Anatomy, draw_anatomy
from heartlens.phantom.calcium import Plaque, propose_plaques
from heartlens.phantom.parameters import KERNEL_FWHM_MM, PhantomParameters
from heartlens.phantom.rendering import Grid, render
from heartlens.phantom.shapes import Cloud, splat
from heartlens.phantom.traps import Trap, make_traps
from heartlens.phantom.truth import agatston_per_artery, patch_agatston
from heartlens.protocol import ScoringProtocol

CATEGORY_RANGE = {"1-10": (2.0, 9.5), "11-100": (13.0, 95.0), "101-400": (110.0, 385.0), ">400": (430.0, 1800.0)}
"""Aim within each category, a little inside its borders."""

UID_ROOT = "2.25"


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT with its answer.

    Parameters
    ----------
    ct : the scan
    labels : (k, j, i) uint8, codes of `Artery`; whole islands of the scan at the threshold; traps are OTHER
    truth : {arteries: {LM..RCA: {agatston, agatston_noise_free, mass_mg, plaques}}, traps, parameters}
    """

    ct: CTVolume
    labels: NDArray[np.uint8]
    truth: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Source:
    """What one bright object adds to the image."""

    code: int
    window: tuple[slice, slice, slice]
    image: NDArray[np.float32]
    plaque: Plaque | None = None


def make_phantom(parameters: PhantomParameters) -> Phantom:
    """Build the phantom; the same parameters give the same bits.

    Examples
    --------
    >>> p = PhantomParameters(matrix=64, pixel_mm=3, slice_thickness_mm=10, increment_mm=10, category="0")
    >>> int(make_phantom(p).labels.max())
    0
    """
    anatomy = draw_anatomy(parameters)
    grid = scan_grid(anatomy, parameters)
    fwhm_mm = KERNEL_FWHM_MM[parameters.kernel]
    body = render(anatomy, grid, parameters.slice_thickness_mm, fwhm_mm)
    traps = make_traps(anatomy, parameters.traps, parameters.generator, parameters.kvp)
    streak_rng = parameters.generator("streaks")
    _streaks(body, traps, grid, parameters, streak_rng)
    bone = body >= ScoringProtocol().threshold_hu
    grain = noise(parameters, grid.shape, body)
    sources = []
    for trap in traps:
        source = _image_of(trap.cloud, Artery.OTHER, grid, parameters, fwhm_mm)
        if source is not None:
            sources.append(source)
    sources += _plaques_for_category(anatomy, grid, parameters, fwhm_mm, body, grain)
    for source in sources:
        body[source.window] += source.image
    clean = digitize(body)
    body += grain
    hu = digitize(body)
    ct = CTVolume(hu, _affine(grid), _header(parameters, grid))
    labels = label_islands(hu, sources, bone)
    clean_labels = label_islands(clean, sources, bone)
    scores = agatston_per_artery(ct, labels)
    clean_scores = agatston_per_artery(CTVolume(clean, ct.affine, ct.header), clean_labels)
    truth: dict[str, Any] = {"arteries": {}, "traps": [], "parameters": parameters.to_json()}
    for artery in CORONARY:
        own = [s.plaque for s in sources if s.plaque is not None and s.plaque.artery == artery]
        truth["arteries"][artery.name] = {
            "agatston": scores[artery],
            "agatston_noise_free": clean_scores[artery],
            "mass_mg": float(sum(p.mass_mg for p in own)),
            "plaques": len(own),
        }
    for trap in traps:
        center = trap.cloud.centroid
        index = np.rint(grid.index(center[None])[0]).astype(int)
        in_view = bool(((index >= 0) & (index < grid.shape)).all())
        truth["traps"].append(
            {
                "name": trap.name,
                "kind": trap.kind,
                "centroid_lps_mm": [float(v) for v in grid.table_from_body(center)],
                "in_view": in_view,
                **trap.details,
            }
        )
    return Phantom(ct, labels, truth)


def scan_grid(anatomy: Anatomy, parameters: PhantomParameters) -> Grid:
    """Where the scan lies on the person."""
    rng = parameters.generator("planning")
    heart = anatomy.heart
    if parameters.field_of_view == "heart":
        center = heart.place([20, 2, 6])[:2] + rng.normal(0, 3, 2)
        bottom = min(t.points[:, 2].min() for t in heart.arteries.values()) - 14 + rng.normal(0, 2)
        top = anatomy.airways[1].points[0, 2] + rng.normal(4, 3)
    else:
        center = np.array([0.0, float(rng.normal(8, 4))])
        bottom = min(anatomy.dome_left_mm, anatomy.dome_right_mm) - rng.uniform(45, 70)
        top = anatomy.top_mm + rng.uniform(8, 25)
    shift = anatomy.shift_mm
    turn = np.deg2rad(anatomy.turn_deg)
    table = (
        float(np.cos(turn) * center[0] - np.sin(turn) * center[1] + shift[0]),
        float(np.sin(turn) * center[0] + np.cos(turn) * center[1] + shift[1]),
    )
    slices = max(round((top - bottom) / parameters.increment_mm), 3)
    return Grid(
        (slices, parameters.matrix, parameters.matrix),
        (parameters.increment_mm, *parameters.pixel_mm),
        (round(table[0], 1), round(table[1], 1)),
        round(float(bottom), 1),
        anatomy.turn_deg,
        shift,
    )


def _affine(grid: Grid) -> NDArray[np.float64]:
    dz, dy, dx = grid.spacing_mm
    _, rows, columns = grid.shape
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = [
        round(grid.center_mm[0] - (columns - 1) / 2 * dx, 4),
        round(grid.center_mm[1] - (rows - 1) / 2 * dy, 4),
        grid.bottom_mm,
    ]
    return affine


def _header(parameters: PhantomParameters, grid: Grid) -> CTHeader:
    def uid(*parts: object) -> str:
        digest = hashlib.sha256(repr((parameters, parts)).encode()).digest()
        return f"{UID_ROOT}.{int.from_bytes(digest[:15], 'big')}"

    return CTHeader(
        study_uid=uid("study"),
        series_uid=uid("series"),
        frame_of_reference_uid=uid("frame of reference"),
        sop_instance_uids=tuple(uid("slice", k) for k in range(grid.shape[0])),
        kvp=parameters.kvp,
        slice_thickness_mm=parameters.slice_thickness_mm,
        kernel=parameters.kernel.upper(),
        patient_age_years=float(parameters.age_years),
        patient_sex=parameters.sex,
        is_gated=parameters.is_gated,
        contrast="",
        manufacturer="HeartLens",
        model="Phantom",
        reconstruction_diameter_mm=round(parameters.diameter_mm, 3),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    )


def _image_of(
    cloud: Cloud, code: int, grid: Grid, parameters: PhantomParameters, fwhm_mm: float, plaque: Plaque | None = None
) -> Source | None:
    drawn = splat(
        grid.index(cloud.points),
        cloud.volumes_mm3 * cloud.contrast_hu,
        grid.shape,
        grid.spacing_mm,
        fwhm_mm,
        parameters.slice_thickness_mm,
    )
    return None if drawn is None else Source(int(code), drawn[0], drawn[1], plaque)


def _plaques_for_category(
    anatomy: Anatomy,
    grid: Grid,
    parameters: PhantomParameters,
    fwhm_mm: float,
    body: NDArray[np.float32],
    grain: NDArray[np.float32],
) -> list[Source]:
    """Images of the plaques; with a category, plaques are added until its score is reached."""
    rng = parameters.generator("plaques")

    def images(plaques: list[Plaque]) -> list[Source]:
        drawn = (_image_of(p.cloud, p.artery, grid, parameters, fwhm_mm, p) for p in plaques)
        return [source for source in drawn if source is not None]

    if parameters.category is None:
        return images(propose_plaques(anatomy.heart, rng, parameters.plaques, parameters.kvp))
    if parameters.category == "0":
        return []
    low, high = CATEGORY_RANGE[parameters.category]
    aim = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    kept: list[Source] = []
    total = 0.0
    scale = {"pixel_area_mm2": parameters.pixel_mm[0] * parameters.pixel_mm[1], "increment_mm": parameters.increment_mm}
    for plaque in propose_plaques(
        anatomy.heart, rng, None, parameters.kvp, float(np.clip((aim / 60) ** 0.2, 0.75, 1.7))
    ):
        for shrink in (1.0, 0.6, 0.35, 0.2, 0.1):
            cloud = Cloud(plaque.cloud.points, plaque.cloud.volumes_mm3 * shrink, plaque.cloud.contrast_hu)
            middle = cloud.centroid
            cloud = Cloud(middle + (cloud.points - middle) * shrink ** (1 / 3), cloud.volumes_mm3, cloud.contrast_hu)
            small = Plaque(plaque.artery, cloud, plaque.density_mg_cm3)
            source = _image_of(cloud, small.artery, grid, parameters, fwhm_mm, small)
            if source is None:
                break
            body_patch = body[source.window] + grain[source.window]
            for other in kept:
                _add_overlap(body_patch, source.window, other)
            gain = patch_agatston(body_patch + source.image, **scale) - patch_agatston(body_patch, **scale)
            if 0 < gain <= min(aim * 1.15, high) - total:
                kept.append(source)
                total += gain
                break
        if total >= aim * 0.9:
            break
    return kept


def _add_overlap(patch: NDArray, window: tuple[slice, ...], other: Source) -> None:
    here, there = [], []
    for a, b in zip(window, other.window, strict=True):
        low, high = max(a.start, b.start), min(a.stop, b.stop)
        if low >= high:
            return
        here.append(slice(low - a.start, high - a.start))
        there.append(slice(low - b.start, high - b.start))
    patch[tuple(here)] += other.image[tuple(there)]


def _streaks(
    body: NDArray[np.float32], traps: list[Trap], grid: Grid, parameters: PhantomParameters, rng: np.random.Generator
) -> None:
    strength = {"pacing_wire": 260.0, "stent": 90.0, "sternal_wire": 130.0}
    for trap in traps:
        if not trap.metal:
            continue
        index = grid.index(trap.cloud.points)
        for k in np.unique(np.rint(index[:, 0]).astype(int)):
            if 0 <= k < grid.shape[0]:
                here = index[np.abs(index[:, 0] - k) < 0.75, 1:]
                if len(here):
                    metal_streaks(body[k], here.mean(0)[None], parameters.pixel_mm, rng, strength[trap.kind])


def label_islands(hu: NDArray[np.int16], sources: list[Source], bone: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Whole islands at the threshold that a bright object caused, each with one code.

    An island takes the code of the object that brings it the most HU. One that is mostly bone of the skeleton stays
    without a code: a trap that grew into a rib is part of the rib.
    """
    threshold = ScoringProtocol().threshold_hu
    labels = np.zeros(hu.shape, np.uint8)
    if not sources:
        return labels
    islands, count = ndimage.label(hu >= threshold, np.ones((3, 3, 3), int))
    caused = np.zeros((count + 1, max(Artery) + 1))
    for source in sources:
        here = islands[source.window]
        bright = (here > 0) & (source.image >= 30)
        caused[:, source.code] += np.bincount(here[bright], source.image[bright], count + 1)
    hit = np.flatnonzero(caused.any(1))
    if hit.size == 0:
        return labels
    sizes = np.bincount(islands.reshape(-1), minlength=count + 1)
    skeleton = np.bincount(islands[bone], minlength=count + 1)
    code = np.zeros(count + 1, np.uint8)
    code[hit] = caused[hit].argmax(1)
    code[skeleton > 0.5 * sizes] = 0
    code[0] = 0
    return code[islands]
