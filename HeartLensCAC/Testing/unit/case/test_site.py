"""The site of what is not coronary: said by a reader, logged, undone, and shown wherever a lesion is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from report_cases import BOXES, make_case

from heartlens.app.review_session import ReviewSession
from heartlens.case.edits import Edit
from heartlens.case.folder import load_case, save_case
from heartlens.core.lesions import Artery, LesionNote, Site
from heartlens.report.html import render_report
from heartlens.report.outputs import write_lesions_csv
from heartlens.scoring.report import ScoreReport

# Lesion 1 is LAD, 50, and lies where a valve would; lesion 4 is OTHER: 36 pixels at 600 HU, 36.
CASE = make_case(BOXES, notes={1: LesionNote(site=Site.AORTIC_VALVE)})


def site(case, number):
    return next(x.site for x in case.report.lesions if x.id == number)


def test_what_is_coronary_shows_no_site_and_finds_one_when_it_is_excluded():
    assert site(CASE, 1) is None
    excluded = CASE.reassign(1, Artery.OTHER)
    assert site(excluded, 1) is Site.AORTIC_VALVE
    assert site(excluded.reassign(1, Artery.LAD), 1) is None


def test_a_reader_says_the_site_and_takes_it_back():
    said = CASE.place(4, Site.MITRAL_ANNULUS, who="Rita")
    assert site(CASE, 4) is None
    assert site(said, 4) is Site.MITRAL_ANNULUS
    assert site(said.undo(), 4) is None
    assert said.report.total == CASE.report.total
    assert said.report.findings == {Site.MITRAL_ANNULUS: 36.0}
    assert CASE.report.findings == {None: 36.0}


def test_only_what_is_not_coronary_has_a_site():
    with pytest.raises(ValueError, match="not coronary"):
        Edit("reassign", lesion=1, artery=Artery.LAD, site=Site.PERICARDIUM)


def test_an_edit_with_a_site_and_one_without_are_read_back():
    for edit in (
        Edit("reassign", lesion=4, artery=Artery.OTHER, site=Site.HILAR_NODE),
        Edit("reassign", lesion=4, artery=Artery.OTHER),
    ):
        assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit
    assert "site" not in Edit("remove", lesion=4).to_json()  # as journals were before there were sites


def test_the_journal_keeps_it_and_saying_it_twice_is_one_edit(tmp_path):
    save_case(CASE, tmp_path / "case")
    with ReviewSession.open(tmp_path / "case", reader="Rita") as session:
        assert session.place(4, Site.PERICARDIUM)
        assert not session.place(4, Site.PERICARDIUM)
    again = load_case(tmp_path / "case")
    assert site(again, 4) is Site.PERICARDIUM
    assert [(edit.who, edit.site) for edit in again.edits] == [("Rita", Site.PERICARDIUM)]
    assert again.auto.notes[1].site is Site.AORTIC_VALVE  # as the rules said, from auto.seg.nrrd


def test_report_table_and_page_say_it(tmp_path):
    case = CASE.place(4, Site.ASCENDING_AORTA)
    document = json.loads(json.dumps(case.report_document()))
    assert document["findings"]["ascending_aorta"] == 36
    assert document["findings"]["aortic_valve"] is None
    assert [x["site"] for x in document["lesions"]] == [None, None, None, "ascending_aorta"]
    assert ScoreReport.from_json(document) == replace(case.report)
    write_lesions_csv(tmp_path / "lesions.csv", case)
    rows = list(csv.DictReader((tmp_path / "lesions.csv").read_text().splitlines()))
    assert [row["site"] for row in rows] == ["", "", "", "ascending_aorta"]
    page = render_report(case)
    assert "Ascending aorta: Agatston 36." in page
    assert "Not coronary, place not known: Agatston 36" in render_report(CASE)
