"""Ellipsoids, tubes and point clouds: how far a point lies from each, and how clouds are splatted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid in space.

    Parameters
    ----------
    center
        (3,), mm
    axes
        (3, 3), unit rows
    radii
        (3,), mm, along those rows
    """

    center: NDArray[np.float64]
    axes: NDArray[np.float64]
    radii: NDArray[np.float64]

    @property
    def reach_mm(self) -> float:
        """Largest radius, mm."""
        return float(self.radii.max())

    def distance(self, x: FloatArray, y: FloatArray, z: ArrayLike) -> FloatArray:
        """Approximate signed distance, mm, negative inside; exact on the surface (after I. Quilez)."""
        dx, dy = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        dz = np.asarray(z - self.center[2], x.dtype)
        near, far = np.zeros((), x.dtype), np.full((), 1e-12, x.dtype)
        for axis, radius in zip(self.axes.astype(x.dtype), self.radii, strict=True):
            along = (axis[0] * dx + axis[1] * dy + axis[2] * dz) / x.dtype.type(radius)
            square = along * along
            near, far = near + square, far + square / x.dtype.type(radius * radius)
        k0 = np.sqrt(near)
        return k0 * (k0 - 1) / np.sqrt(far)


@dataclass(frozen=True, eq=False)
class Tube:
    """A curved tube: spheres along a line.

    Parameters
    ----------
    points
        (n, 3), mm
    radii
        (n,), mm
    """

    points: NDArray[np.float64]
    radii: NDArray[np.float64]

    @classmethod
    def through(cls, knots: ArrayLike, radii: ArrayLike, step_mm: float | None = None) -> Tube:
        """A smooth tube through some knots; `radii` one value or one per knot."""
        if step_mm is None:
            step_mm = float(np.clip(0.28 * np.min(radii), 0.8, 4.0))  # spheres this close make a smooth wall
        knots = np.asarray(knots, float)
        radii = np.broadcast_to(np.asarray(radii, float), len(knots))
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        at = np.linspace(0, along[-1], max(int(along[-1] / step_mm), 1) + 1)
        return cls(smooth_curve(along, knots, at), PchipInterpolator(along, radii)(at))

    def is_near(self, z: float, within_mm: float) -> bool:
        """Whether the plane at height z comes closer than that."""
        return bool((np.abs(self.points[:, 2] - z) < self.radii + within_mm).any())

    def inflated(self, by_mm: float) -> Tube:
        """The tube with every radius larger by `by_mm`; smaller when that is negative."""
        return Tube(self.points, self.radii + by_mm)

    def distance(self, x: FloatArray, y: FloatArray, z: ArrayLike, within_mm: float = 4.0) -> FloatArray | None:
        """Signed distance on one slice, mm; None when the tube is farther than `within_mm` everywhere.

        Parameters
        ----------
        x, y
            Same shape, mm.
        z
            Scalar.
        within_mm
            How near the tube must come to the slice.
        """
        height = np.abs(self.points[:, 2] - float(np.asarray(z)))
        reached = np.flatnonzero(height < self.radii + within_mm)
        if reached.size == 0:
            return None
        best = None
        for px, py, h, radius in zip(
            *self.points[reached, :2].astype(np.float32).T,
            height[reached].astype(np.float32),
            self.radii[reached].astype(np.float32),
            strict=True,
        ):
            distance = np.sqrt((x - px) ** 2 + (y - py) ** 2 + h * h) - radius
            best = distance if best is None else np.minimum(best, distance, out=best)
        return best


def smooth_curve(along: FloatArray, knots: FloatArray, at: FloatArray) -> NDArray[np.float64]:
    """Monotone cubic interpolation of each coordinate."""
    return np.asarray(PchipInterpolator(along, knots, axis=0)(at))


def arc_length(points: FloatArray) -> NDArray[np.float64]:
    """(n,) distance along a polyline, mm, from its first point."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def smooth_min(a: FloatArray, b: FloatArray, blend_mm: float) -> FloatArray:
    """The smaller of two distances with a rounded seam of that size."""
    h = np.maximum(blend_mm - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * np.asarray(0.25 / blend_mm, a.dtype)


def smooth_max(a: FloatArray, b: FloatArray, blend_mm: float) -> FloatArray:
    """The larger of two distances with a rounded seam of that size."""
    return -smooth_min(-a, -np.asarray(b, np.float32), blend_mm)


@dataclass(frozen=True, eq=False)
class Cloud:
    """A small solid as points that each stand for a bit of volume.

    Parameters
    ----------
    points
        (n, 3), mm
    volumes_mm3
        (n,)
    contrast_hu
        HU that the material adds to what it replaces
    """

    points: NDArray[np.float64]
    volumes_mm3: NDArray[np.float64]
    contrast_hu: float

    def moving(self, path_mm: NDArray[np.float64]) -> Cloud:
        """The cloud smeared over the places where it was, equally long at each; `path_mm` is (m, 3)."""
        if len(path_mm) == 1:
            return Cloud(self.points + path_mm, self.volumes_mm3, self.contrast_hu)
        # Points are interchangeable: fewer of them, each for more, keep a long path from costing more than a short one.
        every = max(len(self.points) * len(path_mm) // 4000, 1)
        kept = self.volumes_mm3[::every]
        volumes = np.repeat(kept * (self.volumes_mm3.sum() / kept.sum() / len(path_mm)), len(path_mm))
        points = (self.points[::every, None] + path_mm).reshape(-1, 3)
        return Cloud(points, volumes, self.contrast_hu)

    @property
    def centroid(self) -> NDArray[np.float64]:
        """(3,) mean of the points, weighted by volume."""
        return np.average(self.points, axis=0, weights=self.volumes_mm3)


def splat(
    indices: FloatArray,
    amounts: FloatArray,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    fwhm_mm: float,
    thickness_mm: float,
) -> tuple[tuple[slice, slice, slice], FloatArray] | None:
    """Image of a cloud under the scanner's point spread; its integral is that of the cloud.

    In-plane a Gaussian integrated over the pixel, along z a rectangle of the slice thickness with soft ends.

    Parameters
    ----------
    indices
        (n, 3), slice, row, column of each point, fractions
    amounts
        (n,), HU times mm3
    shape
        Of the volume.
    spacing_mm
        (slice increment, row distance, column distance)
    fwhm_mm
        In-plane.
    thickness_mm
        Of the slice profile.

    Returns
    -------
    window : tuple[slice, slice, slice]
        Slices of the volume.
    image : FloatArray
        (k, j, i) HU to add there; None when the cloud lies outside
    """
    sigma_mm = fwhm_mm / 2.3548
    edge_mm = 0.12 * thickness_mm
    reach = (thickness_mm / 2 + 3 * edge_mm, 4 * sigma_mm, 4 * sigma_mm)
    window, kernels = [], []
    for axis in range(3):
        low = int(np.floor(indices[:, axis].min() - reach[axis] / spacing_mm[axis] - 0.5))
        high = int(np.ceil(indices[:, axis].max() + reach[axis] / spacing_mm[axis] + 0.5)) + 1
        low, high = max(low, 0), min(high, shape[axis])
        if low >= high:
            return None
        offset_mm = (np.arange(low, high) - indices[:, axis, None]) * spacing_mm[axis]  # (n, m)
        if axis == 0:
            half = thickness_mm / 2
            kernel = (ndtr((offset_mm + half) / edge_mm) - ndtr((offset_mm - half) / edge_mm)) / thickness_mm
        else:
            half = spacing_mm[axis] / 2
            kernel = (ndtr((offset_mm + half) / sigma_mm) - ndtr((offset_mm - half) / sigma_mm)) / spacing_mm[axis]
        window.append(slice(low, high))
        kernels.append(kernel)
    weighted = kernels[0] * amounts[:, None]  # (n, k)
    image = np.empty(tuple(s.stop - s.start for s in window), np.float32)
    for k in range(image.shape[0]):
        image[k] = (kernels[1] * weighted[:, k, None]).T @ kernels[2]
    return (window[0], window[1], window[2]), image
