"""What tests of cohorts need: the libraries of heartlens[cohort], and scans with known scores."""

from __future__ import annotations

import pytest
from cohort_scans import write_chest


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch):
    """Networks, threads and keys of one test do not reach the next."""
    from heartlens.networks import inference

    monkeypatch.setattr(inference, "_kept", None)
    monkeypatch.delenv("HEARTLENS_COHORT_KEY", raising=False)
    monkeypatch.delenv("HEARTLENS_LOG", raising=False)


@pytest.fixture(scope="session")
def chests(tmp_path_factory):
    """Three people with plaques of 1, 2 and 3 voxels, and one whose scan begins below the top of the heart."""
    place = tmp_path_factory.mktemp("chests")
    for voxels in (1, 2, 3):
        who = {"PatientID": f"P{voxels}", "PatientName": f"Doe{voxels}^Jane", "StudyDate": f"2020010{voxels}"}
        write_chest(place / f"chest-{voxels}", voxels, **who)
    write_chest(place / "half", 1, slices=slice(0, 16), PatientID="P4")
    return place
