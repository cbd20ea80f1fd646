"""Which voxels belong to which lesion, and which artery each lesion lies in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.provenance import LabelSource


class Artery(IntEnum):
    """Where calcium lies. The numbers are those of a label map on disk."""

    LM = 1
    LAD = 2
    LCX = 3
    RCA = 4
    OTHER = 5  # aorta, valve, bone: shown, never summed
    UNASSIGNED = 6  # coronary, artery not yet said: counts in the total, blocks sign-off


class Site(str, Enum):
    """Where calcium lies that is not coronary. The values are those on disk."""

    AORTIC_VALVE = "aortic_valve"
    MITRAL_ANNULUS = "mitral_annulus"
    ASCENDING_AORTA = "ascending_aorta"
    AORTIC_ARCH = "aortic_arch"
    DESCENDING_AORTA = "descending_aorta"
    STENT_OR_GRAFT = "stent_or_graft"
    HILAR_NODE = "hilar_node"
    PERICARDIUM = "pericardium"
    ELSEWHERE = "elsewhere"  # bone, airways, wires: none of the others, for certain

    def __str__(self) -> str:
        return self.value


SITE_NAMES = MappingProxyType(
    {
        Site.AORTIC_VALVE: "aortic valve",
        Site.MITRAL_ANNULUS: "mitral annulus",
        Site.ASCENDING_AORTA: "ascending aorta",
        Site.AORTIC_ARCH: "aortic arch",
        Site.DESCENDING_AORTA: "descending aorta",
        Site.STENT_OR_GRAFT: "stent or graft",
        Site.HILAR_NODE: "hilar lymph node",
        Site.PERICARDIUM: "pericardium",
        Site.ELSEWHERE: "elsewhere",
        None: "not coronary, place not known",
    }
)
"""Of each site, and of calcium whose site nobody is sure of."""

CORONARY = (Artery.LM, Artery.LAD, Artery.LCX, Artery.RCA)
"""The arteries that have a row of their own in every report."""

SCORED_ARTERIES = (*CORONARY, Artery.UNASSIGNED)
"""What the total sums."""

ARTERY_NAMES = MappingProxyType(
    {
        Artery.LM: "Left main coronary artery",
        Artery.LAD: "Left anterior descending coronary artery",
        Artery.LCX: "Left circumflex coronary artery",
        Artery.RCA: "Right coronary artery",
        Artery.OTHER: "Not coronary",
        Artery.UNASSIGNED: "Coronary artery not assigned",
    }
)

ARTERY_COLORS = MappingProxyType(
    {
        Artery.LM: "#F0E442",
        Artery.LAD: "#009E73",
        Artery.LCX: "#56B4E9",
        Artery.RCA: "#D55E00",
        Artery.OTHER: "#999999",
        Artery.UNASSIGNED: "#CC79A7",
    }
)
"""Color-blind-safe (Okabe and Ito); the letters are always shown as well."""

MAX_LESIONS = 65535
"""Lesion ids are uint16."""


@dataclass(frozen=True)
class LesionNote:
    """Why a lesion is in the map.

    Parameters
    ----------
    probability
        Probability that it is coronary calcium, 0 to 1; None when nobody estimated it.
    source
        Who says so.
    why
        One phrase a reader can check against the image.
    undecided
        The decision was close: the artery is the likeliest one, and a reader is to say whether it is right.
    counts
        Whether it is large enough to count; a piece below the minimum area is kept and scores nothing.
    site
        Where it lies if it is not coronary; None where nobody is sure.
    """

    probability: float | None = None
    source: LabelSource = LabelSource.FILE
    why: str = ""
    undecided: bool = False
    counts: bool = True
    site: Site | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", LabelSource(self.source))
        object.__setattr__(self, "site", None if self.site is None else Site(self.site))
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in 0..1, got {self.probability}")


@dataclass(frozen=True)
class Voxels:
    """The labeled voxels of a `LesionMap`, without the empty ones.

    Parameters
    ----------
    flat
        (n,) int64, C-order indices into (k, j, i), ascending
    ids
        (n,) uint16, lesion of each
    """

    flat: NDArray[np.int64]
    ids: NDArray[np.uint16]


@dataclass(frozen=True, eq=False, init=False)
class LesionMap:
    """Lesions on the grid of a CT.

    Parameters
    ----------
    labels
        (k, j, i) uint16, 0 = none
    arteries
        Artery of each lesion id; its keys are exactly the ids in `labels`.
    notes
        Note of each id; ids without one get an empty note.
    voxels
        Derived from `labels` when left out; who has them passes them on, so that the volume is not searched again.

    Attributes
    ----------
    shape
        (k, j, i) of the map
    voxels, arteries, notes
        As they were given, or derived.

    Raises
    ------
    ValueError
        An id without artery, an artery without voxels, or labels that are not uint16 (k, j, i).
    """

    shape: tuple[int, int, int]
    voxels: Voxels = field(repr=False)
    arteries: Mapping[int, Artery]
    notes: Mapping[int, LesionNote]

    def __init__(
        self,
        labels: NDArray[np.uint16],
        arteries: Mapping[int, Artery],
        notes: Mapping[int, LesionNote] | None = None,
        voxels: Voxels | None = None,
    ) -> None:
        if labels.ndim != 3 or labels.dtype != np.uint16:
            raise ValueError(f"labels must be uint16 (k, j, i), got {labels.dtype} of shape {labels.shape}")
        if voxels is None:
            flat = np.flatnonzero(labels)
            voxels = Voxels(flat, labels.reshape(-1)[flat])
        self._set(labels.shape, voxels, arteries, notes or {})
        self.__dict__["labels"] = _read_only(labels.view())

    @classmethod
    def of_voxels(
        cls,
        shape: tuple[int, int, int],
        voxels: Voxels,
        arteries: Mapping[int, Artery],
        notes: Mapping[int, LesionNote] | None = None,
    ) -> LesionMap:
        """A map of this shape (k, j, i) by its labeled voxels alone; the volume is made when somebody asks for it.

        Raises
        ------
        ValueError
            An id without artery, or an artery without voxels.
        """
        made = cls.__new__(cls)
        made._set(shape, voxels, arteries, notes or {})
        return made

    def named(
        self, *, arteries: Mapping[int, Artery] | None = None, notes: Mapping[int, LesionNote] | None = None
    ) -> LesionMap:
        """The same voxels with other arteries, or other notes; None leaves them as they are."""
        made = LesionMap.of_voxels(
            self.shape,
            self.voxels,
            self.arteries if arteries is None else arteries,
            self.notes if notes is None else notes,
        )
        if "labels" in self.__dict__:
            made.__dict__["labels"] = self.labels
        return made

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> LesionMap:
        """A map of this shape (k, j, i) without lesions."""
        return cls.of_voxels(shape, Voxels(np.zeros(0, np.int64), np.zeros(0, np.uint16)), {})

    def _set(
        self,
        shape: tuple[int, ...],
        voxels: Voxels,
        arteries: Mapping[int, Artery],
        notes: Mapping[int, LesionNote],
    ) -> None:
        present = {int(i) for i in np.flatnonzero(np.bincount(voxels.ids))}
        if present != set(arteries):
            raise ValueError(
                f"every lesion needs voxels and an artery; ids without artery {sorted(present - set(arteries))}, "
                f"arteries without voxels {sorted(set(arteries) - present)}"
            )
        if not set(notes) <= present:
            raise ValueError(f"notes for lesions that do not exist: {sorted(set(notes) - present)}")
        object.__setattr__(self, "shape", tuple(shape))
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "arteries", MappingProxyType({int(i): Artery(a) for i, a in arteries.items()}))
        noted = {i: notes.get(i, LesionNote()) for i in sorted(present)}
        object.__setattr__(self, "notes", MappingProxyType(noted))

    @cached_property
    def labels(self) -> NDArray[np.uint16]:
        """(k, j, i) lesion id of every voxel, 0 where there is none; not to be written to."""
        labels = np.zeros(self.shape, np.uint16)
        labels.reshape(-1)[self.voxels.flat] = self.voxels.ids
        return _read_only(labels)

    def ids_at(self, flat: ArrayLike) -> NDArray[np.uint16]:
        """Lesion ids of some voxels, 0 where there is none, without making the volume.

        Parameters
        ----------
        flat
            (n,) C-order indices
        """
        wanted, voxels = np.asarray(flat, dtype=np.int64), self.voxels
        if not voxels.flat.size:
            return np.zeros(wanted.shape, np.uint16)
        at = np.minimum(np.searchsorted(voxels.flat, wanted), voxels.flat.size - 1)
        return np.where(voxels.flat[at] == wanted, voxels.ids[at], np.uint16(0))

    def artery_of_voxels(self) -> NDArray[np.uint8]:
        """(n,) `Artery` code of each of `voxels`."""
        table = np.zeros(max(self.arteries, default=0) + 1, np.uint8)
        for lesion_id, artery in self.arteries.items():
            table[lesion_id] = artery
        return table[self.voxels.ids]

    def artery_map(self) -> NDArray[np.uint8]:
        """(k, j, i) `Artery` code of every voxel, 0 where there is no lesion."""
        codes = np.zeros(self.shape, np.uint8)
        codes.reshape(-1)[self.voxels.flat] = self.artery_of_voxels()
        return codes


def _read_only(array: NDArray[np.uint16]) -> NDArray[np.uint16]:
    array.flags.writeable = False
    return array


class Draft:
    """A lesion map on which edits are made one after the other; the map it began with stays as it was.

    All is done on the few labeled voxels, and nothing on the volume: an edit takes no longer in a long scan.
    """

    def __init__(self, lesions: LesionMap) -> None:
        self._before = lesions
        self._voxels = lesions.voxels
        self._arteries = dict(lesions.arteries)
        self._notes = dict(lesions.notes)

    @property
    def voxels(self) -> Voxels:
        """Of all lesions, as edited so far."""
        return self._voxels

    @property
    def arteries(self) -> Mapping[int, Artery]:
        """Of each lesion, as edited so far."""
        return MappingProxyType(self._arteries)

    @property
    def notes(self) -> Mapping[int, LesionNote]:
        """Of each lesion that has one, as edited so far."""
        return MappingProxyType(self._notes)

    def lesions(self) -> LesionMap:
        """The edited map; editing the draft further leaves it as it is."""
        if self._voxels is self._before.voxels:
            return self._before.named(arteries=self._arteries, notes=self._notes)
        return LesionMap.of_voxels(self._before.shape, self._voxels, self._arteries, self._notes)

    def reassign(self, lesion_id: int, artery: Artery, note: LesionNote | None = None) -> None:
        """Give a lesion to another artery; a note, if given, takes the place of its own."""
        self._check_id(lesion_id)
        self._arteries[lesion_id] = artery
        if note is not None:
            self._notes[lesion_id] = note

    def remove(self, lesion_id: int) -> None:
        """Erase all voxels of a lesion."""
        self._check_id(lesion_id)
        self.erase(self._voxels.flat[self._voxels.ids == lesion_id])

    def paint(self, flat: ArrayLike, artery: Artery, note: LesionNote | None = None) -> None:
        """Make one new lesion of voxels, C-order indices; where they belonged to another lesion, they leave it."""
        flat = self._check_flat(flat)
        lesion_id = max(self._arteries, default=0) + 1
        if lesion_id > MAX_LESIONS:
            raise ValueError(f"expected at most {MAX_LESIONS} lesions; merge or remove some first")
        self._take(flat)
        kept = self._voxels
        at = np.searchsorted(kept.flat, flat)
        self._voxels = Voxels(np.insert(kept.flat, at, flat), np.insert(kept.ids, at, lesion_id))
        self._arteries[lesion_id] = artery
        self._notes[lesion_id] = note or LesionNote(source=LabelSource.READER)
        self._forget_empty()

    def erase(self, flat: ArrayLike) -> None:
        """Take voxels, C-order indices, out of their lesions; a lesion that loses all of them is gone."""
        self._take(self._check_flat(flat))
        self._forget_empty()

    def _take(self, flat: NDArray[np.int64]) -> None:
        """Take voxels from their lesions."""
        left = ~np.isin(self._voxels.flat, flat, assume_unique=True)
        self._voxels = Voxels(self._voxels.flat[left], self._voxels.ids[left])

    def _forget_empty(self) -> None:
        left = set(np.flatnonzero(np.bincount(self._voxels.ids)).tolist())
        for lesion_id in set(self._arteries) - left:
            del self._arteries[lesion_id]
            self._notes.pop(lesion_id, None)

    def _check_id(self, lesion_id: int) -> None:
        if lesion_id not in self._arteries:
            raise ValueError(f"no lesion {lesion_id}; there are {sorted(self._arteries)}")

    def _check_flat(self, flat: ArrayLike) -> NDArray[np.int64]:
        indices = np.unique(np.asarray(flat, dtype=np.int64))
        if indices.size == 0:
            raise ValueError("expected at least one voxel, got none")
        size = math.prod(self._before.shape)
        if indices[0] < 0 or indices[-1] >= size:
            raise ValueError(f"voxel index must lie in 0..{size - 1}, got {indices[0]}..{indices[-1]}")
        return indices
