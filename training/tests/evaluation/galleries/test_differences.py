"""Which slices a gallery shows: those on which reference and prediction differ most, one of each patient."""

from __future__ import annotations

import json

import numpy as np
import pytest

from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from training import evaluate
from training.evaluation.galleries.differences import SIDE_MM, Gallery
from training.evaluation.pairs import Pair, compare_pair
from training.evaluation.results import ANNOTATED, INTEGRATED, SEGMENTATION, Failure
from training.tests.evaluation.sources.test_layouts import AFFINE, LAD, RCA, reference, save_nifti, scan


def pair(name: str, missed: int, *, extra: int = 0, **more) -> Pair:
    """Twenty dense voxels of the LAD on slice 3, of which some are missed; and some called on slice 6 that are none."""
    hu = np.full((8, 200, 200), -80, np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[3, 60, 40:60], labels[3, 60, 40:60] = 300, LAD
    hu[6, 150, 100:110] = 300
    predicted = labels.copy()
    predicted[3, 60, 60 - missed : 60] = 0
    predicted[6, 150, 100 : 100 + extra] = RCA
    return Pair(name, CTVolume(hu, np.diag([0.7, 0.7, 3.0, 1.0])), labels, predicted, **more)


def test_the_patients_with_the_largest_difference_on_a_slice_are_shown_and_all_pairs_go_on():
    gallery = Gallery(2, 130.0)
    pairs = [pair("a", 3), pair("b", 0), Failure("c", "no scan"), pair("d", 5, extra=9), pair("e", 1)]
    assert list(gallery.watch(iter(pairs))) == pairs
    assert [(one.name, one.k, one.different) for one in gallery.slices] == [("d", 6, 9), ("a", 3, 3)]


def test_without_a_difference_the_most_calcified_slice_is_shown():
    gallery = Gallery(1, 130.0)
    list(gallery.watch([pair("b", 0)]))
    (one,) = gallery.slices
    assert (one.k, one.different, one.calcified) == (3, 0, 20)
    side = round(SIDE_MM / 0.7)
    assert one.hu.shape == one.reference.shape == (side, side)
    assert (one.reference == LAD).sum() == (one.predicted == LAD).sum() == 20


def test_what_is_shown_is_what_counts_in_the_end():
    """With a slice stage, its labels; soft voxels and what is not coronary never."""
    gallery = Gallery(3, 130.0)
    late = pair("a", 0)
    integrated = late.predicted.copy()
    integrated[3] = 0
    soft = pair("b", 0)
    soft.predicted[1, 10:30, 10:30] = LAD  # below the threshold
    soft.predicted[6, 150, 100:110] = int(Artery.OTHER)
    list(gallery.watch([Pair("a", late.ct, late.reference, late.predicted, None, integrated), soft]))
    assert [(one.name, one.different) for one in gallery.slices] == [("a", 20), ("b", 0)]


def test_none_are_kept_when_none_are_wanted():
    gallery = Gallery(0, 130.0)
    assert len(list(gallery.watch([pair("a", 3)]))) == 1
    assert gallery.pictures() == []


def test_on_annotated_slices_what_was_called_elsewhere_is_gone():
    """Figure 7b: the false call on slice 6 goes, as the reference has nothing there; what was missed stays missed."""
    one = compare_pair(pair("a", 5, extra=9), ScoringProtocol(), annotated=True)
    assert list(one.stages) == [SEGMENTATION, ANNOTATED]
    alone, annotated = (one.stages[stage] for stage in (SEGMENTATION, ANNOTATED))
    assert alone.predicted_slices[6]
    assert not annotated.predicted_slices[6]
    assert annotated.predicted_agatston["LAD"] == alone.predicted_agatston["LAD"] < alone.reference_agatston["LAD"]
    assert annotated.voxels["all"].fp == 0 < alone.voxels["all"].fp
    with_stage = compare_pair(pair("a", 5, slice_probability=np.ones(8)), ScoringProtocol(), 0.5, annotated=True)
    assert list(with_stage.stages) == [SEGMENTATION, INTEGRATED, ANNOTATED]


def test_the_command_shows_both_and_the_final_score_stays_what_it_was(tmp_path):
    known = reference(tmp_path / "reference")
    _, labels = scan()
    predicted = np.where(labels == LAD, labels, 0).astype(np.uint8)
    predicted[2, 40:44, 40:44] = RCA  # a dense block on a slice without calcium
    save_nifti(tmp_path / "ours" / "one" / "labels.nii.gz", predicted, AFFINE)
    words = ["--reference", str(known), "--prediction", str(tmp_path / "ours"), "--draws", "5"]
    assert evaluate.main([*words, "--out", str(tmp_path / "plain")]) == 0
    assert evaluate.main([*words, "--out", str(tmp_path / "more"), "--annotated-slices", "--gallery", "3"]) == 0
    plain, more = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("plain", "more"))
    assert more["stages"][SEGMENTATION] == plain["stages"][SEGMENTATION]
    assert more["stages"][ANNOTATED]["estimates"]["voxels.all.precision"]["value"] == 1
    assert more["stages"][SEGMENTATION]["estimates"]["voxels.all.precision"]["value"] == pytest.approx(0.5)
    page = (tmp_path / "more" / "index.html").read_text()
    assert "<h2>Slices with reference and prediction</h2>" in page
    assert "one, slice 3: 16 of 16 dense voxels are called differently" in page
    assert page.count("on annotated slices") >= 6
    assert "Slices with reference" not in (tmp_path / "plain" / "index.html").read_text()
