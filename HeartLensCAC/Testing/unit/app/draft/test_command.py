"""`heartlens draft`: a result in sentences, printed or in a file; a model may re-word it and change nothing."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
from draft_cases import ANSWERS, BUSY_CASE, DRAFTS, answer_of
from report_cases import BOXES, HEADER, make_case

from heartlens.__main__ import main
from heartlens.app.draft import command
from heartlens.app.draft.endpoint import NoAnswer
from heartlens.app.draft.rewording import messages_for, reword
from heartlens.case.folder import save_case
from heartlens.case.seal import sign_case
from heartlens.case.signature import Signature
from heartlens.core.lesions import Artery
from heartlens.report.draft.vocabulary import CLAIM_OF, FILLERS

NAMELESS = replace(HEADER, series_uid=None, study_uid=None)
ADDRESS = ("--reword", "http://127.0.0.1:9", "--model", "small")


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(one) for one in arguments])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path):
    """Of a case: LAD 50, LM 16, RCA 1, by rules."""
    save_case(make_case(BOXES, header=NAMELESS), tmp_path / "case")
    return tmp_path / "case"


@pytest.fixture
def model(monkeypatch):
    """Lets a model answer what a test says; gives what it was asked."""
    asked = []

    def answers(answer):
        def ask(endpoint, name, messages, **more):
            asked.append((str(endpoint), name, messages, more))
            if isinstance(answer, Exception):
                raise answer
            return answer(messages[1]["content"]) if callable(answer) else answer

        monkeypatch.setattr("heartlens.app.draft.rewording.ask", ask)
        return asked

    return answers


def test_the_draft_is_printed_with_who_wrote_it_state_and_notice(run, folder):
    code, out, err = run("draft", folder)
    assert (code, err) == (0, "")
    head, state, body, notice = out.strip().split("\n\n")
    assert head.startswith("Draft text, written by HeartLens ")
    assert head.endswith(" and by no reader.")
    assert state == "State of the result: DRAFT, read by nobody."
    assert "a CT scan without a stated date. Calcium was found and named by rules. The estimated total Agatston" in body
    assert "score is 67, and by the scheme heartlens the category is mild, range 11–100." in body
    assert "LM 16, LAD 50, LCX 0 and RCA 1." in body
    assert notice.startswith("HeartLens is research software.")


def test_signed_edited_and_altered_results_are_called_so(run, folder, tmp_path):
    case = make_case(BOXES, header=NAMELESS).reassign(4, Artery.LAD, who="Rita")
    save_case(case, tmp_path / "read")
    assert "READ, edited by a reader and not signed." in run("draft", tmp_path / "read")[1]
    sign_case(tmp_path / "read", case, Signature("Reader^Rita", "Clinic", "2026-11-29T10:00:00+00:00"))
    out = run("draft", tmp_path / "read")[1]
    assert "SIGNED by Rita Reader, Clinic" in out
    assert "The estimated total Agatston score is 103," in out
    with (tmp_path / "read" / "report.json").open("a") as file:
        file.write(" ")
    out = run("draft", tmp_path / "read")[1]
    assert "ALTERED after it was signed" in out
    assert "Rita" not in out


def test_a_file_is_written_whole_and_replaced_only_where_it_is_a_draft(run, folder, tmp_path):
    path = tmp_path / "draft.txt"
    code, out, err = run("draft", folder, "--out", path)
    assert (code, out, err) == (0, f"Draft: {path}\n", "")
    first = path.read_text(encoding="utf-8")
    assert first == run("draft", folder)[1]
    path.chmod(0o600)
    code, out, err = run("draft", folder, "--out", path)
    assert (code, out, path.read_text(encoding="utf-8")) == (3, "", first)
    assert err.startswith("error: output: ")
    assert run("draft", folder, "--out", path, "--force", "--json")[0] == 0
    assert json.loads(path.read_text(encoding="utf-8"))["text"] + "\n" == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("draft", folder, "--out", path, "--force")[0] == 0
    mine = tmp_path / "mine.txt"
    mine.write_text("My own words.")
    for place in (mine, tmp_path, tmp_path / "nowhere" / "draft.txt", folder / "draft.txt"):
        code, out, err = run("draft", folder, "--out", place, "--force")
        assert (code, out, err.count("\n")) == (3, "", 1), place
    assert mine.read_text() == "My own words."
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "draft.txt", "mine.txt"]
    assert not (folder / "draft.txt").exists()


def test_a_file_that_came_meanwhile_is_not_replaced(folder, tmp_path, monkeypatch):
    path = tmp_path / "draft.txt"
    own = command.draft_page

    def slowly(*arguments):
        path.write_text("of somebody else")
        return own(*arguments)

    monkeypatch.setattr(command, "draft_page", slowly)
    assert main(["draft", str(folder), "--out", str(path)]) == 3
    assert path.read_text() == "of somebody else"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "draft.txt"]


def test_json_holds_what_its_schema_says_with_and_without_a_model(run, folder, model):
    schema = json.loads((files("heartlens.report.draft") / "draft.schema.json").read_text(encoding="utf-8"))
    plain = json.loads(run("draft", folder, "--json")[1])
    assert (plain["state"], plain["evaluable"], plain["rewording"]) == ("draft", "yes", None)
    assert plain["values"]["score"] == "67"
    documents = [plain]
    for answer in (lambda text: text, "Cancer.", NoAnswer("down"), "\ud800"):
        model(answer)
        documents.append(json.loads(run("draft", folder, "--json", *ADDRESS)[1]))
    for document in documents:
        jsonschema.Draft202012Validator(schema).validate(document)
    assert [document["rewording"]["accepted"] for document in documents[1:]] == [True, False, False, False]
    assert documents[2]["rewording"]["answer"] == "Cancer."
    assert documents[2]["text"] == documents[3]["text"] == plain["text"]


def test_an_honest_rewording_stands_and_is_called_one(run, folder, model):
    asked = model(lambda text: text.replace("was found and named", "has been detected and labeled"))
    code, out, err = run("draft", folder, *ADDRESS)
    assert (code, err) == (0, "")
    assert out.startswith("Draft text, re-worded by the model small, checked by HeartLens ")
    assert "Calcium has been detected and labeled by rules. The estimated total Agatston score is 67," in out
    assert "State of the result: DRAFT, read by nobody." in out
    assert asked[0][0] == "127.0.0.1:9"
    length = len(asked[0][2][1]["content"])
    assert asked[0][3] == {"allow_remote": False, "seconds": 120.0, "max_tokens": length // 2}


@pytest.mark.parametrize("row", ANSWERS["poisoned"][::7], ids=lambda row: row["name"])
def test_after_a_poisoned_answer_the_draft_stands_and_one_line_says_why(row, run, folder, model):
    plain = run("draft", folder)[1]
    model(answer_of(row))
    code, out, err = run("draft", folder, *ADDRESS)
    assert (code, out) == (0, plain)
    assert err.startswith("note: re-wording refused: ")
    assert err.endswith("; the draft stands as the program wrote it\n")
    assert err.count("\n") == 1


def test_without_an_answer_the_draft_stands_and_one_line_says_why(run, folder):
    plain = run("draft", folder)[1]
    for url, words in (
        ("http://127.0.0.1:9", "127.0.0.1:9 cannot be asked"),
        ("http://192.0.2.1", "192.0.2.1:80 is not this computer"),
        ("nonsense", "expected an address"),
    ):
        code, out, err = run("draft", folder, "--reword", url, "--model", "small")
        assert (code, out, err.count("\n")) == (0, plain, 1)
        assert err.startswith(f"note: not re-worded: {words}")


def test_whom_to_ask_is_said_whole_or_not_at_all(run, folder):
    for words in (
        ("--model", "small"), ("--allow-remote",), ADDRESS[:2], (*ADDRESS[:3], ""), (*ADDRESS[:3], "a\nb"),
        (*ADDRESS, "--timeout", "0"), (*ADDRESS, "--timeout", "nan"),
    ):  # fmt: skip
        code, out, err = run("draft", folder, *words)
        assert (code, out, err.count("\n")) == (2, "", 1), words


def test_no_value_and_no_identity_is_shown_to_a_model():
    messages = json.dumps(messages_for(DRAFTS["busy"]))
    assert not any(letter.isdigit() for letter in messages)
    header = BUSY_CASE.source_ct.header
    for value in (*DRAFTS["busy"].values.values(), header.series_uid, header.study_uid):
        assert value in ("networks",) or value not in messages
    assert "LAD" not in messages


def test_what_a_model_is_told_it_may_use_is_what_the_checker_takes(model):
    """An honest model can only be honest by the words that it was given."""
    asked = model(lambda text: text)
    assert reword(DRAFTS["busy"], *ADDRESS[1::2]).lines == DRAFTS["busy"].skeleton.splitlines()
    assert set(asked[0][2][0]["content"].rpartition(": ")[2].split()) == FILLERS | set(CLAIM_OF)


def test_what_is_no_case_is_refused(run, tmp_path):
    code, out, err = run("draft", tmp_path)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "found no case.json" in err
