"""A cohort on a real SLURM, in a network that reaches nothing: what `slurm_stories.py` tells. `make slurm` runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from orthanc_archive import alone
from slurm_node import missing

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

LIMIT_S = 3000


def test_the_stories_end_well(tmp_path):
    what = missing() or ("" if importlib.util.find_spec("dask_jobqueue") else "dask-jobqueue")
    reason = (
        f"the stories on SLURM need {what}: apt install slurmctld slurmd slurm-client munge; pip install dask-jobqueue"
    )
    if what and os.environ.get("HEARTLENS_SLURM"):
        pytest.fail(reason)
    if what or not (command := alone("--mount")):
        pytest.skip(reason if what else "no network of one's own can be made here: needs unshare --net")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-s", "--durations=0", "--tb=short"]
    arguments += [f"--basetemp={tmp_path / 'stories'}", str(Path(__file__).with_name("slurm_stories.py"))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [*command, sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        check=False, timeout=LIMIT_S,
    )  # fmt: skip
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-3000:]
