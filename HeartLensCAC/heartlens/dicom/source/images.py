"""The DICOM images that a CT was read from, as SEG and SR refer to them."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from heartlens.core.codes import Code
from heartlens.core.ct import CTVolume
from heartlens.core.errors import NotWritten
from heartlens.core.grid import IndexMap, index_map
from heartlens.dicom.header import pydicom_warnings_logged
from heartlens.dicom.source.attributes import TAKEN, Rule, illegal_uids, patient_and_study, reference
from heartlens.dicom.words import one_uid

MANUFACTURER = "HeartLens"
MODEL = "HeartLens CAC"
SERIAL_NUMBER = "none"  # software has none; the attribute must have a value

FRAME_TOLERANCE = 0.3
"""How far a frame may lie from a slice of the CT, in voxels. Scanners round positions, and the reader accepts steps
that differ by 0.1 mm, so frames scatter about the even grid; less than half a voxel is still unambiguous."""


class StoredFrame(NamedTuple):
    """A frame as the scanner stored it, with labels instead of HU.

    Parameters
    ----------
    image
        Index of its image in `SourceImages.images`.
    number
        1-based frame number, None for single-frame CT
    plane
        (row, column)
    """

    image: int
    number: int | None
    plane: NDArray[np.uint8]


class SourceImages:
    """The images of a CT, and where its voxels lie in them.

    Parameters
    ----------
    ct
        The volume that was read.
    sources
        Headers without pixels, one per slice of `ct`, or one per multi-frame image.

    Attributes
    ----------
    images
        Each once, with what refers to it and where it lies; see `heartlens.dicom.source.attributes`.
    notes
        What of the source could not be passed on as it is, in words.

    Raises
    ------
    NotWritten
        The images cannot be referred to, or not as images of one series.
    """

    def __init__(self, ct: CTVolume, sources: Sequence[Dataset]) -> None:
        self.ct = ct
        self.images: list[Dataset] = []
        self._number_of: dict[str, int] = {}
        with pydicom_warnings_logged():
            references = [reference(dataset, ct) for dataset in sources]
            self._patient, illegal = patient_and_study(sources[0])
        for image in references:
            uid = str(image.SOPInstanceUID)
            if uid not in self._number_of:
                self._number_of[uid] = len(self.images)
                self.images.append(image)
            elif "PerFrameFunctionalGroupsSequence" not in image:
                raise NotWritten(
                    "two images of the CT have one SOPInstanceUID (0008,0018): a reference could mean either"
                )
        missing = set(ct.header.sop_instance_uids) - set(self._number_of)
        if missing or not self.images:
            raise ValueError(
                f"expected the source image of each of {ct.shape[0]} slices, got {len(self.images)} images, "
                f"{len(missing)} missing"
            )
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            if len({str(image[keyword].value) for image in self.images}) > 1:
                raise NotWritten(f"the images of the CT have more than one {keyword}, and an object belongs to one")
        # A frame of reference that nobody shares says the truth: positions hold within this series only.
        own = generate_uid(entropy_srcs=[str(self.images[0].SeriesInstanceUID), "frame"])
        frame_of_reference = one_uid(ct.header.frame_of_reference_uid) or own
        for image in self.images:
            image["FrameOfReferenceUID"] = DataElement(0x00200052, "UI", frame_of_reference, validation_mode=0)
        self.notes = tuple(_notes(illegal, illegal_uids(self.images)))

    def described(self, image: int) -> Dataset:
        """An image with patient, study and scanner, from which highdicom copies them."""
        whole = Dataset(dict(self.images[image].items()))
        for keyword in TAKEN:  # of a multi-frame image everything is there, and not all of it legal
            if keyword not in self._patient and TAKEN[keyword] in (Rule.EMPTY, Rule.DROP) and keyword in whole:
                del whole[keyword]
        whole.update(self._patient)
        return whole

    def stored(self, codes: NDArray[np.uint8]) -> Iterator[StoredFrame]:
        """The frames on which labels lie, in the rows and columns of the scanner.

        Parameters
        ----------
        codes
            (k, j, i), on the grid of the CT

        Yields
        ------
        StoredFrame
            One that has labels.
        """
        if not self.ct.header.sop_instance_uids:
            yield from self._stored_by_position(codes)
            return
        numbers = self.ct.header.frame_numbers or (None,) * self.ct.shape[0]
        for k in np.flatnonzero(codes.reshape(len(codes), -1).any(axis=1)):
            image = self._number_of[self.ct.header.sop_instance_uids[k]]
            # The slice is known by its UID; of the geometry only flips and a swap of rows and columns are needed.
            turn = np.rint(np.linalg.solve(self.ct.affine, self.affine_of(image, numbers[k]))[:3, :3]).astype(np.int64)
            last = np.array([self.ct.shape[2] - 1, self.ct.shape[1] - 1])
            shift = np.array([*np.where(turn[:2, :2].sum(axis=1) < 0, last, 0), k])
            yield StoredFrame(image, numbers[k], self._gather(codes, IndexMap(turn, shift), image))

    def _stored_by_position(self, codes: NDArray[np.uint8]) -> Iterator[StoredFrame]:
        """For a volume whose slices are not the scanner's, such as a coronal stack that the user allowed."""
        for image, dataset in enumerate(self.images):
            count = dataset.get("NumberOfFrames")
            for number in range(1, int(count) + 1) if count else (None,):
                shape = (1, int(dataset.Rows), int(dataset.Columns))
                what = f"source image {image + 1}"
                mapping = index_map(shape, self.affine_of(image, number), self.ct, what, tolerance=FRAME_TOLERANCE)
                plane = self._gather(codes, mapping, image)
                if plane.any():
                    yield StoredFrame(image, number, plane)

    def _gather(self, codes: NDArray[np.uint8], mapping: IndexMap, image: int) -> NDArray[np.uint8]:
        row, column = np.arange(int(self.images[image].Rows)), np.arange(int(self.images[image].Columns))
        i, j, k = (t[0] * column[None, :] + t[1] * row[:, None] + s for t, s in zip(*mapping, strict=True))
        return codes[k, j, i]

    def affine_of(self, image: int, number: int | None) -> NDArray[np.float64]:
        """(4, 4), maps (column, row, slice, 1) of a stored frame to LPS mm."""
        dataset = self.images[image]
        groups = [dataset]
        if number is not None:
            per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
            groups = [*per_frame[number - 1 : number], *(dataset.get("SharedFunctionalGroupsSequence") or []), dataset]
        return plane_affine(groups, self.ct)


def plane_affine(groups: Sequence[Dataset], ct: CTVolume) -> NDArray[np.float64]:
    """(4, 4) of one frame, maps (column, row, slice, 1) to LPS mm; PS3.3 C.7.6.2 and C.7.6.16.2.

    Parameters
    ----------
    groups
        Where to look, first match counts: functional groups of a frame, shared ones, a classic image.
    ct
        A step from one frame to the next is a voxel of it, whichever way the frames are stacked.

    Raises
    ------
    KeyError
        The frame has no place.
    """
    orientation = np.array(group_value(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), np.float64)
    dy, dx = (float(d) for d in group_value(groups, "PixelMeasuresSequence", "PixelSpacing"))
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * dx
    affine[:3, 1] = orientation[3:] * dy
    normal = np.cross(orientation[:3], orientation[3:])
    affine[:3, 2] = normal / np.abs(np.linalg.solve(ct.affine[:3, :3], normal)).max()
    affine[:3, 3] = [float(x) for x in group_value(groups, "PlanePositionSequence", "ImagePositionPatient")]
    return affine


def group_value(groups: Sequence[Dataset], sequence: str, keyword: str) -> Any:
    """First value of an attribute in the groups, inside the sequence or beside it; KeyError when none has it."""
    for group in groups:
        for holder in (*(group.get(sequence) or ()), group):
            if holder.get(keyword) is not None:
                return holder[keyword].value
    raise KeyError(keyword)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Call highdicom without its warnings and without garbage collection.

    Its warnings on odd headers quote the patient's name on stderr. Garbage collection would take 0.25 s of the 0.42 s
    that it needs to parse its table of the standard.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if was_enabled:
            gc.enable()


def _notes(illegal: Sequence[str], uids: Sequence[str]) -> Iterator[str]:
    if illegal:
        yield f"{', '.join(illegal)}: not legal in the CT's header, so segmentation.dcm and report.dcm go without"
    if uids:
        yield f"{', '.join(uids)}: not legal in the CT's header, and kept so that references match"


def concept(code: Code) -> Any:
    """A code in highdicom's form."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
