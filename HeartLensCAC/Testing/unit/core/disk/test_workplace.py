"""What killed processes leave is found and cleared; what live ones are at work on is not touched."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

import heartlens.core.disk.workplace as workplace
from heartlens.core.atomic import atomic_folder, check_folder, remove_unfinished_files
from heartlens.core.disk.workplace import clear_leftovers
from heartlens.core.errors import InputRefused

TOKEN = "0123456789abcdef"

WRITE = """
import sys, time
from pathlib import Path
from heartlens.core.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    print("half", flush=True)
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def writer(tmp_path):
    """A process in the midst of writing ``out``."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "half\n"
        yield process
        process.kill()


def test_what_a_killed_process_left_is_cleared_by_the_next_run(tmp_path, writer):
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(names(tmp_path)) == 2, "its folder, and who it was"
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "whole").touch()
    assert names(tmp_path) == ["out"]


def test_a_process_that_is_at_work_is_left_alone(tmp_path, writer):
    assert not clear_leftovers(tmp_path / "out")
    assert len(names(tmp_path)) == 2
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "mine").touch()
        assert len(names(tmp_path)) == 4
    assert len(names(tmp_path)) == 3


def test_where_there_are_no_locks_the_record_tells_a_live_process_from_a_stale_one(tmp_path, monkeypatch):
    def unknown(_file):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(workplace, "lock_file", unknown)
    own = {"host": socket.gethostname(), "pid": os.getpid()}
    owner, part = (tmp_path / f".out-{TOKEN}.{kind}" for kind in ("owner", "part"))
    for record, is_stale in [
        ({**own, "host": "elsewhere"}, False),
        (own, False),
        ({**own, "started": "another boot 1"}, True),  # PID 1 of a container that is gone, asked by PID 1 of this one
        ({**own, "pid": 2**22 + 1}, True),
    ]:
        part.mkdir(exist_ok=True)
        owner.write_text(json.dumps(record))
        clear_leftovers(tmp_path / "out")
        assert (names(tmp_path) == []) == is_stale, record


def test_two_processes_of_one_number_have_two_places(tmp_path):
    """As in containers, where each is number 1."""

    def write_slowly():
        with atomic_folder(tmp_path / "out") as first:
            (first / "slow").touch()
            with atomic_folder(tmp_path / "out") as second:
                (second / "quick").touch()

    with pytest.raises(InputRefused, match="made by another program meanwhile"):
        write_slowly()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["quick"]


def test_a_result_that_was_hidden_between_two_renames_is_brought_back_and_said(tmp_path):
    hidden = tmp_path / f".out-{TOKEN}.old"
    hidden.mkdir()
    (hidden / "report.json").write_text("old")
    (tmp_path / f".out-{TOKEN}.part").mkdir()
    (tmp_path / f".out-{TOKEN}.owner").write_text("")
    with pytest.raises(InputRefused, match=r"exists.*the old one was brought back"):
        check_folder(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "report.json").read_text() == "old"


def test_a_result_that_was_set_aside_goes_when_the_new_one_has_its_place(tmp_path):
    (tmp_path / f".out-{TOKEN}.old").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "new").touch()
    assert not clear_leftovers(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        (f".out-{2**22 + 1}.part", False),  # of version 0.1
        (".out-PARENT.part", True),
        (".out-OWN.part", False),  # ours has no such name: it is of an earlier process of our number
        (f".outer-{TOKEN}.part", True),
        (f".out-x-{TOKEN}.part", True),
        (f".out-{TOKEN}.partial", True),
        ("out-of-order.part", True),
    ],
)
def test_only_what_belongs_to_the_folder_is_cleared(tmp_path, name, stays):
    name = name.replace("PARENT", str(os.getppid())).replace("OWN", str(os.getpid()))
    (tmp_path / name).mkdir()
    clear_leftovers(tmp_path / "out")
    assert names(tmp_path) == ([name] if stays else [])


def test_folders_that_were_made_on_the_way_go_with_a_run_that_fails(tmp_path):
    def fail():
        with atomic_folder(tmp_path / "a" / "b" / "out"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


def test_files_that_killed_processes_left_are_told_from_others(tmp_path):
    stay = ["report.json", ".lock", "edits.jsonl", ".hidden-file.json"]
    for name in [*stay, f".report-{TOKEN}.json", ".case-4242.json", f".auto-{TOKEN}.seg.nrrd"]:
        (tmp_path / name).touch()
    remove_unfinished_files(tmp_path)
    assert names(tmp_path) == sorted(stay)


def test_a_record_that_is_cleared_away_before_it_is_locked_is_written_again(tmp_path, monkeypatch):
    """Another run may find it in the moment between making and locking it, and hold or delete it."""
    lock, tricks = workplace.lock_file, ["held", "deleted"]

    def lock_late(file):
        trick = tricks.pop() if tricks else ""
        if trick == "held":
            raise BlockingIOError(11, "Resource temporarily unavailable")
        if trick == "deleted":
            for path in tmp_path.glob(".out-*.owner"):
                path.unlink()
        lock(file)

    monkeypatch.setattr(workplace, "lock_file", lock_late)
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "whole").touch()
        assert not clear_leftovers(tmp_path / "out")
        assert folder.exists()
    monkeypatch.undo()
    assert not tricks
    clear_leftovers(tmp_path / "out")
    assert names(tmp_path) == ["out"]
