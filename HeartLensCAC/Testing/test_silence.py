"""HeartLens speaks to nobody: no name is looked up, nothing is connected, nothing is written outside of the result.

ONNX Runtime sends usage data from 1.29 on, but not where `CI` is set; so these run without it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import write_phantom

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent

SOURCES = (HERE.parent, HERE.parents[1], HERE, HERE.parents[1] / "training" / "tests")
"""Where pytest finds modules, see pyproject.toml."""


def run_alone(tmp_path: Path, *arguments: str) -> tuple[dict[str, int], list[str], list[str]]:
    """Attempts to leave the machine, files that were written into home or the folder for temporary files, the roads."""
    isolated = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("no empty network can be made here: needs Linux that allows unshare --map-root-user --net")
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH")}
    kept["PYTHONPATH"] = os.pathsep.join(map(str, SOURCES))
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(home))
    done = subprocess.run(
        [*isolated, sys.executable, str(HERE / "quiet_run.py"), *arguments],
        env=kept | places | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stderr.splitlines()[-1][done.stderr.splitlines()[-1].index('{"attempts"') :])
    assert not told["CI"]
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
    return told["attempts"], files, told["roads"]


def test_no_road_reaches_for_anybody_or_leaves_anything_behind(tmp_path):
    """Command line, rules, worker, panel and training, with all libraries that they load."""
    parameters = PhantomParameters.random(2, matrix=128, increment_mm=5.0, slice_thickness_mm=5.0, traps=())
    write_phantom(tmp_path / "phantom", make_phantom(parameters), format="nrrd")
    out = tmp_path / "out"
    out.mkdir()
    attempts, files, roads = run_alone(tmp_path, "all", str(tmp_path / "phantom" / "ct.nrrd"), str(out))
    assert set(attempts.values()) == {0}, attempts
    assert files == []
    assert {"command", "rules", "worker"} <= set(roads)
    assert os.environ.get("CI") != "true" or set(roads) == {"command", "rules", "worker", "panel", "training"}
    assert all((out / road / "report.json").is_file() for road in ("command", "rules", "worker"))
    assert {path.name for path in out.iterdir()} == set(roads)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "out", "phantom"}


def test_a_look_up_of_a_name_would_be_seen(tmp_path):
    attempts, _, _ = run_alone(tmp_path, "look_up")
    assert sum(attempts.values()) > 0


def test_telemetry_is_off_before_any_library_can_ask():
    code = "import heartlens, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
