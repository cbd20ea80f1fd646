"""What is found in a softened copy is scored as it stands in the scan."""

from __future__ import annotations

import numpy as np

from heartlens.anatomy.sharpness import Softened
from heartlens.calcium import carry_lesions, extract_lesions, with_lost
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


def found_in(ct: CTVolume, arteries: dict[Box, Artery], notes_of: tuple[LesionNote, ...] = NOTES):
    flat, codes, notes = [], [], []
    for n, (where, artery) in enumerate(arteries.items()):
        inside = np.zeros(ct.shape, bool)
        inside[at(where)] = True
        here = np.flatnonzero(inside)
        flat.append(here)
        codes.append(np.full(here.size, int(artery)))
        notes.append(np.full(here.size, n))
    return extract_lesions(
        ct, np.concatenate(flat), np.concatenate(codes), PROTOCOL, notes=notes_of, note_of_voxel=np.concatenate(notes)
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


def lost(copy_hu: int, note: LesionNote = NOTES[0], artery: Artery = Artery.RCA, *, place: Box = (2, 40, 43, 40, 43)):
    """A plaque of the LAD that both images show, and another of 300 HU that has `copy_hu` in the copy.

    Blood has 40 HU with a deviation of 10 in the copy, so 80 HU is four deviations above it and 120 HU eight.
    """
    seen = (1, 20, 24, 20, 24)
    ct, copy = scan({seen: 300, place: 300}), scan({seen: 200, place: copy_hu})
    carried = carry_lesions(found_in(copy, {seen: Artery.LAD}), ct, PROTOCOL)
    in_scan = found_in(ct, {seen: Artery.LAD, place: artery}, (NOTES[0], note))
    return with_lost(carried, in_scan, Softened(ct, copy, 0.6), PROTOCOL, blood_hu=40.0, noise_hu=10.0)


def test_what_the_copy_lost_is_left_to_a_reader_where_it_is_faint_there_and_counts_where_it_is_not():
    for copy_hu, expected in (
        (79, None),
        (80, (Artery.OTHER, True)),
        (119, (Artery.OTHER, True)),
        (120, (Artery.RCA, False)),
    ):
        lesions = lost(copy_hu)
        added = [n for n, artery in lesions.arteries.items() if artery is not Artery.LAD]
        assert [(lesions.arteries[n], lesions.notes[n].undecided) for n in added] == ([expected] if expected else [])
        assert (lesions.artery_map() == Artery.LAD).sum() == 16
        assert (lesions.artery_map() > Artery.LAD).sum() == (9 if expected else 0)


def test_a_lost_lesion_says_so_and_keeps_what_was_known_of_it():
    (note,) = [n for n in lost(100).notes.values() if n.undecided]
    assert (note.probability, note.why) == (0.9, "first; lost in the softened copy, where it is faint: review")
    (_, note) = lost(125).notes.values()
    assert (note.probability, note.why) == (0.9, "first; lost in the softened copy")


def test_what_was_in_doubt_or_something_else_in_the_scan_is_no_loss():
    for note, artery in ((NOTES[1], Artery.RCA), (NOTES[0], Artery.OTHER), (NOTES[1], Artery.OTHER)):
        assert set(lost(125, note, artery).arteries.values()) == {Artery.LAD}


def test_what_touches_a_carried_lesion_or_is_too_small_is_not_added():
    """A corner is a touch, in the slice and from slice to slice; one pixel of 0.5 mm is too small."""
    for place in ((1, 24, 27, 24, 27), (2, 24, 27, 24, 27), (2, 40, 41, 40, 41)):
        assert set(lost(125, place=place).arteries.values()) == {Artery.LAD}, place
    assert set(lost(125, place=(1, 25, 28, 25, 28)).arteries.values()) == {Artery.LAD, Artery.RCA}


def test_the_far_end_of_a_found_lesion_belongs_to_it_when_the_scan_shows_one_certain_island():
    """20 x 4 pixels in the scan, of which the copy shows 4 x 4: out of its reach of 2 pixels lie 14 x 4."""
    whole, core = (1, 20, 24, 20, 40), (1, 20, 24, 20, 24)
    ct, copy = scan({whole: 300}), scan({core: 200})
    for found, in_scan, note, pixels in (
        (Artery.LAD, Artery.LCX, NOTES[0], 80),
        (Artery.LAD, Artery.LCX, NOTES[1], 24),
        (Artery.LAD, Artery.OTHER, NOTES[0], 24),
        (Artery.OTHER, Artery.LAD, NOTES[0], 24),
    ):
        carried = carry_lesions(found_in(copy, {core: found}), ct, PROTOCOL)
        assert (carried.labels > 0).sum() == 24
        lesions = with_lost(
            carried, found_in(ct, {whole: in_scan}, (note,)), Softened(ct, copy, 0.6), PROTOCOL,
            blood_hu=40.0, noise_hu=10.0,
        )  # fmt: skip
        assert lesions.arteries == {1: found}
        assert lesions.notes == {1: NOTES[0]}
        assert (lesions.labels > 0).sum() == pixels


def test_a_scan_in_which_nothing_is_found_loses_nothing():
    ct = scan({})
    empty = type(found_in(scan({(1, 20, 24, 20, 24): 200}), {(1, 20, 24, 20, 24): Artery.LAD})).empty(ct.shape)
    assert with_lost(empty, empty, Softened(ct, ct, 0.6), PROTOCOL, blood_hu=40.0, noise_hu=10.0) is empty


def test_where_the_copy_shows_nothing_at_all_the_lost_are_all_there_is():
    place = (2, 40, 43, 40, 43)
    ct, copy = scan({place: 300}), scan({place: 120})
    empty = found_in(ct, {place: Artery.RCA}).empty(ct.shape)
    lesions = with_lost(
        empty, found_in(ct, {place: Artery.RCA}), Softened(ct, copy, 0.6), PROTOCOL, blood_hu=40.0, noise_hu=10.0
    )
    assert list(lesions.arteries.values()) == [Artery.RCA]
