"""A report that is made once more of more images says whose place it takes."""

from __future__ import annotations

import pytest
import small_chest
from pydicom import dcmread

from heartlens.core.errors import InputRefused
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Half a series scored, and then all of it."""
    folder = tmp_path_factory.mktemp("halves")
    paths = small_chest.write_series(folder / "ct", StudyInstanceUID="1.2.3")
    labels = small_chest.write_labels(folder / "half.nrrd", small_chest.codes()[:10])
    write_outputs(score_series(paths[:10], Request(segmentation=labels)), folder / "half")
    whole = score_series(paths, Request(segmentation=small_chest.write_labels(folder / "whole.nrrd")))
    return folder, whole


def test_it_names_the_earlier_report_and_no_other(halves, tmp_path):
    folder, whole = halves
    assert write_outputs(whole, tmp_path / "new", predecessor=folder / "half" / "report.dcm") == []
    first, second = (dcmread(p / "report.dcm") for p in (folder / "half", tmp_path / "new"))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == "1.2.3"
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [first.SOPInstanceUID]
    assert "PredecessorDocumentsSequence" not in first


def test_a_report_never_names_itself(halves, tmp_path):
    _, whole = halves
    write_outputs(whole, tmp_path / "once")
    write_outputs(whole, tmp_path / "again", predecessor=tmp_path / "once" / "report.dcm")
    first, second = (dcmread(tmp_path / name / "report.dcm") for name in ("once", "again"))
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in second


@pytest.mark.parametrize("kind", ["nothing", "text", "image"])
def test_what_is_no_report_of_the_study_is_refused_and_nothing_is_written(halves, tmp_path, kind):
    folder, whole = halves
    path = tmp_path / "earlier.dcm"
    if kind == "text":
        path.write_text("report")
    if kind == "image":
        path = folder / "ct" / "0000.dcm"
    with pytest.raises(InputRefused, match="the predecessor"):
        write_outputs(whole, tmp_path / "new", predecessor=path)
    assert not (tmp_path / "new").exists()
