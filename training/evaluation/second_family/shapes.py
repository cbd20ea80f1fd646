"""Smooth solids as distance functions, mm, negative inside: ellipsoids with drawn modes, and tubes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

FAR_MM = 1e3


@dataclass(frozen=True, eq=False)
class Grid:
    """Positions along three axes.

    Parameters
    ----------
    z, y, x
        (nz,), (ny,), (nx,) float32, mm, ascending
    """

    z: NDArray[np.float32]
    y: NDArray[np.float32]
    x: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of positions along z, y and x."""
        return self.z.size, self.y.size, self.x.size

    def inside(self, low: ArrayLike, high: ArrayLike) -> tuple[slice, slice, slice]:
        """Part of the grid between two corners (x, y, z)."""
        corners = np.stack([np.asarray(low), np.asarray(high)])
        parts = [np.searchsorted(a, corners[:, n]) for a, n in ((self.z, 2), (self.y, 1), (self.x, 0))]
        z, y, x = (slice(int(a), int(b)) for a, b in parts)
        return z, y, x

    def part(self, at: tuple[slice, slice, slice]) -> Grid:
        """The grid of a part."""
        return Grid(self.z[at[0]], self.y[at[1]], self.x[at[2]])


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid whose radius varies with direction, cut by planes.

    Parameters
    ----------
    center
        (3,) mm
    axes
        (3, 3) unit vectors, one a row
    semi_mm
        (3,) half lengths along them
    modes
        (8,) of second and third order in the direction, as a share of the radius
    planes
        (point, normal) of each cut; what lies along the normal stays.
    """

    center: NDArray[np.float64]
    axes: NDArray[np.float64]
    semi_mm: NDArray[np.float64]
    modes: NDArray[np.float64] = field(default_factory=lambda: np.zeros(8))
    planes: tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...] = ()

    def box(self, margin_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners that hold the solid and a margin."""
        reach = np.sqrt(((self.axes * self.semi_mm[:, None]) ** 2).sum(axis=0))
        reach = reach * (1 + np.abs(self.modes).sum()) + margin_mm
        return self.center - reach, self.center + reach

    def distance(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray:
        """At positions that broadcast; near the surface within a few percent of the true distance."""
        dx, dy, dz = (v - np.float32(c) for v, c in zip((x, y, z), self.center, strict=True))
        a, b, c = (
            (np.float32(u[0] / s) * dx + np.float32(u[1] / s) * dy) + np.float32(u[2] / s) * dz
            for u, s in zip(self.axes, self.semi_mm, strict=True)
        )
        aa, bb, cc = a * a, b * b, c * c
        k0 = np.sqrt(aa + bb + cc) + np.float32(1e-6)
        s = self.semi_mm
        k1 = np.sqrt(aa * np.float32(s[0] ** -2) + bb * np.float32(s[1] ** -2) + cc * np.float32(s[2] ** -2))
        if self.modes.any():
            m = self.modes.astype(np.float32)
            second = m[0] * (aa - bb) + m[1] * (2 * cc - aa - bb) + m[2] * a * b + m[3] * a * c + m[4] * b * c
            third = m[5] * a * (aa - 3 * bb) + m[6] * c * (aa - bb) + m[7] * b * (bb - 3 * cc)
            radius = 1 + (second + third / k0) / (k0 * k0)
        else:
            radius = np.float32(1)
        d = k0 * (k0 - radius) / (k1 + np.float32(1e-6))
        for point, normal in self.planes:
            beyond = sum(np.float32(n) * (v - np.float32(p)) for n, v, p in zip(normal, (x, y, z), point, strict=True))
            d = np.maximum(d, -beyond)
        return d

    def on(self, grid: Grid) -> NDArray[np.float32]:
        """On every position of a grid."""
        return self.distance(grid.x[None, None], grid.y[None, :, None], grid.z[:, None, None])


@dataclass(frozen=True, eq=False)
class Tube:
    """A tube along a line, of varying radius.

    Parameters
    ----------
    points
        (n, 3) mm
    radii
        (n,) mm
    """

    points: NDArray[np.float64]
    radii: NDArray[np.float64]

    @classmethod
    def through(cls, points: ArrayLike, radii: ArrayLike, step_mm: float = 3.0) -> Tube:
        """A smooth tube through a few points."""
        points, radii = np.asarray(points, float), np.asarray(radii, float)
        length = np.append(0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
        at = np.linspace(0, length[-1], max(2, int(length[-1] / step_mm) + 1))
        return cls(PchipInterpolator(length, points)(at), np.interp(at, length, radii))

    def box(self, margin_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corners that hold the tube and a margin."""
        reach = self.radii[:, None] + margin_mm
        return (self.points - reach).min(axis=0), (self.points + reach).max(axis=0)

    def on(self, grid: Grid, margin_mm: float = 2.0) -> NDArray[np.float32]:
        """On every position of a grid; beyond the margin merely far."""
        out = np.full(grid.shape, FAR_MM, np.float32)
        for n in range(len(self.points) - 1):
            piece = Tube(self.points[n : n + 2], self.radii[n : n + 2])
            at = grid.inside(*piece.box(margin_mm))
            near = grid.part(at)
            if 0 in near.shape:
                continue
            d = piece.distance(near.x[None, None], near.y[None, :, None], near.z[:, None, None])
            np.minimum(out[at], d, out=out[at])
        return out

    def distance(self, x: NDArray, y: NDArray, z: NDArray) -> NDArray:
        """At positions that broadcast."""
        best = None
        for (p, q), (r, s) in zip(
            zip(self.points[:-1], self.points[1:], strict=True),
            zip(self.radii[:-1], self.radii[1:], strict=True),
            strict=True,
        ):
            dx, dy, dz = (v - np.float32(c) for v, c in zip((x, y, z), p, strict=True))
            u = (q - p).astype(np.float32)
            along = np.clip((dx * u[0] + dy * u[1] + dz * u[2]) / max(float(u @ u), 1e-6), 0, 1)
            off = np.sqrt((dx - along * u[0]) ** 2 + (dy - along * u[1]) ** 2 + (dz - along * u[2]) ** 2)
            d = off - (np.float32(r) + along * np.float32(s - r))
            best = d if best is None else np.minimum(best, d)
        assert best is not None
        return best


Solid = Ellipsoid | Tube


def distances(solids: Sequence[Solid], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(solids, n) distance of each of (n, 3) points from each solid."""
    x, y, z = points.T.astype(np.float32)
    return np.stack([s.distance(x, y, z) for s in solids]).astype(np.float64)


def blend(each: NDArray[np.float64], softness_mm: float) -> NDArray[np.float64]:
    """One surface around several solids, which fills the grooves between them.

    Parameters
    ----------
    each
        (solids, n) distances
    softness_mm
        The larger, the more is filled.
    """
    nearest = each.min(axis=0)
    return nearest - softness_mm * np.log(np.exp(-(each - nearest) / softness_mm).sum(axis=0))


def fill(volume: NDArray[np.float32], distance: NDArray, value: ArrayLike, edge_mm: float) -> None:
    """Lay a solid over what is there; at its edge the two mix over `edge_mm`."""
    share = np.clip(0.5 - distance / np.float32(edge_mm), 0, 1)
    volume += share * (np.asarray(value, np.float32) - volume)


def lay(volume: NDArray[np.float32], grid: Grid, solid: Solid, value: float, edge_mm: float) -> None:
    """The same for a solid somewhere on a grid."""
    at = grid.inside(*solid.box(edge_mm + 0.5))
    near = grid.part(at)
    if 0 not in near.shape:
        fill(volume[at], solid.on(near), value, edge_mm)


def drawn_modes(rng: np.random.Generator, share: float) -> NDArray[np.float64]:
    """(8,) modes of an `Ellipsoid`; those of third order are half as large."""
    return rng.normal(0, share, 8) * np.array([1, 0.6, 1, 1, 1, 0.5, 0.5, 0.5])
