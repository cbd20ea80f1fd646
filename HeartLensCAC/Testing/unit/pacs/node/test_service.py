"""The node's three steps, with a clock that is set, an archive in memory and a worker that writes what it is told."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress

import pytest
import small_chest
from node_place import DOWN, KEY, Place, another_series, state_of

from heartlens.pacs.archive import ArchiveError, FoundSeries
from heartlens.pacs.node.rules import Phase
from heartlens.pacs.node.service import PAUSE_S
from heartlens.pacs.node.status import health, metrics, status_lines


def test_a_whole_series_is_scored_once_and_sent_in_order(place):
    place.archive.count = 5
    place.bring(0, 1, 2, 3, 4)
    assert place.wait(29) is Phase.RECEIVING
    assert place.archive.asked == 0
    assert place.wait(1) is Phase.SENT
    files, more = place.scorer.asked[0]
    assert (len(files), more) == (5, {})
    names = [text.split()[1] for text in place.archive.files]
    assert names == ["segmentation.dcm", "report.dcm", "key-page-2.dcm", "key-page.dcm", "report-pdf.dcm"]
    place.wait(1e4)
    assert (len(place.scorer.asked), len(place.archive.files)) == (1, 5)


def test_half_a_series_is_never_scored_while_the_archive_says_there_is_more(place):
    place.archive.count = 5
    place.bring(0, 1)
    assert place.wait(30) is Phase.INCOMPLETE
    assert "2 images of 5" in place.row.text
    assert place.wait(1e5) is Phase.INCOMPLETE
    assert place.scorer.asked == []
    place.bring(2, 3, 4)
    assert place.wait(30) is Phase.SENT
    assert len(place.scorer.asked) == 1


def test_where_nobody_says_how_many_the_wait_is_longer_and_the_rest_makes_a_result_that_names_its_predecessor(place):
    place.bring(0, 1)
    assert place.wait(30) is Phase.RECEIVING
    assert place.wait(269) is Phase.RECEIVING
    assert place.wait(1) is Phase.SENT
    place.bring(2, 3, 4)
    assert place.state is Phase.RECEIVING
    place.archive.count = 5
    assert place.wait(30) is Phase.SENT
    (_, first), (files, second) = place.scorer.asked
    assert first == {"unverified-count": True}
    assert second == {"predecessor": str(place.home / "results" / KEY / "0001" / "report.dcm")}
    assert len(files) == 5
    assert [result.state for result in place.ledger.results(KEY)] == [Phase.SUPERSEDED, Phase.SENT]


def test_images_that_come_while_it_is_scored_make_that_result_void(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.scorer.during = lambda: (place.bring(2), setattr(place.scorer, "during", lambda: None))
    place.now += 30
    place.node.judge_all()
    place.node.score_next()
    place.node.send_next()
    assert place.state is Phase.RECEIVING
    assert place.archive.files == []
    place.archive.count = 3
    assert place.wait(30) is Phase.SENT
    assert [result.state for result in place.ledger.results(KEY)] == [Phase.SUPERSEDED, Phase.SENT]


def test_the_same_images_again_change_nothing(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.wait(30)
    place.bring(0, 1, 0)
    assert place.wait(1e4) is Phase.SENT
    assert len(place.scorer.asked) == 1


def test_a_sender_that_broke_off_leaves_it_incomplete_until_the_archive_has_all(place):
    place.bring(0, 1)
    place.ledger.closed(KEY, {"x"}, is_broken=True)
    assert place.wait(1e5) is Phase.INCOMPLETE
    assert "broke off" in place.row.text
    assert place.scorer.asked == []
    place.archive.count = 2
    assert place.wait(61) is Phase.SENT


@pytest.mark.parametrize(
    ("says", "code"),
    [
        ({"assessment": {"evaluable": "no", "reasons": ["heart-cut-top"]}}, "heart-cut-top"),
        ({"warnings": [{"code": "heart-cut-top"}]}, "heart-cut-top"),
        ({"ct": {"slices": 11, "increment_mm": 3.0}}, "short-scan"),
    ],
)
def test_what_may_be_a_part_of_a_scan_is_held_and_never_sent(place, says, code):
    place.archive.count, place.scorer.says = 2, says
    place.bring(0, 1)
    assert place.wait(30) is Phase.HELD
    assert place.row.code == code
    assert place.wait(1e5) is Phase.HELD
    assert place.archive.files == []
    assert "held" in "\n".join(status_lines(place.home, now=place.now))


def test_after_a_kill_in_the_midst_of_scoring_it_is_scored_again_and_nothing_is_left_over(place):
    place.archive.count = 2
    place.bring(0, 1)

    def die():
        raise SystemExit

    place.scorer.during = die
    place.now += 30
    place.node.judge_all()
    with pytest.raises(SystemExit):
        place.node.score_next()
    assert place.state is Phase.SCORING
    (place.home / "results" / KEY / ".0001-0123456789abcdef.part").mkdir()
    (place.home / "results" / KEY / "0001").mkdir()
    place.scorer.during = lambda: None
    place.node = place.another()
    place.node.recover()
    assert list((place.home / "results" / KEY).iterdir()) == []
    assert place.wait(0) is Phase.SENT
    assert [p.name for p in (place.home / "results" / KEY).iterdir()] == ["0002"]


@pytest.mark.parametrize("code", ["crash", "memory", "timeout"])
def test_a_scan_that_ends_the_worker_three_times_is_given_up_and_the_next_goes_on(place, tmp_path, code):
    place.archive.count, place.scorer.fails = 2, code
    place.bring(0, 1)
    assert place.wait(30) is Phase.COMPLETE
    assert place.wait(5) is Phase.COMPLETE
    assert place.wait(10) is Phase.FAILED
    assert (place.row.code, len(place.scorer.asked)) == (code, 3)
    assert place.wait(1e5) is Phase.FAILED
    assert len(place.scorer.asked) == 3
    place.scorer.fails = ""
    other = another_series(place, tmp_path / "other")
    place.wait(30)
    assert (place.state, state_of(place, other)) == (Phase.FAILED, Phase.SENT)


@pytest.mark.parametrize(
    ("code", "state"), [("contrast", Phase.REFUSED), ("gap", Phase.REFUSED), ("failed", Phase.FAILED)]
)
def test_what_scoring_refuses_is_known_by_its_code_and_no_word_of_a_file(place, code, state, caplog):
    caplog.set_level("INFO", "heartlens")
    place.archive.count, place.scorer.fails = 2, code
    place.bring(0, 1)
    assert place.wait(30) is state
    assert place.row.code == code
    said = caplog.text + "\n".join(status_lines(place.home)) + json.dumps(health(place.node)) + metrics(place.node)
    assert "DOE" not in said
    assert "somebody" not in said


def test_a_result_that_cannot_be_written_is_tried_until_there_is_room(place):
    place.archive.count, place.scorer.fails = 2, "output"
    place.bring(0, 1)
    for pause in (30, 5, 10, 20, 40, 80):
        assert place.wait(pause) is Phase.COMPLETE
    place.scorer.fails = ""
    assert place.wait(160) is Phase.SENT


def test_a_worker_that_cannot_be_started_costs_an_attempt_and_not_the_node(place):
    place.archive.count = 2
    place.bring(0, 1)

    def fail():
        raise OSError(12, "Cannot allocate memory")

    place.scorer.during = fail
    place.now += 30
    place.node.judge_all()
    with pytest.raises(OSError, match="memory"):
        place.node.score_next()
    assert (place.state, place.row.attempts) == (Phase.COMPLETE, 1)
    place.scorer.during = lambda: None
    assert place.wait(5) is Phase.SENT


def test_what_heartlens_made_is_never_scored(place, tmp_path):
    own = small_chest.write_series(
        tmp_path / "own", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", Manufacturer="HeartLens"
    )
    place.archive.count = 1
    place.intake.take(own[0].read_bytes())
    assert place.wait(30) is Phase.REFUSED
    assert place.row.code == "own"
    assert place.scorer.asked == []


# The archive is down while it is asked


@pytest.mark.parametrize("trouble", ["down", "garbage", "refused", "missing"])
def test_half_a_series_waits_for_an_archive_that_cannot_be_asked_and_is_never_scored_by_its_silence(place, trouble):
    place.archive.trouble = ArchiveError(trouble, "archive memory is of no use")
    place.bring(0, 1)
    for seconds in (30, 300, 1e4, 1e5):
        assert place.wait(seconds) is Phase.RECEIVING
        assert (place.row.code, place.row.text) == ("unasked", "archive memory is of no use")
    assert health(place.node)["troubles"] == ["archive memory is of no use"]
    assert "unasked" in "\n".join(status_lines(place.home, now=place.now))
    place.archive.trouble, place.archive.count = None, 5
    assert place.wait(301) is Phase.INCOMPLETE
    assert health(place.node)["troubles"] == []
    assert place.scorer.asked == []
    assert place.ledger.results(KEY) == []


def test_an_archive_that_is_down_is_asked_less_and_less_and_once_for_all_series(place, tmp_path):
    place.archive.trouble = DOWN
    place.bring(0, 1)
    for n in range(4, 14):
        other = small_chest.write_series(tmp_path / f"ct{n}", StudyInstanceUID="1.2", SeriesInstanceUID=f"1.2.{n}")
        place.intake.take(other[0].read_bytes())
    place.now += 30
    for _ in range(3600):
        place.now += 1
        place.node.judge_all()
    assert 12 <= place.archive.asked <= 20  # 5, 10, 20, ... 300 s apart
    assert {row.code for row in place.ledger.series()} == {"unasked"}


def test_an_incomplete_series_is_asked_about_less_and_less(place):
    place.archive.count = 5
    place.bring(0, 1)
    for _ in range(24 * 60):
        place.wait(60)
    assert place.state is Phase.INCOMPLETE
    assert place.archive.asked < 35


def test_what_every_header_says_needs_no_archive(place, tmp_path):
    place.archive.trouble = DOWN
    own = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "ImagesInAcquisition": "2"}
    for path in small_chest.write_series(tmp_path / "hint", **own)[:2]:
        place.intake.take(path.read_bytes())
    place.now += 30
    place.node.judge_all()
    assert place.state is Phase.COMPLETE


def test_where_an_archive_is_known_to_let_nobody_ask_a_series_is_scored_and_called_unverified_as_long_as_it_stands(
    place,
):
    place.node = place.another(asks_archive=False)
    place.bring(0, 1)
    assert place.wait(299) is Phase.RECEIVING
    assert place.wait(1) is Phase.SENT
    assert place.archive.asked == 0
    assert "unverified" in "\n".join(status_lines(place.home, now=place.now))
    assert [more for _, more in place.scorer.asked] == [{"unverified-count": True}]


def test_a_series_of_which_the_archive_names_fewer_images_than_are_here_is_told_to_be_unverified(place):
    place.archive.count = 2
    place.bring(0, 1, 2)
    assert place.wait(300) is Phase.SENT
    assert [more for _, more in place.scorer.asked] == [{"unverified-count": True}]


def test_what_was_unverified_once_and_is_whole_now_is_told_without(place):
    place.bring(0, 1)
    assert place.wait(300) is Phase.SENT
    place.archive.count = 3
    place.bring(2)
    assert place.wait(30) is Phase.SENT
    assert ["unverified-count" in more for _, more in place.scorer.asked] == [True, False]
    assert not place.row.unverified


@pytest.mark.parametrize("says", [[], ["1.2.9"], ["1.2.3", "1.2.3"]])
def test_an_answer_that_does_not_name_the_series_once_is_no_number(place, says):
    counts = iter((2, 5))
    place.archive.series = lambda study, series="": [FoundSeries(study, uid, "CT", "", next(counts)) for uid in says]
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    assert (place.state, place.row.expected) == (Phase.RECEIVING, None)


# Nothing stands still for ever


def test_a_result_without_a_report_is_held(place):
    ready = place.scorer.score

    def without(files, out, more, stop):
        event = ready(files, out, more, stop)
        (out / "report.dcm").unlink()
        return event

    place.scorer.score = without
    place.archive.count = 2
    place.bring(0, 1)
    assert place.wait(30) is Phase.HELD
    assert (place.row.code, place.archive.files) == ("no-report", [])


def test_one_series_that_cannot_be_judged_keeps_no_other(place, tmp_path):
    place.bring(0, 1)
    other = another_series(place, tmp_path / "other")
    judge = place.node._judge

    def fail(row):
        if row.key == KEY:
            raise OverflowError
        return judge(row)

    place.node._judge, place.archive.count = fail, 2
    place.wait(30)
    assert (place.state, state_of(place, other)) == (Phase.RECEIVING, Phase.SENT)


def test_a_folder_that_cannot_be_made_costs_an_attempt_and_leaves_nobody_scoring(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    (place.home / "results" / KEY).write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        place.node.score_next()
    assert (place.state, place.row.attempts) == (Phase.COMPLETE, 1)
    (place.home / "results" / KEY).unlink()
    assert place.wait(5) is Phase.SENT


def test_a_step_that_failed_before_it_could_say_so_leaves_nobody_scoring(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    assert place.ledger.begin_scoring(place.row) is not None
    assert place.state is Phase.SCORING
    assert place.wait(0) is Phase.SENT


def test_a_scan_that_ends_the_whole_node_three_times_is_given_up(place):
    place.archive.count = 2
    place.bring(0, 1)

    def die():
        raise SystemExit

    place.scorer.during = die
    place.now += 30
    for _ in range(3):
        place.node = place.another()
        place.node.recover()
        place.node.judge_all()
        with pytest.raises(SystemExit):
            place.node.score_next()
    place.node = place.another()
    place.node.recover()
    assert place.wait(0) is Phase.FAILED
    assert (place.row.code, len(place.scorer.asked)) == ("crash", 3)


def test_a_node_that_is_ended_in_good_order_costs_a_scan_nothing(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    score = place.scorer.score
    place.scorer.score = lambda *_words: None
    for _ in range(5):
        place.node.judge_all()
        assert not place.node.score_next()
        assert (place.state, place.row.attempts) == (Phase.RECEIVING, 0)
    place.scorer.score = score
    assert place.wait(0) is Phase.SENT


def test_a_full_disk_is_no_fault_of_the_scan_whatever_else_happens_to_the_node(place):
    place.archive.count, place.scorer.fails = 2, "output"
    place.bring(0, 1)
    for pause in (30, 5, 10, 20, 40):
        assert place.wait(pause) is Phase.COMPLETE
    assert (place.row.code, place.row.attempts) == ("output", 0)
    place.ledger.begin_scoring(place.row)  # and there the node is killed
    place.node = place.another()
    place.node.recover()
    place.scorer.fails = ""
    assert place.wait(0) is Phase.SENT


def test_a_series_whose_association_never_ends_is_not_asked_about_all_the_time(place):
    place.bring(0, 1)
    place.ledger.opened(KEY)
    place.now += 1000
    for _ in range(600):
        place.now += 0.2
        place.node.judge_all()
    assert place.state is Phase.RECEIVING
    assert place.archive.asked <= 3


class Killed(BaseException):
    """As far as this process is concerned."""


def kill_at(ledger, number, when):
    """Let a node die at its so manieth entry of the ledger, before it is on the disk or after."""
    transaction, entries = ledger._transaction, iter(range(1, 1000))

    @contextmanager
    def dying():
        entry = next(entries)
        with transaction() as db:
            yield db
            if (entry, when) == (number, "before"):
                raise Killed
        if (entry, when) == (number, "after"):
            raise Killed

    ledger._transaction = dying


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_entry_of_the_ledger_there_is_one_right_result_in_the_end(place, tmp_path, when):
    kills = 0
    for number in range(1, 100):
        one = Place(tmp_path / f"home-{number}", place.files)
        one.archive.count = 3
        kill_at(one.ledger, number, when)
        try:
            one.bring(0, 1, 2)
            one.wait(30)
        except Killed:
            kills += 1
        else:
            assert one.state is Phase.SENT
            one.ledger.close()
            break
        one.start_again()
        one.bring(0, 1, 2)  # the sender, who did not hear that it was received
        assert one.wait(30) is Phase.SENT, number
        last = one.ledger.results(KEY)[-1]
        assert (last.state, last.images, len(last.sent)) == (Phase.SENT, 3, 5), number
        assert {text.split()[0] for text in one.archive.files} == {f"{last.revision:04d}"}, number
        one.ledger.close()
    assert kills >= 12  # three images, a judgement, a scoring, a result, five objects, and that it was sent


# Two at once


def test_an_image_that_comes_at_the_very_begin_of_a_scoring_makes_its_result_void(place):
    place.archive.count = 2
    place.bring(0, 1)
    begin = place.ledger.begin_scoring

    def begin_and_bring(row):
        scoring = begin(row)
        place.bring(2)
        place.ledger.begin_scoring = begin
        return scoring

    place.ledger.begin_scoring = begin_and_bring
    place.now += 30
    place.node.judge_all()
    place.node.score_next()
    assert place.state is Phase.RECEIVING
    assert [result.state for result in place.ledger.results(KEY)] == [Phase.SUPERSEDED]
    place.node.send_next()
    assert place.archive.files == []


# How it is


def test_a_trouble_that_is_over_is_no_trouble_and_what_failed_is_a_note(place, tmp_path):
    place.archive.trouble = DOWN
    place.bring(0, 1)
    place.wait(30)
    assert health(place.node)["status"] == "degraded"
    place.archive.trouble, place.archive.count = None, 2
    place.scorer.fails = "failed"
    assert place.wait(5) is Phase.FAILED
    said = health(place.node)
    assert (said["status"], said["troubles"]) == ("ok", [])
    assert said["notes"] == ["1 series failed; heartlens node status lists them"]


def test_a_step_that_fails_is_tried_less_and_less(place):
    waits = []
    place.node.stopping = Waiting(waits, 8)
    with suppress(StopIteration):
        place.node._run(lambda: 1 // 0)
    assert [wait for wait in waits if wait != PAUSE_S] == [5, 10, 20, 40, 80, 160, 300, 300]


class Waiting:
    """An event that notes how long it is waited for, and is set after so many waits."""

    def __init__(self, waits, most):
        self.waits, self.most = waits, most

    def wait(self, seconds):
        self.waits.append(seconds)

    def is_set(self):
        return len(self.waits) >= 2 * self.most


def test_the_numbers_for_prometheus_are_those_of_the_node(place):
    place.archive.count = 2
    place.bring(0, 1, 1)
    place.wait(30)
    lines = metrics(place.node).splitlines()
    for line in (
        'heartlens_node_series{state="sent"} 1', "heartlens_node_images_received_total 2",
        "heartlens_node_images_duplicate_total 1", "heartlens_node_sent_total 1", "heartlens_node_scored_total 1",
    ):  # fmt: skip
        assert line in lines
