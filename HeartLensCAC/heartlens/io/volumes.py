"""CT volumes and segmentations as files: NRRD, NIfTI, MHA, label maps and Slicer's ``.seg.nrrd``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import AXIAL_COSINE, SKEW_TOLERANCE, CTHeader, CTVolume, canonical_axes, hu_array
from heartlens.core.disk.packed import VOLUME_ENDINGS, refuse_packed
from heartlens.core.disk.reading import open_regular
from heartlens.core.errors import InputRefused, WarningRecord, refuse_or_warn
from heartlens.core.grid import ijk_of, index_map, require_same_extent
from heartlens.core.lesions import Artery
from heartlens.core.segment_names import unknown_labels
from heartlens.io.metaimage import read_metaimage, write_metaimage
from heartlens.io.nifti import read_nifti, write_nifti
from heartlens.io.nrrd import Nrrd, read_nrrd, write_nrrd
from heartlens.io.seg_nrrd import artery_codes, is_segmentation, read_lesion_map, write_lesion_map, write_seg_nrrd

__all__ = [
    "checked_volume",
    "origin_of_labels",
    "read_image",
    "read_labels",
    "read_lesion_map",
    "read_volume",
    "write_lesion_map",
    "write_seg_nrrd",
    "write_volume",
]


SQUARE_PIXEL_RATIO = 1.5
"""Scanners make square pixels; axial pixels longer than wide by more than this come from a coronal stack."""

FEWEST_SLICES = 3

_KVP_KEY = "HeartLens_KVP"
_THICKNESS_KEY = "HeartLens_SliceThickness"


def read_volume(
    path: str | Path,
    *,
    kvp: float | None = None,
    slice_thickness_mm: float | None = None,
    allow: frozenset[str] | set[str] = frozenset(),
) -> tuple[CTVolume, list[WarningRecord]]:
    """Read a CT from NRRD, NIfTI or MetaImage in any orientation. No voxel is resampled or changed.

    Parameters
    ----------
    path
        NRRD, NIfTI or MetaImage, told apart by suffix.
    kvp, slice_thickness_mm
        What the file does not say.
    allow
        Overridable refusals that the user has lifted.

    Returns
    -------
    ct : CTVolume
        Axes nearest to (S, P, L).
    cautions : list[WarningRecord]
        What was allowed or had to be assumed.

    Raises
    ------
    InputRefused
        ``input``, ``unreadable``, ``truncated``, ``tilt``, ``not-axial``, ``few-slices``
    """
    path = Path(path)
    image = read_image(path)
    cautions: list[WarningRecord] = []
    values = image.values
    if values.ndim != 3:
        raise InputRefused(
            "unreadable", f"{path}: expected one number per voxel, found {values.shape[3]}; give one CT volume"
        )
    if not image.is_oriented:
        text = "the file does not say how it lies in the patient; assumed the axes of its format"
        cautions.append(WarningRecord("unoriented", text))
    header = CTHeader(
        kvp=_given_or_read(kvp, image, _KVP_KEY, f"{path}: give --kvp"),
        slice_thickness_mm=_given_or_read(slice_thickness_mm, image, _THICKNESS_KEY, f"{path}: give --thickness-mm"),
    )
    ct, more = checked_volume(values, image.affine, header, where=str(path), allow=allow)
    return ct, cautions + more


def checked_volume(
    values: NDArray,
    affine: NDArray[np.float64],
    header: CTHeader,
    *,
    where: str,
    allow: frozenset[str] | set[str] = frozenset(),
) -> tuple[CTVolume, list[WarningRecord]]:
    """A CT from voxels in any orientation, after the checks that need no DICOM header.

    Parameters
    ----------
    values
        (k, j, i), HU
    affine
        (4, 4), maps (i, j, k, 1) to LPS mm
    header
        What is known about the acquisition.
    where
        The file or node, for messages.
    allow
        Overridable refusals that the user has lifted.

    Raises
    ------
    InputRefused
        ``unreadable``, ``tilt``, ``not-axial``, ``few-slices``
    """
    cautions: list[WarningRecord] = []
    _check_right_angles(affine, where)
    values, affine = canonical_axes(values, affine)
    try:
        hu = np.ascontiguousarray(hu_array(values))
    except ValueError as error:
        raise InputRefused("unreadable", f"{where}: {error}; export the CT again") from None

    normal_cosine = affine[2, 2] / np.linalg.norm(affine[:3, 2])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ratio = max(spacing[:2]) / min(spacing[:2])
    if normal_cosine < AXIAL_COSINE:
        text = f"expected axial slices (cosine {AXIAL_COSINE} or more), found {normal_cosine:.4f}"
        cautions.append(refuse_or_warn("not-axial", text, allow, where=where))
    elif ratio > SQUARE_PIXEL_RATIO:
        text = (
            f"expected axial slices with square pixels, found {spacing[0]:.4g} x {spacing[1]:.4g} mm: "
            "a coronal or sagittal stack"
        )
        cautions.append(refuse_or_warn("not-axial", text, allow, where=where))
    if len(hu) < FEWEST_SLICES:
        text = f"expected {FEWEST_SLICES} slices or more, found {len(hu)}"
        cautions.append(refuse_or_warn("few-slices", text, allow, where=where))
    try:
        return CTVolume(hu, affine, header, allow_oblique="not-axial" in allow), cautions
    except ValueError as error:
        raise InputRefused("unreadable", f"{where}: {error}") from None


def write_volume(path: str | Path, ct: CTVolume) -> None:
    """Write a CT as NRRD, NIfTI or MetaImage, by its ending, whole or not at all.

    NRRD keeps every bit, tube voltage and thickness; NIfTI keeps geometry as float32.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(".nrrd"):
        facts = {_KVP_KEY: ct.header.kvp, _THICKNESS_KEY: ct.header.slice_thickness_mm}
        write_nrrd(path, ct.hu, ct.affine, {key: repr(value) for key, value in facts.items() if value is not None})
        return
    if name.endswith(".mha"):
        write_metaimage(path, ct.hu, ct.affine)
    elif name.endswith((".nii", ".nii.gz")):
        write_nifti(path, ct.hu, ct.affine)
    else:
        raise InputRefused("output", f"{path}: expected an ending of .nrrd, .nii, .nii.gz or .mha; choose one of them")


def origin_of_labels(path: Path, ct: CTVolume, patients: frozenset[str]) -> list[WarningRecord]:
    """What a DICOM SEG says of the CT it was made on, see `heartlens.dicom.seg`; nothing for other files."""
    if not _is_dicom(path):
        return []
    from heartlens.dicom.seg import origin_cautions

    return origin_cautions(path, ct, patients)


def read_labels(path: str | Path, ct: CTVolume) -> NDArray[np.uint8]:
    """Read which artery each voxel belongs to: a label map, a ``.seg.nrrd`` or a DICOM SEG.

    Returns
    -------
    NDArray[np.uint8]
        (k, j, i) `Artery` codes on the grid of `ct`, 0 where nothing is labeled

    Raises
    ------
    InputRefused
        ``input``, ``unreadable``, ``truncated``, ``grid`` or ``labels``
    """
    path = Path(path)
    if _is_dicom(path):
        from heartlens.dicom.seg import read_seg

        return read_seg(path, ct)
    image = read_image(path)
    if is_segmentation(image, path):
        return artery_codes(image, ct, path)
    if image.values.ndim != 3:
        raise InputRefused("labels", f"{path}: expected one label per voxel, found {image.values.shape[3]}")
    values = image.values
    flat = np.flatnonzero(values)
    labels = values.reshape(-1)[flat]
    codes_present = np.unique(labels)
    unknown = codes_present[~np.isin(codes_present, [int(a) for a in Artery])]
    if unknown.size:
        more = [f"{unknown.size - 12} more"] if unknown.size > 12 else []
        raise unknown_labels(path, [*(f"{value:g}" for value in unknown[:12]), *more])
    k, j, i = values.shape
    mapping = index_map((k, j, i), image.affine, ct, str(path))
    require_same_extent((k, j, i), mapping, ct, str(path))
    codes = np.zeros(ct.shape, np.uint8)
    codes.reshape(-1)[mapping.flat(ijk_of(flat, values.shape), ct, str(path))] = labels
    return codes


def read_image(path: Path) -> Nrrd:
    """Voxels and affine of a file as they are, whatever they mean.

    Parameters
    ----------
    path
        With one of `VOLUME_ENDINGS`.

    Raises
    ------
    InputRefused
        ``input``, ``unreadable``, ``truncated`` or ``geometry``
    """
    name = path.name.lower()
    if not name.endswith(VOLUME_ENDINGS):
        with open_regular(path) as file:
            refuse_packed(path, file.read(512))
        endings = ", ".join(VOLUME_ENDINGS)
        raise InputRefused("input", f"{path}: expected a DICOM folder or file, or an ending of {endings}")
    if name.endswith((".nrrd", ".nhdr")):
        return read_nrrd(path)
    if name.endswith((".nii", ".nii.gz")):
        values, affine, is_oriented = read_nifti(path)
        return Nrrd(values, affine, is_oriented, {})
    values, affine = read_metaimage(path)
    return Nrrd(values, affine, True, {})


def check_beginning(path: Path) -> None:
    """Refuse a volume file that is none by its first bytes; what else is wrong with it, reading it says.

    Parameters
    ----------
    path
        With one of `VOLUME_ENDINGS`.

    Raises
    ------
    InputRefused
        ``input``, it cannot be read; ``unreadable``, it is empty or something else.
    """
    name = path.name.lower()
    with open_regular(path) as file:
        start = file.read(512)
    if name.endswith((".nrrd", ".nhdr")):
        is_one = start.startswith(b"NRRD")
    elif name.endswith((".nii", ".nii.gz")):
        sizes = (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
        is_one = start.startswith(b"\x1f\x8b") or 348 in sizes or 540 in sizes
    else:
        is_one = b"=" in start.partition(b"\n")[0]
    if not is_one:
        found = "something else" if start else "an empty file"
        raise InputRefused(
            "unreadable", f"{path.name}: expected a volume as its ending says, found {found}; copy it again"
        )


def _check_right_angles(affine: NDArray[np.float64], where: str) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0:
        text = f"{where}: expected positive spacing, found {lengths.tolist()} mm; check the header"
        raise InputRefused("unreadable", text)
    unit = affine[:3, :3] / lengths
    skew = np.abs(unit.T @ unit - np.eye(3)).max()
    if skew > SKEW_TOLERANCE:
        raise InputRefused(
            "tilt",
            f"{where}: expected axes at right angles, found cosine {skew:.4f} between two of them, as a tilted gantry "
            "makes; resample the volume to right angles",
        )


def _given_or_read(given: float | None, image: Nrrd, key: str, way_out: str) -> float | None:
    """What the user said, else what the file says, else None."""
    if given is not None or (text := image.keys.get(key)) is None:
        return given
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InputRefused("unreadable", f"{way_out}; expected a positive number for {key}, found {text[:40]!r}")
    return number


def _is_dicom(path: Path) -> bool:
    from heartlens.dicom.compressed import is_dicom

    with open_regular(path) as file:
        return is_dicom(file.read(132))
