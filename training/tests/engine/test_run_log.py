"""The log of a run: JSON lines, TensorBoard, a bar on a terminal; the same figures once, whatever happened between."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest
from full_disk import a_disk_with_room_for
from needed import need, torch  # noqa: F401  - the log knows which process writes

from heartlens.core.errors import InputRefused
from training.engine.distributed import Ranks
from training.engine.run_log import RunLog, read_log


def curve(run, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a figure."""
    reader = need("tensorboard.backend.event_processing.event_accumulator")
    shown = reader.EventAccumulator(str(run / "tensorboard"))
    shown.Reload()
    return [(point.step, round(point.value, 6)) for point in shown.Scalars(name)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_lines_and_tensorboard_have_the_same_figures(tmp_path):
    with RunLog(tmp_path, Ranks(), "train", 3) as log:
        log.note(1, loss=4.0, rate=0.5)
        log.note(3, loss=2.5)
    assert read_log(tmp_path) == {1: {"loss": 4.0, "rate": 0.5}, 3: {"loss": 2.5}}
    assert curve(tmp_path, "loss") == [(1, 4.0), (3, 2.5)]
    assert curve(tmp_path, "rate") == [(1, 0.5)]


def test_a_resumed_run_shows_every_step_once(tmp_path):
    """Killed after step 5 with the checkpoint of step 3: steps 4 and 5 are done again."""
    with RunLog(tmp_path, Ranks(), "train", 6) as log:
        for step in range(1, 6):
            log.note(step, loss=float(step))
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 6, "lo')  # the kill came within a line
    with RunLog(tmp_path, Ranks(), "train", 6, start=3) as log:
        for step in range(4, 7):
            log.note(step, loss=step + 0.5)
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.5), (5, 5.5), (6, 6.5)]
    assert [(step, metrics["loss"]) for step, metrics in read_log(tmp_path).items()] == expected
    assert curve(tmp_path, "loss") == expected
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 6


def test_a_run_begun_anew_forgets_the_log_of_before(tmp_path):
    for loss in (1.0, 2.0):
        with RunLog(tmp_path, Ranks(), "train", 2) as log:
            log.note(1, loss=loss)
    assert read_log(tmp_path) == {1: {"loss": 2.0}}


def test_what_is_not_finite_is_null_and_the_lines_stay_json(tmp_path):
    with RunLog(tmp_path, Ranks(), "train", 1) as log:
        log.note(1, loss=math.nan, norm=math.inf)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "loss": None, "norm": None}


def test_one_process_of_many_writes(tmp_path):
    with RunLog(tmp_path / "run", Ranks(rank=1, world=2), "train", 1) as log:
        log.note(1, loss=1.0)
    assert not (tmp_path / "run").exists()


def test_a_bar_counts_on_a_terminal_and_nowhere_else(tmp_path, monkeypatch):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with RunLog(tmp_path, Ranks(), "train_unet", 20) as log:
            log.note(7, loss=1.25)
            log.step(7, 8)
        output = stream.getvalue()
        if stream.isatty():
            assert "train_unet 7 of 20, " in output
            assert output.rstrip("\r\x1b[K").endswith("images/s loss 1.250")
        else:
            assert output == ""


def test_without_tensorboard_there_are_the_lines_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path, Ranks(), "train", 1) as log:
        log.note(1, loss=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_full_disk_is_a_refusal_and_the_lines_of_before_stay(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path, Ranks(), "train", 9) as log:
        log.note(1, loss=1.0)
        with (
            a_disk_with_room_for(30),
            pytest.raises(InputRefused, match=r"output: cannot write .*log\.jsonl: .*to resume"),
        ):
            log.note(2, loss=1.0)
    before = {1: {"loss": 1.0}}
    assert read_log(tmp_path) == before
    with a_disk_with_room_for(5), pytest.raises(InputRefused, match=r"output: cannot write .*log\.jsonl"):
        RunLog(tmp_path, Ranks(), "train", 9, start=1)
    assert read_log(tmp_path) == before
