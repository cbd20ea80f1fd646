"""The learning curve by its command, on chests that are drawn by formulas: it runs, is kept, and grows."""

from __future__ import annotations

import json

import pytest
from needed import need, torch  # noqa: F401  - skips, or fails in CI, without it

from training import learning_curve
from training.datasets.splits import Splits
from training.tests.test_learn import FAST, PATIENTS, make_case, make_start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """One seed, one order, six cases: first with no time at all, then to the end."""
    need("onnxscript")
    folder = tmp_path_factory.mktemp("curve")
    start = make_start(folder / "start")
    cases = [make_case(folder / f"case{n}", n) for n in range(PATIENTS)]
    words = [*map(str, cases), f"--start={start}", f"--out={folder / 'out'}", *FAST, "--device", "cpu"]
    small = ["--sizes", "6", "--seeds", "0", "--orders", "random"]
    codes = [learning_curve.main([*words, *small, "--minutes", "0.0001"]), learning_curve.main([*words, *small])]
    return folder / "out", words, codes


def test_it_stops_when_its_time_is_over_and_the_same_command_ends_it(begun):
    out, _, codes = begun
    assert codes == [4, 0]
    (cell,) = json.loads((out / "curve.json").read_text())["cells"]
    assert (cell["order"], cell["size"], cell["judged"], cell["why_not"]) == ("random", 6, 5, "")
    assert cell["gain"] > 0.9  # the start called nothing
    assert "| 6 | random | +" in (out / "table.md").read_text()


def test_nobody_who_judges_teaches_and_as_many_teach_as_are_asked_for(begun):
    out, *_ = begun
    splits = Splits.load(out / "cases" / "splits.json")
    taught = json.loads((out / "seed-0" / "random-6" / "candidate" / "manifest.json").read_text())["lineage"]["data"]
    assert (taught["train"]["scans"], taught["test"]["scans"]) == (6, len(splits.test))
    assert len(splits.train) > 6


def test_a_curve_grows_by_an_order_and_a_size_and_what_is_there_is_not_trained_again(begun, capsys):
    out, words, _ = begun
    kept = out / "seed-0" / "random-6" / "cell.json"
    before = kept.stat().st_mtime_ns
    assert learning_curve.main([*words, "--sizes", "6", "50", "--seeds", "0"]) == 0
    assert kept.stat().st_mtime_ns == before
    document = json.loads((out / "curve.json").read_text())
    cells = {(cell["order"], cell["size"]): cell for cell in document["cells"]}
    assert set(cells) == {(order, size) for order in ("random", "active") for size in (6, 50)}
    assert cells["active", 6]["gain"] > 0.9
    assert cells["active", 50]["why_not"] == cells["random", 50]["why_not"] == "only 9 patients may teach"
    assert len(json.loads((out / "doubts.json").read_text())) == 9  # of those who may teach, and nobody else
    assert "active order minus random order" in capsys.readouterr().out


def test_other_settings_are_another_curve_and_rules_no_start(begun, tmp_path, capsys):
    out, words, _ = begun
    assert learning_curve.main([*words, "--set", "steps=41", "--sizes", "6"]) == 3
    assert f"{out} holds a curve with other recipe; choose another --out" in capsys.readouterr().err
    other = [word for word in words if not word.startswith("--start")]
    assert learning_curve.main([*other, "--start=none"]) == 3
    assert "rules have no weights" in capsys.readouterr().err
    assert learning_curve.main([*words, "--sizes", "0"]) == 3
    assert "--sizes: expected 1 or more patients" in capsys.readouterr().err
