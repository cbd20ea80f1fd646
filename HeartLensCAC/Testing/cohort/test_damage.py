"""What is altered, open, cut or full: no row says more than is known, nothing of a reader is lost, and it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import need

need("duckdb", "pip install 'heartlens[cohort]'")

from cohort_scans import AGATSTON_OF_A_VOXEL, plan, table  # noqa: E402

from heartlens.__main__ import main  # noqa: E402
from heartlens.app.review_session import ReviewSession  # noqa: E402
from heartlens.case.lock import lock_case  # noqa: E402
from heartlens.cohort.cluster import Workers  # noqa: E402
from heartlens.cohort.run import run_cohort, to_do  # noqa: E402
from heartlens.cohort.settings import settings_of  # noqa: E402
from heartlens.risk.person import RiskInputs  # noqa: E402

SETTINGS = settings_of({"bundle": "none"})[0]
STATES = "agatston, state, reader"


@pytest.fixture
def key(scored):
    """Of the chest with a plaque of two voxels."""
    return next(row["key"] for row in scored.planned(("key", "folder")) if row["folder"].endswith("chest-2"))


@pytest.fixture
def result(scored, key):
    return scored.result_path(key, SETTINGS)


@pytest.fixture
def row(scored, key):
    """`row()` makes the tables, and gives score, state and reader of the chest."""

    def read(columns: str = STATES) -> tuple:
        assert main(["cohort", "table", str(scored.path), "--no-pairs"]) == 0
        (found,) = table(scored, f"{columns} FROM series WHERE key = '{key}' --")
        return found

    return read


def sign(result: Path) -> None:
    with ReviewSession.open(result, reader="R") as session:
        session.sign("Reader^Rita", "Hospital", confirmed=True)


SCORE = pytest.approx(2 * AGATSTON_OF_A_VOXEL)


def test_a_signed_case_has_its_reader_in_the_table(row, result):
    assert row() == (SCORE, "draft", None)
    sign(result)
    assert row() == (SCORE, "signed", "Reader^Rita")


def test_a_signature_that_was_removed_is_an_altered_case_and_nobodys(row, result, capsys):
    sign(result)
    (result / "case" / "signature.json").unlink()
    assert row() == (SCORE, "altered", None)
    assert "1 signed cases were altered" in capsys.readouterr().err


def test_of_an_altered_report_the_numbers_are_not_believed(row, result):
    sign(result)
    report = result / "case" / "report.json"
    document = json.loads(report.read_text())
    document["total"]["agatston"] = 0.0
    report.write_text(json.dumps(document))
    assert row() == (SCORE, "altered", None)


def test_a_signature_that_cannot_be_verified_names_nobody(row, result, monkeypatch, capsys):
    monkeypatch.setenv("HEARTLENS_SIGNING_KEY", "of the site")
    sign(result)
    assert row() == (SCORE, "signed", "Reader^Rita")
    monkeypatch.delenv("HEARTLENS_SIGNING_KEY")
    assert row() == (SCORE, "draft", None)
    assert "1 signatures cannot be verified" in capsys.readouterr().err


def test_a_case_that_was_graded_again_is_tabled_as_it_is_graded(row, result):
    sign(result)
    with ReviewSession.open(result, reader="R") as session:
        assert session.grade(RiskInputs("heartlens", 71.0, "M", "white", None))
    assert row("age, sex, race, state, reader") == (71.0, "M", "white", "draft", None)


def test_a_case_with_half_a_report_is_a_failure_and_the_table_is_made(row, result):
    sign(result)
    (result / "case" / "case.json").write_text('{"schema": "heartlens.case/2"}')
    assert row("status, code, agatston, reader") == ("failed", "checksum", None, None)


def test_a_result_that_a_reader_has_open_is_not_deleted(scored, result, capsys):
    with ReviewSession.open(result, reader="R"):
        assert run_cohort(scored, Workers(0), retry=frozenset({"scored"})) == {"scored": 1}, "the other chest"
        assert (result / "case" / "case.json").is_file()
    assert "1 series were not scored again" in capsys.readouterr().err


def test_a_result_whose_signature_was_removed_is_not_deleted(scored, result):
    sign(result)
    (result / "case" / "signature.json").unlink()
    before = (result / "case" / "report.json").read_bytes()
    assert run_cohort(scored, Workers(0), retry=frozenset({"scored"})) == {"scored": 1}
    assert (result / "case" / "report.json").read_bytes() == before


def test_a_series_in_work_elsewhere_is_not_cleared(scored, key, result):
    with scored.holding(key, SETTINGS):
        assert not scored.clear(key, SETTINGS)
    assert result.is_dir()
    assert scored.clear(key, SETTINGS)
    assert not result.exists()
    assert scored.row(key, SETTINGS) is None
    assert list(scored.work.iterdir()) == []


CUTS = {
    "empty": lambda data: b"",
    "cut within the row": lambda data: data[:200],
    "cut after the row": lambda data: data[: data.index(b"\n") + 1],
    "cut within the lesions": lambda data: data[:-150],
    "another number": lambda data: data.replace(b'"agatston": ', b'"agatston": 1', 1),
    "garbage": lambda data: b"\x00\xff{" * 100,
    "a lesion that is none": lambda data: data.replace(b'"artery": "RCA"', b'"artery" "RCA"'),
    "another key's": lambda data: data.replace(data[9:41], b"0" * 32),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_a_damaged_row_waits_is_told_and_is_made_again_of_its_result(scored, key, result, row, cut, capsys):
    path = scored.row_path(key, SETTINGS)
    before = scored.row(key, SETTINGS)
    path.write_bytes(cut(path.read_bytes()))
    made = (result / "report.json").stat().st_mtime_ns
    assert row("status") == ("waiting",)
    assert "1 rows are damaged" in capsys.readouterr().err
    assert main(["cohort", "status", str(scored.path)]) == 0
    assert "1 of those that wait have a damaged row" in capsys.readouterr().out
    assert main(["cohort", "status", str(scored.path), "--keys"]) == 0
    assert capsys.readouterr().out.split() == [key]
    assert run_cohort(scored, Workers(0)) == {"scored": 1}
    after = scored.row(key, SETTINGS)
    assert {**after, "seconds": 0, "peak_mb": 0} == {**before, "seconds": 0, "peak_mb": 0}
    assert (result / "report.json").stat().st_mtime_ns == made, "what was scored is scored again"


def test_a_damaged_row_of_a_case_that_a_reader_has_signed_is_made_again_and_the_case_stays(scored, key, result, row):
    sign(result)
    scored.row_path(key, SETTINGS).write_text("{")
    assert run_cohort(scored, Workers(0)) == {"scored": 1}
    assert row() == (SCORE, "signed", "Reader^Rita")


def test_a_result_that_cannot_be_read_is_made_again(scored, key, result):
    scored.row_path(key, SETTINGS).unlink()
    (result / "report.json").write_text("{")
    assert run_cohort(scored, Workers(0)) == {"scored": 1}
    assert json.loads((result / "report.json").read_text())["total"]["agatston"] == SCORE


def test_a_result_of_another_age_is_not_taken_for_this_one(scored, key, result):
    scored.row_path(key, SETTINGS).unlink()
    (task,) = to_do(scored, SETTINGS)
    from heartlens.cohort.work import score_planned

    score_planned(str(scored.path), SETTINGS, {"bundle": "none"}, {**task, "age": 44.0})
    assert scored.row(key, SETTINGS)["age"] == 44.0


def test_a_damaged_comparison_is_made_again(scored, tmp_path):
    pair = scored.pairs / "any.json"
    from heartlens.cohort.tables.pairs import _read

    for text in ("[1]", '{"verdict": "more", "unknown": 1}', "{}", "{"):
        pair.write_text(text)
        assert _read(pair) is None, text
    pair.write_text('{"verdict": "more", "change_low": 1.0}')
    assert _read(pair) == {"verdict": "more", "change_low": 1.0}


LIMITED = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from heartlens.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def limited(limit_bytes: int, *words: str) -> subprocess.CompletedProcess:
    """A command whose files the kernel lets grow no further, as a full disk would; it writes its code into memory."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit_bytes), *words], capture_output=True, text=True, timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def refused(run: subprocess.CompletedProcess) -> None:
    """One sentence, by its code."""
    assert run.returncode == 3, run.stderr
    lines = [line for line in run.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("error: output: ")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("limit_bytes", [0, 1500])
def test_a_plan_that_a_full_disk_does_not_take_leaves_nothing_and_is_made_later(chests, tmp_path, limit_bytes):
    command = ["cohort", "plan", str(chests / "chest-1"), "--out", str(tmp_path / "new" / "cohort"), "--bundle", "none"]
    refused(limited(limit_bytes, *command))
    assert names(tmp_path) == set()
    assert main(command) == 0


def test_a_second_plan_that_a_full_disk_does_not_take_leaves_the_first(scored, chests):
    before = {name: (scored.path / name).read_bytes() for name in ("plan.parquet", "cohort.json")}
    there = names(scored.path)
    again = ["cohort", "plan", str(chests), "--out", str(scored.path), "--force", "--bundle", "none", "--kvp", "100"]
    refused(limited(1500, *again))
    assert {name: (scored.path / name).read_bytes() for name in before} == before
    assert names(scored.path) == there


@pytest.mark.parametrize("limit_bytes", [0, 2000, 10_000])
def test_a_run_that_a_full_disk_ends_says_so_counts_nothing_against_the_scan_and_goes_on(chests, tmp_path, limit_bytes):
    folder = plan(chests / "chest-1", out=tmp_path / "cohort")
    refused(limited(limit_bytes, "cohort", "run", str(folder.path), "--workers", "0"))
    assert folder.in_work(SETTINGS) == []
    assert not [name for name in names(folder.results) if name.count("/") > 1]
    assert list(folder.rows.iterdir()) == []
    assert run_cohort(folder, Workers(0)) == {"scored": 1}


@pytest.mark.parametrize("limit_bytes", [0, 3000, 100_000])
def test_tables_that_a_full_disk_does_not_take_leave_the_old_ones(scored, key, result, row, limit_bytes):
    assert row() == (SCORE, "draft", None)
    tables = ("series.parquet", "lesions.parquet", "pairs.parquet", "failures.csv", "cohort.duckdb", "report.html")
    before = {name: (scored.path / name).read_bytes() for name in tables}
    sign(result)
    refused(limited(limit_bytes, "cohort", "table", str(scored.path), "--no-pairs"))
    assert {name: (scored.path / name).read_bytes() for name in tables} == before
    assert not [name for name in names(scored.path) if name.startswith(".")]
    assert row() == (SCORE, "signed", "Reader^Rita")


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_workers_ends_the_run_with_one_sentence_and_it_goes_on(chests, tmp_path):
    need("distributed", "pip install 'heartlens[cohort]'")
    folder = plan(chests, out=tmp_path / "cohort")
    refused(limited(10_000, "cohort", "run", str(folder.path), "--workers", "2"))
    assert folder.in_work(SETTINGS) == [], "an attempt is counted that no scan is to blame for"
    assert run_cohort(folder, Workers(0)) == {"scored": 3, "held": 1}


def test_what_killed_tables_leave_is_cleared_away_by_the_next_run_and_what_is_being_made_is_not(scored):
    left, made = scored.path / ".tables-left", scored.path / ".tables-made"
    for place in (left, made):
        place.mkdir()
        (place / "series.jsonl").write_text("{}")
    old, new = (scored.rows / f".row-{token * 16}.jsonl" for token in "ab")
    for file in (old, new):
        file.write_text("{")
    os.utime(old, (0, 0))
    lock = lock_case(made)
    run_cohort(scored, Workers(0))
    assert (left.exists(), made.exists()) == (False, True)
    assert (old.exists(), new.exists()) == (False, True), "a job of an array may be writing its row"
    lock.release()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--retry", "crashed"], 2, "crashed is no status (scored, held, refused, failed) and no code"),
        (["--slurm", "slurm.toml", "--workers", "0"], 2, "--slurm needs --workers"),
        (["--memory", "much"], 3, "--memory: expected a size such as 2GiB, found 'much'"),
    ],
)
def test_what_a_run_cannot_mean_is_refused_before_anything_is_done(scored, capsys, words, code, told):
    need("distributed", "pip install 'heartlens[cohort]'")
    for row in scored.rows.iterdir():
        row.unlink()
    assert main(["cohort", "run", str(scored.path), *words]) == code
    assert told in capsys.readouterr().err
    assert list(scored.rows.iterdir()) == []
