"""Plaques along the marked courses of real hearts, and the real things at or above 130 HU that are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens import __version__
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.phantom.body.shapes import Cloud, Tube, splat
from heartlens.phantom.calcium.disease import propose_disease
from heartlens.phantom.calcium.plaques import MOBILITY, path_mm
from heartlens.phantom.image.edges import STAR_MM, STAR_REACH_MM, overshoot, star, widened
from heartlens.phantom.image.scan import Source
from heartlens.phantom.parameters import KERNEL_FWHM_MM
from heartlens.phantom.scan import label_islands
from training.datasets.backgrounds.marks import Mark, check_course, skeleton
from training.datasets.scans import LabeledScan
from training.datasets.sources import pseudonym

SOURCE = "background"

RADII_MM = {Artery.LM: (2.2, 2.1), Artery.LAD: (1.8, 1.0), Artery.LCX: (1.6, 0.9), Artery.RCA: (1.9, 1.4)}
"""Of the lumen at both ends of a course, as in the phantom."""

SHIFT_MM = 1.0
"""Standard deviation of a shift of all courses: marks are exact to about 3 mm, and none is to be learned by heart."""

SHARP_MM = 1.0
"""Blur below which a kernel counts as sharp."""

AWAY_MM = 8.0
"""A decoy lies so far from every marked point, and where no fat is near: unmarked arteries run in fat."""


def inserted(mark: Mark, ct: CTVolume, draw: int) -> LabeledScan:
    """The background with calcium of one draw; the same draw gives the same bits.

    Draws differ in calcium, noise, and how soft or sharp the image is. One in six has no coronary calcium.

    Parameters
    ----------
    mark
        Where the arteries run.
    ct
        The scan, whole or cut.
    draw
        0 or more
    """
    rng = np.random.default_rng([draw, *mark.name.encode()])
    body, fwhm_mm, edge = _look(ct, mark.fwhm_mm, rng)
    bone = skeleton(ct)
    shift = rng.normal(0, SHIFT_MM, 3) * (1, 1, 0 if ct.shape[0] == 1 else 1)
    tubes, usable, notes = _courses(mark, ct, shift)
    travel_mm = float(rng.uniform(0, 6) * (rng.random() < 0.6))
    sources: list[Source] = []
    wanted = 0 if rng.random() < 1 / 6 else int(np.ceil(rng.lognormal(0.9, 0.8)))
    size = float(rng.uniform(0.75, 1.6))
    for plaque in propose_disease(tubes, (), rng, None, ct.header.kvp or 120.0, size):
        if len(sources) >= wanted:
            break
        tube = tubes[plaque.artery]
        if not usable[plaque.artery][np.linalg.norm(tube.points - plaque.cloud.centroid, axis=1).argmin()]:
            continue
        moves = MOBILITY[plaque.artery] * travel_mm
        source = _image(ct, plaque.cloud, int(plaque.artery), fwhm_mm, moves, edge, rng)
        if source is not None:
            sources.append(source)
    taken = np.concatenate([t.points for t in tubes.values()]) if tubes else np.zeros((0, 3))
    sources += _decoys(ct, taken, fwhm_mm, edge, rng)
    for source in sources:
        body[source.window] += source.image
    hu = np.clip(np.rint(body), -1024, 3071).astype(np.int16)
    labels = label_islands(hu, sources, bone, divided=True)
    labels = _with_real_negatives(CTVolume(hu, ct.affine, ct.header), labels, bone)
    return LabeledScan(
        name=f"{SOURCE}/{mark.name}/{draw}",
        patient=pseudonym(SOURCE, mark.person),
        source=SOURCE,
        ct=CTVolume(hu, ct.affine, ct.header),
        labels=labels,
        notes=notes,
        provenance={
            "made_by": "plaques inserted into a real scan",
            "version": __version__,
            "background": mark.name,
            "licence": mark.licence,
            "attribution": mark.attribution,
            "marked_on_sha256": mark.sha256,
            "draw": draw,
        },
    )


def _look(ct: CTVolume, fwhm_mm: float, rng: np.random.Generator) -> tuple[NDArray[np.float32], float, float]:
    """The image softer, as it is, or sharper, with more noise or none; its blur now, and its overshoot."""
    body = ct.hu.astype(np.float32)
    pixel = ct.spacing_mm[1:]
    edge = 0.0
    way = rng.random()
    # Sharp kernels are softened before the networks see them, so that most draws of one are soft.
    if way < (0.3 if fwhm_mm >= SHARP_MM else 0.75):
        sigma_mm = float(rng.uniform(0.4, 1.2))
        body = ndimage.gaussian_filter(body, (0.0, sigma_mm / pixel[0], sigma_mm / pixel[1]), mode="nearest")
        fwhm_mm = float(np.hypot(fwhm_mm, 2.3548 * sigma_mm))
    elif way < 0.5 and fwhm_mm >= SHARP_MM:
        edge = float(rng.uniform(0.1, 0.5))
        body = overshoot(body, edge, (pixel[0], pixel[1]))
    if rng.random() < 0.5:
        grain = rng.standard_normal(body.shape, np.float32)
        grain = ndimage.gaussian_filter(grain, (0.0, 0.45 / pixel[0], 0.45 / pixel[1]), mode="nearest")
        body += grain / max(float(grain.std()), 1e-6) * np.float32(rng.uniform(2, 12))
    return body, max(fwhm_mm, min(KERNEL_FWHM_MM.values())), edge


def _courses(
    mark: Mark, ct: CTVolume, shift: NDArray[np.float64]
) -> tuple[dict[Artery, Tube], dict[Artery, NDArray[np.bool_]], tuple[str, ...]]:
    """Courses as tubes, which of their points may take a plaque, and what was refused of them, slice by slice."""
    tubes, usable, notes = {}, {}, []
    for artery, knots in mark.courses.items():
        low, high = RADII_MM[artery]
        tube = Tube.through(knots + shift, np.linspace(low, high, len(knots)), 1.0)
        fine, refused = check_course(ct, tube.points)
        reasons: dict[str, set[int]] = {}
        for k, why in refused:
            reasons.setdefault(why, set()).add(k)
        notes += [
            f"{artery.name} {why} on slices {', '.join(map(str, sorted(ks)))}: nothing laid there"
            for why, ks in sorted(reasons.items())
        ]
        if fine.any():
            tubes[artery], usable[artery] = tube, fine
    return tubes, usable, tuple(notes)


def _image(
    ct: CTVolume, cloud: Cloud, code: int, fwhm_mm: float, travel_mm: float, edge: float, rng: np.random.Generator
) -> Source | None:
    if travel_mm:
        cloud = cloud.moving(path_mm(travel_mm, rng))
    thickness_mm = ct.header.slice_thickness_mm or ct.spacing_mm[0]
    amounts = cloud.volumes_mm3 * cloud.contrast_hu
    drawn = splat(ct.index_kji(cloud.points), amounts, ct.shape, ct.spacing_mm, fwhm_mm, thickness_mm)
    if drawn is None:
        return None
    window, image = drawn
    pixel = (ct.spacing_mm[1], ct.spacing_mm[2])
    if travel_mm > STAR_MM:
        window, image = widened(window, image, ct.shape, round(STAR_REACH_MM / min(pixel)))
        image = star(image, rng, pixel, travel_mm)
    if edge:
        window, image = widened(window, image, ct.shape, round(4 / min(pixel)))
        image = overshoot(image, edge, pixel)
    return Source(code, window, image)


def _decoys(
    ct: CTVolume, taken: NDArray[np.float64], fwhm_mm: float, edge: float, rng: np.random.Generator
) -> list[Source]:
    """Things like plaques inside chambers, muscle and great vessels: what was laid does not tell what is coronary."""
    wanted = int(rng.integers(0, 6))
    near_mm = 45.0
    middle = taken.mean(0) if len(taken) else ct.lps_mm((np.array(ct.shape) - 1) / 2)
    size = [1, *(max(round(7 / d), 1) for d in ct.spacing_mm[1:])]
    sources: list[Source] = []
    for _ in range(wanted * 12):
        if len(sources) >= wanted:
            break
        place = middle + rng.uniform(-near_mm, near_mm, 3) * (1, 1, 0 if ct.shape[0] == 1 else 1)
        k, j, i = np.rint(ct.index_kji(place)).astype(int).tolist()
        window = tuple(slice(max(c - s // 2, 0), c + s // 2 + 1) for c, s in zip((k, j, i), size, strict=True))
        if min(k, j, i) < 0 or k >= ct.shape[0] or j >= ct.shape[1] or i >= ct.shape[2]:
            continue
        patch = ndimage.uniform_filter(ct.hu[window].astype(np.float32), (0, 3, 3), mode="nearest")
        if patch.min() < 5 or patch.max() > 120:
            continue
        if len(taken) and np.linalg.norm(taken - place, axis=1).min() < AWAY_MM:
            continue
        along = rng.normal(size=3)
        stump = Tube(place + np.linspace(-8, 8, 17)[:, None] * along / np.linalg.norm(along), np.full(17, 1.5))
        plaque = next(
            propose_disease({Artery.LAD: stump}, (), rng, None, ct.header.kvp or 120.0, rng.uniform(0.7, 1.4))
        )
        cloud = plaque.cloud
        cloud = replace(cloud, points=cloud.points - cloud.centroid + place)
        source = _image(ct, cloud, int(Artery.OTHER), fwhm_mm, 0.0, edge, rng)
        if source is not None:
            sources.append(source)
    return sources


def _with_real_negatives(ct: CTVolume, labels: NDArray[np.uint8], bone: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Every island of a slice, 1 mm2 or more, that nobody laid and that is no bone, as OTHER."""
    rest = (ct.hu >= 130) & (labels == 0) & ~bone
    flat = np.zeros((3, 3, 3))
    flat[1] = 1
    islands, count = ndimage.label(rest, flat)
    area = np.bincount(islands.reshape(-1), minlength=count + 1) * ct.pixel_area_mm2
    touches_bone = np.zeros(count + 1, bool)
    touches_bone[np.unique(islands[ndimage.binary_dilation(bone, flat)])] = True
    is_other = (area >= 1.0) & ~touches_bone
    is_other[0] = False
    return np.where(is_other[islands], np.uint8(Artery.OTHER), labels).astype(np.uint8)
