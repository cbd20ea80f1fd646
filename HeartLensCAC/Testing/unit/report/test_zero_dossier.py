"""Zero is a claim: every slice of the heart is shown, and what reaches the threshold there is listed with a reason."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from report_cases import BOXES, make_case

from heartlens.anatomy import heart_region
from heartlens.case.case import Case
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.report.html import render_report
from heartlens.report.zero_dossier import MOST_TILES, zero_dossier


@pytest.fixture(scope="module")
def phantom():
    parameters = PhantomParameters.random(
        3, matrix=160, increment_mm=5.0, slice_thickness_mm=5.0, field_of_view="heart", category="101-400"
    )
    return make_phantom(parameters)


@pytest.fixture(scope="module")
def missed(phantom):
    """A scan with calcium on which nothing at all was found."""
    return Case.of(phantom.ct, LesionMap.empty(phantom.ct.shape), ScoringProtocol())


@pytest.fixture(scope="module")
def dossier(missed):
    return zero_dossier(missed)


def test_every_slice_of_the_heart_is_on_a_tile(missed, dossier):
    box = heart_region(missed.ct).box(missed.ct, margin_mm=5.0)
    name = missed_name(missed)
    assert [tile["image"] for tile in dossier["tiles"]] == [name(k) for k in range(box[0].start, box[0].stop)]
    assert all("aria-label" in tile["svg"] for tile in dossier["tiles"])


def missed_name(case):
    numbers = case.source_ct.header.instance_numbers
    return lambda k: f"image {numbers[k]}" if numbers else f"slice {k + 1} of {case.ct.shape[0]}"


def test_a_missed_plaque_is_a_ring_with_a_number_and_the_word_that_the_rules_would_count_it(phantom, dossier):
    by_rules = [row for row in dossier["candidates"] if "the rules would" in row.why]
    truth = np.isin(phantom.labels, (1, 2, 3, 4))
    assert by_rules
    assert any(truth[row.index_kji] for row in by_rules)
    assert [row.number for row in dossier["candidates"]] == list(range(1, len(dossier["candidates"]) + 1))
    scores = [row.score for row in dossier["candidates"]]
    assert scores == sorted(scores, reverse=True)
    rings = re.findall(r'class="ringed"[^>]*>(\d+)<', "".join(tile["svg"] for tile in dossier["tiles"]))
    assert {int(n) for n in rings} == {row.number for row in dossier["candidates"]}


def test_no_slice_is_missing_where_there_are_more_than_fit(missed):
    """Slices of a third of the thickness: three to a tile."""
    ct = missed.ct
    affine = np.diag([1.0, 1.0, 1.0 / 3, 1.0]) @ ct.affine
    affine[:3, 2] = [0, 0, ct.increment_mm / 3]
    header = replace(ct.header, sop_instance_uids=(), frame_numbers=(), instance_numbers=())
    thin = replace(ct, hu=np.repeat(ct.hu, 3, axis=0), affine=affine, header=header)
    case = Case.of(thin, LesionMap.empty(thin.shape), ScoringProtocol())
    tiles = zero_dossier(case)["tiles"]
    assert len(tiles) <= MOST_TILES


def test_there_is_none_where_calcium_counts_or_no_heart_was_found(missed):
    assert zero_dossier(make_case(BOXES)) is None
    assert zero_dossier(make_case()) is None
    assert zero_dossier(replace(missed, cautions=(WarningRecord("no-heart", "none"),))) is None


def test_the_page_of_a_zero_holds_it(missed, dossier):
    html = render_report(missed)
    assert "Zero, slice by slice" in html
    assert html.count('class="ringed"') == len(dossier["candidates"])
    assert "Zero, slice by slice" not in render_report(make_case(BOXES))
