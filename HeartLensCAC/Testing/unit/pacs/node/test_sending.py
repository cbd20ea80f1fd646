"""A result leaves whole, once, and only while no image has come that it lacks."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from node_place import DOWN, KEY, another_series, ready_to_send, state_of

from heartlens.pacs.archive import ArchiveError
from heartlens.pacs.node.rules import Phase
from heartlens.pacs.node.status import health


def test_a_result_that_never_left_is_no_predecessor(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    place.archive.trouble = ArchiveError("down", "archive memory cannot be reached")
    assert place.wait(0) is Phase.UNSENT
    place.bring(2, 3, 4)
    place.archive.trouble, place.archive.count = None, 5
    assert place.wait(30) is Phase.SENT
    assert [more for _, more in place.scorer.asked] == [{}, {}]
    assert {text.split()[0] for text in place.archive.files} == {"0002"}


@pytest.mark.parametrize("trouble", ["down", "garbage", "refused"])
def test_a_result_waits_for_an_archive_that_is_of_no_use_and_is_sent_then(place, trouble):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    place.node.score_next()
    place.archive.trouble = ArchiveError(trouble, "archive memory is of no use")
    for pause in (0, 5, 10, 20):
        assert place.wait(pause) is Phase.UNSENT
    assert place.node.sending.failures == 4
    assert health(place.node)["status"] == "degraded"
    place.archive.trouble = None
    assert place.wait(39) is Phase.UNSENT  # not before its time
    assert place.wait(1) is Phase.SENT
    assert len(place.archive.files) == 5
    assert health(place.node)["troubles"] == []


def test_after_a_kill_in_the_midst_of_sending_what_the_archive_has_is_not_sent_again(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    place.node.score_next()
    send, left = place.archive.send, [2]

    def dying(path):
        if not left[0]:
            raise SystemExit  # as far as this process is concerned
        left[0] -= 1
        send(path)

    place.archive.send = dying
    with pytest.raises(SystemExit):
        place.node.send_next()
    place.archive.send = send
    place.node = place.another()
    place.node.recover()
    assert place.wait(0) is Phase.SENT
    names = [text.split()[1] for text in place.archive.files]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 5


def test_an_archive_that_has_more_images_when_a_result_is_to_be_sent_gets_no_result(place):
    place.archive.count = 2  # it was receiving itself
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    place.node.score_next()
    assert place.state is Phase.SCORED
    place.archive.count = 5
    place.node.send_next()
    assert (place.state, place.row.text) == (Phase.INCOMPLETE, "2 images of 5")
    assert place.ledger.results(KEY)[-1].state is Phase.SUPERSEDED
    assert place.archive.files == []
    place.bring(2, 3, 4)
    assert place.wait(30) is Phase.SENT
    assert [len(files) for files, _ in place.scorer.asked] == [2, 5]


def test_a_node_of_before_that_was_killed_between_result_and_series_keeps_nothing_back(place, tmp_path):
    ready_to_send(place)
    with sqlite3.connect(place.home / "ledger.sqlite") as db:
        db.execute("UPDATE results SET state='sent'")
    db.close()
    other = another_series(place, tmp_path / "other")
    assert place.wait(30) is Phase.SENT
    assert state_of(place, other) is Phase.SENT


@pytest.mark.parametrize("trouble", [OSError(5, "Input/output error"), ValueError("x"), KeyError("y")])
def test_a_result_that_cannot_be_sent_waits_and_the_next_one_is_sent(place, tmp_path, trouble):
    ready_to_send(place)
    send = place.archive.send

    def fail_once(path):
        place.archive.send = send
        raise trouble

    place.archive.send = fail_once
    assert not place.node.send_next()
    assert (place.state, place.row.code) == (Phase.UNSENT, "failed")
    assert "Input" not in place.row.text
    other = another_series(place, tmp_path / "other")
    place.ledger.set_state(place.row, Phase.UNSENT, code="failed", next_at=place.now + 1e9)
    place.wait(30)
    assert (state_of(place, other), place.state) == (Phase.SENT, Phase.UNSENT)


def test_a_result_that_somebody_deleted_is_made_again_and_never_called_sent_without(place):
    ready_to_send(place)
    shutil.rmtree(place.home / "results" / KEY / "0001")
    place.node.send_next()
    assert (place.state, place.archive.files) == (Phase.RECEIVING, [])
    assert place.wait(30) is Phase.SENT
    assert len(place.archive.files) == 5


def test_a_result_that_is_gone_with_its_images_is_told(place):
    ready_to_send(place)
    shutil.rmtree(place.home / "results" / KEY / "0001")
    place.intake.remove(place.row, Phase.SCORED)
    assert place.wait(0) is Phase.FAILED
    assert place.row.code == "result-gone"
    assert place.archive.files == []


def test_an_image_that_comes_while_a_result_is_sent_stops_it_and_the_next_report_names_what_left(place):
    ready_to_send(place)
    send, scored = place.archive.send, []

    def send_and_bring(path):
        if path.name == "report.dcm":
            place.bring(2)
            place.archive.count, place.now = 3, place.now + 30
            place.node.judge_all()
            scored.append(place.node.score_next())
        send(path)

    place.archive.send = send_and_bring
    place.node.send_next()
    place.archive.send = send
    assert scored == [False]  # not while the report that it has to name is on its way
    assert [text.split()[1] for text in place.archive.files] == ["segmentation.dcm", "report.dcm"]
    assert place.wait(0) is Phase.SENT
    before = str(place.home / "results" / KEY / "0001" / "report.dcm")
    assert [more for _, more in place.scorer.asked] == [{}, {"predecessor": before}]


def test_what_waits_for_an_archive_is_sent_when_it_is_back_and_not_an_hour_later(place, tmp_path):
    ready_to_send(place)
    place.archive.trouble = DOWN
    for _ in range(12):
        place.wait(3600)
    place.archive.trouble = None
    place.ledger.set_state(place.row, Phase.UNSENT, code="down", text="down", next_at=place.now + 3600)
    other = another_series(place, tmp_path / "other")
    place.wait(30)
    assert (state_of(place, other), place.state) == (Phase.SENT, Phase.SENT)
