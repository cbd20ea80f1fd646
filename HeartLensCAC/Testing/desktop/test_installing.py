"""Libraries that Slicer lacks: asked for through Slicer, and the reader is told what happens without them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from desktop.reader import Reader
from desktop.slicer_facts import facts

MODULE = Path(__file__).resolve().parents[2]


@pytest.fixture
def lacking(module, monkeypatch):
    """`lacking("onnxruntime")`: that library is not installed; returns the stand-in for slicer.packaging."""
    from heartlens.app import requirements
    from HeartLensCACLib import Requirements

    monkeypatch.setattr(Requirements, "_declined", set())
    here, gone = requirements.installed_version, set()
    monkeypatch.setattr(requirements, "installed_version", lambda name: None if name in gone else here(name))

    def lack(*names):
        gone.update(names)
        module.dialogs.packaging.install = lambda words: gone.difference_update(w.partition(">")[0] for w in words)
        return module.dialogs.packaging

    return lack


def test_consent_is_asked_by_slicer_and_nothing_that_is_there_is_installed(module, lacking):
    from HeartLensCACLib.Requirements import bundleToRun

    packaging = lacking("onnxruntime", "jinja2")
    assert bundleToRun("heartlens-embedded", "auto") == "heartlens-embedded"
    ((jinja2, onnxruntime),) = map(sorted, packaging.asked)
    assert onnxruntime.startswith("onnxruntime>=")
    assert jinja2.startswith("jinja2>=")
    assert module.dialogs.shown == ["HeartLens: 2 Python packages need to be installed."]
    assert bundleToRun("heartlens-embedded", "auto") == "heartlens-embedded"
    assert len(packaging.asked) == 1, "once"


def test_who_declines_is_offered_the_rules_and_asked_again_only_for_what_the_networks_need(module, lacking):
    from HeartLensCACLib.Requirements import bundleToRun

    packaging = lacking("onnxruntime", "jinja2")
    module.dialogs.answer = False
    assert bundleToRun("heartlens-embedded", "auto") is None
    assert "The networks need onnxruntime, which is not installed." in module.dialogs.shown[-1]
    assert "Score by the rules" in module.dialogs.shown[-1]
    assert bundleToRun("none", "auto") == "none", "the rules need nothing, and jinja2 was declined"
    assert len(packaging.asked) == 1
    assert bundleToRun("heartlens-embedded", "auto") is None
    assert [word.partition(">")[0] for word in packaging.asked[-1]] == ["onnxruntime"]


@pytest.mark.parametrize(
    "error", [subprocess.CalledProcessError(1, ["pip"]), OSError("no network")], ids=["pip failed", "no network"]
)
def test_an_installation_that_failed_is_told_and_the_rules_run(module, lacking, error):
    from HeartLensCACLib.Requirements import bundleToRun

    def fail(words):
        raise error

    lacking("onnxruntime").install = fail
    assert bundleToRun("heartlens-embedded", "auto") == "none"
    _consent, failed, offer = module.dialogs.shown
    assert failed.startswith("These libraries could not be installed: onnxruntime>=")
    assert "internet" in failed
    assert offer.endswith("Score by the rules, without a network?")


def test_a_library_that_slicer_itself_brings_is_never_replaced(module, lacking):
    from HeartLensCACLib.Requirements import bundleToRun

    packaging = lacking("pydicom")
    assert bundleToRun("none", "auto") is None
    assert packaging.asked == []
    assert "pydicom>=" in module.dialogs.shown[0]


def test_score_by_the_rules_is_what_runs_when_the_networks_cannot(module, lacking, phantom_ct, monkeypatch):
    packaging = lacking("onnxruntime")
    packaging.install = lambda words: (_ for _ in ()).throw(OSError("no network"))
    reader = Reader(module, phantom_ct)
    runs = []
    monkeypatch.setattr(reader.panel.score, "start", runs.append)
    reader.ui.bundleComboBox.setCurrentIndex(0)
    reader.press_score()
    assert json.loads(runs[0].command)["options"]["bundle"] == "none"


@pytest.fixture
def jpeg(phantom_ct, tmp_path):
    """The phantom whose headers say JPEG Lossless; nobody decodes it here."""
    folder = Path(shutil.copytree(phantom_ct, tmp_path / "jpeg"))
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)
    return folder


@pytest.fixture
def shown_by_slicer(module, phantom_ct, jpeg, lacking, monkeypatch):
    """A series that Slicer shows and whose decoder its Python lacks."""
    from pydicom.pixels.decoders import JPEGLosslessSV1Decoder

    from HeartLensCACLib.Scan import FOLDER_ATTRIBUTE

    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
    packaging = lacking("python-gdcm")
    reader = Reader(module, phantom_ct)
    reader.volume.SetAttribute(FOLDER_ATTRIBUTE, str(jpeg))
    runs = []
    monkeypatch.setattr(reader.panel.score, "start", runs.append)
    return reader, packaging, runs


def test_a_decoder_is_offered_for_what_slicer_shows_and_its_python_cannot_decode(shown_by_slicer):
    reader, packaging, runs = shown_by_slicer
    reader.press_score()
    assert [word.partition(">")[0] for word in packaging.asked[0]] == ["python-gdcm"]
    assert reader.dialogs.shown[-1] == "python-gdcm was installed. Restart Slicer, then score this scan."
    assert runs == []


def test_without_the_decoder_the_screen_is_scored_when_the_reader_says_so(shown_by_slicer):
    reader, packaging, runs = shown_by_slicer
    packaging.install = lambda words: (_ for _ in ()).throw(OSError("no network"))
    reader.press_score()
    assert "Score what is on the screen?" in reader.dialogs.shown[-1]
    (run,) = runs
    command = json.loads(run.command)
    assert command["input"].endswith("ct.nrrd")
    assert command["options"]["kvp"] == 120


def test_a_decoder_that_is_there_and_decodes_nothing_is_no_dead_end(shown_by_slicer):
    reader, packaging, runs = shown_by_slicer
    packaging.install(["python-gdcm>=3"])  # by whoever, before Slicer was started
    reader.press_score()
    assert packaging.asked == []
    (question,) = reader.dialogs.shown
    assert "python-gdcm, which is installed and cannot be used here" in question
    assert "Score what is on the screen?" in question
    assert json.loads(runs[0].command)["input"].endswith("ct.nrrd")


def test_a_decoder_that_was_installed_asks_for_a_restart_however_often_score_is_pressed(shown_by_slicer):
    reader, packaging, runs = shown_by_slicer
    reader.press_score()
    reader.press_score()
    assert len(packaging.asked) == 1
    assert [text for text in reader.dialogs.shown if "Restart" in text] == [reader.dialogs.shown[-1]] * 2
    assert runs == []


def test_a_reader_who_wants_neither_decoder_nor_screen_scores_nothing(shown_by_slicer):
    reader, _packaging, runs = shown_by_slicer
    reader.dialogs.answer = False
    reader.press_score()
    assert runs == []


def test_a_slicer_that_is_too_old_says_so_registers_nothing_and_offers_nothing(module, monkeypatch):
    from types import SimpleNamespace

    import slicer
    from desktop import slicer_app

    monkeypatch.setattr(slicer.app, "minorVersion", 10, raising=False)
    monkeypatch.setattr(slicer.app, "applicationVersion", "5.10.0", raising=False)
    slicer.modules.sampleDataSources.clear()
    slicer_app.load_module().HeartLensCAC(SimpleNamespace(path="HeartLensCAC.py"))
    slicer.app.emit("startupCompleted()")
    assert slicer.modules.sampleDataSources == {}
    widget = slicer_app.load_module().HeartLensCACWidget()
    widget.setup()
    widget.enter()
    assert widget.ui.noticeLabel.text == "HeartLens needs Slicer 5.12 or later. This is Slicer 5.10.0."
    assert not widget.ui.inputSection.enabled
    assert not widget.ui.scoreSection.enabled
    widget.exit()
    widget.cleanup()
    widget.uiWidget.setMRMLScene(None)
    widget.parent.deleteLater()


def test_every_page_names_the_same_oldest_slicer(slicer_running):
    from HeartLensCACLib.Environment import OLDEST_SLICER

    oldest = ".".join(map(str, OLDEST_SLICER))
    for page in ("README.md", "docs/extension-index.md", "docs/tutorial.md", "docs/slicer.md"):
        assert f"Slicer {oldest} or later" in (MODULE.parent / page).read_text(), page


ONLY_SLICERS = """
import runpy, sys
from importlib import metadata
packages = set(sys.argv.pop(1).split(","))
OURS = {"onnxruntime", "jinja2", "nibabel", "openjpeg", "jpeg_ls", "gdcm", "torch", "safetensors"}
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OURS - packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
version = metadata.version
def known(name):
    if name not in packages:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = known
sys.argv = ["heartlens", "doctor"]
runpy.run_module("heartlens", run_name="__main__")
"""
"""`heartlens doctor` where no package can be seen but those that Slicer brings."""


@pytest.mark.slow
def test_check_environment_in_a_fresh_slicer_names_what_is_missing_and_ends_without_a_traceback():
    brought = {name for name, package in facts("5.12")["packages"].items() if package is not None}
    run = subprocess.run(
        [sys.executable, "-c", ONLY_SLICERS, ",".join(sorted(brought))],
        capture_output=True, text=True, timeout=300, check=False, cwd=MODULE,
    )  # fmt: skip
    assert "Traceback" not in run.stdout + run.stderr
    assert "onnxruntime         missing; needed for networks: pip install" in run.stdout
    assert "worked example (10 by hand): 10" in run.stdout
    assert "self-test: not done, onnxruntime is missing" in run.stdout
    assert run.returncode not in (0, 2)
