"""What bundles after the second learn from: phantoms of both anatomies, and real backgrounds with plaques laid in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from heartlens import __version__
from heartlens.core.errors import InputRefused
from heartlens.phantom import CATEGORIES, PhantomParameters, lifelike, make_draws
from training.datasets.backgrounds.insertion import inserted
from training.datasets.backgrounds.marks import Mark, open_background
from training.datasets.hearts import around_heart, cut, heart_of
from training.datasets.phantom_sets import CALIBRATION as HOME_CALIBRATION
from training.datasets.phantom_sets import TRAINING as HOME_TRAINING
from training.datasets.phantom_sets import VALIDATION as HOME_VALIDATION
from training.datasets.phantom_sets import Seeds, training_phantom
from training.datasets.scans import LabeledScan, Skipped
from training.datasets.sources import pseudonym

TRAINING, VALIDATION = Seeds(1_000_000, 160), Seeds(1_100_000, 16)
"""People that are trained on, and by whom the best step is chosen."""

CALIBRATION = Seeds(1_120_000, 40)
"""For cut-off and probability alone: whole scans, one draw each."""

TEST = Seeds(1_140_000, 200)
"""For figures alone; nothing here makes them."""

REPLAYED, REPLAYED_VALIDATION, REPLAYED_CALIBRATION = (
    Seeds(HOME_TRAINING.first, 120),
    Seeds(HOME_VALIDATION.first, 16),
    Seeds(HOME_CALIBRATION.first, 48),
)
"""Of anatomy 1, from the sets of bundle 2 that serve the same purpose: bundle 3, which saw anatomy 2 alone, forgot what
lies on the walls and rings of the first."""

RINGED, HEAVILY_RINGED = 3, 4
"""Of the people trained on every fourth has a heavily calcified mitral ring, and every third of the others an ordinary
one, whatever else is drawn: bundle 3 took a ring for the circumflex in 11 of the second family's 26."""

DRAWS = 3
"""Of each person: making a body takes most of the time, laying calcium on it little."""

MATRIX = 320

HELD_OUT = ("TCGA-17-Z059", "TCGA-50-6592")
"""People of the backgrounds who are never trained on: they help to choose the best step."""

VOLUME_DRAWS, SLICE_DRAWS, NEGATIVE_DRAWS = 48, 24, 6
"""Of each background: a volume with courses, a slice with courses, one without."""

Found = tuple[LabeledScan, list[float]]
"""A scan for the shards, and where its heart lies in it."""


def people(seed: int) -> list[PhantomParameters]:
    """The draws of one person; each has other calcium, and those of training have more than people do."""
    base = lifelike(seed, matrix=MATRIX)
    rng = np.random.default_rng([seed, 8])
    if base.slice_thickness_mm < 2 and seed % 4:  # thin slices cost much and teach what thick ones do
        thickness = float(rng.choice((2.5, 3.0)))
        base = lifelike(seed, matrix=MATRIX, slice_thickness_mm=thickness, increment_mm=thickness)
    if base.field_of_view == "chest":
        base = replace(base, cover="heart")
    if seed in CALIBRATION.range or seed in TEST.range:
        return [base]
    if seed not in TRAINING.range:
        return [base, replace(base, draw=1, category=str(rng.choice(CATEGORIES[1:])))]
    if seed % 8 == 0 and "stent" not in base.traps:
        base = replace(base, traps=("stent", *base.traps))
    base = ringed(base)
    lm, lad, lcx, rca = rng.integers((0, 1, 0, 1), (3, 5, 4, 5)).tolist()
    heavy = replace(base, category=">400", matched_burden="101-400")
    many = replace(base, draw=2, category=None, plaques=(lm, lad, lcx, rca), matched_burden=">400")
    return [heavy, replace(base, draw=1), many][:DRAWS]


def ringed(base: PhantomParameters) -> PhantomParameters:
    """The same with a calcified mitral ring, light or heavy, where its seed says so; see `RINGED`."""
    if base.seed % HEAVILY_RINGED == 1:
        plain = tuple(kind for kind in base.traps if kind != "mitral_annulus")
        return replace(base, traps=(*plain, "mitral_annulus_heavy"))
    if base.seed % RINGED == 1 and "mitral_annulus" not in base.traps:
        return replace(base, traps=(*base.traps, "mitral_annulus"))
    return base


def replayed(seed: int) -> PhantomParameters:
    """The phantom of anatomy 1 of a seed, as bundle 2 saw it; those that are trained on may have a ring more."""
    drawn = training_phantom(seed)
    return ringed(drawn) if seed in REPLAYED.range else drawn


def made(seed: int) -> list[Found]:
    """The scans of one person; of those that serve training and validation only the surroundings of the heart."""
    is_replayed = any(seed in s.range for s in (REPLAYED, REPLAYED_VALIDATION, REPLAYED_CALIBRATION))
    parameters = [replayed(seed)] if is_replayed else people(seed)
    found = []
    heart: list[float] | None = None
    for phantom, drawn in zip(make_draws(parameters[0], parameters), parameters, strict=True):
        ct, labels = phantom.ct, phantom.labels
        heart = heart or heart_of(ct)
        place = heart
        if seed not in CALIBRATION.range and seed not in REPLAYED_CALIBRATION.range:
            window, place = around_heart(ct, heart)
            ct, labels = cut(ct, window), np.ascontiguousarray(labels[window])
        scan = LabeledScan(
            name=f"{'phantom' if is_replayed else 'lifelike'}/{seed}/{drawn.draw}",
            patient=pseudonym("phantom", str(seed)),
            source="phantom",
            ct=ct,
            labels=labels,
            provenance={"made_by": "phantom", "version": __version__, "parameters": drawn.to_json()},
        )
        found.append((scan, place))
    return found


def laid(marks: tuple[Mark, ...], data: Path) -> Iterator[Found | Skipped]:
    """Every background with its draws; one that cannot be used is skipped with the reason."""
    for mark in marks:
        try:
            ct = open_background(mark, data)
        except InputRefused as refusal:
            yield Skipped(f"background/{mark.name}", refusal.code, refusal.text)
            continue
        window, place = around_heart(ct, heart_of(ct))
        part = cut(ct, window)
        draws = NEGATIVE_DRAWS if not mark.courses else SLICE_DRAWS if ct.shape[0] == 1 else VOLUME_DRAWS
        for draw in range(draws):
            yield inserted(mark, part, draw), place


def patients_of(seeds: Seeds) -> tuple[str, ...]:
    """Pseudonyms of phantoms."""
    return tuple(pseudonym("phantom", str(seed)) for seed in seeds.range)
