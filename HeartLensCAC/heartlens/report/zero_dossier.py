"""Zero is a claim: every slice of the heart on a contact sheet, and every candidate with the reason it was left out."""

from __future__ import annotations

from collections.abc import Callable
from gettext import NullTranslations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion, heart_region
from heartlens.anatomy.sharpness import softened
from heartlens.calcium import judge_by_rules
from heartlens.calcium.rules import RulesOpinion
from heartlens.case.case import Case
from heartlens.core.ct import CTVolume
from heartlens.report.figures import PICTURE_WINDOW_HU, Picture, svg_picture, to_gray
from heartlens.report.lesion_pictures import image_namer
from heartlens.risk.assessment import ENGLISH
from heartlens.scoring.report import display_agatston

TILE_PIXELS = 110
"""Across one slice of the contact sheet."""

MOST_TILES = 60
"""More slices than these are shown two or three at a time, the brightest voxel of each place: none is missing."""

HEART_MARGIN_MM = 5.0
MOST_CANDIDATES = 40

FAR_FROM_ARTERIES = ("outside_the_heart", "bone")
"""Rules whose pieces are counted and not listed: ribs, spine and sternum reach into every box around a heart."""


def zero_dossier(case: Case, say: NullTranslations = ENGLISH) -> dict[str, Any] | None:
    """What a reader needs to sign a score of 0; None where calcium was scored, or no heart was found.

    Parameters
    ----------
    case
        Scored.
    say
        The language of the images' names.

    Returns
    -------
    dict[str, Any] | None
        ``tiles`` (svg, image) foot to head, ``candidates`` (image, agatston, peak, why) with the highest score first,
        ``more`` that are not listed, ``far`` that lie in bone or outside the heart
    """
    if case.report.total.agatston > 0 or any(caution.code == "no-heart" for caution in case.cautions):
        return None
    soft = softened(case.ct)
    region = heart_region(soft.ct)
    if not region.in_view:
        return None
    opinion = judge_by_rules(soft.ct, region, case.protocol)
    name = image_namer(case, say)
    rows, far = _candidates(case, opinion, name)
    low, high = PICTURE_WINDOW_HU
    tiles = _tiles(case, region, name, [row["kji"] for row in rows])
    return {
        "tiles": tiles,
        "candidates": rows[:MOST_CANDIDATES],
        "more": max(len(rows) - MOST_CANDIDATES, 0),
        "far": far,
        "window": say.gettext("{low} to {high}").format(low=f"{low:g}", high=f"{high:g}"),
    }


def _candidates(case: Case, opinion: RulesOpinion, name: Callable[[int], str]) -> tuple[list[dict[str, Any]], int]:
    """Pieces of lesion size in the heart, each with why it does not count; and how many lie in bone or outside."""
    pieces = opinion.pieces
    because = ["not called coronary here; the rules would count it"] * pieces.count
    is_far = np.zeros(pieces.count, bool)
    for removed in opinion.ledger:
        mine = np.unique(pieces.piece[np.isin(pieces.flat, removed.flat)])
        for n in mine:
            because[n] = removed.because
        is_far[mine] = removed.rule in FAR_FROM_ARTERIES
    noted = _lesion_words(case)
    rows = []
    for n in np.flatnonzero(pieces.accepted & ~is_far):
        voxels = np.flatnonzero(pieces.piece == n)
        peak = voxels[pieces.hu[voxels].argmax()]
        flat = pieces.flat[voxels]
        words = next((noted[i] for i in np.unique(case.lesions.ids_at(flat)) if i in noted), "")
        rows.append(
            {
                "kji": pieces.kji[peak],
                "image": name(int(pieces.kji[peak][0])),
                "agatston": display_agatston(float(pieces.agatston[n])),
                "score": float(pieces.agatston[n]),
                "peak": f"{float(pieces.hu[peak]):.0f}",
                "why": because[n].rstrip(".") + (f"; {words}" if words else ""),
            }
        )
    rows.sort(key=lambda row: -row["score"])
    for number, row in enumerate(rows, 1):
        row["number"] = number
    return rows, int((pieces.accepted & is_far).sum())


def _lesion_words(case: Case) -> dict[int, str]:
    """What was said of each lesion on the map, none of which counts."""
    return {
        lesion.id: f"lesion {lesion.id}" + (", undecided" if lesion.undecided else "") for lesion in case.report.lesions
    }


def _tiles(
    case: Case, region: HeartRegion, name: Callable[[int], str], places: list[NDArray[np.int64]]
) -> list[dict[str, str]]:
    """The heart slice by slice, foot to head, with a ring around each candidate."""
    ct = case.ct
    box = region.box(ct, margin_mm=HEART_MARGIN_MM)
    count = -(-(box[0].stop - box[0].start) // MOST_TILES)
    tiles = []
    for k in range(box[0].start, box[0].stop, count):
        stop = min(k + count, box[0].stop)
        rings = [(n, place) for n, place in enumerate(places, 1) if k <= place[0] < stop]
        words = name(k) if stop - k == 1 else f"{name(k)} … {name(stop - 1)}"
        tiles.append({"svg": _tile(ct, (slice(k, stop), box[1], box[2]), rings, words).svg, "image": words})
    return tiles


def _tile(
    ct: CTVolume, box: tuple[slice, slice, slice], rings: list[tuple[int, NDArray[np.int64]]], words: str
) -> Picture:
    hu = ct.hu[box].max(axis=0)
    step = max(1, round(max(hu.shape) / TILE_PIXELS))
    rows, columns = (size // step * step for size in hu.shape)
    # The brightest of each block: a plaque of two pixels must not fall between the pixels that are shown.
    small = hu[:rows, :columns].reshape(rows // step, step, columns // step, step).max(axis=(1, 3))
    _, dy, dx = ct.spacing_mm
    drawn = []
    for number, (_, j, i) in rings:
        x, y = (i - box[2].start + 0.5) * dx, (j - box[1].start + 0.5) * dy
        drawn.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        drawn.append(f'<text class="ringed" x="{x + 7:.1f}" y="{y - 4:.1f}">{number}</text>')
    return svg_picture(to_gray(small), (dx * step, dy * step), [], f"The heart on {words}", labels="".join(drawn))
