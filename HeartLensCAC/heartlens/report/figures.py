"""Pictures of the report: projections of the heart, score along z. SVG with embedded PNG.

Gray values are PNG, everything drawn is vector, so a printout stays sharp. Nothing here needs more than
numpy and zlib: a plotting library would cost more time than scoring does.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import ARTERY_COLORS, SCORED_ARTERIES, Artery, LesionMap
from heartlens.scoring.report import SliceScore

PICTURE_WINDOW_HU = (-200.0, 500.0)
"""Black and white of every picture: fat stays visible, calcium keeps shades up to the highest weight."""

MARGIN_MM = 35.0
LEAST_VIEW_MM = 150.0
SLAB_MARGIN_MM = 10.0
EMPTY_SLAB_MM = 60.0


class Picture(NamedTuple):
    """An SVG and its size in the patient."""

    svg: str
    width_mm: float
    height_mm: float


@dataclass(frozen=True)
class ScoredVoxels:
    """The voxels that count, without the rest of the volume.

    Parameters
    ----------
    kji
        (n, 3) slice, row, column
    ids
        (n,) lesion
    artery
        (n,) `Artery` code
    """

    kji: NDArray[np.int64]
    ids: NDArray[np.uint16]
    artery: NDArray[np.uint8]

    @classmethod
    def of(cls, lesions: LesionMap, codes: NDArray[np.uint8]) -> ScoredVoxels:
        """From a lesion map and the (k, j, i) codes of `scoring.report.scored_voxels`."""
        voxels = lesions.voxels
        artery = codes.reshape(-1)[voxels.flat]
        kept = artery > 0
        kji = np.stack(np.unravel_index(voxels.flat[kept], lesions.shape), axis=-1)
        return cls(kji.astype(np.int64), voxels.ids[kept], artery[kept])


def png(gray: NDArray[np.uint8]) -> bytes:
    """An 8-bit grayscale PNG.

    Parameters
    ----------
    gray
        (rows, columns)
    """
    rows, columns = gray.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    # Filter 2 stores each row as the difference to the one above it (PNG section 9.2).
    filtered = np.full((rows, columns + 1), 2, np.uint8)
    filtered[:, 1:] = np.diff(gray, axis=0, prepend=np.zeros((1, columns), np.uint8))
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    data = zlib.compress(filtered.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def to_gray(hu: NDArray, window_hu: tuple[float, float] = PICTURE_WINDOW_HU) -> NDArray[np.uint8]:
    """HU as gray values: at or below the window 0, at or above it 255."""
    low, high = window_hu
    return np.rint((np.clip(hu.astype(np.float32), low, high) - low) * (255.0 / (high - low))).astype(np.uint8)


def outline_path(mask: NDArray[np.bool_]) -> str:
    """SVG path along the pixel edges of a mask, in pixels; collinear edges are one line.

    Examples
    --------
    >>> outline_path(np.ones((1, 2), bool))
    'M0 0h2M0 1h2M0 0v1M2 0v1'
    """
    padded = np.pad(mask, 1)
    between_rows = padded[1:, 1:-1] ^ padded[:-1, 1:-1]  # (rows + 1, columns)
    between_columns = padded[1:-1, 1:] ^ padded[1:-1, :-1]  # (rows, columns + 1)
    across = [f"M{start} {line}h{length}" for line, start, length in _runs(between_rows)]
    down = [f"M{line} {start}v{length}" for line, start, length in _runs(between_columns.T)]
    return "".join(across + down)


def fill_path(mask: NDArray[np.bool_]) -> str:
    """SVG path that covers a mask, in pixels, one rectangle for each run in a row."""
    return "".join(f"M{start} {row}h{length}v1h-{length}z" for row, start, length in _runs(mask))


def _runs(mask: NDArray[np.bool_]) -> Iterable[tuple[int, int, int]]:
    """(row, first column, length) of every run of True."""
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return ((int(r), int(s), int(e - s)) for r, s, e in zip(rows, starts, ends, strict=True))


@dataclass(frozen=True)
class PictureFrame:
    """The part of a CT that the projections show: slices of the array, each (start, stop)."""

    slices: slice
    rows: slice
    columns: slice
    depth: slice  # rows that the front view looks through


def view_of(ct: CTVolume, voxels: ScoredVoxels) -> PictureFrame:
    """The scored calcium with a margin; without any, the middle of the image, where the heart is expected."""
    scored = voxels.kji[np.isin(voxels.artery, SCORED_ARTERIES)]
    if len(scored):
        low, high = scored.min(axis=0), scored.max(axis=0)
    else:
        low = high = np.array(ct.shape) // 2

    def part(axis: int, margin_mm: float, least_mm: float) -> slice:
        spacing = ct.spacing_mm[axis]
        length = max((high[axis] - low[axis] + 1) + 2 * margin_mm / spacing, least_mm / spacing)
        return window_of((low[axis] + high[axis] + 1) / 2, length, ct.shape[axis])

    slices, rows, columns = (part(axis, MARGIN_MM, LEAST_VIEW_MM) for axis in range(3))
    depth = part(1, SLAB_MARGIN_MM, 0.0) if len(scored) else part(1, EMPTY_SLAB_MM / 2, 0.0)
    return PictureFrame(slices, rows, columns, depth)


def axial_projection(ct: CTVolume, voxels: ScoredVoxels, view: PictureFrame) -> Picture:
    """Maximum intensity from foot to head, calcium in the colors of the arteries."""
    hu = ct.hu[view.slices, view.rows, view.columns].max(axis=0)
    _, dy, dx = ct.spacing_mm
    drawn, labels = _projected(voxels, view, axes=(1, 2), pixel_mm=(dx, dy), flip_rows=False)
    return svg_picture(
        to_gray(hu),
        (dx, dy),
        drawn,
        "The heart seen from the feet, brightest voxels, calcium in the colors of the arteries",
        labels=labels,
        letters=("R", "L", "A", "P"),
    )


def front_projection(ct: CTVolume, voxels: ScoredVoxels, view: PictureFrame, slices: Sequence[SliceScore]) -> Picture:
    """Maximum intensity from front to back, and the score of each slice beside it."""
    hu = ct.hu[view.slices, view.depth, view.columns].max(axis=1)[::-1]
    dz, _, dx = ct.spacing_mm
    drawn, labels = _projected(voxels, view, axes=(0, 2), pixel_mm=(dx, dz), flip_rows=True)
    shown = [slices[k] for k in range(view.slices.start, view.slices.stop)]
    return svg_picture(
        to_gray(hu), (dx, dz), drawn, "The heart seen from the front, brightest voxels; Agatston score of each slice",
        labels=labels, letters=("R", "L", "H", "F"), beside=_bars(shown, dz),
    )  # fmt: skip


BARS_MM = 46.0
GAP_MM = 3.0


def _bars(shown: Sequence[SliceScore], increment_mm: float) -> tuple[float, str]:
    """Width in mm and SVG of one bar a slice, head on top, at the height of the slice."""
    highest = max((s.agatston for s in shown), default=0.0)
    height = len(shown) * increment_mm
    if highest <= 0:
        return 0.0, ""
    length = BARS_MM - 14.0
    bars = []
    for row, score in enumerate(reversed(shown)):
        if score.agatston > 0:
            width = max(length * score.agatston / highest, 0.4)
            bars.append(
                f"M0 {row * increment_mm + 0.1 * increment_mm:.3f}h{width:.3f}v{0.8 * increment_mm:.3f}h-{width:.3f}z"
            )
    step = _tick_step(height)
    ticks = []
    base = shown[0].z_mm - increment_mm / 2
    first = int(np.ceil((shown[0].z_mm) / step)) * step
    for z in np.arange(first, shown[-1].z_mm + 1e-6, step):
        at = height - (z - base)
        ticks.append(
            f'<path class="grid" d="M0 {at:.2f}h{length:.2f}"/>'
            f'<text class="tick" x="{BARS_MM:.2f}" y="{at + 1.2:.2f}" text-anchor="end">{z:.0f} mm</text>'
        )
    return BARS_MM, (
        f'{"".join(ticks)}<path class="axis" d="M0 0v{height:.2f}"/><path class="bar" d="{"".join(bars)}"/>'
    )


def _tick_step(length_mm: float) -> int:
    return next((step for step in (10, 20, 50, 100) if length_mm / step <= 8), 200)


def _projected(
    voxels: ScoredVoxels, view: PictureFrame, *, axes: tuple[int, int], pixel_mm: tuple[float, float], flip_rows: bool
) -> tuple[list[str], str]:
    """Calcium of a view, projected: filled paths in pixels, and letters in mm."""
    parts = (view.slices, view.rows, view.columns)
    rows, columns = parts[axes[0]], parts[axes[1]]
    inside = np.ones(len(voxels.kji), bool)
    for axis, part in enumerate(parts):
        inside &= (voxels.kji[:, axis] >= part.start) & (voxels.kji[:, axis] < part.stop)
    drawn, places = [], []
    for artery in (Artery.OTHER, *SCORED_ARTERIES):
        mine = inside & (voxels.artery == artery)
        if not mine.any():
            continue
        points = voxels.kji[mine][:, list(axes)]
        if flip_rows:
            points[:, 0] = rows.start + rows.stop - 1 - points[:, 0]
        mask = mask_of(points, rows, columns)
        color = ARTERY_COLORS[artery]
        drawn.append(f'<path class="fill" fill="{color}" d="{fill_path(mask)}"/>')
        drawn.append(f'<path class="edge" d="{outline_path(mask)}"/>')
        if artery in SCORED_ARTERIES:
            largest = points[voxels.ids[mine] == np.bincount(voxels.ids[mine]).argmax()]
            x = (largest[:, 1].max() + 1 - columns.start) * pixel_mm[0]
            y = (largest[:, 0].mean() + 0.5 - rows.start) * pixel_mm[1]
            places.append((float(x), float(y), artery))
    return drawn, _letters(places)


LETTER_MM = 5.0


def _letters(places: list[tuple[float, float, Artery]]) -> str:
    """Names of arteries to the right of their largest lesion, moved down where they would overlap."""
    taken: list[tuple[float, float]] = []
    texts = []
    for x, y, artery in sorted(places, key=lambda place: place[1]):
        while any(abs(y - b) < LETTER_MM and abs(x - a) < 3 * LETTER_MM for a, b in taken):
            y += 0.5
        taken.append((x, y))
        name = "?" if artery is Artery.UNASSIGNED else artery.name
        texts.append(
            f'<text class="name" x="{x + 1.5:.2f}" y="{y + 0.36 * LETTER_MM:.2f}" fill="{ARTERY_COLORS[artery]}">'
            f"{name}</text>"
        )
    return "".join(texts)


def svg_picture(
    gray: NDArray[np.uint8],
    pixel_mm: tuple[float, float],
    drawn: Sequence[str],
    name: str,
    *,
    labels: str = "",
    letters: tuple[str, str, str, str] | None = None,
    beside: tuple[float, str] = (0.0, ""),
) -> Picture:
    """An image with paths in its pixel coordinates and labels in mm; `letters` are left, right, top, bottom."""
    dx, dy = pixel_mm
    width, height = gray.shape[1] * dx, gray.shape[0] * dy
    data = base64.b64encode(png(gray)).decode("ascii")
    more = ""
    if letters is not None:
        left, right, top, bottom = letters
        more = (
            f'<text class="side" x="2" y="{height / 2:.2f}">{left}</text>'
            f'<text class="side" x="{width - 2:.2f}" y="{height / 2:.2f}" text-anchor="end">{right}</text>'
            f'<text class="side" x="{width / 2:.2f}" y="6" text-anchor="middle">{top}</text>'
            f'<text class="side" x="{width / 2:.2f}" y="{height - 2:.2f}" text-anchor="middle">{bottom}</text>'
            f'<path class="scale" d="M4 {height - 4:.2f}h20"/>'
            f'<text class="side" x="14" y="{height - 5.5:.2f}" text-anchor="middle">20 mm</text>'
        )
    extra, chart = beside
    total = width + (GAP_MM + extra if extra else 0.0)
    if extra:
        more += f'<g transform="translate({width + GAP_MM:.3f} 0)">{chart}</g>'
    svg = (
        f'<svg viewBox="0 0 {total:.3f} {height:.3f}" role="img" aria-label="{name}">'
        f'<image width="{width:.3f}" height="{height:.3f}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
        f'<g class="paths" transform="scale({dx:.6f} {dy:.6f})">{"".join(drawn)}</g>{labels}{more}</svg>'
    )
    return Picture(svg, total, height)


def window_of(center: float, length: float, size: int) -> slice:
    """About `length` indices around a center, moved inside 0..size, whole axis when it is shorter."""
    n = min(max(round(length), 1), size)
    start = min(max(round(center - n / 2), 0), size - n)
    return slice(start, start + n)


def mask_of(points: NDArray[np.int64], rows: slice, columns: slice) -> NDArray[np.bool_]:
    """(rows, columns) of a window, True at the points that lie in it."""
    mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    row, column = points[:, 0] - rows.start, points[:, 1] - columns.start
    inside = (row >= 0) & (row < mask.shape[0]) & (column >= 0) & (column < mask.shape[1])
    mask[row[inside], column[inside]] = True
    return mask
