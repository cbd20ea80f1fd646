"""DIMSE over TLS with a real archive: both sides show a certificate, each way. `test_archive.py` runs this."""

from __future__ import annotations

import io
import json
import urllib.request

import node_chest
import pytest
import small_chest
from certificates import Authority
from orthanc_archive import MOVE, NODE, WEB, Orthanc
from pydicom import dcmread
from running_node import RunningNode, chest, score_of

from heartlens.__main__ import main
from heartlens.case.folder import load_case
from heartlens.pacs.node.rules import Phase

TABLE = """
[{name}]
kind = "dimse"
host = "127.0.0.1"
port = 14242
ae = "ARCHIVE"
receive_port = {move}
timeout_s = 5
tls = true
verify = "{verify}"
"""


class Hospital:
    """An archive that takes encrypted associations alone, of callers whose certificate its authority signed."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder, "hospital")
        self.stranger = Authority(folder, "stranger")
        self.ours, self.theirs = self.authority.sign("heartlens"), self.authority.sign("archive")
        self.unknown = self.stranger.sign("heartlens")
        self.archive = Orthanc(
            folder,
            DicomTlsEnabled=True, DicomTlsRemoteCertificateRequired=True,
            DicomTlsCertificate=str(self.theirs.certificate), DicomTlsPrivateKey=str(self.theirs.key),
            DicomTlsTrustedCertificates=str(self.authority.certificate),
            DicomModalities={
                "us": {"AET": "HEARTLENS", "Host": "127.0.0.1", "Port": MOVE, "UseDicomTls": True},
                "node": {"AET": "NODE", "Host": "127.0.0.1", "Port": NODE, "UseDicomTls": True},
            },
        )  # fmt: skip
        self.config = folder / "pacs.toml"
        right, wrong = self.authority.certificate, self.stranger.certificate
        tables = [
            self._table("tls", right, self.ours), self._table("wrong-authority", wrong, self.ours),
            self._table("no-certificate", right, None), self._table("wrong-certificate", right, self.unknown),
            self._table("plain", right, None).replace("tls = true\n", "tls = false\n"),
        ]  # fmt: skip
        self.config.write_text("".join(tables))

    def _table(self, name, verify, own):
        table = TABLE.format(name=name, verify=verify, move=MOVE)
        return table if own is None else f'{table}certificate = "{own.certificate}"\nkey = "{own.key}"\n'

    def store_at_node(self, series):
        """Have the archive send a series to the node, as one that forwards what it gets."""
        query = json.dumps({"Level": "Series", "Query": {"SeriesInstanceUID": series}}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{WEB}/tools/find", data=query), timeout=60) as answer:
            (identifier,) = json.loads(answer.read())
        request = urllib.request.Request(f"{WEB}/modalities/node/store", data=identifier.encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    hospital = Hospital(tmp_path_factory.mktemp("hospital"))
    yield hospital
    hospital.archive.end()


def run(hospital, capfd, *words):
    """Exit code, stdout and stderr of `heartlens pacs …`."""
    code = main(["pacs", *map(str, words), "--config", str(hospital.config)])
    out, err = capfd.readouterr()
    return code, out, err


def test_a_study_is_found_fetched_scored_and_stored_and_nothing_travels_in_the_clear(hospital, capfd, tmp_path):
    paths = small_chest.write_series(tmp_path / "ct", StudyInstanceUID="1.2.3")
    hospital.archive.store(paths)
    small_chest.write_labels(tmp_path / "labels.nrrd")
    code, out, err = run(hospital, capfd, "doctor", "--pacs", "tls")
    assert code == 0, out + err
    assert "C-ECHO answers" in out
    assert "C-FIND answers" in out
    code, out, err = run(hospital, capfd, "find", "--pacs", "tls", "--json")
    assert [row["study_uid"] for row in json.loads(out)] == ["1.2.3"]
    words = ["--study", "1.2.3", "--out", tmp_path / "out", "--segmentation", tmp_path / "labels.nrrd"]
    code, out, err = run(hospital, capfd, "score", "--pacs", "tls", *words, "--send")
    assert code == 0, out + err
    assert load_case(tmp_path / "out" / "case").report.total.agatston == pytest.approx(small_chest.TOTAL)
    for name in ("segmentation.dcm", "report.dcm"):
        mine = dcmread(tmp_path / "out" / name)
        (data,) = hospital.archive.find(SOPInstanceUID=str(mine.SOPInstanceUID))
        assert dcmread(io.BytesIO(data)) == mine, name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong-authority", "shows a certificate that is not accepted"),
        ("no-certificate", "does not accept our certificate; give certificate and key in pacs.toml"),
        ("wrong-certificate", "does not accept our certificate; give certificate and key in pacs.toml"),
        ("plain", "cannot be reached at 127.0.0.1:14242"),
    ],
)
def test_who_cannot_be_trusted_is_told_in_one_sentence_and_nothing_is_written(hospital, capfd, tmp_path, name, said):
    words = ["score", "--pacs", name, "--study", "1.2.3", "--out", tmp_path / "out"]
    code, out, err = run(hospital, capfd, *words)
    assert (code, out) == (3, "")
    (line,) = err.strip().splitlines()
    assert line.startswith(f"error: input: archive {name} ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_the_archive_forwards_to_the_node_and_gets_the_result_encrypted_each_way(hospital, tmp_path):
    study, series, paths = chest(tmp_path, 20)
    hospital.archive.store(paths)
    theirs = hospital.authority.sign("node")
    words = ["--tls-certificate", theirs.certificate, "--tls-key", theirs.key]
    words += ["--tls-clients", hospital.authority.certificate, "--no-pages", "--status-port", "0", "--ae", "NODE"]
    node = RunningNode(tmp_path / "home", hospital.config, *map(str, words), accept="ARCHIVE", send_to="tls")
    try:
        assert hospital.store_at_node(series)["FailedInstancesCount"] == 0
        assert node.until(series, Phase.SENT).images == 52
        (out,) = (tmp_path / "home" / "results").glob("*/0001")
        assert score_of((out / "report.json").read_bytes()) == pytest.approx(node_chest.agatston())
        for name in ("segmentation.dcm", "report.dcm"):
            mine = dcmread(out / name)
            (data,) = hospital.archive.find(SOPInstanceUID=str(mine.SOPInstanceUID))
            assert dcmread(io.BytesIO(data)) == mine, name
        (report,) = hospital.archive.objects(study, "SR")
        assert report.SOPInstanceUID == dcmread(out / "report.dcm").SOPInstanceUID
    finally:
        assert node.end() == 0
