"""The node with a real archive, real senders, real scores. `test_archive.py` runs this where no other network is.

Each story ends with what stands in the archive, read back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import node_chest
import pytest
from orthanc_archive import NODE, PROFILES, WEB, Orthanc, send
from pydicom import dcmread
from running_node import LIBRARY, RunningNode, chest, score_of

from heartlens.pacs.node.rules import Phase

STATUS = 11113

NOBODY_CONFIRMED = "nobody confirmed that all images are here"
"""What a result says that was scored though nobody could say how many images its series has."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    archive = Orthanc(tmp_path_factory.mktemp("archive"))
    yield archive
    archive.end()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "pacs.toml"
    path.write_text(PROFILES)
    return path


@pytest.fixture(scope="module")
def node(tmp_path_factory, config):
    """A node that sends SEG and SR alone."""
    node = RunningNode(tmp_path_factory.mktemp("node") / "home", config, "--no-pages")
    yield node
    if node.process.poll() is None:
        assert node.end() == 0
    assert "Secret" not in node.log
    assert "SECRET" not in node.log


def test_from_the_sender_to_seg_sr_page_and_pdf_in_the_archive_bit_for_bit(archive, config, tmp_path):
    """The first sender breaks off; while it is incomplete nothing is scored, and then once."""
    _, series, paths = chest(tmp_path, 1)
    archive.store(paths)
    node = RunningNode(tmp_path / "home", config)
    try:
        send(paths[:20], breaks_off=True)
        row = node.until(series, Phase.INCOMPLETE)
        assert (row.images, row.expected) == (20, 52)
        assert set(send(paths)) == {0}  # all of it again: 20 are here already
        begun = time.monotonic()
        assert node.until(series, Phase.SENT).images == 52
        print(f"last image to sent, with pages: {time.monotonic() - begun:.1f} s")
        (out,) = (tmp_path / "home" / "results").glob("*/0001")
        assert score_of((out / "report.json").read_bytes()) == pytest.approx(node_chest.agatston())
        assert NOBODY_CONFIRMED not in dcmread(out / "report.dcm").to_json()
        for name in ("segmentation.dcm", "report.dcm", "key-page.dcm", "report-pdf.dcm"):
            uid = str(dcmread(out / name, stop_before_pixels=True).SOPInstanceUID)
            assert archive.find(SOPInstanceUID=uid) == [(out / name).read_bytes()], name
        with urllib.request.urlopen(f"http://127.0.0.1:{STATUS}/health", timeout=10) as answer:
            assert json.loads(answer.read())["series"]["sent"] == 1
        with urllib.request.urlopen(f"http://127.0.0.1:{STATUS}/metrics", timeout=10) as answer:
            assert b"\nheartlens_node_sent_total 1\n" in answer.read()
    finally:
        assert node.end() == 0
    assert "Secret" not in node.log


def test_half_a_series_and_then_the_rest_end_with_one_right_result_that_names_the_other(archive, node, tmp_path):
    """Nobody can say how many images there are: the archive has none, and the sender stops in good order."""
    study, series, paths = chest(tmp_path, 2)
    send(paths[node_chest.UPPER])
    assert node.until(series, Phase.SENT).images == 37
    (first,) = archive.objects(study, "SR")
    assert NOBODY_CONFIRMED in first.to_json()  # who reads it sees that it may be half
    send(paths[: node_chest.UPPER.start])
    node.until(series, Phase.RECEIVING)
    assert node.until(series, Phase.SENT).images == 52
    assert node.row(series).revision == 2
    reports = {str(report.SOPInstanceUID): report for report in archive.objects(study, "SR")}
    assert len(reports) == 2
    (second,) = (report for uid, report in reports.items() if uid != first.SOPInstanceUID)
    (of_study,) = second.PredecessorDocumentsSequence
    (of_series,) = of_study.ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in of_series.ReferencedSOPSequence] == [first.SOPInstanceUID]
    key = node.row(series).key
    pages = [node.home / "results" / key / n for n in ("0001", "0002")]
    half, whole = (score_of((page / "report.json").read_bytes()) for page in pages)
    for page in pages:  # the archive never said how many images there are
        assert "image-count" in json.loads((page / "report.json").read_bytes())["assessment"]["reasons"]
        assert NOBODY_CONFIRMED in (page / "report.html").read_text(encoding="utf-8")
    assert half == pytest.approx(node_chest.agatston(node_chest.UPPER))
    assert whole == pytest.approx(node_chest.agatston())
    send(paths)  # the same once more changes nothing
    time.sleep(2)
    assert node.row(series).state is Phase.SENT
    assert len(archive.objects(study, "SR")) == 2


def test_a_part_of_a_scan_is_held_and_never_sent(archive, node, tmp_path):
    study, series, paths = chest(tmp_path, 3)
    send(paths[:20])
    row = node.until(series, Phase.HELD)
    assert row.code == "short-scan"
    time.sleep(1)
    assert archive.find(StudyInstanceUID=study) == []
    said = subprocess.run(
        [sys.executable, "-m", "heartlens", "node", "status", "--home", str(node.home)], capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": str(LIBRARY)},
    ).stdout  # fmt: skip
    assert series in said
    assert "short-scan" in said
    assert "SECRET" not in said


def test_killed_while_it_receives_scores_and_sends_and_with_the_archive_down_there_is_one_right_result(
    archive, node, tmp_path
):
    study, series, paths = chest(tmp_path, 5)
    sender = threading.Thread(target=send, args=(paths,))
    sender.start()
    node.until(series, Phase.RECEIVING)
    node.kill()
    sender.join()
    node.start()
    row = node.row(series)
    assert row.broken  # half a series, and it knows so
    assert row.images == len(list((node.home / "spool" / row.key).glob("*.dcm")))
    assert list((node.home / "spool").glob("*/*.part")) == []
    send(paths)
    assert node.until(series, Phase.SCORING).images == 52
    assert not node.row(series).broken
    node.kill()
    node.start()
    node.until(series, Phase.SCORING)
    archive.freeze()  # it takes connections and says nothing
    node.until(series, Phase.SCORED)
    node.kill()  # in the midst of sending
    archive.thaw()
    archive.end()
    try:
        node.start()
        assert node.until(series, Phase.UNSENT).code == "down"
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{STATUS}/health", timeout=10)
    finally:
        archive.start()
    row = node.until(series, Phase.SENT)
    assert row.images == 52
    (report,) = archive.objects(study, "SR")
    assert "PredecessorDocumentsSequence" not in report
    (out,) = (node.home / "results" / row.key).iterdir()
    assert archive.find(SOPInstanceUID=str(report.SOPInstanceUID)) == [(out / "report.dcm").read_bytes()]
    assert score_of((out / "report.json").read_bytes()) == pytest.approx(node_chest.agatston())


TAKEN = (Phase.UNVERIFIED, Phase.COMPLETE, Phase.SCORING, Phase.SCORED, Phase.SENT)
"""All images are here; what follows is told in other stories."""


def test_a_full_disk_is_told_to_the_sender_and_the_second_door_brings_what_the_archive_got(config, archive, tmp_path):
    """A disk of its own, as large as a part of the series; then it is made larger."""
    _, series, paths = chest(tmp_path, 8)
    _, stored, of_archive = chest(tmp_path, 10)
    home = tmp_path / "disk" / "home"
    home.parent.mkdir()
    tmpfs = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(home.parent)]
    if subprocess.run(tmpfs, capture_output=True, check=False).returncode:
        pytest.skip("no disk of one megabyte can be made here")
    node = None
    words = ("--no-pages", "--port", "11122", "--status-port", "0", "--changes", WEB)
    try:
        (home.parent / "filler").write_bytes(bytes(500_000))
        node = RunningNode(home, config, *words)
        statuses = send(paths, port=11122)
        assert 0xA700 in statuses
        assert set(statuses) <= {0, 0xA700}
        row = node.row(series)
        assert (0 if row is None else row.images) == statuses.count(0)
        subprocess.run(["mount", "-o", "remount,size=64m", str(home.parent)], check=True)
        assert set(send(paths, port=11122)) == {0}
        archive.store(of_archive)
        assert node.until(series, *TAKEN).images == 52
        assert node.until(stored, *TAKEN).images == 52
    finally:
        if node is not None:
            node.end()
        subprocess.run(["umount", str(home.parent)], check=False)


def test_what_heartlens_made_comes_back_and_is_never_scored(archive, node, tmp_path):
    """SEG and SR of the archive are not even offered a place; a CT that HeartLens made is refused."""
    from pynetdicom import AE

    (report, *_) = archive.objects("1.2.2", "SR")
    entity = AE(ae_title="CT1")
    entity.add_requested_context(report.SOPClassUID)
    association = entity.associate("127.0.0.1", NODE, ae_title="HEARTLENS")
    assert not association.accepted_contexts
    if association.is_established:
        association.release()
    own = node_chest.write_chest(tmp_path / "own", SeriesInstanceUID="1.2.9.1", Manufacturer="HeartLens")
    send(own[:2])
    assert node.until("1.2.9.1", Phase.REFUSED).code == "own"
