"""The node's three steps, with a clock that is set, an archive in memory and a worker that writes what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_chest

from heartlens.app.messages import Event
from heartlens.pacs.archive import ArchiveError, FoundSeries
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger, key_of
from heartlens.pacs.node.rules import Phase, Waits
from heartlens.pacs.node.service import Node, Settings
from heartlens.pacs.node.status import health, metrics, status_lines

KEY = key_of("1.2", "1.2.3")
WAITS = Waits(quiet_s=30, unverified_s=300, ask_again_s=60)


class MemoryArchive:
    """What it has been sent, and how many images it says a series has; `trouble` is raised instead."""

    name = "memory"

    def __init__(self):
        self.files, self.count, self.trouble, self.asked = [], None, None, 0

    def series(self, study_uid, series_uid=""):
        self.asked += 1
        if self.trouble:
            raise self.trouble
        return [] if self.count is None else [FoundSeries(study_uid, series_uid, "CT", "", self.count)]

    def send(self, path):
        if self.trouble:
            raise self.trouble
        self.files.append(path.read_text())

    def close(self):
        pass


class WritingScorer:
    """Makes a result whose numbers are `says`, or ends with `fails`; hears what it was asked."""

    def __init__(self):
        self.says, self.fails, self.asked, self.during = {}, "", [], lambda: None
        self.crashes, self.pid = 0, 1

    def score(self, files, out, more, stop):
        self.asked.append((sorted(files), more))
        self.during()
        if self.fails:
            return Event("error", "job", code=self.fails, text="/home/somebody/DOE^JANE/1.dcm")
        out.mkdir()
        report = {"ct": {"slices": 41, "increment_mm": 3.0}, "warnings": []}
        report |= {"assessment": {"evaluable": "yes", "reasons": []}}
        (out / "report.json").write_text(json.dumps({**report, **self.says}))
        for name in ("report.dcm", "segmentation.dcm", "key-page.dcm", "key-page-2.dcm", "report-pdf.dcm"):
            (out / name).write_text(f"{out.name} {name}")
        return Event("done", "job", fraction=1.0, out=str(out), case=str(out / "case"))

    def stop(self):
        pass


class Place:
    """A node with its parts, and images to send it."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self.now = 1000.0
        self.files = files
        self.home = folder
        self.archive, self.scorer = MemoryArchive(), WritingScorer()
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.intake = Intake(folder / "spool", self.ledger, least_free_bytes=0, clock=lambda: self.now)
        self.node = self.another()

    def another(self, **changes):
        settings = Settings(**{"waits": WAITS, "retry_s": 5.0, **changes})
        return Node(
            self.home, self.ledger, self.intake, self.scorer, lambda: self.archive, settings=settings,
            clock=lambda: self.now,
        )  # fmt: skip

    def bring(self, *numbers: int) -> None:
        for number in numbers:
            self.intake.take(self.files[number].read_bytes())

    def wait(self, seconds: float) -> Phase:
        """Let time pass, and do everything that can be done."""
        self.now += seconds
        for _ in range(3):
            self.node.judge_all()
            self.node.score_next()
            self.node.send_next()
        return self.state

    @property
    def row(self):
        (row,) = self.ledger.series(key=KEY)
        return row

    @property
    def state(self) -> Phase:
        return self.row.state


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    return small_chest.write_series(folder, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")[:5]


@pytest.fixture
def place(tmp_path, files):
    place = Place(tmp_path, files)
    yield place
    place.ledger.close()


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
    assert first == {}
    assert second == {"predecessor": str(place.home / "results" / KEY / "0001" / "report.dcm")}
    assert len(files) == 5
    assert [result.state for result in place.ledger.results(KEY)] == [Phase.SUPERSEDED, Phase.SENT]


def test_a_result_that_never_left_is_no_predecessor(place):
    place.bring(0, 1)
    place.archive.trouble = ArchiveError("down", "archive memory cannot be reached")
    assert place.wait(300) is Phase.UNSENT
    place.bring(2, 3, 4)
    place.archive.trouble, place.archive.count = None, 5
    assert place.wait(30) is Phase.SENT
    assert [more for _, more in place.scorer.asked] == [{}, {}]
    assert {text.split()[0] for text in place.archive.files} == {"0002"}


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
    assert place.node.send_failures == 4
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


def test_a_scan_that_ends_the_worker_three_times_is_given_up_and_the_next_goes_on(place):
    place.archive.count, place.scorer.fails = 2, "crash"
    place.bring(0, 1)
    assert place.wait(30) is Phase.COMPLETE
    assert place.wait(5) is Phase.COMPLETE
    assert place.wait(10) is Phase.FAILED
    assert (place.row.code, len(place.scorer.asked)) == ("crash", 3)
    assert place.wait(1e5) is Phase.FAILED
    assert len(place.scorer.asked) == 3


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


def test_images_are_deleted_after_their_days_and_the_result_stays(place):
    place.archive.count = 2
    place.node = place.another(keep_days=1.0)
    place.bring(0, 1)
    place.wait(30)
    place.wait(86000)
    assert len(place.intake.files(KEY)) == 2
    place.wait(1000)
    assert place.intake.files(KEY) == []
    assert not (place.home / "spool" / KEY).exists()
    assert place.state is Phase.SENT
    assert (place.home / "results" / KEY / "0001").is_dir()


def test_results_are_deleted_where_somebody_says_so(place):
    place.archive.count = 2
    place.node = place.another(keep_results_days=1.0)
    place.bring(0, 1)
    place.wait(30)
    place.wait(90000)
    assert list((place.home / "results" / KEY).iterdir()) == []


def test_a_readers_work_and_what_is_not_ours_is_never_deleted(place):
    place.archive.count = 2
    place.node = place.another(keep_results_days=1.0)
    place.bring(0, 1)
    place.wait(30)
    results = place.home / "results" / KEY
    for name in ("0001", "0007"):  # known to the ledger, and not
        (results / name / "case").mkdir(parents=True)
        (results / name / "case" / "edits.jsonl").write_text("an edit\n")
    (results / "my notes").mkdir()
    place.wait(90000)
    place.node = place.another()
    place.node.recover()
    assert sorted(path.name for path in results.iterdir()) == ["0001", "0007", "my notes"]


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
