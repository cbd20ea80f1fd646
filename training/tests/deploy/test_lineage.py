"""A bundle says of what it was made, so that a figure can be traced and a scan outside of it be told."""

from __future__ import annotations

import numpy as np

from heartlens.core.ct import CTHeader, CTVolume
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits
from training.deploy.lineage import limits_of, lineage_of, trained_on_text

SPLITS = Splits(("a", "b"), ("c",), ("d",))


def scan(patient, *, row_mm=0.5, step_mm=3.0, kvp=120.0, artery=2, seed=0):
    hu = np.full((2, 20, 30), -80, np.int16)
    hu[1, 4:8, 4:8] = 300 + ord(patient[0]) + seed
    ct = CTVolume(hu, np.diag([0.5, row_mm, step_mm, 1.0]), CTHeader(kvp=kvp, slice_thickness_mm=step_mm))
    labels = np.where(hu > 130, artery, 0).astype(np.uint8)
    return LabeledScan(f"case/{patient}{seed}", patient, "case", ct, labels)


def test_what_a_bundle_was_made_for_is_what_its_training_scans_span(tmp_path):
    shards = write_shards(
        tmp_path / "s", [scan("a", row_mm=0.4), scan("b", kvp=None, step_mm=2.5), scan("c", kvp=80.0), scan("d")]
    )
    assert limits_of(shards, [0, 1]) == {
        "pixel_mm": (0.4, 0.5), "increment_mm": (2.5, 3.0), "kvp": (120.0, 120.0), "field_of_view_mm": (8.0, 15.0),
    }  # fmt: skip
    assert trained_on_text(shards, [0, 1]) == "2 patients of case"


def test_other_labels_or_another_split_are_other_data(tmp_path):
    one, same, relabeled = (
        write_shards(tmp_path / name, [scan("a", artery=artery), *(scan(p) for p in "bcd")])
        for name, artery in (("one", 2), ("same", 2), ("relabeled", 4))
    )
    first, again, other = (lineage_of(shards, SPLITS) for shards in (one, same, relabeled))
    assert first == again
    assert first["data"]["train"]["sha256"] != other["data"]["train"]["sha256"]
    assert first["data"]["test"] == other["data"]["test"]
    assert first["splits_sha256"] != lineage_of(one, Splits(("a", "c"), ("b",), ("d",)))["splits_sha256"]
    assert first["commit"]
