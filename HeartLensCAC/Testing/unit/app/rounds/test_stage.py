"""How far a case has come is judged once: the worklist in Slicer and the list in the browser say the same of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from report_cases import BOXES, make_case

from heartlens.app.review_session import ReviewSession
from heartlens.app.rounds.readings import make_second
from heartlens.app.rounds.stage import CaseStage, standing_of
from heartlens.app.rounds.store import look_closer, read_stored, stored_cases
from heartlens.case.folder import save_case
from heartlens.case.looked_at import LookedAt
from heartlens.case.seal import KEY_VARIABLE
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.viewer.worklist.rows import row_of

VERSION_1 = Path(__file__).resolve().parents[3] / "data" / "version_1"
WHO = ("Reader^Rita", "Phantom Hospital")


def make_undecided():
    """A case in which lesion 3 waits for a reader."""
    return make_case(BOXES, notes={3: LesionNote(0.5, LabelSource.NETWORK, undecided=True)})


def decide(reading: ReviewSession) -> None:
    """Every lesion is somebody's word."""
    for lesion, note in list(reading.case.lesions.notes.items()):
        artery = reading.case.lesions.arteries[lesion]
        if note.undecided or artery is Artery.UNASSIGNED:
            reading.assign(lesion, Artery.RCA if artery is Artery.UNASSIGNED else artery)
    reading.save_report()


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder with a case in every state."""
    names = ("scored", "seen", "edited", "settled", "behind", "signed", "lapsed", "altered", "keyed", "lost", "torn")
    for name in names:
        (tmp_path / name).mkdir()
        save_case(make_undecided(), tmp_path / name / "case")
    LookedAt(tmp_path / "seen" / "case", "Rita").add((), (1,))
    for name in names[2:9]:
        if name == "keyed":
            monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef0123456789abcdef")
        with ReviewSession.open(tmp_path / name, reader="Rita") as reading:
            reading.assign(1, Artery.LCX)
            if name != "edited":
                decide(reading)
            if name == "behind":
                reading.assign(1, Artery.LAD)  # and the program is killed before its report follows
            if name in ("signed", "lapsed", "altered", "keyed"):
                reading.sign(*WHO, confirmed=True)
            if name == "lapsed":
                reading.remove(1)
            if name == "edited":
                reading.save_report()
    monkeypatch.delenv(KEY_VARIABLE)
    report = tmp_path / "altered" / "case" / "report.json"
    report.write_text(report.read_text() + " ")
    (tmp_path / "lost" / "case" / "report.json").unlink()
    (tmp_path / "torn" / "case" / "edits.jsonl").write_text('{"kind": "undo"}\n')
    make_second(tmp_path / "scored" / "case", tmp_path / "second" / "scored", "Ravi")
    return tmp_path


STAGES = {
    "scored": "scored", "seen": "in review", "edited": "in review", "settled": "read", "behind": "in review",
    "signed": "signed", "lapsed": "read", "altered": "altered after signing", "keyed": "signature not verified",
    "lost": "damaged", "second/scored": "in review",
}  # fmt: skip
"""Of each case; a second reading that was begun is in review, because it is somebody's."""


def test_both_lists_say_the_same_of_a_case(root):
    stored = {
        str(folder.parent.relative_to(root)): look_closer(read_stored(folder, root)) for folder in stored_cases(root)
    }
    rows = {name: row_of(case.folder) for name, case in stored.items()}
    assert {name: row.stage for name, row in rows.items()} == {name: case.stage for name, case in stored.items()}
    torn = stored.pop("torn").stage
    assert {name: str(case.stage) for name, case in stored.items()} == STAGES
    assert torn is standing_of(root / "torn" / "case").stage


def test_labels_are_taught_by_what_a_reader_signed_or_edited_and_nobody_altered(root):
    reviewed = {name for name in STAGES if standing_of(root / name / "case").is_reviewed}
    assert reviewed == {"edited", "settled", "behind", "signed", "lapsed", "keyed"}


def test_calcium_without_an_artery_is_left_to_decide(tmp_path):
    """A third reading of two has such lesions: what two arteries claim has none."""
    save_case(make_undecided(), tmp_path / "case")
    with ReviewSession.open(tmp_path, reader="Rita") as reading:
        decide(reading)
        assert standing_of(tmp_path / "case").stage is CaseStage.READ
    report = json.loads((tmp_path / "case" / "report.json").read_text())
    report["lesions"][0]["artery"] = "UNASSIGNED"
    (tmp_path / "case" / "report.json").write_text(json.dumps(report))
    assert standing_of(tmp_path / "case").stage is CaseStage.IN_REVIEW
    assert row_of(tmp_path / "case").need.words == "lesions are undecided"


def test_a_folder_that_is_gone_is_not_begun_in_a_list_of_readings_and_damaged_where_it_was(root):
    stored = read_stored(root / "scored" / "case", root)
    shutil.rmtree(root / "scored")
    assert standing_of(root / "scored" / "case").stage is CaseStage.NOT_BEGUN
    assert look_closer(stored).stage is CaseStage.DAMAGED
    assert row_of(root / "scored" / "case").state == "not begun"


@pytest.mark.parametrize(
    ("name", "state", "score"),
    [("case_v1", "signed", "544"), ("case_v1_network", "read", "147"), ("case_v1_segmentation", "draft", "88")],
)
def test_a_case_of_version_1_is_a_row_as_every_other(tmp_path, name, state, score):
    folder = next((VERSION_1 / name).rglob("case.json")).parent
    shutil.copytree(folder, tmp_path / "case")
    row = row_of(tmp_path / "case")
    assert (row.state, row.score) == (state, score)
    assert look_closer(read_stored(tmp_path / "case", tmp_path)).stage is row.stage
