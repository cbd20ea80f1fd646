"""What is found in a softened copy is scored as it stands in the scan."""

from __future__ import annotations

import numpy as np

from heartlens.calcium import carry_lesions, extract_lesions
from heartlens.calcium.carrying import REACH_MM
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.protocol import ScoringProtocol

PROTOCOL = ScoringProtocol()
NOTES = (LesionNote(0.9, why="first"), LesionNote(0.2, why="second", undecided=True))


Box = tuple[int, int, int, int, int]
"""Slice, rows from and to, columns from and to."""


def at(box: Box) -> tuple[int, slice, slice]:
    k, top, bottom, left, right = box
    return k, slice(top, bottom), slice(left, right)


def scan(plaques: dict[Box, int], *, spacing_mm=(3.0, 0.5, 0.5)) -> CTVolume:
    hu = np.full((4, 60, 60), 40, np.int16)
    for box, value in plaques.items():
        hu[at(box)] = value
    dz, dy, dx = spacing_mm
    return CTVolume(hu, np.diag([dx, dy, dz, 1.0]))


def found_in(ct: CTVolume, arteries: dict[Box, Artery]):
    flat, codes, notes = [], [], []
    for n, (where, artery) in enumerate(arteries.items()):
        inside = np.zeros(ct.shape, bool)
        inside[at(where)] = True
        here = np.flatnonzero(inside)
        flat.append(here)
        codes.append(np.full(here.size, int(artery)))
        notes.append(np.full(here.size, n))
    return extract_lesions(
        ct, np.concatenate(flat), np.concatenate(codes), PROTOCOL, notes=NOTES, note_of_voxel=np.concatenate(notes)
    )


def test_a_plaque_gets_back_what_softening_took_from_its_rim():
    """6 x 6 pixels in the scan, 4 x 4 of them left in the copy: all 36 are scored."""
    whole, core = (1, 20, 26, 20, 26), (1, 21, 25, 21, 25)
    ct, copy = scan({whole: 300}), scan({core: 200})
    carried = carry_lesions(found_in(copy, {core: Artery.LAD}), ct, PROTOCOL)
    assert carried.artery_map()[1].sum() == 36 * int(Artery.LAD)
    assert carried.artery_map()[1, 20:26, 20:26].all()
    assert carried.notes[1] == NOTES[0]


def test_a_speck_out_of_reach_stays_out():
    """Pixels of 0.5 mm: two away is within 1.3 mm, three away is not."""
    core = (1, 21, 25, 21, 25)
    reach_px = int(REACH_MM / 0.5)
    for away, comes_along in ((reach_px, True), (reach_px + 1, False)):
        speck = (1, 21, 25, 24 + away, 25 + away)
        ct = scan({core: 300, speck: 500})
        carried = carry_lesions(found_in(scan({core: 200}), {core: Artery.LAD}), ct, PROTOCOL)
        assert bool(carried.labels[at(speck)].any()) is comes_along


def test_thin_neighbor_slices_come_along_and_thick_ones_do_not():
    core, above = (1, 21, 25, 21, 25), (2, 21, 25, 21, 25)
    for dz, comes_along in ((1.0, True), (3.0, False)):
        ct = scan({core: 300, above: 300}, spacing_mm=(dz, 0.5, 0.5))
        copy = scan({core: 200}, spacing_mm=(dz, 0.5, 0.5))
        carried = carry_lesions(found_in(copy, {core: Artery.RCA}), ct, PROTOCOL)
        assert bool(carried.labels[at(above)].any()) is comes_along


def test_between_two_lesions_a_voxel_goes_to_the_nearest_with_its_artery_and_note():
    left, right = (1, 20, 24, 20, 23), (1, 20, 24, 26, 29)
    bridge = (1, 20, 24, 20, 29)
    ct = scan({bridge: 300})
    carried = carry_lesions(
        found_in(scan({left: 200, right: 200}), {left: Artery.LAD, right: Artery.LCX}), ct, PROTOCOL
    )
    assert carried.artery_map()[1, 20, 20:29].tolist() == [2, 2, 2, 2, 2, 3, 3, 3, 3] or carried.artery_map()[
        1, 20, 20:29
    ].tolist() == [2, 2, 2, 2, 3, 3, 3, 3, 3]
    assert {carried.arteries[n]: carried.notes[n].why for n in carried.arteries} == {
        Artery.LAD: "first",
        Artery.LCX: "second",
    }


def test_what_is_too_small_in_the_copy_was_not_found():
    speck = (1, 21, 22, 21, 22)
    ct = scan({(1, 20, 26, 20, 26): 300})
    found = found_in(scan({speck: 200}), {speck: Artery.LAD})
    assert not found.notes[1].counts
    assert not carry_lesions(found, ct, PROTOCOL).arteries
    assert not carry_lesions(type(found).empty(ct.shape), ct, PROTOCOL).arteries
