"""Archive and node with a real Orthanc, in a network that reaches nothing: what the stories in this folder tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, skip_or_fail
from orthanc_archive import alone, missing

pytestmark = pytest.mark.slow

LIMIT_S = 1500


@pytest.mark.parametrize("stories", ["client_stories.py", "node_stories.py", "tls_stories.py", "cohort_stories.py"])
def test_the_stories_end_well(stories, tmp_path):
    if what := missing():
        skip_or_fail(f"the stories with an archive need {what}")
    command = alone("--mount")
    if not command:
        # Not skip_or_fail: what a machine's kernel forbids, no installation mends, and Orthanc listens to everybody.
        pytest.skip("no network of one's own can be made here: needs Linux that allows unshare --net")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-s", "--durations=0", "--tb=short"]
    # pynetdicom leaves a socket to the garbage collector where nobody answers.
    arguments += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning", "-W", "ignore::ResourceWarning"]
    arguments += [f"--basetemp={tmp_path / 'stories'}", str(Path(__file__).with_name(stories))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [*command, sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        check=False, timeout=LIMIT_S,
    )  # fmt: skip
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-3000:]
