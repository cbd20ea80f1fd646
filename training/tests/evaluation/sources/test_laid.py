"""A laid plaque has the volume of its ellipsoid, is known where it is dense, and is refused where no artery can be."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from training.evaluation.answers import Known
from training.evaluation.results import Failure
from training.evaluation.sources.judged import JudgedScan
from training.evaluation.sources.laid import PLACES, SHAPES, Shape, laid_scans, lay_plaques, plaque_share

ALONG = Shape("made up", 12.0, 4.0, 600.0)


def chest(slices: int = 9, value: int = 20) -> CTVolume:
    hu = np.full((slices, 80, 80), value, np.int16)
    hu[:, :8], hu[:, -8:] = -900, 900
    return CTVolume(hu, np.diag([0.5, 0.5, 1.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=1.0))


def scan(tmp_path) -> JudgedScan:
    return JudgedScan("made-up", tmp_path, chest(), Known())


def place(artery: str | None, row: float, column: float, course_deg: float = 0.0) -> dict:
    return {"artery": artery, "what": "nothing", "at": [4, row, column], "course_deg": course_deg}


@pytest.mark.parametrize("course_deg", [0, 45, 90])
def test_a_plaque_has_the_volume_of_its_ellipsoid_whatever_its_direction(course_deg):
    ct = chest()
    _, share = plaque_share(ct, (4, 40, 40), course_deg, ALONG)
    assert share.sum() * ct.voxel_volume_mm3 == pytest.approx(math.pi / 6 * 12 * 4 * 4, rel=0.03)


def test_its_long_axis_runs_along_the_course():
    box, share = plaque_share(chest(), (4, 40, 40), 90.0, ALONG)
    rows, columns = (np.ptp(axis) for axis in np.nonzero(share.max(axis=0) > 0.5))
    assert rows > 2 * columns
    assert [s.start for s in box] == [4 - 4, 40 - 18, 40 - 18][:1] + [s.start for s in box[1:]]


def test_plaques_are_known_where_they_are_dense_and_those_beside_arteries_are_no_calcium(tmp_path):
    laid = lay_plaques(scan(tmp_path), [place("LAD", 30, 30), place(None, 55, 50)], ALONG, tmp_path)
    (island,) = laid.known.islands
    dense = laid.ct.hu >= 130
    assert island.artery == "LAD"
    assert dense.reshape(-1)[island.flat].all()
    assert np.isin(np.flatnonzero(dense[:, 8:45]), island.flat).size > 0
    beside = np.zeros(laid.ct.shape, bool)
    beside[:, 45:65] = True
    assert (dense & beside).any()
    assert not beside.reshape(-1)[island.flat].any()
    assert laid.person == "made-up"
    assert laid.ct.hu.max() >= 550


@pytest.mark.parametrize(
    ("row", "reason"),
    [(2, "slice 4: row 2, column 30 is air or bone"), (77, "is air or bone"), (90, r"lies outside of the scan")],
)
def test_places_in_air_in_bone_or_outside_are_refused_by_slice(tmp_path, row, reason):
    with pytest.raises(InputRefused, match=reason):
        lay_plaques(scan(tmp_path), [place("RCA", row, 30)], ALONG, tmp_path)


def test_hearts_that_are_not_there_are_said(tmp_path):
    found = list(laid_scans(tmp_path / "nowhere", tmp_path))
    assert len(found) == 3
    assert all(isinstance(each, Failure) and "is not there" in each.reason for each in found)


def test_marked_places_name_arteries_and_only_hearts_that_judge():
    document = json.loads(PLACES.read_text())
    assert {heart["set"] for heart in document["hearts"]} == {
        "real_heart_slices", "covid19_nysbu_slices", "lidc_idri_0314",
    }  # fmt: skip
    arteries = [place["artery"] for heart in document["hearts"] for place in heart["places"]]
    assert set(arteries) == {"LM", "LAD", "LCX", "RCA", None}
    assert min(arteries.count(artery) for artery in set(arteries)) >= 5
    areas = [math.pi / 4 * shape.length_mm * shape.width_mm for shape in SHAPES]
    assert areas[0] < 10 < areas[1] < 30 < areas[2]
