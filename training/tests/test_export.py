"""From a run to a bundle: the same scores from both files, and refusals where a bundle is not what was exported."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from needed import need, torch

from heartlens.anatomy import heart_region
from heartlens.ct import CTVolume
from heartlens.inference import decide, segment_vessels
from heartlens.lesions import Artery
from heartlens.models.bundle import OnnxNetwork, TorchNetwork, load_bundle
from heartlens.models.preprocess import View
from heartlens.protocol import ScoringProtocol
from heartlens.refusal import Refused
from training.config import as_dict, load_recipe
from training.export import Trained, export_bundle, read_trained
from training.networks import build_network
from training.train_unet import BEST, WEIGHTS_SCHEMA, SegmentationRecipe

CLASSES = ("none", "LM", "LAD", "LCX", "RCA", "OTHER")


def spots_ct() -> CTVolume:
    hu = np.full((3, 40, 40), 40, np.int16)
    hu[1, 10:14, 5:9] = hu[2, 10:12, 5:7] = 300
    hu[1, 10:14, 30:34] = 500
    return CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with random weights: parity does not ask whether they are good."""
    need("onnxscript")
    folder = tmp_path_factory.mktemp("run")
    recipe = load_recipe(
        SegmentationRecipe, None, ["view.size_px=32", "view.spacing_mm=1.0", "network.base=4", "network.depth=2",
                                   "network.groups=2"],
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(recipe.network, recipe.view.channels, recipe.samples.outputs)
    content = {"schema": WEIGHTS_SCHEMA, "step": 7, "network": network.state_dict(), "recipe": as_dict(recipe)}
    torch.save({**content, "judgement": {"validation_dice": 0.5}}, folder / BEST)
    return folder


@pytest.fixture(scope="module")
def bundle_folder(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    export_bundle(read_trained(run), out, {"name": "tiny", "licence": "Apache-2.0"}, [spots_ct()])
    return out


def test_an_exported_bundle_says_what_it_is(bundle_folder):
    bundle = load_bundle(bundle_folder)
    assert bundle.texts["name"] == "tiny"
    assert bundle.classes == CLASSES
    assert bundle.view == View(32, 1.0)
    assert bundle.cut_offs == {"coronary": 0.5}
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert manifest["metrics"]["validation_dice"] == 0.5
    assert manifest["parity"]["logits"] < 1e-3
    assert manifest["parity"]["scans"] == 1
    assert {path.name for path in bundle_folder.iterdir()} == {"manifest.json", "vessel.onnx", "vessel.safetensors"}


@pytest.mark.parametrize("slices", [1, 5])
def test_both_doors_give_the_same_logits_for_any_number_of_slices(bundle_folder, slices):
    bundle = load_bundle(bundle_folder)
    image = np.random.default_rng(1).random((slices, 4, 32, 32), np.float32)
    one, other = TorchNetwork(bundle)(image), OnnxNetwork(bundle, threads=1)(image)
    assert one.shape == other.shape == (slices, 6, 32, 32)
    assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("name", ["vessel.onnx", "vessel.safetensors"])
def test_a_changed_cut_or_missing_file_is_refused(bundle_folder, tmp_path, name):
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    content = (broken / name).read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), None):
        (broken / name).unlink(missing_ok=True)
        if damaged is not None:
            (broken / name).write_bytes(damaged)
        with pytest.raises(Refused, match=name) as refusal:
            load_bundle(broken)
        assert refusal.value.code == "checksum"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"schema": "heartlens.bundle/9"}, "unreadable", "schema"),
        ({"classes": ["none", "AORTA"]}, "unreadable", "AORTA"),
        ({"cut_offs": {"coronary": 7}}, "unreadable", "cut-off 7"),
        ({"cut_offs": {}}, "unreadable", "coronary"),
        ({"input": {"size_px": 32}}, "unreadable", "window_hu"),
        ({"files": [{"path": "../x", "role": "r", "format": "onnx", "architecture": {}, "sha256": "", "bytes": 0}]},
         "unreadable", "outside the bundle"),
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(bundle_folder, tmp_path, change, code, words):
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(Refused, match=words) as refusal:
        load_bundle(broken)
    assert refusal.value.code == code


def test_no_bundle_is_refused(tmp_path):
    with pytest.raises(Refused, match="is no bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(("key", "value", "words"), [("name", "wonder-net", "wonder-net"), ("base", 8, "do not fit")])
def test_an_unknown_architecture_is_refused_by_torch(bundle_folder, tmp_path, key, value, words):
    odd = tmp_path / "odd"
    shutil.copytree(bundle_folder, odd)
    manifest = json.loads((odd / "manifest.json").read_text())
    for file in manifest["files"]:
        file["architecture"][key] = value
    (odd / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Refused, match=words):
        TorchNetwork(load_bundle(odd))
    assert OnnxNetwork(load_bundle(odd))(np.zeros((1, 4, 32, 32), np.float32)).shape == (1, 6, 32, 32)


def test_files_that_differ_are_not_exported(run, tmp_path, monkeypatch):
    """ONNX of other weights: refused by the logits, and no folder is left."""
    other = Trained(build_network(read_trained(run).recipe.network, 4, 6).eval(), read_trained(run).recipe, 0, {})
    import training.export

    plain = training.export.write_onnx
    monkeypatch.setattr(training.export, "write_onnx", lambda trained, path: plain(other, path))
    with pytest.raises(Refused, match="torch and ONNX differ by"):
        export_bundle(read_trained(run), tmp_path / "out", {"name": "x"}, [spots_ct()])
    assert not list(tmp_path.iterdir())


def test_export_asks_for_a_scan_and_known_texts(run, tmp_path):
    with pytest.raises(Refused, match="no scan to compare"):
        export_bundle(read_trained(run), tmp_path / "out", {"name": "x"}, [])
    with pytest.raises(Refused, match="unknown text licens"):
        export_bundle(read_trained(run), tmp_path / "out", {"licens": "x"}, [spots_ct()])
    with pytest.raises(Refused, match=r"expected best.pt, found none"):
        read_trained(tmp_path)


def test_islands_vote_and_are_named_whole():
    """A network that says LAD in the left half and RCA in the right; one island crosses three slices."""

    def halves(image):
        logits = np.zeros((len(image), 6, 40, 40), np.float32)
        logits[:, 2, :, :20] = logits[:, 4, :, 20:] = 5
        return logits

    ct, view = spots_ct(), View(40, 1.0)
    lesions = segment_vessels(ct, heart_region(ct), halves, view, CLASSES, ScoringProtocol())
    assert sorted(lesions.arteries.values()) == [Artery.LAD, Artery.RCA]
    found = lesions.artery_map()
    assert (found[ct.hu >= 130] > 0).all()
    assert not found[ct.hu < 130].any()
    note = next(iter(lesions.notes.values()))
    assert note.probability == pytest.approx(1 - 2 / (5 + np.exp(5)), abs=1e-4)  # all but none and OTHER
    assert "LAD" in note.why


def test_a_majority_names_the_island():
    """16 voxels on slice 1 and 4 on slice 2; the network calls slice 1 LCX and slice 2 RCA."""

    def by_slice(image):
        logits = np.zeros((len(image), 6, 40, 40), np.float32)
        crowded = (image[:, 3] > 0.5).sum(axis=(1, 2)) > 10
        logits[crowded, 3] = logits[~crowded, 4] = 9
        return logits

    ct = spots_ct()
    lesions = segment_vessels(ct, heart_region(ct), by_slice, View(40, 1.0), CLASSES, ScoringProtocol())
    assert set(lesions.arteries.values()) == {Artery.LCX}
    only = np.array([False, False, True])
    upper = segment_vessels(ct, heart_region(ct), by_slice, View(40, 1.0), CLASSES, ScoringProtocol(), slices=only)
    assert set(upper.arteries.values()) == {Artery.RCA}


def test_the_cut_off_decides_and_the_likeliest_artery_names():
    vote = np.array([[0.3, 0.2, 0.25, 0.05, 0.1, 0.1], [0.6, 0.1, 0.1, 0, 0.1, 0.1], [0.2, 0, 0.1, 0, 0, 0.7]])
    artery, p = decide(vote, CLASSES, 0.5)
    assert p == pytest.approx([0.6, 0.3, 0.1])
    assert artery.tolist() == [Artery.LAD, 0, Artery.OTHER]
    assert decide(vote, CLASSES, 0.3)[0].tolist() == [Artery.LAD, Artery.LM, Artery.OTHER]


def test_a_scan_without_dense_voxels_goes_through_no_network():
    ct = CTVolume(np.zeros((2, 8, 8), np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))
    assert not segment_vessels(ct, heart_region(ct), None, View(8, 1.0), CLASSES, ScoringProtocol()).arteries
