"""What tests of cohorts need: the libraries of heartlens[cohort], and scans with known scores."""

from __future__ import annotations

import json
import shutil

import pytest
import small_chest
from cohort_scans import PLAN, plan, write_chest


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch):
    """Networks, threads and keys of one test do not reach the next."""
    from heartlens.networks import inference

    monkeypatch.setattr(inference, "_kept", None)
    for name in ("HEARTLENS_COHORT_KEY", "HEARTLENS_LOG", "HEARTLENS_SIGNING_KEY", "HEARTLENS_PACS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def chests(tmp_path_factory):
    """Three people with plaques of 1, 2 and 3 voxels, and one whose scan begins below the top of the heart."""
    place = tmp_path_factory.mktemp("chests")
    for voxels in (1, 2, 3):
        who = {"PatientID": f"P{voxels}", "PatientName": f"Doe{voxels}^Jane", "StudyDate": f"2020010{voxels}"}
        write_chest(place / f"chest-{voxels}", voxels, **who)
    write_chest(place / "half", 1, slices=slice(0, 16), PatientID="P4")
    return place


@pytest.fixture(scope="session")
def scored_once(chests, tmp_path_factory):
    """A cohort of two of the chests after a run; nobody has read anything."""
    from heartlens.cohort.cluster import Workers
    from heartlens.cohort.run import run_cohort

    place = tmp_path_factory.mktemp("scored")
    folder = plan(chests / "chest-2", chests / "chest-3", out=place / "cohort")
    assert run_cohort(folder, Workers(0)) == {"scored": 2}
    return folder


@pytest.fixture
def scored(scored_once, tmp_path):
    """The same, to be changed."""
    from heartlens.cohort.folder import CohortFolder

    shutil.copytree(scored_once.path, tmp_path / "cohort")
    return CohortFolder.open(tmp_path / "cohort")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """report.json and lesions.csv of the small chest with its labels: 900 in the LAD, 1800 in the RCA."""
    import csv

    from heartlens.pipeline import Request, score_series
    from heartlens.report.outputs import write_lesions_csv

    place = tmp_path_factory.mktemp("chest")
    small_chest.write_series(place / "ct")
    case = score_series(place / "ct", Request(segmentation=small_chest.write_labels(place / "labels.nrrd"))).case
    write_lesions_csv(place / "lesions.csv", case)
    document = json.loads(json.dumps(case.report_document()))
    return document, list(csv.DictReader((place / "lesions.csv").read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def cohort(report, tmp_path):
    """`cohort(rows)` makes a cohort of rows: what the plan says, and what the result says on top of the report."""
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.row import row_of_report
    from heartlens.cohort.settings import keep_settings, settings_of
    from heartlens.cohort.work import person_of

    def make(*rows: tuple[dict, dict | None]) -> CohortFolder:
        folder = CohortFolder(tmp_path / "cohort")
        planned = [{**PLAN, "key": f"{n:032x}", **said} for n, (said, _) in enumerate(rows)]
        folder.write_plan(planned, {"options": {"bundle": "none"}})
        settings, document = settings_of({"bundle": "none"})
        keep_settings(folder, settings, document)
        for task, (_, result) in zip(planned, rows, strict=True):
            if result is not None:
                known = {"key": task["key"], "settings": settings, "given": person_of(task)}
                known |= {"seconds": 2.0, "peak_mb": 9.0}
                folder.write_row({**row_of_report(report[0]), **known, **result})
        return folder

    return make
