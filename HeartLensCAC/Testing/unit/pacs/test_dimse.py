"""DIMSE against an archive of this process that answers right, wrong or half."""

from __future__ import annotations

import gc
import socketserver
import threading

import pytest
import small_chest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from heartlens.pacs.archive import ArchiveError, FoundSeries, Query, image_count
from heartlens.pacs.dimse import Dimse
from heartlens.pacs.profiles import DimseProfile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, of values that a test means to be wrong


@pytest.fixture
def serve():
    """Start an archive that answers C-FIND and C-MOVE as it is told; a client of it."""
    servers = []

    def start(*, find=lambda event: iter(()), move=lambda event: iter(()), **profile):
        ae = AE(ae_title="ARCHIVE")
        for kind in (
            Verification,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
        ):
            ae.add_supported_context(kind)
        handlers = [(evt.EVT_C_FIND, find), (evt.EVT_C_MOVE, move)]
        servers.append(ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers))
        port = servers[-1].server_address[1]
        words = {"receive_port": 11119, "timeout_s": 5.0, **profile}
        return Dimse(DimseProfile("old", "127.0.0.1", port, "ARCHIVE", **words))

    yield start
    for server in servers:
        server.shutdown()


def entry(**values):
    """An answer of C-FIND; a number of images may be bytes that are none."""
    found = Dataset()
    found.QueryRetrieveLevel = "SERIES"
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def says(value):
    """An archive that says of the series 1.2.3 that it has so many images, whatever that is."""

    def find(event):
        found = entry(SeriesInstanceUID="1.2.3", Modality="CT")
        if value is not None:
            found.add_new("NumberOfSeriesRelatedInstances", "LO", value)  # as it is written, whatever it is
        yield 0xFF00, found

    return find


@pytest.mark.parametrize(("value", "count"), [("41", 41), ("41 ", 41), ("0", None), (None, None), ("", None)])
def test_a_number_of_images_is_that_of_the_archive(serve, value, count):
    assert image_count(serve(find=says(value)), "1.2", "1.2.3") == count


@pytest.mark.parametrize("value", ["abc", "-5", "1" * 30, ["41", "42"], "4.5", "1e3", "nan"])
def test_a_number_of_images_that_cannot_be_is_none_and_no_crash(serve, value):
    assert image_count(serve(find=says(value)), "1.2", "1.2.3") is None


def test_a_study_with_odd_values_is_listed_with_what_can_be_read(serve):
    def find(event):
        found = entry(StudyInstanceUID="1.2", ModalitiesInStudy=["CT", "SR"], StudyDescription="Chest")
        found.add_new("NumberOfStudyRelatedSeries", "LO", "many")
        yield 0xFF00, found

    (study,) = serve(find=find).studies(Query())
    assert (study.study_uid, study.modalities, study.series) == ("1.2", "CT\\SR", None)


def test_no_more_studies_than_asked_for_are_waited_for(serve):
    def find(event):
        for n in range(1000):
            yield 0xFF00, entry(StudyInstanceUID=f"1.{n}")

    assert len(serve(find=find).studies(Query(limit=3))) == 3


@pytest.mark.parametrize(("status", "code"), [(0xA700, "refused"), (0xC001, "refused")])
def test_a_question_that_is_not_answered_is_told(serve, status, code):
    def find(event):
        yield status, None

    with pytest.raises(ArchiveError, match=f"0x{status:04X}") as error:
        serve(find=find).series("1.2")
    assert error.value.code == code


def test_where_nobody_listens_the_archive_is_down():
    with pytest.raises(ArchiveError, match=r"cannot be reached at 127\.0\.0\.1:9") as error:
        Dimse(DimseProfile("old", "127.0.0.1", 9, "ARCHIVE", timeout_s=2.0)).check()
    assert error.value.code == "down"


@pytest.fixture
def stranger():
    """`stranger(answer)` is the port of a program that answers whatever it hears with these bytes, and hangs up."""
    servers = []

    def start(answer):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.recv(1000)
                self.request.sendall(answer)

        servers.append(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(100), b"\x02\x00\xff\xff\xff\xff"])
def test_what_is_no_archive_at_all_is_told_with_its_place(stranger, answer):
    port = stranger(answer)
    client = Dimse(DimseProfile("old", "127.0.0.1", port, "ARCHIVE", timeout_s=2.0))
    with pytest.raises(ArchiveError, match=f"cannot be reached at 127.0.0.1:{port}") as error:
        client.series("1.2")
    assert error.value.code == "down"
    gc.collect()


def test_an_image_of_another_series_than_the_one_asked_for_is_not_taken(serve, tmp_path):
    paths = [
        small_chest.write_series(tmp_path / uid, StudyInstanceUID="1.2", SeriesInstanceUID=uid)[0]
        for uid in ("1.2.3", "1.2.9")
    ]

    def move(event):
        yield ("127.0.0.1", 11119, {"ae_title": "HEARTLENS", "contexts": [build_context(CTImageStorage)]})
        yield len(paths)
        for path in paths:
            yield 0xFF00, dcmread(path)

    with pytest.raises(ArchiveError, match="says 2 images and brought 1") as error:
        serve(move=move).fetch(FoundSeries("1.2", "1.2.3", "CT", "", 2), tmp_path / "ct")
    assert error.value.code == "missing"
    assert [dcmread(path).SeriesInstanceUID for path in (tmp_path / "ct").iterdir()] == ["1.2.3"]


def test_an_archive_that_brings_nothing_has_brought_no_series(serve, tmp_path):
    def move(event):
        yield ("127.0.0.1", 11119, {"ae_title": "HEARTLENS"})
        yield 0

    with pytest.raises(ArchiveError, match="brought 0") as error:
        serve(move=move).fetch(FoundSeries("1.2", "1.2.3"), tmp_path / "ct")
    assert error.value.code == "missing"


# Encryption


def test_what_comes_back_is_never_unencrypted_where_the_question_is(serve, tmp_path):
    client = serve(tls=True)
    with pytest.raises(ArchiveError, match="give certificate and key of this computer"):
        client.fetch(FoundSeries("1.2", "1.2.3", "CT", "", 3), tmp_path / "ct")


@pytest.mark.parametrize("words", [{"verify": "nothing.pem"}, {"certificate": "nothing.pem"}, {"verify": "bad.pem"}])
def test_files_that_are_no_certificates_are_told_in_a_sentence(serve, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pem").write_text("hello")
    with pytest.raises(ArchiveError, match="give PEM files in pacs"):
        serve(tls=True, **words).check()


def test_an_archive_that_speaks_no_tls_is_told_apart_from_one_that_is_down(serve):
    with pytest.raises(ArchiveError, match="does not speak TLS there") as error:
        serve(tls=True).check()
    assert error.value.code == "refused"
