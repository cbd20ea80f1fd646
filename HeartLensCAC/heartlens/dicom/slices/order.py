"""Positions against the other two witnesses of the order of slices: SliceLocation and InstanceNumber.

Each of them has been seen to contradict positions throughout a series, and then says nothing. A series whose witness
agrees with the positions but for some slices has had positions exchanged, or witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.dicom.header import Frame

LEAST_WITNESSES = 5
"""Fewer slices show no order that could be broken."""

AGREEING_SHARE = 0.7
"""Of the slices must agree with the positions before the others are taken to contradict them."""


def order_cautions(frames: Sequence[Frame], along_mm: NDArray[np.float64]) -> list[WarningRecord]:
    """Refuse slices that two witnesses put elsewhere than their positions do; say so when one does.

    Parameters
    ----------
    frames
        Foot to head by position.
    along_mm
        Positions along the normal, in that order.

    Raises
    ------
    InputRefused
        ``mixed``, naming the slices
    """
    if len(frames) < LEAST_WITNESSES or len({frame.instance for frame in frames}) < len(frames):
        return []
    accused = {}
    silent = []
    for keyword, judge in (("SliceLocation", _misplaced), ("InstanceNumber", _out_of_order)):
        values = np.array([_number(frame, keyword) for frame in frames])
        verdict = judge(values, along_mm)
        if verdict is None:
            silent.append(keyword)
        elif verdict.any():
            accused[keyword] = verdict
    if not accused:
        return []
    wrong = np.logical_and.reduce(list(accused.values()))
    both = len(accused) == 2 and bool(wrong.any())
    if not both and not silent:
        return []  # the other witness agrees with the positions
    names = ", ".join(frames[n].name for n in np.flatnonzero(wrong)[:4])
    if both:
        raise InputRefused(
            "mixed",
            f"SliceLocation (0020,1041) and InstanceNumber (0020,0013) put {names} elsewhere than "
            f"ImagePositionPatient (0020,0032) does: slices were exchanged; send the series again",
        )
    (keyword,) = accused
    text = (
        f"{keyword} puts {int(wrong.sum())} slices elsewhere than ImagePositionPatient (0020,0032) does: slices may "
        f"have been exchanged; look through the series"
    )
    return [WarningRecord("slice-order", text)]


def _misplaced(locations: NDArray[np.float64], along_mm: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Slices whose location differs from their position by more than half a step; None when it tells nothing."""
    if not np.isfinite(locations).all():
        return None
    step = float(np.median(np.abs(np.diff(along_mm))))
    for sign in (1.0, -1.0):
        difference = locations - sign * along_mm
        off = np.abs(difference - np.median(difference)) > step / 2
        if off.mean() <= 1 - AGREEING_SHARE:
            return off
    return None


def _out_of_order(numbers: NDArray[np.float64], along_mm: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Slices that a sort by number would move; None when numbers say nothing."""
    if not np.isfinite(numbers).all() or len(np.unique(numbers)) < len(numbers):
        return None
    rank = np.argsort(np.argsort(numbers))
    places = np.arange(len(numbers))
    for expected in (places, places[::-1]):
        off = rank != expected
        if off.mean() <= 1 - AGREEING_SHARE:
            return off
    return None


def _number(frame: Frame, keyword: str) -> float:
    number = frame.number_of(keyword)
    return np.nan if number is None else number
