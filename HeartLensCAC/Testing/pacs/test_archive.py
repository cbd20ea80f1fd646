"""Archive and node with a real Orthanc, in a network that reaches nothing: what the stories in this folder tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from orthanc_archive import run_alone

pytestmark = pytest.mark.slow

LIMIT_S = 1500


@pytest.mark.parametrize("stories", ["client_stories.py", "node_stories.py", "tls_stories.py", "cohort_stories.py"])
def test_the_stories_end_well(stories, tmp_path):
    run_alone(Path(__file__).with_name(stories), tmp_path / "stories", limit_s=LIMIT_S)
