"""Slices on which reference and prediction differ most, kept while patients pass by one at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import SCORED_ARTERIES
from training.evaluation import plots as figures
from training.evaluation.pairs import Pair
from training.evaluation.results import Failure

SIDE_MM = 90.0
"""Of the square that is shown, around what differs."""


class Shown(NamedTuple):
    """One slice of a patient.

    Parameters
    ----------
    name
        Of the patient.
    k
        The slice, from 0 at the feet.
    different, calcified
        Dense voxels called differently, and called coronary by either side, on this slice.
    hu, reference, predicted
        (rows, columns) of the square that is shown
    """

    name: str
    k: int
    different: int
    calcified: int
    hu: NDArray[np.float32]
    reference: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


class Gallery:
    """The patients with the most dense voxels on one slice that are called differently; then those with most calcium.

    Parameters
    ----------
    count
        How many patients are kept; 0 keeps none.
    threshold_hu
        Of what is dense.
    """

    def __init__(self, count: int, threshold_hu: float) -> None:
        self.count, self.threshold_hu = count, threshold_hu
        self._kept: list[tuple[int, int, int, Shown]] = []

    def watch(self, pairs: Iterable[Pair | Failure]) -> Iterator[Pair | Failure]:
        """Give pairs on as they come, and keep what is to be shown of them.

        Parameters
        ----------
        pairs
            Held one at a time.
        """
        for number, pair in enumerate(pairs):
            if self.count and isinstance(pair, Pair) and (shown := self._look(pair)) is not None:
                heapq.heappush(self._kept, (shown.different, shown.calcified, -number, shown))
                if len(self._kept) > self.count:
                    heapq.heappop(self._kept)
            yield pair

    @property
    def slices(self) -> list[Shown]:
        """What is kept, the largest difference first."""
        return [shown for *_, shown in sorted(self._kept, key=lambda row: row[:3], reverse=True)]

    def pictures(self) -> list[tuple[str, str]]:
        """(data URL, caption) of each."""
        found = []
        for shown in self.slices:
            picture = figures.masks_figure(shown.hu, {"reference": shown.reference, "prediction": shown.predicted})
            caption = (
                f"{shown.name}, slice {shown.k + 1}: {shown.different} of {shown.calcified} dense voxels are called "
                "differently"
            )
            found.append((figures.data_url(picture, kind="png", dpi=110), caption))
        return found

    def _look(self, pair: Pair) -> Shown | None:
        predicted = pair.predicted if pair.integrated is None else pair.integrated
        if pair.reference.shape != pair.ct.shape or predicted.shape != pair.ct.shape:
            return None  # the comparison says so
        is_dense = pair.ct.hu >= self.threshold_hu
        reference, called = (
            np.where(is_dense & np.isin(codes, SCORED_ARTERIES), codes, 0).astype(np.uint8)
            for codes in (pair.reference, predicted)
        )
        differs, either = reference != called, (reference > 0) | (called > 0)
        different, calcified = differs.sum(axis=(1, 2)), either.sum(axis=(1, 2))
        if not calcified.any():
            return None
        k = int(np.lexsort((calcified, different))[-1])
        middle = np.argwhere(differs[k] if different[k] else either[k]).mean(axis=0)
        box = tuple(
            slice(first, first + size)
            for first, size in (
                _part(middle[axis], pair.ct.shape[1 + axis], pair.ct.spacing_mm[1 + axis]) for axis in (0, 1)
            )
        )
        return Shown(
            pair.name, k, int(different[k]), int(calcified[k]), pair.ct.hu[k][box].astype(np.float32),
            reference[k][box], called[k][box],
        )  # fmt: skip


def _part(middle: float, length: int, step_mm: float) -> tuple[int, int]:
    """First pixel and number of pixels of the part of an axis that is shown."""
    size = min(length, max(1, round(SIDE_MM / step_mm)))
    return int(np.clip(round(middle - size / 2), 0, length - size)), size
