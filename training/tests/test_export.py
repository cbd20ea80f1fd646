"""From a run to a bundle: the same scores from both files, and refusals where a bundle is not what was exported."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from needed import need, torch
from schematic_chest import schematic_chest

import heartlens.networks.inference
from heartlens.anatomy import heart_region
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.volumes import write_volume
from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.bundle import SLICES, VESSEL, Calibration, Domain, SliceStage, VesselStage, load_bundle
from heartlens.networks.canary import TOLERANCE, check_canary
from heartlens.networks.inference import classify_slices, slices_with_candidates
from heartlens.networks.islands import name_islands_by_votes, segment_vessels
from heartlens.networks.runtime import OnnxNetwork, TorchNetwork
from heartlens.networks.slice_classifier import SliceClassifier
from heartlens.networks.view import NetworkView, classifier_view
from heartlens.pipeline import Request, score_series
from training import export
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits
from training.deploy.bundle_writer import (
    BundleMetadata,
    Trained,
    TrainedSlices,
    export_bundle,
    read_trained,
    read_trained_slices,
)
from training.engine.config import as_dict, load_recipe
from training.segmentation.networks import build_network
from training.segmentation.recipe import BEST, WEIGHTS_SCHEMA, SegmentationRecipe
from training.slice_classifier.weights import SCHEMA as SLICES_SCHEMA
from training.slice_classifier.weights import WEIGHTS as SLICE_WEIGHTS

pytestmark = pytest.mark.slow

CLASSES = ("none", "LM", "LAD", "LCX", "RCA", "OTHER")
STAGE = VesselStage(NetworkView(40, 1.0), CLASSES, 0.5)


def chest_ct() -> CTVolume:
    """A chest with a heart; calcium in it, so that there are slices to ask about."""
    return schematic_chest(add=((40, -20, -30, 6, 500), (-10, 0, -60, 6, 400)))


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
    islands = {"cut_off": 0.3, "slope": 0.8, "intercept": 0.1}
    torch.save({**content, "judgement": {"validation_dice": 0.5}, "islands": islands}, folder / BEST)
    return folder


@pytest.fixture(scope="module")
def slices_run(tmp_path_factory):
    """A run of the slice classifier: weights for views of 32 pixels, asked at 48, so that export must resample."""
    folder = tmp_path_factory.mktemp("slices")
    torch.manual_seed(1)
    classifier = SliceClassifier(Backbone(BackboneShape(24, 2, 2, 8, 32)))
    torch.nn.init.normal_(classifier.head.weight, std=1.0)  # so that probabilities differ
    content = {"schema": SLICES_SCHEMA, "backbone": classifier.backbone.shape.to_json(), "cut_off": 0.25}
    view = classifier_view(40, 48, center="heart")
    torch.save({**content, "state": classifier.state_dict(), "view": view.to_json()}, folder / SLICE_WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def bundle_folder(run, slices_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    metadata = BundleMetadata(
        {"name": "tiny", "licence": "Apache-2.0"}, Domain(kvp=(100, 130)), 0.4, Calibration(1.5, -0.25)
    )
    export_bundle(read_trained(run), out, metadata, [spots_ct(), chest_ct()], read_trained_slices(slices_run))
    return out


def test_an_exported_bundle_says_what_it_is(bundle_folder):
    bundle = load_bundle(bundle_folder)
    assert bundle.texts["name"] == "tiny"
    assert bundle.vessel.classes == CLASSES
    assert bundle.vessel.view == NetworkView(32, 1.0)
    assert (bundle.vessel.cut_off, bundle.vessel.calibration) == (0.4, Calibration(1.5, -0.25))
    assert bundle.slices == SliceStage(classifier_view(40, 48, center="heart"), 0.25)
    assert bundle.domain == Domain(kvp=(100, 130))
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    assert manifest["metrics"]["vessel"]["validation_dice"] == 0.5
    assert manifest["parity"]["logits"] < 1e-3
    assert manifest["parity"]["slice_probability"] < 1e-3
    assert manifest["parity"]["scans"] == 2
    assert set(manifest["canary"]) == {"scan", "slices", "votes"}
    assert {path.name for path in bundle_folder.iterdir()} == {
        "manifest.json", "vessel.onnx", "vessel.safetensors", "slices.onnx", "slices.safetensors",
    }  # fmt: skip


def test_an_exported_bundle_carries_what_its_networks_answer_to_the_canary_through_both_doors(bundle_folder):
    bundle = load_bundle(bundle_folder)
    onnx = {role: OnnxNetwork(bundle, role, threads=1) for role in (VESSEL, SLICES)}
    assert check_canary(bundle, onnx[VESSEL], onnx[SLICES]) <= 1e-6
    assert check_canary(bundle, TorchNetwork(bundle, VESSEL), TorchNetwork(bundle, SLICES)) < TOLERANCE
    with pytest.raises(InputRefused, match="otherwise than at the export"):
        check_canary(bundle, lambda image: onnx[VESSEL](image)[:, ::-1], onnx[SLICES])


@pytest.mark.parametrize("scan", [spots_ct, chest_ct], ids=["never asked", "asked"])
def test_a_slice_classifier_that_answers_nan_is_not_exported(run, slices_run, tmp_path, monkeypatch, scan):
    """A comparison that leaves out what is nan on either side would find nothing to compare."""
    import training.deploy.parity

    class Dumb(OnnxNetwork):
        def __call__(self, image):
            answer = super().__call__(image)
            return answer * np.float32("nan") if answer.ndim == 1 else answer

    monkeypatch.setattr(training.deploy.parity, "OnnxNetwork", Dumb)
    with pytest.raises(InputRefused, match=r"no number|differ by nan"):
        export_bundle(
            read_trained(run),
            tmp_path / "out",
            BundleMetadata({"name": "x"}),
            [scan()],
            read_trained_slices(slices_run),
        )
    assert not list(tmp_path.iterdir())


def test_a_bundle_may_have_no_slice_stage(run, tmp_path):
    bundle = export_bundle(read_trained(run), tmp_path / "out", BundleMetadata({"name": "x"}), [spots_ct()])
    assert (bundle.vessel.cut_off, bundle.vessel.calibration) == (0.3, Calibration(0.8, 0.1))  # as the run froze them
    assert bundle.slices is None
    assert {file.role for file in bundle.files} == {"vessel-unet"}


@pytest.mark.parametrize("slices", [1, 5])
def test_both_doors_give_the_same_logits_for_any_number_of_slices(bundle_folder, slices):
    bundle = load_bundle(bundle_folder)
    image = np.random.default_rng(1).random((slices, 4, 32, 32), np.float32)
    one, other = TorchNetwork(bundle)(image), OnnxNetwork(bundle, threads=1)(image)
    assert one.shape == other.shape == (slices, 6, 32, 32)
    assert one == pytest.approx(other, abs=1e-4)


def test_half_the_bits_are_half_the_size_and_both_doors_still_agree(run, slices_run, bundle_folder, tmp_path):
    metadata = BundleMetadata({"name": "half"}, half=True)
    half = export_bundle(read_trained(run), tmp_path / "half", metadata, [chest_ct()], read_trained_slices(slices_run))
    image = np.random.default_rng(3).random((2, 4, 32, 32), np.float32)
    one, other = TorchNetwork(half)(image), OnnxNetwork(half, threads=1)(image)
    assert one == pytest.approx(other, abs=1e-4)
    whole = TorchNetwork(load_bundle(bundle_folder))(image)
    assert 0 < np.abs(one - whole).max() < 0.05
    bytes_of = {name: load_bundle(folder).file("slice-classifier", "safetensors").bytes
                for name, folder in (("half", half.folder), ("whole", bundle_folder))}  # fmt: skip
    assert bytes_of["half"] < 0.62 * bytes_of["whole"]
    rounding = json.loads((half.folder / "manifest.json").read_text())["parity"]["rounding"]
    assert 0 < rounding["slice_probability"] < 0.02


@pytest.mark.parametrize("slices", [1, 5])
def test_both_doors_give_the_same_slice_probabilities(bundle_folder, slices_run, slices):
    """The bundle's position embedding was resampled once; the run's network resamples it in each call."""
    bundle = load_bundle(bundle_folder)
    image = 2 * np.random.default_rng(2).random((slices, 1, 48, 48), np.float32) - 1
    one, other = TorchNetwork(bundle, SLICES)(image), OnnxNetwork(bundle, SLICES, threads=1)(image)
    with torch.inference_mode():
        trained = read_trained_slices(slices_run).network(torch.from_numpy(image)).numpy()
    assert one.shape == other.shape == (slices,)
    assert one == pytest.approx(other, abs=1e-5)
    assert one == pytest.approx(trained, abs=1e-5)
    assert ((one > 0.01) & (one < 0.99)).any()


@pytest.mark.parametrize("name", ["vessel.onnx", "vessel.safetensors", "slices.onnx", "slices.safetensors"])
def test_a_changed_cut_or_missing_file_is_refused(bundle_folder, tmp_path, name):
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    content = (broken / name).read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), None):
        (broken / name).unlink(missing_ok=True)
        if damaged is not None:
            (broken / name).write_bytes(damaged)
        with pytest.raises(InputRefused, match=name) as refusal:
            load_bundle(broken)
        assert refusal.value.code == "checksum"


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"schema": "heartlens.bundle/9"}, "unreadable", "schema"),
        ({"vessel": {"classes": ["none", "AORTA"]}}, "unreadable", "AORTA"),
        ({"vessel": {"cut_off": 7}}, "unreadable", "cut-off 7"),
        ({"vessel": {"cut_off": None}}, "unreadable", "cut-off must be numbers"),
        ({"vessel": {"input": {"size_px": 32}}}, "unreadable", "window_hu"),
        ({"vessel": {"calibration": {"slope": -1.0, "intercept": 0.0}}}, "unreadable", "positive slope"),
        ({"slices": {"cut_off": -0.5}}, "unreadable", "cut-off -0.5"),
        ({"slices": {"input": {"window_hu": [0, 1], "center": "liver"}}}, "unreadable", "liver"),
        ({"domain": {"kvp": [120, 80]}}, "unreadable", "domain kvp"),
        ({"domain": {"kvp": 120}}, "unreadable", "manifest"),
        ({"files": [{"path": "../x", "role": "r", "format": "onnx", "architecture": {}, "sha256": "", "bytes": 0}]},
         "unreadable", "outside the bundle"),
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(bundle_folder, tmp_path, change, code, words):
    broken = tmp_path / "broken"
    shutil.copytree(bundle_folder, broken)
    manifest = json.loads((broken / "manifest.json").read_text())
    for key, value in change.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    (broken / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputRefused, match=words) as refusal:
        load_bundle(broken)
    assert refusal.value.code == code


def test_no_bundle_is_refused(tmp_path):
    with pytest.raises(InputRefused, match="is no bundle"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(("key", "value", "words"), [("name", "wonder-net", "wonder-net"), ("base", 8, "do not fit")])
def test_an_unknown_architecture_is_refused_by_torch(bundle_folder, tmp_path, key, value, words):
    odd = tmp_path / "odd"
    shutil.copytree(bundle_folder, odd)
    manifest = json.loads((odd / "manifest.json").read_text())
    for file in manifest["files"][:2]:
        file["architecture"][key] = value
    (odd / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputRefused, match=words):
        TorchNetwork(load_bundle(odd))
    assert OnnxNetwork(load_bundle(odd))(np.zeros((1, 4, 32, 32), np.float32)).shape == (1, 6, 32, 32)


def test_files_that_differ_are_not_exported(run, tmp_path, monkeypatch):
    """ONNX of other weights: refused by the logits, and no folder is left."""
    other = Trained(build_network(read_trained(run).recipe.network, 4, 6).eval(), read_trained(run).recipe, 0, {})
    import training.deploy.bundle_writer

    plain = training.deploy.bundle_writer.write_onnx
    monkeypatch.setattr(training.deploy.bundle_writer, "write_onnx", lambda network, *rest: plain(other.network, *rest))
    with pytest.raises(InputRefused, match="torch and ONNX differ by"):
        export_bundle(read_trained(run), tmp_path / "out", BundleMetadata({"name": "x"}), [spots_ct()])
    assert not list(tmp_path.iterdir())


def test_a_slice_classifier_that_differs_is_not_exported(run, slices_run, tmp_path, monkeypatch):
    import training.deploy.bundle_writer

    plain, trained = training.deploy.bundle_writer.write_onnx, read_trained_slices(slices_run)
    other = SliceClassifier(Backbone(BackboneShape(24, 2, 2, 8, 48))).eval()
    torch.nn.init.constant_(other.head.bias, 2.0)

    def write(network, *rest):
        plain(other if isinstance(network, SliceClassifier) else network, *rest)

    monkeypatch.setattr(training.deploy.bundle_writer, "write_onnx", write)
    with pytest.raises(InputRefused, match="in the probability of a slice"):
        export_bundle(read_trained(run), tmp_path / "out", BundleMetadata({"name": "x"}), [spots_ct()], trained)
    assert not list(tmp_path.iterdir())


def test_a_slice_on_the_cut_off_is_not_exported(run, slices_run, tmp_path, monkeypatch):
    """Another rounding would move it across; here a small shift of ONNX's answer plays the rounding."""
    import training.deploy.parity

    class Shifted(OnnxNetwork):
        def __call__(self, image):
            logits = super().__call__(image)
            return logits + np.float32(1e-5) if logits.ndim == 1 else logits

    trained = read_trained_slices(slices_run)
    ct = chest_ct()
    candidate_slices = slices_with_candidates(ct, heart_region(ct), ScoringProtocol())
    view = trained.stage.view
    with torch.inference_mode():
        p = classify_slices(
            ct, heart_region(ct), lambda x: trained.network(torch.from_numpy(x)).numpy(), view, candidate_slices
        )[candidate_slices]
    on_edge = TrainedSlices(trained.network, SliceStage(view, float(p[0]) + 5e-6))
    monkeypatch.setattr(training.deploy.parity, "OnnxNetwork", Shifted)
    with pytest.raises(InputRefused, match="slices on different sides of the cut-off"):
        export_bundle(read_trained(run), tmp_path / "out", BundleMetadata({"name": "x"}), [ct], on_edge)


def test_export_asks_for_a_scan_and_known_texts(run, tmp_path):
    with pytest.raises(InputRefused, match="no scan to compare"):
        export_bundle(read_trained(run), tmp_path / "out", BundleMetadata({"name": "x"}), [])
    with pytest.raises(InputRefused, match="unknown text licens"):
        export_bundle(read_trained(run), tmp_path / "out", BundleMetadata({"licens": "x"}), [spots_ct()])
    with pytest.raises(InputRefused, match=r"expected best.pt, found none"):
        read_trained(tmp_path)
    with pytest.raises(InputRefused, match="expected a slice classifier"):
        read_trained_slices(tmp_path)


def test_a_ct_scores_the_same_through_torch_and_onnx(bundle_folder, tmp_path, monkeypatch):
    """On a GPU where there is one; elsewhere torch on the CPU plays its part behind the same interface."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    used = []

    def network(bundle, role, *, device=device):
        used.append(role)
        return TorchNetwork(bundle, role, device="cuda" if torch.cuda.is_available() else "cpu")

    monkeypatch.setattr(heartlens.networks.inference, "sees_cuda", lambda: True)
    monkeypatch.setattr(heartlens.networks.inference, "TorchNetwork", network)
    write_volume(tmp_path / "ct.nrrd", chest_ct())
    one, other = (
        score_series(tmp_path / "ct.nrrd", Request(bundle=str(bundle_folder), device=d)).case for d in ("cuda", "cpu")
    )
    assert set(used) == {"vessel-unet", "slice-classifier"}
    assert (one.provenance.device, other.provenance.device) == ("cuda", "cpu")
    assert one.report.total == other.report.total
    assert np.array_equal(one.lesions.artery_map(), other.lesions.artery_map())
    assert one.slice_probability == pytest.approx(other.slice_probability, abs=1e-4, nan_ok=True)
    assert [a.undecided for a in one.report.lesions] == [b.undecided for b in other.report.lesions]


def test_the_command_writes_a_bundle_from_runs_and_shards(run, slices_run, tmp_path):
    """Three patients; the one for validation is a chest with a heart."""
    scans = {
        "a": spots_ct(),
        "b": chest_ct(),
        "c": CTVolume(np.zeros((3, 8, 8), np.int16), np.diag([1.0, 1.0, 3.0, 1.0])),
    }
    write_shards(
        tmp_path / "shards",
        [LabeledScan(f"phantom/{n}", n, "phantom", ct, np.zeros(ct.shape, np.uint8)) for n, ct in scans.items()],
    )
    Splits(("a",), ("b",), ("c",)).save(tmp_path / "splits.json")
    words = f"{run} --slices {slices_run} --out {tmp_path / 'out'} --name worded --shards {tmp_path / 'shards'}"
    words += f" --splits {tmp_path / 'splits.json'} --domain kvp=80,140 --calibration 1.25 -0.5 --half"
    assert export.main([*words.split(), "--text", "trained_on=a chest"]) == 0
    bundle = load_bundle(tmp_path / "out")
    spots = Domain((1.0, 1.0), (3.0, 3.0), (80, 140), (40.0, 40.0))  # what was not said is what "a" spans
    assert bundle.domain == spots
    assert (bundle.vessel.cut_off, bundle.vessel.calibration) == (0.3, Calibration(1.25, -0.5))
    assert bundle.texts["trained_on"] == "a chest"
    lineage = json.loads((bundle.folder / "manifest.json").read_text())["lineage"]
    assert lineage["data"]["train"]["scans"] == lineage["data"]["train"]["patients"] == 1
    assert lineage["vessel"]["recipe"]["network"]["base"] == 4
    assert len(lineage["splits_sha256"]) == 64
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["parity"]["scans"] == 1


@pytest.mark.parametrize("words", ["--domain kv=80,140", "--domain kvp=80", "--text license", "--calibration -1 0"])
def test_the_command_refuses_words_that_it_cannot_mean(run, tmp_path, capsys, words):
    Splits(("a",), ("b",), ("c",)).save(tmp_path / "splits.json")
    write_shards(
        tmp_path / "shards", [LabeledScan("phantom/b", "b", "phantom", spots_ct(), np.zeros((3, 40, 40), np.uint8))]
    )
    plain = (
        f"{run} --out {tmp_path / 'out'} --name x --shards {tmp_path / 'shards'} --splits {tmp_path / 'splits.json'}"
    )
    assert export.main(f"{plain} {words}".split()) == 3
    assert "error: input:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_islands_vote_and_are_named_whole():
    """A network that says LAD in the left half and RCA in the right; one island crosses three slices."""

    def halves(image):
        logits = np.zeros((len(image), 6, 40, 40), np.float32)
        logits[:, 2, :, :20] = logits[:, 4, :, 20:] = 5
        return logits

    ct = spots_ct()
    lesions = segment_vessels(ct, heart_region(ct), halves, STAGE, ScoringProtocol())
    assert sorted(lesions.arteries.values()) == [Artery.LAD, Artery.RCA]
    artery_map = lesions.artery_map()
    assert (artery_map[ct.hu >= 130] > 0).all()
    assert not artery_map[ct.hu < 130].any()
    assert set(lesions.notes) == {1, 2}
    note = lesions.notes[1]
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
    lesions = segment_vessels(ct, heart_region(ct), by_slice, STAGE, ScoringProtocol())
    assert set(lesions.arteries.values()) == {Artery.LCX}
    only = np.array([False, False, True])
    upper = segment_vessels(ct, heart_region(ct), by_slice, STAGE, ScoringProtocol(), chosen_slices=only)
    assert set(upper.arteries.values()) == {Artery.RCA}


def test_the_cut_off_decides_and_the_likeliest_artery_names():
    vote = np.array([[0.3, 0.2, 0.25, 0.05, 0.1, 0.1], [0.6, 0.1, 0.1, 0, 0.1, 0.1], [0.2, 0, 0.1, 0, 0, 0.7]])
    p = np.array([0.6, 0.3, 0.1])
    assert name_islands_by_votes(vote, CLASSES, p >= 0.5).tolist() == [Artery.LAD, 0, Artery.OTHER]
    assert name_islands_by_votes(vote, CLASSES, p >= 0.3).tolist() == [Artery.LAD, Artery.LM, Artery.OTHER]


def test_a_scan_without_dense_voxels_goes_through_no_network():
    ct = CTVolume(np.zeros((2, 8, 8), np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))
    assert not segment_vessels(ct, heart_region(ct), None, STAGE, ScoringProtocol()).arteries
