"""A CT volume in HU with its geometry: the value everything else is computed from.

Arrays are indexed [k, j, i] = slice, row, column. Space is DICOM's patient space, LPS, in mm
(x to the patient's left, y to the back, z to the head).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

AXIAL_COSINE = 0.99
"""Least absolute cosine between the slice normal and the patient's long axis; spec 6.1."""

SKEW_TOLERANCE = 1e-3
"""Largest absolute cosine between two axes that still counts as a right angle (0.06 degrees)."""


@dataclass(frozen=True)
class CTHeader:
    """What is known about the acquisition besides voxels and geometry. Unknown is None, never a guess.

    A number that is none, NaN or infinite as a damaged header may hold, says nothing, and is unknown.

    Parameters
    ----------
    study_uid, series_uid, frame_of_reference_uid
        DICOM UIDs
    sop_instance_uids
        One per slice, foot to head; one per frame (repeated) for multi-frame CT.
    frame_numbers
        1-based frame of each slice in its multi-frame object; empty for single-frame CT
    instance_numbers
        DICOM instance number of each slice, foot to head, by which a viewer finds it; empty where one is missing
    acquired
        Day of the acquisition, ISO 8601.
    kvp
        Tube voltage, kV.
    slice_thickness_mm
        Nominal thickness T; the increment comes from positions, not from here.
    kernel
        ConvolutionKernel (0018,1210)
    patient_age_years, patient_sex
        for percentiles; sex is "M" or "F"
    is_gated
        ECG-gated acquisition
    contrast
        that an agent was given, without its free text; "" when the tag says none
    manufacturer, model
        Scanner.
    reconstruction_diameter_mm
        Field of view.
    image_type
        ImageType values
    mass_factor_patient, mass_factors_device
        (0018,9351), (0018,9352), mg/cm3 per HU as stored
    """

    study_uid: str | None = None
    series_uid: str | None = None
    frame_of_reference_uid: str | None = None
    sop_instance_uids: tuple[str, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    instance_numbers: tuple[int, ...] = ()
    acquired: str | None = None
    kvp: float | None = None
    slice_thickness_mm: float | None = None
    kernel: str | None = None
    patient_age_years: float | None = None
    patient_sex: str | None = None
    is_gated: bool | None = None
    contrast: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    reconstruction_diameter_mm: float | None = None
    image_type: tuple[str, ...] = ()
    mass_factor_patient: float | None = None
    mass_factors_device: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                object.__setattr__(self, name, None)
        factors = tuple(factor for factor in self.mass_factors_device if math.isfinite(factor))
        object.__setattr__(self, "mass_factors_device", factors)


_NUMBERS = (
    "kvp", "slice_thickness_mm", "patient_age_years", "reconstruction_diameter_mm", "mass_factor_patient",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CTVolume:
    """Voxels in HU and where they lie.

    Parameters
    ----------
    hu
        (k, j, i), int16 or float32, HU; int16 exactly when every value is integral (see `hu_array`)
    affine
        (4, 4) float64; maps (i, j, k, 1) = column, row, slice to LPS mm
    header
        Acquisition facts.
    allow_oblique
        The user asked to score slices that are not near-axial.

    Raises
    ------
    ValueError
        The array or the affine breaks an invariant; the message says which and what was found.
    """

    hu: NDArray
    affine: NDArray[np.float64]
    header: CTHeader = field(default_factory=CTHeader)
    allow_oblique: bool = False

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or 0 in self.hu.shape:
            raise ValueError(f"hu must be a non-empty (slice, row, column) array, got shape {self.hu.shape}")
        if self.hu.dtype not in (np.int16, np.float32):
            raise ValueError(f"hu must be int16 or float32, got {self.hu.dtype}; make it with hu_array()")
        affine = np.array(self.affine, dtype=np.float64)
        _check_affine(affine, 0.5 if self.allow_oblique else AXIAL_COSINE)
        slices = self.header.sop_instance_uids
        if slices and len(slices) != self.hu.shape[0]:
            raise ValueError(f"expected one SOP Instance UID per slice ({self.hu.shape[0]}), got {len(slices)}")
        hu = self.hu.view()
        hu.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "hu", hu)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows, columns."""
        k, j, i = self.hu.shape
        return k, j, i

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(slice increment, row distance, column distance), mm: array order, as scipy's `sampling`."""
        dx, dy, dz = (float(d) for d in np.linalg.norm(self.affine[:3, :3], axis=0))
        return dz, dy, dx

    @property
    def increment_mm(self) -> float:
        """Distance between neighboring slices along their normal, from positions."""
        return self.spacing_mm[0]

    @property
    def pixel_area_mm2(self) -> float:
        """Area of a pixel within its slice, mm2."""
        return self.spacing_mm[1] * self.spacing_mm[2]

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel, mm3: pixel area times the increment between slices."""
        return self.pixel_area_mm2 * self.increment_mm

    def lps_mm(self, kji: ArrayLike) -> NDArray[np.float64]:
        """Patient position of array indices.

        Parameters
        ----------
        kji
            (..., 3), slice, row, column; fractions allowed

        Returns
        -------
        NDArray[np.float64]
            (..., 3), LPS mm
        """
        ijk = np.asarray(kji, dtype=np.float64)[..., ::-1]
        return ijk @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index_kji(self, lps_mm: ArrayLike) -> NDArray[np.float64]:
        """Fractional array index of patient positions: the inverse of `lps_mm`."""
        offset = np.asarray(lps_mm, dtype=np.float64) - self.affine[:3, 3]
        return (offset @ np.linalg.inv(self.affine[:3, :3]).T)[..., ::-1]


def hu_array(values: NDArray) -> NDArray:
    """Store HU without changing any: int16 when every value is integral and fits, else float32.

    Examples
    --------
    >>> hu_array(np.array([130.0, 200.0])).dtype, hu_array(np.array([199.5])).dtype
    (dtype('int16'), dtype('float32'))
    """
    if values.dtype == np.int16:
        return values
    if not np.isfinite(values).all():
        raise ValueError("HU must be finite, found NaN or infinity")
    fits = values.size == 0 or (values.min() >= -32768 and values.max() <= 32767)
    if fits and (np.issubdtype(values.dtype, np.integer) or bool((values == np.rint(values)).all())):
        return values.astype(np.int16)
    return values.astype(np.float32)


def canonical_axes(values: NDArray, affine: ArrayLike) -> tuple[NDArray, NDArray[np.float64]]:
    """Permute and flip array axes so that columns run left, rows run back and slices run to the head.

    Nothing is resampled: every voxel keeps its value and its place in the patient.

    Parameters
    ----------
    values
        (k, j, i) in any orientation
    affine
        (4, 4), maps (i, j, k, 1) of that array to LPS mm

    Returns
    -------
    values : NDArray
        The same voxels, axes nearest to (S, P, L).
    affine : NDArray[np.float64]
        (4, 4) that belongs to them
    """
    affine = np.array(affine, dtype=np.float64)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # The permutation with the largest total alignment; greedy choice can pick one axis twice near 45 degrees.
    permutations = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    columns = max(permutations, key=lambda p: sum(abs(directions[axis, p[axis]]) for axis in range(3)))
    values = np.transpose(values, [2 - columns[2], 2 - columns[1], 2 - columns[0]])
    out = affine.copy()
    out[:3, :3] = affine[:3, list(columns)]
    for axis in range(3):  # 0 = i (left), 1 = j (back), 2 = k (head)
        if out[axis, axis] < 0:
            n = values.shape[2 - axis]
            out[:3, 3] += out[:3, axis] * (n - 1)
            out[:3, axis] *= -1
            values = np.flip(values, axis=2 - axis)
    return values, out


def _check_affine(affine: NDArray[np.float64], axial_cosine: float) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise ValueError(f"affine must be a finite 4x4 matrix with last row 0 0 0 1, got {affine.tolist()}")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0:
        raise ValueError(f"spacing must be positive, got {lengths.tolist()} mm; read it from slice positions")
    unit = affine[:3, :3] / lengths
    skew = np.abs(unit.T @ unit - np.eye(3)).max()
    if skew > SKEW_TOLERANCE:
        raise ValueError(f"axes must be at right angles, found cosine {skew:.4f}: a tilted gantry is not supported")
    if np.linalg.det(unit) <= 0:
        raise ValueError("affine must be right-handed in (column, row, slice) order; use canonical_axes()")
    if unit[2, 2] < axial_cosine:
        raise ValueError(
            f"slices must be near-axial and run foot to head (cosine >= {axial_cosine}), got {unit[2, 2]:.4f}"
        )
