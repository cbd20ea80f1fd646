"""An image is received when it is on the disk and noted, and not before; the disk may refuse at any moment."""

from __future__ import annotations

import os
import shutil

import pytest
import small_chest
from pydicom import dcmread

from heartlens.pacs.node import intake as intake_module
from heartlens.pacs.node.intake import DISK_TROUBLE, NOT_TAKEN, SUCCESS, Intake
from heartlens.pacs.node.ledger import Ledger, key_of


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
    ledger.forget_images(KEY)
    (whole.parent / "half-1.part").write_bytes(b"half")
    assert intake.recover() == (1, 1)
    assert intake.files(KEY) == [whole]
    assert ledger.series()[0].unreleased  # nobody knows whether more was to come
    assert os.listdir(whole.parent) == [whole.name]


def test_images_that_were_deleted_are_taken_again(door, files):
    intake, ledger = door
    intake.take(files[0].read_bytes())
    intake.remove(KEY)
    assert ledger.series()[0].images == 0
    assert intake.take(files[0].read_bytes()).is_new
