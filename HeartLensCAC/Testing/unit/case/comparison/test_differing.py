"""Where two readings differ, voxel by voxel, worked out by hand on boxes of calcium."""

from __future__ import annotations

import numpy as np
from report_cases import BOXES, make_case
from two_scans import UNDECIDED, opened

from heartlens.case.comparison.differing import Dispute, differing
from heartlens.case.comparison.readers import Agreement, compare_readings
from heartlens.case.correction import apply_edited_labels
from heartlens.core.lesions import Artery

# LAD 50 (100 pixels), LM 16 (16 pixels), RCA 1 (4 pixels); and OTHER
A = make_case(BOXES)


def found(a, b):
    return list(differing(a, b, compare_readings(opened(a), opened(b))))


def test_what_is_the_same_voxel_by_voxel_is_not_there():
    assert found(A, A) == []


def test_another_artery_and_a_lesion_of_one_reading_alone_come_with_all_their_voxels():
    one, other = found(A, A.reassign(1, Artery.LCX).remove(2))
    assert [str(one.what), str(other.what)] == ["artery", "A alone"]
    assert (one.flat.size, other.flat.size) == (100, 16)
    assert one.place_kji[0] == 5
    assert one.place_lps_mm == tuple(A.source_ct.lps_mm([float(n) for n in one.place_kji]))
    assert [str(x.what) for x in found(A.remove(2), A)] == ["B alone"]


def test_of_a_lesion_that_one_reading_made_smaller_only_the_rest_is_disputed():
    labels = np.array(A.scored_codes)
    labels[5, 10:13, 10:20] = 0
    (one,) = found(A, apply_edited_labels(A, labels))
    assert one.what is Dispute.EXTENT
    assert sorted({int(n) // 64 % 64 for n in one.flat}) == [10, 11, 12]
    assert one.flat.size == 30


def test_what_one_reading_has_not_decided_is_disputed_as_a_whole_and_told_with_whose_it_is():
    decided = make_case([(Artery.LAD, 5, 10, 10, 10, 250)])
    (one,) = found(decided, make_case([(Artery.LAD, 5, 10, 10, 10, 250)], notes={1: UNDECIDED}))
    assert (one.what, one.undecided_a, one.undecided_b, one.flat.size) == (Dispute.UNDECIDED, False, True, 100)


def test_together_they_are_what_the_difference_map_shows_and_no_voxel_is_twice():
    b = A.reassign(1, Artery.LCX).reassign(2, Artery.OTHER).remove(3)
    compared = compare_readings(opened(A), opened(b))
    flat = np.concatenate([one.flat for one in differing(A, b, compared)])
    assert sorted(flat) == np.flatnonzero((compared.map > 0) & (compared.map != Agreement.BOTH)).tolist()
