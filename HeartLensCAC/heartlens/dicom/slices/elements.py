"""The elements of a file up to its pixels, and whether one that decides the score stands there twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

_SAID_ONCE = frozenset(
    int(Tag(keyword))  # pydicom compares tags of its own class slowly, and each file has hundreds
    for keyword in (
        "RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "Rows",
        "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames",
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    )
)  # fmt: skip
"""What the score hangs on may stand once in a data set, as PS3.5 7.1 asks of every element."""

_PIXELS = frozenset({int(Tag("PixelData")), int(Tag("FloatPixelData")), int(Tag("DoubleFloatPixelData"))})


def read_elements(file: IO[bytes], tags: Sequence[BaseTag]) -> tuple[FileDataset, str | None]:
    """Read some elements; pydicom takes the last of several with one tag, and says nothing.

    Parameters
    ----------
    file
        At the beginning of a DICOM file.
    tags
        Of the elements that are read.

    Returns
    -------
    dataset : FileDataset
        Those that the file has before its pixels.
    twice : str | None
        Keyword of one that decides the score and stands there more than once.
    """
    met: set[int] = set()
    twice: list[int] = []

    def is_at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        number = int(tag)
        if number in _SAID_ONCE:
            (twice.append if number in met else met.add)(number)
        return number in _PIXELS

    dataset = read_partial(file, is_at_pixels, force=True, specific_tags=list(tags))
    return dataset, keyword_for_tag(twice[0]) if twice else None
