"""The door for DIMSE, with a real sender on this computer: who may come in, what is taken, and how an end is told."""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
import time
from contextlib import suppress

import pytest
import small_chest
from pydicom import dcmread
from pydicom.uid import SegmentationStorage
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from heartlens.core.errors import InputRefused
from heartlens.pacs.node.intake import DISK_TROUBLE, Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.receiver import Receiver, tls_context
from heartlens.pacs.node.rows import key_of

KEYS = [key_of("1.2", f"1.2.{n}") for n in (3, 4)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two series of three images."""
    folder = tmp_path_factory.mktemp("ct")
    series = []
    for n in (3, 4):
        paths = small_chest.write_series(folder / str(n), StudyInstanceUID="1.2", SeriesInstanceUID=f"1.2.{n}")
        series.append([dcmread(path) for path in paths[:3]])
    return series


@pytest.fixture
def door(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    intake = Intake(tmp_path / "spool", ledger, least_free_bytes=0)
    receiver = Receiver(intake, ledger, ae="NODE", host="127.0.0.1", port=0, accept=["CT1"])
    yield receiver, ledger, intake
    receiver.stop()
    ledger.close()


def associate(receiver, calling="CT1", called="NODE", *, kind=CTImageStorage):
    ae = AE(ae_title=calling)
    ae.add_requested_context(kind)
    ae.add_requested_context(Verification)
    return ae.associate(*receiver.address, ae_title=called)


def until(what):
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_series_in_turns_are_two_series(door, images):
    receiver, ledger, intake = door
    association = associate(receiver)
    for pair in zip(*images, strict=True):
        assert [association.send_c_store(image).Status for image in pair] == [0, 0]
    association.release()
    until(lambda: not any(row.unreleased for row in ledger.series()))
    assert sorted(row.key for row in ledger.series()) == sorted(KEYS)
    for key, series in zip(KEYS, images, strict=True):
        got = {dcmread(path).SOPInstanceUID: dcmread(path).PixelData for path in intake.files(key)}
        assert got == {image.SOPInstanceUID: image.PixelData for image in series}
    assert not any(row.broken for row in ledger.series())


def test_an_end_without_release_is_remembered(door, images):
    receiver, ledger, _ = door
    association = associate(receiver)
    association.send_c_store(images[0][0])
    association.abort()
    until(lambda: ledger.series()[0].broken)
    again = associate(receiver)
    for image in images[0]:
        assert again.send_c_store(image).Status == 0
    again.release()
    until(lambda: not ledger.series()[0].broken)
    assert ledger.series()[0].images == 3


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "NODE"), ("CT1", "OTHER")])
def test_who_is_not_on_the_list_or_means_another_is_not_let_in(door, calling, called):
    receiver, ledger, _ = door
    assert associate(receiver, calling, called).is_rejected
    assert ledger.series() == []


def test_what_is_no_ct_is_not_offered_a_place(door):
    receiver, _, _ = door
    association = associate(receiver, kind=SegmentationStorage)
    assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
    assert association.send_c_echo().Status == 0
    association.release()


def test_a_full_disk_is_told_to_the_sender(door, images, monkeypatch):
    receiver, ledger, intake = door
    monkeypatch.setattr(intake, "_least_free", 1 << 60)
    association = associate(receiver)
    assert association.send_c_store(images[0][0]).Status == DISK_TROUBLE
    association.release()
    assert ledger.series() == []


# pynetdicom leaves the socket of a caller that it cannot understand to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x01\x00\xff\xff\xff\xff" + bytes(50)])
def test_who_speaks_something_else_is_hung_up_on_and_the_next_sender_is_heard(door, images, said):
    receiver, ledger, _ = door
    with socket.create_connection(receiver.address, timeout=20) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while stranger.recv(1000):
                pass
    assert ledger.series() == []
    association = associate(receiver)
    assert association.send_c_store(images[0][0]).Status == 0
    association.release()
    gc.collect()


def test_a_port_that_is_taken_is_said(door, tmp_path):
    receiver, ledger, intake = door
    with pytest.raises(InputRefused, match="choose another --port"):
        Receiver(intake, ledger, ae="NODE", host="127.0.0.1", port=receiver.address[1], accept=["CT1"])


def test_nothing_but_this_computer_is_listened_to(door):
    assert door[0].address[0] == "127.0.0.1"


def test_of_two_senders_of_one_series_the_first_to_end_does_not_end_it(door, images):
    receiver, ledger, _ = door
    first, second = associate(receiver), associate(receiver)
    assert first.send_c_store(images[0][0]).Status == 0
    assert second.send_c_store(images[0][1]).Status == 0
    first.release()
    until(lambda: len(receiver._brought) == 1)
    assert ledger.series()[0].unreleased
    second.abort()
    until(lambda: not ledger.series()[0].unreleased)
    assert ledger.series()[0].broken


def test_a_sender_that_says_nothing_is_cut_off_and_has_broken_off(tmp_path, images):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    intake = Intake(tmp_path / "spool", ledger, least_free_bytes=0)
    receiver = Receiver(intake, ledger, ae="NODE", host="127.0.0.1", port=0, accept=["CT1"], silence_s=0.5)
    try:
        association = associate(receiver)
        assert association.send_c_store(images[0][0]).Status == 0
        until(lambda: ledger.series()[0].broken)
        assert not ledger.series()[0].unreleased
    finally:
        receiver.stop()
        ledger.close()


@pytest.fixture
def certificate(tmp_path, require_tool):
    """A certificate of this computer that signed itself, and its key."""
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    subprocess.run([require_tool("openssl"), *map(str, words)], check=True, capture_output=True)
    return tmp_path / "cert.pem", tmp_path / "key.pem"


# pynetdicom leaves the socket of a caller that it cannot understand to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_with_a_certificate_nothing_comes_in_unencrypted(tmp_path, images, certificate):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    intake = Intake(tmp_path / "spool", ledger, least_free_bytes=0)
    tls = tls_context(*certificate, certificate[0])  # who calls must show the same one
    receiver = Receiver(intake, ledger, ae="NODE", host="127.0.0.1", port=0, accept=["CT1"], tls=tls)
    try:
        with socket.create_connection(receiver.address, timeout=10) as plain:
            plain.sendall(bytes(100))
            with suppress(ConnectionError):
                assert not plain.recv(100)
        without = ssl.create_default_context(cafile=certificate[0])
        heard = b""
        with socket.create_connection(receiver.address, timeout=10) as raw, suppress(ssl.SSLError, ConnectionError):
            encrypted = without.wrap_socket(raw, server_hostname="localhost")
            with encrypted:
                encrypted.sendall(bytes(100))
                heard = encrypted.recv(100)
        assert heard == b""
        mine = ssl.create_default_context(cafile=certificate[0])
        mine.load_cert_chain(*certificate)
        ae = AE(ae_title="CT1")
        ae.add_requested_context(CTImageStorage)
        association = ae.associate(*receiver.address, ae_title="NODE", tls_args=(mine, "localhost"))
        assert association.send_c_store(images[0][0]).Status == 0
        association.release()
    finally:
        receiver.stop()
        ledger.close()
        gc.collect()


def test_a_certificate_that_is_none_is_said(tmp_path):
    (tmp_path / "cert.pem").write_text("hello")
    for path in (tmp_path / "cert.pem", tmp_path / "nothing.pem"):
        with pytest.raises(InputRefused, match="give PEM files"):
            tls_context(path, None, None)
