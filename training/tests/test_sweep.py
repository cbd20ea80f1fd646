"""A sweep: which cells there are, that none is run twice, and which one is best; on networks that train in a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.core.errors import InputRefused
from training import sweep
from training.datasets.shard_writer import write_shards
from training.datasets.splits import split_patients
from training.engine.run_log import read_log
from training.engine.sweeps.cells import RandomSearch, read_sweep
from training.engine.sweeps.results import CellResult, best_validation, rank_cells
from training.segmentation.recipe import SegmentationRecipe
from training.tests.test_train_unet import TINY, blob_scan

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
RUNS = REPOSITORY / "training" / "runs"


def write_sweep(folder: Path, text: str) -> Path:
    """A sweep of the smallest recipe that there is, beside it."""
    folder.mkdir(exist_ok=True)
    tables: dict[str, list[str]] = {}
    for setting in TINY:
        key, _, value = setting.partition("=")
        table, _, name = key.rpartition(".")
        tables.setdefault(table, []).append(f"{name} = {value}")
    lines = tables.pop("")
    for table, rows in tables.items():
        lines += [f"[{table}]", *rows]
    (folder / "tiny.toml").write_text("\n".join(lines))
    path = folder / "sweep.toml"
    path.write_text(f'recipe = "tiny.toml"\nchanges = ["steps=4", "validate_every=2"]\n{text}')
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("sweep-data")
    shards = write_shards(folder / "shards", (blob_scan(n) for n in range(10)))
    split_patients(shards, seed=1, proportions=(6, 2, 2)).save(folder / "splits.json")
    return ["--shards", str(folder / "shards"), "--splits", str(folder / "splits.json"), "--device", "cpu"]


@pytest.fixture(autouse=True)
def checkout(monkeypatch):
    """Cells are processes, which find this checkout by the environment."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    monkeypatch.setenv("PYTHONPATH", paths)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def logs(out: Path) -> dict[str, int]:
    """How many times each cell was begun."""
    return {path.parent.name: path.read_text().count("$ python -m") for path in out.glob("cells/*/output.txt")}


def test_a_grid_is_every_combination_and_a_search_is_drawn_within_its_ranges(tmp_path):
    path = write_sweep(
        tmp_path,
        "[grid]\noptimizer.rate = [1e-3, 1e-2]\nseed = [0, 1]\n[random]\ndraws = 3\n"
        "[random.uniform]\nloss.alpha = [0.5, 1.0]\n[random.log_uniform]\noptimizer.weight_decay = [1e-4, 1e-1]\n",
    )
    cells = read_sweep(path).cells()
    assert len({cell.name for cell in cells}) == 12
    assert cells[0].changes[:2] == ("optimizer.rate=0.001", "seed=0")
    alphas = sorted({float(cell.settings["loss.alpha"]) for cell in cells})
    assert len(alphas) == 3
    assert 0.5 <= alphas[0] < alphas[-1] <= 1
    assert len({cell.settings["optimizer.weight_decay"] for cell in cells[:4]}) == 1


def test_more_draws_keep_those_of_before():
    few, many = (RandomSearch(n, 7, ("loss.alpha", "loss.beta"), (0.5, 0.0), (1.0, 0.5)) for n in (2, 5))
    assert [few.draw(n) for n in range(2)] == [many.draw(n) for n in range(2)]
    shares = [RandomSearch(1, 7, ("a",), (1e-4,), (1.0,), ("a",)).draw(n)["a"] for n in range(400)]
    assert 0.15 < sum(share < 1e-3 for share in shares) / 400 < 0.35  # a quarter of the logarithm


def test_the_search_that_the_study_made_is_of_its_second_model_in_its_ranges():
    found = read_sweep(RUNS / "sweep-chew-tversky.toml")
    assert dict(zip(found.random.keys, zip(found.random.low, found.random.high, strict=True), strict=True)) == {
        "loss.alpha": (0.5, 1.0), "loss.beta": (0.0, 0.5),
    }  # fmt: skip
    assert found.recipe.name == "chew-2.toml"


@pytest.mark.parametrize("path", sorted(RUNS.glob("sweep-*.toml")), ids=lambda path: path.stem)
def test_every_sweep_of_the_folder_has_cells_that_its_loop_takes(path):
    assert len(sweep.checked_cells(read_sweep(path))) >= 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\nbatch = [2]\nbatsh = [3]\n", "unknown key batsh; did you mean batch"),
        ("[grid]\nbatch = 2\n", r"grid.batch: expected a list, found 2"),
        ("[grid]\nbatch = []\n", "grid: batch: expected one value or more, found none"),
        ("", "needs settings that vary"),
        ("[random]\ndraws = 2\n", "draws and keys belong together"),
        ("[random]\ndraws = 2\n[random.uniform]\nloss.alpha = [1.0, 0.5]\n", "must have a range that ascends"),
        ("[random]\ndraws = 2\n[random.uniform]\nloss.alpha = [1.0]\n", r"expected a range \[low, high\]"),
        ("[grid]\nloss.alpha = [1.0]\n[random]\ndraws = 2\n[random.uniform]\nloss.alpha = [0.5, 1.0]\n", "stand once"),
        ("figur = 1\n[grid]\nbatch = [2]\n", "unknown key figur; did you mean figure"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused_before_anything_runs(tmp_path, text, message):
    with pytest.raises(InputRefused, match=message):
        sweep.checked_cells(read_sweep(write_sweep(tmp_path, text)))


def test_cells_that_differ_in_their_seed_are_one_row_and_the_best_mean_comes_first():
    def result(rate: str, seed: int, value: float | None) -> CellResult:
        return CellResult({"optimizer.rate": rate, "seed": str(seed)}, value, died="" if value else "not finite")

    results = [result("1", 0, 0.9), result("1", 1, 0.5), result("2", 0, 0.8), result("2", 1, 0.7),
               result("3", 0, 0.99), result("3", 1, None)]  # fmt: skip
    rows = rank_cells(results, "larger")
    assert [(row.settings["optimizer.rate"], row.values) for row in rows] == [
        ("2", (0.8, 0.7)), ("1", (0.9, 0.5)), ("3", (0.99, None)),
    ]  # fmt: skip
    assert rows[0].mean == pytest.approx(0.75)
    assert [row.settings["optimizer.rate"] for row in rank_cells(results, "smaller")] == ["1", "2", "3"]


def test_the_best_validation_is_the_first_of_equal_ones_and_not_the_last(tmp_path):
    lines = [{"step": 2, "loss": 1.0}, {"step": 4, "dice": 0.5}, {"step": 6, "dice": 0.5, "x": 1.0},
             {"step": 8, "dice": None}, {"step": 9, "dice": 0.2}]  # fmt: skip
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert best_validation(tmp_path, "dice", "larger") == (4, {"dice": 0.5})
    assert best_validation(tmp_path, "dice", "smaller") == (9, {"dice": 0.2})
    with pytest.raises(InputRefused, match="has no finite f1; expected one of dice, loss, x"):
        best_validation(tmp_path, "f1", "larger")


GRID = "[grid]\noptimizer.rate = [1e-2, 1e30]\n"


def test_finished_cells_are_not_run_again_a_grid_may_grow_and_a_run_that_died_is_told(tmp_path, data, capsys):
    out = tmp_path / "out"
    words = [str(write_sweep(tmp_path / "a", GRID)), *data, "--out", str(out)]
    assert sweep.main(words) == 0
    said = capsys.readouterr().out
    assert "2 cells, 0 of them finished" in said
    assert "died: " in said
    once = logs(out)
    assert sorted(once.values()) == [1, 1]
    grown = write_sweep(tmp_path / "a", GRID.replace("1e30", "1e30, 1e-3"))
    assert sweep.main(words) == 0
    assert "3 cells, 2 of them finished" in capsys.readouterr().out
    assert {name: count for name, count in logs(out).items() if name in once} == once
    document = json.loads((out / "sweep.json").read_text())
    values = {one["settings"]["optimizer.rate"]: one["value"] for one in document["cells"]}
    assert values.pop("1e+30") is None
    assert set(values) == {"0.01", "0.001"}
    for cell in (out / "cells").iterdir():
        result = json.loads((cell / "cell.json").read_text())
        known = [line["validation_dice"] for line in read_log(cell / "run").values() if "validation_dice" in line]
        assert result["value"] == (max(known) if known and not result["died"] else None)
    best = max(values, key=values.__getitem__)
    rows = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("|")]
    assert rows[2].startswith(f"| {best} |")
    assert rows[-1] == "| 1e+30 | died |"
    grown.write_text(grown.read_text().replace("steps=4", "steps=6"))
    assert sweep.main(words) == 3
    assert "holds a sweep with other base; choose another --out" in capsys.readouterr().err


def test_a_cell_that_was_cut_short_goes_on_from_its_checkpoint(tmp_path, data, capsys):
    path = write_sweep(tmp_path / "a", "[grid]\nseed = [0]\n")
    path.write_text(path.read_text().replace("steps=4", "steps=100000"))
    out = tmp_path / "out"
    words = [str(path), *data, "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "training.sweep", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not any(read_log(run) for run in out.glob("cells/*/run")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 4, errors
    assert "stopped; run the same command to resume" in errors
    saved = max(out.glob("cells/*/run/checkpoints/step-*.pt"))  # a quick machine has passed a regular one by then
    assert not list(out.glob("cells/*/cell.json"))
    begun = int(saved.stem.removeprefix("step-"))
    assert sweep.main([*words, "--minutes", "0.02"]) == 4
    (later,) = out.glob("cells/*/run/log.jsonl")
    assert max(read_log(later.parent)) > begun
    assert list(logs(out).values()) == [2]


def test_workers_of_dask_run_the_cells_and_give_the_same_table(tmp_path, data):
    pytest.importorskip("distributed")
    path = write_sweep(tmp_path / "a", "[grid]\nseed = [0, 1]\n")
    tables = []
    for name, more in (("one", []), ("two", ["--workers", "2"])):
        assert sweep.main([str(path), *data, "--out", str(tmp_path / name), *more]) == 0
        tables.append((tmp_path / name / "table.md").read_text())
    assert tables[0] == tables[1]
    assert sorted(logs(tmp_path / "two").values()) == [1, 1]


def test_an_unknown_loop_and_options_that_exclude_each_other_are_refused(tmp_path, data, capsys):
    path = write_sweep(tmp_path, "[grid]\nseed = [0]\n")
    words = [str(path), *data, "--out", str(tmp_path / "out")]
    assert sweep.main([*words, "--slurm", str(tmp_path / "s.toml")]) == 3
    assert "--slurm needs --workers" in capsys.readouterr().err
    assert sweep.main([*words, "--slurm", str(tmp_path / "s.toml"), "--scheduler", "tcp://here:1"]) == 3
    path.write_text('command = "learn"\n' + path.read_text())
    assert sweep.main(words) == 3
    assert "expected one of train_unet, train_dino, train_slices, finetune_slices" in capsys.readouterr().err
    assert sweep.LOOPS["train_unet"] is SegmentationRecipe
    assert not (tmp_path / "out").exists()


def test_a_list_of_cells_runs_nothing(tmp_path, data, capsys):
    path = write_sweep(tmp_path, "[grid]\nseed = [0, 1]\n")
    assert sweep.main([str(path), *data, "--out", str(tmp_path / "out"), "--list"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["seed=0", "seed=1"]
    assert not (tmp_path / "out").exists()
