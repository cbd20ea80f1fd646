"""The second door: stable series of an Orthanc come in once, and nothing is missed while somebody is down."""

from __future__ import annotations

import httpx
import pytest
import small_chest

from heartlens.pacs.node.changes import Changes
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger, key_of

KEY = key_of("1.2", "1.2.3")


class Orthanc:
    """Two series, one of them CT; `broken` answers instead."""

    def __init__(self, files):
        self.files, self.broken, self.asked = files, None, []

    def __call__(self, request):
        self.asked.append(request.url.path)
        if self.broken is not None:
            return self.broken
        if request.url.path == "/changes":
            since = int(request.url.params["since"])
            kinds = {1: ("NewInstance", "i-0")} | {
                n: ("StableSeries", name) for n, name in ((2, "ct"), (5, "sr"), (6, "gone"))
            }
            changes = [{"Seq": seq, "ChangeType": kind, "ID": name} for seq, (kind, name) in kinds.items()]
            return httpx.Response(
                200, json={"Changes": [c for c in changes if c["Seq"] > since], "Done": True, "Last": 6}
            )
        if request.url.path in ("/series/ct", "/series/sr"):
            tags = {"Modality": "CT" if request.url.path.endswith("ct") else "SR", "SeriesInstanceUID": "1.2.3"}
            return httpx.Response(200, json={"MainDicomTags": tags, "Instances": [f"i-{n}" for n in range(3)]})
        if request.url.path.startswith("/instances/"):
            return httpx.Response(200, content=self.files[int(request.url.path.split("/")[2][2:])].read_bytes())
        return httpx.Response(404)


@pytest.fixture
def door(tmp_path, monkeypatch):
    files = small_chest.write_series(tmp_path / "ct", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")
    orthanc = Orthanc(files)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    intake = Intake(tmp_path / "spool", ledger, least_free_bytes=0)
    changes = Changes("http://127.0.0.1:1", intake, ledger)
    changes._http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(orthanc))
    yield changes, orthanc, ledger, intake
    ledger.close()


def test_a_stable_ct_series_comes_in_once_and_nothing_else_does(door):
    changes, orthanc, ledger, intake = door
    assert changes.poll()
    assert [path.read_bytes() for path in intake.files(KEY)]
    assert {path.read_bytes() for path in intake.files(KEY)} == {path.read_bytes() for path in orthanc.files[:3]}
    assert [row.series_uid for row in ledger.series()] == ["1.2.3"]
    orthanc.asked.clear()
    assert not changes.poll()
    assert orthanc.asked == ["/changes"]


@pytest.mark.parametrize(
    "answer", [httpx.Response(503), httpx.Response(200, text="<html>"), httpx.Response(200, json=[]),
               httpx.Response(200, json={"Changes": [{}], "Last": 9})],
)  # fmt: skip
def test_what_makes_no_sense_moves_nothing(door, answer):
    changes, orthanc, ledger, _ = door
    orthanc.broken = answer
    assert not changes.poll()
    orthanc.broken = None
    assert changes.poll()
    assert ledger.series()[0].images == 3


def test_a_full_disk_keeps_the_place_in_the_list(door, monkeypatch):
    changes, _, ledger, intake = door
    monkeypatch.setattr(intake, "_least_free", 1 << 60)
    assert not changes.poll()
    monkeypatch.setattr(intake, "_least_free", 0)
    assert changes.poll()
    assert ledger.series()[0].images == 3
