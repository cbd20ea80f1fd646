"""The second door: stable series of an Orthanc come in once, and nothing is missed while somebody is down."""

from __future__ import annotations

import httpx
import pytest
import small_chest

from heartlens.core.errors import InputRefused
from heartlens.pacs.node.changes import Changes, require_changes_url
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import key_of

KEY, OTHER = key_of("1.2", "1.2.3"), key_of("1.2", "1.2.4")


class Orthanc:
    """Two CT series and a report; `broken` answers instead of it, `fails` instead of a place."""

    def __init__(self, files):
        self.files, self.broken, self.asked, self.fails = files, None, [], {}

    def __call__(self, request):
        self.asked.append(request.url.path)
        if self.broken is not None:
            return self.broken
        for place, answer in self.fails.items():
            if request.url.path.startswith(place):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        if request.url.path == "/changes":
            since = int(request.url.params["since"])
            kinds = {1: ("NewInstance", "i-0")} | {
                n: ("StableSeries", name) for n, name in ((2, "ct"), (3, "ct2"), (5, "sr"), (6, "gone"))
            }
            changes = [{"Seq": seq, "ChangeType": kind, "ID": name} for seq, (kind, name) in kinds.items()]
            return httpx.Response(
                200, json={"Changes": [c for c in changes if c["Seq"] > since], "Done": True, "Last": 6}
            )
        if request.url.path in ("/series/ct", "/series/ct2", "/series/sr"):
            name = request.url.path.rpartition("/")[2]
            tags = {"Modality": "SR" if name == "sr" else "CT", "SeriesInstanceUID": "1.2.3"}
            return httpx.Response(200, json={"MainDicomTags": tags, "Instances": [f"{name}-{n}" for n in range(3)]})
        if request.url.path.startswith("/instances/"):
            name, _, number = request.url.path.split("/")[2].partition("-")
            return httpx.Response(200, content=self.files[name][int(number)].read_bytes())
        return httpx.Response(404)


class Door:
    """The door with an Orthanc behind it and a clock that is set."""

    def __init__(self, folder):
        self.files = {
            name: small_chest.write_series(folder / name, StudyInstanceUID="1.2", SeriesInstanceUID=uid)
            for name, uid in (("ct", "1.2.3"), ("ct2", "1.2.4"))
        }
        self.now = 1000.0
        self.orthanc = Orthanc(self.files)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.intake = Intake(folder / "spool", self.ledger, least_free_bytes=0)
        self.changes = self.another()

    def another(self):
        return Changes(
            "http://127.0.0.1:1", self.intake, self.ledger, transport=httpx.MockTransport(self.orthanc),
            clock=lambda: self.now,
        )  # fmt: skip

    def images(self, key):
        return next((row.images for row in self.ledger.series(key=key)), 0)


@pytest.fixture
def door(tmp_path):
    door = Door(tmp_path)
    yield door
    door.ledger.close()


def test_a_stable_ct_series_comes_in_once_and_nothing_else_does(door):
    assert door.changes.poll()
    for key, name in ((KEY, "ct"), (OTHER, "ct2")):
        got = {path.read_bytes() for path in door.intake.files(key)}
        assert got == {path.read_bytes() for path in door.files[name][:3]}
    assert sorted(row.key for row in door.ledger.series()) == sorted((KEY, OTHER))
    assert not any(row.unreleased or row.broken for row in door.ledger.series())
    door.orthanc.asked.clear()
    assert not door.changes.poll()
    assert door.orthanc.asked == ["/changes"]


@pytest.mark.parametrize(
    "answer", [httpx.Response(503), httpx.Response(200, text="<html>"), httpx.Response(200, json=[]),
               httpx.Response(200, json={"Changes": [{}], "Last": 9})],
)  # fmt: skip
def test_what_makes_no_sense_moves_nothing(door, answer):
    door.orthanc.broken = answer
    assert not door.changes.poll()
    door.orthanc.broken = None
    assert door.changes.poll()
    assert door.images(KEY) == 3


def test_a_full_disk_keeps_the_place_in_the_list(door, monkeypatch):
    monkeypatch.setattr(door.intake, "_least_free", 1 << 60)
    assert not door.changes.poll()
    monkeypatch.setattr(door.intake, "_least_free", 0)
    assert door.changes.poll()
    assert door.images(KEY) == 3


def polls(door, seconds):
    """How often the list is asked for in a time, by a node that looks every fifth of a second."""
    door.orthanc.asked.clear()
    for _ in range(int(seconds * 5)):
        door.changes.step()
        door.now += 0.2
    return door.orthanc.asked.count("/changes")


def test_a_list_without_news_is_asked_for_every_five_seconds(door):
    assert polls(door, 1) == 2  # news, and then none
    assert 11 <= polls(door, 60) <= 13


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(200, text="<html>"), httpx.ConnectError("no")])
def test_an_orthanc_that_is_of_no_use_is_asked_less_and_less(door, answer):
    door.orthanc.fails["/changes"] = answer
    assert polls(door, 3600) < 20  # 5, 10, 20, ... 300 s
    door.orthanc.fails.clear()
    polls(door, 301)
    assert door.images(KEY) == 3
    assert 11 <= polls(door, 60) <= 13


def test_a_series_that_cannot_be_brought_keeps_no_other_and_is_tried_again(door):
    door.orthanc.fails["/instances/ct-1"] = httpx.Response(500)
    assert door.changes.poll()
    assert (door.images(KEY), door.images(OTHER)) == (1, 3)
    (row,) = door.ledger.series(key=KEY)
    assert row.broken  # a part of it, and it is known
    polls(door, 3600)
    assert 8 <= door.orthanc.asked.count("/series/ct") <= 12
    assert "/series/ct2" not in door.orthanc.asked
    door.orthanc.fails.clear()
    door.changes = door.another()  # also by a node that was started again
    door.now += 3600
    door.changes.poll()
    assert door.images(KEY) == 3
    assert not door.ledger.series(key=KEY)[0].broken


def test_a_series_that_never_can_be_brought_is_given_up(door):
    door.orthanc.fails["/instances/ct-1"] = httpx.Response(500)
    door.changes.poll()
    for _ in range(30):
        door.now += 3600
        door.changes.poll()
    assert door.orthanc.asked.count("/series/ct") == 12


def test_an_orthanc_that_goes_in_the_middle_leaves_its_place_in_the_list_and_a_series_that_is_known_as_a_part(door):
    door.orthanc.fails["/instances/ct-1"] = httpx.ConnectError("no")
    assert not door.changes.poll()
    assert (door.images(KEY), door.images(OTHER)) == (1, 0)
    assert door.ledger.series(key=KEY)[0].broken
    door.orthanc.fails.clear()
    assert door.changes.poll()
    assert (door.images(KEY), door.images(OTHER)) == (3, 3)
    assert not door.ledger.series(key=KEY)[0].broken


def test_an_image_that_orthanc_deleted_meanwhile_is_left_out(door):
    door.orthanc.fails["/instances/ct-1"] = httpx.Response(404)
    assert door.changes.poll()
    assert (door.images(KEY), door.images(OTHER)) == (2, 3)
    polls(door, 3600)
    assert "/series/ct" not in door.orthanc.asked


@pytest.mark.parametrize(
    ("url", "has_password", "said"),
    [
        ("http://pacs.example:8042", True, "images and the password can be read on the way"),
        ("http://10.0.0.9:8042", False, "images can be read on the way"),
        ("http://me:secret@127.0.0.1:8042", False, "no user and no password"),
        ("ftp://127.0.0.1", False, "must be an address"),
        ("127.0.0.1:8042", False, "must be an address"),
        ("http://[::1", False, "must be an address"),
    ],
)
def test_an_address_that_shows_what_is_secret_is_refused(url, has_password, said):
    with pytest.raises(InputRefused, match=said) as refused:
        require_changes_url(url, has_password=has_password, may_be_clear=False)
    assert "secret" not in refused.value.text


@pytest.mark.parametrize(
    ("url", "may_be_clear"),
    [("http://127.0.0.1:8042", False), ("https://pacs.example", False), ("http://pacs.example:8042", True)],
)
def test_an_address_on_this_computer_an_encrypted_one_and_one_that_is_allowed_are_taken(url, may_be_clear):
    require_changes_url(url, has_password=True, may_be_clear=may_be_clear)
