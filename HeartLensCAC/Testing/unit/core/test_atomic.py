"""A file appears whole or not at all: what was there stays until the new one is complete."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

import pytest

import heartlens.core.atomic as atomic
import heartlens.core.disk.renaming as renaming
from heartlens.core.atomic import atomic_file, atomic_folder
from heartlens.core.errors import InputRefused


def test_a_file_takes_the_place_of_the_old_one_only_when_it_is_complete(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    with atomic_file(path) as sibling:
        sibling.write_text("half")
        assert path.read_text() == "old"
        sibling.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_whose_writing_fails_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")

    def write_half():
        with atomic_file(path) as sibling:
            sibling.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_that_is_written_has_the_ending_of_the_one_that_is_meant(tmp_path):
    """Writers choose the format by it."""
    with atomic_file(tmp_path / "labels.nii.gz") as sibling:
        assert sibling.name.endswith(".nii.gz")
        sibling.write_text("whole")


def test_a_folder_takes_the_place_of_the_old_one_only_when_it_is_complete(tmp_path):
    out = tmp_path / "result"
    with atomic_folder(out) as sibling:
        (sibling / "old").touch()
        assert not out.exists()
    with atomic_folder(out, force=True, is_ours=lambda folder: (folder / "old").exists()) as sibling:
        (sibling / "new").touch()
        assert [path.name for path in out.iterdir()] == ["old"]
    assert [path.name for path in out.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_is_not_ours_is_not_replaced_by_force(tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "wedding.jpg").touch()
    with pytest.raises(InputRefused, match="--force does not delete it"):
        atomic_folder(tmp_path / "photographs", force=True, is_ours=lambda folder: False).__enter__()
    assert (tmp_path / "photographs" / "wedding.jpg").exists()


def is_ours(folder):
    return (folder / "ours").exists()


def write(out, name="ours", **how):
    with atomic_folder(out, is_ours=is_ours, **how) as sibling:
        (sibling / "ours").touch()
        (sibling / name).touch()


@pytest.mark.parametrize("what", ["a folder", "an empty folder", "a file", "a link"])
def test_what_appeared_while_a_folder_was_written_is_not_replaced_without_force(tmp_path, what):
    out = tmp_path / "out"

    def write_while_somebody_else_does():
        with atomic_folder(out, is_ours=is_ours) as sibling:
            (sibling / "ours").touch()
            if what == "a file":
                out.touch()
            elif what == "a link":
                out.symlink_to(tmp_path / "nowhere")
            else:
                out.mkdir()
                if what == "a folder":
                    (out / "theirs").touch()

    with pytest.raises(InputRefused, match="meanwhile"):
        write_while_somebody_else_does()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not out.is_dir() or [path.name for path in out.iterdir()] == ["theirs"][: what == "a folder"]


def test_force_is_judged_when_the_folder_is_replaced(tmp_path):
    out = tmp_path / "out"
    write(out)

    def write_while_it_becomes_another():
        with atomic_folder(out, force=True, is_ours=is_ours) as sibling:
            (sibling / "ours").touch()
            (out / "ours").rename(out / "photographs")

    with pytest.raises(InputRefused, match="--force does not delete it"):
        write_while_it_becomes_another()
    assert [path.name for path in out.iterdir()] == ["photographs"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_held_while_it_is_replaced_and_may_refuse(tmp_path):
    out, held = tmp_path / "out", []
    write(out)

    @contextmanager
    def hold(folder):
        held.append(folder.exists())
        yield
        held.append([path.name for path in folder.iterdir()] == ["new", "ours"] or "not yet")

    with atomic_folder(out, force=True, is_ours=is_ours, hold=hold) as sibling:
        (sibling / "ours").touch()
        (sibling / "new").touch()
    assert len(held) == 4, "before the work and after it"

    @contextmanager
    def refuse(_folder):
        raise InputRefused("output", "somebody is at work")
        yield

    with pytest.raises(InputRefused, match="somebody"):
        write(out, "newer", force=True, hold=refuse)
    assert sorted(path.name for path in out.iterdir()) == ["new", "ours"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_whatever_happens_between_the_two_renames_the_old_folder_is_back(tmp_path, monkeypatch, error):
    out = tmp_path / "out"
    write(out, "old")
    rename, calls = atomic.rename_new, []

    def fail_on_the_way(source, target):
        calls.append(1)
        if len(calls) == 3:  # taken, set aside, then this
            raise error
        rename(source, target)

    monkeypatch.setattr(atomic, "rename_new", fail_on_the_way)
    with pytest.raises((InputRefused, KeyboardInterrupt, MemoryError)):
        write(out, "new", force=True)
    assert sorted(path.name for path in out.iterdir()) == ["old", "ours"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_on_a_link_replaces_the_folder_that_it_names(tmp_path):
    target, link = tmp_path / "disk" / "results", tmp_path / "out"
    write(target, "old")
    link.symlink_to(target)
    with pytest.raises(InputRefused, match="exists"):
        write(link, "new")
    write(link, "new", force=True)
    assert link.is_symlink()
    assert sorted(path.name for path in target.iterdir()) == ["new", "ours"]
    assert [path.name for path in target.parent.iterdir()] == ["results"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "out"]


def test_a_link_to_a_folder_that_is_not_there_makes_that_folder_and_one_in_a_circle_is_refused(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "later")
    write(tmp_path / "out")
    assert (tmp_path / "later" / "ours").exists()
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputRefused, match="circle"):
        write(tmp_path / "a", force=True)


def test_a_report_that_another_program_keeps_open_on_windows_stays_and_is_told_with_the_way_out(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    path.write_text("old")

    def busy(*_paths):
        error = PermissionError(errno.EACCES, "The process cannot access the file")
        error.winerror = 32
        raise error

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(renaming, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(InputRefused, match="another program, such as a virus scanner"), atomic_file(path) as sibling:
        sibling.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_library_that_tells_a_full_disk_in_pages_is_quoted_with_one_word(tmp_path):
    """pydicom raises an OSError of its own, whose text is a traceback."""

    def write():
        with atomic_file(tmp_path / "report.dcm"):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise OSError(f"With tag (0010,0010) Traceback (most recent call last): {error}") from error

    with pytest.raises(InputRefused, match="No space left on device; choose") as refused:
        write()
    assert "Traceback" not in refused.value.text
