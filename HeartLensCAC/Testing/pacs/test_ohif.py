"""What was scored by hand and what the node sent, in the viewer that most people have: `ohif_stories.py`, run alone."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from conftest import skip_or_fail
from ohif_gateway import OHIF
from orthanc_archive import run_alone

pytestmark = pytest.mark.slow

LIMIT_S = 1500


def missing() -> str:
    """What is not installed here, beside the archive."""
    what = [] if shutil.which("chromium") else ["chromium"]
    what += [] if importlib.util.find_spec("playwright") else ["playwright"]
    what += [] if (OHIF / "index.html").is_file() else [f"OHIF in {OHIF}"]
    return ", ".join(what)


def test_the_stories_of_the_viewer_end_well(tmp_path):
    if what := missing():
        skip_or_fail(f"OHIF in a browser needs {what}; make pacs")
    run_alone(Path(__file__).with_name("ohif_stories.py"), tmp_path / "stories", limit_s=LIMIT_S)
