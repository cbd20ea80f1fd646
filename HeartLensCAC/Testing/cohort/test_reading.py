"""The scans of a cohort before a reader: in the order of need, by names that people recognize."""

from __future__ import annotations

import json

import pytest
from cohort_scans import plan
from installed import need

need("duckdb", "pip install 'heartlens[cohort]'")
need("starlette", "pip install 'heartlens[viewer]'")
need("uvicorn", "pip install 'heartlens[viewer]'")

from viewer.reviewed_chest import Server  # noqa: E402

from heartlens.__main__ import main  # noqa: E402
from heartlens.cohort.folder import CohortFolder  # noqa: E402
from heartlens.cohort.reading import cases_to_read  # noqa: E402
from heartlens.core.errors import InputRefused  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohort(chests, tmp_path_factory) -> CohortFolder:
    """Three scans with a score, one of which the study calls S7, and one that allows no statement; scored."""
    place = tmp_path_factory.mktemp("cohort")
    lines = [f"{chests / name},{subject},{exam}" for name, subject, exam in (
        ("half", "", ""), ("chest-1", "", ""), ("chest-2", "S7", "2"), ("chest-3", "", ""),
    )]  # fmt: skip
    (place / "list.csv").write_text("path,subject,exam\n" + "\n".join(lines) + "\n")
    folder = plan(place / "list.csv", out=place / "cohort")
    with pytest.raises(InputRefused, match="has no result to read"):
        cases_to_read(folder)
    assert main(["cohort", "run", str(folder.path), "--workers", "0"]) == 0
    return folder


def test_scans_are_named_as_the_study_or_their_folder_does_and_held_ones_come_last(cohort):
    found = cases_to_read(cohort)
    assert {one.name for one in found} == {
        "S7 · exam 2 · 2020-01-02", "chest-1 · 2020-01-01", "chest-3 · 2020-01-03", found[-1].name,
    }  # fmt: skip
    assert found[-1].name.startswith("half")
    assert [one.need for one in found].index("held: it allows no statement") == len(found) - 1
    assert all((one.folder / "case.json").is_file() for one in found)


def test_the_scan_whose_category_hangs_on_a_reader_comes_first(cohort):
    """Changed by hand in its row, as a scan with undecided lesions has it."""
    last = cases_to_read(cohort)[-2]
    key, settings = last.folder.parts[-3:-1]
    path = cohort.row_path(key, settings)
    before = path.read_bytes()
    row, lesions = cohort.row_with_lesions(key, settings)
    doubted = {"category": None, "category_low": "minimal", "category_high": "mild", "undecided": 1}
    found_lesions = [json.loads(line) for line in lesions.splitlines()]
    cohort.write_row({**row, **doubted, "agatston_high": 90.0, "lesions_found": found_lesions})
    try:
        found = cases_to_read(cohort)
    finally:
        path.write_bytes(before)
    assert found[0] == (last.folder, last.name, "the category depends on undecided lesions")


@pytest.mark.parametrize("command", [("review",), ("cohort", "review")])
def test_a_cohort_is_read_by_both_commands_and_its_log_names_nobody(cohort, command):
    with Server("--reader", "Rita", cohort.path, command=command) as server:
        answer = server.ask("api/worklist")[1]
        names = [row["name"] for row in answer["rows"]]
        assert names == [one.name for one in cases_to_read(cohort)]
        assert (answer["cases"], answer["is_by_need"]) == (4, True)
        assert server.ask("api/cases/1")[1]["scan"]["name"] == names[1]
        _, log = server.stop()
    assert not any(name in log or name.partition(" ")[0] in log for name in names)


def test_labels_of_a_cohort_lie_in_it(cohort):
    with Server("--reader", "Rita", cohort.path) as server:
        state = server.state()
        if not state["lesions"]:
            pytest.fail("the first scan has no lesion to be read")
        assert server.edit(kind="assign", lesion=state["lesions"][0]["id"], artery="LM")[0] == 200
        assert server.ask("api/worklist/labels", {})[1] == {"folder": str(cohort.path / "labels"), "cases": 1}


def test_a_cohort_beside_others_or_in_rounds_is_refused_by_name(cohort, tmp_path, capsys):
    for words, told in (
        (["--second", str(tmp_path / "s"), "--reader", "Rita"], "without --second"),
        (["--export-html", str(tmp_path / "h")], "without --export-html"),
        (["--out", str(tmp_path / "o")], "without --out"),
        ([str(tmp_path)], "without 2 places"),
    ):
        assert main(["review", str(cohort.path), *words]) == 2
        assert told in capsys.readouterr().err
    assert main(["cohort", "review", str(tmp_path)]) == 3
    assert "expected a planned cohort" in capsys.readouterr().err
    assert main(["cohort", "review", str(cohort.path), "--settings", "zz"]) == 3
    assert "--settings zz" in capsys.readouterr().err
