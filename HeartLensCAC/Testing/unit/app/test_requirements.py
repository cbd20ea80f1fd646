"""Which libraries are missing, and what to type to get them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import heartlens.app.requirements as r
from heartlens.app.requirements import Requirement, missing, pip_line, requirements


@pytest.mark.parametrize(
    ("installed", "least", "is_met"),
    [
        ("3.0.1", "3.0.1", True),
        ("3.0.2", "3.0.1", True),
        ("2.4.4", "3.0.1", False),
        ("3.0", "3.0.1", False),
        ("10.0", "9.5", True),
        ("2", "2.0", True),
        ("2.13.0+cpu", "2.8", True),
        ("3.1.6", "3.1", True),
        ("unknown", "1", False),
        (None, "1", False),
    ],
)
def test_versions_are_compared_as_numbers(installed, least, is_met):
    assert Requirement("x", least, installed).is_met is is_met


def test_every_line_of_the_file_is_a_requirement_with_a_purpose():
    lines = [line for line in r.FILE.read_text().splitlines() if line]
    assert [requirement.word for requirement in requirements()] == lines
    assert {requirement.name for requirement in requirements()} == set(r.PURPOSES)


def test_without_the_file_the_wheels_own_metadata_say_the_same(monkeypatch):
    from_file = requirements()
    monkeypatch.setattr(r, "FILE", Path("/nowhere"))
    lines = [*r.metadata.requires("heartlens")] if _is_installed() else []
    if not lines:
        monkeypatch.setattr(
            r.metadata, "requires", lambda name: [*(q.word for q in from_file), 'pytest>=8; extra == "test"']
        )
    assert requirements() == from_file


def _is_installed():
    try:
        return bool(r.metadata.requires("heartlens"))
    except r.metadata.PackageNotFoundError:
        return False


def test_what_is_missing_is_said_with_its_purpose_and_the_way_to_get_it(monkeypatch):
    here = {requirement.name: "99" for requirement in requirements()}
    here.update({"pydicom": "2.4.4", "jinja2": None})
    monkeypatch.setattr(r, "installed_version", here.__getitem__)
    assert [requirement.name for requirement in missing()] == ["pydicom", "jinja2"]
    assert [requirement.name for requirement in missing(["Jinja2", "numpy"])] == ["jinja2"]
    assert missing(["numpy"]) == ()
    old, absent = (requirement.line for requirement in missing())
    assert old.split(maxsplit=1)[1] == '2.4.4 is too old; needed for DICOM: pip install "pydicom>=3.0.1"'
    assert "missing; needed for report.html" in absent
    assert pip_line(missing()) == 'pip install "pydicom>=3.0.1" "jinja2>=3.1"'


def test_looking_imports_none_of_them():
    code = (
        "import sys, heartlens.app.requirements as r; r.missing();"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {q.name for q in r.requirements()}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=r.FILE.parents[1], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
