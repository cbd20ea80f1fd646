"""One scan of a person: its grid, and what each bright thing adds to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery
from heartlens.phantom.body.anatomy import Anatomy
from heartlens.phantom.body.shapes import Cloud, splat
from heartlens.phantom.body.thorax import beat_mm
from heartlens.phantom.calcium import decoys
from heartlens.phantom.calcium import plaques as calcium
from heartlens.phantom.calcium.plaques import Plaque
from heartlens.phantom.image.edges import STAR_MM, STAR_REACH_MM, overshoot, star, widened
from heartlens.phantom.image.grid import Grid
from heartlens.phantom.image.rendering import render
from heartlens.phantom.parameters import KERNEL_FWHM_MM, PhantomParameters

CAUSED_HU = 30.0
"""What an object must add to a voxel to have caused that it is bright; about two standard deviations of the noise."""


@dataclass(frozen=True, eq=False)
class Source:
    """What one bright object adds to the image.

    Parameters
    ----------
    code
        Its `Artery`.
    window
        Of the volume.
    image
        HU added there
    plaque
        None for traps
    """

    code: int
    window: tuple[slice, slice, slice]
    image: NDArray[np.float32]
    plaque: Plaque | None = None


@dataclass(frozen=True, eq=False)
class Scan:
    """One person on one scanner: what turns small solids into images."""

    parameters: PhantomParameters
    anatomy: Anatomy
    grid: Grid

    @property
    def fwhm_mm(self) -> float:
        """Full width at half maximum of the kernel's blur, mm."""
        return KERNEL_FWHM_MM[self.parameters.kernel]

    def body(self) -> NDArray[np.float32]:
        """(k, j, i) HU without calcium, metal and noise."""
        p = self.parameters
        return render(
            self.anatomy,
            self.grid,
            thickness_mm=p.slice_thickness_mm,
            fwhm_mm=self.fwhm_mm,
            motion_mm=p.motion_mm,
        )

    def overshot(self, body: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same as the kernel shows it, edges overdone where it does so."""
        p = self.parameters
        return overshoot(body, p.overshoot, p.pixel_mm) if p.overshoot else body

    def source(self, cloud: Cloud, code: Artery, moves: float, plaque: Plaque | None = None) -> Source | None:
        """Image of a solid; None when it lies outside the scan.

        Parameters
        ----------
        cloud
            The solid, as points that carry volume and HU.
        code
            What its voxels are labeled.
        moves
            Its travel relative to the right coronary artery; 0 for what lies still.
        plaque
            Whose image it is; None for traps.
        """
        p = self.parameters
        if moves > 0 and p.motion_mm > 0:
            beat = beat_mm(self.anatomy, p.motion_mm, cloud.points[:, 2])
            cloud = Cloud(cloud.points + beat, cloud.volumes_mm3, cloud.contrast_hu)
            path = calcium.path_mm(moves * p.motion_mm, p.generator(f"motion {code}"))
            cloud = cloud.moving(path)
        drawn = splat(
            self.grid.index(cloud.points),
            cloud.volumes_mm3 * cloud.contrast_hu,
            self.grid.shape,
            self.grid.spacing_mm,
            self.fwhm_mm,
            p.slice_thickness_mm,
        )
        if drawn is None:
            return None
        window, image = drawn
        if p.anatomy == 2 and moves * p.motion_mm > STAR_MM:
            window, image = widened(window, image, self.grid.shape, round(STAR_REACH_MM / min(p.pixel_mm)))
            image = star(image, p.generator(f"star {code}"), p.pixel_mm, moves * p.motion_mm)
        if p.overshoot:
            window, image = widened(window, image, self.grid.shape, round(4 / min(p.pixel_mm)))
            image = overshoot(image, p.overshoot, p.pixel_mm)
        return Source(int(code), window, image, plaque)

    def plaque_source(self, plaque: Plaque) -> Source | None:
        """Image of a plaque, which moves with its artery; None when it lies outside the scan."""
        return self.source(plaque.cloud, plaque.artery, calcium.MOBILITY[plaque.artery], plaque)

    def decoy_source(self, place: str, decoy: Plaque) -> Source | None:
        """Image of a decoy, which moves as its place does; None when it lies outside the scan."""
        return self.source(decoy.cloud, Artery.OTHER, decoys.MOBILITY.get(place, 0.0))

    def ct(self, hu: NDArray[np.int16]) -> CTVolume:
        """The volume of these voxels, (k, j, i) HU, with the affine and header of the scan."""
        return CTVolume(hu, self.grid.affine(), _header(self.parameters, self.grid.shape[0]))


def plan_scan(anatomy: Anatomy, parameters: PhantomParameters) -> Grid:
    """Where a technologist would put the field of view on this person."""
    rng = parameters.generator("planning")
    heart = anatomy.heart
    if parameters.field_of_view == "heart":
        x, y = heart.place([20, 2, 6])[:2] + rng.normal(0, 3, 2)
        bottom = min(t.points[:, 2].min() for t in heart.arteries.values()) - 14 + rng.normal(0, 2)
        top = anatomy.airways[1].points[0, 2] + rng.normal(9, 3)
    else:
        x, y = 0.0, float(rng.normal(8, 4))
        bottom = min(anatomy.dome_left_mm, anatomy.dome_right_mm) - rng.uniform(55, 80)
        top = anatomy.top_mm + rng.uniform(8, 25)
    if parameters.cover == "heart" and parameters.field_of_view != "heart":
        bottom = min(t.points[:, 2].min() for t in heart.arteries.values()) - 14 + rng.normal(0, 2)
        top = anatomy.airways[1].points[0, 2] + rng.normal(9, 3)
    x, y = x + parameters.view_shift_mm[0], y + parameters.view_shift_mm[1]
    turn = np.deg2rad(anatomy.turn_deg)
    center = (
        round(float(np.cos(turn) * x - np.sin(turn) * y + anatomy.shift_mm[0]), 1),
        round(float(np.sin(turn) * x + np.cos(turn) * y + anatomy.shift_mm[1]), 1),
    )
    return Grid(
        shape=(max(round((top - bottom) / parameters.increment_mm), 3), parameters.matrix, parameters.matrix),
        spacing_mm=(parameters.increment_mm, *parameters.pixel_mm),
        center_mm=center,
        bottom_mm=round(float(bottom), 1),
        turn_deg=anatomy.turn_deg,
        shift_mm=anatomy.shift_mm,
    )


def _header(parameters: PhantomParameters, slices: int) -> CTHeader:
    def uid(*parts: object) -> str:
        digest = hashlib.sha256((repr((parameters, parts)) + parameters.late_text).encode()).digest()
        return f"2.25.{int.from_bytes(digest[:15], 'big')}"  # PS3.5 B.2: a UUID-like number under 2.25

    return CTHeader(
        study_uid=uid("study"),
        series_uid=uid("series"),
        frame_of_reference_uid=uid("frame of reference"),
        sop_instance_uids=tuple(uid("slice", k) for k in range(slices)),
        kvp=parameters.kvp,
        slice_thickness_mm=parameters.slice_thickness_mm,
        kernel=parameters.kernel.upper(),
        patient_age_years=float(parameters.age_years),
        patient_sex=parameters.sex,
        is_gated=parameters.is_gated,
        contrast="",
        manufacturer="HeartLens",
        model="Phantom",
        reconstruction_diameter_mm=round(parameters.diameter_mm, 3),
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    )
