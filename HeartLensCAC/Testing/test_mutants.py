"""The program that breaks the product in named ways, on a tree of one file; and its list, against the code as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = REPOSITORY / "scripts" / "mutants.py"

TILL = """def change(paid, price):
    return paid - price


def is_enough(paid, price):
    return paid >= price


def wait(minutes):
    while minutes > 0:
        minutes -= 1
"""

TESTS = """from pathlib import Path

import pytest
import till


def noted(name):
    with Path({notes!r}).open("a") as file:
        file.write(name + "\\n")


def test_change():
    noted("change")
    assert till.change(5, 3) == 2


def test_enough():
    noted("enough")
    assert till.is_enough(5, 3)


def test_wait():
    till.wait(3)


def test_wrong():
    assert till.change(1, 1) == 1


@pytest.mark.skip(reason="needs a cash drawer")
def test_drawer():
    assert till.change(5, 3) == 2
"""

GIVES_TOO_MUCH = {
    "name": "a customer gets too much change",
    "file": "till.py",
    "original": "paid - price",
    "mutated": "paid + price",
    "tests": ["test_till.py::test_change"],
}
REFUSES_EXACT = {  # the test pays 5 for 3, so it cannot tell
    "name": "who pays to the cent is sent away",
    "file": "till.py",
    "original": "paid >= price",
    "mutated": "paid > price",
    "tests": ["test_till.py::test_enough"],
}
NEVER_ENDS = {
    "name": "the till hangs",
    "file": "till.py",
    "original": "minutes -= 1",
    "mutated": "minutes += 1",
    "tests": ["test_till.py::test_wait"],
}


class Tree:
    """A till and its tests in a folder, and a list of mutations."""

    def __init__(self, folder: Path) -> None:
        self.root, self.notes = folder / "tree", folder / "notes.txt"
        (self.root / "scripts").mkdir(parents=True)
        (self.root / "till.py").write_text(TILL)
        (self.root / "test_till.py").write_text(TESTS.format(notes=str(self.notes)))
        self.notes.write_text("")

    def run(self, mutations: list[dict[str, object]], *options: str) -> subprocess.CompletedProcess[str]:
        (self.root / "scripts" / "mutants.json").write_text(json.dumps(mutations))
        command = [sys.executable, str(PROGRAM), "--root", str(self.root), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    @property
    def tests_run(self) -> list[str]:
        return self.notes.read_text().split()


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


@pytest.mark.slow
def test_a_mutation_that_a_test_notices_is_killed_and_the_tree_is_as_it_was(tree):
    run = tree.run([GIVES_TOO_MUCH])
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("killed ")
    assert "1 of 1 killed" in run.stdout
    assert tree.tests_run == ["change", "change"], "once on the code as it is, once on the mutated"
    assert (tree.root / "till.py").read_text() == TILL
    assert {path.name for path in tree.root.iterdir()} == {"till.py", "test_till.py", "scripts", "mutants.jsonl"}


@pytest.mark.slow
def test_a_survivor_is_named_with_its_tests_and_ends_with_1(tree):
    run = tree.run([GIVES_TOO_MUCH, REFUSES_EXACT])
    assert run.returncode == 1
    results = {line.split(" s  ")[1]: line.split()[0] for line in run.stdout.splitlines() if " s  " in line}
    assert results == {GIVES_TOO_MUCH["name"]: "killed", REFUSES_EXACT["name"]: "survived"}
    assert "till.py; test_till.py::test_enough" in run.stdout


@pytest.mark.slow
def test_a_text_that_does_not_occur_once_is_refused_before_anything_runs(tree):
    for original, count in (("paid * price", 0), ("paid", 4)):
        run = tree.run([GIVES_TOO_MUCH, {**REFUSES_EXACT, "original": original}])
        assert run.returncode == 2
        assert f"expected the text once in till.py, found it {count} times: {original!r}" in run.stderr
    assert tree.tests_run == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tests": ["test_till.py::test_gone"]}, "test_till.py has no test_gone"),
        ({"tests": ["test_gone.py"]}, "there is no test file test_gone.py"),
        ({"tests": []}, "no test is named"),
        ({"mutated": "paid -"}, "the mutated file is no Python"),
        ({"mutated": "paid - price"}, "changes nothing"),
        ({"name": REFUSES_EXACT["name"]}, "named twice"),
    ],
)
def test_a_mutation_that_does_not_fit_the_tree_is_refused(tree, changes, complaint):
    run = tree.run([REFUSES_EXACT, {**GIVES_TOO_MUCH, **changes}])
    assert run.returncode == 2
    assert complaint in run.stderr


@pytest.mark.slow
def test_code_in_a_folder_that_has_the_name_of_an_output_is_copied(tree):
    """`evaluation` at the top is what a command makes, `till/evaluation` a part of the program."""
    for folder in (tree.root / "evaluation", tree.root / "shop" / "evaluation"):
        folder.mkdir(parents=True)
        (folder / "costs.py").write_text("PRICE = 3\n")
    tests = tree.root / "test_till.py"
    tests.write_text(
        f"{tests.read_text()}\n\ndef test_places():\n    from shop.evaluation.costs import PRICE\n\n"
        "    assert not Path('evaluation').exists()\n    assert till.change(5, PRICE) == 2\n"
    )
    run = tree.run([{**GIVES_TOO_MUCH, "tests": ["test_till.py::test_places"]}])
    assert run.stdout.startswith("killed "), run.stdout


@pytest.mark.slow
def test_what_is_known_is_not_run_again_until_the_code_or_a_test_changes(tree):
    first = tree.run([GIVES_TOO_MUCH])
    begun = len(tree.tests_run)
    with (tree.root / "mutants.jsonl").open("a") as file:
        file.write('{"key": "cut of')  # the last line of a run that was stopped
    again = tree.run([GIVES_TOO_MUCH])
    assert len(tree.tests_run) == begun
    assert again.stdout.splitlines()[0] == first.stdout.splitlines()[0]
    tests = tree.root / "test_till.py"
    tests.write_text(tests.read_text().replace("change(5, 3) == 2", "change(9, 3) == 6", 1))
    assert tree.run([GIVES_TOO_MUCH]).returncode == 0
    assert len(tree.tests_run) == begun + 2


@pytest.mark.slow
def test_a_run_that_does_not_end_is_no_kill_unless_the_list_says_so(tree):
    run = tree.run([NEVER_ENDS], "--timeout", "3")
    assert run.returncode == 1
    assert run.stdout.startswith("timed out ")
    run = tree.run([{**NEVER_ENDS, "timeout_kills": True}], "--timeout", "3")
    assert run.returncode == 0
    assert run.stdout.startswith("killed ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "complaint"), [("test_wrong", "do not pass on the code as it is"), ("test_drawer", "are skipped here")]
)
def test_tests_that_fail_or_are_skipped_on_the_code_as_it_is_judge_nothing(tree, test, complaint):
    mutation = {**GIVES_TOO_MUCH, "tests": [f"test_till.py::{test}"]}
    for _ in range(2):  # what could not be judged is tried again
        run = tree.run([mutation])
        assert run.returncode == 1
        assert run.stdout.startswith("not judged ")
        assert complaint in run.stdout


@pytest.mark.slow
def test_a_change_that_cannot_be_imported_is_no_kill(tree):
    run = tree.run([{**GIVES_TOO_MUCH, "original": "def change(paid", "mutated": "nowhere\n\n\ndef change(paid"}])
    assert run.returncode == 1
    assert "no test ran to its end" in run.stdout


@pytest.mark.slow
def test_only_some_can_be_run_and_the_table_tells_what_is_known_of_all(tree):
    both = [GIVES_TOO_MUCH, REFUSES_EXACT]
    assert tree.run(both, "--list").stdout.splitlines() == [f"till.py: {m['name']}" for m in both]
    assert tree.run(both, "--only", "CHANGE").returncode == 0
    assert tree.run(both, "--only", "nothing like it").returncode == 2
    assert tree.run(both, "--table").returncode == 0
    rows = [line for line in (tree.root / "docs" / "mutants.md").read_text().splitlines() if "`till.py`" in line]
    assert rows[0].startswith(f"| {GIVES_TOO_MUCH['name']} | `till.py` | `test_till.py::test_change` | killed | ")
    assert rows[1] == f"| {REFUSES_EXACT['name']} | `till.py` | `test_till.py::test_enough` | not run |  |"


@pytest.mark.slow
def test_what_was_killed_on_other_code_stays_in_the_table_and_is_called_older(tree):
    page = tree.root / "docs" / "mutants.md"
    named = {**GIVES_TOO_MUCH, "name": "a|b gives | too much"}
    assert tree.run([named, REFUSES_EXACT], "--only", "too much").returncode == 0
    assert tree.run([named, REFUSES_EXACT], "--table").returncode == 0
    assert "1 of 2 are killed; their tests took" in page.read_text()
    tests = tree.root / "test_till.py"
    tests.write_text(tests.read_text() + "\n")
    for _ in range(2):  # the second time from its own page
        assert tree.run([named, REFUSES_EXACT], "--table").returncode == 0
        text = page.read_text()
        assert "0 of 2 are killed" in text
        assert "1 more were killed by an earlier run" in text
        rows = [line for line in text.splitlines() if "`till.py`" in line]
        assert [row.split(" | ")[-2] for row in rows] == ["killed before", "not run"]


def test_the_list_fits_the_code_and_reaches_every_part():
    run = subprocess.run([sys.executable, str(PROGRAM), "--list"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    files = [line.split(": ")[0] for line in run.stdout.splitlines()]
    assert len(files) >= 60
    for part in ("calcium", "networks", "case", "pipeline.py", "dicom"):
        assert sum(file.startswith(f"HeartLensCAC/heartlens/{part}") for file in files) >= 3, part
    assert sum(file.startswith("HeartLensCAC/HeartLensCACLib/") for file in files) >= 8
    assert sum(file.startswith("training/") for file in files) >= 12
