"""The DICOM images that a CT was read from, as SEG and SR refer to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from heartlens.ct import CTVolume
from heartlens.grid import IndexMap, index_map

MANUFACTURER = "HeartLens"
MODEL = "HeartLens CAC"
SERIAL_NUMBER = "none"  # software has none; the attribute must have a value

_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Attributes of type 2, PS3.3 C.7: they must be there, with or without a value; de-identified CT often lacks them."""


@dataclass(frozen=True)
class SourceFrame:
    """One slice as the scanner stored it.

    Parameters
    ----------
    image : index of its image in `SourceImages.images`
    frame : 1-based frame number, None for single-frame CT
    shape : rows, columns
    affine : (4, 4), maps (column, row, 0, 1) of the stored frame to LPS mm
    """

    image: int
    frame: int | None
    shape: tuple[int, int]
    affine: NDArray[np.float64]


class SourceImages:
    """The images of a CT, and where each of its slices lies in them.

    Parameters
    ----------
    ct : the volume that was read
    sources : headers without pixels, one per slice of `ct`; one for all when they are frames of one image
    """

    def __init__(self, ct: CTVolume, sources: Sequence[Dataset]) -> None:
        self.ct = ct
        self.images: list[Dataset] = []
        numbers: dict[str, int] = {}
        for dataset in sources:
            uid = str(dataset.SOPInstanceUID)
            if uid not in numbers:
                numbers[uid] = len(self.images)
                self.images.append(_complete(dataset))
        uids = ct.header.sop_instance_uids or [str(d.SOPInstanceUID) for d in sources]
        if len(uids) != ct.shape[0] or not set(uids) <= set(numbers):
            raise ValueError(
                f"expected the source image of each of {ct.shape[0]} slices, got {len(self.images)} images "
                f"for {len(uids)} slices"
            )
        frames = ct.header.frame_numbers or (None,) * len(uids)
        self.slices = [(numbers[uid], frame) for uid, frame in zip(uids, frames, strict=True)]

    @property
    def is_multiframe(self) -> bool:
        return self.slices[0][1] is not None

    def frame_of(self, k: int) -> SourceFrame:
        """The stored frame of slice `k` of the CT."""
        image, number = self.slices[k]
        dataset = self.images[image]
        groups: list[Dataset] = []
        if number is not None:
            per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
            groups = [per_frame[number - 1]] if per_frame else []
            groups += list(dataset.get("SharedFunctionalGroupsSequence") or [])

        def value(sequence: str, keyword: str) -> Any:
            for group in groups:
                if group.get(sequence) and keyword in group[sequence][0]:
                    return group[sequence][0][keyword].value
            return dataset[keyword].value

        orientation = np.array(value("PlaneOrientationSequence", "ImageOrientationPatient"), dtype=np.float64)
        dy, dx = (float(d) for d in value("PixelMeasuresSequence", "PixelSpacing"))
        affine = np.eye(4)
        affine[:3, 0] = orientation[:3] * dx
        affine[:3, 1] = orientation[3:] * dy
        affine[:3, 2] = np.cross(orientation[:3], orientation[3:]) * self.ct.increment_mm
        affine[:3, 3] = [float(x) for x in value("PlanePositionSequence", "ImagePositionPatient")]
        return SourceFrame(image, number, (int(dataset.Rows), int(dataset.Columns)), affine)

    def stored(self, codes: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
        """Slice `k` of an array on the CT's grid, in the rows and columns of the stored frame.

        Parameters
        ----------
        codes : (k, j, i)
        """
        frame = self.frame_of(k)
        rows, columns = frame.shape
        mapping = index_map((1, rows, columns), frame.affine, self.ct, f"source image of slice {k}")
        return _taken(codes[k], mapping, frame.shape)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep highdicom's warnings on odd headers off stderr: they quote the patient's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _taken(plane: NDArray[np.uint8], mapping: IndexMap, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(rows, columns) of the stored frame out of (j, i) of the CT: flips and a swap of axes, nothing else."""
    turn, (di, dj, _) = mapping.turn, mapping.shift
    if turn[0, 0] == 0:
        plane = plane.T  # stored rows run along the patient's other axis
        across, down = turn[1, 0], turn[0, 1]
    else:
        across, down = turn[0, 0], turn[1, 1]
    plane = plane[::-1] if down < 0 else plane
    plane = plane[:, ::-1] if across < 0 else plane
    if plane.shape != shape:
        raise ValueError(f"expected stored frames of {shape} rows, columns, got {plane.shape} at {di}, {dj}")
    return np.ascontiguousarray(plane)


def _complete(dataset: Dataset) -> Dataset:
    """The header with what SEG and SR must copy from it; missing values stay empty."""
    complete = Dataset(dict(dataset.items()))  # shares the elements, unparsed: 48 headers cost 100 ms to parse
    for keyword in _MAY_BE_EMPTY:
        if keyword not in complete:
            setattr(complete, keyword, "")
    if not complete.get("FrameOfReferenceUID"):
        # A frame of reference that nobody shares says the truth: positions hold within this series only.
        complete.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(complete.SeriesInstanceUID), "frame"])
    return complete
