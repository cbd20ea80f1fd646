"""The worker behind the node: warm, started again when it dies, cut off when it takes too long."""

from __future__ import annotations

import sys
import threading

import pytest

from heartlens.pacs.node.scorer import Scorer

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
