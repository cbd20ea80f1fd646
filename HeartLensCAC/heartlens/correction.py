"""What a reader painted, erased or clicked, as edits of a case. No window, no scene: labels in, a `Case` out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.case import Case
from heartlens.lesions import Artery

CLICK_CAP_MM3 = 1500.0
"""Largest island that one click takes; spec 7.2. What is larger is bone, or a plaque that runs into the aorta."""

CLICK_REACH_MM = 1.5
"""How far from calcium, within the slice, a click may fall and still mean it."""


def correct(case: Case, codes: NDArray[np.uint8], *, who: str = "", when: str = "") -> Case:
    """The case after a reader changed its exported labels with whatever tool.

    Only what differs from `case.scored_codes` becomes edits, and as few as say it: a lesion that went to another
    artery as a whole is reassigned, one that is gone is removed, other voxels are erased or painted. Painted voxels
    below the threshold are dropped. Painted voxels that touch a lesion of the same artery join it (under a new id);
    a lesion that was cut in two becomes two. All edits of one call are one action: one undo takes them back.

    Parameters
    ----------
    codes : (k, j, i) `Artery` codes on the grid of `case.source_ct`, 0 where nothing is labelled

    Returns
    -------
    `case` itself, the same object, when nothing that counts differs
    """
    raise NotImplementedError


def give(case: Case, kji: ArrayLike, artery: Artery, *, in_slice: bool = False, who: str = "", when: str = "") -> Case:
    """The case after a click: the island under it belongs to `artery`.

    A lesion under the click is reassigned; elsewhere the whole 3-D island of unlabelled voxels at or above the
    threshold becomes a lesion.

    Parameters
    ----------
    kji : (3,) index into `case.source_ct`, fractions allowed
    in_slice : only the part of the island that lies in this slice

    Raises
    ------
    ValueError : no calcium within `CLICK_REACH_MM`, or an island larger than `CLICK_CAP_MM3`; the text is for readers
    """
    raise NotImplementedError


def lesion_at(case: Case, kji: ArrayLike) -> int | None:
    """Id of the lesion under a point, or within `CLICK_REACH_MM` of it in the slice; None where there is none."""
    raise NotImplementedError
