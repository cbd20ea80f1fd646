"""A cohort on a real SLURM of one node: `test_slurm.py` runs this where there is no other network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from cohort_scans import SCANS, STATE, plan, state, write_scans
from page_commands import block, shell
from slurm_node import Slurm

from heartlens.cohort.cluster import Workers
from heartlens.cohort.run import run_cohort
from heartlens.cohort.settings import settings_of
from heartlens.cohort.tables.table import CohortTable

PAGE = "cohort.md"
LIMIT_S = 900


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    node = Slurm(tmp_path_factory.mktemp("slurm") / "node")
    yield node
    node.end()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The cohort after a run in one process that nobody disturbed."""
    place = tmp_path_factory.mktemp("quiet")
    write_scans(place / "scans")
    folder = plan(place / "scans", out=place / "cohort")
    run_cohort(folder, Workers(0))
    CohortTable(folder).write()
    return folder


@pytest.fixture
def planned(quiet, tmp_path):
    return plan(quiet.path.parent / "scans", out=tmp_path / "cohort")


@pytest.fixture
def environment(slurm, tmp_path):
    """Of a shell in which `heartlens` is the one under test, as on a login node."""
    return {**shell(tmp_path / "bin", slurm.environment), "SBATCH_OUTPUT": "/dev/null"}


def test_an_array_gives_the_table_of_a_quiet_run(slurm, planned, quiet, environment):
    """The page's own commands and job, word for word, in the folder above the cohort's."""
    place = planned.path.parent
    (place / "one.sbatch").write_text(block(PAGE, "#!/bin/bash", "cohort one"))
    subprocess.run(["sh", "-euc", block(PAGE, "--keys", "sbatch")], cwd=place, env=environment, check=True, timeout=120)
    slurm.wait_for_jobs(LIMIT_S)
    assert state(planned) == state(quiet)
    assert len(state(planned)) == SCANS, STATE
    assert not list(planned.work.iterdir())


def test_jobs_of_dask_give_the_table_of_a_quiet_run_and_the_scheduler_listens_where_it_is_told(
    slurm, planned, quiet, environment, tmp_path
):
    page = block(PAGE, "walltime", "worker_extra_args")
    here = {"python": sys.executable, "scheduler_options": {"host": "127.0.0.1"}, "log_directory": str(tmp_path)}
    lines = [
        page, f'python = "{here["python"]}"', f'log_directory = "{here["log_directory"]}"',
        '[scheduler_options]\nhost = "127.0.0.1"',
    ]  # fmt: skip
    (tmp_path / "slurm.toml").write_text("\n".join(lines))
    command = ["heartlens", "cohort", "run", str(planned.path), "--slurm", "slurm.toml", "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    settings = settings_of(planned.document["options"])[0]
    end = time.monotonic() + LIMIT_S
    while process.poll() is None and not planned.keys_with_rows(settings):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert len(slurm.ask("squeue", "--noheader").splitlines()) == 2, "two jobs were asked for"
    listening = [c.laddr.ip for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert set(listening) == {"127.0.0.1"}, "the scheduler or its pages listen to others"
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    assert state(planned) == state(quiet)
    slurm.wait_for_jobs(60)


def test_a_job_that_is_cancelled_counts_nothing_and_one_that_is_killed_is_counted(slurm, planned, environment):
    settings = settings_of(planned.document["options"])[0]
    key = next(row["key"] for row in planned.planned(("key",), where="status = 'planned'"))
    place = planned.work / f"{key}-{settings}"
    job = ["sbatch", "--parsable", "--wrap", f"exec heartlens cohort one {planned.path} {key}"]

    def begin() -> str:
        number = subprocess.run(job, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        end = time.monotonic() + 120
        while not (place / "attempts").is_file():
            assert time.monotonic() < end
            time.sleep(0.01)
        return number

    slurm.ask("scancel", begin())
    slurm.wait_for_jobs(60)
    assert planned.row(key, settings) is None
    assert not place.exists(), "an attempt is counted that was ended in order"
    begin()
    os.kill(json.loads((place / ".lock").read_text())["pid"], signal.SIGKILL)  # as by the kernel, for its memory
    slurm.wait_for_jobs(60)
    assert (place / "attempts").read_text() == "1"
    subprocess.run(job, env=environment, capture_output=True, check=True)
    slurm.wait_for_jobs(120)
    assert planned.row(key, settings)["status"] == "scored"
    assert not place.exists()
