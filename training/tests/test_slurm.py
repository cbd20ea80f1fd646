"""The SLURM example, with stand-ins for the three commands of a cluster: where the limit comes, the job is requeued."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "slurm.sbatch"

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


def told(job) -> list[str]:
    path = Path(job["TOLD"])
    return path.read_text().splitlines() if path.exists() else []


def test_before_the_limit_the_run_saves_and_the_job_is_queued_again(job):
    process = subprocess.Popen(["bash", str(SCRIPT), "training.train_unet", "a.toml", "--out", "R"], env=job)
    while not told(job):
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 0
    run, *after = told(job)
    assert run.startswith("srun torchrun --nnodes=2 --nproc-per-node=8 --rdzv-id=17 --rdzv-backend=c10d ")
    assert run.endswith("--rdzv-endpoint=node1:29500 -m training.train_unet a.toml --out R")
    assert after == ["scancel --signal=TERM 17.0", "saved", "scontrol requeue 17"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_that_ends_by_itself_ends_the_job_with_its_code(job, code):
    done = subprocess.run(["bash", str(SCRIPT), "training.train_unet"], env={**job, "END": str(code)}, timeout=60)
    assert done.returncode == code
    assert len(told(job)) == 1
