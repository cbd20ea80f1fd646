"""Pictures of one lesion: the slice where it is largest, close up, and where on the whole slice that is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import ARTERY_COLORS, ARTERY_NAMES, SCORED_ARTERIES, Artery
from heartlens.report.figures import (
    PICTURE_WINDOW_HU,
    Picture,
    ScoredVoxels,
    mask_of,
    outline_path,
    svg_picture,
    to_gray,
    window_of,
)
from heartlens.scoring.report import LesionScore

LEAST_PEAK_HU = 300.0
"""A fainter lesion is not drawn as white: it would look denser than it is."""

CROP_MM = 50.0
LOCATOR_PIXELS = 120
"""Across the small picture of a whole slice."""

LOCATOR_SHARE = 0.34
"""Of the width of a crop, where it stands in a corner of it."""


def calcium_gray(hu: NDArray, peak_hu: float) -> NDArray[np.uint8]:
    """HU as gray values in which a lesion keeps its shades: fat to 130 HU fills the darker half, calcium the rest.

    Parameters
    ----------
    hu
        Of a picture.
    peak_hu
        White, the brightest voxel of the lesion.

    Examples
    --------
    >>> calcium_gray(np.array([-200, 130, 565, 1000, 1400]), 1000).tolist()
    [0, 128, 191, 255, 255]
    """
    top = max(peak_hu, LEAST_PEAK_HU)
    gray = np.interp(hu.astype(np.float32), (PICTURE_WINDOW_HU[0], 130.0, top), (0.0, 127.5, 255.0))
    return np.rint(gray).astype(np.uint8)


def lesion_picture(
    ct: CTVolume, voxels: ScoredVoxels, lesion: LesionScore, *, outlined: bool = True, with_locator: bool = False
) -> tuple[Picture, int]:
    """A lesion on the slice where it is largest.

    Parameters
    ----------
    ct
        The scored grid.
    voxels
        That count.
    lesion
        Of the report.
    outlined
        Draw its outline, and that of its neighbors; the bare picture shows what the outline hides.
    with_locator
        Show the whole slice in a corner.

    Returns
    -------
    picture : Picture
        `CROP_MM` wide, less at the border of a small image
    index : int
        Of the slice.
    """
    index, rows, columns = _place_of(ct, voxels, lesion)
    on_slice = voxels.kji[:, 0] == index
    mine = on_slice & (voxels.ids == lesion.id)
    drawn = []
    for artery in (*SCORED_ARTERIES, Artery.OTHER) if outlined else ():  # neighbors, thin
        others = on_slice & (voxels.ids != lesion.id) & (voxels.artery == artery)
        mask = mask_of(voxels.kji[others][:, 1:], rows, columns)
        if mask.any():
            drawn.append(f'<path class="near" stroke="{ARTERY_COLORS[artery]}" d="{outline_path(mask)}"/>')
    if outlined:
        path = outline_path(mask_of(voxels.kji[mine][:, 1:], rows, columns))
        drawn.append(f'<path class="halo" d="{path}"/><path stroke="{ARTERY_COLORS[lesion.artery]}" d="{path}"/>')
    _, dy, dx = ct.spacing_mm
    name = f"Lesion {lesion.id}, {ARTERY_NAMES[lesion.artery]}, {'outlined' if outlined else 'without its outline'}"
    inset = ""
    if with_locator:
        size = LOCATOR_SHARE * (columns.stop - columns.start) * dx
        inset = _inset(locator_picture(ct, voxels, lesion), size)
    gray = calcium_gray(ct.hu[index, rows, columns], lesion.peak_hu)
    return svg_picture(gray, (dx, dy), drawn, name, labels=inset), index


def locator_picture(ct: CTVolume, voxels: ScoredVoxels, lesion: LesionScore) -> Picture:
    """The whole slice of a lesion's picture, small, with the frame of the picture."""
    index, rows, columns = _place_of(ct, voxels, lesion)
    step = max(1, -(-max(ct.shape[1:]) // LOCATOR_PIXELS))
    _, dy, dx = ct.spacing_mm
    gray = to_gray(ct.hu[index, ::step, ::step])
    box = f"M{columns.start / step:.1f} {rows.start / step:.1f}"
    box += f"H{columns.stop / step:.1f}V{rows.stop / step:.1f}H{columns.start / step:.1f}z"
    name = f"Where the picture of lesion {lesion.id} lies on the whole slice"
    return svg_picture(gray, (dx * step, dy * step), [f'<path class="frame" d="{box}"/>'], name)


def _place_of(ct: CTVolume, voxels: ScoredVoxels, lesion: LesionScore) -> tuple[int, slice, slice]:
    """Slice, rows and columns of a lesion's picture."""
    mine = voxels.kji[voxels.ids == lesion.id]
    if not len(mine):  # seen by a threshold of the volume alone
        mine = np.rint(ct.index_kji(lesion.centroid_lps_mm)).astype(np.int64)[None]
    index = int(np.bincount(mine[:, 0]).argmax())
    _, dy, dx = ct.spacing_mm
    center = mine[mine[:, 0] == index].mean(axis=0)
    return index, window_of(center[1], CROP_MM / dy, ct.shape[1]), window_of(center[2], CROP_MM / dx, ct.shape[2])


def _inset(picture: Picture, size_mm: float) -> str:
    """A picture in the corner of another one, so wide."""
    inner = picture.svg.replace("<svg ", f'<svg x="0" y="0" width="{size_mm:.2f}" ', 1)
    return inner.replace('role="img"', 'aria-hidden="true"', 1).replace(
        "<svg ", f'<svg height="{size_mm * picture.height_mm / picture.width_mm:.2f}" ', 1
    )
