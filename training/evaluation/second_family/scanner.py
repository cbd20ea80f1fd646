"""From layers to HU: polychromatic rays, photons, a water correction, a kernel, and a heart that beats meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from training.evaluation.second_family.painting import Kind, Layers
from training.evaluation.second_family.projection import Geometry
from training.evaluation.second_family.published import (
    ALUMINUM_G_CM3,
    ENERGIES_KEV,
    FILTER_ALUMINUM_CM,
    MASS_ATTENUATION,
)

ELECTRONIC_PHOTONS = 6.0
"""Noise of the detector itself, in photons of the mean energy; what streaks behind shoulders and metal come from."""

WINDOW_OF_CYCLE = 0.3
"""Part of a heartbeat that half a turn takes: 0.25 to 0.3 s of 0.9 s."""

BOW_TIE_MM = 210.0

STATE_MM = 1.6
"""From one state of the beating heart to the next, at most, where five states suffice."""


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel, beside the ramp.

    Parameters
    ----------
    name
        As a vendor may call it.
    half_per_mm
        Spatial frequency that it halves, were there no boost; line pairs per mm.
    boost
        How much it raises the frequencies around `boosted_per_mm`; edges overshoot.
    boosted_per_mm
        Line pairs per mm.
    order
        How steeply it falls.
    """

    name: str
    half_per_mm: float
    boost: float
    boosted_per_mm: float
    order: float

    def transfer(self, per_mm: NDArray[np.floating]) -> NDArray[np.floating]:
        """Of each spatial frequency; 1 at 0."""
        q = (per_mm / self.boosted_per_mm) ** 2
        return (1 + self.boost * q * np.exp(1 - q)) * np.exp(-np.log(2) * (per_mm / self.half_per_mm) ** self.order)

    @property
    def blur_mm(self) -> float:
        """Standard deviation of the Gaussian that halves the same frequency."""
        return float(np.sqrt(np.log(2) / 2) / np.pi / self.half_per_mm)


@dataclass(frozen=True)
class Beam:
    """X-rays of a tube voltage, by Kramers' law behind aluminum, as an energy-integrating detector sees them.

    Parameters
    ----------
    kvp
        Tube voltage, kV.
    """

    kvp: float

    def tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Weight, and attenuation per mm of water and of bone, of each energy.

        Bone is in mm of water of the same attenuation at the beam's effective energy, so that HU say how much it is.
        """
        energy = np.linspace(42, self.kvp - 6, 7)
        of = {
            name: np.exp(np.interp(np.log(energy), np.log(ENERGIES_KEV), np.log(table)))
            for name, table in MASS_ATTENUATION.items()
        }
        weight = (self.kvp / energy - 1) * np.exp(-of["aluminum"] * ALUMINUM_G_CM3 * FILTER_ALUMINUM_CM) * energy
        weight /= weight.sum()
        behind = weight * np.exp(-of["water"] * 20)  # of a chest
        effective = {name: float((behind * table).sum() / behind.sum()) for name, table in of.items()}
        bone = of["bone"] / effective["bone"] * effective["water"]
        return weight, of["water"] / 10, bone / 10


@dataclass(frozen=True)
class Motion:
    """Where parts of the heart are while the tube turns.

    Parameters
    ----------
    reach_mm
        How far each part swings to both sides, by its name.
    direction
        (x, y) of each.
    phase
        Of each slice, as a part of the heartbeat; empty when nothing moves.
    """

    reach_mm: Mapping[str, float] = field(default_factory=dict)
    direction: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    phase: tuple[float, ...] = ()

    def shift_mm(self, part: str, k: int, views: int) -> NDArray[np.float64]:
        """(views, 2) offset (x, y) of a part in slice k."""
        turn = 2 * np.pi * (self.phase[k] + WINDOW_OF_CYCLE * np.arange(views) / views)
        return np.outer(self.reach_mm[part] * np.sin(turn), self.direction[part])


def image(
    layers: Layers,
    geometry: Geometry,
    kernel: Kernel,
    beam: Beam,
    noise_hu: float,
    motion: Motion,
    rng: np.random.Generator,
    wants_clean: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
    """Scan and reconstruct.

    Parameters
    ----------
    layers
        What is scanned.
    geometry
        Where rays run.
    kernel, beam
        Of the scan.
    noise_hu
        Standard deviation in the middle of the middle slice; elsewhere photons decide.
    motion
        Of the heart.
    rng
        Draws photons.
    wants_clean
        (k,) slices of which the image without noise is wanted too.

    Returns
    -------
    hu : NDArray[np.float32]
        (k, y, x) on the scanner's grid.
    clean : dict[int, NDArray[np.float32]]
        (y, x) of the wanted slices, without noise.
    """
    rays = _Rays(layers, geometry, beam, motion)
    transfer = kernel.transfer(geometry.frequencies)
    slices = len(layers.soft)
    photons = rays.photons_for(noise_hu, geometry.noise_gain(transfer), slices // 2)
    hu, clean = np.empty_like(layers.soft), {}
    for k in range(slices):
        water, spread = rays.measure(k, photons)
        noisy = water.copy()
        noisy[:, rays.seen] += spread * rng.standard_normal(spread.shape, dtype=np.float32)
        hu[k] = geometry.back_project(noisy, transfer)
        if wants_clean[k]:
            clean[k] = (geometry.back_project(water, transfer) - 1) * 1000
    hu -= 1
    hu *= 1000
    return hu, clean


class _Rays:
    """Line integrals of the layers, slice by slice, as the scanner's water correction gives them back."""

    def __init__(self, layers: Layers, geometry: Geometry, beam: Beam, motion: Motion) -> None:
        self.layers, self.geometry, self.motion = layers, geometry, motion
        self.weight, self.water, self.bone = (t.astype(np.float32) for t in beam.tables())
        self.seen = np.abs(geometry.detector_mm) < 0.62 * geometry.pixels * geometry.pitch_mm
        self.bow_tie = np.exp(-1.3 * (geometry.detector_mm[self.seen] / BOW_TIE_MM) ** 2).astype(np.float32)
        lengths = np.arange(-40, 900, 2.0)
        self.lengths = lengths
        self.known = -np.log(np.exp(-np.outer(lengths, self.water.astype(float))) @ self.weight.astype(float))
        self.slope = float((self.known[-301] - self.known[-401]) / (lengths[-301] - lengths[-401]))

    def measure(self, k: int, photons: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(views, padded) mm of water of each ray, and the standard deviation that photons give the seen ones."""
        damping = self._damping(k)
        water = np.zeros((self.geometry.views, self.geometry.padded), np.float32)
        water[:, self.seen] = np.interp(damping, self.known, self.lengths)
        counted = np.maximum(photons * self.bow_tie * np.exp(-damping), 1.5)
        spread = np.sqrt(1 / counted + (ELECTRONIC_PHOTONS / counted) ** 2) / self.slope
        return water, np.minimum(spread, 1.5 / self.slope).astype(np.float32)

    def photons_for(self, noise_hu: float, gain: float, k: int) -> float:
        """How many must leave the tube along each ray for this much noise in the middle of slice k."""
        middle = self._damping(k)[:, np.abs(self.geometry.detector_mm[self.seen]) < 12]
        return float(np.exp(middle).mean() * gain * (1000 / self.slope / noise_hu) ** 2)

    def _damping(self, k: int) -> NDArray[np.float32]:
        """Minus the logarithm of what arrives along each seen ray."""
        layers, geometry = self.layers, self.geometry
        soft, bone = layers.soft[k] / 1000 + 1, layers.bone[k] / 1000
        moved = []
        for (_, part), volume in layers.deposits.items():
            if not volume[k].any():
                continue
            if part and layers.sway is not None:
                moved.append((part, volume[k] / 1000))
            else:
                bone[layers.part] += volume[k] / 1000
        water_lines, bone_lines = self._beating(soft, k), geometry.project(bone)
        for part, extra in moved:
            bone_lines += self._moved(part, extra, k)
        t, b = (geometry.rays(lines)[:, self.seen] for lines in (water_lines, bone_lines))
        arrives = np.zeros_like(t)
        for w, of_water, of_bone in zip(self.weight, self.water, self.bone, strict=True):
            arrives += w * np.exp(-(of_water * t + of_bone * b))
        return -np.log(arrives)

    def _beating(self, soft: NDArray[np.float32], k: int) -> NDArray[np.complex64]:
        """Spectra of a slice whose heart is elsewhere in every view: a few states, and between two of them both."""
        geometry, sway = self.geometry, self.layers.sway
        if sway is None or sway[k].max() < 0.2:
            return geometry.project(soft)
        shift = self.motion.shift_mm("heart", k, geometry.views) / geometry.pitch_mm
        path = np.abs(np.diff(shift, axis=0)).sum(axis=0).max()
        count = int(np.clip(np.ceil(path * geometry.pitch_mm / STATE_MM) + 1, 2, 5))
        at = np.linspace(0, geometry.views - 1, count)
        view = np.arange(geometry.views)
        rows, columns = np.indices(sway[k].shape, np.float32)
        lines = np.zeros((geometry.views, geometry.padded // 2), np.complex64)
        for n, (x, y) in enumerate(shift[np.rint(at).astype(int)].astype(np.float32)):
            state = soft.copy()
            where = np.stack([rows - y * sway[k], columns - x * sway[k]])
            state[self.layers.part] = map_coordinates(soft[self.layers.part], where, order=1, mode="nearest")
            share = np.clip(1 - np.abs(view - at[n]) / (at[1] - at[0]), 0, 1).astype(np.float32)
            lines += share[:, None] * geometry.project(state)
        return lines

    def _moved(self, part: str, extra: NDArray[np.float32], k: int) -> NDArray[np.complex64]:
        """Spectra of deposits that are elsewhere in every view: a shift is a phase."""
        geometry = self.geometry
        image = np.zeros((geometry.pixels, geometry.pixels), np.float32)
        image[self.layers.part] = extra
        shift = self.motion.shift_mm(part, k, geometry.views)
        along = (shift * np.stack([np.cos(geometry.angles), np.sin(geometry.angles)], axis=1)).sum(axis=1)
        turn = (-2 * np.pi * np.outer(along, geometry.frequencies)).astype(np.float32)
        phase = np.empty(turn.shape, np.complex64)
        phase.real, phase.imag = np.cos(turn), np.sin(turn)
        return geometry.project(image) * phase


def mean_shift_mm(motion: Motion, kind: Kind, k: int) -> NDArray[np.float64]:
    """(2,) where a deposit is on average, against where it was drawn."""
    return motion.shift_mm(kind[1], k, 64).mean(axis=0) if kind[1] and motion.phase else np.zeros(2)
