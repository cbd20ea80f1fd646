"""Bundles: where they are found, what is refused, what they say of scans outside their domain."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import plain_bundle
import pytest
from plain_bundle import FOLDER

import heartlens.networks.bundle
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import Calibration, Domain, find_bundle, installed_bundles, load_bundle
from heartlens.networks.runtime import OnnxNetwork
from heartlens.networks.view import classifier_view

PACKAGE = Path(heartlens.networks.bundle.__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(FOLDER, folder)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty place for installed bundles."""
    folder = tmp_path / "Models"
    folder.mkdir()
    monkeypatch.setattr(heartlens.networks.bundle, "INSTALLED", (folder,))
    return folder


def test_the_committed_networks_are_what_their_script_makes(tmp_path):
    try:
        importlib.import_module("onnx")
    except ImportError:
        pytest.skip("needs onnx, which comes with training/requirements.txt")
    plain_bundle.make(tmp_path)
    for name in ("vessel.onnx", "slices.onnx", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_a_bundle_says_what_it_is():
    bundle = load_bundle(FOLDER)
    assert bundle.title == "plain 1"
    assert bundle.vessel.classes == ("none", "LAD")
    assert bundle.slices.view == classifier_view(100.8, 36, (0, 1000), "heart")
    assert bundle.domain.kvp == (80, 140)
    assert set(bundle.checksums()) == {"vessel.onnx", "slices.onnx"}


@pytest.mark.parametrize("name", ["vessel.onnx", "slices.onnx"])
def test_a_changed_cut_or_missing_file_is_refused(copy, name):
    content = (copy / name).read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), None):
        (copy / name).unlink(missing_ok=True)
        if damaged is not None:
            (copy / name).write_bytes(damaged)
        with pytest.raises(InputRefused, match=name) as refusal:
            load_bundle(copy)
        assert refusal.value.code == "checksum"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "heartlens.bundle/9"}, "schema 'heartlens.bundle/9'"),
        ({"slices": {"input": {}, "cut_off": 0.5}}, "window_hu"),
        ({"domain": {}}, "pixel_mm"),
        ({"vessel": []}, "list"),
    ],
)
def test_a_damaged_manifest_is_refused(copy, change, words):
    (copy / "manifest.json").write_text(json.dumps(plain_bundle.manifest(copy, **change)))
    with pytest.raises(InputRefused, match=words) as refusal:
        load_bundle(copy)
    assert refusal.value.code == "unreadable"


def test_a_file_outside_the_bundle_is_refused_though_its_checksum_is_right(copy):
    manifest = plain_bundle.manifest(copy)
    (copy / "vessel.onnx").rename(copy.parent / "vessel.onnx")
    manifest["files"][0]["path"] = "../vessel.onnx"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputRefused, match=r"a file lies outside the bundle: '\.\./vessel\.onnx'") as refusal:
        load_bundle(copy)
    assert refusal.value.code == "unreadable"


def test_a_graph_that_cannot_be_run_is_refused(copy):
    """Its checksum is right: what was exported is no network."""
    (copy / "vessel.onnx").write_bytes(b"not a graph")
    (copy / "manifest.json").write_text(json.dumps(plain_bundle.manifest(copy)))
    with pytest.raises(InputRefused, match=r"vessel.onnx: ONNX Runtime cannot run it"):
        OnnxNetwork(load_bundle(copy))


def test_none_is_the_rules_and_nothing_is_the_first_installed(place):
    assert find_bundle("none") is None
    assert find_bundle(None) is None
    for name in ("second", "first"):
        shutil.copytree(FOLDER, place / name)
    (place / "zero").mkdir()  # no manifest, no bundle
    assert list(installed_bundles()) == ["first", "second"]
    assert find_bundle(None) == place / "first"
    assert find_bundle("second") == place / "second"
    assert find_bundle("none") is None
    assert find_bundle(str(FOLDER)) == FOLDER
    with pytest.raises(InputRefused, match=r"an installed name \(first, second\) or none, found neither"):
        find_bundle("third")


@pytest.mark.parametrize("layout", ["checkout", "wheel"])
def test_bundles_are_found_beside_the_library_and_inside_it(tmp_path, layout):
    """The library as it lies in a checkout or in Slicer, and as a wheel installs it (setup.py)."""
    shutil.copytree(PACKAGE, tmp_path / "heartlens", ignore=shutil.ignore_patterns("__pycache__", "phantom", "bundles"))
    place = {"checkout": tmp_path / "Resources" / "Models", "wheel": tmp_path / "heartlens" / "bundles"}[layout]
    shutil.copytree(FOLDER, place / "plain")
    code = (
        "from heartlens.networks.bundle import find_bundle, load_bundle; print(load_bundle(find_bundle(None)).folder)"
    )
    run = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
                         capture_output=True, text=True, check=True, timeout=60)  # fmt: skip
    assert Path(run.stdout.strip()).samefile(place / "plain")


def ct(shape=(4, 100, 100), spacing=(3.0, 2.0, 2.0), kvp: float | None = 120.0) -> CTVolume:
    return CTVolume(np.zeros(shape, np.int16), np.diag([spacing[2], spacing[1], spacing[0], 1.0]), CTHeader(kvp=kvp))


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (ct(), ""),
        (ct(kvp=None), ""),
        (ct(kvp=70.0), "tube voltage 70 kVp, expected 80 to 140"),
        (ct(spacing=(6.0, 2.0, 2.0)), "slice increment 6 mm, expected 0.5 to 5"),
        (ct(spacing=(3.0, 0.2, 2.0)), "pixel 0.2 x 2 mm, expected 0.3 to 3; field of view 20 x 200 mm"),
        (ct(shape=(4, 300, 300)), "field of view 600 mm, expected 100 to 400"),
        (ct(spacing=(5.0 + 1e-6, 2.0, 2.0)), ""),  # rounding is no other scan
    ],
)  # fmt: skip
def test_outside_its_domain_a_bundle_says_what_it_found_and_expected(scan, words):
    cautions = load_bundle(FOLDER).domain.cautions(scan)
    if not words:
        assert cautions == []
    else:
        (caution,) = cautions
        assert caution.code == "domain"
        assert words in caution.text


def test_a_domain_may_leave_a_limit_out():
    assert Domain().cautions(ct(kvp=30.0)) == []


def test_calibration_by_hand():
    """Odds of 1 to 3 squared and doubled: 2 to 9."""
    assert Calibration(2.0, float(np.log(2)))([0.25]) == pytest.approx([2 / 11])
    assert Calibration()([0.0, 0.3, 1.0]) == pytest.approx([0, 0.3, 1], abs=2e-6)
    for slope in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="positive slope"):
            Calibration(slope)
