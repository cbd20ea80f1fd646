"""The commands of a page of docs/, word for word, in a shell in which `heartlens` is the one under test."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, kind: str = r"\w+") -> list[str]:
    """What stands between its fences, of one kind such as "sh", in the order of the page."""
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)


def block(page: str, *words: str) -> str:
    """The one block of a page with all of these words."""
    (found,) = [text for text in blocks(page) if all(word in text for word in words)]
    return found


def shell(place: Path, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a user's shell: `heartlens` and `python` are those of this process.

    Parameters
    ----------
    place : folder to make, for programs
    base : what else is in it
    """
    place.mkdir()
    for name, rest in (("heartlens", "-m heartlens "), ("python", "")):
        program = place / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {rest}"$@"\n')
        program.chmod(0o755)
    path = os.pathsep.join(path for path in sys.path if path)
    return {**base, "PATH": f"{place}:{base['PATH']}:/usr/sbin:/sbin", "PYTHONPATH": path}
