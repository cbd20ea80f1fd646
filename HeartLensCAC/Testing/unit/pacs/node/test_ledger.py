"""The ledger: any new image opens a series again, a duplicate changes nothing, and what was written outlives a kill."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import key_of
from heartlens.pacs.node.rules import Outcome, Phase

LIBRARY = Path(__file__).resolve().parents[4]
KEY = key_of("1.2", "1.2.3")


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def add(ledger, sop, now=1.0, **more):
    return ledger.add_image("1.2", "1.2.3", sop, f"{KEY}/{sop}.dcm", 10, now=now, **more)


def row(ledger):
    (one,) = ledger.series(key=KEY)
    return one


def test_a_new_image_opens_the_series_whatever_became_of_it(ledger):
    add(ledger, "1")
    for n, state in enumerate(Phase, 2):
        ledger.set_state(row(ledger), state, code="x", text="y", attempts=2, next_at=9e9)
        assert row(ledger).state is state
        assert add(ledger, str(n), now=float(n))
        now = row(ledger)
        assert (now.state, now.code, now.text, now.attempts, now.next_at, now.images) == (
            Phase.RECEIVING,
            "",
            "",
            0,
            0,
            n,
        )


def test_a_duplicate_changes_nothing(ledger):
    add(ledger, "1")
    ledger.set_state(row(ledger), Phase.SENT)
    before = row(ledger)
    assert not add(ledger, "1", now=50.0)
    assert row(ledger) == before


def test_one_sop_uid_in_two_series_is_two_images(ledger):
    add(ledger, "1")
    assert ledger.add_image("1.2", "1.2.4", "1", "other/1.dcm", 10, now=1.0)
    assert [one.images for one in ledger.series()] == [1, 1]


def test_who_judged_an_older_state_changes_nothing(ledger):
    add(ledger, "1")
    old = row(ledger)
    add(ledger, "2", now=2.0)
    assert not ledger.set_state(old, Phase.COMPLETE)
    assert ledger.begin_scoring(old) is None
    assert row(ledger).state is Phase.RECEIVING


def test_a_result_of_images_that_are_no_longer_all_is_superseded_at_once(ledger):
    add(ledger, "1")
    ledger.set_state(row(ledger), Phase.COMPLETE)
    scoring = ledger.begin_scoring(row(ledger))
    assert (scoring.state, scoring.revision, scoring.images) == (Phase.SCORING, 1, 1)
    add(ledger, "2", now=1.0)  # by a clock that stands still
    assert ledger.add_result(scoring, Outcome(Phase.SCORED), "results/x/0001", 3.0) is Phase.SUPERSEDED
    assert row(ledger).state is Phase.RECEIVING


def test_of_two_results_the_later_one_stands(ledger):
    for revision in (1, 2):
        add(ledger, str(revision), now=float(revision))
        ledger.set_state(row(ledger), Phase.COMPLETE)
        scoring = ledger.begin_scoring(row(ledger))
        assert scoring.revision == revision
        ledger.add_result(scoring, Outcome(Phase.SCORED), f"results/x/{revision}", 3.0)
        ledger.add_sent(ledger.results(KEY)[-1], ["report.dcm"])
        assert ledger.settle(row(ledger), ledger.results(KEY)[-1], Phase.SENT)
    first, second = ledger.results(KEY)
    assert (first.state, second.state) == (Phase.SUPERSEDED, Phase.SENT)
    assert first.sent == ("report.dcm",)


def test_a_sender_that_breaks_off_is_remembered_until_one_brings_everything(ledger):
    add(ledger, "1", unreleased=True)
    ledger.closed(KEY, {"1"}, is_broken=True)
    assert row(ledger).broken
    add(ledger, "2", unreleased=True)
    ledger.closed(KEY, {"2"}, is_broken=False)
    assert row(ledger).broken  # who knows what the first one had in mind
    ledger.closed(KEY, {"1", "2"}, is_broken=False)
    assert not row(ledger).broken


def test_after_a_kill_what_was_open_has_broken_off_and_what_was_scored_is_judged_anew(ledger):
    add(ledger, "1", unreleased=True)
    ledger.restart()
    assert row(ledger).broken
    ledger.set_state(row(ledger), Phase.COMPLETE)
    ledger.begin_scoring(row(ledger))
    ledger.restart()
    assert row(ledger).state is Phase.RECEIVING


def test_of_two_associations_the_one_that_ends_first_says_nothing_of_the_other(ledger):
    add(ledger, "1", unreleased=True)
    add(ledger, "2", unreleased=True)
    ledger.closed(KEY, {"1"}, is_broken=False, is_open=True)
    assert row(ledger).unreleased
    ledger.closed(KEY, {"2"}, is_broken=True)
    assert (row(ledger).unreleased, row(ledger).broken) == (False, True)


def test_another_door_does_not_end_an_association(ledger):
    add(ledger, "1", unreleased=True)
    add(ledger, "2")
    assert row(ledger).unreleased


def test_a_sender_that_breaks_off_makes_void_what_was_judged_before(ledger):
    add(ledger, "1")
    old = row(ledger)
    ledger.closed(KEY, {"1"}, is_broken=True)
    assert not ledger.set_state(old, Phase.UNVERIFIED)


def test_images_are_not_forgotten_where_one_came_meanwhile(ledger):
    add(ledger, "1")
    old = row(ledger)
    add(ledger, "2", now=1.0)
    assert not ledger.forget_images(old, Phase.REFUSED)
    assert (row(ledger).state, row(ledger).images) == (Phase.RECEIVING, 2)


def test_what_was_deleted_is_missing_until_it_comes_again(ledger):
    add(ledger, "1")
    add(ledger, "2")
    assert ledger.forget_images(row(ledger), Phase.SENT)
    assert (row(ledger).images, row(ledger).deleted, ledger.paths(KEY)) == (0, 2, [])
    assert add(ledger, "1", now=2.0)
    assert (row(ledger).images, row(ledger).deleted) == (1, 1)


def test_a_result_and_its_series_are_sent_both_or_neither(ledger):
    add(ledger, "1")
    ledger.set_state(row(ledger), Phase.COMPLETE)
    ledger.add_result(ledger.begin_scoring(row(ledger)), Outcome(Phase.SCORED), "results/x/1", 3.0)
    scored = row(ledger)
    add(ledger, "2", now=1.0)
    assert not ledger.settle(scored, ledger.results(KEY)[-1], Phase.SENT)
    assert (row(ledger).state, ledger.results(KEY)[-1].state) == (Phase.RECEIVING, Phase.SCORED)


OLD = """
CREATE TABLE series (
  key TEXT PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL, state TEXT NOT NULL,
  code TEXT NOT NULL DEFAULT '', text TEXT NOT NULL DEFAULT '', unfit TEXT NOT NULL DEFAULT '',
  expected INTEGER, hinted INTEGER, broken INTEGER NOT NULL DEFAULT 0, unreleased INTEGER NOT NULL DEFAULT 0,
  first_at REAL NOT NULL, last_at REAL NOT NULL, next_at REAL NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0);
CREATE TABLE images (
  key TEXT NOT NULL, sop_uid TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (key, sop_uid));
CREATE TABLE results (
  key TEXT NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL, folder TEXT NOT NULL,
  sent TEXT NOT NULL DEFAULT '[]', at REAL NOT NULL, PRIMARY KEY (key, revision));
INSERT INTO series (key, study_uid, series_uid, state, first_at, last_at) VALUES ('@', '1.2', '1.2.3', 'sent', 1, 2);
INSERT INTO images VALUES ('@', '1', '@/1.dcm', 10, 1);
INSERT INTO results VALUES ('@', 1, 'sent', 'results/@/0001', '["report.dcm"]', 3);
"""


@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_ledger_of_a_node_of_before_is_read_and_goes_on(tmp_path, is_read_only):
    path = tmp_path / "ledger.sqlite"
    old = sqlite3.connect(path)
    old.executescript(OLD.replace("@", KEY))
    old.close()
    ledger = Ledger(path, is_read_only=is_read_only)
    assert (row(ledger).state, row(ledger).images, row(ledger).version) == (Phase.SENT, 1, 0)
    assert [(result.sent, result.images) for result in ledger.results(KEY)] == [(("report.dcm",), 0)]
    if not is_read_only:
        assert add(ledger, "2", now=9.0)
        assert (row(ledger).state, row(ledger).version) == (Phase.RECEIVING, 1)
    ledger.close()


def test_the_ledger_is_for_nobody_else_in_a_folder_that_is_open_to_all(tmp_path):
    os.chmod(tmp_path, 0o755)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    add(ledger, "1")
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("ledger.sqlite*")}
    ledger.close()
    assert modes == dict.fromkeys(("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"), "0o600")


def test_what_two_headers_say_otherwise_nobody_knows(ledger):
    add(ledger, "1", hinted=40)
    add(ledger, "2", hinted=40)
    assert row(ledger).hinted == 40
    add(ledger, "3", hinted=41)
    assert row(ledger).hinted is None


def test_what_was_noted_outlives_a_kill(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from heartlens.pacs.node.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for n in range(20): ledger.add_image('1.2', '1.2.3', str(n), str(n), 1, now=1.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "ledger.sqlite"
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env=environment)
    assert done.returncode == -9
    ledger = Ledger(path)
    assert row(ledger).images == 20
    ledger.close()


def test_a_node_that_ended_can_be_looked_at(tmp_path):
    ledger = Ledger(tmp_path / "other.sqlite")
    add(ledger, "1")
    ledger.close()
    looked = Ledger(tmp_path / "other.sqlite", is_read_only=True)
    assert row(looked).images == 1
    looked.close()


def test_a_look_at_it_changes_nothing(tmp_path, ledger):
    add(ledger, "1")
    looked = Ledger(tmp_path / "ledger.sqlite", is_read_only=True)
    assert looked.counts()[Phase.RECEIVING] == 1
    with pytest.raises(sqlite3.OperationalError):
        looked.remember("x", "y")
    looked.close()
