"""A CT scored by a bundle from file to report: by the networks of `plain_bundle`, whose answers are known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from plain_bundle import FOLDER, manifest
from schematic_chest import schematic_chest

import heartlens.networks.bundle
from heartlens.__main__ import main
from heartlens.calcium import extract_lesions
from heartlens.case.folder import load_case, save_case
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.volumes import write_volume
from heartlens.networks.bundle import SLICES, load_bundle
from heartlens.networks.canary import canary_answer
from heartlens.networks.runtime import OnnxNetwork
from heartlens.pipeline import Request, score_series
from heartlens.risk.categories import category
from heartlens.scoring.report import score_lesions

pytestmark = pytest.mark.slow

SURE = ((40, -10, -30), 3, 900)
"""(place, radius, HU): surely LAD."""
CLOSE = ((10, 5, -60), 6, 450)
"""LAD, near the cut-off."""
DOUBTED = ((40, -10, -60), 5, 330)
"""Not coronary, near the cut-off; seen because `CLOSE` lies on the same slices."""
UNSEEN = ((20, 0, -84), 5, 350)
"""On slices that do not reach 400 HU, so that the slice stage leaves them out."""


@pytest.fixture(scope="module")
def chest():
    return schematic_chest(add=[(*place, radius, hu) for place, radius, hu in (SURE, CLOSE, DOUBTED, UNSEEN)])


@pytest.fixture(scope="module")
def scan(chest, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "ct.nrrd"
    write_volume(path, chest)
    return path


@pytest.fixture(scope="module")
def scored(scan):
    return score_series(scan, Request(bundle=str(FOLDER), device="cpu")).case


def ball(chest, ball_):
    """(n,) voxels of a ball."""
    (x, y, z), radius, _ = ball_
    kji = np.stack(np.indices(chest.shape), axis=-1).reshape(-1, 3)
    near = np.linalg.norm(chest.lps_mm(kji) - (x, y, z), axis=1) < radius
    return np.flatnonzero(near & (chest.hu.reshape(-1) >= 130))


def agatston(chest, *balls):
    flat = np.concatenate([ball(chest, one) for one in balls])
    protocol = ScoringProtocol()
    lesions = extract_lesions(chest, flat, np.full(flat.size, Artery.LAD), protocol)
    return score_lesions(chest, lesions, protocol).total.agatston


def lesion_at(case, chest, ball_):
    """The lesion of a ball in the report; None when it is not there."""
    ids = np.unique(case.lesions.labels.reshape(-1)[ball(chest, ball_)])
    return next((one for one in case.report.lesions if one.id in ids), None)


def test_what_the_networks_name_is_scored_and_nothing_else(scored, chest):
    assert scored.report.total.agatston == pytest.approx(agatston(chest, SURE, CLOSE), rel=1e-12)
    assert lesion_at(scored, chest, SURE).artery is Artery.LAD
    assert lesion_at(scored, chest, DOUBTED).artery is Artery.OTHER
    assert lesion_at(scored, chest, UNSEEN) is None


def test_lesions_near_the_cut_off_are_marked_on_either_side(scored, chest):
    marked = {name: lesion_at(scored, chest, b).undecided for name, b in (("s", SURE), ("c", CLOSE), ("d", DOUBTED))}
    assert marked == {"s": False, "c": True, "d": True}


def test_the_probability_of_a_category_counts_every_lesion_that_was_seen(scored, chest):
    probability = dict(scored.risk.category_probability)
    p, sizes = {}, {}
    for name, one in (("sure", SURE), ("close", CLOSE), ("doubted", DOUBTED)):
        lesion = lesion_at(scored, chest, one)
        p[name], sizes[name] = lesion.probability, lesion.agatston
    expected = dict.fromkeys(probability, 0.0)
    for counted in product((0, 1), repeat=3):
        chance = np.prod([p[name] if c else 1 - p[name] for name, c in zip(p, counted, strict=True)])
        score = sum(sizes[name] * c for name, c in zip(p, counted, strict=True))
        expected[category(score).category] += chance
    assert probability == pytest.approx(expected, abs=1e-9)
    assert 0.1 < probability["moderate"] < probability["high"] < 0.9


def test_slices_say_how_likely_they_are_and_only_where_they_were_asked(scored, chest):
    z = np.array([one.z_mm for one in scored.report.slices])
    p = [one.probability for one in scored.report.slices]
    on = {name: int(np.abs(z - one[0][2]).argmin()) for name, one in (("sure", SURE), ("unseen", UNSEEN))}
    assert p[on["sure"]] > 0.99  # 900 HU, seen through the view's pixels
    assert p[on["unseen"]] == pytest.approx(1 / (1 + np.exp(1)), abs=1e-3)  # (350 - 400) / 50
    assert p[0] is None


def test_without_the_slice_stage_every_candidate_is_looked_at(scan, chest):
    case = score_series(scan, Request(bundle=str(FOLDER), device="cpu", slice_stage=False)).case
    assert lesion_at(case, chest, UNSEEN).artery is Artery.OTHER
    assert case.slice_probability is None
    assert case.provenance.slice_stage is False


def test_the_report_names_the_bundle_and_what_it_was_trained_on(scored):
    document = scored.report_document()
    assert document["provenance"]["bundle"] == "plain 1"
    assert document["provenance"]["labels"] == "network"
    assert set(document["provenance"]["checksums"]) == {"voxels_sha256", "vessel.onnx", "slices.onnx"}
    (warning,) = [w["text"] for w in document["warnings"] if w["code"] == "network"]
    assert "trained on nothing: its two formulas are written by hand" in warning
    assert "domain" not in {w["code"] for w in document["warnings"]}


def test_a_case_opens_again_with_the_same_report_and_forgets_doubts_that_a_reader_settled(scored, chest, tmp_path):
    save_case(scored, tmp_path / "case")
    opened = load_case(tmp_path / "case")
    assert json.dumps(opened.report_document()) == json.dumps(scored.report_document())
    settled = scored
    for one in (SURE, CLOSE, DOUBTED):
        settled = settled.reassign(lesion_at(settled, chest, one).id, Artery.LAD, who="reader")
    assert not any(lesion.undecided for lesion in settled.report.lesions)
    assert dict(settled.risk.category_probability)[settled.risk.category] == 1


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A place with the plain bundle as the installed default."""
    place = tmp_path / "Models"
    shutil.copytree(FOLDER, place / "plain")
    monkeypatch.setattr(heartlens.networks.bundle, "INSTALLED", (place,))
    return place / "plain"


def test_the_installed_bundle_is_the_default_and_none_is_the_rules(scan, installed, capsys):
    assert main(["score", str(scan), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["bundle"] == "plain 1"
    assert main(["score", str(scan), "--json", "--bundle", "none"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["provenance"]["labels"] == "rules"
    assert {w["code"] for w in report["warnings"]} & {"rules", "no-bundle", "network"} == {"rules"}
    assert report["risk"]["category_probability"] is None


def test_a_damaged_default_is_refused_and_not_replaced_by_the_rules(scan, installed, capsys):
    (installed / "vessel.onnx").write_bytes(b"")
    assert main(["score", str(scan)]) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("error: checksum:")
    assert not captured.out


def test_outside_its_domain_the_scan_is_scored_and_the_report_warns(scan, installed, capsys):
    domain = {"pixel_mm": [0.3, 1.0], "increment_mm": None, "kvp": None, "field_of_view_mm": None}
    (installed / "manifest.json").write_text(json.dumps(manifest(installed, domain=domain)))
    assert main(["score", str(scan), "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any(w["code"] == "domain" and "pixel 2.8 mm, expected 0.3 to 1" in w["text"] for w in warnings)


def test_slices_on_which_the_networks_contradict_each_other_are_told(scan, scored, chest, installed, capsys):
    assert "unsettled" not in {c.code for c in scored.cautions}
    changed = manifest(installed)
    changed["vessel"]["cut_off"] = 0.999999  # nothing is coronary, while the classifier is sure of 900 HU
    (installed / "manifest.json").write_text(json.dumps(changed))
    assert main(["score", str(scan), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["agatston"] == 0
    (text,) = (w["text"] for w in report["warnings"] if w["code"] == "unsettled")
    sure = [s for s in report["slices"] if (s["probability"] or 0) >= 0.9]
    likeliest = max(sure, key=lambda s: s["probability"])
    assert abs(likeliest["z_mm"] - SURE[0][2]) <= SURE[1]
    assert f"slice index {likeliest['index']} (z {likeliest['z_mm']:.1f} mm, {likeliest['probability']:.2f})" in text
    assert text.count("mm, ") == min(len(sure), 5)


def test_progress_goes_up_slice_by_slice_and_a_caller_may_end_it(scan):
    events = []
    score_series(scan, Request(bundle=str(FOLDER), device="cpu"), progress=lambda *event: events.append(event))
    fractions = [fraction for _, fraction in events]
    assert fractions == sorted(fractions)
    stages = [stage for stage, _ in events]
    assert stages.count("choosing slices") > 1  # one for each batch
    assert stages.index("naming arteries") > stages.index("choosing slices")

    def stop(stage, fraction):
        if stage == "naming arteries":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_series(scan, Request(bundle=str(FOLDER), device="cpu"), progress=stop)


def test_no_heart_no_claim(tmp_path):
    """Nothing was looked at: no lesion, and no category for the 0."""
    from heartlens.core.ct import CTVolume

    hu = np.full((30, 64, 64), -1000, np.int16)
    hu[:, 16:48, 16:48] = 40
    hu[10:14, 30:34, 30:34] = 900
    write_volume(tmp_path / "ct.nrrd", CTVolume(hu, np.diag([4.0, 4.0, 3.0, 1.0])))
    case = score_series(tmp_path / "ct.nrrd", Request(bundle=str(FOLDER), device="cpu")).case
    assert "no-heart" in {c.code for c in case.cautions}
    assert case.report.total.agatston == 0
    assert case.risk.category is None
    assert case.risk.category_probability is None


def test_on_a_cpu_scoring_with_a_bundle_imports_no_torch(scan):
    code = (
        "import sys; from pathlib import Path; from heartlens.pipeline import Request, score_series\n"
        f"score_series(Path({str(scan)!r}), Request(bundle={str(FOLDER)!r}))\n"
        "print('onnxruntime' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert run.stdout.split() == ["True", "False"]


def test_the_doctor_examines_bundles_and_scores_a_phantom(installed, capsys):
    """The plain bundle's formula names what is bright, and no plaque of the small phantom is bright enough."""
    assert main(["doctor"]) == 3
    output = capsys.readouterr().out
    assert "bundle: plain 1, used here: networks for slices and vessels, 2 files" in output
    assert "canary: none in this bundle" in output
    assert "scored 0 by bundle plain 1 on cpu: WRONG" in output
    (installed / "vessel.onnx").write_bytes(b"")
    assert main(["doctor"]) == 3
    output = capsys.readouterr().out
    assert "bundle: checksum: " in output
    assert "self-test" not in output


def test_the_doctor_asks_the_canary_and_does_not_score_with_networks_that_answer_otherwise(installed, capsys):
    bundle = load_bundle(installed)
    told = canary_answer(bundle, OnnxNetwork(bundle, threads=1), OnnxNetwork(bundle, SLICES, threads=1)).to_json()
    (installed / "manifest.json").write_text(json.dumps(manifest(installed, canary=told)))
    main(["doctor"])
    assert "canary: answered as at the export (largest difference of a probability 0)" in capsys.readouterr().out
    told["slices"][3] = abs(told["slices"][3] - 0.1)
    (installed / "manifest.json").write_text(json.dumps(manifest(installed, canary=told)))
    assert main(["doctor"]) == 3
    output = capsys.readouterr().out
    assert "answer the canary scan otherwise than at the export (a probability differs by 0.1" in output
    assert "self-test" not in output


def test_the_doctor_finds_the_rules_in_order(capsys, monkeypatch):
    monkeypatch.setattr(heartlens.networks.bundle, "INSTALLED", ())
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert "worked example (10 by hand): 10" in output
    assert "by the rules: in order" in output
