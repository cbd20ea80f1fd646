"""The outlines of one gated COCA patient: an OsiriX export, an Apple property list in XML."""

from __future__ import annotations

import math
import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.parsers.expat import ExpatError

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery

VESSELS: Mapping[str, Artery] = MappingProxyType(
    {
        "Left Coronary Artery": Artery.LM,
        "Left Anterior Descending Artery": Artery.LAD,
        "Left Circumflex Artery": Artery.LCX,
        "Right Coronary Artery": Artery.RCA,
    }
)
"""COCA's names. Short names ("LAD") do not occur in it; its few other names ("1", "Unnamed") name no artery."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TUPLE = re.compile(rf"\s*[(\[{{]?\s*({_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*[)\]}}]?\s*")


@dataclass(frozen=True)
class Roi:
    """One outline as it is written in the file.

    Parameters
    ----------
    place
        Where it stands in the file, for messages: "image 12, ROI 1" (ImageIndex and 1-based position).
    name
        As written.
    artery
        UNASSIGNED when the name is none of `VESSELS`
    image_index
        OsiriX's slice counter; None when missing
    points_px
        (column, row) of each vertex; 0 is the center of the first pixel
    points_mm
        (x, y, z) of each vertex that has one, LPS mm
    center_mm
        (x, y, z), LPS mm; None when missing or incomplete
    max_hu, mean_hu, total_hu
        What OsiriX measured; None when missing.
    area_mm2
        The same; the file has cm2.
    problem
        Why the entry cannot be used; "" when it can.
    """

    place: str
    name: str
    artery: Artery
    image_index: int | None = None
    points_px: tuple[tuple[float, ...], ...] = ()
    points_mm: tuple[tuple[float, ...], ...] = ()
    center_mm: tuple[float, ...] | None = None
    max_hu: float | None = None
    mean_hu: float | None = None
    total_hu: float | None = None
    area_mm2: float | None = None
    problem: str = ""

    @property
    def is_placeholder(self) -> bool:
        """A slot without an outline: OsiriX exports them for slices that were only looked at."""
        return not self.points_px and not self.problem


@dataclass(frozen=True)
class Annotations:
    """Everything one XML file says.

    Parameters
    ----------
    rois
        In the file's order, placeholders and damaged ones included.
    notes
        Contradictions that do not stand in the way.
    """

    rois: tuple[Roi, ...]
    notes: tuple[str, ...] = ()


def read_annotations(path: Path) -> Annotations:
    """Read a property list. The DTD that it names is never fetched: the parser resolves nothing outside the file.

    Raises
    ------
    InputRefused
        "input", no such file; "unreadable", no property list, or one without ``Images``
    """
    try:
        document = plistlib.loads(Path(path).read_bytes(), fmt=plistlib.FMT_XML)
    except OSError as error:
        raise InputRefused("input", f"cannot read {path}: {error.strerror or error}; check the path") from None
    except (plistlib.InvalidFileException, ExpatError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = str(error).strip() or type(error).__name__
        raise _unreadable(path, f"an XML property list, found a damaged one ({reason})") from None
    images = document.get("Images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise _unreadable(path, "a property list with an array Images, found none")
    rois: list[Roi] = []
    notes: list[str] = []
    for n, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("ROIs", []), list):
            notes.append(f"entry {n + 1} of Images is no image with ROIs; left out")
            continue
        index = image.get("ImageIndex")
        index = index if isinstance(index, int) and not isinstance(index, bool) else None
        entries = image.get("ROIs", [])
        where = f"image {'?' if index is None else index}"
        stated = image.get("NumberOfROIs")
        if stated is not None and stated != len(entries):
            notes.append(f"{where}: NumberOfROIs is {stated}, found {len(entries)}")
        rois += [_roi(entry, index, f"{where}, ROI {m + 1}") for m, entry in enumerate(entries)]
    return Annotations(tuple(rois), tuple(notes))


def numbers(text: Any) -> tuple[float, ...] | None:
    """The numbers of a string such as "(244.5, 180.25)"; None when it is not one.

    Examples
    --------
    >>> numbers("(244.5, 180.25)"), numbers("[1,2,-3.5e1]"), numbers("(1, two)"), numbers("(nan, 1)")
    ((244.5, 180.25), (1.0, 2.0, -35.0), None, None)
    """
    match = _TUPLE.fullmatch(text) if isinstance(text, str) else None
    values = tuple(float(part) for part in match[1].split(",")) if match else ()
    return values if values and all(map(math.isfinite, values)) else None


def _roi(entry: Any, index: int | None, place: str) -> Roi:
    if not isinstance(entry, dict):
        return Roi(place, "", Artery.UNASSIGNED, index, problem="the entry is not a dictionary")
    name = str(entry.get("Name", ""))
    artery = VESSELS.get(name.strip(), Artery.UNASSIGNED)
    problem = ""
    points_px = _points(entry.get("Point_px"), 2)
    if points_px is None:
        points_px, problem = (), "Point_px is not a list of (column, row)"
    stated = entry.get("NumberOfPoints")
    if not problem and stated is not None and stated != len(points_px):
        problem = f"NumberOfPoints is {stated}, Point_px has {len(points_px)}"
    center = numbers(entry.get("Center"))
    area_cm2 = _number(entry.get("Area"))
    return Roi(
        place=place,
        name=name,
        artery=artery,
        image_index=index,
        points_px=points_px,
        points_mm=_points(entry.get("Point_mm"), 3) or (),
        center_mm=center if center is not None and len(center) == 3 else None,
        max_hu=_number(entry.get("Max")),
        mean_hu=_number(entry.get("Mean")),
        total_hu=_number(entry.get("Total")),
        area_mm2=None if area_cm2 is None else area_cm2 * 100,
        problem=problem,
    )


def _points(value: Any, size: int) -> tuple[tuple[float, ...], ...] | None:
    """Points of `size` numbers each; () when there is no list, None when one of its points is damaged."""
    if value is None:
        return ()
    if not isinstance(value, list):
        return None
    points = [numbers(text) for text in value]
    good = tuple(point for point in points if point is not None and len(point) == size)
    return good if len(good) == len(points) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _unreadable(path: Path, text: str) -> InputRefused:
    return InputRefused("unreadable", f"{path}: expected {text}; download it again")
