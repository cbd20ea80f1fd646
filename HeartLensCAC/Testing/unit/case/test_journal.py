"""The journal: every line is chained to those before it, and a torn end costs nothing that was whole."""

from __future__ import annotations

import json
import os

import pytest
from failing_disk import Disk, Fault, full
from hypothesis import given, settings
from hypothesis import strategies as st

from heartlens.case.edits import Edit
from heartlens.case.journal import JOURNAL, TORN, append_edits, journal_start, read_journal
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery

EDITS = (
    Edit("reassign", lesion=2, artery=Artery.LCX, who="Rita", when="2026-11-29T10:00:00+01:00"),
    Edit("erase", runs=((15, 1), (40, 7))),
    Edit("undo", who="Zoë"),
)
START = journal_start("voxels", "lesions")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / JOURNAL).write_text("")
    append_edits(tmp_path, read_journal(tmp_path, START, needs_checksums=True), EDITS)
    return tmp_path


def opened(folder, start=START):
    return read_journal(folder, start, needs_checksums=True)


def test_what_was_written_is_read(folder):
    journal = opened(folder)
    assert journal.edits == EDITS
    assert (journal.size_bytes, journal.torn_bytes) == ((folder / JOURNAL).stat().st_size, 0)


def test_edits_written_one_by_one_are_the_same_journal(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / JOURNAL).write_text("")
    journal = opened(other)
    for edit in EDITS:
        journal = append_edits(other, journal, [edit])
    assert journal == opened(other)
    assert (other / JOURNAL).read_bytes() == (folder / JOURNAL).read_bytes()


@pytest.mark.parametrize("cut", [1, 2, 10, 60])
def test_a_torn_last_line_costs_that_line_and_is_kept(folder, cut):
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes()[:-cut])
    journal = opened(folder)
    if cut == 1:  # only the newline is gone
        assert (journal.edits, journal.torn_bytes) == (EDITS, 0)
    else:
        assert journal.edits == EDITS[:2]
        torn = path.read_bytes()[journal.size_bytes :]
        assert len(torn) == journal.torn_bytes
    again = append_edits(folder, journal, [Edit("redo")])
    assert opened(folder) == again
    assert again.edits == (*journal.edits, Edit("redo"))
    assert cut == 1 or (folder / TORN).read_bytes() == torn + b"\n"


def test_zeros_that_a_power_failure_leaves_are_torn(folder):
    with (folder / JOURNAL).open("ab") as file:
        file.write(b"\0" * 512)
    assert (opened(folder).edits, opened(folder).torn_bytes) == (EDITS, 512)


@given(st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_is_never_taken_for_an_edit(tmp_path_factory, at, change):
    """Whatever is changed, what is read is the beginning of what was written."""
    folder = tmp_path_factory.mktemp("journal")
    (folder / JOURNAL).write_text("")
    append_edits(folder, opened(folder), EDITS)
    content = bytearray((folder / JOURNAL).read_bytes())
    content[at % len(content)] ^= change
    (folder / JOURNAL).write_bytes(bytes(content))
    edits = opened(folder).edits
    assert edits == EDITS[: len(edits)]


def test_a_line_that_is_taken_out_ends_the_journal_there(folder):
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / JOURNAL).write_bytes(lines[0] + lines[2])
    assert opened(folder).edits == EDITS[:1]


def test_the_journal_of_another_case_is_none(folder):
    assert opened(folder, journal_start("voxels", "other lesions")).edits == ()


def test_lines_of_the_first_version_have_no_checksum_and_lines_after_them_do(tmp_path):
    (tmp_path / JOURNAL).write_text("".join(json.dumps(edit.to_json()) + "\n" for edit in EDITS[:2]))
    journal = read_journal(tmp_path)
    assert journal.edits == EDITS[:2]
    append_edits(tmp_path, journal, EDITS[2:])
    assert read_journal(tmp_path).edits == EDITS
    lines = (tmp_path / JOURNAL).read_text().splitlines()
    (tmp_path / JOURNAL).write_text("\n".join([lines[0], lines[2]]) + "\n")
    assert read_journal(tmp_path).edits == EDITS[:1], "the line before it is gone"


def test_two_programs_at_one_journal_are_noticed(folder):
    mine, theirs = opened(folder), opened(folder)
    append_edits(folder, theirs, [Edit("redo")])
    with pytest.raises(InputRefused, match=r"another program edits this case; open it again"):
        append_edits(folder, mine, [Edit("undo")])
    assert opened(folder).edits == (*EDITS, Edit("redo"))


def test_a_disk_that_is_full_leaves_the_journal_as_it_was(folder, monkeypatch):
    before = (folder / JOURNAL).read_bytes()

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_edits(folder, opened(folder), [Edit("redo")])
    monkeypatch.undo()
    assert (folder / JOURNAL).read_bytes() == before


def test_what_a_disk_refused_once_is_not_written_when_the_file_is_closed(folder):
    """A disk that is full for a moment: a buffer would try again on closing, and the refused edit would be there."""
    before = (folder / JOURNAL).read_bytes()
    disk = Disk(folder)
    with disk.watched(Fault(1, full)), pytest.raises(OSError, match="No space"):
        append_edits(folder, opened(folder), EDITS[:1])
    assert disk.asked[1] == ("write", JOURNAL)
    assert (folder / JOURNAL).read_bytes() == before


def test_a_torn_end_that_was_set_aside_by_a_try_that_failed_can_be_edited_in_the_same_session(folder):
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes()[:-10])
    journal, disk = opened(folder), Disk(folder)
    with disk.watched(Fault(6, full)), pytest.raises(OSError, match="No space"):
        append_edits(folder, journal, EDITS[:1])
    assert disk.asked[6] == ("write", JOURNAL)
    assert append_edits(folder, journal, EDITS[:1]).edits == (*EDITS[:2], EDITS[0])
