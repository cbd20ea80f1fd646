"""A case that brings its CT along opens, is signed and exported when what it was read from is gone."""

from __future__ import annotations

import shutil

import pytest
import small_chest
from pydicom import dcmread

from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import EMBEDDED, load_case, read_json
from heartlens.core.errors import InputRefused
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A result with its CT in it, and its report; the files that were scored are gone."""
    folder = tmp_path_factory.mktemp("scored")
    paths = small_chest.write_series(folder / "ct")
    (folder / "ct" / "other").mkdir()
    small_chest.write_series(folder / "ct" / "other", Modality="CT", SeriesInstanceUID="1.2.9", StudyInstanceUID="1.9")
    labels = small_chest.write_labels(folder / "labels.nrrd")
    series = str(dcmread(paths[0]).SeriesInstanceUID)
    result = score_series(folder / "ct", Request(segmentation=labels, series_uid=series))
    assert write_outputs(result, folder / "out", embed_ct=True) == []
    shutil.rmtree(folder / "ct")
    return folder, result.case


def test_the_case_opens_with_the_same_report_where_its_files_are_gone(scored):
    folder, case = scored
    opened = load_case(folder / "out" / "case")
    assert opened.report_document() == case.report_document()
    assert opened.source_ct.header == case.source_ct.header


def test_it_holds_the_files_of_its_series_and_no_others(scored):
    folder, case = scored
    held = {str(dcmread(p).SOPInstanceUID) for p in (folder / "out" / "case" / EMBEDDED).iterdir()}
    assert held == set(case.source_ct.header.sop_instance_uids)
    assert read_json(folder / "out" / "case" / "case.json")["source"] == [EMBEDDED]


def test_it_may_be_moved_and_what_is_exported_brings_it_along(scored, tmp_path):
    folder, case = scored
    shutil.copytree(folder / "out", tmp_path / "moved")
    with ReviewSession.open(tmp_path / "moved") as session:
        assert session.export(tmp_path / "export") == []
    shutil.rmtree(tmp_path / "moved")
    assert (tmp_path / "export" / "report.dcm").is_file()
    assert load_case(tmp_path / "export" / "case").report_document() == case.report_document()


def test_without_it_the_case_does_not_open(scored, tmp_path):
    folder, _ = scored
    shutil.copytree(folder / "out" / "case", tmp_path / "case")
    shutil.rmtree(tmp_path / "case" / EMBEDDED)
    with pytest.raises(InputRefused):
        load_case(tmp_path / "case")


def test_an_embedded_voxel_that_was_changed_is_seen(scored, tmp_path):
    folder, _ = scored
    shutil.copytree(folder / "out" / "case", tmp_path / "case")
    path = sorted((tmp_path / "case" / EMBEDDED).iterdir())[3]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputRefused, match="voxels"):
        load_case(tmp_path / "case")
