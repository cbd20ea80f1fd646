"""A rename that replaces nothing, on whatever system; and one that waits for a scanner, but not for ever."""

from __future__ import annotations

import errno
import os
import sys
import threading

import pytest

import heartlens.core.disk.renaming as renaming
from heartlens.core.disk.renaming import rename_new, replace_file


def sharing_error(number):
    """What os.rename raises on Windows."""
    error = PermissionError(errno.EACCES, "The process cannot access the file")
    error.winerror = number
    return error


@pytest.fixture(params=["the call of the kernel", "no such call", "a file system without it"])
def any_kernel(request, monkeypatch):
    """Every road by which a name is taken."""
    if request.param == "no such call":
        monkeypatch.setattr(renaming.ctypes, "CDLL", lambda *_arguments, **_options: object())
    if request.param == "a file system without it":
        monkeypatch.setattr(renaming, "_rename_exclusively", lambda *_paths: errno.EINVAL)


@pytest.mark.usefixtures("any_kernel")
class TestANameThatIsTaken:
    def test_is_not_taken_again(self, tmp_path):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "mine").touch()
        (tmp_path / "there").mkdir()
        with pytest.raises(FileExistsError):
            rename_new(tmp_path / "new", tmp_path / "there")
        assert (tmp_path / "new" / "mine").exists()
        assert list((tmp_path / "there").iterdir()) == []

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_by_a_file_or_a_link_is_taken_too(self, tmp_path, kind):
        (tmp_path / "new").mkdir()
        if kind == "file":
            (tmp_path / "there").touch()
        else:
            (tmp_path / "there").symlink_to(tmp_path / "nowhere")
        with pytest.raises(FileExistsError):
            rename_new(tmp_path / "new", tmp_path / "there")
        assert (tmp_path / "new").is_dir()

    def test_is_given_to_exactly_one_of_many(self, tmp_path):
        folders = [tmp_path / str(n) for n in range(8)]
        for folder in folders:
            folder.mkdir()
            (folder / folder.name).touch()
        won, start = [], threading.Barrier(len(folders))

        def take(folder):
            start.wait()
            try:
                rename_new(folder, tmp_path / "there")
                won.append(folder.name)
            except FileExistsError:
                pass

        threads = [threading.Thread(target=take, args=(folder,)) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [path.name for path in (tmp_path / "there").iterdir()] == won
        assert len(won) == 1


def test_a_folder_that_somebody_filled_between_looking_and_renaming_is_kept(tmp_path, monkeypatch):
    """Where the kernel has no call for it, POSIX still replaces no folder that holds something."""
    (tmp_path / "new").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "theirs").touch()
    monkeypatch.setattr(renaming, "_rename_exclusively", lambda *_paths: errno.ENOSYS)
    answers = [False, True]
    monkeypatch.setattr(renaming.os.path, "lexists", lambda _path: answers.pop(0))
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "there" / "theirs").exists()


@pytest.mark.parametrize("number", [5, 32, 33])
def test_a_scanner_that_looks_at_the_file_is_waited_for(tmp_path, monkeypatch, number):
    (tmp_path / "new").write_text("new")
    (tmp_path / "there").write_text("old")
    replace, answers = os.replace, [sharing_error(number)] * 3

    def busy(source, target):
        if answers:
            raise answers.pop()
        replace(source, target)

    monkeypatch.setattr(renaming.os, "replace", busy)
    replace_file(tmp_path / "new", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "new"


def test_a_program_that_keeps_the_file_open_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    calls = []

    def busy(*_paths):
        calls.append(1)
        raise sharing_error(32)

    monkeypatch.setattr(renaming.os, "replace", busy)
    monkeypatch.setattr(renaming, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "new", tmp_path / "there")
    assert len(calls) > 2


def test_a_right_that_is_missing_is_told_at_once(tmp_path, monkeypatch):
    calls = []

    def refuse(*_paths):
        calls.append(1)
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(renaming.os, "replace", refuse)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "new", tmp_path / "there")
    assert len(calls) == 1


def test_windows_renames_folders_by_the_call_that_replaces_nothing(tmp_path, monkeypatch):
    calls, answers = [], [sharing_error(5), FileExistsError(errno.EEXIST, "Cannot create a file when it exists")]

    def rename(source, target):
        calls.append((source, target))
        raise answers.pop(0)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(renaming.os, "rename", rename)
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "new", tmp_path / "there")
    assert calls == [(tmp_path / "new", tmp_path / "there")] * 2, "waited for the scanner, then believed the answer"
