"""The bundle that ships: small, intact, honest about itself, the default, and the same through both of its runtimes."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from conftest import skip_or_fail

from heartlens.__main__ import main
from heartlens.anatomy import heart_region
from heartlens.calcium import extract_lesions
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import SLICES, VESSEL, find_bundle, load_bundle
from heartlens.networks.inference import classify_slices, slices_with_candidates
from heartlens.networks.islands import segment_vessels
from heartlens.networks.runtime import OnnxNetwork, TorchNetwork
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import write_phantom
from heartlens.pipeline import Request, score_series
from heartlens.scoring.report import score_lesions

pytestmark = pytest.mark.slow

LARGEST_BYTES = 25_000_000

SEED = 910_001
"""Of no other use: neither trained on nor judged by."""

LOST = 910_021

STENTED = tuple(range(910_010, 910_016))

SCAN = {
    "field_of_view": "heart", "matrix": 256, "pixel_mm": 0.8, "slice_thickness_mm": 3.0, "increment_mm": 3.0,
    "kvp": 120.0, "noise_hu": 14.0, "kernel": "standard", "motion_mm": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle():
    folder = find_bundle(None)
    assert folder is not None, "no bundle ships with HeartLens"
    return load_bundle(folder)  # verifies every checksum


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomParameters.varied(SEED, **SCAN, category="101-400", matched_burden="101-400"))


def test_it_is_small_and_says_that_no_patient_was_seen_in_training(bundle):
    assert bundle.title.startswith("heartlens-embedded")
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= LARGEST_BYTES
    assert "no patient" in bundle.texts["trained_on"]
    assert "Not for diagnosis" in bundle.texts["intended_use"]


def test_it_has_both_stages_each_for_both_doors(bundle):
    assert {(file.role, file.format) for file in bundle.files} == {
        (role, form) for role in (SLICES, VESSEL) for form in ("onnx", "safetensors")
    }
    assert bundle.vessel.classes == ("none", "LM", "LAD", "LCX", "RCA", "OTHER")


def test_specks_that_vanish_in_the_softened_copy_count_or_are_left_to_a_reader(tmp_path):
    """Two count, one is faint; all of it is plaque, and the headline names the two."""
    drawn = {**SCAN, "noise_hu": 25.0, "kernel": "sharp"}
    phantom = make_phantom(PhantomParameters.varied(LOST, **drawn, category="11-100", matched_burden="0", traps=()))
    write_phantom(tmp_path / "noisy", phantom, format="nrrd")
    case = score_series(tmp_path / "noisy" / "ct.nrrd", Request()).case
    assert "softened" in {caution.code for caution in case.cautions}
    lost = [n for n, note in case.lesions.notes.items() if "lost in the softened copy" in note.why]
    assert sorted((case.lesions.arteries[n].name, case.lesions.notes[n].undecided) for n in lost) == [
        ("LAD", False), ("LM", False), ("OTHER", True),
    ]  # fmt: skip
    assert np.isin(phantom.labels[np.isin(case.lesions.labels, lost)], [int(a) for a in CORONARY]).all()
    assert case.assessment.total_low < case.assessment.total_high


def test_most_stents_are_left_to_a_reader(tmp_path):
    """The metal is all that lies in these arteries. Of twelve that were drawn four are scored without a doubt."""
    certain = []
    protocol = ScoringProtocol()
    for seed in STENTED:
        drawn = PhantomParameters.varied(seed, **SCAN, category="0", matched_burden="0", traps=("stent",))
        phantom = make_phantom(drawn)
        flat = np.flatnonzero(phantom.labels)
        metal = extract_lesions(phantom.ct, flat, np.full(flat.size, Artery.LAD, np.uint8), protocol)
        assert score_lesions(phantom.ct, metal, protocol).total.agatston > 100
        write_phantom(tmp_path / str(seed), phantom, format="nrrd")
        case = score_series(tmp_path / str(seed) / "ct.nrrd", Request()).case
        certain.append(case.assessment.total_low > 0)
    assert sum(certain) <= len(STENTED) // 3


def test_score_uses_it_unless_asked_otherwise_and_the_report_says_so(bundle, phantom, tmp_path, capsys):
    write_phantom(tmp_path / "phantom", phantom, format="nrrd")
    assert main(["score", str(tmp_path / "phantom" / "ct.nrrd"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["provenance"]["bundle"] == bundle.title
    (warning,) = (w["text"] for w in report["warnings"] if w["code"] == "network")
    assert "synthetic people" in warning
    assert main(["score", str(tmp_path / "phantom" / "ct.nrrd"), "--json", "--bundle", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["bundle"] is None


def test_torch_and_onnx_give_the_same_slices_and_the_same_score(bundle, phantom):
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        skip_or_fail("torch and safetensors are not installed")
    ct, protocol = phantom.ct, ScoringProtocol()
    region = heart_region(ct)
    candidate_slices = slices_with_candidates(ct, region, protocol)
    probabilities, scores = [], []
    for door in (OnnxNetwork, TorchNetwork):
        p = classify_slices(ct, region, door(bundle, SLICES), bundle.slices.view, candidate_slices)
        chosen = candidate_slices & (np.nan_to_num(p, nan=-1.0) >= bundle.slices.cut_off)
        lesions = segment_vessels(ct, region, door(bundle, VESSEL), bundle.vessel, protocol, chosen_slices=chosen)
        report = score_lesions(ct, lesions, protocol)
        probabilities.append(p)
        scores.append({artery.name: totals.agatston for artery, totals in report.arteries.items()})
    assert np.isnan(probabilities[0][~candidate_slices]).all()
    assert np.abs(probabilities[0] - probabilities[1])[candidate_slices].max() < 1e-3
    assert scores[0] == scores[1]
    assert sum(scores[0].values()) > 0
