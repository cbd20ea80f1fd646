"""From folders of labels and scans to the report: what is compared, what is counted as failed, what is written."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import plain_bundle
import pytest
from full_disk import a_disk_with_room_for

from heartlens.case.folder import load_case, save_case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, Artery
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.seg import write_seg
from heartlens.dicom.series import find_series
from heartlens.dicom.write import write_ct_series
from heartlens.io.nrrd import write_nrrd
from heartlens.io.volumes import read_labels, read_volume, write_seg_nrrd, write_volume
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import write_phantom
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits
from training.evaluate import evaluate_bundle, main, write_report
from training.evaluation.classifiers import mean_of_patients, summarize_classifier
from training.evaluation.page import FEW, render_page
from training.evaluation.pairs import Pair
from training.evaluation.results import (
    ANNOTATED,
    INTEGRATED,
    SEGMENTATION,
    SLICE_STAGE,
    BackboneSummary,
    Estimate,
    Evaluation,
    Failure,
)
from training.evaluation.sources.folders import find_patients, read_pairs
from training.metrics.classification import Counts

pytestmark = pytest.mark.slow

LAD, RCA = int(Artery.LAD), int(Artery.RCA)
SPACING = np.diag([1.0, 1.0, 3.0, 1.0])


def tiny_scan(voxels: int, peak_hu: int = 200) -> tuple[CTVolume, np.ndarray]:
    """Four slices of 3 mm with pixels of 1 mm2; `voxels` in a row in LAD on slice 1, so weight 2 scores 2 each."""
    hu = np.full((4, 40, 40), -100, np.int16)
    hu[:, :4] = -900  # lung, by which a reader knows HU
    labels = np.zeros(hu.shape, np.uint8)
    hu[1, 20, 2 : 2 + voxels], labels[1, 20, 2 : 2 + voxels] = peak_hu, LAD
    return CTVolume(hu, SPACING), labels


def tiny_pair(name: str, reference: int, predicted: int, **more) -> Pair:
    """Reference and predicted number of voxels; the score is twice that."""
    ct, labels = tiny_scan(max(reference, predicted))
    known, predicted_codes = labels.copy(), labels.copy()
    known[1, 20, 2 + reference :], predicted_codes[1, 20, 2 + predicted :] = 0, 0
    return Pair(name, ct, known, predicted_codes, **more)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """Small phantoms as `heartlens phantom` writes them: p3 without calcium, p4 and p5 the same one with much."""
    root = tmp_path_factory.mktemp("phantoms")
    for seed, category in ((3, "0"), (5, ">400")):
        parameters = PhantomParameters.random(
            seed, matrix=96, slice_thickness_mm=5.0, increment_mm=5.0, field_of_view="heart", category=category,
            traps=(),
        )  # fmt: skip
        write_phantom(root / f"p{seed}", make_phantom(parameters), format="nrrd")
    shutil.copytree(root / "p5", root / "p4")
    return root


@pytest.fixture
def copies(phantoms, tmp_path) -> Path:
    """Their labels alone, as another program's folder of label maps named after the patient."""
    folder = tmp_path / "rival"
    folder.mkdir()
    for patient in phantoms.iterdir():
        shutil.copy(patient / "labels.nrrd", folder / f"{patient.name}.nrrd")
    return folder


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


# Numbers


def test_scores_categories_and_zeros_of_four_patients_by_hand():
    pairs = [tiny_pair("a", 0, 0), tiny_pair("b", 4, 0), tiny_pair("c", 10, 30), tiny_pair("d", 30, 30)]
    evaluation = evaluate_bundle(pairs, draws=20)
    summary = evaluation.stages[SEGMENTATION]
    assert [p.stages[SEGMENTATION].reference_agatston["all"] for p in evaluation.patients] == [0, 8, 20, 60]
    assert [p.stages[SEGMENTATION].predicted_agatston["LAD"] for p in evaluation.patients] == [0, 0, 60, 60]
    assert summary.confusion["dino-lg"] == ((2, 0, 0, 0), (0, 2, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    assert summary.confusion["heartlens"][:3] == ((1, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 0, 2, 0, 0))
    assert summary.zeros == Counts(tp=2, fp=0, fn=1, tn=1)
    assert summary.slices == Counts(tp=2, fp=0, fn=1, tn=13)
    assert summary.voxels["LAD"] == Counts(tp=40, fp=20, fn=4)
    assert (summary.overlapping["LAD"], summary.both_empty["LAD"], summary.both_empty["RCA"]) == (3, 1, 4)
    value = {name: e.value for name, e in summary.estimates.items()}
    assert value["zero.false_zero_rate"] == pytest.approx(1 / 3)
    assert value["category.dino-lg.accuracy"] == 1
    assert value["category.heartlens.accuracy"] == 0.75
    assert value["agatston.all.bias"] == pytest.approx((0 - 8 + 40 + 0) / 4)
    assert value["overlap.LAD.dice"] == pytest.approx((0 + 2 * 10 / 40 + 1) / 3)
    assert value["overlap.RCA.dice"] is None
    assert value["voxels.LAD.precision"] == pytest.approx(40 / 60)
    assert value["voxels.average.precision"] == pytest.approx(40 / 60)  # the other arteries have no voxels
    assert value["slices.prevalence"] == pytest.approx(3 / 16)


def test_lesions_are_counted_and_weighed_as_orcascore_does():
    evaluation = evaluate_bundle([tiny_pair("a", 4, 0), tiny_pair("b", 10, 30), tiny_pair("c", 0, 2)], draws=20)
    summary = evaluation.stages[SEGMENTATION]
    totals = summary.lesions["same vessel"]["LAD"]
    assert (totals.reference, totals.found, totals.predicted, totals.right) == (2, 1, 2, 1)
    assert (totals.reference_mm3, totals.found_mm3) == (3 * 14, 3 * 10)
    assert (totals.predicted_mm3, totals.right_mm3) == (3 * 32, 3 * 30)
    value = {name: e.value for name, e in summary.estimates.items()}
    sensitivity, ppv = 10 / 14, 30 / 32
    assert value["lesions.same vessel.LAD.sensitivity"] == 0.5
    assert value["lesions.same vessel.LAD.volume_sensitivity"] == pytest.approx(sensitivity)
    assert value["lesions.same vessel.all.f1_by_count"] == 0.5
    assert value["lesions.same vessel.all.f1_by_volume"] == pytest.approx(2 * sensitivity * ppv / (sensitivity + ppv))
    assert value["lesions.same vessel.RCA.f1_by_volume"] is None
    sizes = [(s.low_mm3, s.high_mm3, s.n, s.found_same_vessel) for s in summary.sizes]
    assert sizes == [(0, 10, 0, 0), (10, 30, 2, 1), (30, 100, 0, 0), (100, 300, 0, 0), (300, None, 0, 0)]


def test_finding_no_lesion_is_an_f1_of_zero():
    evaluation = evaluate_bundle([tiny_pair("a", 4, 0), tiny_pair("b", 10, 0)], draws=5)
    for name in ("f1_by_count", "f1_by_volume"):
        assert evaluation.estimate(f"lesions.any vessel.all.{name}").value == 0
    assert evaluation.estimate("lesions.any vessel.all.ppv").value is None


def test_the_slice_stage_is_judged_beside_the_labels_alone():
    good, bad = np.array([0.1, 0.9, 0.2, 0.1]), np.array([0.6, 0.4, 0.2, 0.1])
    pairs = [tiny_pair("a", 10, 10, slice_probability=good), tiny_pair("b", 20, 20, slice_probability=bad)]
    evaluation = evaluate_bundle(pairs, slice_cutoff=0.5, draws=20)
    assert evaluation.final_stage == INTEGRATED
    assert evaluation.estimate("voxels.LAD.recall", SEGMENTATION).value == 1
    assert evaluation.estimate("voxels.LAD.recall").value == pytest.approx(10 / 30)
    assert evaluation.classifier.counts == Counts(tp=1, fp=1, fn=1, tn=5)
    assert evaluation.classifier.estimates["slices.sensitivity"].value == 0.5
    assert evaluation.classifier.estimates["area_under_roc"].value == pytest.approx(11 / 12)
    assert sum(b.n for b in evaluation.classifier.reliability) == 8


def test_a_program_with_its_own_slice_stage_is_judged_by_what_it_predicts():
    """Its second prediction counts, not the first with slices cleared; a slice that was not asked has no calcium."""
    probability = np.array([np.nan, 0.9, 0.2, np.nan])
    missed = np.array([0.3, np.nan, np.nan, np.nan])  # the slice with calcium was not asked about
    pairs = [tiny_pair("a", 10, 10, slice_probability=probability), tiny_pair("b", 20, 20, slice_probability=missed)]
    pairs = [replace(p, integrated=tiny_pair("", n, n // 2).predicted) for p, n in zip(pairs, (10, 20), strict=True)]
    evaluation = evaluate_bundle(pairs, slice_cutoff=0.5, draws=20)
    assert evaluation.estimate("voxels.LAD.recall", SEGMENTATION).value == 1
    assert evaluation.estimate("voxels.LAD.recall").value == pytest.approx(15 / 30)
    classifier = evaluation.classifier
    assert (classifier.slices, classifier.asked, classifier.cut_off) == (8, 3, 0.5)
    assert classifier.counts == Counts(tp=1, fp=0, fn=1, tn=6)
    assert classifier.estimates["area_under_roc"].value == 1  # of the three that were asked about
    assert sum(b.n for b in classifier.reliability) == 3
    assert evaluation.patients[0].slice_probability == {SLICE_STAGE: (None, 0.9, 0.2, None)}
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == evaluation
    assert "classified 3 of 8 slices" in render_page(evaluation)


def test_backbones_are_shown_beside_the_slice_stage():
    backbones = {
        name: BackboneSummary(
            summarize_classifier([([False, True], np.array(p))], 0.5, draws=5, seed=1),
            3,
            Estimate(0.25, 0.2, 0.3),
            0.125,
        )
        for name, p in (("DINO", [0.9, 0.1]), ("DINO-LG", [0.1, 0.9]))
    }
    evaluation = evaluate_bundle([tiny_pair("a", 10, 10), tiny_pair("b", 0, 0)], draws=5, backbones=backbones)
    page = render_page(evaluation)
    assert re.findall(r"<figcaption>Slices: (.*?)</figcaption>", page) == [
        "DINO, every slice, at 0.5", "DINO-LG, every slice, at 0.5", "labels",
    ]  # fmt: skip
    assert backbones["DINO"].classifier.counts == Counts(tp=0, fp=1, fn=1, tn=0)
    for shown in ("0.2500", "0.2000 to 0.3000", "0.1250"):
        assert shown in page
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation


def test_the_area_under_the_roc_curve_has_an_interval_over_patients():
    """Patient a is ordered perfectly, b the other way round: draws of one patient alone give 1 and 0."""
    slices = [([False, True], np.array([0.2, 0.7])), ([True, False], np.array([0.3, 0.6]))]
    area = summarize_classifier(slices, None, draws=200, seed=1).estimates["area_under_roc"]
    assert area == (0.75, 0, 1)
    error = summarize_classifier(slices, None, draws=200, seed=1).estimates["calibration_error"]
    # a alone is off by 0.2 and 0.3, b alone by 0.7 and 0.6; in both together 0.3, 0.6 and 0.7 stay in bins of their own
    assert error == (pytest.approx(0.45), pytest.approx(0.25), pytest.approx(0.65))
    one = tiny_pair("a", 10, 10, slice_probability=np.array([0.1, 0.9, 0.2, 0.1]))
    assert "area under the ROC curve 1.000 (1.000 to 1.000), calibration error" in render_page(
        evaluate_bundle([one], draws=5)
    )


def test_a_mean_over_patients_weighs_slices_and_draws_patients():
    mean = mean_of_patients([[1.0, 1.0, 1.0], [], [0.0]], draws=200, seed=1)
    assert mean.value == 0.75
    assert (mean.low, mean.high) == (0, 1)  # both draws of one patient alone occur
    assert mean_of_patients([[], []], draws=5, seed=1) == Estimate(None)


def test_probabilities_without_a_cut_off_are_judged_by_themselves():
    evaluation = evaluate_bundle([tiny_pair("a", 10, 10, slice_probability=np.array([0.1, 0.9, 0.2, 0.1]))], draws=5)
    assert list(evaluation.stages) == [SEGMENTATION]
    assert evaluation.classifier.counts is None
    assert evaluation.classifier.estimates["area_under_roc"].value == 1


def test_shares_that_no_draw_changes_get_the_interval_of_wilson():
    evaluation = evaluate_bundle([tiny_pair(str(n), 10, 10) for n in range(20)], draws=20)
    assert evaluation.estimate("zero.false_zero_rate") == (0, 0, pytest.approx(0.1611, abs=5e-5))
    assert evaluation.estimate("category.dino-lg.accuracy") == (1, pytest.approx(0.8389, abs=5e-5), 1)


def test_intervals_hold_their_estimates_and_come_from_the_seed():
    pairs = [tiny_pair(str(n), n, max(0, n + (n % 3) - 1)) for n in range(2, 30, 3)]
    first, again, other = (evaluate_bundle(pairs, draws=60, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    value, low, high = first.estimate("agatston.all.icc_absolute")
    assert low < value < high


def test_a_perfect_prediction_is_perfect_everywhere():
    evaluation = evaluate_bundle([tiny_pair(str(n), n, n) for n in (0, 3, 20, 30)], draws=20)
    one = ("agatston.all.icc_absolute", "category.heartlens.linear_kappa", "zero.sensitivity", "slices.f1",
           "overlap.all.dice", "lesions.same vessel.all.f1_by_volume", "size.0.any_vessel")  # fmt: skip
    assert [evaluation.estimate(name).value for name in one] == [pytest.approx(1)] * len(one)
    assert evaluation.estimate("agatston.all.sd").value == 0


# Failures are listed


def test_a_patient_that_fails_is_listed_and_in_no_number():
    good = tiny_pair("good", 10, 10)
    wrong_shape = replace(good, name="shape", predicted=good.predicted[:3])
    wrong_code = replace(good, name="code", predicted=np.where(good.predicted > 0, 9, 0).astype(np.uint8))
    unsure = replace(good, name="length", slice_probability=np.array([0.5]))
    evaluation = evaluate_bundle([good, wrong_shape, Failure("lost", "no scan"), wrong_code, unsure], draws=5)
    assert [p.name for p in evaluation.patients] == ["good"]
    assert [f.name for f in evaluation.failures] == ["shape", "lost", "code", "length"]
    assert evaluation.failures[0].reason.startswith("grid: expected labels of the shape of the CT, (4, 40, 40)")
    assert "found 9" in evaluation.failures[2].reason
    assert evaluation.failures[3].reason == "labels: expected 4 slice probabilities, found 1"


def test_a_cut_off_needs_probabilities_of_every_patient():
    pairs = [tiny_pair("a", 10, 10, slice_probability=np.array([0.1, 0.9, 0.2, 0.1])), tiny_pair("b", 10, 10)]
    evaluation = evaluate_bundle(pairs, slice_cutoff=0.5, draws=5)
    assert [f.name for f in evaluation.failures] == ["b"]
    assert list(evaluation.stages) == [SEGMENTATION, INTEGRATED]


def test_without_any_patient_there_is_no_report():
    with pytest.raises(InputRefused, match=r"no patient could be compared, 1 failed; the first: lost: no scan"):
        evaluate_bundle([Failure("lost", "no scan")])
    with pytest.raises(InputRefused, match="0 failed"):
        evaluate_bundle([])


# JSON and page


def test_an_evaluation_survives_json():
    probability = np.array([0.1, 0.9, 0.2, 0.1])
    pairs = [tiny_pair(str(n), n, n // 2, slice_probability=probability) for n in (0, 5, 12)]
    evaluation = evaluate_bundle([*pairs, Failure("lost", "no scan")], slice_cutoff=0.5, draws=10, title="a title")
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    assert Evaluation.from_json(json.loads(text)) == evaluation
    with pytest.raises(ValueError, match=r"expected schema heartlens\.evaluation/2, found 'other'"):
        Evaluation.from_json({"schema": "other"})


def test_the_page_stands_alone_and_shows_every_table_and_failure():
    probability = np.array([0.1, 0.9, 0.2, 0.1])
    pairs = [tiny_pair(f"<{n}>", n, n // 2, slice_probability=probability) for n in (0, 5, 12)]
    failure = Failure("lost", "no <scan>")
    page = render_page(
        evaluate_bundle([*pairs, failure], slice_cutoff=0.5, draws=10, title="R&D"),
        pictures=[("data:image/png;base64,AA==", "attention")],
    )
    for heading in ("Slices with calcium", "Overlap of each artery", "Precision and recall", "Risk categories",
                    "Calcium or none", "Agatston scores", "Lesions", "Where the backbones look",
                    "Patients"):  # fmt: skip
        assert f"<h2>{heading}" in page
    assert "no &lt;scan&gt;" in page
    assert "R&amp;D" in page
    assert "&lt;12&gt;" in page
    assert "not a medical device" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    assert page.count("<img ") == 3 + 1 + 4 + 3 + 1 + 1  # slices, reliability, categories, scores, sizes, attention
    assert "None" not in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_the_page_says_when_its_patients_are_few():
    few, many = (evaluate_bundle([tiny_pair(str(n), n, n) for n in range(count)], draws=5) for count in (FEW - 1, FEW))
    assert f"{FEW - 1} patients are few" in render_page(few)
    assert "patients are few" not in render_page(many)


def test_the_page_says_how_to_get_the_slice_stage_when_there_is_none():
    page = render_page(evaluate_bundle([tiny_pair("a", 10, 8), tiny_pair("b", 0, 0)], draws=5))
    assert "--slice-cutoff" in page
    assert "with the slice stage" not in page
    assert SEGMENTATION not in page  # there is nothing that it could be told apart from


# Shards


@pytest.fixture(scope="module")
def shards(phantoms, tmp_path_factory) -> Path:
    """The phantoms as shards, with splits: p5 is the one test patient."""
    folder = tmp_path_factory.mktemp("shards")
    scans = []
    for name in ("p3", "p5"):
        ct, _ = read_volume(phantoms / name / "ct.nrrd")
        scans.append(LabeledScan(name, name, "phantom", ct, read_labels(phantoms / name / "labels.nrrd", ct)))
    other, labels = tiny_scan(9)
    scans.append(LabeledScan("p0", "p0", "phantom", other, labels))
    write_shards(folder / "shards", scans)
    Splits(("p0",), ("p3",), ("p5",)).save(folder / "splits.json")
    return folder


def test_shards_give_the_numbers_of_the_folder_that_they_were_made_of(phantoms, shards, tmp_path):
    data = ("--shards", shards / "shards", "--splits", shards / "splits.json")
    assert run(*data, "--bundle", "none", "--out", tmp_path / "shards", "--draws", 5) == 0
    assert run("--reference", phantoms, "--bundle", "none", "--out", tmp_path / "folder", "--draws", 5) == 0
    one, other = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("shards", "folder"))
    assert [p["name"] for p in one["patients"]] == ["p5"]
    assert one["patients"][0]["stages"] == other["patients"][2]["stages"]
    assert one["settings"]["reference"] == "labels of 1 scan (phantom), test patients of splits.json"


def test_a_bundle_is_judged_with_and_without_its_slice_stage(shards, tmp_path):
    """Its classifier never says 1, so that with a cut-off of 1 no slice is looked at and every score is 0."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "bundle"
    shutil.copytree(plain_bundle.FOLDER, folder)
    document = plain_bundle.manifest(folder, slices={"input": plain_bundle.SLICE_VIEW, "cut_off": 1.0})
    document["vessel"]["cut_off"] = 0.0  # every island that it sees is LAD
    (folder / "manifest.json").write_text(json.dumps(document))
    data = ("--shards", shards / "shards", "--splits", shards / "splits.json")
    assert run(*data, "--bundle", folder, "--out", tmp_path / "out", "--draws", 5) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (patient,) = report["patients"]
    alone, integrated = (patient["stages"][stage] for stage in (SEGMENTATION, INTEGRATED))
    assert alone["predicted_agatston"]["LAD"] > 0
    assert integrated["predicted_agatston"]["all"] == 0
    assert report["settings"]["slice_cutoff"] == 1
    probability = patient["slice_probability"][SLICE_STAGE]
    classified = [p for p in probability if p is not None]
    assert 0 < report["classifier"]["asked"] == len(classified) < len(probability)
    page = (tmp_path / "out" / "index.html").read_text().replace("&#39;", "'")
    assert "the bundle's classifier: the vessel network sees slices of probability 1 or more" in page
    assert "vessel.onnx: SHA-256 " in page
    assert run(*data, "--bundle", folder, "--out", tmp_path / "no", "--slice-cutoff", 0.5) == 3
    more = ("--annotated-slices", "--gallery", 1, "--draws", 5)
    assert run(*data, "--bundle", folder, "--out", tmp_path / "more", *more) == 0
    again = json.loads((tmp_path / "more" / "report.json").read_text())
    assert list(again["stages"]) == [SEGMENTATION, INTEGRATED, ANNOTATED]
    assert {name: again["stages"][name] for name in report["stages"]} == report["stages"]
    (patient,) = again["patients"]
    called = np.array(patient["stages"][ANNOTATED]["predicted_slices"])
    assert called.any()
    assert not (called & ~np.array(patient["stages"][ANNOTATED]["reference_slices"])).any()
    page = (tmp_path / "more" / "index.html").read_text()
    assert "<h2>Slices with reference and prediction</h2>\n<p>With the slice stage. " in page
    assert len(again["patients"]) == page.count("dense voxels are called differently</figcaption>")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--shards", "s", "--bundle", "none"), "--shards needs --splits"),
        (("--shards", "s", "--splits", "x", "--prediction", "p"), "--bundle, to know what to judge"),
        (("--reference", "r", "--bundle", "none", "--backbone", "DINO=run"), "go with --shards"),
        (("--reference", "r", "--bundle", "nobody"), "bundle 'nobody': expected a folder"),
    ],
)
def test_words_that_do_not_go_together_are_refused(tmp_path, capsys, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r" / "someone").mkdir(parents=True)
    assert run(*words, "--out", tmp_path / "out") == 3
    assert reason in capsys.readouterr().err


# Folders


def test_label_maps_by_another_program_are_compared_by_name(phantoms, copies, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("--reference", phantoms, "--prediction", copies, "--out", out, "--draws", 20) == 0
    document = json.loads((out / "report.json").read_text())
    assert document["schema"] == "heartlens.evaluation/2"
    assert [p["name"] for p in document["patients"]] == ["p3", "p4", "p5"]
    assert document["failures"] == []
    for patient in document["patients"]:
        truth = json.loads((phantoms / patient["name"] / "truth.json").read_text())["arteries"]
        scores = patient["stages"][SEGMENTATION]["reference_agatston"]
        for artery in CORONARY:
            assert scores[artery.name] == pytest.approx(truth[artery.name]["agatston"])
    assert {path.name for path in out.iterdir()} == {"report.json", "index.html"}
    output = capsys.readouterr().out
    assert "3 patients compared, 0 failed" in output
    assert "ICC(2,1) of the Agatston score                  1.000" in output


def test_missing_strange_and_damaged_patients_are_listed(phantoms, copies, tmp_path, capsys):
    (copies / "p3.nrrd").unlink()
    shutil.copy(copies / "p4.nrrd", copies / "stranger.nrrd")
    (copies / "p5.nrrd").write_bytes((copies / "p5.nrrd").read_bytes()[:300])
    (copies / "notes.txt").write_text("not a patient")
    assert run("--reference", phantoms, "--prediction", copies, "--out", tmp_path / "out", "--draws", 5) == 0
    failures = json.loads((tmp_path / "out" / "report.json").read_text())["failures"]
    assert [f["name"] for f in failures] == ["p3", "p5", "stranger"]
    assert "no prediction of this name" in failures[0]["reason"]
    assert failures[1]["reason"].startswith(("truncated", "unreadable"))
    assert "no reference of this name" in failures[2]["reason"]
    assert "1 patients compared, 3 failed" in capsys.readouterr().out


def test_rules_are_the_first_predictor(phantoms, tmp_path):
    out = tmp_path / "out"
    assert run("--reference", phantoms, "--bundle", "none", "--out", out, "--draws", 5) == 0
    document = json.loads((out / "report.json").read_text())
    assert len(document["patients"]) == 3
    assert document["settings"]["predicted"] == "HeartLens rules"
    request = Request(bundle="none")
    expected = score_series(phantoms / "p5" / "ct.nrrd", request).case.report.total.agatston
    assert document["patients"][2]["stages"][SEGMENTATION]["predicted_agatston"]["all"] == expected


def test_results_with_a_readers_edits_are_read_as_edited(phantoms, tmp_path):
    """A result folder on both sides; in the reference the reader has removed the largest lesion."""
    result = score_series(phantoms / "p5" / "ct.nrrd", Request(segmentation=phantoms / "p5" / "labels.nrrd"))
    before, largest = result.case.report.total.agatston, result.case.report.lesions[0]
    write_outputs(result, tmp_path / "predicted" / "p5")
    edited = result.case.remove(largest.id, who="a reader")
    write_outputs(result, tmp_path / "reference" / "p5")
    shutil.rmtree(tmp_path / "reference" / "p5" / "case")
    save_case(edited, tmp_path / "reference" / "p5" / "case")
    (pair,) = read_pairs(tmp_path / "reference", tmp_path / "predicted")
    (patient,) = evaluate_bundle([pair], draws=5).patients
    comparison = patient.stages[SEGMENTATION]
    assert comparison.predicted_agatston["all"] == pytest.approx(before)
    assert comparison.reference_agatston["all"] == pytest.approx(before - largest.agatston)


def test_a_case_folder_alone_is_a_patient(phantoms, tmp_path):
    result = score_series(phantoms / "p5" / "ct.nrrd", Request(segmentation=phantoms / "p5" / "labels.nrrd"))
    save_case(result.case, tmp_path / "case")
    (pair,) = read_pairs(phantoms / "p5", tmp_path / "case")  # one against one need not share a name
    assert pair.name == "p5"
    assert np.array_equal(pair.predicted, load_case(tmp_path / "case").scored_codes)


def test_two_folders_of_one_patient_each_are_paired_by_name_alone(tmp_path):
    ct, labels = tiny_scan(10)
    for side, name in (("reference", "anna"), ("predicted", "berta")):
        (tmp_path / side / name).mkdir(parents=True)
        write_nrrd(tmp_path / side / name / "labels.nrrd", labels, ct.affine)
        write_volume(tmp_path / side / name / "ct.nrrd", ct)
    results = list(read_pairs(tmp_path / "reference", tmp_path / "predicted"))
    assert [type(r).__name__ for r in results] == ["Failure", "Failure"]
    assert [r.name for r in results] == ["anna", "berta"]
    (pair,) = read_pairs(tmp_path / "reference" / "anna", tmp_path / "predicted" / "berta")
    assert pair.name == "anna"


def test_a_case_of_another_scan_is_a_listed_failure(phantoms, tmp_path):
    result = score_series(phantoms / "p3" / "ct.nrrd", Request(segmentation=phantoms / "p3" / "labels.nrrd"))
    (tmp_path / "cases").mkdir()
    save_case(result.case, tmp_path / "cases" / "p5")
    failures = {f.name: f.reason for f in read_pairs(phantoms, tmp_path / "cases") if isinstance(f, Failure)}
    assert failures["p5"].startswith("grid: ")


def test_dicom_scans_and_dicom_seg_are_read(tmp_path):
    ct, labels = tiny_scan(10)
    uids = [f"1.2.826.0.1.3680043.8.498.{n}" for n in range(7)]
    header = CTHeader(
        study_uid=uids[0], series_uid=uids[1], frame_of_reference_uid=uids[2], sop_instance_uids=tuple(uids[3:]),
        slice_thickness_mm=3.0, kvp=120.0,
    )  # fmt: skip
    ct = CTVolume(ct.hu, ct.affine, header)
    patient = tmp_path / "reference" / "p1"
    (patient / "ct").mkdir(parents=True)
    write_ct_series(patient / "ct", ct, patient_name="Nobody", patient_id="none", description="made up")
    write_nrrd(patient / "labels.nrrd", labels, ct.affine)
    (series,) = find_series(patient / "ct")
    scan, _ = read_series(series)
    (tmp_path / "predicted" / "p1").mkdir(parents=True)
    seg = tmp_path / "predicted" / "p1" / "segmentation.dcm"
    write_seg(seg, ct=scan, codes=labels, sources=source_datasets(series, scan))
    (pair,) = read_pairs(tmp_path / "reference", tmp_path / "predicted")
    assert isinstance(pair, Pair), pair
    assert np.array_equal(pair.predicted, labels)
    assert np.array_equal(pair.reference, labels)


def test_scans_may_lie_in_a_folder_of_their_own_as_nnu_net_keeps_them(tmp_path):
    ct, labels = tiny_scan(10)
    for name in ("labelsTs", "predicted", "imagesTs"):
        (tmp_path / name).mkdir()
    write_volume(tmp_path / "imagesTs" / "case_1_0000.nii.gz", ct)
    write_nrrd(tmp_path / "labelsTs" / "case_1.nrrd", labels, ct.affine)
    write_seg_nrrd(tmp_path / "predicted" / "case_1.seg.nrrd", ct, labels)
    (pair,) = read_pairs(tmp_path / "labelsTs", tmp_path / "predicted", ct=tmp_path / "imagesTs")
    assert pair.name == "case_1"
    assert np.array_equal(pair.predicted, labels)
    (failure,) = read_pairs(tmp_path / "labelsTs", tmp_path / "predicted")
    assert "give --ct DIR" in failure.reason


def test_slice_probabilities_lie_beside_the_labels(tmp_path):
    ct, labels = tiny_scan(10)
    for side in ("reference", "predicted"):
        (tmp_path / side / "p").mkdir(parents=True)
        write_nrrd(tmp_path / side / "p" / "labels.nrrd", labels, ct.affine)
    write_volume(tmp_path / "reference" / "p" / "ct.nrrd", ct)
    beside = tmp_path / "predicted" / "p" / "slice_probability.json"
    beside.write_text("[0.1, 0.9, 0.3, 0.2]")
    (pair,) = read_pairs(tmp_path / "reference", tmp_path / "predicted")
    assert pair.slice_probability.tolist() == [0.1, 0.9, 0.3, 0.2]
    for text, reason in (("[0.1, 0.9]", "expected 4 probabilities"), ("[0.1, 0.9, 2, 0]", "0 to 1"), ("{", "for each")):
        beside.write_text(text)
        (failure,) = read_pairs(tmp_path / "reference", tmp_path / "predicted")
        assert reason in failure.reason


def test_two_files_of_one_patient_are_refused(tmp_path):
    (tmp_path / "p.nrrd").touch()
    (tmp_path / "p.nii.gz").touch()
    with pytest.raises(InputRefused, match=r"found p\.nii\.gz and p\.nrrd"):
        find_patients(tmp_path)


# The command


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--reference", "{tmp}/nowhere", "--bundle", "none", "--out", "{tmp}/out"), "input: cannot read the folder"),
        (("--reference", "{tmp}/empty", "--bundle", "none", "--out", "{tmp}/out"), "expected a folder or label file"),
        (("--reference", "{tmp}/full", "--bundle", "none", "--out", "{tmp}/full"), "holds no evaluation"),
        (("--reference", "{tmp}/full", "--bundle", "none", "--out", "{tmp}/full/file"), "is a file"),
        (("--reference", "{tmp}/full", "--bundle", "none", "--out", "{tmp}/out"), "no patient could be compared"),
    ],
)
def test_what_cannot_be_done_ends_with_3_one_line_and_nothing_written(tmp_path, capsys, arguments, reason):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "full" / "someone").mkdir()
    assert run(*(a.format(tmp=tmp_path) for a in arguments)) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert reason in captured.err
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_an_earlier_evaluation_is_replaced_only_with_force(tmp_path, capsys):
    ct, labels = tiny_scan(10)
    (tmp_path / "p").mkdir()
    write_volume(tmp_path / "p" / "ct.nrrd", ct)
    write_nrrd(tmp_path / "p" / "labels.nrrd", labels, ct.affine)
    command = ("--reference", tmp_path / "p", "--prediction", tmp_path / "p", "--out", tmp_path / "out", "--draws", 5)
    assert run(*command) == 0
    assert run(*command) == 3
    assert "--force" in capsys.readouterr().err
    report = tmp_path / "out" / "report.json"
    report.write_text(report.read_text().replace("heartlens.evaluation/2", "heartlens.evaluation/1"))
    assert run(*command, "--force", "--title", "second") == 0  # over a report of an older version too
    assert json.loads((tmp_path / "out" / "report.json").read_text())["settings"]["title"] == "second"


@pytest.mark.parametrize("room", [1000, 60_000])
def test_a_full_disk_leaves_no_half_report(tmp_path, room):
    """Neither file where there is room for none, or for the numbers but not for the page."""
    evaluation = evaluate_bundle([tiny_pair("a", 10, 10)], draws=5)
    with a_disk_with_room_for(room), pytest.raises(InputRefused, match="output: cannot write"):
        write_report(tmp_path / "out", evaluation)
    assert list((tmp_path / "out").iterdir()) == []
    write_report(tmp_path / "out", evaluation)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sizes["report.json"] < 60_000 < sizes["index.html"]


@pytest.mark.parametrize("more", [("--slice-cutoff", 2), ("--draws", 0), ("--prediction", "x")])
def test_wrong_usage_ends_with_2(tmp_path, more, capsys):
    with pytest.raises(SystemExit) as ended:
        run("--reference", tmp_path, "--bundle", "none", "--out", tmp_path / "out", *more)
    assert ended.value.code == 2


def test_an_estimate_without_value_is_none_and_not_nan():
    evaluation = evaluate_bundle([tiny_pair("a", 10, 10)], draws=5)
    assert evaluation.estimate("agatston.all.icc_absolute") == Estimate(None, None, None)
    values = [v for s in evaluation.stages.values() for e in s.estimates.values() for v in e]
    assert not any(v is not None and math.isnan(v) for v in values)
