#!/usr/bin/env python3
"""Use this checkout in a 3D Slicer that is installed here: add it to Slicer's modules, and run the tests that need it.

    python scripts/in_slicer.py --slicer ~/Slicer-5.12.3-linux-amd64/Slicer     # both
    python scripts/in_slicer.py --test                                          # tests alone; finds Slicer itself

Exit 0: done. 1: a test failed, or none was run. 2: there is no Slicer here. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MODULE = Path(__file__).resolve().parents[1] / "HeartLensCAC"
TESTS = MODULE / "Testing" / "in_slicer"
FAILED, NO_SLICER = 1, 2
LIMIT_SECONDS = 1800

ADD_TO_SETTINGS = """
import slicer
settings = slicer.app.revisionUserSettings()
said = settings.value("Modules/AdditionalPaths") or []
paths = [said] if isinstance(said, str) else list(said)
if {path!r} not in [slicer.app.toSlicerHomeAbsolutePath(path) for path in paths]:
    settings.setValue("Modules/AdditionalPaths", [*paths, {path!r}])
settings.sync()
print("HeartLens is among the modules of Slicer", slicer.app.applicationVersion)
slicer.util.exit(0)
"""


def find_slicer(given: str | None) -> Path | None:
    """The program: as said, else by the variable SLICER, else on the path, else the newest of those that are here."""
    if given or os.environ.get("SLICER"):
        path = Path(given or os.environ["SLICER"]).expanduser()
        path = path / "Slicer" if path.is_dir() else path
        return path if path.is_file() else None
    if named := shutil.which("Slicer"):
        return Path(named)
    usual = [*Path.home().glob("Slicer-*/Slicer"), *Path("/opt").glob("Slicer*/Slicer")]
    usual += Path("/Applications").glob("Slicer*.app/Contents/MacOS/Slicer")
    usual += Path(os.environ.get("LOCALAPPDATA", "/nowhere")).glob("slicer.org/Slicer*/Slicer.exe")
    return max(usual, default=None, key=_version)


def _version(program: Path) -> tuple[int, ...]:
    """Numbers of the release in the name of its folder, as Slicer-5.12.3-linux-amd64; none where it has none."""
    named = [re.search(r"\d+(?:\.\d+)+", part) for part in program.parts if part.startswith("Slicer")]
    return next((tuple(map(int, match[0].split("."))) for match in named if match), ())


def install(slicer: Path) -> int:
    """Write the module's folder into the settings of this Slicer revision; the reader can take it out there again."""
    code = ADD_TO_SETTINGS.format(path=MODULE.as_posix())
    return _run([str(slicer), "--no-splash", "--no-main-window", "--ignore-slicerrc", "--python-code", code])


def test(slicer: Path) -> int:
    """Run `Testing/in_slicer` in this Slicer, with settings that are thrown away.

    Slicer's exit code alone is not believed: the tests must also have said how many of them passed.
    """
    with tempfile.TemporaryDirectory() as folder:
        result_file = Path(folder) / "told.json"
        options = ["--testing", "--no-splash", "--ignore-slicerrc", "--additional-module-paths", str(MODULE)]
        code = _run([str(slicer), *options, "--python-script", str(TESTS / "run.py"), str(result_file)])
        return verdict(code, result_file)


def verdict(code: int, result_file: Path) -> int:
    """0 only where Slicer ended well and said that at least one test ran and all of them passed."""
    try:
        result = json.loads(result_file.read_text())
    except (OSError, ValueError):
        print("Slicer ended without saying what the tests gave: this counts as a failure", file=sys.stderr)
        return FAILED
    print(f"in Slicer {result['slicer']}: {result['run']} tests, {result['bad']} bad, {result['skipped']} skipped")
    if result["run"] == 0 or result["run"] == result["skipped"]:
        print("no test was run: this counts as a failure", file=sys.stderr)
        return FAILED
    return FAILED if code or result["bad"] else 0


def _run(command: list[str]) -> int:
    try:
        return subprocess.run(command, timeout=LIMIT_SECONDS, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return FAILED


def main(arguments: list[str] | None = None) -> int:
    """Install the module in a Slicer, run its tests there, or both; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slicer", help="the program Slicer, or its folder")
    parser.add_argument("--install", action="store_true", help="only add the module to Slicer's settings")
    parser.add_argument("--test", action="store_true", help="only run the tests")
    options = parser.parse_args(arguments)
    slicer = find_slicer(options.slicer)
    if slicer is None:
        where = options.slicer or os.environ.get("SLICER") or "the usual places"
        print(f"no 3D Slicer in {where}; set its location: make slicer SLICER=/path/to/Slicer", file=sys.stderr)
        return NO_SLICER
    both = options.install == options.test
    if both or options.install:
        code = install(slicer)
        if code:
            return FAILED
    return test(slicer) if both or options.test else 0


if __name__ == "__main__":
    sys.exit(main())
