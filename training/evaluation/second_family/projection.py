"""Line integrals of slices and filtered back-projection, parallel beams, by the Fourier slice theorem.

A projection's spectrum is a radial line of the slice's spectrum. Lines are read from the FFT, and written back to it,
by gridding with a Kaiser-Bessel kernel; Fessler and Sutton, IEEE Trans Signal Process 2003, 51:560 give its accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.typing import NDArray

KERNEL_BINS = 4
"""Width of the gridding kernel, bins of the padded spectrum."""


@dataclass(frozen=True)
class Geometry:
    """Where a scan samples, in every slice alike.

    Parameters
    ----------
    pixels
        Rows and columns of the square that holds the whole body.
    pitch_mm
        Of its pixels, and of the detector's elements at the isocenter.
    padded
        Length of the transforms; even.
    views
        Angles over half a turn.
    """

    pixels: int
    pitch_mm: float
    padded: int
    views: int

    @cached_property
    def angles(self) -> NDArray[np.floating]:
        """(views,) direction of each detector row, radians from the axis of columns toward that of rows."""
        return np.arange(self.views) * np.pi / self.views

    @cached_property
    def frequencies(self) -> NDArray[np.floating]:
        """(padded / 2,) of a projection's spectrum without its last bin, cycles per mm."""
        return np.arange(self.padded // 2) / (self.padded * self.pitch_mm)

    @cached_property
    def axis_mm(self) -> NDArray[np.floating]:
        """(pixels,) position of columns, and of rows, from the isocenter."""
        return (np.arange(self.pixels) - self.pixels // 2) * self.pitch_mm

    @cached_property
    def detector_mm(self) -> NDArray[np.floating]:
        """(padded,) position of each ray in the order of the transform: 0 first, negative ones last."""
        return np.fft.fftfreq(self.padded, 1 / self.padded) * self.pitch_mm

    @cached_property
    def _deapodized(self) -> NDArray[np.float32]:
        """(pixels, pixels) what the gridding kernel makes of the slice, inverted."""
        u = (np.arange(400) + 0.5) / 400 * KERNEL_BINS / 2
        x = (np.arange(self.pixels) - self.pixels // 2) / self.padded
        weight = _kernel(u, self._shape) * KERNEL_BINS / 400
        one = 1 / (np.cos(2 * np.pi * np.outer(x, u)) @ weight)
        return np.outer(one, one).astype(np.float32)

    @property
    def _shape(self) -> float:
        """Parameter of the kernel; Beatty et al., IEEE Trans Med Imaging 2005, 24:799, equation 5."""
        over = self.padded / self.pixels
        return float(np.pi * np.sqrt((KERNEL_BINS / over) ** 2 * (over - 0.5) ** 2 - 0.8))

    @cached_property
    def _gridding(self) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
        """Matrices from the half spectrum to radial lines, for its real and its imaginary part."""
        bins = np.arange(self.padded // 2)
        row = np.outer(np.sin(self.angles), bins).ravel()  # never negative
        column = np.outer(np.cos(self.angles), bins).ravel()
        reach = np.arange(KERNEL_BINS) - KERNEL_BINS // 2 + 1
        rows, columns = (np.floor(k)[:, None].astype(np.int64) + reach for k in (row, column))
        by_row, by_column = (
            _kernel(np.abs(grid - k[:, None]), self._shape).astype(np.float32)
            for grid, k in ((rows, row), (columns, column))
        )
        weight = (by_row[:, :, None] * by_column[:, None, :]).ravel()
        r = np.broadcast_to(rows[:, :, None], (row.size, KERNEL_BINS, KERNEL_BINS)).ravel()
        c = np.broadcast_to(columns[:, None, :], (row.size, KERNEL_BINS, KERNEL_BINS)).ravel()
        mirrored = (r < 0) | (r > self.padded // 2)  # held by the other half, as its conjugate
        r, c = np.where(mirrored, -r, r) % self.padded, np.where(mirrored, -c, c) % self.padded
        width = self.padded // 2 + 1
        index = (c * width + r).astype(np.int32)
        start = np.arange(0, index.size + 1, KERNEL_BINS**2, dtype=np.int32)
        shape = (row.size, self.padded * width)
        sign = np.where(mirrored, np.float32(-1), np.float32(1))
        return (
            scipy.sparse.csr_array((weight, index, start), shape=shape),
            scipy.sparse.csr_array((weight * sign, index, start), shape=shape),
        )

    @cached_property
    def _adjoint(self) -> tuple[scipy.sparse.csc_array, scipy.sparse.csc_array]:
        real, imaginary = self._gridding
        return real.T, imaginary.T

    def project(self, image: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Spectra of all projections of one slice.

        Parameters
        ----------
        image
            (pixels, pixels), attenuation, row and column

        Returns
        -------
        NDArray[np.complex64]
            (views, padded / 2), of line integrals in units of the image times mm
        """
        half = self.pixels // 2
        # Columns first in memory: the half spectrum is that of rows, whose frequency is never negative.
        around = np.zeros((self.padded, self.padded), np.float32)
        around[: self.pixels, : self.pixels] = (image * self._deapodized).T
        around = np.roll(around, (-half, -half), (0, 1))
        spectrum = scipy.fft.rfft2(around).reshape(-1)
        real, imaginary = self._gridding
        lines = np.empty(real.shape[0], np.complex64)
        lines.real = real @ np.ascontiguousarray(spectrum.real)
        lines.imag = imaginary @ np.ascontiguousarray(spectrum.imag)
        return lines.reshape(self.views, -1) * np.float32(self.pitch_mm**2)

    def rays(self, spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
        """(views, padded) line integrals, at `detector_mm`, of `project`'s spectra."""
        return scipy.fft.irfft(spectra, self.padded, axis=1) / np.float32(self.pitch_mm)

    def back_project(self, rays: NDArray[np.float32], transfer: NDArray[np.floating]) -> NDArray[np.float32]:
        """Filtered back-projection of one slice.

        Parameters
        ----------
        rays
            (views, padded) line integrals, at `detector_mm`
        transfer
            (padded / 2,) of the reconstruction kernel at `frequencies`, beside the ramp; 1 everywhere is none

        Returns
        -------
        NDArray[np.float32]
            (pixels, pixels)
        """
        filtered = scipy.fft.rfft(rays, axis=1)[:, :-1] * (self._ramp * transfer).astype(np.float32)
        flat = filtered.reshape(-1)
        real, imaginary = self._adjoint
        spectrum = np.empty(real.shape[0], np.complex64)
        spectrum.real = real @ np.ascontiguousarray(flat.real)
        spectrum.imag = imaginary @ np.ascontiguousarray(flat.imag)
        half_plane = spectrum.reshape(self.padded, -1)
        half_plane[:, 0] *= 2  # this line is its own mirror image, and only one of the two was written
        around = scipy.fft.irfft2(half_plane, (self.padded, self.padded)) * np.float32(self.padded**2)
        half = self.pixels // 2
        image = np.roll(around, (half, half), (0, 1))[: self.pixels, : self.pixels].T
        return image * self._deapodized

    @cached_property
    def _ramp(self) -> NDArray[np.float64]:
        """(padded / 2,) |frequency| times the area of a sample; Kak and Slaney 1988, chapter 3, equation 61.

        Taken from its samples in space: |frequency| itself, sampled, would lower the whole slice.
        """
        n = np.arange(self.padded) - self.padded // 2
        h = np.zeros(self.padded)
        h[n == 0] = 0.25
        odd = n % 2 != 0
        h[odd] = -1 / (np.pi * n[odd]) ** 2
        ramp = np.fft.rfft(np.fft.ifftshift(h)).real[:-1] / self.pitch_mm
        weight = ramp * np.pi / self.views / self.padded
        weight[0] /= 2  # shared with the line of the opposite direction
        return weight

    def noise_gain(self, transfer: NDArray[np.floating]) -> float:
        """Variance at a pixel of a reconstruction, for rays whose noise is independent and has variance 1."""
        response = np.fft.irfft(np.append(self._ramp * transfer * np.append(2, np.ones(self.padded // 2 - 1)), 0))
        return float(self.views * (response**2).sum() * self.padded**2)


@lru_cache(maxsize=2)
def geometry_of(pixels: int, pitch_mm: float, padded: int, views: int) -> Geometry:
    """One geometry of each kind in a process: its matrices take half a second and 60 MB."""
    return Geometry(pixels, pitch_mm, padded, views)


def _kernel(distance: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    inside = np.clip(1 - (2 * distance / KERNEL_BINS) ** 2, 0, None)
    return np.where(inside > 0, np.i0(shape * np.sqrt(inside)), 0) / np.i0(shape)
