"""The slices of some scans, one by one, as pre-training and the slice classifier see them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from heartlens.anatomy import heart_region
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.networks.view import AIR_HU, heart_center
from training.datasets.sampling import epoch_order
from training.datasets.scans import UNREVIEWED
from training.datasets.shards import ShardSet

SHUFFLE = 2**31
"""The epoch whose order shuffles guides: one that no run reaches."""


class SliceSet:
    """Every slice of some scans, numbered from 0.

    Parameters
    ----------
    shards
        Where they are read from.
    scans
        Numbers of the scans.
    hearts
        Row and column of the middle of the heart, by checksum of the voxels, as
        `training.datasets.hearts.find_hearts` gives them; what is missing is found when it is asked for.

    Attributes
    ----------
    places
        (n, 2), scan number and slice of each
    is_calcified
        (n,) bool, labeled coronary calcium on it
    is_labelled
        (n,) bool, of a scan whose labels are complete: without calcium it has none
    """

    def __init__(
        self, shards: ShardSet, scans: Sequence[int], hearts: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        if not scans:
            raise InputRefused("input", "there is no scan to read slices of; the split is empty")
        self.shards = shards
        self.scans = tuple(scans)
        self.places, self.is_calcified = shards.slices(scans)
        labeled = {n: shards.scans[n].is_labeled for n in scans}
        self.is_labeled = np.array([labeled[n] for n in self.places[:, 0].tolist()], dtype=bool)
        self._boxes_px: dict[tuple[int, bool], NDArray[np.int64]] = {}
        self._hearts_px: dict[str, tuple[float, float]] = {n: (v[0], v[1]) for n, v in (hearts or {}).items()}

    def __len__(self) -> int:
        return len(self.places)

    def name(self, number: int) -> str:
        """Scan and slice, for messages: "phantom/17 slice 12"."""
        scan, k = self.places[number]
        return f"{self.shards.scans[scan].name} slice {k}"

    def identity(self) -> str:
        """Checksum of which voxels these are, in this order."""
        checksums = "\n".join(self.shards.scans[n].voxels_sha256 for n in self.scans)
        return hashlib.sha256(checksums.encode()).hexdigest()

    def spacing_mm(self, number: int) -> tuple[float, float]:
        """Row and column distance."""
        _, row_mm, column_mm = self.shards.scans[self.places[number, 0]].spacing_mm
        return row_mm, column_mm

    def extent_mm(self, number: int) -> tuple[float, float]:
        """Height and width of a slice."""
        _, rows, columns = self.shards.scans[self.places[number, 0]].shape
        row_mm, column_mm = self.spacing_mm(number)
        return rows * row_mm, columns * column_mm

    def heart_mm(self, number: int) -> tuple[float, float]:
        """Row and column of the middle of the heart, from the outer corner of the first pixel; equal in all slices."""
        scan = int(self.places[number, 0])
        voxels = self.shards.scans[scan].voxels_sha256
        if voxels not in self._hearts_px:
            ct = self.shards.ct(scan)
            self._hearts_px[voxels] = heart_center(ct, heart_region(ct))
        (row, column), (row_mm, column_mm) = self._hearts_px[voxels], self.spacing_mm(number)
        return (row + 0.5) * row_mm, (column + 0.5) * column_mm

    def boxes_mm(self, number: int, *, is_coronary: bool = True) -> NDArray[np.float64]:
        """(lesions, 4): top, left, bottom, right of each annotated coronary area, or of each OTHER one."""
        key = (number, is_coronary)
        if key not in self._boxes_px:
            scan, k = self.places[number]
            is_empty = is_coronary and not self.is_calcified[number]
            labels = np.zeros((1, 1), np.uint8) if is_empty else np.array(self.shards.labels(scan)[k])
            self._boxes_px[key] = lesion_boxes_px(labels, is_coronary=is_coronary)
        row_mm, column_mm = self.spacing_mm(number)
        return self._boxes_px[key] * np.array([row_mm, column_mm, row_mm, column_mm])

    def guides_mm(self, number: int, guided_by: str, seed: int) -> NDArray[np.float64]:
        """(areas, 4) that the guided crops of a slice may show.

        Parameters
        ----------
        guided_by
            One of `training.dino.augment.GUIDES`; "shuffled" takes the areas of another slice, which one is a function
            of the seed, at the same share of height and width: as many, as large, in the wrong place.
        """
        if guided_by != "shuffled":
            return self.boxes_mm(number, is_coronary=guided_by == "coronary")
        other = int(epoch_order(len(self), seed, SHUFFLE)[number])
        boxes, scale = self.boxes_mm(other), np.divide(self.extent_mm(number), self.extent_mm(other))
        center, half = (boxes[:, :2] + boxes[:, 2:]) / 2 * scale, (boxes[:, 2:] - boxes[:, :2]) / 2
        return np.concatenate([center - half, center + half], axis=1)

    def read(self, numbers: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images of some slices; smaller ones are filled up with air at the bottom and the right.

        Returns
        -------
        images : Tensor
            (n, rows, columns) int16, HU
        spacing_mm : Tensor
            (n, 2)
        """
        images = [self.shards.image(self.places[n, 0])[self.places[n, 1]] for n in numbers]
        rows, columns = np.max([image.shape for image in images], axis=0)
        filled = np.full((len(images), rows, columns), AIR_HU, dtype=np.int16)
        for place, image in zip(filled, images, strict=True):
            place[: image.shape[0], : image.shape[1]] = image
        spacing = np.array([self.spacing_mm(n) for n in numbers], dtype=np.float32)
        return torch.from_numpy(filled), torch.from_numpy(spacing)


class PartlyLabeled(SliceSet):
    """All slices of some scans, of which the labels of a few alone are known: what guides, comes from these.

    Parameters
    ----------
    shards, scans, hearts
        See `SliceSet`.
    labeled
        Numbers of the scans whose labels are known.
    """

    def __init__(
        self,
        shards: ShardSet,
        scans: Sequence[int],
        labeled: Sequence[int],
        hearts: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(shards, scans, hearts)
        self.known = frozenset(labeled)

    def boxes_mm(self, number: int, *, is_coronary: bool = True) -> NDArray[np.float64]:
        """(lesions, 4) as in `SliceSet`; none where nobody has labeled the scan."""
        if int(self.places[number, 0]) not in self.known:
            return np.zeros((0, 4))
        return super().boxes_mm(number, is_coronary=is_coronary)

    def identity(self) -> str:
        """Checksum of which voxels these are, and of whose labels are known."""
        own = super().identity()
        known = "\n".join(self.shards.scans[n].voxels_sha256 for n in self.scans if n in self.known)
        return own if self.known >= set(self.scans) else hashlib.sha256(f"{own}\n{known}".encode()).hexdigest()


NOT_CORONARY = (0, int(Artery.OTHER), UNREVIEWED)


def lesion_boxes_px(labels: NDArray[np.uint8], *, is_coronary: bool = True) -> NDArray[np.int64]:
    """Annotated coronary areas of one slice.

    Parameters
    ----------
    labels
        (rows, columns), codes of `Artery`; OTHER is not calcium of a coronary artery
    is_coronary
        False gives the areas of OTHER instead

    Returns
    -------
    NDArray[np.int64]
        (n, 4): first row, first column, last row + 1, last column + 1

    Examples
    --------
    >>> slice_labels = np.zeros((6, 6), np.uint8)
    >>> slice_labels[1:3, 2:5] = 2
    >>> slice_labels[5, 5] = 5
    >>> lesion_boxes_px(slice_labels).tolist()
    [[1, 2, 3, 5]]
    """
    wanted = ~np.isin(labels, NOT_CORONARY) if is_coronary else labels == Artery.OTHER
    islands, _ = ndimage.label(wanted, structure=np.ones((3, 3)))
    boxes = [(r.start, c.start, r.stop, c.stop) for r, c in ndimage.find_objects(islands)]
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)
