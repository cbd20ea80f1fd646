"""Whether given labels lie on calcium: what is looked at before their score is believed.

A label map whose rows are flipped, or that was made on another scan, has a score of its own: often 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.lesions import Artery

FEW = 0.25
"""An artery of whose labeled voxels fewer reach the threshold is said. Whole plaques have nearly all, an outline drawn
around a plaque about half; a label map one slice off has a tenth, a mask of the whole vessel less."""


def shares_at_threshold(ct: CTVolume, codes: NDArray[np.uint8], threshold_hu: float) -> dict[str, float]:
    """Which part of the labeled voxels of each artery reaches the threshold.

    Parameters
    ----------
    ct
        The scan that is scored.
    codes
        (k, j, i) `Artery` codes on its grid
    threshold_hu
        Of the protocol.

    Returns
    -------
    dict[str, float]
        By name, for arteries that have labels.
    """
    flat = np.flatnonzero(codes)
    labels = codes.reshape(-1)[flat]
    reaching = ct.hu.reshape(-1)[flat] >= threshold_hu
    all_of, some_of = (np.bincount(chosen, minlength=max(Artery) + 1) for chosen in (labels, labels[reaching]))
    return {artery.name: float(some_of[artery] / all_of[artery]) for artery in Artery if all_of[artery]}


def label_cautions(
    shares: Mapping[str, float], threshold_hu: float, path: Path, *, counted: bool
) -> list[WarningRecord]:
    """What the shares say against the labels.

    Parameters
    ----------
    shares
        From `shares_at_threshold`.
    threshold_hu
        For the text.
    path
        Of the labels, for the refusal.
    counted
        Whether any of the coronary labels made a lesion that counts.

    Raises
    ------
    InputRefused
        ``labels``: there are coronary labels, few of them or none reach the threshold, and no lesion counts. The score
        would be 0, and "absent" would be said of a scan that nobody labeled.
    """
    coronary = {name: share for name, share in shares.items() if name != Artery.OTHER.name}
    if coronary and not counted and max(coronary.values()) < FEW:
        raise InputRefused(
            "labels",
            f"{path}: expected labels on calcium, found no lesion of {', '.join(coronary)} where the CT reaches "
            f"{threshold_hu:g} HU; export them with this CT as reference, or give a label map of zeros if nothing is "
            "calcified",
        )
    if any(share < FEW for share in shares.values()):
        listing = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        text = f"few of the labeled voxels reach {threshold_hu:g} HU ({listing}): do the labels lie on this scan?"
        return [WarningRecord("labels", text)]
    return []
