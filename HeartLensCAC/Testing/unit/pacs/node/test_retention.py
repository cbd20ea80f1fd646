"""What was not scored or not sent is never deleted; the rest when its days are over."""

from __future__ import annotations

from node_place import DOWN, KEY, ready_to_send

from heartlens.pacs.node.rules import Phase


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


def test_no_result_is_deleted_before_the_archive_has_it(place):
    place.node = place.another(keep_days=1.0, keep_results_days=1.0)
    ready_to_send(place)
    place.archive.trouble = DOWN
    for _ in range(10):
        assert place.wait(86400) is Phase.UNSENT
    assert (place.home / "results" / KEY / "0001" / "report.dcm").is_file()
    assert not (place.home / "spool" / KEY).exists()
    place.archive.trouble = None
    assert place.wait(3600) is Phase.SENT
    assert len(place.archive.files) == 5
    place.wait(86400)
    assert list((place.home / "results" / KEY).iterdir()) == []


def test_what_was_not_scored_because_the_archive_is_down_is_not_deleted(place):
    place.archive.trouble = DOWN
    place.bring(0, 1)
    place.wait(1e7)
    assert len(place.intake.files(KEY)) == 2
    place.archive.trouble, place.archive.count = None, 2
    assert place.wait(301) is Phase.SENT


def test_half_a_series_that_nobody_completes_is_given_up_with_its_images_and_asked_about_no_more(place):
    place.archive.count = 5
    place.bring(0, 1)
    place.wait(30)
    place.wait(8 * 86400)
    place.wait(61)
    assert (place.state, place.row.code) == (Phase.REFUSED, "expired")
    asked = place.archive.asked
    place.wait(1e6)
    assert (place.archive.asked, place.intake.files(KEY)) == (asked, [])


def test_a_part_that_comes_when_the_rest_was_deleted_is_no_series(place):
    place.archive.count = 3
    place.bring(0, 1, 2)
    assert place.wait(30) is Phase.SENT
    place.wait(8 * 86400)
    assert place.intake.files(KEY) == []
    place.archive.count = None
    place.bring(3, 4)
    place.ledger.closed(KEY, {"x", "y"}, is_broken=False)
    assert place.wait(1e4) is Phase.INCOMPLETE
    assert "3 more were deleted" in place.row.text
    place.bring(0, 1, 2)
    assert place.wait(300) is Phase.SENT
