"""What a reader painted, erased or clicked, as edits of a case. No window, no scene: labels in, a `Case` out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.calcium import candidate_mask
from heartlens.case.case import Case
from heartlens.case.edits import Edit, runs_of
from heartlens.core.components import label_components
from heartlens.core.lesions import Artery
from heartlens.scoring.counted import Labeled

CLICK_CAP_MM3 = 1500.0
"""Largest island that one click takes; spec 7.2. What is larger is bone, or a plaque that runs into the aorta."""

CLICK_REACH_MM = 1.5
"""How far from calcium, within the slice, a click may fall and still mean it."""


def apply_edited_labels(case: Case, codes: NDArray[np.uint8], *, who: str = "", when: str = "") -> Case:
    """The case after a reader changed its exported labels with whatever tool.

    Only what differs from `case.scored_codes` becomes edits, and as few as say it: a lesion that went to another
    artery as a whole is reassigned, one that is gone is removed, other voxels are erased or painted. Painted voxels
    below the threshold are dropped. Painted voxels that touch a lesion of the same artery join it (under a new id);
    a lesion that was cut in two becomes two. All edits of one call are one action: one undo takes them back.

    Parameters
    ----------
    case
        The case before.
    codes
        (k, j, i) `Artery` codes on the grid of `case.source_ct`, 0 where nothing is labeled
    who, when
        Reader and ISO 8601 time, kept with each edit.

    Returns
    -------
    Case
        `case` itself, the same object, when nothing that counts differs
    """
    if codes.shape != case.source_ct.shape:
        raise ValueError(f"codes must lie on the grid of the CT, {case.source_ct.shape}, got {codes.shape}")
    flat = np.flatnonzero(codes != 0)
    return apply_labeled_voxels(case, Labeled(flat, codes.reshape(-1)[flat]), who=who, when=when)


def apply_labeled_voxels(case: Case, labels: Labeled, *, who: str = "", when: str = "") -> Case:
    """`apply_edited_labels`, from the labeled voxels alone: a reader's stroke must not cost a walk through the volume.

    Parameters
    ----------
    case
        The case before.
    labels
        On the grid of `case.source_ct`; all other voxels are without label.
    who, when
        Reader and ISO 8601 time, kept with each edit.
    """
    changed, wanted = _differing(case.shown, labels)
    changed, wanted = _on_scored_grid(case, changed, wanted)
    return apply_labels(case, changed, wanted, who=who, when=when)


def apply_labels(
    case: Case, flat: NDArray[np.int64], codes: NDArray[np.uint8], *, who: str = "", when: str = ""
) -> Case:
    """The case after some voxels went to another artery, or to none. `apply_edited_labels` tells what comes of it.

    Parameters
    ----------
    case
        The case before.
    flat
        (n,) C-order indices into `case.ct`, ascending, no repeats
    codes
        (n,) `Artery` code of each; 0 takes it out of its lesion
    who, when
        Reader and ISO 8601 time, kept with each edit.
    """
    bright = case.ct.hu.reshape(-1)[flat] >= case.protocol.label_threshold_hu
    after = _Relabeled.of(case, flat[bright], codes[bright])
    edits: list[Edit] = []
    for lesion_id in after.emptied():
        edits.append(Edit("remove", lesion=lesion_id))
        after = after.without(lesion_id)
    if after.erased.any():
        edits.append(Edit("erase", runs=runs_of(after.flat[after.erased])))
    for island in after.components():
        lesion_id = after.moved_whole(island)
        if lesion_id:
            edits.append(Edit("reassign", lesion=lesion_id, artery=after.artery(island)))
        else:
            edits.append(after.painted(island))
    edits += [after.painted(island) for island in after.cut_off()]
    return case.with_edits([replace(edit, who=who, when=when) for edit in edits])


def assign_at(
    case: Case, kji: ArrayLike, artery: Artery, *, in_slice: bool = False, who: str = "", when: str = ""
) -> Case:
    """The case after a click: the island under it belongs to `artery`.

    A lesion under the click is reassigned; elsewhere the whole 3-D island of unlabeled voxels at or above the
    threshold becomes a lesion.

    Parameters
    ----------
    case
        The case before.
    kji
        (3,) index into `case.source_ct`, fractions allowed
    artery
        What the reader says that it is.
    in_slice
        Only the part of the island that lies in this slice.
    who, when
        Reader and ISO 8601 time, kept with each edit.

    Raises
    ------
    ValueError
        No calcium within `CLICK_REACH_MM`, or an island larger than `CLICK_CAP_MM3`; the text is for readers.
    """
    seed = _calcium_at(case, kji)
    if seed is None:
        raise ValueError(
            f"no voxel of {case.protocol.label_threshold_hu:g} HU or more within {CLICK_REACH_MM:g} mm of the click; "
            "click on calcium"
        )
    lesion_id = int(case.lesions.ids_at(seed))
    if lesion_id and case.lesions.arteries[lesion_id] is artery:
        return case.accept(lesion_id, who=who, when=when)
    if lesion_id and not in_slice:
        return case.reassign(lesion_id, artery, who=who, when=when)
    island = _part_in_slice(case, seed, lesion_id) if lesion_id else _free_component(case, seed, in_slice=in_slice)
    return apply_labels(case, island, np.full(island.size, artery, np.uint8), who=who, when=when)


def lesion_at(case: Case, kji: ArrayLike) -> int | None:
    """Id of the lesion under a point, or within `CLICK_REACH_MM` of it in the slice; None where there is none."""
    seed = _calcium_at(case, kji)
    return None if seed is None else int(case.lesions.ids_at(seed)) or None


def assign_touched(case: Case, flat: NDArray[np.int64], artery: Artery, *, who: str = "", when: str = "") -> Case:
    """The case after a box was drawn: every island that has a voxel in it belongs to `artery`, whole, as one action.

    Parameters
    ----------
    case
        The case before.
    flat
        (n,) C-order indices into `case.ct` of the voxels in the box, at or above the threshold, ascending
    artery
        What the reader says that they are.
    who, when
        Reader and ISO 8601 time, kept with each edit.

    Raises
    ------
    ValueError
        No island in it, or none that is small enough to be calcium of an artery; the text is for readers.
    """
    ids, voxels = case.lesions.ids_at(flat), case.lesions.voxels
    islands = [voxels.flat[np.isin(voxels.ids, np.unique(ids[ids > 0]))]]
    free = flat[ids == 0]
    numbers = label_components(free, case.ct.shape, connectivity=case.protocol.connectivity)
    for number in np.unique(numbers):
        with suppress(ValueError):  # bone, which reaches into many a box
            islands.append(_free_component(case, int(free[numbers == number][0]), in_slice=False))
    whole = np.unique(np.concatenate(islands))
    if not whole.size:
        raise ValueError(f"no island of calcium of at most {CLICK_CAP_MM3:g} mm3 in the box; draw it around calcium")
    return apply_labels(case, whole, np.full(whole.size, artery, np.uint8), who=who, when=when)


def island_ids(case: Case) -> NDArray[np.uint16]:
    """(k, j, i) id of the island of every voxel that counts, 0 elsewhere; on the grid of the CT as it was read.

    Parameters
    ----------
    case
        Of the islands.
    """
    ids = np.zeros(case.source_ct.shape, np.uint16)
    labels = np.repeat(case.lesions.labels, case.slab_count, axis=0)  # shorter: slices that fill no slab do not count
    flat = case.shown.flat
    ids.reshape(-1)[flat] = labels.reshape(-1)[flat]
    return ids


@dataclass(frozen=True)
class _Relabeled:
    """The labeled voxels after a change, before it is told as edits.

    Parameters
    ----------
    flat
        (n,) voxels that were labeled or changed, ascending
    was
        (n,) lesion of each before; 0: none
    codes
        (n,) `Artery` code of each after; 0: erased
    changed
        (n,) bool
    visible
        (n,) bool, counted before: what the reader saw
    accepted
        (n,) bool, in a 2-D island that counts after
    island
        (n,) 3-D island of each after, as `extract_lesions` makes them; -1 where erased
    """

    case: Case
    flat: NDArray[np.int64]
    was: NDArray[np.uint16]
    codes: NDArray[np.uint8]
    changed: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    island: NDArray[np.int64]

    @classmethod
    def of(cls, case: Case, changed: NDArray[np.int64], wanted: NDArray[np.uint8]) -> _Relabeled:
        lesions = case.lesions
        flat = np.union1d(lesions.voxels.flat, changed)
        was = lesions.ids_at(flat)
        before = np.zeros(flat.size, np.uint8)
        before[np.searchsorted(flat, lesions.voxels.flat)] = lesions.artery_of_voxels()
        codes = before.copy()
        codes[np.searchsorted(flat, changed)] = wanted
        visible = np.isin(flat, case.counted.flat, assume_unique=True)
        return cls._with_components(case, flat, was, codes, codes != before, visible)

    @classmethod
    def _with_components(
        cls,
        case: Case,
        flat: NDArray[np.int64],
        was: NDArray[np.uint16],
        codes: NDArray[np.uint8],
        changed: NDArray[np.bool_],
        visible: NDArray[np.bool_],
    ) -> _Relabeled:
        shape, protocol = case.ct.shape, case.protocol
        kept = np.flatnonzero(codes)
        in_slice = label_components(flat[kept], shape, connectivity=protocol.connectivity, group=codes[kept])
        large = protocol.keeps(np.bincount(in_slice), case.ct.pixel_area_mm2)
        accepted = np.zeros(flat.size, bool)
        accepted[kept] = large[in_slice]
        group = codes[kept].astype(np.int16) * 2 + accepted[kept]
        island = np.full(flat.size, -1, np.int64)
        island[kept] = label_components(flat[kept], shape, connectivity=26, group=group)
        return cls(case, flat, was, codes, changed, visible, accepted, island)

    @property
    def erased(self) -> NDArray[np.bool_]:
        return self.changed & (self.codes == 0)

    def without(self, lesion_id: int) -> _Relabeled:
        """After a lesion was removed: what the reader could not see of it goes as well."""
        gone = (self.was == lesion_id) & ~(self.changed & (self.codes > 0))
        left = ~gone
        return self._with_components(
            self.case, self.flat[left], self.was[left], self.codes[left], self.changed[left], self.visible[left]
        )

    def emptied(self) -> list[int]:
        """Lesions of which nothing is left that the reader saw."""
        gone = np.unique(self.was[self.erased & (self.was > 0)])
        return [int(i) for i in gone if (self.erased | ~self.visible)[self.was == i].all()]

    def components(self) -> Iterator[NDArray[np.int64]]:
        """Positions in `flat` of every island with changed voxels; pieces too small to count come as one an artery."""
        painted = self.changed & (self.codes > 0)
        for number in np.unique(self.island[painted & self.accepted]):
            yield np.flatnonzero(self.island == number)
        small = painted & ~self.accepted
        for code in np.unique(self.codes[small]):
            yield np.flatnonzero(small & (self.codes == code))

    def moved_whole(self, island: NDArray[np.int64]) -> int:
        """The lesion that an island is, all that was seen of it and nothing else; 0 when it is not one."""
        lesion_id = int(self.was[island[0]])
        is_one = lesion_id and (self.was[island] == lesion_id).all() and self.accepted[island[0]]
        visible_voxels = np.count_nonzero(self.visible & (self.was == lesion_id))
        return lesion_id if is_one and np.count_nonzero(self.visible[island]) == visible_voxels else 0

    def cut_off(self) -> Iterator[NDArray[np.int64]]:
        """Islands that a change cut from their lesion; the largest part of each lesion stays it."""
        painted = np.isin(self.island, np.unique(self.island[self.changed & (self.codes > 0) & self.accepted]))
        for lesion_id in np.unique(self.was[self.changed & (self.was > 0)]):
            rest = (self.was == lesion_id) & self.accepted & ~self.changed & ~painted
            numbers, sizes = np.unique(self.island[rest], return_counts=True)
            for number in np.delete(numbers, np.argmax(sizes)) if numbers.size else ():
                yield np.flatnonzero(self.island == number)

    def painted(self, island: NDArray[np.int64]) -> Edit:
        return Edit("paint", artery=self.artery(island), runs=runs_of(self.flat[island]))

    def artery(self, island: NDArray[np.int64]) -> Artery:
        return Artery(int(self.codes[island[0]]))


def _differing(before: Labeled, after: Labeled) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Voxels whose label changed, ascending, and their new one; 0 where it is gone."""
    flat = np.union1d(before.flat, after.flat)
    codes = np.zeros((2, flat.size), np.uint8)
    for row, labels in enumerate((before, after)):
        codes[row, np.searchsorted(flat, labels.flat)] = labels.codes
    changed = codes[0] != codes[1]
    return flat[changed], codes[1, changed]


def _on_scored_grid(
    case: Case, flat: NDArray[np.int64], codes: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Changes of source voxels as changes of slab voxels; an artery wins over an erasure, then the smaller code."""
    if case.slab_count == 1:
        return flat, codes
    slabs, rows, columns = case.ct.shape
    slab = flat // (rows * columns) // case.slab_count
    inside = slab < slabs  # slices that make no whole slab are not scored
    flat, codes = (slab * rows * columns + flat % (rows * columns))[inside], codes[inside]
    order = np.lexsort((codes, codes == 0, flat))
    flat, first = np.unique(flat[order], return_index=True)
    return flat, codes[order][first]


def _calcium_at(case: Case, kji: ArrayLike) -> int | None:
    """The voxel at or above the threshold nearest to a point in its slice, within reach."""
    ct = case.ct
    k, j, i = np.asarray(kji, dtype=np.float64)
    slab = round(float((k - (case.slab_count - 1) / 2) / case.slab_count))
    if not 0 <= slab < ct.shape[0]:
        return None
    _, dy, dx = ct.spacing_mm
    rows, columns = (
        slice(max(0, int(at - CLICK_REACH_MM / step)), max(0, int(at + CLICK_REACH_MM / step) + 2))
        for at, step in ((j, dy), (i, dx))
    )
    near = np.argwhere(ct.hu[slab, rows, columns] >= case.protocol.label_threshold_hu)
    if not near.size:
        return None
    near += (rows.start, columns.start)
    distance_mm = np.hypot((near[:, 0] - j) * dy, (near[:, 1] - i) * dx)
    best = int(np.argmin(distance_mm))
    if distance_mm[best] > CLICK_REACH_MM:
        return None
    return int(np.ravel_multi_index((slab, *near[best]), ct.shape))


def _part_in_slice(case: Case, seed: int, lesion_id: int) -> NDArray[np.int64]:
    """The part of a lesion that lies in one slice and hangs together there."""
    voxels = case.lesions.voxels
    _, rows, columns = case.ct.shape
    here = voxels.flat[(voxels.ids == lesion_id) & (voxels.flat // (rows * columns) == seed // (rows * columns))]
    return _component_with(seed, here, case, connectivity=case.protocol.connectivity)


def _free_component(case: Case, seed: int, *, in_slice: bool) -> NDArray[np.int64]:
    """The island of voxels in no lesion around one of them, found in a box that grows until it holds the island."""
    ct = case.ct
    at = np.array(np.unravel_index(seed, ct.shape))
    most = CLICK_CAP_MM3 / ct.voxel_volume_mm3
    for half_mm in (10.0, 20.0, 40.0, 80.0):
        half = np.ceil(half_mm / np.array(ct.spacing_mm)).astype(int)
        half[0] = 0 if in_slice else half[0]
        low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, ct.shape)
        k, j, i = (slice(*ends) for ends in zip(low, high, strict=True))
        flat = candidate_mask(ct, case.protocol, (k, j, i)).flat
        flat = flat[case.lesions.ids_at(flat) == 0]
        connectivity = case.protocol.connectivity if in_slice else 26
        island = _component_with(seed, flat, case, connectivity=connectivity)
        kji = np.stack(np.unravel_index(island, ct.shape), axis=-1)
        at_edge = ((kji == low) & (low > 0)) | ((kji == high - 1) & (high < ct.shape))
        at_edge[:, 0] &= not in_slice
        if island.size > most:
            break
        if not at_edge.any():
            return island
    way_out = "paint the part that is calcium" if in_slice else "Ctrl-click takes the part in this slice, or cut it off"
    raise ValueError(f"this island is larger than {CLICK_CAP_MM3:g} mm3: bone, or calcium and the aorta; {way_out}")


def _component_with(seed: int, flat: NDArray[np.int64], case: Case, *, connectivity: int) -> NDArray[np.int64]:
    number = label_components(flat, case.ct.shape, connectivity=connectivity)
    return flat[number == number[np.searchsorted(flat, seed)]]
