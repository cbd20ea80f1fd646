"""Where a place of the patient lies in the stored images, for coordinates in a structured report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.ct import CTVolume

if TYPE_CHECKING:
    from heartlens.dicom.source.images import SourceImages

FIRST_PIXEL_CENTER = 0.5
"""Image coordinates count from the corner of the first pixel, PS3.3 C.18.6.1.1."""


class StoredPlaces:
    """The planes of the stored images, in the order in which they were read.

    Parameters
    ----------
    images
        Of the CT.
    """

    def __init__(self, images: SourceImages) -> None:
        self._images = images
        self._frames: list[tuple[int, int | None]] = []
        for image, dataset in enumerate(images.images):
            count = dataset.get("NumberOfFrames")
            self._frames += [(image, number) for number in (range(1, int(count) + 1) if count else (None,))]
        self._to_pixel = np.stack([np.linalg.inv(images.affine_of(*frame)) for frame in self._frames])

    def frame_at(self, lps_mm: ArrayLike) -> int:
        """Index of the frame whose plane is nearest to a place."""
        away = self._to_pixel[:, 2] @ np.array([*np.asarray(lps_mm, np.float64), 1.0])
        return int(np.abs(away).argmin())

    def pixels(self, frame: int, lps_mm: ArrayLike) -> Any:
        """(n, 2) column and row of some places in a frame, from the corner of its first pixel."""
        points = np.atleast_2d(np.asarray(lps_mm, np.float64))
        homogeneous = np.column_stack([points, np.ones(len(points))])
        return (homogeneous @ self._to_pixel[frame].T)[:, :2] + FIRST_PIXEL_CENTER

    def reference(self, frame: int) -> Any:
        """The frame as the source of a region."""
        import highdicom as hd

        image, number = self._frames[frame]
        dataset = self._images.images[image]
        return hd.sr.SourceImageForRegion(
            referenced_sop_class_uid=dataset.SOPClassUID,
            referenced_sop_instance_uid=dataset.SOPInstanceUID,
            referenced_frame_numbers=None if number is None else [number],
        )

    def size(self, frame: int) -> tuple[int, int]:
        """Columns and rows of a frame."""
        dataset = self._images.images[self._frames[frame][0]]
        return int(dataset.Columns), int(dataset.Rows)


def corners_mm(ct: CTVolume, k: int, rows: slice, columns: slice) -> NDArray[np.float64]:
    """(5, 3) LPS of the corners of a box on a slice, closed: the last is the first."""
    j, i = (rows.start, rows.stop - 1), (columns.start, columns.stop - 1)
    return ct.lps_mm([(k, j[0], i[0]), (k, j[0], i[1]), (k, j[1], i[1]), (k, j[1], i[0]), (k, j[0], i[0])])
