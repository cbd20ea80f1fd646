"""Every lesion that counts or is undecided in a picture: what decides first, large; all others in a strip."""

from __future__ import annotations

from collections.abc import Callable
from gettext import NullTranslations
from typing import Any

import numpy as np

from heartlens.case.case import Case
from heartlens.core.lesions import SCORED_ARTERIES, SITE_NAMES, Artery
from heartlens.networks.inference import discordant_slices
from heartlens.report.crops import lesion_picture, locator_picture
from heartlens.report.figures import ScoredVoxels
from heartlens.report.methods import artery_words, number
from heartlens.risk.assessment import ENGLISH
from heartlens.risk.evaluable import State
from heartlens.scoring.report import LesionScore, display_agatston

MOST_PICTURES = 200
"""No heart has so many lesions; where a map does, the table is whole all the same."""

FIRST_SHEET = 2
"""Undecided lesions that have room on the first sheet; the others follow on the third."""


def image_namer(case: Case, say: NullTranslations = ENGLISH) -> Callable[[int], str]:
    """Names a scored slice as a PACS does, by instance number; without one, counted from 1 at the feet."""
    numbers, n, total = case.source_ct.header.instance_numbers, case.slab_count, case.ct.shape[0]

    def name(k: int) -> str:
        if not numbers:
            return say.gettext("slice {n} of {total}").format(n=k + 1, total=total)
        mine = sorted(numbers[k * n : (k + 1) * n])
        if mine[0] == mine[-1]:
            return say.gettext("image {n}").format(n=mine[0])
        return say.gettext("images {first}–{last}").format(first=mine[0], last=mine[-1])

    return name


def lesion_row(case: Case, lesion: LesionScore, say: NullTranslations = ENGLISH) -> dict[str, Any]:
    """One lesion as the page shows it."""
    first, last = lesion.slices
    z, numbers, n = case.report.slices, case.source_ct.header.instance_numbers, case.slab_count
    images = numbers[first * n : (last + 1) * n] or (first + 1, last + 1)
    return {
        **artery_words(lesion.artery, say),
        "id": lesion.id,
        "counted": lesion.artery in SCORED_ARTERIES,
        "images": f"{min(images)}–{max(images)}" if min(images) < max(images) else str(images[0]),
        "z_mm": f"{z[first].z_mm:.1f}" if first == last else f"{z[first].z_mm:.1f} … {z[last].z_mm:.1f}",
        "agatston": display_agatston(lesion.agatston),
        "volume": f"{lesion.volume_mm3:.1f}",
        "mass": number(lesion.mass_mg, 2),
        "area": f"{lesion.area_mm2:.1f}",
        "peak": f"{lesion.peak_hu:.0f}",
        "mean": f"{lesion.mean_hu:.0f}",
        "probability": number(lesion.probability, 2),
        "source": lesion.source,
        "why": lesion.why,
        "review": lesion.undecided,
        "site": SITE_NAMES[lesion.site] if lesion.artery is Artery.OTHER else "",
    }


def pictures_of(case: Case, voxels: ScoredVoxels, state: State, say: NullTranslations = ENGLISH) -> dict[str, Any]:
    """Pictures of the undecided lesions, of the counted ones, and the slices on which the networks disagree.

    Parameters
    ----------
    case
        Scored.
    voxels
        That count.
    state
        A signed case has no slice left on which a reader has to look.
    say
        The language.
    """
    by_id = {lesion.id: lesion for lesion in case.report.lesions}
    name = image_namer(case, say)
    first = []
    for lesion_id in case.assessment.undecided[:MOST_PICTURES]:
        lesion = by_id[lesion_id]
        plain, index = lesion_picture(case.ct, voxels, lesion, outlined=False)
        outlined, _ = lesion_picture(case.ct, voxels, lesion)
        locator = locator_picture(case.ct, voxels, lesion)
        first.append(
            {
                **lesion_row(case, lesion, say), "plain": plain.svg, "outlined": outlined.svg, "locator": locator.svg,
                "image": name(index),
            }
        )  # fmt: skip
    counted = [x for x in case.report.lesions if x.artery in SCORED_ARTERIES and x.agatston > 0 and not x.undecided]
    strip = []
    for lesion in counted[:MOST_PICTURES]:
        picture, index = lesion_picture(case.ct, voxels, lesion, with_locator=True)
        strip.append({**lesion_row(case, lesion, say), "svg": picture.svg, "image": name(index)})
    discordant: list[str] = []
    if case.slice_probability is not None and state is not State.SIGNED:
        chosen = discordant_slices(case.slice_probability, case.lesions)
        order = np.argsort(-case.slice_probability[chosen], kind="stable")
        discordant = [name(int(chosen[n])) for n in order]
    return {
        "first": first,
        "first_sheet": FIRST_SHEET,
        "strip": strip,
        "left_out": len(counted) - len(strip),
        "discordant": discordant[:8],
        "more_discordant": max(len(discordant) - 8, 0),
    }
