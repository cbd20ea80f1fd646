"""One question to a language model behind an OpenAI-compatible endpoint; what it answers is not believed here.

`http.client` asks the address that was given and no other: no proxy of the environment, no redirection.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

LIMIT_BYTES = 256 * 1024
"""Of an answer. A draft has two thousand characters."""


class NoAnswer(Exception):
    """The endpoint may not be asked, or gave nothing that could be looked at; the text is one line."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked.

    Parameters
    ----------
    is_encrypted
        By https.
    host, port
        Name or address.
    path
        Before ``/chat/completions``.
    """

    is_encrypted: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """The endpoint that a URL names, such as ``http://127.0.0.1:8080``; ``/v1`` may be left out.

        Raises
        ------
        NoAnswer
            It is no such URL, or has a user, a query or a fragment.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https") or not url.isascii() or not url.isprintable():
            raise NoAnswer("expected an address such as http://127.0.0.1:8080")
        if parts.username is not None or parts.query or parts.fragment or " " in url:
            raise NoAnswer("expected an address without user, query and fragment")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        path = path if path.endswith("/v1") else f"{path}/v1"
        is_encrypted = parts.scheme == "https"
        return cls(is_encrypted, host, port or (443 if is_encrypted else 80), path)

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether the name can only be this computer; what it leads to is looked at once more when it is connected."""
        return self.host == "localhost" or _is_loopback(self.host)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def ask(
    endpoint: Endpoint,
    model: str,
    messages: Sequence[Mapping[str, str]],
    *,
    allow_remote: bool = False,
    seconds: float = 120.0,
    max_tokens: int = 1024,
    temperature: float = 0.0,
) -> str:
    """Ask once, and give back what the model wrote, whatever it is.

    Parameters
    ----------
    endpoint
        To ask.
    model
        Its name there.
    messages
        Of the conversation.
    allow_remote
        Ask another computer, too.
    seconds
        For all of it, also where the answer comes in drops.
    max_tokens
        The model is to stop there.
    temperature
        0 is the likeliest answer.

    Returns
    -------
    str
        At most `LIMIT_BYTES`.

    Raises
    ------
    NoAnswer
        It is remote and was not allowed, is down or slow, or sent no such answer.
    """
    if not (allow_remote or endpoint.is_local):
        raise NoAnswer(f"{endpoint} is not this computer, and --allow-remote was not given: nothing was sent")
    question = {
        "model": model,
        "messages": list(messages),
        "temperature": temperature,
        "max_tokens": max_tokens,
        "stream": False,
    }
    kind = http.client.HTTPSConnection if endpoint.is_encrypted else http.client.HTTPConnection
    connection = kind(endpoint.host, endpoint.port, timeout=seconds)
    has_ended = threading.Event()
    # A socket's own limit is for each piece: a server that sends a byte now and then would hold us for hours.
    timer = threading.Timer(seconds, _end, (connection, has_ended))
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        if not (allow_remote or _is_loopback(_peer(connection))):
            raise NoAnswer(f"{endpoint} leads to another computer, and --allow-remote was not given: nothing was sent")
        connection.request(
            "POST", f"{endpoint.path}/chat/completions", json.dumps(question), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        body = response.read(LIMIT_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if has_ended.is_set() or isinstance(error, TimeoutError):
            raise NoAnswer(f"{endpoint} gave no answer within {seconds:g} s") from None
        raise NoAnswer(f"{endpoint} cannot be asked: {_reason(error)}") from None
    finally:
        timer.cancel()
        connection.close()
    if has_ended.is_set():
        raise NoAnswer(f"{endpoint} gave no answer within {seconds:g} s")
    if response.status != 200:
        raise NoAnswer(f"{endpoint} answered with status {response.status}")
    return _content(endpoint, body)


def _peer(connection: http.client.HTTPConnection) -> str:
    """The address at the other end, whatever the name was."""
    return str(connection.sock.getpeername()[0])


def _end(connection: http.client.HTTPConnection, has_ended: threading.Event) -> None:
    has_ended.set()
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    """What the system says, or which kind of answer it was; nothing that the other side wrote."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def _content(endpoint: Endpoint, body: bytes) -> str:
    if len(body) > LIMIT_BYTES:
        raise NoAnswer(f"{endpoint} answered with more than {LIMIT_BYTES} bytes")
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise NoAnswer(f"{endpoint} answered with no choices[0].message.content") from None
    if not isinstance(content, str):
        raise NoAnswer(f"{endpoint} answered with a content that is no text")
    return content
