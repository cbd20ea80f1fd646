"""What is handed over is looked at: archives, links, volumes in a folder, numbers in other spellings, odd UIDs."""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import small_chest
from pydicom import dcmread
from pydicom.config import IGNORE, settings
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from heartlens.__main__ import main
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.dicom.read import read_series
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.io.volumes import write_volume

LONG = "1." + "9" * 77
"""A UID of 79 characters; PS3.5 9.1 allows 64."""


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chest") / "ct"
    small_chest.write_series(folder)
    return folder


def read(folder: Path):
    return read_series(choose_series(rank_series(find_series(folder))))


def refused(path: Path) -> str:
    with pytest.raises(InputRefused) as caught:
        find_series(path)
    assert caught.value.code == "input"
    return caught.value.text


def zipped(folder: Path, chest: Path) -> Path:
    with zipfile.ZipFile(folder / "a scan.zip", "w") as archive:
        for path in chest.iterdir():
            archive.write(path, path.name)
    return folder / "a scan.zip"


def tarred(folder: Path, chest: Path) -> Path:
    with tarfile.open(folder / "scan.tar.gz", "w:gz") as archive:
        archive.add(chest, "ct")
    return folder / "scan.tar.gz"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_is_named_and_the_command_that_is_told_unpacks_it(tmp_path, chest, pack):
    told = refused(pack(tmp_path, chest))
    assert refused(tmp_path) == told, "the folder that holds it is the same mistake"
    command = told[told.index("unpack it (") + len("unpack it (") : told.index("), then give the folder ")]
    command = f"{shlex.quote(sys.executable)}{command[6:]}" if command.startswith("python ") else command
    subprocess.run(command, shell=True, check=True)
    ct, _ = read(Path(told.split("then give the folder ")[1]))
    assert np.array_equal(ct.hu, small_chest.hu())


def test_a_compressed_volume_is_named_and_the_command_that_is_told_unpacks_it(tmp_path, capsys):
    write_volume(tmp_path / "ct.nrrd", CTVolume(small_chest.hu(), small_chest.affine()))
    (tmp_path / "ct.nrrd.gz").write_bytes(gzip.compress((tmp_path / "ct.nrrd").read_bytes()))
    (tmp_path / "ct.nrrd").unlink()
    assert main(["score", str(tmp_path / "ct.nrrd.gz")]) == 3
    told = capsys.readouterr().err
    assert "ct.nrrd.gz is compressed with gzip" in told
    if shutil.which("gzip"):
        subprocess.run(told.split("unpack it (")[1].split(")")[0], shell=True, check=True)
        labels = small_chest.write_labels(tmp_path / "labels.nrrd")
        assert main(["score", str(tmp_path / "ct.nrrd"), "--segmentation", str(labels)]) == 0


def test_a_volume_by_another_name_is_named(tmp_path):
    write_volume(tmp_path / "ct.nrrd", CTVolume(small_chest.hu(), small_chest.affine()))
    (tmp_path / "ct.nrrd").rename(tmp_path / "ct.nrrd.gz")
    assert "ct.nrrd.gz is an NRRD volume by another name: rename it to ct.nrrd" in refused(tmp_path / "ct.nrrd.gz")


def test_a_folder_with_a_volume_says_which_file_is_meant(tmp_path):
    write_volume(tmp_path / "ct.nii.gz", CTVolume(small_chest.hu(), small_chest.affine()))
    assert f"ct.nii.gz: give the file itself, heartlens score {tmp_path}/ct.nii.gz" in refused(tmp_path)


def test_folders_that_are_links_are_followed_and_circles_end(tmp_path, chest):
    (tmp_path / "series").symlink_to(chest)
    (tmp_path / "again").symlink_to(chest)
    (tmp_path / "up").symlink_to(tmp_path)
    ct, _ = read(tmp_path)
    assert np.array_equal(ct.hu, small_chest.hu())


def respelled(folder: Path, chest: Path, spell, vr: str) -> Path:
    """The chest with sizes and places written in another way, as bytes."""
    folder.mkdir()
    before = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
    try:
        for path in chest.iterdir():
            dataset = dcmread(path)
            for keyword in ("PixelSpacing", "ImagePositionPatient"):
                value = spell([f"{float(x):.1f}" for x in dataset[keyword].value]).encode()
                dataset._dict[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
            dataset.save_as(folder / path.name)
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = before
    return folder


@pytest.mark.parametrize(
    ("spell", "vr"),
    [
        (lambda numbers: "\\".join(numbers).replace(".", ","), "DS"),
        (lambda numbers: "\\".join(numbers), "UT"),
        (",".join, "DS"),
    ],
    ids=["decimal comma", "UT", "comma between"],
)
def test_numbers_in_another_spelling_are_read_with_a_warning(tmp_path, chest, spell, vr):
    ct, cautions = read(respelled(tmp_path / "ct", chest, spell, vr))
    assert np.array_equal(ct.hu, small_chest.hu())
    np.testing.assert_allclose(ct.affine, small_chest.affine())
    assert [caution.code for caution in cautions] == ["header"]


def test_odd_uids_put_nothing_on_stderr(tmp_path):
    def odd(dataset, n):
        dataset.SOPInstanceUID, dataset.SeriesInstanceUID = f"1.1.016.7.{n:03d}.060", "5.1.059.6"
        dataset.StudyInstanceUID = LONG

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small_chest.write_series(tmp_path / "ct", edit=odd)
    labels = small_chest.write_labels(tmp_path / "labels.nrrd")
    words = ["score", str(tmp_path / "ct"), "--segmentation", str(labels), "--out", str(tmp_path / "out")]
    run = subprocess.run([sys.executable, "-m", "heartlens", *words], capture_output=True, text=True, check=True)
    what = "StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID: not legal in the CT's header"
    assert run.stderr == f"note: {what}, and kept so that references match\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dcmread(tmp_path / "out" / "segmentation.dcm").StudyInstanceUID == LONG


@pytest.mark.slow
@pytest.mark.parametrize("page", ["cp1252", "cp932", "ascii"])
def test_output_under_any_code_page_costs_letters_and_nothing_else(tmp_path, page):
    small_chest.write_series(tmp_path / "ct", SpecificCharacterSet="ISO_IR 192", SeriesDescription="冠动脉钙化积分")
    command = [sys.executable, "-m", "heartlens", "series", str(tmp_path / "ct")]
    run = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": page})
    assert (run.returncode, run.stderr) == (0, b"")
    assert "20 slices" in run.stdout.decode(page)
