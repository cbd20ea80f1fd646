#!/usr/bin/env python3
"""Write the lists of HeartLensCAC/CMakeLists.txt from the disk; with --check only say whether they are right.

A file that is missing there works from a checkout and is absent in the packaged extension.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

MODULE = Path(__file__).resolve().parents[1] / "HeartLensCAC"
LEFT_OUT = ("Testing", "heartlens.egg-info", "__pycache__", "viewer")
"""Folders of the checkout that are no part of the installed module; Slicer is a viewer itself."""

FOR_DEVELOPERS = (
    "Resources/requirements-test.txt",
    "Resources/requirements-slicer.txt",
    "Resources/requirements-viewer.txt",
    "Resources/requirements-cohort.txt",
    "Resources/Icons/HeartLensCAC.svg",
)


def scripts() -> list[str]:
    """Python files that are installed, the module's own first."""
    return _files(lambda path: path.suffix == ".py")


def resources() -> list[str]:
    """Everything else that is installed."""
    return [
        name
        for name in _files(lambda path: path.suffix not in (".py", ".pyc") and path.name != "CMakeLists.txt")
        if name not in FOR_DEVELOPERS
    ]


def _files(is_wanted: Callable[[Path], bool]) -> list[str]:
    files = [path.relative_to(MODULE) for path in MODULE.rglob("*") if path.is_file() and is_wanted(path)]
    kept = [path for path in files if not any(part in LEFT_OUT or part.startswith(".") for part in path.parts)]
    return [path.as_posix() for path in sorted(kept, key=lambda path: (len(path.parts) > 1, path.as_posix()))]


def with_lists(text: str) -> str:
    """The CMake text with both lists replaced."""
    for name, files in (("MODULE_PYTHON_SCRIPTS", scripts()), ("MODULE_PYTHON_RESOURCES", resources())):
        start = text.index(f"set({name}\n")
        end = text.index("\n  )\n", start)
        text = text[:start] + "\n  ".join([f"set({name}", *files]) + text[end:]
    return text


def main() -> int:
    """Write the lists, or with --check only compare them; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    path = MODULE / "CMakeLists.txt"
    text = path.read_text()
    if with_lists(text) == text:
        return 0
    if parser.parse_args().check:
        print(f"{path} does not list what is on the disk; run python scripts/module_files.py", file=sys.stderr)
        return 1
    path.write_text(with_lists(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
