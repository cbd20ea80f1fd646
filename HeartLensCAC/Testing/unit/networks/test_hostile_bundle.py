"""Bundles from anywhere: what a manifest may not say, what a file may not be, and what a network may not answer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_bundle
import pytest
from plain_bundle import FOLDER
from tiny_ct import make_ct

from heartlens.anatomy import heart_region
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.answers import Promise
from heartlens.networks.bundle import SLICES, VESSEL, VesselStage, find_bundle, load_bundle
from heartlens.networks.canary import (
    PLAQUES,
    SCAN,
    TOLERANCE,
    canary_answer,
    canary_scan,
    check_canary,
    scan_checksum,
)
from heartlens.networks.inference import classify_slices
from heartlens.networks.islands import segment_vessels
from heartlens.networks.runtime import OnnxNetwork
from heartlens.networks.view import NetworkView, classifier_view

NAN, INFINITE = float("nan"), float("inf")


@pytest.fixture
def copy(tmp_path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)
    return folder


def say(folder: Path, *changes) -> None:
    """Write a manifest in which each (place, value) is said instead."""
    manifest = json.loads(json.dumps(plain_bundle.manifest(folder)))  # its views are shared
    for place, value in changes:
        at = manifest
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refusal(folder: Path) -> InputRefused:
    with pytest.raises(InputRefused) as refused:
        load_bundle(folder)
    assert "\n" not in refused.value.text
    return refused.value


VESSEL_VIEW, SLICE_VIEW = ("vessel", "input"), ("slices", "input")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((*VESSEL_VIEW, "window_hu"), [-200.0, 1000.0, 2000.0], "two numbers each"),
        ((*SLICE_VIEW, "window_hu"), [-200.0], "two numbers each"),
        ((*VESSEL_VIEW, "window_hu"), [1000.0, -200.0], "must ascend"),
        ((*VESSEL_VIEW, "window_hu"), [NAN, 1000.0], "NaN, which is no number"),
        ((*SLICE_VIEW, "window_hu"), [0.0, INFINITE], "Infinity, which is no number"),
        ((*VESSEL_VIEW, "window_hu"), "12", "window_hu must be list"),
        ((*VESSEL_VIEW, "size_px"), 100_000, "at most 4096 pixels"),
        ((*SLICE_VIEW, "size"), 100_000, "at most 4096 pixels"),
        ((*SLICE_VIEW, "size"), 36.0, "size must be int"),
        ((*VESSEL_VIEW, "size_px"), True, "size_px must be int"),
        ((*VESSEL_VIEW, "neighbors"), 1_000_000, "64 neighbors"),
        ((*VESSEL_VIEW, "spacing_mm"), 1e300, "10000 mm"),
        ((*VESSEL_VIEW, "threshold_hu"), "130", "threshold_hu must be float"),
        ((*VESSEL_VIEW, "with_mask"), "yes", "with_mask must be bool"),
        (("vessel", "classes"), ["none"], "a coronary artery among them"),
        (("vessel", "classes"), ["none", "OTHER"], "a coronary artery among them"),
        (("vessel", "classes"), ["none", "LAD", "LAD"], "each once"),
        (("vessel", "classes"), "none", "must be a list"),
        (("vessel", "cut_off"), True, "cut-off must be numbers"),
        (("vessel", "calibration"), {"slope": "1", "intercept": 0.0}, "not supported between instances of 'str'"),
        (("domain", "kvp"), [80, 100, 140], "expected a low and a high number"),
        (("name",), {}, "name must be text"),
        (("canary",), [], "canary must be an object"),
        (("files", 0, "path"), 7, "path must be text"),
        (("files", 0, "path"), "..", "outside the bundle"),
        (("files", 0, "path"), "a\0b", "outside the bundle"),
        (("files", 0, "path"), "C:vessel.onnx", "outside the bundle"),
        (("files", 0, "role"), [], "role must be one of"),
        (("files", 0, "role"), "slice-classifier", "two files for one network"),
        (("files", 0, "format"), "pickle", "format must be one of onnx, safetensors"),
        (("files", 0, "architecture"), "unet", "architecture must be an object"),
        (("files", 0, "sha256"), 5, "sha256 must be 64 digits"),
        (("files", 0, "bytes"), "191", "bytes must be 1 to"),
        (("files", 0, "bytes"), 1 << 40, "bytes must be 1 to"),
        (("files",), [], "no file for vessel-unet"),
    ],
)
def test_a_manifest_that_no_network_can_have_is_refused_with_what_is_wrong(copy, place, value, words):
    say(copy, (place, value))
    refused = refusal(copy)
    assert refused.code == "unreadable"
    assert words in refused.text


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "[" * 100_000, '{"schema": "heartlens.bundle/1"}', "\udcff\udcfe{"], ids=range(6)
)
def test_a_manifest_that_is_none_is_refused(copy, text):
    (copy / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    assert refusal(copy).code == "unreadable"


def test_a_manifest_is_not_read_when_it_is_larger_than_any_is(copy):
    with open(copy / "manifest.json", "ab") as file:
        file.truncate(20 << 30)
    assert "expected at most 4194304 bytes, found 21474836480" in refusal(copy).text


def test_weights_of_another_length_are_refused_before_a_byte_of_them_is_read(copy):
    with open(copy / "vessel.onnx", "ab") as file:
        file.truncate(20 << 30)  # reading it would take a minute, hashing it longer
    refused = refusal(copy)
    assert (refused.code, "found 21474836480" in refused.text) == ("checksum", True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["manifest.json", "vessel.onnx"])
@pytest.mark.parametrize(
    ("kind", "put"),
    [
        ("a named pipe", os.mkfifo),
        ("a device", lambda path: path.symlink_to("/dev/zero")),
        ("a folder", Path.mkdir),
        ("a link whose target is missing", lambda path: path.symlink_to("nowhere")),
    ],
)
def test_what_is_no_regular_file_is_named_and_not_waited_for(copy, name, kind, put):
    (copy / name).unlink()
    put(copy / name)
    refused = refusal(copy)
    assert kind in refused.text
    assert name in refused.text


def test_a_link_out_of_the_bundle_is_refused_and_one_within_it_is_followed(copy, tmp_path):
    (copy / "vessel.onnx").rename(copy / "weights")
    (copy / "vessel.onnx").symlink_to("weights")
    assert load_bundle(copy).title == "plain 1"
    (copy / "weights").rename(tmp_path / "weights")
    (copy / "vessel.onnx").unlink()
    (copy / "vessel.onnx").symlink_to(tmp_path / "weights")
    assert "a link leads out of the bundle" in refusal(copy).text


def swap(folder: Path) -> None:
    manifest = plain_bundle.manifest(folder)
    one, other = manifest["files"]
    one["role"], other["role"] = other["role"], one["role"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: say(folder, (("vessel", "classes"), ["none", "LAD", "RCA"])), "gives tensor"),
        (lambda folder: say(folder, ((*VESSEL_VIEW, "size_px"), 64)), "takes tensor"),
        (lambda folder: say(folder, ((*VESSEL_VIEW, "with_mask"), False)), "takes tensor"),
        (lambda folder: say(folder, ((*VESSEL_VIEW, "neighbors"), 1)), "takes tensor"),
        (swap, "takes tensor"),
    ],
    ids=["classes", "size", "mask", "neighbors", "roles swapped"],
)
def test_a_network_that_is_not_the_manifests_is_refused_before_it_sees_an_image(copy, change, words):
    change(copy)
    with pytest.raises(InputRefused, match=r"do not belong together") as refused:
        OnnxNetwork(load_bundle(copy))
    assert refused.value.code == "unreadable"
    assert words in refused.value.text


def test_a_graph_promises_by_its_own_words():
    promise = Promise("x.onnx", (2, 80, 80), (3, 80, 80))
    good, answer = ("tensor(float)", ["n", 2, 80, 80]), ("tensor(float)", ["n", 3, 80, 80])
    promise.require_graph([good], [answer])
    promise.require_graph([("tensor(float)", ["n", "c", None, 80])], [answer])  # open: each answer is looked at
    for inputs, outputs in (
        ([good, good], [answer]),
        ([good], []),
        ([("tensor(double)", good[1])], [answer]),
        ([good], [("tensor(int64)", answer[1])]),
        ([good], [("tensor(float)", ["n", 3, 40, 40])]),
        ([good], [("tensor(float)", ["n"])]),
    ):
        with pytest.raises(InputRefused, match="do not belong together"):
            promise.require_graph(inputs, outputs)


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros((4, 1), np.float32),
        np.zeros(3, np.float32),
        np.zeros(4, np.float64),
        np.array([0, 0.5, NAN, 1], np.float32),
        np.array([0, 0.5, INFINITE, 1], np.float32),
        np.array([0, 0.5, 1.5, 1], np.float32),
        np.array([0, -0.5, 0.5, 1], np.float32),
        ["0.5"] * 4,
    ],
    ids=str,
)
def test_what_is_no_probability_of_each_slice_is_no_answer(answer):
    promise = Promise("slices.onnx", (1, 36, 36), ())
    with pytest.raises(InputRefused, match=r"^unreadable: slices\.onnx: expected "):
        promise.require(answer, 4)
    assert promise.require(np.full(4, 0.5, np.float32), 4).tolist() == [0.5] * 4


def test_weights_in_another_file_are_refused(copy):
    """Such an entry may name any file of the machine; the checksum is that of the file that names it."""
    path = copy / "vessel.onnx"
    path.write_bytes(path.read_bytes() + b"\x0a\x08location\x12\x09/dev/zero")
    say(copy)
    with pytest.raises(InputRefused, match=r"vessel\.onnx: its weights lie in another file"):
        OnnxNetwork(load_bundle(copy))


def chest() -> tuple:
    """A heart region and one dense voxel on slice 1 of three."""
    hu = np.full((3, 40, 40), 40, np.int16)
    hu[1, 18:22, 18:22] = 500
    ct = make_ct(hu, spacing_mm=(3.0, 1.0, 1.0))
    return ct, heart_region(ct)


def test_a_nan_of_the_slice_classifier_is_refused_and_never_a_slice_that_was_not_asked():
    ct, region = chest()
    view = classifier_view(40, 40)
    asked = np.array([True, True, False])
    fine = classify_slices(ct, region, lambda image: np.full(len(image), 0.5, np.float32), view, asked)
    assert np.isnan(fine).tolist() == [False, False, True]
    for bad in (NAN, INFINITE):
        with pytest.raises(InputRefused, match=r"^unreadable: the slice classifier answered something that is no num"):
            classify_slices(ct, region, lambda image, bad=bad: np.full(len(image), bad, np.float32), view, asked)


def test_a_nan_of_the_vessel_network_is_refused_in_one_line():
    ct, region = chest()
    stage = VesselStage(NetworkView(40, 1.0), ("none", "LAD"), 0.5)

    def network(image):
        logits = np.zeros((len(image), 2, 40, 40), np.float32)
        logits[0, 1, 0, 0] = NAN  # at a pixel on which nothing depends
        return logits

    with pytest.raises(InputRefused, match=r"^unreadable: the vessel network answered something that is no number"):
        segment_vessels(ct, region, network, stage, ScoringProtocol())


# The canary


def by_hand(bundle_folder: Path):
    """The plain bundle, its views laid pixel on pixel over the canary scan, and what its formulas answer."""
    bundle = load_bundle(bundle_folder)
    vessel = replace(bundle.vessel, view=replace(bundle.vessel.view, size_px=96, spacing_mm=2.0))
    slices = replace(bundle.slices, view=replace(bundle.slices.view, size_px=96, spacing_mm=2.0, resampling="mean"))
    return replace(bundle, vessel=vessel, slices=slices)


def vessel_formula(image):
    odds = 12 * image[:, 0] - 6  # (HU - 400) / 100, see plain_bundle
    return np.stack([np.zeros_like(odds), odds], axis=1)


def slices_formula(image):
    return 1 / (1 + np.exp(-(10 * image.max(axis=(1, 2, 3)) + 2)))  # (HU - 400) / 50


def test_the_canary_scan_is_the_same_everywhere():
    assert scan_checksum() == "79d058e0e243132cbc05ca5ec55c862ca91e5156fc2197afd0eb7d2413c6e1be"
    ct = canary_scan()
    assert ct.spacing_mm == (3.0, 2.0, 2.0)
    for k, x, y, _, value in PLAQUES:
        assert ct.hu[k, 48 + y // 2, 48 + x // 2] == value


def test_the_canary_answer_by_hand():
    bundle = by_hand(FOLDER)
    answer = canary_answer(bundle, vessel_formula, slices_formula)
    for (*_, value), vote in zip(PLAQUES, answer.votes, strict=True):
        hu = min(value, 1000)  # the end of the window
        assert vote[1] == pytest.approx(1 / (1 + np.exp(-(hu - 400) / 100)), abs=2e-6)
        assert sum(vote) == pytest.approx(1, abs=2e-6)
    brightest = canary_scan().hu.max(axis=(1, 2))
    assert brightest[[1, 3]].tolist() == [700, 1100]
    for p, hu in zip(answer.slices, np.clip(brightest, 0, 1000), strict=True):
        assert p == pytest.approx(1 / (1 + np.exp(-(float(hu) - 400) / 50)), abs=2e-6)


def test_networks_that_answer_otherwise_than_at_the_export_are_told_from_rounding():
    bundle = by_hand(FOLDER)
    assert check_canary(bundle, vessel_formula, slices_formula) is None, "an old bundle carries no answers"
    told = canary_answer(bundle, vessel_formula, slices_formula).to_json()
    told = json.loads(json.dumps(told))
    bundle = replace(bundle, canary=told)
    assert check_canary(bundle, vessel_formula, slices_formula) == 0
    near = check_canary(bundle, vessel_formula, lambda image: slices_formula(image) - 1e-4)
    assert near == pytest.approx(1e-4, abs=2e-6)
    with pytest.raises(InputRefused, match="answer the canary scan otherwise than at the export") as refused:
        check_canary(bundle, lambda image: vessel_formula(image) * 1.05, slices_formula)
    assert refused.value.code == "checksum"
    with pytest.raises(InputRefused, match="otherwise"):
        check_canary(bundle, vessel_formula, lambda image: slices_formula(image) - 2 * TOLERANCE)
    with pytest.raises(InputRefused, match="is no number"):
        check_canary(bundle, lambda image: vessel_formula(image) * NAN, slices_formula)
    assert check_canary(replace(bundle, canary={**told, "scan": "another/9"}), vessel_formula, slices_formula) is None
    for damaged in ({"scan": SCAN}, {**told, "votes": [["x"]]}, {**told, "slices": 5}):
        with pytest.raises(InputRefused, match="its canary is damaged"):
            check_canary(replace(bundle, canary=damaged), vessel_formula, slices_formula)


def test_the_bundle_that_ships_answers_its_canary_and_its_weights_are_those_that_were_judged():
    bundle = load_bundle(find_bundle(None))
    difference = check_canary(bundle, OnnxNetwork(bundle, VESSEL, threads=1), OnnxNetwork(bundle, SLICES, threads=1))
    assert difference is not None
    assert difference <= TOLERANCE
    weights = hashlib.sha256("".join(sorted(bundle.checksums().values())).encode()).hexdigest()
    assert weights == "27fd26e4da24f473c129c48c6d1368a57583b98f2bc8854a5515dbb2d1f38cc6"
