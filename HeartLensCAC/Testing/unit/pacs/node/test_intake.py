"""An image is received when it is on the disk and noted, and not before; the disk may refuse at any moment."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import small_chest
from pydicom import dcmread

from heartlens.pacs.node import intake as intake_module
from heartlens.pacs.node.intake import DISK_TROUBLE, NOT_TAKEN, SUCCESS, Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import key_of
from heartlens.pacs.node.rules import Phase


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    return small_chest.write_series(folder, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")


@pytest.fixture
def door(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield Intake(tmp_path / "spool", ledger, least_free_bytes=0), ledger
    ledger.close()


KEY = key_of("1.2", "1.2.3")


def test_what_is_taken_is_bit_for_bit_what_came_and_for_nobody_else(door, files):
    intake, ledger = door
    data = files[0].read_bytes()
    received = intake.take(data)
    assert (received.status, received.key, received.is_new) == (SUCCESS, KEY, True)
    (path,) = intake.files(KEY)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert ledger.series()[0].images == 1


def test_the_same_twice_is_success_and_one_image(door, files):
    intake, _ = door
    assert intake.take(files[0].read_bytes()).is_new
    again = intake.take(files[0].read_bytes())
    assert (again.status, again.is_new) == (SUCCESS, False)
    assert (intake.received, intake.duplicates, len(intake.files(KEY))) == (1, 1, 1)


def changed(path, **tags):
    dataset = dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
        if keyword == "SOPClassUID":
            dataset.file_meta.MediaStorageSOPClassUID = value
    dataset.save_as(path)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["text", "nothing", "cut", "no uid", "a path for a uid", "another class"])
def test_what_is_no_ct_image_is_not_taken_and_leaves_nothing(door, files, tmp_path, kind, recwarn):
    intake, ledger = door
    copy = tmp_path / "copy.dcm"
    shutil.copy(files[0], copy)
    data = {
        "text": lambda: b"hello",
        "nothing": lambda: b"",
        "cut": lambda: copy.read_bytes()[:300],
        "no uid": lambda: changed(copy, SeriesInstanceUID=""),
        "a path for a uid": lambda: copy.read_bytes().replace(b"1.2.3\x00", b"../../"),
        "another class": lambda: changed(copy, SOPClassUID="1.2.840.10008.5.1.4.1.1.4"),
    }[kind]()
    assert intake.take(data).status == NOT_TAKEN
    assert ledger.series() == []
    assert list(intake.spool.iterdir()) == []


def test_an_object_under_another_uid_than_announced_is_not_taken(door, files):
    intake, _ = door
    assert intake.take(files[0].read_bytes(), "1.9.9").status == NOT_TAKEN


@pytest.mark.parametrize("step", ["write", "fsync", "replace", "ledger", "room"])
def test_whatever_the_disk_refuses_the_sender_hears_it_and_nothing_half_written_stays(door, files, monkeypatch, step):
    intake, ledger = door

    def full(*_words, **_more):
        raise OSError(28, "No space left on device")

    if step == "ledger":
        monkeypatch.setattr(ledger, "add_image", full)
    elif step == "room":
        intake = Intake(intake.spool, ledger, least_free_bytes=1 << 60)
    else:
        monkeypatch.setattr(intake_module.os, step, full)
    assert intake.take(files[0].read_bytes()).status == DISK_TROUBLE
    monkeypatch.undo()
    assert ledger.series() == []
    assert not list(intake.spool.glob("*/*.part"))
    assert Intake(intake.spool, ledger, least_free_bytes=0).take(files[0].read_bytes()).status == SUCCESS
    assert ledger.series()[0].images == 1


def test_a_node_that_died_between_file_and_ledger_notes_it_later(door, files, monkeypatch):
    intake, ledger = door
    intake.take(files[0].read_bytes())
    whole = intake.files(KEY)[0]
    ledger.forget_images(ledger.series()[0], Phase.SENT)
    (whole.parent / "half-1.part").write_bytes(b"half")
    assert intake.recover() == (1, 1)
    assert intake.files(KEY) == [whole]
    assert ledger.series()[0].unreleased  # nobody knows whether more was to come
    assert os.listdir(whole.parent) == [whole.name]


def test_images_that_were_deleted_are_taken_again(door, files):
    intake, ledger = door
    intake.take(files[0].read_bytes())
    assert intake.remove(ledger.series()[0], Phase.SENT)
    assert list(intake.spool.iterdir()) == []
    assert ledger.series()[0].images == 0
    assert intake.take(files[0].read_bytes()).is_new
    assert len(intake.files(KEY)) == 1


def test_an_image_that_comes_while_its_series_is_deleted_saves_all_of_them(door, files):
    intake, ledger = door
    intake.take(files[0].read_bytes())
    old = ledger.series()[0]
    intake.take(files[1].read_bytes())
    assert not intake.remove(old, Phase.SENT)
    assert [path.is_file() for path in intake.files(KEY)] == [True, True]


@pytest.mark.parametrize("is_noted", [False, True])
def test_a_node_that_died_while_it_deleted_images_has_all_of_them_or_none(door, files, monkeypatch, is_noted):
    intake, ledger = door
    for path in files[:3]:
        intake.take(path.read_bytes())

    def die(*_words, **_more):
        raise SystemExit

    if is_noted:
        monkeypatch.setattr(intake_module.shutil, "rmtree", lambda place, **_more: die() if place.exists() else None)
    else:
        monkeypatch.setattr(ledger, "forget_images", die)
    with pytest.raises(SystemExit):
        intake.remove(ledger.series()[0], Phase.SENT)
    monkeypatch.undo()
    Intake(intake.spool, ledger).recover()
    here = list(intake.spool.glob("*/*.dcm"))
    assert len(here) == (0 if is_noted else 3)
    assert ledger.series()[0].images == len(here)
    assert list(intake.spool.glob("*.deleted")) == []


def test_one_uid_from_two_senders_at_once_is_the_file_of_one_of_them(door, files):
    intake, _ = door
    data = files[0].read_bytes()
    others = [data + bytes(n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        received = list(pool.map(intake.take, others))
    assert [one.status for one in received] == [SUCCESS] * 8
    assert sum(one.is_new for one in received) == 1
    (path,) = intake.files(KEY)
    assert path.read_bytes() == others[[one.is_new for one in received].index(True)]


@pytest.mark.parametrize(("said", "hinted"), [("41", 41), ("0", None), ("-3", None), ("9" * 12, None), ("", None)])
def test_how_many_images_an_acquisition_has_is_believed_where_it_can_be(door, files, tmp_path, said, hinted, recwarn):
    intake, ledger = door
    copy = tmp_path / "copy.dcm"
    shutil.copy(files[0], copy)
    intake.take(changed(copy, ImagesInAcquisition=said))
    assert ledger.series()[0].hinted == hinted
