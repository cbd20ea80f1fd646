"""A job on a cluster comes to its time limit: the run saves, also with processes that read, and the job is requeued.

SLURM's three commands are stand-ins; the run is real.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from needed import torch

from training.datasets.shard_writer import write_shards
from training.datasets.splits import split_patients
from training.engine.run_log import read_log
from training.tests.test_train_unet import TINY, blob_scan

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "slurm.sbatch"
REPOSITORY = SCRIPT.parents[1]

STANDINS = {
    "scontrol": '[ "$1" = show ] && { echo node1; echo node2; } || echo "scontrol $*" >> "$TOLD"',
    "scancel": 'echo "scancel $*" >> "$TOLD"; touch "$TOLD.stop"',
    # A step that runs until it is told to stop, then ends as torchrun does; or ends at once with a code.
    "srun": 'echo "srun $*" >> "$TOLD"; [ -z "${END:-}" ] || exit "$END"\n'
    'while [ ! -e "$TOLD.stop" ]; do sleep 0.05; done; echo saved >> "$TOLD"; exit 1',
}


@pytest.fixture
def job(tmp_path):
    """Environment of a job on two nodes of eight GPUs."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for name, text in STANDINS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **slurm, "SLURM_GPUS_ON_NODE": "8", "PATH": path, "TOLD": str(tmp_path / "told")}


def recorded(job) -> list[str]:
    path = Path(job["TOLD"])
    return path.read_text().splitlines() if path.exists() else []


def test_before_the_limit_the_run_saves_and_the_job_is_queued_again(job):
    process = subprocess.Popen(["bash", str(SCRIPT), "training.train_unet", "a.toml", "--out", "R"], env=job)
    while not recorded(job) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, "the job ended before its step began"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 0
    run, *after = recorded(job)
    assert run.startswith("srun torchrun --nnodes=2 --nproc-per-node=8 --rdzv-id=17 --rdzv-backend=c10d ")
    assert run.endswith("--rdzv-endpoint=node1:29500 -m training.train_unet a.toml --out R")
    assert after == ["scancel --signal=TERM 17.0", "saved", "scontrol requeue 17"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_ends_by_itself_ends_the_job_with_its_code(job, code):
    done = subprocess.run(["bash", str(SCRIPT), "training.train_unet"], env={**job, "END": str(code)}, timeout=60)
    assert done.returncode == code
    assert len(recorded(job)) == 1


def test_a_signal_to_all_processes_of_a_run_lets_it_save(tmp_path):
    """torchrun, SLURM and Ctrl-C tell readers too; one that ended at once would end the run before it saves."""
    shards = write_shards(tmp_path / "shards", (blob_scan(n) for n in range(10)))
    split_patients(shards, seed=1, proportions=(6, 2, 2)).save(tmp_path / "splits.json")
    (tmp_path / "empty.toml").write_text("")
    long = ["steps=100000", "save_every=100000", "validate_every=100000", "workers=1"]
    words = [
        str(tmp_path / "empty.toml"), *TINY, *long, "--shards", str(tmp_path / "shards"),
        "--splits", str(tmp_path / "splits.json"), "--out", str(tmp_path / "run"), "--device", "cpu",
    ]  # fmt: skip
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    process = subprocess.Popen(
        [sys.executable, "-m", "training.train_unet", *words],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(read_log(tmp_path / "run")) < 3:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 4, errors
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert torch.load(saved, weights_only=True)["step"] == max(read_log(tmp_path / "run"))
