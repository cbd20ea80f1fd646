"""What a start is worth, by the command, as small as it can be: three starts, tuned with labels, in pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from needed import torch

from heartlens.core.errors import InputRefused
from training import fork, tuning_starts
from training.datasets.shard_writer import write_shards
from training.engine.cli import CANCELLED, DONE, REFUSED
from training.engine.config import write_recipe
from training.slice_classifier.weights import load_teacher
from training.tests.test_fork import TINY, scan
from training.tuning_starts import Starts, StartsRecipe, Tuning

pytestmark = pytest.mark.slow

TWO = StartsRecipe(seeds=2, steps=2, learning_rates=(1e-4, 1e-3), shares=(0.5, 1.0), draws=20)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A fork, and its starts: first with no time at all, then to the end."""
    folder = tmp_path_factory.mktemp("starts")
    write_shards(folder / "fork" / "shards", (scan(n) for n in range(9)))
    write_recipe(TINY, folder / "fork.toml")
    words = ["--recipe", str(folder / "fork.toml"), "--out", str(folder / "fork"), "--device", "cpu"]
    assert fork.main(words) == DONE
    write_recipe(TWO, folder / "two.toml")
    words = ["--recipe", str(folder / "two.toml"), "--fork", str(folder / "fork"), "--out", str(folder / "out")]
    assert tuning_starts.main([*words, "--device", "cpu", "--minutes", "0.00001"]) == CANCELLED
    assert not (folder / "out" / "tuning.json").exists()
    assert tuning_starts.main([*words, "--device", "cpu"]) == DONE
    return folder


def test_every_start_is_there_at_every_share_and_differences_are_paired(out):
    document = json.loads((out / "out" / "tuning.json").read_text())
    starts = ("random weights", "DINO", "DINO-LG")
    assert set(document["methods"]) == {f"{start} {share}" for start in starts for share in ("50%", "100%")}
    effect = document["differences"]["DINO-LG 50% - random weights 50%"]
    guided, nothing = (document["methods"][f"{start} 50%"]["by_seed"] for start in ("DINO-LG", "random weights"))
    assert effect["by_seed"] == pytest.approx(np.subtract(guided, nothing).tolist())
    assert {method["learning_rate"] for method in document["methods"].values()} <= {1e-4, 1e-3}
    assert "tuned from DINO-LG (rate" in (out / "out" / "table.md").read_text()


def test_each_start_is_what_it_says(out):
    starts = Starts(TWO, out / "fork", out / "out", fork.ALONE, None)
    assert starts._start(Tuning("random weights", 0, 1.0, 1e-3)) is None
    for name, run in (("DINO", "ancestor"), ("DINO-LG", "guided-1-1")):
        own = starts._start(Tuning(name, 1, 0.5, 1e-3)).state_dict()
        other = load_teacher(out / "fork" / "runs" / run).state_dict()
        assert all(torch.equal(own[key], other[key]) for key in own)


def test_what_is_complete_is_not_trained_again(out):
    before = {path: path.stat().st_mtime_ns for path in (out / "out").glob("runs/*/checkpoints/*.pt")}
    words = [f"--recipe={out / 'two.toml'}", f"--fork={out / 'fork'}", f"--out={out / 'out'}", "--device=cpu"]
    assert tuning_starts.main(words) == DONE
    assert {path: path.stat().st_mtime_ns for path in (out / "out").glob("runs/*/checkpoints/*.pt")} == before


def test_a_folder_that_is_no_fork_and_a_fork_without_its_runs_are_refused(out, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    write_recipe(TINY, tmp_path / "empty" / "recipe.toml")
    with pytest.raises(InputRefused, match=r"holds no shards; give the folder of a run of training\.fork"):
        Starts(TWO, tmp_path / "empty", tmp_path / "out", fork.ALONE, None)
    (tmp_path / "bare").mkdir()
    write_recipe(TINY, tmp_path / "bare" / "recipe.toml")
    (tmp_path / "bare" / "shards").symlink_to(out / "fork" / "shards")
    words = [f"--fork={tmp_path / 'bare'}", f"--out={tmp_path / 'out'}", "--device=cpu", "steps=1"]
    assert tuning_starts.main(words) == REFUSED
    assert "holds no checkpoints" in capsys.readouterr().err
