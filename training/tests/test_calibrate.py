"""Calibration of a finished bundle: the manifest changes, the weights do not, and nothing is fitted to too little."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from needed import need, torch
from schematic_chest import schematic_chest

from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import Calibration, Domain, load_bundle
from heartlens.networks.view import classifier_view
from training.calibrate import main
from training.datasets.scans import UNREVIEWED, LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits
from training.deploy.bundle_writer import BundleMetadata, export_bundle, read_trained, read_trained_slices
from training.deploy.calibration import calibrate, read_scans
from training.deploy.fusion import read_opinions
from training.engine.config import as_dict, load_recipe
from training.metrics.cutoff import cut_off_at_sensitivity
from training.segmentation.networks import build_network
from training.segmentation.recipe import BEST, WEIGHTS_SCHEMA, SegmentationRecipe
from training.slice_classifier.weights import SCHEMA as SLICES_SCHEMA
from training.slice_classifier.weights import WEIGHTS as SLICE_WEIGHTS

pytestmark = pytest.mark.slow


def chest(number: int) -> LabeledScan:
    """A chest with ten spots; by the labels, every second is coronary."""
    places = [(40 - 9 * n, -20 + 2 * number, -30 - 8 * (n % 5), 3.5, 450 + 10 * n) for n in range(10)]
    ct = schematic_chest(add=tuple(places))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in ct.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    bright = np.flatnonzero(ct.hu.reshape(-1) >= 130)
    at = ct.lps_mm(index[bright])
    labels = np.zeros(ct.hu.size, np.uint8)
    for n, (x, y, z, radius, _) in enumerate(places):
        labels[bright[np.linalg.norm(at - (x, y, z), axis=1) < radius + 1]] = 2 if n % 2 else 5
    return LabeledScan(f"chest/{number}", f"person-{number}", "phantom", ct, labels.reshape(ct.shape))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Shards of four chests, two of them for validation, and a bundle with random weights."""
    need("onnxscript")
    folder = tmp_path_factory.mktemp("calibrate")
    write_shards(folder / "shards", (chest(n) for n in range(4)))
    Splits(("person-0",), ("person-1", "person-2"), ("person-3",)).save(folder / "splits.json")
    (folder / "unet").mkdir()
    (folder / "slices").mkdir()
    recipe = load_recipe(
        SegmentationRecipe, None, ["view.size_px=32", "view.spacing_mm=4.0", "network.base=4", "network.depth=2",
                                   "network.groups=2"],
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    content = {"schema": WEIGHTS_SCHEMA, "step": 1, "network": network.state_dict(), "recipe": as_dict(recipe)}
    torch.save({**content, "judgement": {}, "islands": {"cut_off": 0.3, "slope": 1.0, "intercept": 0.0}},
               folder / "unet" / BEST)  # fmt: skip
    from heartlens.networks.backbone import Backbone, BackboneShape
    from heartlens.networks.slice_classifier import SliceClassifier

    classifier = SliceClassifier(Backbone(BackboneShape(24, 2, 2, 8, 32)))
    torch.nn.init.normal_(classifier.head.weight, std=1.0)  # so that probabilities differ
    checkpoint = {"schema": SLICES_SCHEMA, "backbone": classifier.backbone.shape.to_json(), "cut_off": 0.25}
    view = classifier_view(160, 32, center="heart")
    torch.save(
        {**checkpoint, "state": classifier.state_dict(), "view": view.to_json()}, folder / "slices" / SLICE_WEIGHTS
    )
    metadata = BundleMetadata({"name": "tiny"}, Domain(), 0.4, Calibration())
    export_bundle(
        read_trained(folder / "unet"),
        folder / "bundle",
        metadata,
        [chest(0).ct],
        read_trained_slices(folder / "slices"),
    )
    return folder


def arguments(data, *more: str) -> list[str]:
    return [str(data / "bundle"), "--shards", str(data / "shards"), "--splits", str(data / "splits.json"), *more]


def test_the_manifest_changes_and_the_weights_do_not(data, capsys):
    before = load_bundle(data / "bundle")
    manifest = (data / "bundle" / "manifest.json").read_text()
    assert main(arguments(data, "--cut-off", "f1", "--slice-sensitivity", "0.9", "--dry-run")) == 0
    assert (data / "bundle" / "manifest.json").read_text() == manifest
    changes = json.loads(capsys.readouterr().out)
    assert main(arguments(data, "--cut-off", "f1", "--slice-sensitivity", "0.9")) == 0
    after = load_bundle(data / "bundle")
    assert after.checksums() == before.checksums()
    assert after.vessel.cut_off == changes["vessel"]["cut_off"]
    assert after.vessel.calibration == Calibration(**changes["vessel"]["calibration"])
    assert after.slices is not None
    assert after.slices.cut_off == changes["slices"]["cut_off"]
    stage = changes["slice_stage"]
    assert 0.9 * stage["calcified"] <= stage["passed"] <= stage["calcified"] <= stage["slices"]
    assert (changes["islands"], after.metrics["calibrated_on"]["islands"]) == (changes["islands"], changes["islands"])
    assert 0 < changes["coronary"] < changes["islands"]


def test_a_given_cut_off_is_taken_and_what_is_not_asked_for_stays(data):
    bundle = load_bundle(data / "bundle")
    changes = calibrate(bundle, (1, 2), ShardSet.open(data / "shards"), cut_off=0.7)
    assert changes["vessel"]["cut_off"] == 0.7
    assert "slices" not in changes
    changes = calibrate(bundle, (1, 2), ShardSet.open(data / "shards"))
    assert changes["vessel"]["cut_off"] == bundle.vessel.cut_off


def test_islands_on_slices_that_the_slice_stage_drops_are_not_counted(data, monkeypatch):
    """Ten spots a chest, two at each of five heights, one of the two coronary: three heights pass, two do not."""

    def upper(ct, region, network, view, candidate_slices):
        z = ct.lps_mm(np.column_stack([np.arange(ct.shape[0]), np.zeros((ct.shape[0], 2))]))[:, 2]
        return np.where(candidate_slices, np.where(z > -51, 0.9, 0.1), np.nan)

    bundle, shards = load_bundle(data / "bundle"), ShardSet.open(data / "shards")
    assert bundle.slices is not None
    bundle = replace(bundle, slices=replace(bundle.slices, cut_off=0.5))
    monkeypatch.setattr("training.deploy.calibration.classify_slices", upper)
    some = calibrate(bundle, (1, 2), shards)
    assert (some["islands"], some["coronary"]) == (12, 6)
    all_pass = replace(bundle, slices=replace(bundle.slices, cut_off=0.05))
    everything = calibrate(all_pass, (1, 2), shards)
    assert (everything["islands"], everything["coronary"]) == (20, 10)


def test_what_nobody_reviewed_is_no_island_that_is_not_coronary(data, tmp_path):
    """Of ten spots a chest five are coronary, three were called something else, and of two nobody said anything."""
    shards = ShardSet.open(data / "shards")

    def unreviewed(name, *spots):
        def scan(n):
            labels, ct = np.array(shards.labels(n)), shards.ct(n)
            labels[np.isin(ct.hu, [450 + 10 * spot for spot in spots])] = UNREVIEWED
            return LabeledScan(f"chest/{n}", f"person-{n}", "phantom", ct, labels)

        return write_shards(tmp_path / name, (scan(n) for n in (1, 2)))

    some = unreviewed("some", 0, 2)
    bundle = load_bundle(data / "bundle")
    assert bundle.slices is not None
    all_pass = replace(bundle, slices=replace(bundle.slices, cut_off=0.0))
    before, after = calibrate(all_pass, (1, 2), shards), calibrate(all_pass, (0, 1), some)
    assert (before["islands"], before["coronary"]) == (20, 10)
    assert (after["islands"], after["coronary"]) == (16, 10)
    opinions = read_opinions(all_pass, [read_scans((0, 1), some)])
    assert (opinions.is_coronary.size, opinions.is_coronary.sum()) == (16, 10)
    at_one_height = unreviewed("height", 0, 5)  # an other one and a coronary one, on the same slices
    every, known = (
        calibrate(bundle, scans, one, slice_sensitivity=1.0)["slice_stage"]
        for scans, one in (((1, 2), shards), ((0, 1), at_one_height))
    )
    assert every["calcified"] == every["slices"]
    assert known["calcified"] == known["slices"] < every["slices"]


@pytest.mark.parametrize(("sensitivity", "cut_off"), [(1.0, 0.15), (0.75, 0.35), (0.5, 0.65), (0.25, 0.85)])
def test_the_slice_cut_off_lets_the_share_pass_and_lies_between_probabilities(sensitivity, cut_off):
    p = np.array([0.9, 0.8, 0.4, 0.2, 0.5, 0.3, 0.1])
    truth = np.array([True, True, True, True, False, False, False])
    chosen = cut_off_at_sensitivity(truth, p, sensitivity)
    assert chosen == pytest.approx(cut_off)
    assert (p[truth] >= chosen).mean() >= sensitivity


def test_slices_without_calcium_give_no_cut_off():
    with pytest.raises(InputRefused, match="no calcified slice"):
        cut_off_at_sensitivity(np.zeros(3, bool), np.array([0.1, 0.2, 0.3]), 0.9)
