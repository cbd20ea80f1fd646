"""Where calcium lies that is not coronary: rules of place, each silent where it is not sure.

A rule says of every lesion whether it is certain of its site. Where none is, or two contradict each other, the place is
not known: a wrong name is worse than none. Lymph nodes of the hila lie where calcified bronchi do, and plates of the
pericardium where fat and muscle vary most: no rule names either. Distances were set on phantoms; docs/method.md,
section 14, says how often they are right on others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import METAL_HU, MITRAL_RING_MM, HeartRegion
from heartlens.anatomy.metal import find_clips
from heartlens.calcium.pieces import Pieces
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SITE_NAMES, LesionMap, Site

MOST = 0.6
"""Share of a lesion's voxels that must lie at a site."""

LONGEST_STENT_MM = 45.0
"""A wire that paces the heart is longer than a stent. A choice, which was judged on phantoms alone."""

LEAST_CLIP_SHARE = 0.3
"""Share of a lesion's voxels in clips or markers from which all of it is one: their blur belongs to the lesion, too."""


class LesionPlaces:
    """Where each lesion of a map lies, as far as the landmarks of the heart are known.

    Parameters
    ----------
    ct
        The scan as scored.
    region
        Of its heart.
    lesions
        On the grid of `ct`, one or more.

    Attributes
    ----------
    ids
        Of the lesions, ascending; every array of this class has one row for each.
    pieces
        Their measurements.
    """

    def __init__(self, ct: CTVolume, region: HeartRegion, lesions: LesionMap) -> None:
        self.ids = sorted(lesions.arteries)
        self.region = region
        flat, count = lesions.voxels.flat, len(self.ids)
        hu = ct.hu.reshape(-1)[flat]
        piece = np.searchsorted(self.ids, lesions.voxels.ids)
        self.pieces = Pieces(ct, region, flat, hu, piece, np.ones(count, bool), np.zeros(count), float(hu.min()))

    @cached_property
    def from_root_mm(self) -> NDArray[np.float64]:
        """(n, 3) from the root of the aorta, LPS mm; NaN where the root is not seen, or the scan is short."""
        if not self.region.ascending.found.any() or self.region.is_short:
            return np.full_like(self.pieces.center_mm, np.nan)
        return self.pieces.center_mm - np.array(self.region.root_mm)

    @cached_property
    def from_spine_mm(self) -> NDArray[np.float64]:
        """(n, 2) to the left of the middle of the spine, and behind its front."""
        behind = self.pieces.mean(self.pieces.lps_mm[:, 1] - self.region.chest.spine_y_mm[self.pieces.coarse_k])
        return np.stack([self.pieces.center_mm[:, 0] - self.region.chest.spine_x_mm, behind], axis=1)

    @cached_property
    def above_carina_mm(self) -> NDArray[np.float64]:
        """(n,) above the place where the windpipe divides; NaN where it is not seen."""
        carina = self.region.chest.carina_z_mm
        return self.pieces.center_mm[:, 2] - (np.nan if carina is None else carina)

    @cached_property
    def behind_front_mm(self) -> NDArray[np.float64]:
        """(n,) behind the front of the heart on the same slices; NaN where there is no heart."""
        front = self.region.slice_frame_mm[self.pieces.coarse_k, 2]
        return self.pieces.mean(self.pieces.lps_mm[:, 1] - front)

    @cached_property
    def is_clip(self) -> NDArray[np.bool_]:
        """(n,) clips, markers or struts by their shape and company."""
        clips = find_clips(self.pieces.ct, self.region)
        return np.asarray(self.pieces.mean(np.isin(self.pieces.flat, clips)) > LEAST_CLIP_SHARE)

    def at_wall(self, *, ascending: bool, inside_mm: float, outside_mm: float) -> NDArray[np.bool_]:
        """(n,) mostly so near to the wall of the ascending or of the descending aorta."""
        x, y, _ = self.pieces.lps_mm.T
        course = self.region.ascending if ascending else self.region.descending
        away_mm = course.distance_mm(self.pieces.coarse_k, x, y)
        return np.asarray(self.pieces.mean((away_mm > -inside_mm) & (away_mm < outside_mm)) >= MOST)


def descending_aorta(places: LesionPlaces) -> NDArray[np.bool_]:
    """In the wall of the round vessel beside the spine."""
    return places.at_wall(ascending=False, inside_mm=7.5, outside_mm=3.0)


def ascending_aorta(places: LesionPlaces) -> NDArray[np.bool_]:
    """In the wall of the round vessel above the root, too high for a valve."""
    return places.at_wall(ascending=True, inside_mm=5.5, outside_mm=3.5) & (places.from_root_mm[:, 2] > 12)


def aortic_arch(places: LesionPlaces) -> NDArray[np.bool_]:
    """Above the carina, to the left of the windpipe and in front of the spine."""
    to_left, behind = places.from_spine_mm.T
    at_side = (to_left > 16) & (to_left < 45) & (behind > -60) & (behind < -12)
    return (places.above_carina_mm > 2) & (places.above_carina_mm < 45) & at_side


def aortic_valve(places: LesionPlaces) -> NDArray[np.bool_]:
    """Deep in the heart within the root of the aorta, or just below it."""
    x, y, z = places.from_root_mm.T
    return (np.hypot(x - 4, y - 2) < 12) & (z > -18) & (z < 6) & (places.pieces.depth_mm > 18)


def mitral_annulus(places: LesionPlaces) -> NDArray[np.bool_]:
    """At the back of the ring between left atrium and ventricle, away from the descending aorta."""
    offset = places.from_root_mm
    to_ring = np.linalg.norm(offset[:, None] - MITRAL_RING_MM[None], axis=2).min(axis=1)
    x, y, z = offset.T
    return (to_ring < 15) & (x < 34) & (y > 18) & (y < 40) & (z < -18) & (places.from_spine_mm[:, 1] < -38)


def stent_or_graft(places: LesionPlaces) -> NDArray[np.bool_]:
    """Metal in the zone of the arteries, shorter than a wire that paces the heart."""
    is_metal = places.is_clip | (places.pieces.peak_hu > METAL_HU)
    return is_metal & (places.pieces.in_zone > MOST) & (places.pieces.extent_mm.max(axis=1) < LONGEST_STENT_MM)


def elsewhere(places: LesionPlaces) -> NDArray[np.bool_]:
    """In front of the heart, where ribs and sternum are, or behind the front of the spine."""
    to_left, behind = places.from_spine_mm.T
    outside = places.pieces.in_zone < 0.2
    in_spine = (behind > 6) & (np.abs(to_left) < 30)
    return outside & ((places.behind_front_mm < -4) | in_spine)


RULES: Mapping[Site, Callable[[LesionPlaces], NDArray[np.bool_]]] = MappingProxyType(
    {
        Site.AORTIC_VALVE: aortic_valve,
        Site.MITRAL_ANNULUS: mitral_annulus,
        Site.ASCENDING_AORTA: ascending_aorta,
        Site.AORTIC_ARCH: aortic_arch,
        Site.DESCENDING_AORTA: descending_aorta,
        Site.STENT_OR_GRAFT: stent_or_graft,
        Site.ELSEWHERE: elsewhere,
    }
)
"""Of each site that can be named; comparisons with a landmark that is not known are false."""


def sites_of_lesions(ct: CTVolume, region: HeartRegion, lesions: LesionMap) -> dict[int, Site]:
    """The site of each lesion of which one rule alone is certain, were it not coronary.

    Parameters
    ----------
    ct
        The scan as scored.
    region
        Of its heart.
    lesions
        On the grid of `ct`.

    Returns
    -------
    dict[int, Site]
        By id; without those whose place is not known
    """
    if not (lesions.arteries and region.in_view):
        return {}
    places = LesionPlaces(ct, region, lesions)
    claims = np.stack([rule(places) for rule in RULES.values()])
    alone = claims.sum(axis=0) == 1
    sites = list(RULES)
    return {n: sites[int(claims[:, row].argmax())] for row, n in enumerate(places.ids) if alone[row]}


def with_sites(ct: CTVolume, region: HeartRegion, lesions: LesionMap) -> LesionMap:
    """The same lesions, each with the site that it would have if it were not coronary; see `sites_of_lesions`.

    A reader who excludes a lesion finds its place named already; nobody sees the site of what is coronary.
    """
    sites = sites_of_lesions(ct, region, lesions)
    if not sites:
        return lesions
    notes = {n: replace(note, site=sites.get(n)) for n, note in lesions.notes.items()}
    return lesions.named(notes=notes)


def doubted_by_place(lesions: LesionMap) -> LesionMap:
    """The same lesions; what is called coronary where another site is certain, were it not, is left to a reader.

    A rule of place that claims a lesion contradicts whoever called it coronary, as a calcified mitral annulus is called
    LCX: nothing is taken from the score, and its range holds both. Of 48 coronary lesions of judging phantoms no rule
    claims one. A stent lies in an artery and contradicts nobody; heavy plaque looks like one.

    Parameters
    ----------
    lesions
        As `with_sites` returns them.
    """
    notes = {
        n: replace(note, undecided=True, why=f"{note.why}; {_claim(note.site)}: review")
        for n, note in lesions.notes.items()
        if lesions.arteries[n] in CORONARY and note.site not in (None, Site.STENT_OR_GRAFT) and not note.undecided
    }
    if not notes:
        return lesions
    return lesions.named(notes={**lesions.notes, **notes})


def _claim(site: Site | None) -> str:
    return "it lies outside the heart" if site is Site.ELSEWHERE else f"calcium of the {SITE_NAMES[site]} lies there"
