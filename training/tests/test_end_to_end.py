"""The whole road by its one command, stopped once on the way: from phantoms to a report, and the report recounted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from needed import need, torch
from scipy import ndimage

from heartlens.io.volumes import write_volume
from heartlens.networks.bundle import Bundle, load_bundle
from heartlens.pipeline import Request, score_series
from training.datasets.shards import ShardSet
from training.datasets.splits import Splits, scans_of
from training.end_to_end import RUNS, RoadRecipe, main, stages_of
from training.evaluation.results import INTEGRATED, SEGMENTATION, Evaluation

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]

SMALL = ("--size", "smoke")
"""The same command as for a real road; training/runs/road-smoke.toml has fewer and smaller things."""

STAGES = ("phantoms", "splits", "dino", "dino-lg", "slices-dino", "slices-dino-lg", "unet", "bundle", "report")


def start(out: Path) -> subprocess.Popen:
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    return subprocess.Popen(
        [sys.executable, "-m", "training.end_to_end", "--out", str(out), *SMALL],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip


class Road:
    """A road, the lines of its two starts, and what it made."""

    def __init__(self, out: Path) -> None:
        need("onnxscript")
        self.out = out
        process = start(out)
        log = out / "runs" / "dino" / "log.jsonl"
        while process.poll() is None and not (log.exists() and log.read_text()):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)  # after the first step of the first training
        self.first, self.first_errors = process.communicate(timeout=120)
        self.first_code = process.returncode
        process = start(out)
        self.second, errors = process.communicate(timeout=600)
        assert process.returncode == 0, self.second + errors
        self.shards, self.splits = ShardSet.open(out / "shards"), Splits.load(out / "splits.json")
        self.report = json.loads((out / "report" / "report.json").read_text())
        self.page = (out / "report" / "index.html").read_text()
        self.bundle: Bundle = load_bundle(out / "bundle")

    @property
    def tested(self) -> tuple[int, ...]:
        return scans_of(self.shards, self.splits.test)

    def patient(self, scan: int) -> dict:
        name = self.shards.scans[scan].name
        return next(p for p in self.report["patients"] if p["name"] == name)

    def most_calcified(self) -> int:
        return max(self.tested, key=lambda n: self.shards.scans[n].agatston["total"])


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Road:
    return Road(tmp_path_factory.mktemp("road") / "out")


def agatston(hu: np.ndarray, labels: np.ndarray, pixel_mm2: float, increment_mm: float) -> float:
    """Recounted: 4-connected islands of one artery on one slice, area x weight of the peak, k = increment / 3 mm."""
    total = 0.0
    for artery in (1, 2, 3, 4, 6):
        for image, label in zip(hu, labels, strict=True):
            islands, count = ndimage.label((label == artery) & (image >= 130))
            for n in range(1, count + 1):
                area = (islands == n).sum() * pixel_mm2
                weight = np.searchsorted((130, 200, 300, 400), image[islands == n].max(), side="right")
                total += area * weight * increment_mm / 3 if area >= 1 else 0
    return total


def predicted(road: Road, scan: int, folder: Path, **changes) -> np.ndarray:
    """What the bundle makes of a scan, by the front end that users take."""
    write_volume(folder / "ct.nrrd", road.shards.ct(scan))
    request = Request(bundle=str(road.out / "bundle"), **changes)
    return score_series(folder / "ct.nrrd", request).case.scored_codes


def test_a_stopped_road_goes_on_and_leaves_what_is_finished(road):
    assert road.first_code == 4
    assert "run the same command to resume" in road.first + road.first_errors
    lines = [line.split() for line in road.second.splitlines()]
    assert tuple(line[0] for line in lines) == (*STAGES, "together")
    lines_shown = [" ".join(line[1:]) for line in lines[:-1]]
    assert lines_shown[:2] == ["already done"] * 2
    assert all(
        re.fullmatch(r"[\d.]+ s", text) for text in lines_shown[3:]
    )  # a quick machine may have finished the third
    assert {path.stem for path in (road.out / "logs").iterdir()} == set(STAGES)
    steps = [json.loads(line)["step"] for line in (road.out / "runs" / "dino" / "log.jsonl").read_text().splitlines()]
    assert set(steps) == set(range(1, 7))


def test_a_finished_road_is_left_as_it_is(road, capsys):
    before = {path: path.stat().st_mtime_ns for path in road.out.rglob("*") if path.is_file()}
    assert main(["--out", str(road.out), *SMALL]) == 0
    assert capsys.readouterr().out.count("already done") == len(STAGES)
    assert before == {path: path.stat().st_mtime_ns for path in road.out.rglob("*") if path.is_file()}


def test_another_road_does_not_go_on_in_the_same_folder(road, capsys, tmp_path):
    assert main(["--out", str(road.out), *SMALL, "seed=5"]) == 3
    assert "holds another run (setting: there, now): seed: 1, 5" in capsys.readouterr().err
    (tmp_path / "mine.txt").touch()
    assert main(["--out", str(tmp_path), *SMALL]) == 3
    assert "holds no road" in capsys.readouterr().err


def test_the_bundle_holds_both_networks_proven_equal_and_the_cut_offs_of_its_runs(road):
    manifest = json.loads((road.out / "bundle" / "manifest.json").read_text())
    parity = manifest["parity"]
    assert parity["logits"] < 1e-3
    assert parity["slice_probability"] < 1e-3
    assert parity["agatston"] == 0
    assert parity["scans"] == 2
    best = torch.load(road.out / "runs" / "unet" / "best.pt", weights_only=True)
    assert road.bundle.vessel.cut_off == best["islands"]["cut_off"]
    classifier = json.loads((road.out / "runs" / "slices-dino-lg" / "slice_classifier.json").read_text())
    assert road.bundle.slices is not None
    assert road.bundle.slices.cut_off == classifier["cut_off"]


def test_the_report_judges_the_test_patients_and_nobody_else(road):
    assert [p["name"] for p in road.report["patients"]] == [road.shards.scans[n].name for n in road.tested]
    assert road.report["failures"] == []
    assert list(road.report["stages"]) == [SEGMENTATION, INTEGRATED]
    assert set(road.report["backbones"]) == {"DINO", "DINO-LG"}
    assert road.report["settings"]["slice_cutoff"] == road.bundle.slices.cut_off
    assert Evaluation.from_json(road.report).to_json() == road.report


def test_the_page_has_every_table_and_figure(road):
    for heading in ("Slices with calcium", "Overlap of each artery", "Precision and recall of each artery",
                    "Risk categories", "Calcium or none", "Agatston scores", "Lesions", "Where the backbones look",
                    "Patients"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in road.page
    calcified = sum(bool(road.shards.scans[n].calcified_slices) for n in road.tested)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", road.page)
    kinds = ("Slices: ", "dino-lg, ", "heartlens, ", "Bland", "outlined")
    assert [sum(kind in c for c in captions) for kind in kinds] == [5, 2, 2, 2, min(3, calcified)]
    assert road.page.count("<img ") == len(captions) == 5 + 1 + 4 + 3 + 1 + min(3, calcified)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", road.page)


def test_the_numbers_of_a_scan_are_those_of_an_independent_count(road, tmp_path):
    scan = road.most_calcified()
    record, patient = road.shards.scans[scan], road.patient(scan)
    hu, labels = np.array(road.shards.image(scan)), np.array(road.shards.labels(scan))
    increment_mm, row_mm, column_mm = record.spacing_mm
    truth = agatston(hu, labels, row_mm * column_mm, increment_mm)
    assert truth > 0
    coronary = (labels > 0) & (labels != 5) & (hu >= 130)  # pixels are larger than 1 mm2: each of them counts
    for stage, switched_on in ((SEGMENTATION, False), (INTEGRATED, True)):
        codes = predicted(road, scan, tmp_path, slice_stage=switched_on)
        stage_row = patient["stages"][stage]
        assert stage_row["reference_agatston"]["all"] == pytest.approx(truth)
        expected = agatston(hu, codes, row_mm * column_mm, increment_mm)
        assert stage_row["predicted_agatston"]["all"] == pytest.approx(expected)
        by_bundle = np.isin(codes, (1, 2, 3, 4, 6))
        assert stage_row["reference_slices"] == coronary.any(axis=(1, 2)).tolist()
        assert stage_row["predicted_slices"] == by_bundle.any(axis=(1, 2)).tolist()
        for row, known, told_by in (("all", coronary, by_bundle), ("LAD", (labels == 2) & (hu >= 130), codes == 2)):
            counted = [int((a & b).sum()) for a, b in ((known, told_by), (~known, told_by), (known, ~told_by))]
            assert [stage_row["voxels"][row][name] for name in ("tp", "fp", "fn")] == counted


def test_sums_over_patients_are_those_of_the_patients(road):
    for stage in (SEGMENTATION, INTEGRATED):
        summary = road.report["stages"][stage]
        each = [p["stages"][stage] for p in road.report["patients"]]
        edges = [10, 100, 400]  # DINO-LG's categories of whole scores
        places = [[int(np.searchsorted(edges, np.floor(c[side]["all"] + 0.5))) for c in each]
                  for side in ("reference_agatston", "predicted_agatston")]  # fmt: skip
        matrix = np.zeros((4, 4), int)
        np.add.at(matrix, tuple(places), 1)
        assert summary["confusion"]["dino-lg"] == matrix.tolist()
        assert summary["voxels"]["RCA"]["tp"] == sum(c["voxels"]["RCA"]["tp"] for c in each)
        slices = [np.array(c[side]) for side in ("reference_slices", "predicted_slices") for c in each]
        truth, predicted = np.concatenate(slices[: len(each)]), np.concatenate(slices[len(each) :])
        assert summary["slices"]["fn"] == int((truth & ~predicted).sum())


# The recipe


def test_every_stage_is_a_command_that_a_user_could_type(tmp_path):
    stages = stages_of(RoadRecipe(phantom=("matrix=64",)), tmp_path)
    assert tuple(stage.name for stage in stages) == STAGES
    assert stages[0].command == (
        f"python -m training.prepare phantoms --out {tmp_path}/shards --count 48 --seed 1 --balanced --set matrix=64"
    )
    assert str(RUNS / "mini-dino-lg.toml") in stages[3].command


def test_a_road_without_recipes_is_refused(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out"), 'unet=["steps=3"]']) == 3
    assert "unet must begin with the name of a recipe" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
