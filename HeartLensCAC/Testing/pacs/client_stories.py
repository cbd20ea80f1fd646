"""find, score, send and doctor with a real archive. `test_archive.py` runs this where there is no other network."""

from __future__ import annotations

import io
import json

import pytest
import small_chest
from orthanc_archive import PROFILES, Orthanc
from pydicom import dcmread

from heartlens.__main__ import main
from heartlens.case.folder import load_case

NAME, PATIENT = "Secret^Sara", "SECRET-7"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An archive with one study of the small chest, pacs.toml, and labels; all files that were stored."""
    folder = tmp_path_factory.mktemp("archive")
    archive = Orthanc(folder)
    paths = small_chest.write_series(folder / "ct", StudyInstanceUID="1.2.3", PatientName=NAME, PatientID=PATIENT)
    archive.store(paths)
    (folder / "pacs.toml").write_text(PROFILES)
    small_chest.write_labels(folder / "labels.nrrd")
    yield folder, archive
    archive.end()


def run(place, capfd, *words):
    """Exit code, stdout and stderr of `heartlens pacs …`."""
    code = main(["pacs", *map(str, words), "--config", str(place[0] / "pacs.toml")])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", ["web", "old"])
def test_what_is_found_is_the_study_and_nobody_is_named(place, capfd, name):
    code, out, err = run(place, capfd, "find", "--pacs", name, "--json", "--date", "20240101-20241231")
    assert code == 0, err
    assert [row["study_uid"] for row in json.loads(out)] == ["1.2.3"]
    assert PATIENT not in out + err
    code, out, _ = run(place, capfd, "find", "--pacs", name, "--patient-id", PATIENT, "--identify")
    assert PATIENT in out
    assert NAME in out
    _, out, err = run(place, capfd, "find", "--pacs", name, "--patient-id", "NOBODY")
    assert (out, err) == ("", "no study matches\n")
    _, out, _ = run(place, capfd, "find", "--pacs", name, "--study", "1.2.3", "--json")
    assert [(row["modality"], row["images"]) for row in json.loads(out) if row["modality"] == "CT"] == [("CT", 20)]


def test_doctor_says_what_works_and_what_must_be_set_there(place, capfd):
    code, out, _ = run(place, capfd, "doctor", "--pacs", "web")
    assert code == 0
    assert "QIDO-RS answers" in out
    code, out, _ = run(place, capfd, "doctor", "--pacs", "old")
    assert code == 0
    for words in ("C-ECHO answers", "C-FIND answers", "AE title HEARTLENS", "port 11114"):
        assert words in out
    code, out, err = run(place, capfd, "doctor")
    assert code == 3
    assert "cannot be reached at 127.0.0.1:9" in out
    assert "1 of 3 archives" in err


@pytest.mark.parametrize("name", ["web", "old"])
def test_a_study_is_fetched_scored_sent_and_opens_when_the_download_is_gone(place, capfd, name, tmp_path, monkeypatch):
    folder, archive = place
    monkeypatch.setenv("HEARTLENS_LOG", str(tmp_path / "log"))
    out = tmp_path / "out"
    words = ["--study", "1.2.3", "--out", out, "--segmentation", folder / "labels.nrrd"]
    words += ["--profile", "agatston-1990" if name == "web" else "siemens"]  # so that the objects are not the same
    code, said, err = run(place, capfd, "score", "--pacs", name, *words, "--send")
    assert code == 0, err
    assert (
        load_case(out / "case").report.total.agatston
        == json.loads((out / "report.json").read_text())["total"]["agatston"]
    )
    if name == "web":
        assert load_case(out / "case").report.total.agatston == pytest.approx(small_chest.TOTAL)
    assert "Sent to " + name in said
    for file in ("segmentation.dcm", "report.dcm"):
        mine = dcmread(out / file)
        (data,) = archive.find(SOPInstanceUID=str(mine.SOPInstanceUID))
        if name == "web":
            assert data == (out / file).read_bytes()
        theirs = dcmread(io.BytesIO(data))
        assert theirs == mine  # every attribute, pixels too
    reports = len(archive.objects("1.2.3", "SR"))
    for again in ("web", "old"):  # the same objects once more
        assert run(place, capfd, "send", out, "--pacs", again)[0] == 0
    assert len(archive.objects("1.2.3", "SR")) == reports
    held = said + err + (tmp_path / "log").read_text()
    assert PATIENT not in held
    assert "Secret" not in held


@pytest.mark.parametrize("name", ["web", "old"])
def test_a_study_that_is_not_there_is_refused_and_nothing_is_written(place, capfd, name, tmp_path):
    code, _, err = run(place, capfd, "score", "--pacs", name, "--study", "9.9.9", "--out", tmp_path / "out")
    assert code == 3
    assert "no such CT in study 9.9.9" in err
    assert not (tmp_path / "out").exists()


def test_an_archive_that_does_not_know_us_is_told_what_to_set(place, capfd, tmp_path):
    (tmp_path / "pacs.toml").write_text(PROFILES.replace('ae = "ARCHIVE"', 'ae = "ARCHIVE"\ncalling = "STRANGER"'))
    words = ["pacs", "score", "--pacs", "old", "--study", "1.2.3", "--config", str(tmp_path / "pacs.toml")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 3
    assert "it must know AE title STRANGER" in capfd.readouterr().err
