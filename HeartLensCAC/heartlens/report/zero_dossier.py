"""Zero is a claim: every slice of the heart on a contact sheet, and every candidate with the reason it was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from gettext import NullTranslations
from typing import Any

import numpy as np

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


@dataclass(frozen=True)
class Candidate:
    """A piece of calcium of lesion size in the heart that does not count.

    Parameters
    ----------
    number
        Of its ring on the contact sheet, from 1 on.
    index_kji
        Its brightest voxel, in `case.ct`.
    image
        Name of the slice of that voxel.
    score
        Agatston score if it counted, not rounded.
    peak_hu
        HU of that voxel.
    why
        Why it does not count.
    """

    number: int
    index_kji: tuple[int, int, int]
    image: str
    score: float
    peak_hu: float
    why: str

    @property
    def agatston(self) -> str:
        """The score as it is shown."""
        return display_agatston(self.score)

    @property
    def peak(self) -> str:
        """The HU as they are shown."""
        return f"{self.peak_hu:.0f}"


@dataclass(frozen=True)
class LeftOut:
    """What reaches the threshold at the size of a lesion on a scan whose score is 0.

    Parameters
    ----------
    candidates
        In the heart, highest score first.
    far
        How many more lie in bone or outside the heart.
    region
        Where the heart was found.
    """

    candidates: tuple[Candidate, ...]
    far: int
    region: HeartRegion

    @property
    def listed(self) -> tuple[Candidate, ...]:
        """Those that a table shows."""
        return self.candidates[:MOST_CANDIDATES]

    def rest(self, say: NullTranslations = ENGLISH) -> str:
        """What no row of the table tells."""
        more = len(self.candidates) - len(self.listed)
        words = [say.gettext("{n} more, of lower scores.").format(n=more)] if more else []
        return " ".join(
            [*words, say.gettext("{n} further places lie in bone or outside the heart.").format(n=self.far)]
        )


def left_out(case: Case, say: NullTranslations = ENGLISH) -> LeftOut | None:
    """Every candidate in the heart, with the reason why it does not count; it takes seconds on a large scan.

    Parameters
    ----------
    case
        Scored.
    say
        The language of the images' names.

    Returns
    -------
    LeftOut | None
        None where calcium was scored, or no heart was found
    """
    if case.report.total.agatston > 0 or any(caution.code == "no-heart" for caution in case.cautions):
        return None
    soft = softened(case.ct)
    region = heart_region(soft.ct)
    if not region.in_view:
        return None
    return LeftOut(*_candidates(case, judge_by_rules(soft.ct, region, case.protocol), image_namer(case, say)), region)


def left_out_title(say: NullTranslations = ENGLISH) -> str:
    """Title of the table."""
    return say.gettext("Left out, and why")


def left_out_columns(say: NullTranslations = ENGLISH) -> tuple[tuple[str, bool], ...]:
    """Titles of the columns: number, image, agatston, peak and why; and whether each holds numbers."""
    return (
        (say.gettext("Ring"), True),
        (say.gettext("Image"), False),
        (say.gettext("Agatston if it counted"), True),
        (say.gettext("Peak HU"), True),
        (say.gettext("Why it does not count"), False),
    )


def nothing_left_out(say: NullTranslations = ENGLISH) -> str:
    """In the place of a table without rows."""
    return say.gettext("Nothing in the heart reaches the threshold at the size of a lesion.")


def zero_dossier(case: Case, say: NullTranslations = ENGLISH) -> dict[str, Any] | None:
    """What a reader needs to sign a score of 0; None where calcium was scored, or no heart was found.

    Parameters
    ----------
    case
        Scored.
    say
        The language.

    Returns
    -------
    dict[str, Any] | None
        ``tiles`` (svg, image) foot to head; ``title``, ``columns`` and ``candidates`` (`Candidate`) of the table;
        ``rest``, what it does not show, and ``none``, in its place where it is empty
    """
    found = left_out(case, say)
    if found is None:
        return None
    low, high = PICTURE_WINDOW_HU
    return {
        "tiles": _tiles(case, found.region, image_namer(case, say), [row.index_kji for row in found.candidates]),
        "title": left_out_title(say),
        "columns": left_out_columns(say),
        "candidates": found.listed,
        "rest": found.rest(say),
        "none": nothing_left_out(say),
        "window": say.gettext("{low} to {high}").format(low=f"{low:g}", high=f"{high:g}"),
    }


def _candidates(case: Case, opinion: RulesOpinion, name: Callable[[int], str]) -> tuple[tuple[Candidate, ...], int]:
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
    inside = np.flatnonzero(pieces.accepted & ~is_far)
    rows = []
    for number, n in enumerate(inside[np.argsort(-pieces.agatston[inside], kind="stable")], 1):
        voxels = np.flatnonzero(pieces.piece == n)
        peak = voxels[pieces.hu[voxels].argmax()]
        k, j, i = (int(at) for at in pieces.kji[peak])
        words = next((noted[m] for m in np.unique(case.lesions.ids_at(pieces.flat[voxels])) if m in noted), "")
        why = because[n].rstrip(".") + (f"; {words}" if words else "")
        score, hu = float(pieces.agatston[n]), float(case.ct.hu[k, j, i])  # of the scan, where it was softened, too
        rows.append(Candidate(number, (k, j, i), name(k), score, hu, why))
    return tuple(rows), int((pieces.accepted & is_far).sum())


def _lesion_words(case: Case) -> dict[int, str]:
    """What was said of each lesion on the map, none of which counts."""
    return {
        lesion.id: f"lesion {lesion.id}" + (", undecided" if lesion.undecided else "") for lesion in case.report.lesions
    }


def _tiles(
    case: Case, region: HeartRegion, name: Callable[[int], str], places: Sequence[tuple[int, int, int]]
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
    ct: CTVolume, box: tuple[slice, slice, slice], rings: Sequence[tuple[int, tuple[int, int, int]]], words: str
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
