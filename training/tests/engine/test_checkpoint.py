"""Checkpoints: atomic, of one recipe, complete; and the order of samples."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from needed import torch

from heartlens.core.errors import InputRefused
from training.datasets.sampling import balanced_order, batch_at, epoch_order, sample_rng, share_of_rank, steps_per_epoch
from training.engine.checkpoint import Checkpoints, random_states, set_random_states, stop_signals

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Recipe:
    rate: float = 0.1


def parts(seed: int) -> dict:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer, "epoch": seed}


def test_a_resumed_run_has_the_same_weights_optimizer_values_and_random_states(tmp_path):
    saved = parts(1)
    Checkpoints(tmp_path, Recipe()).save(7, saved)
    drawn = (random.random(), float(np.random.rand()), torch.rand(1).item())  # noqa: NPY002
    fresh = parts(2)
    step, plain = Checkpoints(tmp_path, Recipe()).resume(fresh)
    assert (step, plain) == (7, {"epoch": 1})
    assert torch.equal(fresh["model"].weight, saved["model"].weight)
    one, other = (p["optimizer"].state_dict()["state"] for p in (fresh, saved))
    assert all(torch.equal(one[n][key], other[n][key]) for n in other for key in other[n])
    assert (random.random(), float(np.random.rand()), torch.rand(1).item()) == drawn  # noqa: NPY002


def test_without_a_checkpoint_a_run_begins_at_step_0(tmp_path):
    assert Checkpoints(tmp_path, Recipe()).resume(parts(1)) == (0, {})


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, Recipe(), keep=2)
    for step in (5, 100, 20):
        checkpoints.save(step, {"model": torch.nn.Linear(1, 1)})
    assert [path.name for path in checkpoints.paths()] == ["step-000000020.pt", "step-000000100.pt"]
    assert {path.name for path in checkpoints.folder.iterdir()} == {"step-000000020.pt", "step-000000100.pt"}


def test_a_checkpoint_of_another_recipe_is_refused_and_the_setting_named(tmp_path):
    Checkpoints(tmp_path, Recipe()).save(1, parts(1))
    with pytest.raises(InputRefused, match=r"another recipe .*: rate: 0.1, 0.2; give the run another folder"):
        Checkpoints(tmp_path, Recipe(0.2)).resume(parts(1))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    Checkpoints(tmp_path, Recipe()).save(1, {"model": torch.nn.Linear(3, 2)})
    with pytest.raises(InputRefused, match=r"model does not fit this network: .*size mismatch"):
        Checkpoints(tmp_path, Recipe()).resume({"model": torch.nn.Linear(4, 2)})
    with pytest.raises(InputRefused, match=r"expected the parts \['centre', 'model'\]"):
        Checkpoints(tmp_path, Recipe()).resume({"model": torch.nn.Linear(3, 2), "centre": 1})


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, Recipe())
    checkpoints.save(1, parts(1))
    newest = checkpoints.save(2, parts(1))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert checkpoints.resume(parts(2))[0] == 1
    assert "taking the one before" in caplog.text
    checkpoints.paths()[0].write_bytes(b"nothing")
    with pytest.raises(InputRefused) as refusal:
        checkpoints.resume(parts(2))
    assert refusal.value.code == "unreadable"


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path, Recipe())
    checkpoints.folder.mkdir()
    torch.save({"schema": "heartlens.checkpoint/1", "bomb": Path("x")}, checkpoints.folder / "step-000000001.pt")
    with pytest.raises(InputRefused, match="none of 1 checkpoints can be read"):
        checkpoints.resume(parts(1))


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_older_checkpoint_stays(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import torch
from heartlens.core.errors import InputRefused
from training.engine.checkpoint import write_torch
target = Path(sys.argv[1])
write_torch({"a": 1}, target)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_torch({"a": torch.zeros(100_000)}, target)
except InputRefused as refusal:
    print(refusal.code, torch.load(target), [p.name for p in target.parent.iterdir()])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])}
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "c.pt"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.strip() == "output {'a': 1} ['c.pt']", run.stderr


def test_random_states_survive_a_round_trip():
    states = random_states()
    expected = random.random()
    set_random_states(states)
    assert random.random() == expected


def test_sigterm_is_a_request_and_a_second_one_an_end():
    with stop_signals() as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert stop.signal == signal.SIGTERM
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_order_depends_on_seed_and_epoch_alone():
    assert sorted(epoch_order(6, 3, 0)) == [0, 1, 2, 3, 4, 5]
    assert (epoch_order(50, 3, 0) == epoch_order(50, 3, 0)).all()
    assert (epoch_order(50, 3, 0) != epoch_order(50, 3, 1)).any()
    assert (epoch_order(50, 3, 0) != epoch_order(50, 4, 0)).any()
    assert sample_rng(1, 2, 3).random() == sample_rng(1, 2, 3).random() != sample_rng(1, 2, 4).random()


@pytest.mark.parametrize(("share", "expected"), [(0.5, 20), (0.25, 40), (0.75, 13)])
def test_every_positive_is_seen_once_and_its_share_of_the_epoch_holds(share, expected):
    positive = np.arange(100) % 10 == 0
    order = balanced_order(positive, 1, 0, share)
    assert len(order) == expected
    assert sorted(order[positive[order]]) == list(range(0, 100, 10))
    assert len(set(order[~positive[order]])) == expected - 10  # no negative twice while there are enough


def test_half_of_each_batch_is_positive_even_when_there_are_few_negatives():
    positive = np.arange(12) > 1  # ten positives, two negatives
    order = balanced_order(positive, 5, 3)
    assert positive[order].reshape(-1, 4).sum(axis=1).tolist() == [2] * 5


def test_without_positives_the_order_is_plain():
    assert sorted(balanced_order(np.zeros(4, bool), 1, 0)) == [0, 1, 2, 3]


def test_ranks_share_a_batch_without_overlap():
    batch = np.arange(8)
    assert sorted(np.concatenate([share_of_rank(batch, rank, 2) for rank in (0, 1)])) == list(range(8))
    with pytest.raises(ValueError, match="8 does not divide by 3"):
        share_of_rank(batch, 0, 3)


def test_the_step_says_epoch_and_place():
    assert batch_at(0, 4, 10) == (0, slice(0, 4))
    assert batch_at(3, 4, 10) == (1, slice(4, 8))
    assert batch_at(2, 64, 10) == (2, slice(0, 64))
    with pytest.raises(ValueError, match="the split is empty"):
        steps_per_epoch(4, 0)
