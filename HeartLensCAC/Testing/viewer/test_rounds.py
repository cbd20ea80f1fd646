"""A second, blind reading and the third case of two: what is made, who sees what, and where the two differ."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from viewer.reviewed_chest import LAD, RCA, Server, hu, labels_of_state, other_hu, scored_plainly, write_case
from viewer.two_readings import COLUMN, FLAT, read_first

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.app.rounds.readings import make_second, make_third
from heartlens.case.case import Case
from heartlens.case.folder import find_case, load_case, save_case
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.viewer.app import Worklist
from heartlens.viewer.listed import second_readings, third_readings
from heartlens.viewer.readings import CHANGED, readings_beside

pytestmark = pytest.mark.slow


@pytest.fixture
def first(case) -> Path:
    """Report folder of Rita's reading."""
    read_first(case)
    return case.parent


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def total(state, name="total"):
    return next((row["agatston"] for row in state["totals"] if row["name"] == name), None)


# The second reading


def test_a_second_reading_begins_with_the_automatic_result_and_tells_nothing_of_the_first(first, tmp_path):
    before, out = contents(first), tmp_path / "second"
    with Server("--reader", "Ravi", "--second", out, first) as server:
        answers = [server.ask(f"api/cases/0{path}")[:2] for path in ("", "/state", "/heart")]
        assert [status for status, _ in answers] == [200] * 3
        assert "Rita" not in json.dumps(answers)
        scan, state = answers[0][1]["scan"], answers[0][1]["state"]
        assert scan["round"].startswith("Second reading, blind")
        assert (state["version"], state["is_signed"], state["viewed"]) == (0, False, {"slices": [], "lesions": []})
        assert [(row["id"], row["artery"], row["undecided"]) for row in state["lesions"]] == [
            (RCA, "RCA", True),
            (LAD, "LAD", False),
        ]
        assert (total(state, "LM"), total(state, "LCX"), total(state)) == ("0", "0", "2700")
        for path in (
            "readings",
            "exports/signed/report.dcm",
            "../../first",
            "%2e%2e/1",
            "exports/..%2f..%2fresult/case",
        ):
            assert server.ask(f"api/cases/0/{path}")[0] == 404, path
        assert server.ask("api/cases/1")[0] == 404, "the first reading is in no list"
        assert server.edit(kind="assign", lesion=RCA, artery="LCX")[0] == 200
    assert contents(first) == before
    assert load_case(find_case(out)).edits[0].who == "Ravi"
    with Server("--reader", "Ravi", "--second", out, first) as server:
        assert server.state()["version"] == 1, "it goes on where it was left"


def test_the_files_of_a_second_reading_tell_nothing_of_the_first(first, tmp_path):
    make_second(first / "case", tmp_path / "second", "Ravi")
    told = [path for path in (tmp_path / "second").rglob("*") if path.is_file() and b"Rita" in path.read_bytes()]
    assert told == []
    assert sorted(path.name for path in (tmp_path / "second" / "case").iterdir()) == [
        "auto.seg.nrrd",
        "case.json",
        "edits.jsonl",
        "report.json",
        "viewed.json",
    ]
    assert json.loads((tmp_path / "second" / "case" / "viewed.json").read_text())["readers"] == {
        "Ravi": {"slices": [], "lesions": []}
    }
    assert load_case(tmp_path / "second" / "case").report.total.agatston == 2700


def test_who_is_not_blind_is_refused(twice):
    first = twice / "first" / "case"
    make_second(first, twice / "second", "Ravi")  # his own: he goes on
    checked = json.loads((first / "case.json").read_text())
    checked["checksums"]["auto_sha256"] = "0" * 64  # as another version packed it: the lesions themselves are compared
    (twice / "older").mkdir()
    shutil.copytree(first, twice / "older" / "case")
    (twice / "older" / "case" / "case.json").write_text(json.dumps(checked))
    make_second(twice / "older" / "case", twice / "second", "Ravi")
    with pytest.raises(InputRefused, match="was read by Ravi, and Rosa is not blind to it"):
        make_second(first, twice / "second", "Rosa")
    make_third((first, twice / "second" / "case"), twice / "third")
    with pytest.raises(InputRefused, match="was made of two readings"):
        make_second(twice / "third" / "case", twice / "fourth", "Rosa")
    with pytest.raises(InputRefused, match="holds another case than a second reading"):
        make_second(first, twice / "third", "Rosa")


@pytest.mark.parametrize("image", [None, other_hu()], ids=["other labels", "another scan"])
def test_a_case_that_began_otherwise_or_of_another_scan_is_no_second_reading(first, tmp_path, image):
    (tmp_path / "other").mkdir()
    other = write_case(tmp_path / "other", is_empty=image is None, image=image)
    with pytest.raises(InputRefused, match="holds another case than a second reading"):
        make_second(first / "case", other.parent, "Ravi")
    with pytest.raises(InputRefused, match="holds another case than one of these two"):
        make_third((first / "case", first / "case"), other.parent)


def of_scan(folder: Path) -> str:
    return json.loads((find_case(folder) / "case.json").read_text())["checksums"]["voxels_sha256"]


def test_the_two_scans_of_these_tests_are_two(written_once, other_once):
    assert of_scan(written_once / "result") != of_scan(other_once / "result")
    assert load_case(other_once / "result" / "case").report.total.agatston == 1350 + 900


# Whose a second reading is


@pytest.mark.parametrize("observer", ["Reader^Ravi", "Ravi"])
def test_a_second_reading_that_was_signed_without_an_edit_is_its_reader_s(written_once, tmp_path, observer):
    first = write_case_with_nothing_open(tmp_path)
    make_second(first, tmp_path / "second", "Ravi")
    with ReviewSession.open(tmp_path / "second", reader="Ravi") as session:
        session.sign(observer, "Clinic", confirmed=True)
    make_second(first, tmp_path / "second", "Ravi")  # he goes on
    with pytest.raises(InputRefused, match="was read by Ravi, and Rosa is not blind to it"):
        make_second(first, tmp_path / "second", "Rosa")
    (tmp_path / "second" / "case" / "viewed.json").unlink()  # as an earlier version made it
    with pytest.raises(InputRefused, match=f"was read by {re.escape(observer)}, and Rosa is not blind"):
        make_second(first, tmp_path / "second", "Rosa")


def test_a_second_reading_that_somebody_has_begun_is_nobody_else_s(first, tmp_path):
    make_second(first / "case", tmp_path / "second", "Ravi")
    with pytest.raises(InputRefused, match="was read by Ravi, and Rosa is not blind to it"):
        make_second(first / "case", tmp_path / "second", "Rosa")


def write_case_with_nothing_open(place: Path) -> Path:
    """A case that can be signed as it is."""
    case = write_case(place)
    with ReviewSession.open(case, reader="Rita") as session:
        session.assign(RCA, Artery.RCA)
        decided = session.case
    shutil.rmtree(case)
    save_case(Case.of(decided.source_ct, decided.lesions, decided.protocol, provenance=decided.provenance), case)
    return case


# A CT that the case brings along


def test_second_and_third_cases_bring_the_ct_along_where_a_reading_does(tmp_path):
    case = write_case(tmp_path)
    with_ct = tmp_path / "first" / "case"
    with_ct.parent.mkdir()
    save_case(load_case(case), with_ct, embed_ct=True)
    shutil.rmtree(tmp_path / "ct")
    make_second(with_ct, tmp_path / "second", "Ravi")
    make_third((with_ct, tmp_path / "second" / "case"), tmp_path / "third")
    words = [str(tmp_path / "first"), str(tmp_path / "second"), "--adjudicate", str(tmp_path / "compared")]
    assert main(["compare", *words]) == 0
    shutil.rmtree(tmp_path / "first")
    made = [tmp_path / name for name in ("second", "third", "compared")]
    for n, place in enumerate(made):
        assert len(list((place / "case" / "ct").iterdir())) == hu().shape[0]
        assert load_case(place / "case").report.total.agatston == 2700, place
        shutil.rmtree(made[n])  # none leans on another


def test_a_folder_that_cannot_be_written_whole_is_not_left_behind(tmp_path):
    case = load_case(write_case(tmp_path))
    shutil.rmtree(tmp_path / "ct")
    with pytest.raises(InputRefused):
        save_case(case, tmp_path / "half", embed_ct=True)
    assert not (tmp_path / "half").exists()


# What is no reading


def test_a_third_case_is_no_reading(twice, capsys):
    pair = (twice / "first" / "case", twice / "second" / "case")
    make_third(pair, twice / "third")
    third = twice / "third" / "case"
    for words in (
        ["review", twice / "first", "--against", twice / "third", "--adjudicate", twice / "fourth"],
        ["review", twice / "third", "--against", twice / "second", "--adjudicate", twice / "fourth"],
        ["review", twice / "third", "--second", twice / "fourth", "--reader", "Rosa"],
        ["compare", twice / "first", twice / "third", "--adjudicate", twice / "fourth"],
    ):
        assert main([*map(str, words)]) == 3
        assert "was made of two readings" in capsys.readouterr().err
        assert not (twice / "fourth").exists()
    assert main(["compare", str(twice / "first"), str(twice / "third")]) == 0, "how far a reader was from it"
    (one,) = third_readings(twice, [pair[0]], [third, pair[1]], twice.parent / "thirds")
    assert one.readings == pair, "of a folder it is left out"
    seconds = second_readings(twice, [pair[0], third], twice.parent / "seconds", "Rosa")
    assert [one.folder for one in seconds] == [twice.parent / "seconds" / "first" / "case"]


def test_a_reading_is_not_compared_with_itself(twice, capsys):
    words = ["review", twice / "first", "--against", twice / "first", "--adjudicate", twice / "third"]
    assert main([*map(str, words)]) == 3
    assert "no scan was read twice" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["result", "result/second", "."])
def test_a_folder_in_the_way_of_the_first_reading_is_refused(first, out):
    before = contents(first)
    with pytest.raises(InputRefused, match="choose a folder beside it"):
        second_readings(first, [first / "case"], first.parent / out, "Ravi")
    assert contents(first) == before


def test_of_several_cases_each_has_a_folder_that_is_made_when_it_is_opened(written_once, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(written_once / "result", tmp_path / "list" / name)
    with pytest.raises(InputRefused, match="choose a folder beside it"):
        second_readings(tmp_path / "list", [tmp_path / "list" / "a" / "case"], tmp_path / "list" / "second", "Ravi")
    with Server("--reader", "Ravi", "--second", tmp_path / "out", tmp_path / "list") as server:
        assert server.ask("api/cases/0/state")[0] == 200
        assert server.ask("api/cases/0")[1]["scan"]["name"] == "a"
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
        assert server.ask("api/cases/1")[1]["scan"]["name"] == "b"
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]


def test_a_case_that_is_read_ahead_is_not_made(written_once, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copytree(written_once / "result", tmp_path / "list" / name)
    cases = [tmp_path / "list" / name / "case" for name in ("a", "b", "c")]
    worklist = Worklist(second_readings(tmp_path / "list", cases, tmp_path / "out", "Ravi"), reader="Ravi")
    worklist.open(1)
    worklist.prefetch(0)
    worklist.prefetch(1)
    worklist.close()  # waits for what was begun
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--second", "S", "A"], "--second needs --reader NAME"),
        (["--second", "S", "--reader", "Ravi", "A", "B"], "takes one case"),
        (["--against", "B", "A"], "go together"),
        (["--adjudicate", "C", "A"], "go together"),
        (["--second", "S", "--against", "B", "--adjudicate", "C", "--reader", "Ravi", "A"], "two different things"),
        (["--second", "S", "--reader", "Ravi", "--export-html", "H", "A"], "two different things"),
        (["--against", "B", "--adjudicate", "C", "--out", "D", "A"], "--out and --against do not go together"),
        (["--export-html", "H", "--port", "8041", "A"], "--port is of a server"),
        (["--export-html", "H", "--reader", "Rita", "A"], "--reader is of a server"),
    ],
)
def test_options_that_do_not_go_together_are_told(capsys, words, told):
    assert main(["review", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--second", "S", "--reader", "Ravi"], ["--export-html", "H"]])
def test_a_result_folder_for_what_is_scored_already_is_refused_by_name(case, tmp_path, capsys, words):
    assert main(["review", str(case), "--out", str(tmp_path / "new"), *words]) == 2
    assert "--out names the result folder of one CT, and everything here is scored already" in capsys.readouterr().err


def test_one_result_folder_for_two_cts_is_refused_by_name(tmp_path, capsys):
    for name in ("a.nrrd", "b.nrrd"):
        (tmp_path / name).write_text("")
    assert main(["review", str(tmp_path / "a.nrrd"), str(tmp_path / "b.nrrd"), "--out", str(tmp_path / "new")]) == 2
    assert "here are 2 CTs" in capsys.readouterr().err


# Both, and the third


def test_two_readings_lie_beside_the_third_case_with_what_differs(twice):
    before = contents(twice)
    arguments = ("--reader", "Rosa", twice / "first", "--against", twice / "second", "--adjudicate", twice / "third")
    with Server(*arguments) as server:
        answer = server.ask("api/cases/0")[1]
        assert answer["scan"]["has_readings"]
        assert answer["scan"]["round"].startswith("Third reading")
        assert total(answer["state"]) == str(750 + 1800 + 150 + 1350)
        assert sorted((row["artery"], row["agatston"], row["undecided"]) for row in answer["state"]["lesions"]) == [
            ("LAD", "150", True), ("LAD", "750", False), ("LCX", "1350", True), ("UNASSIGNED", "1800", False),
        ]  # fmt: skip
        status, beside, _ = server.ask("api/cases/0/readings")
        assert status == 200
        assert [(row["what"], row["words"]) for row in beside["differences"]] == [
            ("artery", ["LM 1800", "RCA 1800"]), ("A alone", ["LCX 1350", "–"]), ("extent", ["LAD 900", "LAD 750"]),
        ]  # fmt: skip
        k, j, i = beside["differences"][2]["kji"]
        assert FLAT[k, j, i] in COLUMN
        lines = " ".join(beside["lines"])
        assert f"Overlap of what is called coronary (Dice): {2 * 33 / (54 + 33):.2f}." in lines
        assert "Category: the same." in lines
        assert "3 differ, 0 agree voxel by voxel." in lines
        assert "SIGNED by Rita Reader" in beside["lines"][0]
        assert "READ" in beside["lines"][1]
        assert CHANGED not in lines
        for reading, expected in zip(
            beside["readings"], ({"LM": 1800, "LAD": 900, "LCX": 1350}, {"RCA": 1800, "LAD": 750}), strict=True
        ):
            plain = scored_plainly(labels_of_state(reading))
            assert {name: score for name, score in plain.items() if score} == expected
        assert server.edit(kind="assign", lesion=answer["state"]["lesions"][0]["id"], artery="LAD")[0] == 200
        assert server.ask("api/cases/0/edit", {"version": 0, "kind": "undo"})[0] == 409
    assert {name: digest for name, digest in contents(twice).items() if "/third/" not in name} == before
    with Server(*arguments) as server:
        assert server.state()["version"] == 1, "it goes on where it was left"


def test_a_page_of_another_reader_s_server_is_not_let_in(twice):
    with (
        Server("--reader", "Ravi", "--second", twice / "second", twice / "first") as second,
        Server(
            "--reader", "Rosa", twice / "first", "--against", twice / "second", "--adjudicate", twice / "third"
        ) as third,
    ):
        for path in ("api/cases/0", "api/cases/0/state", "api/cases/0/readings"):
            status, answer, _ = third.ask(path, X_HeartLens_Token=second.token)
            assert (status, sorted(answer)) == (401, ["code", "error"])
        assert third.ask("api/cases/0/readings")[0] == 200, "it shows what somebody else has open"


def test_a_reading_that_was_edited_since_is_told(twice):
    pair = (twice / "first" / "case", twice / "second" / "case")
    make_third(pair, twice / "third")
    third = load_case(twice / "third" / "case")
    assert CHANGED not in readings_beside(pair, third)["lines"]
    with ReviewSession.open(pair[1], reader="Ravi") as session:
        session.remove(LAD)
    beside = readings_beside(pair, third)
    assert beside["lines"][-1] == CHANGED
    assert [(row["what"], row["words"]) for row in beside["differences"]][-1] == ("A alone", ["LAD 900", "–"])


def test_readings_that_agree_differ_in_nothing(first, tmp_path):
    pair = (first / "case", tmp_path / "copy" / "case")
    shutil.copytree(first, tmp_path / "copy")
    make_third(pair, tmp_path / "third")
    beside = readings_beside(pair, load_case(tmp_path / "third" / "case"))
    assert beside["differences"] == []
    assert "0 differ, 3 agree voxel by voxel." in beside["lines"]


def test_what_one_reading_leaves_open_is_a_difference(first, tmp_path):
    make_second(first / "case", tmp_path / "second", "Ravi")
    with ReviewSession.open(first, reader="Rita") as session:
        session.assign(next(n for n, a in session.case.lesions.arteries.items() if a is Artery.LM), Artery.OTHER)
    pair = (first / "case", tmp_path / "second" / "case")
    make_third(pair, tmp_path / "third")
    rows = readings_beside(pair, load_case(tmp_path / "third" / "case"))["differences"]
    assert [(row["what"], row["words"]) for row in rows] == [
        ("B alone", ["not coronary", "RCA 1800 ?"]), ("A alone", ["LCX 1350", "–"]),
    ]  # fmt: skip


@pytest.mark.parametrize("b_says", ["decided", "removed", "undecided"])
def test_what_one_reading_leaves_open_and_nobody_calls_coronary_is_a_difference(tmp_path, b_says):
    """The networks called the RCA's 1800 not coronary and were not sure."""
    opened = load_case(write_case(tmp_path))
    lesions = LesionMap(opened.lesions.labels, {LAD: Artery.LAD, RCA: Artery.OTHER}, dict(opened.lesions.notes))
    pair = (tmp_path / "a" / "case", tmp_path / "b" / "case")
    for one in pair:
        one.parent.mkdir()
        save_case(Case.of(opened.source_ct, lesions, opened.protocol, provenance=opened.provenance), one)
    if b_says != "undecided":
        with ReviewSession.open(pair[1], reader="Ravi") as session:
            assert session.assign(RCA, Artery.OTHER) if b_says == "decided" else session.remove(RCA)
    make_third(pair, tmp_path / "third")
    beside = readings_beside(pair, load_case(tmp_path / "third" / "case"))
    b_words = {"decided": "not coronary", "removed": "–", "undecided": "not coronary 1800 ?"}[b_says]
    assert [(row["what"], row["words"]) for row in beside["differences"]] == [
        ("undecided", ["not coronary 1800 ?", b_words])
    ]
    k, j, i = beside["differences"][0]["kji"]
    assert lesions.labels[k, j, i] == RCA
    assert "1 differs, 1 agrees voxel by voxel." in beside["lines"]


def test_third_cases_of_two_folders_are_paired_by_their_scans_and_by_names_where_these_are_one(twice, tmp_path):
    def copied(side, *names):
        for name in names:
            shutil.copytree(twice / side, tmp_path / f"{side}s" / name)
        return [tmp_path / f"{side}s" / name / "case" for name in names]

    def listed(firsts, seconds):
        return third_readings(tmp_path / "firsts", firsts, seconds, tmp_path / "thirds")

    firsts, seconds = copied("first", "a", "b"), copied("second", "other", "b")
    assert [(one.folder, one.readings) for one in listed(firsts[:1], seconds[:1])] == [
        (tmp_path / "thirds" / "a" / "case", (firsts[0], seconds[0]))
    ]
    assert [one.readings for one in listed(firsts, seconds)] == [(firsts[1], seconds[1])]
    with pytest.raises(InputRefused, match="no scan was read twice"):
        listed(firsts[:1], seconds + copied("second", "c"))
    (seconds[0] / "case.json").write_text("{}")
    with pytest.raises(InputRefused, match="restore it from a copy"):
        listed(firsts, seconds)
    pair = ([twice / "first" / "case"], [twice / "second" / "case"])
    with pytest.raises(InputRefused, match="choose a folder beside it"):
        third_readings(twice / "first", *pair, twice / "second" / "third")
