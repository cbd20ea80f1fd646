"""Results are for the user alone unless somebody asks for more, whatever the umask says."""

from __future__ import annotations

import os
import sys

import pytest

from heartlens.core.atomic import atomic_file, atomic_folder
from heartlens.core.disk.rights import is_private, make_private

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has access lists")


@pytest.fixture(autouse=True)
def usual_umask():
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def mode(path):
    return path.stat().st_mode & 0o777


def test_a_private_folder_is_private_from_the_first_moment_to_the_last(tmp_path):
    with atomic_folder(tmp_path / "out", private=True) as folder:
        assert mode(folder) == 0o700
        assert {mode(path) for path in tmp_path.iterdir()} == {0o700, 0o600}, "who writes is nobody's business either"
        (folder / "case").mkdir()
        (folder / "case" / "case.json").touch(0o644)
    assert [mode(tmp_path / p) for p in ("out", "out/case", "out/case/case.json")] == [0o700, 0o700, 0o600]
    assert is_private(tmp_path / "out")


def test_a_shared_folder_follows_the_umask(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "report.json").touch()
    assert (mode(tmp_path / "out"), mode(tmp_path / "out" / "report.json")) == (0o755, 0o644)
    assert not is_private(tmp_path / "out")


@pytest.mark.parametrize("before", [0o600, 0o640, 0o664, 0o444])
def test_a_file_that_is_written_again_keeps_its_rights(tmp_path, before):
    path = tmp_path / "report.json"
    path.write_text("old")
    path.chmod(before)
    with atomic_file(path) as sibling:
        assert mode(sibling) & 0o077 <= before & 0o077, "nobody reads the half of it"
        sibling.write_text("new")
    assert (path.read_text(), mode(path)) == ("new", before)


@pytest.mark.parametrize(("folder", "file"), [(0o700, 0o600), (0o750, 0o640), (0o755, 0o644)])
def test_a_new_file_gets_no_right_that_its_folder_does_not_give(tmp_path, folder, file):
    tmp_path.chmod(folder)
    with atomic_file(tmp_path / "signature.json") as sibling:
        sibling.write_text("{}")
    assert mode(tmp_path / "signature.json") == file


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "theirs").touch(0o644)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "theirs")
    make_private(tmp_path / "out")
    assert mode(tmp_path / "theirs") == 0o644


def test_on_windows_nothing_pretends(tmp_path, monkeypatch):
    (tmp_path / "file").touch(0o644)
    monkeypatch.setattr(sys, "platform", "win32")
    make_private(tmp_path)
    assert not is_private(tmp_path)
    monkeypatch.undo()
    assert mode(tmp_path / "file") == 0o644
