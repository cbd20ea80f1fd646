"""The one endpoint that a draft may ask: this computer alone, once, for a time; whatever it answers costs one line."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from heartlens.app.draft.endpoint import LIMIT_BYTES, Endpoint, NoAnswer, ask

MESSAGES = [{"role": "user", "content": "{score}"}]


@contextmanager
def server(speak, host="127.0.0.1"):
    """A server that reads one question and lets `speak` answer; gives its address and what it was asked."""
    listening = socket.create_server((host, 0))
    asked = []

    def serve():
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(5)
            data = b""
            try:
                while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < length_of(data):
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    data += piece
                asked.append(data)
                speak(connection)
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{listening.getsockname()[1]}", asked
    finally:
        listening.close()
        thread.join(5)


def length_of(data):
    head = data.partition(b"\r\n\r\n")[0].decode().lower()
    return next((int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length")), 0)


def says(body, status="200 OK", head=""):
    data = body if isinstance(body, bytes) else body.encode()

    def speak(connection):
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{head}\r\n".encode() + data)

    return speak


def answering(content):
    return says(json.dumps({"choices": [{"message": {"content": content}}]}))


def test_an_answer_comes_as_it_is_and_the_question_is_what_the_interface_asks_for(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody is asked on the way
    with server(answering("Hëllo\nthere")) as (url, asked):
        assert ask(Endpoint.of(url), "small", MESSAGES, seconds=5) == "Hëllo\nthere"
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert json.loads(body) == {
        "model": "small", "messages": MESSAGES, "temperature": 0, "max_tokens": 1024, "stream": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("speak", "words"),
    [
        (says("{}", "500 Broken <b>"), "answered with status 500"),
        (says("", "302 Found", "Location: http://192.0.2.1/\r\n"), "answered with status 302"),
        (says("no JSON"), "no choices"),
        (says("[" * 100000), "no choices"),
        (says(b"\xff\xfe"), "no choices"),
        (says('{"choices": []}'), "no choices"),
        (says('{"choices": {"message": 1}}'), "no choices"),
        (answering(None), "no text"),
        (answering([1, 2]), "no text"),
        (answering("a" * LIMIT_BYTES), f"more than {LIMIT_BYTES} bytes"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"), "cannot be asked: BadStatusLine"),
        (lambda connection: None, "cannot be asked"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{"), "no choices"),
    ],
)
def test_a_lying_endpoint_costs_one_line(speak, words):
    with server(speak) as (url, _), pytest.raises(NoAnswer, match=words) as problem:
        ask(Endpoint.of(url), "small", MESSAGES, seconds=5)
    assert str(problem.value).isprintable()
    assert "<b>" not in str(problem.value)


def test_an_endpoint_that_answers_in_drops_is_left_when_the_time_is_over():
    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
        for _ in range(50):
            connection.sendall(b" ")
            time.sleep(0.1)

    began = time.monotonic()
    with server(drip) as (url, _), pytest.raises(NoAnswer, match=r"no answer within 0\.4 s"):
        ask(Endpoint.of(url), "small", MESSAGES, seconds=0.4)
    assert time.monotonic() - began < 4


def test_an_endpoint_that_is_slow_or_down_costs_one_line():
    with (
        server(lambda connection: time.sleep(1)) as (url, _),
        pytest.raises(NoAnswer, match=r"no answer within 0\.3 s"),
    ):
        ask(Endpoint.of(url), "small", MESSAGES, seconds=0.3)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NoAnswer, match=f"127.0.0.1:{port} cannot be asked: Connection refused"):
        ask(Endpoint.of(f"http://127.0.0.1:{port}"), "small", MESSAGES, seconds=5)


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:8080", "https://example.org", "http://127.0.0.1.example.org", "http://localhost.example.org",
        "http://0.0.0.0:1", "http://[2001:db8::1]/v1", "http://2130706433", "http://[::ffff:192.0.2.1]",
    ],
)  # fmt: skip
def test_another_computer_is_not_asked_and_its_name_not_looked_up(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    with pytest.raises(NoAnswer, match="is not this computer, and --allow-remote was not given: nothing was sent"):
        ask(Endpoint.of(url), "small", MESSAGES, seconds=5)


def test_localhost_that_leads_elsewhere_is_sent_nothing(monkeypatch):
    """A hosts file may say anything; what counts is whom the socket reached."""
    with server(answering("x")) as (url, asked):
        port = int(url.rpartition(":")[2])
        peer = lambda self: ("192.0.2.1", port)  # noqa: E731
        monkeypatch.setattr("heartlens.app.draft.endpoint._peer", peer)
        with pytest.raises(NoAnswer, match="leads to another computer"):
            ask(Endpoint.of(f"http://localhost:{port}"), "small", MESSAGES, seconds=5)
    assert asked in ([], [b""])


def test_a_remote_endpoint_is_asked_where_that_was_said(monkeypatch):
    with server(answering("x")) as (url, _):
        port = int(url.rpartition(":")[2])
        there = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there)
        assert ask(Endpoint.of(f"http://models.example:{port}"), "m", MESSAGES, allow_remote=True, seconds=5) == "x"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:1", "/v1"), ("http://127.0.0.1:1/", "/v1"), ("http://127.0.0.1:1/v1/", "/v1"),
        ("http://127.0.0.1:1/v1/chat/completions", "/v1"), ("http://127.0.0.1:1/a", "/a/v1"),
    ],
)  # fmt: skip
def test_the_path_may_be_said_in_full_or_left_out(url, path):
    assert (Endpoint.of(url).path, str(Endpoint.of(url)), Endpoint.of(url).is_local) == (path, "127.0.0.1:1", True)


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:8080", "ftp://127.0.0.1", "file:///etc/passwd", "http://", "http://user:word@127.0.0.1",
        "http://127.0.0.1/?a=b", "http://127.0.0.1/#a", "http://127.0.0.1:99999", "http://127.0.0.1:a", "http://[::1",
        "http://127.0.0.1/a\r\nHost: b", "http://127.0.0.1/ä", "http://127.0.0.1/a b",
    ],
)  # fmt: skip
def test_what_is_no_such_address_is_refused(url):
    with pytest.raises(NoAnswer, match="expected an address"):
        Endpoint.of(url)
