"""Calcium mass, and where its calibration comes from. docs/method.md, "Mass"."""

from __future__ import annotations

from heartlens.core.ct import CTHeader
from heartlens.core.protocol import ScoringProtocol

MG_PER_CM3_TO_MG_PER_MM3 = 1e-3

PLAUSIBLE_MG_PER_CM3_HU = (0.2, 2.0)
"""DICOM does not print the unit of (0018,9351); scanners write mg/cm3 per HU, about 0.7 to 0.9 at 120 kVp.
A value outside this range is something else and is not used."""


def mass_mg(hu_sum: float, *, voxel_volume_mm3: float, factor_mg_per_mm3_hu: float) -> float:
    """Mass c x volume x mean HU, mg hydroxyapatite; `hu_sum` is the sum over the voxels of that volume.

    Examples
    --------
    A lesion of 12 mm3 at 300 HU, 0.0008 mg/mm3 per HU:

    >>> round(mass_mg(16 * 300, voxel_volume_mm3=0.75, factor_mg_per_mm3_hu=0.0008), 6)
    2.88
    """
    return factor_mg_per_mm3_hu * voxel_volume_mm3 * float(hu_sum)


def calibration(protocol: ScoringProtocol, header: CTHeader) -> tuple[float | None, str | None]:
    """The calibration factor, mg/mm3 per HU, and its source; (None, None): no mass can be given.

    A factor given by the user wins, then the one that the scanner wrote for this patient (0018,9351).
    The three factors for device and patient size (0018,9352) are used only where they agree, because the
    patient's lateral width is not in the header. There is no generic factor: it varies with scanner and kVp.
    """
    if protocol.mass_factor_mg_per_mm3_hu is not None:
        return protocol.mass_factor_mg_per_mm3_hu, "given by the user"
    low, high = PLAUSIBLE_MG_PER_CM3_HU
    if header.mass_factor_patient is not None and low <= header.mass_factor_patient <= high:
        return header.mass_factor_patient * MG_PER_CM3_TO_MG_PER_MM3, "DICOM (0018,9351), this patient"
    device = set(header.mass_factors_device)
    if len(device) == 1 and low <= min(device) <= high:
        return device.pop() * MG_PER_CM3_TO_MG_PER_MM3, "DICOM (0018,9352), this device, every patient size"
    return None, None


def calibration_factor(*, rod_hu: float, water_hu: float, rod_mg_per_cm3: float = 200.0) -> float:
    """Factor c = rho / (HU of the rod - HU of water), mg/mm3 per HU, from a calibration rod.

    Examples
    --------
    >>> round(calibration_factor(rod_hu=250, water_hu=0), 6)
    0.0008
    """
    if rod_hu <= water_hu:
        raise ValueError(f"the rod must be brighter than water, got {rod_hu} HU and {water_hu} HU")
    return rod_mg_per_cm3 * MG_PER_CM3_TO_MG_PER_MM3 / (rod_hu - water_hu)
