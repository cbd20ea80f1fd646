"""Everything that HeartLens runs on may be given on: its licenses are permissive, by the libraries' own metadata."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from heartlens.app.requirements import requirements

PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-CMU", "PSF-2.0", "Zlib"}
)
"""SPDX identifiers."""

IN_OTHER_WORDS = {
    "Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause", "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
}  # fmt: skip
"""Of classifiers and of the field that came before SPDX."""


def licenses(name: str) -> str:
    """SPDX expression of an installed library, from whichever field of its metadata says so."""
    said = metadata.metadata(name)
    if expression := said.get("License-Expression"):
        return expression
    classifiers = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier") or [] if c.startswith("License ::")]
    words = classifiers or [said.get("License") or "nothing"]
    return " AND ".join(IN_OTHER_WORDS.get(word, word) for word in words)


def is_permissive(expression: str) -> bool:
    """Whether one may take it without owing more than a notice: of an OR one side will do."""
    sides = re.split(r"\s+OR\s+", expression.replace("(", "").replace(")", ""))
    return any(all(part in PERMISSIVE for part in re.split(r"\s+AND\s+", side)) for side in sides)


def everything() -> set[str]:
    """Run-time requirements, and what they require themselves on this system."""
    found: set[str] = set()
    waiting = [requirement.name for requirement in requirements()]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
    return found


def test_every_library_that_comes_along_has_a_permissive_license():
    found = {name: licenses(name) for name in everything()}
    assert {"numpy", "onnxruntime", "protobuf", "pillow"} <= set(found), "the search is too short"
    assert {name: said for name, said in found.items() if not is_permissive(said)} == {}


@pytest.mark.parametrize(
    ("expression", "is_fine"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND LGPL-2.1-or-later", False),
        ("GPL-2.0-or-later OR Apache-2.0", True),
        ("nothing", False),
    ],
)
def test_what_is_permissive(expression, is_fine):
    assert is_permissive(expression) is is_fine
