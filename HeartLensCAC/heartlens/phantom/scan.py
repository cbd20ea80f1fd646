"""From parameters to a phantom: person, scan, calcium to the asked-for burden, truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom.body.anatomy import draw_anatomy
from heartlens.phantom.calcium import traps
from heartlens.phantom.calcium.decoys import propose_decoys
from heartlens.phantom.calcium.disease import propose_disease
from heartlens.phantom.calcium.plaques import Plaque, propose_plaques
from heartlens.phantom.calcium.traps import Trap, make_traps
from heartlens.phantom.image.acquisition import digitize, metal_streaks, noise
from heartlens.phantom.image.grid import Grid
from heartlens.phantom.image.scan import CAUSED_HU, Scan, Source, plan_scan
from heartlens.phantom.parameters import CATEGORIES, PhantomParameters
from heartlens.phantom.truth import agatston_per_artery, patch_agatston

CATEGORY_RANGE = {"1-10": (2.0, 9.5), "11-100": (12.0, 98.0), "101-400": (105.0, 395.0), ">400": (410.0, 2000.0)}
"""Agatston score aimed at in each category: a little inside its borders, and a likely upper end."""

MOST_AGATSTON = 5000.0
"""Upper end of the last category in anatomy 2, as heavily diseased people reach it."""

ATTEMPTS = 4
"""How often the burden is drawn anew when noise carried the score over the border of its category."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT with its answer.

    Parameters
    ----------
    ct
        The scan.
    labels
        (k, j, i) uint8, codes of `Artery`; whole islands of the scan at the threshold; traps are OTHER. In anatomy 2
        an island to which several objects contribute is divided among them (`divide_islands`).
    truth
        {arteries: {LM..RCA: {agatston, agatston_noise_free, mass_mg, plaques}}, traps, parameters}
    """

    ct: CTVolume
    labels: NDArray[np.uint8]
    truth: dict[str, Any]


def make_phantom(parameters: PhantomParameters) -> Phantom:
    """Build the phantom; the same parameters give the same bits.

    Examples
    --------
    >>> p = PhantomParameters(matrix=64, pixel_mm=3, slice_thickness_mm=10, increment_mm=10, category="0")
    >>> int(make_phantom(p).labels.max())
    0
    """
    return next(make_draws(parameters, [parameters]))


def make_draws(person: PhantomParameters, draws: Iterable[PhantomParameters]) -> Iterator[Phantom]:
    """Several phantoms of one person on one scanner: the body is made once, which takes most of the time.

    Parameters
    ----------
    person
        Whose body it is.
    draws
        Of the same person: they may differ in `draw`, `category`, `plaques` and `matched_burden`.

    Yields
    ------
    Phantom
        The one that `make_phantom` gives for each of the draws.

    Raises
    ------
    ValueError
        A draw that differs in anything else.
    """
    anatomy = draw_anatomy(person)
    scan = Scan(person, anatomy, plan_scan(anatomy, person))
    plain = scan.overshot(scan.body())
    for parameters in draws:
        own = {name: getattr(person, name) for name in ("draw", "category", "plaques", "matched_burden")}
        if replace(parameters, **own) != person:
            raise ValueError("draws of one person may differ in draw, category, plaques and matched_burden alone")
        yield _drawn(replace(scan, parameters=parameters), plain.copy())


def _drawn(scan: Scan, body: NDArray[np.float32]) -> Phantom:
    parameters, anatomy = scan.parameters, scan.anatomy
    bone = body >= ScoringProtocol().threshold_hu
    found = make_traps(anatomy, parameters.traps, parameters.generator, parameters.kvp)
    _add_streaks(body, found, scan)
    grain = noise(parameters, scan.grid.shape, body)
    other = []
    for trap in found:
        source = scan.source(trap.cloud, Artery.OTHER, traps.MOBILITY.get(trap.kind, 0.0))
        if source is not None:
            other.append(source)
            body[source.window] += source.image
    for trap, source in _decoys(scan, body, grain):
        found.append(trap)
        other.append(source)
        body[source.window] += source.image
    for attempt in range(ATTEMPTS):
        plaques = _plaques(scan, body, grain, attempt)
        for source in plaques:
            body[source.window] += source.image
        ct = scan.ct(digitize(body + grain))
        labels = label_islands(ct.hu, other + plaques, bone, divided=parameters.anatomy == 2)
        scores = agatston_per_artery(ct, labels)
        if parameters.category is None or _category(sum(scores.values())) == parameters.category:
            break
        if attempt < ATTEMPTS - 1:
            for source in plaques:
                body[source.window] -= source.image
    clean = scan.ct(digitize(body))
    clean_labels = label_islands(clean.hu, other + plaques, bone, divided=parameters.anatomy == 2)
    clean_scores = agatston_per_artery(clean, clean_labels)
    arteries = {}
    for artery in CORONARY:
        own = [s.plaque for s in plaques if s.plaque is not None and s.plaque.artery == artery]
        arteries[artery.name] = {
            "agatston": scores[artery],
            "agatston_noise_free": clean_scores[artery],
            "mass_mg": float(sum(p.mass_mg for p in own)),
            "plaques": len(own),
        }
    truth = {
        "arteries": arteries,
        "traps": [_described(trap, scan.grid) for trap in found],
        "parameters": parameters.to_json(),
    }
    return Phantom(ct, labels, truth)


def label_islands(
    hu: NDArray[np.int16], sources: list[Source], bone: NDArray[np.bool_], *, divided: bool = False
) -> NDArray[np.uint8]:
    """Whole islands at the threshold that a bright object caused, each with one code.

    An island takes the code of the object that brings it the most HU. One that is mostly bone of the skeleton stays
    without a code: a trap that grew into a rib is part of the rib.

    Parameters
    ----------
    hu
        (k, j, i), the final image
    sources
        All bright objects.
    bone
        (k, j, i), at or above the threshold without any source
    divided
        Give the parts of an island that objects of several codes caused to each of them (`divide_islands`).
    """
    labels = np.zeros(hu.shape, np.uint8)
    if not sources:
        return labels
    islands, count = ndimage.label(hu >= ScoringProtocol().threshold_hu, np.ones((3, 3, 3), int))
    caused = np.zeros((count + 1, max(Artery) + 1))
    for source in sources:
        here = islands[source.window]
        bright = (here > 0) & (source.image >= CAUSED_HU)
        caused[:, source.code] += np.bincount(here[bright], source.image[bright], count + 1)
    code = np.where(caused.any(1), caused.argmax(1), 0).astype(np.uint8)
    hit = np.flatnonzero(code)
    if hit.size == 0:
        return labels
    sizes = np.bincount(islands[islands > 0], minlength=count + 1)
    skeleton = np.bincount(islands[bone], minlength=count + 1)
    code[skeleton > 0.5 * sizes] = 0
    code[0] = 0
    labels = code[islands]
    return divide_islands(labels, islands, caused, sources) if divided else labels


SHARE = 0.08
"""Of the HU in an island, what a code must have brought for a part of it to take that code."""


def divide_islands(
    labels: NDArray[np.uint8], islands: NDArray[np.int32], caused: NDArray[np.float64], sources: list[Source]
) -> NDArray[np.uint8]:
    """Labels in which a lesion across a fork, or one that touches a calcified wall, has a code for each part.

    Parameters
    ----------
    labels
        (k, j, i), one code per island
    islands
        (k, j, i), number of each island
    caused
        (islands + 1, codes), HU that objects of each code brought
    sources
        All bright objects.

    Returns
    -------
    NDArray[np.uint8]
        (k, j, i); in an island of several codes each voxel has that of the code which brings it the most HU.
    """
    share = caused / np.maximum(caused.sum(1, keepdims=True), 1e-9)
    mixed = ((share >= SHARE).sum(1) > 1)[islands] & (labels > 0)
    if not mixed.any():
        return labels
    window = ndimage.find_objects(mixed.astype(np.uint8))[0]
    best = np.zeros(labels[window].shape, np.float32)
    found = labels[window].copy()
    for code in {source.code for source in sources}:
        brought = np.zeros(labels.shape, np.float32)
        for source in sources:
            if source.code == code:
                brought[source.window] += source.image
        is_own = mixed[window] & (brought[window] > best) & (share[:, code] >= SHARE)[islands[window]]
        found[is_own] = code
        best[is_own] = brought[window][is_own]
    divided = labels.copy()
    divided[window] = found
    return divided


def _category(agatston: float) -> str:
    """Category of a total; 0 only when nothing was found at all."""
    rounded = int(np.floor(agatston + 0.5))
    if agatston == 0:
        return "0"
    return "1-10" if rounded <= 10 else "11-100" if rounded <= 100 else "101-400" if rounded <= 400 else ">400"


def _plaques(scan: Scan, body: NDArray[np.float32], grain: NDArray[np.float32], attempt: int) -> list[Source]:
    """Images of the plaques; with a category, plaques are added until its score is reached."""
    p = scan.parameters
    rng = p.draw_generator(f"plaques {attempt}" if attempt else "plaques")
    heart = scan.anatomy.heart

    def disease(counts: tuple[int, int, int, int] | None, size: float = 1.0) -> Iterator[Plaque]:
        if p.anatomy == 2:
            return propose_disease(heart.arteries, heart.branches, rng, counts, p.kvp, size)
        return propose_plaques(heart, rng, counts, p.kvp, size)

    if p.category is None:
        drawn = (scan.plaque_source(q) for q in disease(p.plaques))
        return [source for source in drawn if source is not None]

    def propose(size: float) -> Iterable[tuple[str, Plaque]]:
        return (("", plaque) for plaque in disease(None, size))

    return [source for _, _, source in _up_to_burden(scan, body, grain, p.category, rng, propose)]


def _decoys(scan: Scan, body: NDArray[np.float32], grain: NDArray[np.float32]) -> list[tuple[Trap, Source]]:
    """Decoys up to their own burden, by the very steps that lay plaques."""
    p = scan.parameters
    if p.matched_burden is None:
        return []
    rng = p.draw_generator("decoys")
    laid = _up_to_burden(
        scan, body, grain, p.matched_burden, rng,
        lambda size: propose_decoys(scan.anatomy, rng, p.kvp, size, p.decoys_within_mm),
    )  # fmt: skip
    found = []
    for number, (place, decoy, source) in enumerate(laid, start=1):
        kind = f"decoy_{place}"
        details = {
            "contrast_hu": round(float(decoy.cloud.contrast_hu), 1),
            "volume_mm3": round(float(decoy.cloud.volumes_mm3.sum()), 2),
        }
        found.append((Trap(kind, f"{kind}_{number}", decoy.cloud, details), source))
    return found


def _up_to_burden(
    scan: Scan,
    body: NDArray[np.float32],
    grain: NDArray[np.float32],
    category: str,
    rng: np.random.Generator,
    propose: Callable[[float], Iterable[tuple[str, Plaque]]],
) -> list[tuple[str, Plaque, Source]]:
    """Plaques, or decoys, until the score of a category is reached.

    Parameters
    ----------
    propose
        From a factor on their width to (place of a decoy or "", plaque), one after the other.
    """
    p = scan.parameters
    if category == "0":
        return []
    low, high = CATEGORY_RANGE[category]
    if p.anatomy == 2 and category == CATEGORIES[-1]:
        high = MOST_AGATSTON
    pixel_mm2 = p.pixel_mm[0] * p.pixel_mm[1]
    faintest = pixel_mm2 * np.ceil(1 / pixel_mm2) * p.increment_mm / 3  # the least score that these voxels can show
    aim = max(float(np.exp(rng.uniform(np.log(low), np.log(high)))), faintest)
    size = float(np.clip((aim / 60) ** 0.2, 0.75, 1.7))  # much calcium comes in large plaques
    scale = {"pixel_area_mm2": pixel_mm2, "increment_mm": p.increment_mm}
    kept: list[tuple[str, Plaque, Source]] = []
    total, misfits = 0.0, 0
    for place, plaque in propose(size):
        room = min(aim * 1.15, high) - total
        share = 1.0
        for _ in range(3):  # what is too large for the rest of the burden is tried smaller
            smaller = plaque.shrunk(share)
            source = scan.decoy_source(place, smaller) if place else scan.plaque_source(smaller)
            if source is None:
                break
            before = body[source.window] + grain[source.window]
            for _, _, earlier in kept:
                _add_overlap(before, source.window, earlier)
            after = patch_agatston(np.rint(before + source.image), **scale)
            gain = after - patch_agatston(np.rint(before), **scale)
            if gain <= room:
                break
            share *= max(0.9 * room / gain, 0.15)
        if source is not None and 0 < gain <= room:
            kept.append((place, smaller, source))
            total, misfits = total + gain, 0
        else:
            misfits += 1
        if total >= aim * 0.9 or misfits > (5 if total >= low else 30):
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


def _add_streaks(body: NDArray[np.float32], found: list[Trap], scan: Scan) -> None:
    rng = scan.parameters.generator("streaks")
    for trap in found:
        if trap.kind not in traps.STREAK_HU:
            continue
        index = scan.grid.index(trap.cloud.points)
        for k in np.unique(np.rint(index[:, 0]).astype(int)):
            here = index[np.abs(index[:, 0] - k) < 0.75, 1:]
            if 0 <= k < scan.grid.shape[0] and len(here):
                metal_streaks(body[k], here.mean(0), scan.parameters.pixel_mm, rng, traps.STREAK_HU[trap.kind])


def _described(trap: Trap, grid: Grid) -> dict[str, Any]:
    center = trap.cloud.centroid
    index = np.rint(grid.index(center[None])[0])
    return {
        "name": trap.name,
        "kind": trap.kind,
        "centroid_lps_mm": [float(v) for v in grid.table_from_body(center)],
        "in_view": bool(((index >= 0) & (index < grid.shape)).all()),
        **trap.details,
    }
