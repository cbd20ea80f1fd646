"""The loop that all trainers share: resume, guard, log, the best figure, save, and one end for all processes."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from needed import torch
from two_processes import run_two

from heartlens.core.errors import InputRefused
from training.engine.checkpoint import read_checkpoint
from training.engine.cli import deadline_after
from training.engine.distributed import Ranks, data_parallel, require_even_batch
from training.engine.loop import BestFigure, TrainingLoop, clip_gradient
from training.engine.monitor import NonFiniteGuard, TrainingFailed
from training.engine.run_log import read_log


@dataclass(frozen=True)
class Recipe:
    rate: float = 0.1


class Counter:
    """A part whose state is how often it was stepped."""

    steps = 0

    def state_dict(self) -> dict[str, int]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]


def train(run: Path, counter: Counter, steps: int = 6, *, at: dict[int, float] | None = None, **options) -> bool:
    """A run that counts its steps; `at` says whose loss is what, and a signal comes where it is None."""
    settings = {"data": "these scans", "other_data": "begun on other scans", "save_every": 4, **options}
    loop = TrainingLoop(run, Recipe(), {"counter": counter}, "count", steps, **settings)
    with loop:
        while not loop.is_complete:
            loss = (at or {}).get(loop.done + 1, 1.0)
            if loss is None:
                os.kill(os.getpid(), signal.SIGTERM)
                loss = 1.0
            if loop.is_finite(loss, lambda: ["scan/3 slice 7"]):
                counter.steps += 1
            loop.count(8)
            loop.note(loss=loss)
            if loop.save_or_stop():
                break
    return loop.is_complete


def saved_steps(run: Path) -> list[int]:
    return [read_checkpoint(path)["step"] for path in sorted((run / "checkpoints").glob("*.pt"))]


def test_a_run_saves_every_so_many_steps_and_at_its_end(tmp_path):
    assert train(tmp_path, Counter(), steps=10, keep=9)
    assert saved_steps(tmp_path) == [4, 8, 10]
    assert sorted(read_log(tmp_path)) == list(range(1, 11))


def test_a_run_goes_on_where_it_was_asked_to_stop(tmp_path):
    first, second = Counter(), Counter()
    assert not train(tmp_path, first, until=3)
    assert saved_steps(tmp_path) == [3]
    assert train(tmp_path, second)
    assert (first.steps, second.steps) == (3, 6)


def test_a_signal_ends_the_run_after_the_step_in_which_it_comes(tmp_path):
    assert not train(tmp_path, Counter(), at={2: None})
    assert saved_steps(tmp_path) == [2]


def test_a_time_budget_ends_the_run_after_the_step_in_which_it_is_over(tmp_path):
    assert not train(tmp_path, Counter(), deadline=time.monotonic())
    assert saved_steps(tmp_path) == [1]
    assert train(tmp_path, Counter(), deadline=time.monotonic() + 3600)


def test_a_run_that_is_asked_to_stop_in_its_last_step_is_complete(tmp_path):
    assert train(tmp_path, Counter(), at={6: None})
    assert saved_steps(tmp_path)[-1] == 6


def test_a_run_that_is_complete_makes_no_step(tmp_path):
    train(tmp_path, Counter())
    again = Counter()
    assert train(tmp_path, again)
    assert again.steps == 6  # of the checkpoint


def test_a_run_is_not_continued_on_other_data(tmp_path):
    train(tmp_path, Counter(), until=2)
    with pytest.raises(InputRefused, match=r"was begun on other scans$"):
        train(tmp_path, Counter(), data="those scans")


def test_a_bad_step_is_left_out_and_three_in_a_row_end_the_run_with_what_they_saw(tmp_path):
    counter = Counter()
    assert train(tmp_path / "one", counter, at={2: math.nan, 3: math.inf, 5: math.nan})
    assert counter.steps == 3
    with pytest.raises(TrainingFailed, match=r"step 4: .* not finite 3 times in a row, the last on scan/3 slice 7;"):
        train(tmp_path / "three", Counter(), at={2: math.nan, 3: math.nan, 4: math.nan})


def test_where_only_epochs_can_be_looked_at_the_first_bad_one_ends_the_run(tmp_path):
    with pytest.raises(TrainingFailed, match="epoch 2: the loss is not finite; lower the learning rate"):
        train(tmp_path, Counter(), at={2: math.nan}, guard=NonFiniteGuard(patience=1, unit="epoch"))


def test_the_best_is_the_largest_of_the_named_figure_and_the_first_of_equals():
    best = BestFigure("dice")
    dice = [0.2, 0.6, 0.6, 0.4, math.nan, 0.7]
    assert [best.take({"dice": d, "loss": -n}) for n, d in enumerate(dice)] == [True, True, False, False, False, True]
    assert best.value == 0.7
    with pytest.raises(KeyError):
        best.take({"loss": 1.0})


def test_a_loop_logs_a_validation_and_says_whether_it_is_the_best(tmp_path):
    settings = {"data": 1, "other_data": "begun on other scans"}
    loop = TrainingLoop(tmp_path, Recipe(), {}, "x", 2, best=BestFigure("auc"), **settings)
    answers = []
    with loop:
        for auc in (0.9, 0.8):
            loop.count(1)
            answers.append(loop.is_best({"auc": auc, "f1": 0.5}))
    assert answers == [True, False]
    assert read_log(tmp_path) == {1: {"auc": 0.9, "f1": 0.5}, 2: {"auc": 0.8, "f1": 0.5}}


def test_a_gradient_of_3_and_4_has_length_5_and_is_shortened_to_the_limit():
    network = torch.nn.Linear(2, 1, bias=False)
    for limit, after in ((1.0, [0.6, 0.8]), (10.0, [3.0, 4.0]), (0.0, [3.0, 4.0])):
        network.weight.grad = torch.tensor([[3.0, 4.0]])
        assert float(clip_gradient(network, limit)) == pytest.approx(5)
        assert network.weight.grad[0].tolist() == pytest.approx(after)


def test_a_batch_that_cannot_be_shared_out_is_refused_in_one_line():
    require_even_batch(8, Ranks(1, 4))
    with pytest.raises(InputRefused, match="batch must divide by the 3 processes, got 8; choose another batch size"):
        require_even_batch(8, Ranks(0, 3))


def test_one_process_calls_the_network_itself():
    network = torch.nn.Linear(1, 1)
    assert data_parallel(network, Ranks()) is network


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "ten"])
def test_a_time_budget_is_a_number_above_zero(minutes):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number of minutes above 0, got"):
        deadline_after(minutes)


def test_a_time_budget_counts_minutes_from_now():
    assert deadline_after("2.5") - time.monotonic() == pytest.approx(150, abs=5)


TWO = """
import json, math, sys, time
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1])))
import test_loop
from training.engine.distributed import process_group
from training.engine.monitor import TrainingFailed

SECOND = {"signal": {"at": {3: None}}, "budget": {"deadline": time.monotonic()}, "bad": {"at": {2: math.nan}},
          "dead": {"at": {2: math.nan, 3: math.nan, 4: math.nan}}}
ends = {}
with process_group("cpu") as ranks:
    for what, options in SECOND.items():
        counter = test_loop.Counter()
        try:
            options = options if ranks.rank == 1 else {}
            is_complete = test_loop.train(Path(sys.argv[2]) / what, counter, ranks=ranks, **options)
            ends[what] = [is_complete, counter.steps]
        except TrainingFailed as death:
            ends[what] = str(death)[:54]
print(json.dumps(ends))
"""


@pytest.mark.slow
def test_what_happens_to_one_process_ends_the_same_step_of_both(tmp_path):
    """A signal, a time budget that is over, or a loss that is not finite comes to the second process alone."""
    (tmp_path / "two.py").write_text(TWO)
    ends = run_two(str(tmp_path / "two.py"), str(Path(__file__).parent), str(tmp_path))
    assert [end.code for end in ends] == [0, 0], ends
    expected = {
        "signal": [False, 3],
        "budget": [False, 1],
        "bad": [True, 5],
        "dead": "step 4: loss or gradient not finite 3 times in a row, ",
    }
    assert [json.loads(end.output) for end in ends] == [expected, expected]
    saved = [saved_steps(tmp_path / what) for what in expected]
    assert saved == [[3], [1], [4, 6], []]
