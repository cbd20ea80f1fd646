"""Preparing COCA with many processes, killed and gone on with: the same bytes as one process gives at a stretch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heartlens.core.lesions import Artery
from training import prepare
from training.datasets import sources
from training.datasets.coca.parts import kept, state_of
from training.datasets.scans import LabeledScan, Skipped
from training.datasets.shards import ShardSet

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def download(coca, plaque_ct, coca_ct, roi, image):
    """Gated 1 (labeled), 2 (without XML), 3 (XML without images), 10; non-gated 1, with the score of row 1A."""
    for number in (1, 2, 10):
        hu = plaque_ct.hu.copy()
        hu[0, 0, 0] = number
        coca.images(number, coca_ct(hu, uid=number))
    for number in (1, 3, 10):
        coca.annotations(number, [image(2, roi(plaque_ct, "Right Coronary Artery", 2, (10, 12), (20, 22)))])
    hu = plaque_ct.hu.astype(np.int16) + 1
    coca.nongated_images(1, coca_ct(hu, uid=77), inner="scan")
    coca.scores([("filename", "LCA", "LAD", "LCX", "RCA", "total"), ("1A", 0, 1, 2, 3, 6)])
    return coca


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def prepared(download, out, workers):
    assert prepare.main(["coca", str(download.root), "--out", str(out), "--workers", str(workers)]) == 0
    return files_of(out)


def test_two_processes_write_the_bytes_of_one_and_leave_no_parts(download, tmp_path):
    one = prepared(download, tmp_path / "one", 1)
    assert prepared(download, tmp_path / "two", 2) == one
    assert not list(tmp_path.glob("*-parts"))
    shards = ShardSet.open(tmp_path / "two")
    assert [s.name for s in shards.scans] == ["coca-gated/1", "coca-gated/2", "coca-gated/10", "coca-nongated/1"]
    assert [s.name for s in shards.skipped] == ["coca-gated/3"]
    assert str(tmp_path) not in one["index.json"].decode()


def test_a_killed_preparation_goes_on_and_reads_no_scan_twice(download, tmp_path, monkeypatch):
    """SIGKILL after the first part; then what is read is counted."""
    one = prepared(download, tmp_path / "one", 1)
    out, parts = tmp_path / "out", tmp_path / "out-parts"
    process = subprocess.Popen(
        [sys.executable, "-m", "training.prepare", "coca", str(download.root), "--out", str(out), "--workers", "1"],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'HeartLensCAC'}"},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not list(parts.glob("[!.]*.npz")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if out.exists():  # the machine was faster than the kill: as if it had come just before the end
        pytest.skip("prepared before it could be killed")
    kept_parts = {path.stem for path in parts.glob("[!.]*.npz")}
    assert kept_parts
    read = []
    original = sources._coca_scan

    def counted(dataset, number, is_gated, **options):
        read.append(f"{'' if is_gated else 'non'}gated-{number}")
        return original(dataset, number, is_gated, **options)

    monkeypatch.setattr(sources, "_coca_scan", counted)
    assert prepared(download, out, 1) == one
    assert not kept_parts & set(read)
    assert kept_parts | set(read) == {"gated-1", "gated-2", "gated-3", "gated-10", "nongated-1"}
    assert not parts.exists()


def test_ctrl_c_keeps_what_was_read_and_says_so(download, tmp_path, monkeypatch, capsys):
    original = sources._coca_scan

    def until_the_second(dataset, number, is_gated, **options):
        if number == 2:
            raise KeyboardInterrupt
        return original(dataset, number, is_gated, **options)

    monkeypatch.setattr(sources, "_coca_scan", until_the_second)
    words = ["coca", str(download.root), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert prepare.main(words) == 4
    assert "run the same command to resume" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out-parts").iterdir()] == ["gated-1.npz"]
    monkeypatch.setattr(sources, "_coca_scan", original)
    assert prepare.main(words) == 0
    assert files_of(tmp_path / "out") == prepared(download, tmp_path / "one", 1)


def test_a_part_holds_all_of_a_scan_and_a_skip(tmp_path, coca_ct):
    hu = np.full((2, 4, 4), 0.5, np.float32)
    labels = np.full((2, 4, 4), int(Artery.LAD), np.uint8)
    scan = LabeledScan(
        "coca-gated/1", "p", "coca-gated", replace(coca_ct(hu), allow_oblique=True), labels,
        {"LAD": 1.5, "total": 1.5}, "one outline failed", ("a note",), {"outlines": {"proven": 1}},
    )  # fmt: skip
    kept(tmp_path / "a.npz", "state", lambda: scan)
    again = kept(tmp_path / "a.npz", "state", lambda: pytest.fail("read twice"))
    for name in ("name", "patient", "source", "agatston", "why_unlabelled", "notes", "provenance"):
        assert getattr(again, name) == getattr(scan, name)
    np.testing.assert_array_equal(again.ct.hu, hu)
    np.testing.assert_array_equal(again.labels, labels)
    assert (again.ct.hu.dtype, again.ct.allow_oblique, again.ct.header.kvp) == (np.float32, True, 120.0)
    skip = Skipped("coca-gated/2", "input", "no images")
    kept(tmp_path / "b.npz", "state", lambda: skip)
    assert kept(tmp_path / "b.npz", "state", lambda: pytest.fail("read twice")) == skip


@pytest.mark.parametrize("damage", ["cut", "other state", "pickle"])
def test_a_part_that_is_damaged_or_of_other_files_is_read_again(tmp_path, damage):
    skip, path = Skipped("a", "input", "b"), tmp_path / "a.npz"
    kept(path, "state", lambda: Skipped("old", "input", "old"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    if damage == "pickle":
        np.savez(path, document=np.array([None], object))
    assert kept(path, "new" if damage == "other state" else "state", lambda: skip) == skip


def test_the_state_of_a_scan_changes_with_its_files(tmp_path):
    place = tmp_path / "patient" / "1"
    place.mkdir(parents=True)
    (place / "a.dcm").write_bytes(b"1")
    states = [state_of(place), state_of(place, settings=["contrast"])]
    (place / "b.dcm").write_bytes(b"1")
    states.append(state_of(place))
    (place / "b.dcm").write_bytes(b"12")
    states.append(state_of(place))
    os.utime(place / "b.dcm", (0, 0))
    states.append(state_of(place))
    assert len(set(states)) == 5
    place.parent.rename(tmp_path / "moved")
    assert state_of(tmp_path / "moved" / "1") == states[-1]  # a download may be moved
