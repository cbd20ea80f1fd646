"""Put outlines on a scan, and prove each one against the numbers that were exported with it.

An outline on the wrong slice, or shifted by a pixel, still looks like a label. Its maximum gives it away: the brightest
pixel inside must be exactly the Max that OsiriX wrote down. What fails is reported and gives no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from training.datasets.coca.annotations import Roi
from training.datasets.coca.outlines import components_of_slice, pixels_inside, polygon_area_px, share_components
from training.datasets.coca.scans import CocaScan

SLICE_TOLERANCE = 0.45
"""Slices between an outline and its slice. An outline drawn on a finer reconstruction lies halfway between two."""

MAX_TOLERANCE_HU = 0.01
"""Max is exact; this is only room for its decimals."""

MEAN_TOLERANCE_HU = 60.0
"""OsiriX averages over partly covered pixels, so its means lie 20 to 60 HU away from those of whole pixels."""

AREA_TOLERANCE = 0.05
"""Of the area: the polygon's own area must be the stated one; it needs no pixels."""

COUNT_TOLERANCE = 0.5
"""Of the pixel count, and `COUNT_SLACK_PX` more: how far whole pixels may be from Total / Mean."""

COUNT_SLACK_PX = 4

SPILL = 4
"""An island this many times larger than its outline is noted: the outline may have touched bone or a valve."""


@dataclass(frozen=True)
class RoiCheck:
    """What became of one outline.

    Parameters
    ----------
    roi
        The outline.
    verdict
        "proven", "placeholder" (no outline was drawn) or "failed"
    reason
        Why it failed; "" otherwise.
    slice_index
        Slice of the volume; None when none was found.
    pixels, max_hu, mean_hu
        Of the pixels inside the outline.
    area_mm2
        Of the polygon itself.
    labeled
        Pixels of the islands that it touches.
    notes
        Soft checks that are off.
    """

    roi: Roi
    verdict: str
    reason: str = ""
    slice_index: int | None = None
    pixels: int = 0
    max_hu: float | None = None
    mean_hu: float | None = None
    area_mm2: float | None = None
    labeled: int = 0
    notes: tuple[str, ...] = ()

    @property
    def has_max(self) -> bool:
        """The brightest pixel inside is the Max that was exported with the outline."""
        if self.max_hu is None or self.roi.max_hu is None:
            return False
        return abs(self.max_hu - self.roi.max_hu) <= MAX_TOLERANCE_HU


def prove_rois(scan: CocaScan, rois: Sequence[Roi]) -> tuple[NDArray[np.uint8], tuple[RoiCheck, ...]]:
    """Labels from the outlines that hold, and what became of each outline.

    Returns
    -------
    labels : NDArray[np.uint8]
        (k, j, i) `Artery` codes of the whole 4-connected islands >= 130 HU that proven outlines touch
    checks : tuple[RoiCheck, ...]
        One per outline, in order.
    """
    ct = scan.ct
    threshold_hu = ScoringProtocol().threshold_hu
    checks: list[RoiCheck] = []
    outlines: dict[int, list[int]] = {}  # slice -> positions in `checks`
    pixels: dict[int, NDArray[np.int64]] = {}
    for n, roi in enumerate(rois):
        check, inside = _check(scan, roi)
        checks.append(check)
        if check.verdict == "proven" and check.slice_index is not None:
            outlines.setdefault(check.slice_index, []).append(n)
            pixels[n] = inside
    labels = np.zeros(ct.shape, np.uint8)
    for k, members in outlines.items():
        islands = components_of_slice(ct.hu[k], threshold_hu)
        labels[k] = share_components(islands, [pixels[n] for n in members], [rois[n].artery for n in members])
        owners = {n: np.setdiff1d(islands.reshape(-1)[pixels[n]], [0]) for n in members}
        for n in members:
            rivals = [m for m in members if m != n and np.intersect1d(owners[m], owners[n]).size]
            checks[n] = _labeled(checks[n], islands, owners[n], [rois[m] for m in rivals])
    return labels, tuple(checks)


def _check(scan: CocaScan, roi: Roi) -> tuple[RoiCheck, NDArray[np.int64]]:
    nothing = np.zeros(0, np.int64)
    if roi.is_placeholder:
        return RoiCheck(roi, "placeholder"), nothing
    if roi.problem:
        return RoiCheck(roi, "failed", roi.problem), nothing
    k, reason = _slice(scan, roi)
    if k is None:
        return RoiCheck(roi, "failed", reason), nothing
    _, rows, columns = scan.ct.shape
    points = scan.volume_pixels(roi.points_px)
    inside = pixels_inside(points, (rows, columns))
    if not inside.size:
        return RoiCheck(roi, "failed", f"the outline lies outside the image of {rows} x {columns}", k), nothing
    check = _measured(scan, roi, k, points, inside)
    if roi.max_hu is None:
        return replace(check, verdict="failed", reason="no Max to prove it by"), nothing
    if not check.has_max:
        # An outline through pixel centers does not say whether they belong to it; Max does.
        inner = pixels_inside(points, (rows, columns), with_edge=False)
        without_edge = _measured(scan, roi, k, points, inner) if inner.size else check
        if not without_edge.has_max:
            reason = f"Max is {roi.max_hu:g}, the brightest pixel inside has {check.max_hu:g} HU"
            return replace(check, verdict="failed", reason=reason), nothing
        check, inside = without_edge, inner
    return replace(check, notes=_soft_checks(check, scan.ct.pixel_area_mm2)), inside


def _measured(scan: CocaScan, roi: Roi, k: int, points: NDArray[np.float64], inside: NDArray[np.int64]) -> RoiCheck:
    hu = scan.ct.hu[k].reshape(-1)[inside].astype(np.float64)
    return RoiCheck(
        roi,
        "proven",
        slice_index=k,
        pixels=int(inside.size),
        max_hu=float(hu.max()),
        mean_hu=float(hu.mean()),
        area_mm2=polygon_area_px(points) * scan.ct.pixel_area_mm2,
    )


def _slice(scan: CocaScan, roi: Roi) -> tuple[int | None, str]:
    """The slice an outline was drawn on: by its position, and only without one by its number."""
    slices = scan.ct.shape[0]
    places = [roi.center_mm] if roi.center_mm is not None else list(roi.points_mm)
    if places:
        height = scan.ct.index_kji(places)[:, 0]
        if np.ptp(height) > SLICE_TOLERANCE:
            return None, f"its points lie on several slices, {np.ptp(height) * scan.ct.increment_mm:.2f} mm apart"
        k = int(np.rint(np.median(height)))
        off_mm = abs(float(np.median(height)) - k) * scan.ct.increment_mm
        z_mm = places[0][2]
        if not 0 <= k < slices:
            return None, f"it lies at z {z_mm:.2f} mm, outside the scan"
        if off_mm > SLICE_TOLERANCE * scan.ct.increment_mm:
            return None, f"it lies at z {z_mm:.2f} mm, {off_mm:.2f} mm from the nearest slice: another reconstruction"
        return k, ""
    if roi.image_index is None:
        return None, "it has neither Center, Point_mm nor ImageIndex"
    # Without a position: 0-based on ascending z, the one reading of ImageIndex that was checked against HU.
    if not 0 <= roi.image_index < len(scan.slice_of_index):
        return None, f"ImageIndex {roi.image_index} lies outside the {len(scan.slice_of_index)} slices"
    return scan.slice_of_index[roi.image_index], ""


def _soft_checks(check: RoiCheck, pixel_area_mm2: float) -> tuple[str, ...]:
    roi, notes = check.roi, []
    if roi.artery is Artery.UNASSIGNED:
        notes.append(f"the name {roi.name!r} names no artery")
    if len(roi.points_px) < 3:  # a dot: it has no area, and OsiriX measured around it
        return tuple(notes)
    if roi.mean_hu is not None and check.mean_hu is not None and abs(check.mean_hu - roi.mean_hu) > MEAN_TOLERANCE_HU:
        notes.append(f"Mean is {roi.mean_hu:.0f}, pixels inside have {check.mean_hu:.0f} HU")
    if roi.area_mm2 is not None and check.area_mm2 is not None:
        slack_mm2 = AREA_TOLERANCE * roi.area_mm2 + 0.01 * pixel_area_mm2
        if abs(check.area_mm2 - roi.area_mm2) > slack_mm2:
            notes.append(f"Area is {roi.area_mm2:.2f} mm2, the outline has {check.area_mm2:.2f}")
    if roi.total_hu is not None and roi.mean_hu:
        stated = roi.total_hu / roi.mean_hu
        if abs(check.pixels - stated) > COUNT_TOLERANCE * stated + COUNT_SLACK_PX:
            notes.append(f"Total / Mean gives {stated:.0f} pixels, inside are {check.pixels}")
    return tuple(notes)


def _labeled(check: RoiCheck, islands: NDArray[np.int64], own: NDArray[np.int64], rivals: Sequence[Roi]) -> RoiCheck:
    notes = list(check.notes)
    labeled = int(np.isin(islands, own).sum())
    if not labeled:
        notes.append("no pixel inside reaches 130 HU: no label")
    if len(check.roi.points_px) > 2 and labeled > SPILL * check.pixels + COUNT_SLACK_PX:
        notes.append(f"its islands have {labeled} pixels, the outline {check.pixels}: check for bone or a valve")
    notes += [f"shares an island with {rival.place} ({rival.name})" for rival in rivals]
    return replace(check, labeled=labeled, notes=tuple(notes))
