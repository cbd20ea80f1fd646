"""Tables and page from rows with known numbers; attempts and rows as files."""

from __future__ import annotations

import csv

from installed import need

need("duckdb", "pip install 'heartlens[cohort]'")

from cohort_scans import table  # noqa: E402

from heartlens.__main__ import main  # noqa: E402
from heartlens.case.lock import Holder  # noqa: E402
from heartlens.cohort.cluster import Workers  # noqa: E402
from heartlens.cohort.folder import MOST_ATTEMPTS  # noqa: E402
from heartlens.cohort.page.figures import acquisition_rows, artery_rows, score_rows  # noqa: E402
from heartlens.cohort.row import row_of_report  # noqa: E402
from heartlens.cohort.run import run_cohort, to_do  # noqa: E402
from heartlens.cohort.settings import settings_of  # noqa: E402
from heartlens.cohort.tables.columns import FAILURE_COLUMNS, SERIES_COLUMNS, TABLES  # noqa: E402
from heartlens.cohort.tables.parquet import connect  # noqa: E402


def changed(report, **assessment):
    return {**report, "assessment": {**report["assessment"], **assessment}}


def test_a_row_holds_the_scores_of_its_report(report):
    row = row_of_report(report[0])
    assert (row["status"], row["agatston"], row["agatston_int"], row["category"]) == ("scored", 2700.0, 2700, "high")
    assert (row["lad_agatston"], row["rca_agatston"], row["lm_agatston"]) == (900.0, 1800.0, 0.0)
    assert (row["length_mm"], row["fov_mm"], row["age"], row["sex"]) == (57.0, 200.0, 63.0, "F")


def test_lesions_of_a_row_are_those_of_lesions_csv(report):
    document, lines = report
    rows = row_of_report(document)["lesions_found"]
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == lines


def test_a_scan_that_allows_no_statement_is_held_without_any_number(report):
    row = row_of_report(changed(report[0], evaluable="no", reasons=["heart-cut", "heart-cut-top"]))
    assert (row["status"], row["code"]) == ("held", "heart-cut-top")
    numbers = {"agatston", "category", "category_low", "cac_drs", "percentile", "likeliest", "volume_mm3"}
    assert not numbers & set(row)
    assert row["lesions_found"] == []


def test_between_two_categories_the_row_names_none(report):
    row = row_of_report(changed(report[0], category_low="mild", cac_drs_low="A1/N1"))
    assert (row["category"], row["category_low"], row["category_high"], row["cac_drs"]) == (None, "mild", "high", None)


def test_every_series_has_a_row_and_every_column_is_there(cohort):
    folder = cohort(({}, {}), ({"status": "refused", "code": "tilt", "text": "it is tilted"}, None), ({}, None))
    assert main(["cohort", "table", str(folder.path)]) == 0
    assert table(folder, "status, code, agatston", order="key") == [
        ("scored", None, 2700.0), ("refused", "tilt", None), ("waiting", None, None),
    ]  # fmt: skip
    assert [name for name, *_ in table(folder, "column_name FROM (DESCRIBE series) --")] == [
        c.name for c in SERIES_COLUMNS
    ]
    rows = list(csv.DictReader((folder.path / "failures.csv").read_text().splitlines()))
    assert [(list(row), row["code"]) for row in rows] == [([c.name for c in FAILURE_COLUMNS], "tilt")]
    assert {path.name for path in folder.path.iterdir()} >= {*TABLES, "cohort.duckdb", "report.html"}


def test_a_subject_from_a_list_is_no_formula_in_a_spreadsheet(cohort):
    folder = cohort(({"status": "refused", "code": "tilt", "subject": "=1+1"}, None))
    assert main(["cohort", "table", str(folder.path)]) == 0
    assert next(csv.DictReader((folder.path / "failures.csv").read_text().splitlines()))["subject"] == "'=1+1"


def test_views_have_the_names_of_other_cohorts(cohort):
    first = {"subject": "7", "exam": "1"}
    folder = cohort(
        ({**first, "scan": "1"}, {"agatston": 10.0}),
        ({**first, "scan": "2"}, {"agatston": 20.0}),
        ({"subject": "7", "exam": "2"}, {"agatston": 40.0}),
        ({"subject": "8", "exam": "1"}, {"status": "held", "code": "no-heart", "text": "", "agatston": None}),
    )
    assert main(["cohort", "table", str(folder.path), "--no-pairs"]) == 0
    assert table(folder, "idno, agatu11c, agatu21c, agatum1c, agatu12c", "mesa") == [("7", 10.0, 20.0, 15.0, 40.0)]
    assert table(folder, "pid, study_yr, agatston", "nlst")[-1] == ("8", 1, None)
    assert table(folder, "measurement_concept_id, value_as_number", "omop") == [
        (42872742, x) for x in (10.0, 20.0, 40.0)
    ]
    assert len(table(folder, "cac_score_1, cac_volume_1", "nhlbi")) == 3


def test_the_page_counts_what_became_of_the_scans_and_whom_a_reader_should_see(cohort):
    doubtful = {"category": None, "category_low": "mild", "undecided": 2, "agatston_low": 53.0}
    folder = cohort(
        ({}, {}), ({}, doubtful), ({"status": "duplicate", "code": "duplicate"}, None),
        ({}, {"status": "held", "code": "no-heart", "text": "no heart was found", "agatston": None, "evaluable": "no"}),
        ({}, {"status": "failed", "code": "crash", "text": "it ended", "evaluable": None, "agatston": None}),
    )  # fmt: skip
    truth = folder.path / "truth.csv"
    truth.write_text(f"key,agatston\n{0:032x},2600\n")
    assert main(["cohort", "table", str(folder.path), "--truth", str(truth)]) == 0
    page = (folder.path / "report.html").read_text()
    for text in (
        "<b>5</b>series found", "<b>4</b>planned", "<b>2</b>scored", "<b>1</b>held", "<b>1</b>failed",
        "ended its process three times", "women, 55–64", "the category depends on undecided lesions (2)",
        f"heartlens review results/{1:032x}/", "Bias +100.0", "not a medical device", "default-src &#39;none&#39;",
    ):  # fmt: skip
        assert text in page.replace("'", "&#39;"), text
    assert f"results/{0:032x}/" not in page
    assert "<script" not in page
    assert str(folder.path) not in page


def test_scans_that_are_held_are_in_no_mean_and_in_no_share_of_scores(cohort):
    held = {"status": "held", "code": "no-heart", "text": "", "agatston": None, "evaluable": "no"}
    folder = cohort(({}, {"agatston": 0.0}), ({}, {"agatston": 100.0}), ({}, held), ({}, held))
    assert main(["cohort", "table", str(folder.path)]) == 0
    con = connect(folder.path / "cohort.duckdb")
    scanner = ("HeartLens test Phantom 1", 4, 0.5, 0.5, 50.0)
    assert next(rows for _, rows in acquisition_rows(con)) == [scanner]
    assert [row[1:4] for row in score_rows(con)] == [(2, 0.5, 25.0)]
    assert [row for row in artery_rows(con) if row[0] == "RCA"] == [("RCA", 2, 1.0, 1800.0)]
    con.close()


def test_the_bar_of_a_group_is_as_long_as_its_scans_also_those_without_a_category(cohort):
    doubtful = {"category": None, "category_low": "mild", "undecided": 2}
    folder = cohort(({}, {}), ({}, doubtful), ({}, doubtful))
    assert main(["cohort", "table", str(folder.path)]) == 0
    page = (folder.path / "report.html").read_text()
    assert "n = 3</text>" in page
    assert "<title>a reader must decide: 2 of 3</title>" in page


def test_a_status_counts_and_tells_the_time_that_is_left(cohort, capsys):
    folder = cohort(({}, {}), ({}, {"status": "refused", "code": "gap", "text": ""}), ({}, None), ({}, None))
    assert main(["cohort", "status", str(folder.path)]) == 0
    said = capsys.readouterr().out
    assert "4 series planned" in said
    assert "1 refused: gap" in said
    assert "2.0 s a series so far; 4 s of one worker's time left" in said
    assert main(["cohort", "status", str(folder.path), "--keys"]) == 0
    assert capsys.readouterr().out.split() == [f"{n:032x}" for n in (2, 3)]


def test_settings_that_are_not_there_are_told_with_those_that_are_and_their_beginning_names_them(cohort, capsys):
    folder = cohort(({}, {}))
    settings, _ = settings_of({"bundle": "none"})
    assert main(["cohort", "table", str(folder.path), "--settings", "zz"]) == 3
    assert f"--settings zz: expected one of {settings}" in capsys.readouterr().err
    assert main(["cohort", "table", str(folder.path), "--settings", settings[:6]]) == 0


def test_rows_are_made_again_where_asked_and_where_the_person_is_said_otherwise(cohort):
    folder = cohort(({}, {}), ({}, {"status": "failed", "code": "crash", "text": ""}), ({"age": 50.0}, {"given": {}}))
    settings, _ = settings_of({"bundle": "none"})
    assert [task["key"] for task in to_do(folder, settings)] == [f"{2:032x}"]
    assert [task["key"] for task in to_do(folder, settings, frozenset({"crash"}))] == [f"{n:032x}" for n in (1, 2)]


def test_attempts_outlive_the_process_and_end_in_a_row(cohort):
    folder = cohort(({}, None))
    key, (settings, _) = f"{0:032x}", settings_of({"bundle": "none"})
    for count in range(MOST_ATTEMPTS):
        with folder.holding(key, settings) as attempts:  # left as by a process that was killed
            assert attempts.count == count
            attempts.begin()
            with folder.holding(key, settings) as other:
                assert isinstance(other, Holder)
    assert folder.in_work(settings) == [key]
    assert run_cohort(folder, Workers(0)) == {"failed": 1}
    assert folder.row(key, settings)["code"] == "crash"
    assert folder.in_work(settings) == []


def test_settings_change_with_options_and_bundle_and_not_with_the_device():
    of = [settings_of(words)[0] for words in ({"bundle": "none"}, {"bundle": "none", "kvp": 100.0}, {})]
    assert len(set(of)) == 3
    assert settings_of({"bundle": "none", "device": "cpu"})[0] == of[0]


def test_a_damaged_row_is_made_again(cohort):
    folder = cohort(({}, {}))
    settings, _ = settings_of({"bundle": "none"})
    folder.row_path(f"{0:032x}", settings).write_text("{")
    assert len(to_do(folder, settings)) == 1


def test_something_else_than_a_cohort_is_refused(tmp_path, capsys):
    for step in ("run", "status", "table"):
        assert main(["cohort", step, str(tmp_path)]) == 3
    assert "expected a planned cohort" in capsys.readouterr().err
