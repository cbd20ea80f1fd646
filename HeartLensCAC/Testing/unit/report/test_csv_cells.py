"""A spreadsheet computes nothing from a table of lesions."""

from __future__ import annotations

import csv

import pytest
from report_cases import BOXES, make_case

from heartlens.core.lesions import LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.report.csv_cells import cell
from heartlens.report.outputs import write_lesions_csv


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", '=HYPERLINK("x")'])
def test_a_text_that_would_be_a_formula_is_quoted(text):
    assert cell(text).startswith("'")
    assert cell(text)[1:2] not in ("\t", "\r")


@pytest.mark.parametrize("value", ["LAD", "", "1 - 2", "a=b", 0, -3.5, 1e-9, None, True])
def test_other_texts_and_numbers_stay(value):
    assert cell(value) is value or cell(value) == value
    assert type(cell(value)) is type(value)


def test_a_lesions_note_is_a_text_in_the_table_and_its_numbers_are_numbers(tmp_path):
    note = LesionNote(0.5, LabelSource.READER, '=HYPERLINK("http://elsewhere","LAD")\x1b[2J')
    case = make_case(BOXES[:1], notes={1: note})
    write_lesions_csv(tmp_path / "lesions.csv", case)
    with (tmp_path / "lesions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["why"] == '\'=HYPERLINK("http://elsewhere","LAD")\\x1b[2J'
    assert float(row["agatston"]) == 50
    assert float(row["centroid_z_lps_mm"]) == 15
    assert row["probability"] == "0.5"
