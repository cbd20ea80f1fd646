"""One case of the second family: a person and a scan, drawn from a seed, with what is true of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import CORONARY, LesionMap
from heartlens.core.protocol import ScoringProtocol
from training.evaluation.second_family.calcium import draw_plaques
from training.evaluation.second_family.chest import AIR_HU, draw_chest
from training.evaluation.second_family.coronaries import draw_courses
from training.evaluation.second_family.heart import draw_heart
from training.evaluation.second_family.painting import Layers, Person, Slabs, paint
from training.evaluation.second_family.projection import Geometry, geometry_of
from training.evaluation.second_family.published import SPEEDS_MM_S
from training.evaluation.second_family.scanner import Beam, Kernel, Motion, image, mean_shift_mm
from training.evaluation.second_family.traps import draw_traps
from training.evaluation.second_family.truth import BONE, NAMES, artery_scores, name_islands

PROTOCOL = ScoringProtocol()

LARGEST_HU = 3071


@dataclass(frozen=True)
class Size:
    """How finely a case is made; the person of a seed is the same in all.

    Parameters
    ----------
    pixels, pitch_mm, padded, views
        Of the scanner's `Geometry`.
    matrix
        Rows and columns of the images.
    thick_mm
        Slice thickness; None draws it.
    """

    pixels: int
    pitch_mm: float
    padded: int
    views: int
    matrix: int
    thick_mm: float | None = None

    @property
    def geometry(self) -> Geometry:
        """Shared within a process."""
        return geometry_of(self.pixels, self.pitch_mm, self.padded, self.views)


SIZES = {"full": Size(608, 0.68, 1024, 480, 512), "small": Size(216, 1.92, 384, 160, 192, 6.0)}


class Case(NamedTuple):
    """A scan and what is true of it.

    Parameters
    ----------
    ct
        The scan.
    lesions
        Its islands >= 130 HU that deposits made, named; what is not coronary is OTHER.
    truth
        JSON: scores by artery with and without noise, what was laid, and how it was scanned.
    """

    ct: CTVolume
    lesions: LesionMap
    truth: dict[str, Any]


@dataclass(frozen=True)
class Scan:
    """How a person is scanned.

    Parameters
    ----------
    kvp
        Tube voltage, kV.
    kernel
        Of the reconstruction.
    noise_hu
        In the middle of the heart.
    thickness_mm, increment_mm
        Of the slices.
    bottom_mm, top_mm
        Range of the slices' middles, from the aortic annulus.
    field_mm
        Side of the images.
    center_mm
        (x, y) of the images' middle.
    isocenter_mm
        (x, y) of the scanner's.
    is_gated
        Taken when the heart rests.
    restlessness
        How far the heart swings, as a part of its whole swing.
    """

    kvp: float
    kernel: Kernel
    noise_hu: float
    thickness_mm: float
    increment_mm: float
    bottom_mm: float
    top_mm: float
    field_mm: float
    center_mm: tuple[float, float]
    isocenter_mm: tuple[float, float]
    is_gated: bool
    restlessness: float


def make_case(seed: int, *, size: str = "full") -> Case:
    """The case of a seed.

    Parameters
    ----------
    seed
        Decides everything.
    size
        One of `SIZES`: "full" as scanners give it, "small" for quick tests.
    """
    form = SIZES[size]
    of_body, of_scan, of_photons = (np.random.default_rng([seed, n]) for n in (1, 2, 3))
    is_woman, age = bool(of_body.uniform() < 0.45), int(of_body.integers(42, 84))
    person = draw_person(of_body, is_woman=is_woman)
    scan = draw_scan(of_scan, person)
    if form.thick_mm is not None:
        scan = replace(scan, thickness_mm=form.thick_mm, increment_mm=form.thick_mm)
    z_mm = np.arange(scan.bottom_mm, scan.top_mm, scan.increment_mm)
    motion = draw_motion(of_scan, scan, len(z_mm))
    geometry = form.geometry
    x_mm, y_mm = (geometry.axis_mm + c for c in scan.isocenter_mm)
    slabs = Slabs(z_mm, scan.thickness_mm, 2 if scan.thickness_mm < 2 else 6 if scan.thickness_mm > 4 else 4)
    layers = paint(person, x_mm, y_mm, slabs, moves=bool(motion.phase))
    has_coronary = np.zeros(len(z_mm), bool)
    for (artery, _), volume in layers.deposits.items():
        if artery in CORONARY:
            has_coronary |= volume.any(axis=(1, 2))
    hu, clean = image(
        layers, geometry, scan.kernel, Beam(scan.kvp), scan.noise_hu, motion, of_photons, has_coronary
    )  # fmt: skip
    to_rows, to_columns = (_resampling(axis, _pixels(scan, form, n)) for n, axis in ((1, y_mm), (0, x_mm)))
    header = CTHeader(
        kvp=scan.kvp, slice_thickness_mm=scan.thickness_mm, kernel=scan.kernel.name, patient_age_years=float(age),
        patient_sex="F" if is_woman else "M", is_gated=scan.is_gated, contrast="",
    )  # fmt: skip
    pixel = scan.field_mm / form.matrix
    affine = np.diag([pixel, pixel, scan.increment_mm, 1.0])
    affine[:3, 3] = (_pixels(scan, form, 0)[0], _pixels(scan, form, 1)[0], z_mm[0])
    ct = CTVolume(_to_hu(hu, to_rows, to_columns), affine, header)
    still = np.full(ct.shape, int(AIR_HU), np.int16)
    for k, plane in clean.items():
        still[k] = _to_hu(plane[None], to_rows, to_columns)[0]
    still_ct = CTVolume(still, affine, header)
    added = _added(layers, motion, scan, geometry, to_rows, to_columns)
    lesions, still_lesions = (name_islands(c, _at_candidates(added, c), PROTOCOL) for c in (ct, still_ct))
    scores, still_scores = (artery_scores(c, of, PROTOCOL) for c, of in ((ct, lesions), (still_ct, still_lesions)))
    truth = {
        "made_by": "second family",
        "seed": seed,
        "arteries": {n: {"agatston": scores[n], "agatston_noise_free": still_scores[n]} for n in scores},
        "agatston": sum(scores.values()),
        "agatston_noise_free": sum(still_scores.values()),
        "deposits": [
            {"kind": d.kind, "artery": d.artery.name, "hu": round(d.hu), "balls": len(d.radii)} for d in person.deposits
        ],
        "person": {"age_years": age, "sex": header.patient_sex, "heart_scale": person.heart.scale},
        "parameters": asdict(scan) | {"matrix": form.matrix, "slices": len(z_mm), "pixel_mm": pixel},
    }
    return Case(ct, lesions, truth)


def draw_person(rng: np.random.Generator, *, is_woman: bool) -> Person:
    """A person of one sex."""
    heart = draw_heart(rng, is_woman=is_woman)
    chest = draw_chest(rng, is_woman=is_woman, scale=heart.scale, front_mm=heart.front_mm)
    courses = draw_courses(rng, heart)
    plaques, traps = draw_plaques(rng, courses), draw_traps(rng, heart, courses)
    return Person(heart, chest, tuple(courses), (*plaques, *traps))


KERNELS = (
    (0.45, "Br36", (0.30, 0.40), (0.0, 0.12), (0.22, 0.30), (1.9, 2.4)),
    (0.38, "Br44", (0.38, 0.47), (0.1, 0.45), (0.28, 0.36), (2.2, 3.0)),
    (0.17, "Br59", (0.47, 0.55), (0.8, 1.9), (0.36, 0.46), (3.0, 4.5)),
)
"""How often, a name, and the ranges of half frequency, boost, boosted frequency (line pairs per mm) and order.

Soft, standard and sharp body kernels, whose published 50 % points lie near 0.3, 0.45 and 0.7 line pairs per mm with
the boost: Paruccini et al., Phys Med 2017, 38:46, and data sheets of the vendors.
"""


def draw_scan(rng: np.random.Generator, person: Person) -> Scan:
    """How a person is scanned: most as for calcium, some as any chest."""
    row = KERNELS[int(rng.choice(len(KERNELS), p=[k[0] for k in KERNELS]))]
    kernel = Kernel(row[1], *(float(rng.uniform(*between)) for between in row[2:]))
    is_gated = bool(rng.uniform() < 0.6)
    thick, step = ((3.0, 3.0), (2.5, 2.5), (3.0, 1.5), (5.0, 5.0), (1.0, 1.0))[
        int(rng.choice(5, p=[0.50, 0.32, 0.04, 0.09, 0.05]))
    ]
    narrow = rng.uniform() < 0.5
    field = rng.uniform(182, 262) if narrow else rng.uniform(320, 382)
    iso = (person.chest.middle[0] + rng.normal(0, 5), person.chest.middle[1] + 4 + rng.normal(0, 6))
    center = (14 + rng.normal(0, 5), 2 + rng.normal(0, 5)) if narrow else iso
    scale = person.heart.scale
    sharp = 1.0 + 0.8 * kernel.boost
    return Scan(
        kvp=float(rng.choice([100, 110, 120, 130, 140], p=[0.08, 0.05, 0.75, 0.07, 0.05])), kernel=kernel,
        noise_hu=float(np.clip(rng.lognormal(np.log(14), 0.38), 6, 30) * sharp * (1.25 if thick < 2 else 1)),
        thickness_mm=thick, increment_mm=step,
        bottom_mm=-scale * rng.uniform(70, 82), top_mm=scale * rng.uniform(36, 62),
        field_mm=float(field), center_mm=(float(center[0]), float(center[1])),
        isocenter_mm=(float(iso[0]), float(iso[1])),
        is_gated=is_gated, restlessness=float(rng.uniform(0, 0.12) if is_gated else rng.uniform(0.12, 0.5)),
    )  # fmt: skip


def draw_motion(rng: np.random.Generator, scan: Scan, slices: int) -> Motion:
    """How the heart beats while it is scanned; a twentieth of the swing and less counts as rest."""
    cycle_s = rng.uniform(0.75, 1.05)
    reach = {n: s.draw(rng) * cycle_s / 4 * scan.restlessness for n, s in SPEEDS_MM_S.items()}
    reach["heart"] = reach["LAD"]
    angle = {"RCA": rng.normal(20, 25), "LCX": rng.normal(70, 25), "LAD": rng.normal(60, 30)}
    angle["heart"] = angle["LAD"]
    together = int(rng.integers(1, 9))  # slices taken in one rotation
    phase = np.repeat(rng.uniform(0, 1, slices), together)[:slices]
    if scan.is_gated:
        phase = rng.uniform(0, 1) + rng.normal(0, 0.04, slices)
    if scan.restlessness < 0.05:
        return Motion()
    direction = {n: (float(np.cos(np.radians(a))), float(np.sin(np.radians(a)))) for n, a in angle.items()}
    return Motion(reach, direction, tuple(float(p) for p in phase))


def _pixels(scan: Scan, form: Size, axis: int) -> NDArray[np.floating]:
    """(matrix,) position of the images' columns, axis 0, or rows."""
    pixel = scan.field_mm / form.matrix
    return scan.center_mm[axis] + (np.arange(form.matrix) - (form.matrix - 1) / 2) * pixel


def _resampling(have_mm: NDArray[np.floating], want_mm: NDArray[np.floating]) -> NDArray[np.float32]:
    """(want, have) weights that interpolate a band-limited image: Lanczos, three lobes."""
    u = (want_mm[:, None] - have_mm[None]) / (have_mm[1] - have_mm[0])
    weight = np.where(np.abs(u) < 3, np.sinc(u) * np.sinc(u / 3), 0)
    total = weight.sum(axis=1, keepdims=True)
    return np.where(total > 0.5, weight / np.where(total > 0.5, total, 1), 0).astype(np.float32)


def _to_hu(planes: NDArray[np.float32], to_rows: NDArray, to_columns: NDArray) -> NDArray[np.int16]:
    out = np.empty((len(planes), len(to_rows), len(to_columns)), np.int16)
    for k, plane in enumerate(planes):
        shown = to_rows @ (plane - np.float32(AIR_HU)) @ to_columns.T + np.float32(AIR_HU)
        out[k] = np.rint(np.clip(shown, -1024, LARGEST_HU))
    return out


def _added(
    layers: Layers, motion: Motion, scan: Scan, geometry: Geometry, to_rows: NDArray, to_columns: NDArray
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """By row of `NAMES`, or `BONE`, and slice: (row, column) HU that deposits and bone add to the image, about."""
    rows, columns = layers.part
    found: dict[tuple[int, int], NDArray[np.float32]] = {}
    for kind, volume in layers.deposits.items():
        wide = 0.4 * motion.reach_mm.get(kind[1], 0.0) if motion.phase else 0.0
        blur = np.hypot(scan.kernel.blur_mm, wide) / geometry.pitch_mm
        for k in np.flatnonzero(volume.any(axis=(1, 2))):
            x, y = np.rint(mean_shift_mm(motion, kind, int(k)) / geometry.pitch_mm).astype(int)
            seen = np.roll(gaussian_filter(volume[k], blur), (y, x), (0, 1))
            shown = to_rows[:, rows] @ seen @ to_columns[:, columns].T
            key = (NAMES.index(kind[0]), int(k))
            found[key] = found.get(key, 0) + shown
    for place in {k for _, k in found}:
        bone = gaussian_filter(layers.bone[place][layers.part], scan.kernel.blur_mm / geometry.pitch_mm)
        found[BONE, place] = to_rows[:, rows] @ bone @ to_columns[:, columns].T
    return found


def _at_candidates(added: dict[tuple[int, int], NDArray[np.float32]], ct: CTVolume) -> NDArray[np.float32]:
    """(6, n) of `added` at every voxel that reaches the threshold."""
    masks = [plane.reshape(-1) >= PROTOCOL.threshold_hu for plane in ct.hu]
    start = np.append(0, np.cumsum([m.sum() for m in masks]))
    out = np.zeros((BONE + 1, int(start[-1])), np.float32)
    for (row, k), shown in added.items():
        out[row, start[k] : start[k + 1]] = shown.reshape(-1)[masks[k]]
    return out
