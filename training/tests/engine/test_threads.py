"""Threads that wait do not take the cores of others; who knows better says so in the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SETTINGS = ("OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({}, "1 PASSIVE"), ({"OPENBLAS_NUM_THREADS": "4", "OMP_WAIT_POLICY": "ACTIVE"}, "4 ACTIVE")],
)
def test_training_starts_libraries_with_threads_that_sleep_unless_told_otherwise(setting, expected):
    code = f"import os, training; print(*(os.environ[name] for name in {SETTINGS}))"
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    run = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "PYTHONPATH": str(REPOSITORY), **setting},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == expected
