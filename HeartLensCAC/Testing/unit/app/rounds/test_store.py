"""What a folder of cases holds is told from small files, and second and third readings are begun by commands."""

from __future__ import annotations

import json

import pytest
from report_cases import BOXES, make_case

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.app.rounds.stage import CaseStage
from heartlens.app.rounds.store import look_closer, read_stored, second_of, stored_cases, third_of
from heartlens.case.folder import load_case, save_case
from heartlens.case.looked_at import LookedAt
from heartlens.case.seal import KEY_VARIABLE
from heartlens.core.lesions import Artery

WHO = ("Reader^Rita", "Phantom Hospital")


@pytest.fixture
def root(tmp_path):
    """A folder of cases: one scored, one edited, one signed, one edited since, one damaged, and what is none."""
    for name in ("scored", "seen", "edited", "signed", "lapsed", "damaged"):
        (tmp_path / name).mkdir()
        save_case(make_case(BOXES), tmp_path / name / "case")
    LookedAt(tmp_path / "seen" / "case", "Rita").add((), (1,))
    for name in ("edited", "signed", "lapsed"):
        with ReviewSession.open(tmp_path / name, reader="Rita") as reading:
            reading.assign(1, Artery.LCX)
            reading.save_report()
            if name != "edited":
                for lesion, artery in list(reading.case.lesions.arteries.items()):
                    if artery is Artery.UNASSIGNED:
                        reading.assign(lesion, Artery.RCA)
                reading.sign(*WHO, confirmed=True)
            if name == "lapsed":
                reading.remove(1)
    (tmp_path / "damaged" / "case" / "case.json").write_text("[]")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("")
    return tmp_path


def stages(root, look=lambda case: case):
    return {folder.parent.name: str(look(read_stored(folder, root)).stage) for folder in stored_cases(root)}


def test_how_far_each_case_has_come(root):
    expected = {
        "scored": "scored", "seen": "in review", "edited": "in review", "signed": "signed", "lapsed": "in review",
        "damaged": "damaged",
    }  # fmt: skip
    assert stages(root) == expected
    assert stages(root, look_closer) == {
        **expected,
        "edited": "read",  # nothing is left to decide
        "lapsed": "read",
    }
    assert list(stages(root)) == sorted(expected, reverse=True)


def test_a_signature_is_taken_at_its_word_at_first_and_judged_at_the_second_look(root):
    report = root / "signed" / "case" / "report.json"
    report.write_text(report.read_text() + " ")
    assert stages(root)["signed"] == "signed"
    assert stages(root, look_closer)["signed"] == "altered after signing"


def test_a_signature_that_cannot_be_verified_here_is_not_called_altered(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef0123456789abcdef")
    for name in ("kept", "edited"):
        (tmp_path / name).mkdir()
        save_case(make_case(BOXES), tmp_path / name / "case")
        with ReviewSession.open(tmp_path / name, reader="Rita") as reading:
            for lesion, artery in list(reading.case.lesions.arteries.items()):
                if artery is Artery.UNASSIGNED:
                    reading.assign(lesion, Artery.RCA)
            reading.sign(*WHO, confirmed=True)
            if name == "edited":
                reading.remove(1)
    assert stages(tmp_path, look_closer) == {"kept": "signed", "edited": "read"}
    monkeypatch.delenv(KEY_VARIABLE)
    assert stages(tmp_path, look_closer) == {"kept": "signature not verified", "edited": "read"}


def test_lesions_that_a_reader_has_to_decide_on_are_counted_at_the_second_look(root):
    case = read_stored(root / "scored" / "case", root)
    assert case.undecided is None
    lesions = json.loads((case.folder / "report.json").read_text())["lesions"]
    expected = sum(row["undecided"] or row["artery"] == "UNASSIGNED" for row in lesions)
    assert look_closer(case).undecided == expected
    (case.folder / "report.json").write_text("{}")
    assert look_closer(case).undecided is None


def test_a_folder_that_is_not_there_holds_no_case(tmp_path):
    assert list(stored_cases(tmp_path / "nowhere")) == []


def test_second_begins_a_blind_reading_in_its_place_and_goes_on_with_it(root, capsys):
    first = root / "signed" / "case"
    out = second_of(first, root)
    before = (first / "edits.jsonl").read_bytes()
    words = ["second", str(first), "--out", str(out), "--reader", "Ravi"]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(out / "case")
    assert load_case(out / "case").edits == ()
    assert (first / "edits.jsonl").read_bytes() == before
    case = read_stored(out / "case", root)
    assert (case.is_second, case.stage) == (True, CaseStage.IN_REVIEW)
    assert [folder for folder in stored_cases(root) if folder == out / "case"] == [out / "case"]
    with ReviewSession.open(out, reader="Ravi") as reading:
        reading.remove(1)
    assert main(words) == 0
    assert len(load_case(out / "case").edits) == 1


@pytest.mark.parametrize("reader", ["Rita", WHO[0]])
def test_who_edited_or_signed_the_first_reading_is_not_blind_to_it(root, capsys, reader):
    out = root / "second" / "signed"
    assert main(["second", str(root / "signed"), "--out", str(out), "--reader", reader]) == 3
    told = capsys.readouterr().err
    assert told.startswith("error: input: ")
    assert "let somebody else read it" in told
    assert not out.exists()


def test_a_second_reading_needs_a_name_and_a_place_of_its_own(root, capsys):
    first = root / "scored"
    assert main(["second", str(first), "--out", str(root / "new"), "--reader", " "]) == 2
    assert main(["second", str(first), "--out", str(first / "inside"), "--reader", "Ravi"]) == 3
    assert "choose a folder beside it" in capsys.readouterr().err


def test_third_begins_a_case_of_two_readings_in_its_place_and_goes_on_with_it(root, capsys):
    first, second = root / "signed" / "case", root / "scored" / "case"
    out = third_of(first, root)
    assert out == root / "third" / "signed"
    words = ["third", str(first), str(second), "--out", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(out / "case")
    third = load_case(out / "case")
    assert third.assessment.total_low < third.assessment.total_high or Artery.UNASSIGNED in set(
        third.lesions.arteries.values()
    ), "the LAD of one reading is the LCX of the other"
    case = read_stored(out / "case", root)
    assert (case.is_third, case.is_second, case.stage) == (True, False, CaseStage.SCORED)
    assert list(stored_cases(root))[-1] == out / "case"
    assert not any(read_stored(folder, root).is_third for folder in stored_cases(root) if folder != out / "case")
    with ReviewSession.open(out, reader="Ruth") as reading:
        reading.remove(next(iter(reading.case.lesions.arteries)))
    assert main(words) == 0
    assert len(load_case(out / "case").edits) == 1, "and not anew"


def test_a_third_case_needs_two_readings_of_one_scan_and_a_place_of_its_own(root, capsys):
    first, second = root / "scored", root / "signed"
    (root / "else").mkdir()
    save_case(make_case(BOXES[:1]), root / "else" / "case")
    for words, code in (
        ((first, root / "else", "--out", root / "third" / "x"), "input"),
        ((first, second, "--out", second / "inside"), "output"),
        ((first, second, "--out", root / "edited"), "output"),
    ):
        assert main(["third", *map(str, words)]) == 3
        assert capsys.readouterr().err.startswith(f"error: {code}: ")
    assert not (root / "third").exists()
