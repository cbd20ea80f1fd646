"""From voxels above the threshold to islands, and from an artery per voxel to lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import MAX_LESIONS, Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol

TOO_SMALL = "below the minimum area"
"""Start of the note of every piece that is labeled but too small to count."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Voxels dense enough to be calcium, and their islands within each slice.

    Parameters
    ----------
    flat
        (n,) int64, C-order indices into the CT, ascending
    hu
        (n,) of each voxel
    island
        (n,) int64, 2-D island of each voxel, 0-based, numbered by first voxel
    pixels
        (islands,) size of each island
    accepted
        (islands,) bool, large enough to count
    """

    flat: NDArray[np.int64]
    hu: NDArray
    island: NDArray[np.int64]
    pixels: NDArray[np.int64]
    accepted: NDArray[np.bool_]

    def keep(self, kept_components: NDArray[np.bool_]) -> Candidates:
        """Only some islands, renumbered.

        Parameters
        ----------
        kept_components
            (islands,) bool
        """
        voxels = kept_components[self.island]
        renumbered = np.cumsum(kept_components) - 1
        return Candidates(
            self.flat[voxels],
            self.hu[voxels],
            renumbered[self.island[voxels]],
            self.pixels[kept_components],
            self.accepted[kept_components],
        )


def candidate_mask(
    ct: CTVolume, protocol: ScoringProtocol, box: tuple[slice, slice, slice] | None = None
) -> Candidates:
    """Every voxel at or above the label threshold, in islands within its slice.

    Parameters
    ----------
    ct
        The scan.
    protocol
        Has the label threshold and the minimum area.
    box
        (k, j, i) range to look in; None looks everywhere. An island that the box cuts is seen in part.

    Returns
    -------
    Candidates
        Islands of every size; `Candidates.accepted` says which reach the minimum area.
    """
    if box is None:
        flat = np.flatnonzero(ct.hu >= protocol.label_threshold_hu)
    else:
        inside = np.flatnonzero(ct.hu[box] >= protocol.label_threshold_hu)
        kji = np.unravel_index(inside, ct.hu[box].shape)
        first = [axis.indices(n)[0] for axis, n in zip(box, ct.shape, strict=True)]
        flat = np.ravel_multi_index([index + start for index, start in zip(kji, first, strict=True)], ct.shape)
    flat = flat.astype(np.int64, copy=False)
    return _candidates(ct, flat, protocol, None)


def extract_lesions(
    ct: CTVolume,
    flat: ArrayLike,
    arteries: ArrayLike,
    protocol: ScoringProtocol,
    *,
    notes: Sequence[LesionNote] = (LesionNote(),),
    note_of_voxel: ArrayLike | None = None,
) -> LesionMap:
    """Turn an artery per voxel into lesions.

    Voxels below the label threshold are left out. In each slice the islands of one artery that reach the
    minimum area are accepted; accepted voxels of one artery that touch, corners and slices above and below
    included, are one lesion. Pieces that are too small become lesions of their own, after all others, so
    that the report can count them; they never join an accepted lesion.

    Parameters
    ----------
    ct
        The scan.
    flat
        (n,) C-order indices into the CT, any order, no repeats
    arteries
        (n,) `Artery` code of each; 0 is background and ignored
    protocol
        Has the label threshold and the minimum area.
    notes
        What can be said of the lesions.
    note_of_voxel
        (n,) index into `notes`; a lesion gets the note of most of its voxels. None: all 0.

    Returns
    -------
    LesionMap
        Lesions 1, 2, ... ordered by artery, then foot to head.

    Raises
    ------
    InputRefused
        "labels": an unknown code, or more lesions than a label map can hold
    """
    flat = np.asarray(flat, dtype=np.int64).reshape(-1)
    codes = np.asarray(arteries).reshape(-1)
    note_index = np.zeros(flat.size, np.int64) if note_of_voxel is None else np.asarray(note_of_voxel, dtype=np.int64)
    unknown = sorted({int(code) for code in np.unique(codes)} - {0, *map(int, Artery)})
    if unknown:
        raise InputRefused(
            "labels",
            f"segmentation: expected the codes 0 (none) to 6 ({', '.join(f'{a.value} {a.name}' for a in Artery)}), "
            f"found {', '.join(map(str, unknown[:5]))}; renumber the labels",
        )
    keep = (codes > 0) & (ct.hu.reshape(-1)[flat] >= protocol.label_threshold_hu)
    order = np.flatnonzero(keep)
    if not order.size:
        return LesionMap.empty(ct.shape)
    order = order[np.argsort(flat[order], kind="stable")]
    flat, codes, note_index = flat[order], codes[order].astype(np.uint8), note_index[order]

    candidates = _candidates(ct, flat, protocol, codes)
    accepted = candidates.accepted[candidates.island]
    # Artery and acceptance together: a piece that is too small is never joined to a lesion beside it.
    group = codes.astype(np.int16) * 2 + accepted
    lesion = label_components(flat, ct.shape, connectivity=26, group=group)
    first = np.unique(lesion, return_index=True)[1]
    if first.size > MAX_LESIONS:
        raise InputRefused(
            "labels",
            f"lesions: expected at most {MAX_LESIONS}, found {first.size}; "
            "the scan is too noisy or the segmentation too fragmented: average to thicker slabs",
        )
    rank = np.empty(first.size, np.int64)
    rank[np.lexsort((first, codes[first], ~accepted[first]))] = np.arange(1, first.size + 1)
    ids = rank[lesion].astype(np.uint16)

    labels = np.zeros(ct.shape, np.uint16)
    labels.reshape(-1)[flat] = ids
    lesion_arteries = {int(rank[n]): Artery(int(codes[first[n]])) for n in range(first.size)}
    lesion_notes = {}
    for n, index in enumerate(_most_frequent(lesion, note_index)):
        note = notes[index]
        if not accepted[first[n]]:
            note = replace(note, why=f"{TOO_SMALL}; {note.why}".rstrip("; "), counts=False)
        lesion_notes[int(rank[n])] = note
    return LesionMap(labels, lesion_arteries, lesion_notes)


def _candidates(ct: CTVolume, flat: NDArray[np.int64], protocol: ScoringProtocol, group: NDArray | None) -> Candidates:
    island = label_components(flat, ct.shape, connectivity=protocol.connectivity, group=group)
    pixels = np.bincount(island)
    return Candidates(flat, ct.hu.reshape(-1)[flat], island, pixels, protocol.keeps(pixels, ct.pixel_area_mm2))


def _most_frequent(group: NDArray[np.int64], value: NDArray[np.int64]) -> NDArray[np.int64]:
    """(groups,) value that most members of each group have; the smallest of equals."""
    pairs, count = np.unique(np.stack([group, value]), axis=1, return_counts=True)
    best = np.lexsort((pairs[1], -count, pairs[0]))
    groups, first = np.unique(pairs[0][best], return_index=True)
    assert groups.size == int(group.max()) + 1
    return pairs[1][best][first]
