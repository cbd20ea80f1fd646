"""Which areas of a slice guide its crops: coronary calcium, other bright spots, or what another slice shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from needed import torch  # noqa: F401

from heartlens.core.ct import CTVolume
from training.datasets.scans import UNREVIEWED, LabeledScan
from training.datasets.segmentation_dataset import SampleRecipe
from training.datasets.shard_writer import agatston_of, write_shards
from training.datasets.slice_dataset import SliceSet, lesion_boxes_px
from training.dino.augment import AugmentConfig
from training.dino.view_batches import ViewBatches

GUIDED = AugmentConfig(global_size=16, local_size=16, random_local_crops=1, guided_local_crops=2)


def scan(number: int, pixels: int, pixel_mm: float) -> LabeledScan:
    """Six slices: the LAD on slice 1, the RCA and a trap on 2, a trap on 4, nothing on the others."""
    hu = np.random.default_rng(number).integers(-200, 100, (6, pixels, pixels)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    labels[1, 4:6, 8:12] = 2
    labels[2, 10:13, 10:13] = 4
    labels[2, 1:2, 1:3] = 5
    labels[4, 14:18, 2:4] = 5
    hu[labels > 0] = 500
    ct = CTVolume(hu, np.diag([pixel_mm, pixel_mm, 3.0, 1.0]))
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", ct, labels)


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> SliceSet:
    """Two people of 20 x 20 pixels of 4 mm, and one of 40 x 40 pixels of 2 mm."""
    people = (scan(n, *((40, 2.0) if n == 2 else (20, 4.0))) for n in range(3))
    return SliceSet(write_shards(tmp_path_factory.mktemp("slices") / "shards", people), range(3))


def test_boxes_of_traps_are_those_of_no_coronary_artery():
    labels = np.zeros((6, 6), np.uint8)
    labels[1:3, 2:5], labels[5, 5] = 2, 5
    assert lesion_boxes_px(labels).tolist() == [[1, 2, 3, 5]]
    assert lesion_boxes_px(labels, is_coronary=False).tolist() == [[5, 5, 6, 6]]


def test_coronary_and_trap_guides_lie_where_the_labels_are(slices):
    assert slices.guides_mm(1, "coronary", 0).tolist() == [[16, 32, 24, 48]]
    assert slices.guides_mm(2, "coronary", 0).tolist() == [[40, 40, 52, 52]]
    assert slices.guides_mm(2, "traps", 0).tolist() == [[4, 4, 8, 12]]
    assert slices.guides_mm(4, "coronary", 0).shape == slices.guides_mm(1, "traps", 0).shape == (0, 4)
    assert slices.guides_mm(4, "traps", 0).tolist() == [[56, 8, 72, 16]]


def test_shuffled_guides_are_as_many_and_as_large_but_on_other_slices(slices):
    own = [slices.guides_mm(n, "coronary", 0) for n in range(len(slices))]
    shuffled = [slices.guides_mm(n, "shuffled", 0) for n in range(len(slices))]
    assert [len(g) for g in shuffled] != [len(g) for g in own]

    def sizes(guides):
        return sorted((box[2:] - box[:2]).round(6).tolist() for boxes in guides for box in boxes)

    assert sizes(shuffled) == sizes(own)
    again = [slices.guides_mm(n, "shuffled", 1) for n in range(len(slices))]
    assert [g.tolist() for g in again] != [g.tolist() for g in shuffled]


def test_a_shuffled_guide_keeps_its_share_of_height_and_width(slices):
    for n in range(len(slices)):
        for top, left, bottom, right in slices.guides_mm(n, "shuffled", 3):
            center = np.array([top + bottom, left + right]) / 2 / slices.extent_mm(n)
            assert center.tolist() in ([0.25, 0.5], [0.575, 0.575], [0.125, 0.25], [0.2875, 0.2875])


def test_arms_differ_in_the_guided_views_alone(slices):
    batches = {
        by: ViewBatches(slices, replace(GUIDED, guided_by=by), batch=len(slices), seed=5)[0]
        for by in ("coronary", "traps", "shuffled")
    }
    local = {by: batch.local_views for by, batch in batches.items()}
    guided = {by: views.guided.any(axis=1).sum() for by, views in local.items()}
    assert guided == {"coronary": 6, "traps": 6, "shuffled": 6}  # two slices in each of three people
    for by, views in local.items():
        plain = ~views.guided & ~local["coronary"].guided
        assert (views.center_mm[plain] == local["coronary"].center_mm[plain]).all()
        assert (batches[by].global_views.center_mm == batches["coronary"].global_views.center_mm).all()


def test_an_unknown_guide_is_refused():
    with pytest.raises(ValueError, match="guided_by must be one of coronary, traps, shuffled"):
        AugmentConfig(guided_by="aorta")


def test_what_nobody_reviewed_is_neither_calcium_nor_none():
    """Code 7 guides no crop, brings no score, and no pixel of it counts in a loss."""
    labels = np.zeros((6, 6), np.uint8)
    labels[1, 1:3], labels[4, 1:5] = 2, UNREVIEWED
    assert lesion_boxes_px(labels).tolist() == [[1, 1, 2, 3]]
    hu = np.full((1, 6, 6), 300, np.int16)
    ct = CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]))
    assert agatston_of(ct, labels[None])["total"] == agatston_of(ct, np.where(labels == 2, 2, 0)[None])["total"] > 0
    assert SampleRecipe().class_of_code()[UNREVIEWED] == -1
