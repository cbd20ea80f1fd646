"""A list of cases: which needs a reader most, how far each is, and labels of those that were reviewed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from viewer.page import Reader
from viewer.reviewed_chest import LAD, RCA, Server
from viewer.two_readings import FLAT

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.case.case import Case
from heartlens.case.folder import load_case, save_case
from heartlens.case.looked_at import LookedAt
from heartlens.core.lesions import Artery, LesionMap, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.io.nrrd import read_nrrd
from heartlens.viewer.worklist.rows import row_of

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(written_once, other_once, tmp_path) -> Path:
    """Results of two scans: `a` has nothing to decide, `b` an undecided 900."""
    opened = load_case(written_once / "result" / "case")
    notes = {number: LesionNote(0.98, LabelSource.NETWORK) for number in (LAD, RCA)}
    clear = LesionMap(opened.lesions.labels, dict(opened.lesions.arteries), notes)
    (tmp_path / "list" / "a").mkdir(parents=True)
    save_case(
        Case.of(opened.source_ct, clear, opened.protocol, cautions=opened.cautions, provenance=opened.provenance),
        tmp_path / "list" / "a" / "case",
    )
    shutil.copytree(other_once / "result", tmp_path / "list" / "b")
    return tmp_path / "list"


def read(place: Path, reader: str = "Rita") -> ReviewSession:
    return ReviewSession.open(place / "case", reader=reader)


def rows(server: Server) -> list[tuple[str, str, str]]:
    answer = server.ask("api/worklist")[1]
    return [(row["name"], row["state"], row["score"]) for row in answer["rows"]]


def test_a_case_is_draft_in_review_read_and_signed_as_a_reader_goes_on(folder):
    case = folder / "b" / "case"
    seen = [row_of(case)]
    LookedAt(case, "Rita").add([3], [])
    seen.append(row_of(case))
    with read(folder / "b") as session:
        session.assign(LAD, Artery.LM)
        session.save_report()
        seen.append(row_of(case))
        session.assign(RCA, Artery.RCA)
        session.save_report()
        seen.append(row_of(case))
        session.sign("Reader^Rita", "Clinic", confirmed=True)
    seen.append(row_of(case))
    assert [(row.state, row.score, row.need.words, row.is_reviewed) for row in seen] == [
        ("draft", "1350 to 2250", "lesions are undecided", False),
        ("in review", "1350 to 2250", "lesions are undecided", False),
        ("in review", "1350 to 2250", "lesions are undecided", True),
        ("read", "2250", "", True),
        ("signed", "2250", "", True),
    ]
    assert seen[-1].words.startswith("by Rita Reader, 20")
    with read(folder / "b") as session:
        session.undo()
        assert (row_of(case).state, row_of(case).words) == ("in review", "edited since it was signed")
        session.undo()
    assert not row_of(case).is_reviewed, "every edit was taken back"


def test_what_is_wrong_with_a_folder_is_a_row_and_no_failure(folder):
    with read(folder / "a") as session:
        session.sign("Reader^Rita", "Clinic", confirmed=True)
    document = json.loads((folder / "a" / "case" / "case.json").read_text())
    (folder / "a" / "case" / "case.json").write_text(json.dumps({**document, "notice": "none"}))
    assert row_of(folder / "a" / "case").state == "altered"
    (folder / "b" / "case" / "report.json").write_text("{}")
    assert row_of(folder / "b" / "case").state == "damaged"
    assert row_of(folder / "c" / "case").state == "not begun"


def test_a_folder_begins_with_the_case_that_needs_a_reader_most(folder):
    with Server("--reader", "Rita", folder) as server:
        assert rows(server) == [("b", "draft", "1350 to 2250"), ("a", "draft", "2700")]
        assert server.ask("api/cases/0")[1]["scan"]["name"] == "b"
        answer = server.ask("api/worklist")[1]
        assert (answer["signed"], answer["cases"], answer["reader"]) == (0, 2, "Rita")
        assert [row["need"] for row in answer["rows"]] == ["lesions are undecided", ""]
        with read(folder / "a", "Ravi"):
            pass  # it was opened ahead here: nobody else has it
        assert server.ask("api/worklist?first=1")[1]["rows"][0]["name"] == "a"
        for first in ("2", "9999999", "-1", "x"):
            assert server.ask(f"api/worklist?first={first}")[0] == 200
        assert server.ask("api/worklist?first=2")[1]["rows"] == []
        assert server.ask("api/worklist", X_HeartLens_Token="x")[0] == 401
        assert server.ask("api/worklist/labels", {}, X_HeartLens_Token="x")[0] == 401
        log = server.stop()[1]
    assert str(folder) not in log
    with read(folder / "b") as session:
        session.assign(RCA, Artery.RCA)
        session.sign("Reader^Rita", "Clinic", confirmed=True)
    with Server(folder) as server:
        assert [name for name, *_ in rows(server)] == ["a", "b"], "what is signed comes last"
    with Server("--reader", "Ravi", "--second", folder.parent / "seconds", folder) as server:
        begun = ("a", "in review", "2700")  # it was made before the address was told
        assert rows(server) == [begun, ("b", "not begun", "")], "the order tells nothing of the first"
        assert not server.ask("api/worklist")[1]["is_by_need"]


def test_a_case_that_somebody_else_has_open_says_so(folder):
    with read(folder / "a", "Ravi"), Server("--reader", "Rita", folder) as server:
        server.ask("api/cases/0/state")  # and not the case that is read ahead
        row = next(row for row in server.ask("api/worklist")[1]["rows"] if row["name"] == "a")
        assert row["state"] == "in review"
        assert row["words"].startswith("open elsewhere: Ravi on ")


def test_labels_of_the_reviewed_cases_are_those_of_heartlens_export(folder, tmp_path):
    with Server("--reader", "Rita", folder) as server:
        assert server.ask("api/worklist/labels", {})[:2] == (
            422, {"code": "input", "error": "No case of this list is reviewed yet: sign or correct one first."},
        )  # fmt: skip
        assert server.edit(kind="assign", lesion=RCA, artery="LM")[0] == 200
        status, answer, _ = server.ask("api/worklist/labels", {})
        assert (status, answer) == (200, {"folder": str(folder / "labels"), "cases": 1})
        assert server.ask("api/worklist/labels", {})[1]["folder"] == str(folder / "labels-2")
    assert main(["export", str(folder / "b"), "--out", str(tmp_path / "by-hand")]) == 0
    places = (folder / "labels", tmp_path / "by-hand")
    ours, theirs = (read_nrrd(place / "case-0001-labels.nrrd").values for place in places)
    assert np.array_equal(ours, theirs)
    assert {int(Artery.LM), int(Artery.LAD), 0} == set(np.unique(ours).tolist())
    assert FLAT.shape == ours.shape
    with Server(folder) as server:
        assert len(rows(server)) == 2, "labels are no case"


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_a_reader_goes_through_the_list(browser, folder, size):
    with Server("--reader", "Rita", folder) as server:
        reader = Reader(browser, server, size)
        page = reader.page
        page.locator("#progress").get_by_text("0 of 2 signed").wait_for()
        page.locator("#axial").focus()
        reader.key("l")
        page.locator("#caseRows").get_by_text("lesions are undecided").wait_for()
        listed = [" ".join(row.inner_text().split()) for row in page.locator("#caseRows tr").all()]
        first = listed[0].replace("in review", "draft")  # it is on the screen: begun as soon as the server hears of it
        assert [first, *listed[1:]] == ["1 · b draft 1350 to 2250 lesions are undecided", "2 · a draft 2700"]
        assert page.locator("#caseRows tr").nth(0).get_attribute("aria-current") == "true"
        assert page.locator("#labels").is_disabled(), "nothing is reviewed"
        page.get_by_role("button", name="Open case 2: a").click()
        page.locator("#case").get_by_text("a", exact=False).wait_for()
        page.locator("#place").get_by_text("Case 2 of 2").wait_for()
        reader.wait("[data-ready=yes]")
        page.get_by_label("Observer").fill("Reader^Rita")
        page.get_by_label("Organization").fill("Clinic")
        page.locator("#confirm").check()
        page.locator("#sign").click()
        reader.wait("#state.signed")
        page.locator("#progress").get_by_text("1 of 2 signed").wait_for()
        page.locator("#listButton").click()
        page.locator("#caseRows").get_by_text("by Rita Reader").wait_for()
        assert "Rita: 1 of 2 cases signed, 1 left." in page.locator("#listProgress").inner_text()
        page.locator("#labels").click()
        page.locator("#labelsTold").get_by_text("Labels of 1 reviewed case were written to").wait_for()
        assert (folder / "labels" / "labels.json").is_file()
        page.locator("#closeList").click()
        reader.close()
