"""Agreement of two scores of each scan, worked out by hand."""

from __future__ import annotations

import pytest
from installed import need

need("duckdb", "pip install 'heartlens[cohort]'")

from heartlens.cohort.page.agreement import Truth, agreement_of, icc_absolute, read_truth  # noqa: E402
from heartlens.cohort.tables.parquet import connect  # noqa: E402
from heartlens.core.errors import InputRefused  # noqa: E402


@pytest.fixture
def con():
    con = connect()
    con.execute("CREATE TABLE series (subject VARCHAR, agatston DOUBLE, scheme VARCHAR, status VARCHAR)")
    scores = [("a", 0), ("b", 12), ("c", 104), ("d", 500), ("twice", 1), ("twice", 2)]
    con.executemany("INSERT INTO series VALUES (?, ?, 'heartlens', 'scored')", scores)
    con.execute("INSERT INTO series VALUES ('held', NULL, 'heartlens', 'held')")
    return con


def test_bias_and_limits_are_those_of_the_differences(con):
    known = {("a",): 0.0, ("b",): 10.0, ("c",): 100.0, ("held",): 3.0, ("twice",): 1.0, ("gone",): 1.0}
    found = agreement_of(con, Truth(("subject",), known))
    assert len(found.pairs) == 3, "held, doubtful and unknown ones are left out"
    assert found.unmatched == 3
    assert found.bias == pytest.approx(2)  # of 0, 2 and 4
    assert found.limits == pytest.approx((2 - 1.96 * 2, 2 + 1.96 * 2))  # their standard deviation is 2


def test_kappa_counts_categories_by_their_distance(con):
    known = {("a",): 0.0, ("b",): 12.0, ("c",): 50.0, ("d",): 500.0}
    found = agreement_of(con, Truth(("subject",), known))
    # absent, mild, moderate, high against absent, mild, mild, high: one pair one category apart. By chance the mean
    # distance is (0+2+3+4 + 2+0+1+2 + 2+0+1+2 + 4+2+1+0) / 16 = 26/16, and 1 - (1/4) / (26/16) = 11/13.
    assert found.kappa == pytest.approx(11 / 13)


def test_icc_of_two_raters_with_a_constant_difference():
    # 1, 2, 3 and 2, 3, 4: rows 2, columns 1.5, error 0; (2 - 0) / (2 + 0 + 2 (1.5 - 0) / 3) = 2/3.
    assert icc_absolute([(1, 2), (2, 3), (3, 4)]) == pytest.approx(2 / 3)
    assert icc_absolute([(1, 1)]) is None
    assert icc_absolute([(1, 1), (1, 1)]) is None


def test_nothing_in_common_is_no_agreement(con):
    assert agreement_of(con, Truth(("subject",), {("x",): 1.0})) is None


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["subject,score", "a,1"], "agatston"),
        (["agatston", "1"], "subject"),
        (["subject,agatston", "a,none"], "line 2"),
        (["subject,agatston", "a,1", "a,2"], "second line"),
    ],
)
def test_known_scores_that_cannot_be_meant_are_refused(tmp_path, lines, what):
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    with pytest.raises(InputRefused, match=what):
        read_truth(tmp_path / "truth.csv")


def test_exam_and_scan_tie_a_line_to_a_series_where_the_file_has_them(tmp_path):
    (tmp_path / "truth.csv").write_text("subject,exam,scan,agatston\nS1,1,2,40.5\n")
    assert read_truth(tmp_path / "truth.csv") == Truth(("subject", "exam", "scan"), {("S1", "1", "2"): 40.5})
