"""Messages between a front end and the worker, and how a front end reads a stream that is cut anywhere."""

from __future__ import annotations

import json
import os

import pytest

from heartlens.app.messages import BadCommand, CancelCommand, Event, Run, ScoreCommand, read_command


@pytest.fixture
def run(tmp_path):
    return Run(input=tmp_path / "ct", out=tmp_path / "out", options={"bundle": "none"})


def progress(job, fraction):
    return Event("progress", job, stage="reading", fraction=fraction)


@pytest.mark.parametrize(
    "event",
    [
        Event("ready", text="heartlens 0.1.0", pid=7),
        Event("progress", "a", stage="reading", fraction=0.25),
        Event("done", "a", fraction=1.0, out="/r/ä", case="/r/ä/case", text="no page"),
        Event("cancelled", "a"),
        Event("error", "a", code="grid", text="labels lie on\nanother grid"),
        Event("error", code="usage", text="not JSON"),
    ],
)
def test_an_event_travels_as_one_line_of_ascii_and_comes_back_the_same(event):
    assert event.line.count(b"\n") == 1
    assert event.line.endswith(b"\n")
    assert event.line.isascii()
    assert Event.from_line(event.line) == event


def test_an_event_has_the_names_of_the_contract():
    assert json.loads(progress("a", 0.5).line) == {
        "event": "progress", "job": "a", "stage": "reading", "fraction": 0.5, "text": "",
    }  # fmt: skip
    assert json.loads(Event("error", "a", code="gap", text="t").line)["code"] == "gap"


def test_an_error_without_a_code_cannot_be_made():
    with pytest.raises(ValueError, match="code"):
        Event("error", "a", text="something")


def test_what_a_later_version_adds_to_an_event_is_left_aside():
    assert Event.from_line(b'{"event": "progress", "job": "a", "fraction": 0.5, "eta_seconds": 3}').fraction == 0.5


@pytest.mark.parametrize("cut", range(1, 90, 7))
def test_events_are_whole_however_the_stream_is_cut(run, cut):
    stream = b"".join(progress(run.job, n / 10).line for n in range(10))
    events = []
    for start in range(0, len(stream), cut):
        events += run.feed(stream[start : start + cut])
    assert [event.fraction for event in events] == [n / 10 for n in range(10)]


def test_a_late_result_of_an_abandoned_run_is_ignored(run):
    late = Event("done", "of an earlier run", out="/old", case="/old/case", fraction=1.0)
    assert run.feed(late.line + progress(run.job, 0.5).line) == [progress(run.job, 0.5)]
    assert not run.is_over


def test_nothing_is_heard_of_a_job_after_its_last_event(run):
    done = Event("done", run.job, fraction=1.0, out="/r", case="/r/case")
    assert run.feed(done.line + progress(run.job, 0.5).line + Event("cancelled", run.job).line) == [done]
    assert run.last == done


def test_a_line_that_is_no_event_is_left_aside(run):
    noise = b'Segmentation fault\n\xff\xfe\n[1, 2]\n{"event": "song"}\n{"event": "error", "job": "a"}\n\r\n'
    assert run.feed(noise + progress(run.job, 0.5).line.replace(b"\n", b"\r\n")) == [progress(run.job, 0.5)]


def test_two_runs_never_have_the_same_job(tmp_path):
    assert len({Run(input=tmp_path, out=tmp_path / "o").job for _ in range(100)}) == 100


def test_what_a_run_asks_for_is_what_the_worker_understands(tmp_path, run):
    assert read_command(run.command) == ScoreCommand(
        run.job, str(tmp_path / "out"), str(tmp_path / "ct"), (), {"bundle": "none"}
    )
    files = Run(files=[tmp_path / "1.dcm", tmp_path / "2.dcm"], out=tmp_path / "o", options={"segmentation": tmp_path})
    command = read_command(files.command)
    assert command.files == (str(tmp_path / "1.dcm"), str(tmp_path / "2.dcm"))
    assert command.options == {"segmentation": str(tmp_path)}
    assert read_command(run.cancellation) == CancelCommand(run.job)


def test_paths_reach_the_worker_whole_wherever_the_door_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert json.loads(Run(input="ct", out="out").command)["out"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"null", "object"),
        (b'["score"]', "object"),
        (b"{}", "cmd"),
        (b'{"cmd": "fly", "job": "a"}', "fly"),
        (b'{"cmd": ["score"], "job": "a"}', "cmd"),
        (b'{"cmd": "cancel"}', "job"),
        (b'{"cmd": "cancel", "job": 5}', "job"),
        (b'{"cmd": "score", "input": "x", "out": "y"}', "job"),
        (b'{"cmd": "score", "job": "a", "out": "y"}', "input"),
        (b'{"cmd": "score", "job": "a", "input": "x"}', "out"),
        (b'{"cmd": "score", "job": "a", "input": "x", "files": ["z"], "out": "y"}', "either"),
        (b'{"cmd": "score", "job": "a", "input": 3, "out": "y"}', "input"),
        (b'{"cmd": "score", "job": "a", "files": "x", "out": "y"}', "files"),
        (b'{"cmd": "score", "job": "a", "files": [1], "out": "y"}', "files"),
        (b'{"cmd": "score", "job": "a", "files": [], "out": "y"}', "either"),
        (b'{"cmd": "score", "job": "a", "input": "x", "out": "y", "options": ["--kvp"]}', "options"),
        (b'{"cmd": "score", "job": "a", "input": "x", "out": "y", "kvp": 120}', "kvp"),
    ],
)
def test_a_line_that_is_no_command_is_refused_with_the_reason(line, reason):
    with pytest.raises(BadCommand, match=reason):
        read_command(line)


def test_a_bad_command_still_tells_whose_it_was():
    with pytest.raises(BadCommand) as error:
        read_command(b'{"cmd": "score", "job": "mine"}')
    assert error.value.job == "mine"


def test_a_process_that_dies_ends_the_run_with_a_crash_and_its_litter_is_removed(tmp_path, run):
    gone = 2**22 + 1  # no process of this number
    run.feed(Event("ready", pid=gone).line + progress(run.job, 0.9).line)
    part, other = tmp_path / f".out-{gone}.part", tmp_path / f".out-{os.getppid()}.part"
    (part / "case").mkdir(parents=True)
    other.mkdir()
    event = run.ended(-9)
    assert (event.kind, event.code, event.job) == ("error", "crash", run.job)
    assert "-9" in event.text
    assert run.is_over
    assert [path.name for path in tmp_path.iterdir()] == [other.name]


def test_a_process_killed_between_the_renames_gives_the_old_result_back(tmp_path, run):
    run.feed(Event("ready", pid=4242).line)
    (tmp_path / ".out-0123456789abcdef.old").mkdir()
    (tmp_path / ".out-0123456789abcdef.old" / "report.json").write_text("old")
    run.ended(-9)
    assert (tmp_path / "out" / "report.json").read_text() == "old"


def test_a_process_that_goes_after_the_result_is_no_crash(run):
    run.feed(Event("done", run.job, fraction=1.0, out="/r", case="/r/case").line)
    assert run.ended(1) is None
    assert run.last.kind == "done"
