"""The worker behind the node: warm, started again when it dies, cut off when it takes too long."""

from __future__ import annotations

import json
import os
import sys
import threading

import node_chest
import pytest

from heartlens.pacs.node.scorer import COMMAND, Scorer

READ = "import sys, json, os\nfor line in sys.stdin:\n    job = json.loads(line)['job']\n    "
DONE = READ + "print(json.dumps({'event': 'done', 'job': job, 'fraction': 1.0, 'text': str(os.getpid())}), flush=True)"
DIE = READ + "os._exit(9)"
SLEEP = READ + "import time; time.sleep(600)"


@pytest.fixture
def scorer():
    made = []

    def make(code, **more):
        made.append(Scorer({"bundle": "none"}, command=[sys.executable, "-u", "-c", code], **more))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def score(scorer, tmp_path, stop=None):
    return scorer.score([tmp_path / "1.dcm"], tmp_path / "out", {}, stop or threading.Event())


def test_one_process_does_job_after_job(scorer, tmp_path):
    warm = scorer(DONE)
    warm.start()
    pid = warm.pid
    assert [score(warm, tmp_path).text for _ in range(3)] == [str(pid)] * 3


def test_a_worker_that_dies_is_told_as_a_crash_and_the_next_job_finds_another(scorer, tmp_path):
    dying = scorer(DIE)
    assert [score(dying, tmp_path).code for _ in range(2)] == ["crash", "crash"]
    assert dying.crashes == 2


def test_a_job_that_takes_too_long_ends_with_its_worker(scorer, tmp_path):
    slow = scorer(SLEEP, longest_s=0.5)
    assert score(slow, tmp_path).code == "timeout"
    assert slow.pid is None


def test_a_node_that_ends_abandons_the_job(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr("heartlens.pacs.node.scorer.GRACE_S", 0.2)
    stop = threading.Event()
    stop.set()
    slow = scorer(SLEEP)
    assert score(slow, tmp_path, stop) is None
    assert slow.pid is None


CHANGED = """
import os, resource, signal
import heartlens.pipeline as pipeline
from heartlens.__main__ import main

score = pipeline.score_series

def starved(*words, **more):
    pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages + (1 << 20), hard))
    try:
        return score(*words, **more)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

def killed(*words, **more):
    score(*words, **more)
    os.kill(os.getpid(), signal.SIGKILL)

pipeline.score_series = {}
main(["worker"])
"""
"""The real worker, which gets no more memory for a scan, or is killed by the system in the midst of it."""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux, which limits a process's memory")
@pytest.mark.parametrize(("fate", "codes"), [("starved", {"memory", "crash"}), ("killed", {"crash"})])
def test_a_scan_for_which_there_is_no_memory_leaves_nothing_and_the_next_try_is_right(scorer, tmp_path, fate, codes):
    files = node_chest.write_chest(tmp_path / "ct")
    real = scorer(CHANGED.replace("{}", fate))
    event = real.score(files, tmp_path / "first", {}, threading.Event())
    assert event.code in codes  # some libraries end the process where they get no memory
    assert list(tmp_path.iterdir()) == [tmp_path / "ct"]
    real.stop()
    real._command = list(COMMAND)
    event = real.score(files, tmp_path / "second", {"unverified-count": True}, threading.Event())
    assert event.kind == "done"
    report = json.loads((tmp_path / "second" / "report.json").read_text())
    assert report["total"]["agatston"] == pytest.approx(node_chest.agatston())
    assert "image-count" in report["assessment"]["reasons"]
