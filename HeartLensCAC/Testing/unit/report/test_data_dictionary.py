"""docs/data-dictionary.md describes every field that is written for programs, and is what its script makes."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from report_cases import BOXES, HEADER, make_case

from heartlens.core.ct import CTHeader
from heartlens.core.lesions import Artery
from heartlens.report.outputs import LESION_COLUMNS, write_lesions_csv

REPOSITORY = Path(__file__).resolve().parents[4]
sys.path.append(str(REPOSITORY / "scripts"))
import data_dictionary  # noqa: E402  # a script, and no package

FIELDS = [
    pytest.param(field, id=f"{document}/{part}/{field.name}")
    for document in data_dictionary.DOCUMENTS
    for part, fields in data_dictionary.parts_of(data_dictionary.schema_of(document)).items()
    for field in fields
]

EARLIER_COLUMNS = [
    "id", "artery", "agatston", "volume_mm3", "mass_mg", "peak_hu", "mean_hu", "area_mm2", "first_slice", "last_slice",
    "centroid_x_lps_mm", "centroid_y_lps_mm", "centroid_z_lps_mm", "probability", "source", "why", "undecided", "site",
]  # fmt: skip


def rows_of(path, case):
    write_lesions_csv(path, case)
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_the_page_is_what_the_script_writes():
    assert data_dictionary.PAGE.read_text(encoding="utf-8") == data_dictionary.page()


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_says_what_it_means_where_it_comes_from_and_when_it_is_null(field):
    assert field.meaning.endswith("."), "no description"
    assert field.source
    assert bool(field.null) == field.takes_null
    assert bool(field.unit) == field.is_number or field.kind == "object *change*"  # a number at two scans


def test_nothing_that_a_report_holds_is_missing_from_the_dictionary():
    """By the report itself, not by the schema: a case with a lesion, a warning and a slice reaches every list."""
    schema = data_dictionary.schema_of("report.json")
    known = {part: {f.name for f in fields} for part, fields in data_dictionary.parts_of(schema).items()}
    document = json.loads(json.dumps(make_case(BOXES).report_document()))
    assert set(document) - known[""] == set()
    assert {f"ct.{name}" for name in document["ct"]} <= known[""]
    assert {f"slices[].{name}" for name in document["slices"][0]} <= known[""]
    for part, some in (("lesion", document["lesions"][0]), ("total", document["total"]), ("risk", document["risk"])):
        assert set(some) <= known[part], part


def test_a_ct_that_is_not_dicom_has_no_uids_and_its_report_is_valid():
    document = json.loads(json.dumps(make_case(BOXES, header=CTHeader()).report_document()))
    jsonschema.Draft202012Validator(data_dictionary.schema_of("report.json")).validate(document)
    assert (document["ct"]["study_uid"], document["ct"]["series_uid"]) == (None, None)


def test_the_table_has_a_cell_for_every_column_and_the_first_ones_stand_where_they_stood(tmp_path):
    names = [column.name for column in LESION_COLUMNS]
    assert names[: len(EARLIER_COLUMNS)] == EARLIER_COLUMNS
    path = tmp_path / "lesions.csv"
    rows_of(path, make_case(BOXES))
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert {len(line) for line in lines} == {len(names)}
    assert lines[1][:4] == ["1", "LAD", "50.0", "75.0"]  # 25 mm2 of weight 2, 3 mm high


def test_a_cell_is_empty_only_where_the_dictionary_says_so(tmp_path):
    """A CT without UIDs, calibration, networks or a time of scoring empties all that can be empty."""
    rows = rows_of(tmp_path / "lesions.csv", make_case(BOXES, header=CTHeader()))
    empty = {name for row in rows for name, value in row.items() if value == ""}
    assert empty == {column.name for column in LESION_COLUMNS if column.empty}


def test_rows_of_two_results_are_joined_to_their_reports_by_the_key(tmp_path):
    """Two scans, and a second reading of the first; every row finds its report, and no other."""
    first = make_case(BOXES, scored_at="2026-11-29T10:00:00+00:00")
    other = make_case([(Artery.RCA, 5, 10, 10, 10, 251)], header=replace(HEADER, series_uid="1.2.3.5"))
    cases = {"first": first, "read": first.reassign(1, Artery.LCX), "other": other}
    reports = {}
    for name, case in cases.items():
        document = case.report_document()
        reports[
            document["provenance"]["checksums"]["voxels_sha256"], document["scored_at"] or "", document["edits"]
        ] = name
    assert len(reports) == 3
    for name, case in cases.items():
        rows = rows_of(tmp_path / f"{name}.csv", case)
        assert {reports[row["voxels_sha256"], row["scored_at"], int(row["edits"])] for row in rows} == {name}
        assert {row["series_uid"] for row in rows} == {case.source_ct.header.series_uid}
