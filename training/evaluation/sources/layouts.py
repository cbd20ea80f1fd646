"""Segmentations of other programs as they wrote them: a mask for each structure, or one map with codes of their own.

A layout says in TOML which structure is which artery. Grids and orientations may differ from the scan's: each voxel of
the scan takes the label of the nearest voxel of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.core.ct import CTVolume
from heartlens.core.disk.packed import VOLUME_ENDINGS
from heartlens.core.errors import InputRefused
from heartlens.core.grid import GRID_TOLERANCE
from heartlens.core.lesions import Artery
from heartlens.io.volumes import read_image
from training.engine.config import read_toml

NONE = "none"
"""The name of what is no calcium."""

NAMES = (*(artery.name for artery in Artery), NONE)

RESAMPLED, PARTLY_COVERED = "resampled", "partly-covered"
"""Cautions: the labels had another grid; they do not reach over the whole scan, and nothing is labeled beyond."""

IN_A_MASK = 0.5
"""Values above this lie in a structure: masks are 0 and 1, or 0 and 255."""


@dataclass(frozen=True)
class Layout:
    """How another program's files name what they show.

    Parameters
    ----------
    masks
        Name of each structure's file without its ending, and the artery that it is ("none": nothing). Where two
        overlap, the one named first counts.
    codes
        Code in the one label map, and its artery.
    is_closed
        A code without a name is refused; otherwise it is nothing.
    within_mm
        What lies so near to a structure belongs to it, the nearest one: calcium lies in the wall, and a mask may show
        the lumen alone.
    """

    masks: tuple[tuple[str, str], ...] = ()
    codes: tuple[tuple[int, str], ...] = ()
    is_closed: bool = True
    within_mm: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.masks) == bool(self.codes):
            raise ValueError("expected one of the tables masks and codes with an entry, found both or none")
        if not 0 <= self.within_mm < np.inf:
            raise ValueError(f"within_mm must be 0 or more, got {self.within_mm}")
        for what, name in (*self.masks, *self.codes):
            if name not in NAMES:
                raise ValueError(f"{what}: expected one of {', '.join(NAMES)}, found {name!r}")

    def is_at(self, place: Path) -> bool:
        """Whether a folder is one patient in this layout, with masks of its own.

        Parameters
        ----------
        place
            The folder.
        """
        return any(_mask_file(place, name) is not None for name, _ in self.masks)

    def read(self, place: Path, ct: CTVolume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Labels of one patient on the grid of the scan.

        Parameters
        ----------
        place
            Its folder, or its label map.
        ct
            The scan.

        Returns
        -------
        codes : NDArray[np.uint8]
            (k, j, i) `Artery` codes, 0 where nothing is labeled
        cautions : tuple[str, ...]
            `RESAMPLED`, `PARTLY_COVERED`.

        Raises
        ------
        InputRefused
            ``labels``: a file is missing, or a code has no name; ``grid``: the map and the scan have no place in
            common; ``unreadable``
        """
        codes = np.zeros(ct.shape, np.uint8)
        cautions: list[str] = []
        for path, name in self._mask_files(place) if self.masks else [(map_file(place), "")]:
            placed = place_on(path, ct)
            cautions += placed.cautions
            own = self._arteries_of_codes(path, placed.values) if self.codes else _of_mask(placed.values, name)
            codes = np.where(codes == 0, own, codes)
        return widened(codes, ct, self.within_mm), tuple(dict.fromkeys(cautions))

    def _mask_files(self, place: Path) -> list[tuple[Path, str]]:
        if not place.is_dir():
            raise InputRefused("labels", f"{place}: expected a folder with a mask for each structure, found a file")
        found = [(_mask_file(place, structure), name) for structure, name in self.masks if name != NONE]
        missing = [s for s, name in self.masks if name != NONE and _mask_file(place, s) is None]
        if missing:
            raise InputRefused(
                "labels",
                f"{place}: expected the masks that the layout names, found no {', '.join(missing)} (with an ending of "
                f"{', '.join(VOLUME_ENDINGS)}); write them, or take their names out of the layout",
            )
        return [(path, name) for path, name in found if path is not None]

    def _arteries_of_codes(self, path: Path, values: NDArray) -> NDArray[np.uint8]:
        names, present = dict(self.codes), np.unique(values)
        nameless = [f"{value:g}" for value in present if value != 0 and value not in names]
        if nameless and self.is_closed:
            raise InputRefused(
                "labels",
                f"{path}: expected the codes that the layout names, found {', '.join(nameless[:12])}; name them in "
                '[codes] ("none" for what is no calcium), or say others = "none" there',
            )
        own = np.zeros(values.shape, np.uint8)
        for code, name in names.items():
            if name != NONE:
                own[values == code] = int(Artery[name])
        return own


def read_layout(path: Path) -> Layout:
    """A layout of a TOML file.

    Parameters
    ----------
    path
        With one of the tables ``masks`` (structure = artery) and ``codes`` (code = artery, and ``others = "none"``
        where codes without a name are nothing), and ``within_mm`` above them.

    Raises
    ------
    InputRefused
        ``input``
    """
    document = read_toml(path)
    tables = {name: document.pop(name, {}) for name in ("masks", "codes")}
    within_mm = document.pop("within_mm", 0.0)
    if document or not all(isinstance(table, dict) for table in tables.values()):
        raise InputRefused(
            "input",
            f"{path}: expected the tables masks or codes, and within_mm; found {', '.join(document) or 'a value'}",
        )
    others = tables["codes"].pop("others", None)
    if others not in (None, NONE):
        raise InputRefused("input", f'{path}: codes.others: expected "none", found {others!r}')
    try:
        return Layout(
            masks=tuple((name, str(artery)) for name, artery in tables["masks"].items()),
            codes=tuple((int(code), str(artery)) for code, artery in tables["codes"].items()),
            is_closed=others is None,
            within_mm=float(within_mm),
        )
    except (ValueError, TypeError) as error:
        raise InputRefused("input", f"{path}: {error}") from None


class Placed(NamedTuple):
    """A map on the grid of a scan.

    Parameters
    ----------
    values
        (k, j, i) as in the file; 0 where the map does not reach.
    cautions
        See `Layout.read`.
    """

    values: NDArray
    cautions: tuple[str, ...]


def place_on(path: Path, ct: CTVolume) -> Placed:
    """A map on the grid of a scan, each voxel by the nearest one of the map.

    Parameters
    ----------
    path
        NRRD, NIfTI or MetaImage.
    ct
        The scan.

    Raises
    ------
    InputRefused
        ``labels``: more than one value for a voxel; ``grid``: no voxel of the scan lies in the map
    """
    image = read_image(path)
    values = image.values
    if values.ndim != 3:
        raise InputRefused("labels", f"{path}: expected one value for each voxel, found {values.ndim} dimensions")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise InputRefused("grid", f"{path}: expected axes that span space, found {image.affine[:3].tolist()}")
    to_map: NDArray[np.float64] = np.linalg.solve(image.affine, ct.affine).astype(
        np.float64
    )  # (i, j, k, 1) of the scan -> of the map
    slices, rows, columns = ct.shape
    j, i = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    in_plane = np.stack([i, j], axis=-1) @ to_map[:3, :2].T + to_map[:3, 3]  # (rows, columns, 3)
    size, placed, reached = np.array(values.shape[::-1]), np.zeros(ct.shape, values.dtype), 0
    for k in range(slices):
        index = np.floor(in_plane + k * to_map[:3, 2] + 0.5).astype(np.int64)
        is_inside = ((index >= 0) & (index < size)).all(axis=-1)
        reached += int(is_inside.sum())
        x, y, z = index[is_inside].T
        placed[k][is_inside] = values[z, y, x]
    if not reached:
        raise InputRefused(
            "grid",
            f"{path}: expected a map of this scan, found one that has no voxel in it; check that both are of one "
            "patient and that the program kept the place of the scan",
        )
    cautions = [RESAMPLED] if not _is_same_grid(to_map, ct.shape, values.shape) else []
    return Placed(placed, (*cautions, *([PARTLY_COVERED] if reached < ct.hu.size else [])))


def _is_same_grid(to_map: NDArray[np.float64], shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether every voxel of the scan is one of the map, in whatever order of axes."""
    whole = np.rint(to_map)
    far = np.array([shape[2], shape[1], shape[0], 1])
    is_turned = np.abs(whole[:3, :3]).sum() == 3 and sorted(shape) == sorted(other)
    return bool(is_turned and (np.abs(to_map - whole) @ far).max() < GRID_TOLERANCE)


def widened(codes: NDArray[np.uint8], ct: CTVolume, within_mm: float) -> NDArray[np.uint8]:
    """Labels that reach a little beyond what was labeled.

    Parameters
    ----------
    codes
        (k, j, i)
    ct
        The scan.
    within_mm
        How far.
    """
    if not within_mm or not codes.any():
        return codes
    reach = [int(np.ceil(within_mm / step)) for step in ct.spacing_mm]
    box = tuple(
        slice(max(part.start - more, 0), part.stop + more)
        for part, more in zip(ndimage.find_objects((codes > 0).astype(np.uint8))[0], reach, strict=True)
    )
    distance, nearest = ndimage.distance_transform_edt(codes[box] == 0, sampling=ct.spacing_mm, return_indices=True)
    wide = codes.copy()
    wide[box] = np.where(distance <= within_mm, codes[box][tuple(nearest)], 0)
    return wide


def map_file(place: Path) -> Path:
    """The one label map of a patient: the file itself, or the only volume of its folder beside the scan.

    Parameters
    ----------
    place
        Folder or file.

    Raises
    ------
    InputRefused
        ``labels``: none, or more than one
    """
    if not place.is_dir():
        return place
    scans = {f"{name}{ending}" for name in ("ct", "image", "scan") for ending in VOLUME_ENDINGS}
    files = [path for path in sorted(place.iterdir()) if path.name.lower().endswith(VOLUME_ENDINGS)]
    maps = [path for path in files if path.name.lower() not in scans]
    if len(maps) != 1:
        found = ", ".join(path.name for path in maps[:5]) or "none"
        raise InputRefused("labels", f"{place}: expected one label map, found {found}; keep one, or give a file")
    return maps[0]


def _mask_file(place: Path, structure: str) -> Path | None:
    return next((p for ending in VOLUME_ENDINGS if (p := place / f"{structure}{ending}").is_file()), None)


def _of_mask(values: NDArray, name: str) -> NDArray[np.uint8]:
    return np.where(values > IN_A_MASK, np.uint8(Artery[name]), np.uint8(0))
