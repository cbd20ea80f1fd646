"""nnU-Net on our patients by one command: trained on whom we train on, asked of whom we test, judged as we are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.core.ct import CTHeader, CTVolume
from training import rival
from training.datasets.scans import UNREVIEWED, LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits
from training.evaluation.rivals.nnunet import REFERENCE, SIZES, write_dataset

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


def chest(number: int) -> LabeledScan:
    """A block of plaque in fat, and four dense voxels that nobody reviewed."""
    hu = np.random.default_rng(number).normal(-80, 10, (12, 48, 48)).astype(np.int16)
    hu[5:7, 20 + number : 24 + number, 20:24] = 400
    hu[2, 40, 4:8] = 300
    labels = np.where(hu == 400, 2, np.where(hu == 300, UNREVIEWED, 0)).astype(np.uint8)
    ct = CTVolume(hu, np.diag([0.7, 0.7, 3.0, 1.0]), CTHeader(kvp=120.0, slice_thickness_mm=3.0))
    return LabeledScan(f"made-up/{number}", f"p{number}", "made-up", ct, labels)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Five patients: three teach, one validates, one is tested."""
    folder = tmp_path_factory.mktemp("rival")
    write_shards(folder / "shards", [chest(n) for n in range(5)])
    Splits(("p0", "p1", "p2"), ("p3",), ("p4",)).save(folder / "splits.json")
    return folder


def arguments(data: Path, *words: str) -> list[str]:
    given = ["--shards", str(data / "shards"), "--splits", str(data / "splits.json")]
    return [*given, "--device", "cpu", "--draws", "20", *words]


@pytest.fixture(scope="module")
def run(data) -> Path:
    if not rival.PYTHON.exists():
        reason = "nnU-Net is not installed in .venv-nnunet (make .venv-nnunet/installed)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    assert rival.main(arguments(data, "--size", "smoke", "--out", str(data / "out"))) == 0
    return data / "out"


def test_nnunet_is_planned_trained_and_asked_and_its_label_maps_are_judged(run):
    report = json.loads((run / "report" / "report.json").read_text())
    (patient,) = report["patients"]
    assert (patient["name"], report["failures"]) == ("made-up-4", [])
    predicted = nibabel.load(run / "predictions" / "made-up-4.nii.gz")
    reference = nibabel.load(run / REFERENCE / "made-up-4" / "labels.nii.gz")
    np.testing.assert_allclose(predicted.affine, reference.affine, atol=1e-5)
    assert np.asarray(predicted.dataobj).max() <= 6  # no "ignore" is predicted
    assert set(np.unique(reference.dataobj)) == {0, 2}  # and none is in the reference


def test_its_fold_is_our_split_and_nobody_who_is_tested_is_among_those_it_sees(run):
    (fold,) = json.loads(next(run.glob("nnUNet_preprocessed/*/splits_final.json")).read_text())
    assert fold == {"train": [f"made-up-{n}" for n in range(3)], "val": ["made-up-3"]}
    seen = {path.name for path in run.glob("nnUNet_raw/*/*/*.nii.gz")}
    assert not any("made-up-4" in name for name in seen)
    assert len(seen) == 8


def test_the_same_command_trains_nothing_anew_and_another_size_is_refused(run, data, capsys):
    checkpoint = next(run.glob("nnUNet_results/*/*/fold_0/checkpoint_final.pth"))
    before = checkpoint.stat().st_mtime_ns
    words = arguments(data, "--size", "smoke", "--out", str(run))
    assert rival.main(words) == 0
    assert checkpoint.stat().st_mtime_ns == before
    assert rival.main([*words, "--size", "full"]) == 3
    assert "other configuration, epochs, iterations" in capsys.readouterr().err


def test_a_missing_environment_and_an_error_of_nnunet_are_told(data, tmp_path, capsys):
    words = arguments(data, "--size", "smoke", "--out", str(tmp_path / "out"))
    assert rival.main([*words, "--python", str(tmp_path / "none")]) == 3
    assert "make .venv-nnunet/installed, or give --python" in capsys.readouterr().err
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho out of memory; exit 7\n")
    program.chmod(0o755)
    assert rival.main([*words, "--python", str(program)]) == 3
    assert "nnU-Net ended with 7: out of memory" in capsys.readouterr().err


def test_a_dataset_that_was_cut_short_is_ended(data, tmp_path):
    from training.datasets.shards import ShardSet

    shards, splits = ShardSet.open(data / "shards"), Splits.load(data / "splits.json")
    write_dataset(shards, splits, tmp_path)
    dataset = next((tmp_path / "nnUNet_raw").iterdir()) / "dataset.json"
    whole = dataset.read_text()
    assert json.loads(whole)["labels"]["ignore"] == UNREVIEWED
    document = json.loads(whole)
    del document["labels"]["ignore"]  # as after a kill
    dataset.write_text(json.dumps(document))
    (tmp_path / "splits_final.json").unlink()
    write_dataset(shards, splits, tmp_path)
    assert dataset.read_text() == whole
    assert (tmp_path / "splits_final.json").exists()


def test_the_full_size_is_what_nnunet_does_by_itself():
    full = SIZES["full"]
    assert full.configuration == "3d_fullres"
    assert (full.epochs, full.iterations, full.validation_iterations) == (1000, 250, 50)


def batch_job(tmp_path, srun: str, *words: str) -> subprocess.Popen:
    """The batch script with stand-ins for SLURM's commands."""
    standins = {"srun": srun, "scontrol": f'echo "scontrol $*" >> {tmp_path}/told'}
    for name, text in standins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    paths = [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **os.environ, "PATH": os.pathsep.join(paths), "SLURM_JOB_ID": "7",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")]),
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(REPOSITORY / "training" / "rival.sbatch"), *words], env=environment, cwd=REPOSITORY,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_batch_script_runs_the_command_at_full_size(tmp_path):
    said, _ = batch_job(tmp_path, 'echo "$*"; exec "$@"', "--help").communicate(timeout=120)
    assert said.startswith("python -m training.rival --size full --device cuda --help\n")
    assert "usage: python -m training.rival" in said


def test_at_its_time_limit_the_job_goes_back_into_the_queue(tmp_path):
    job = batch_job(tmp_path, f"touch {tmp_path}/begun; exec sleep 60 > /dev/null 2>&1")
    while not (tmp_path / "begun").exists():
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    while not (tmp_path / "told").exists() and job.poll() is None:
        time.sleep(0.02)
    job.communicate(timeout=20)
    assert job.returncode == 0
    assert (tmp_path / "told").read_text() == "scontrol requeue 7\n"
