"""How numbers are written, what is measured against an aim, and that a page keeps what stands outside the marks."""

from __future__ import annotations

import pytest

from heartlens.core.errors import InputRefused
from training.evaluation.results import Estimate
from training.evaluation.tables import PHANTOM_MARKS, STATISTIC_ROWS, Goal, put_into, shown, table


@pytest.mark.parametrize(
    ("estimate", "how", "words"),
    [
        (Estimate(0.5, 0.25, 1.0), {"digits": 2}, "0.50 (0.25 to 1.00)"),
        (Estimate(0.006, 0.0, 0.02), {"is_share": True}, "0.6 % (0.0 % to 2.0 %)"),
        (Estimate(-0.001, -0.004, 0.0), {"sign": True}, "−0.001 (−0.004 to +0.000)"),
        (Estimate(1234.5), {"digits": 1}, "1,234.5"),
        (Estimate(-0.0004, -0.4, 0.4), {"digits": 2}, "0.00 (−0.40 to 0.40)"),
        (Estimate(None), {}, "-"),
    ],
)
def test_a_number_and_its_interval(estimate, how, words):
    assert shown(estimate, **how) == words


def test_a_table_in_markdown():
    assert table(["a", "b"], [["1", "2"], ["3", "4"]]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"


def test_goals_take_their_edges():
    assert Goal(least=0.89).is_met(0.89)
    assert not Goal(least=0.89).is_met(0.8899)
    assert Goal(most=0.02).is_met(0.02)
    assert not Goal(most=0.02).is_met(0.0201)


def test_nothing_is_measured_against_a_figure_of_unknown_kind():
    """The paper's Table 6 does not say whether it counts pixels or lesions, so no F1 is an aim reached or missed."""
    rows = [row for row in STATISTIC_ROWS if "f1" in row.name]
    assert {row.name.split(".")[0] for row in rows} == {"lesions", "voxels"}
    assert all(row.goal is None for row in rows)
    assert len({row.words for row in rows}) == len(rows)


def test_a_page_without_marks_is_left_alone(tmp_path):
    page = tmp_path / "models.md"
    page.write_text("nothing here\n")
    with pytest.raises(InputRefused, match="expected the lines"):
        put_into(page, "tables", PHANTOM_MARKS)
    assert page.read_text() == "nothing here\n"
