"""A file appears whole or not at all: what was there stays until the new one is complete."""

from __future__ import annotations

import pytest

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
