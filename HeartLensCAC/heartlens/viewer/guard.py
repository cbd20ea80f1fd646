"""Who may ask: this computer's own page, with the token that was printed, and no more than a reader can mean.

A server on a loopback port is open to every page that the browser shows and to every program and user of the computer.
Hence the token, which only the reader knows; the check of `Host`, against names that somebody lets point here (DNS
rebinding); and the checks of `Origin` and `Sec-Fetch-Site`, against pages of others (CSRF).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heartlens.viewer.refusals import BodyTooLarge

TOKEN_HEADER = b"x-heartlens-token"

MAX_BODY_BYTES = 16 * 2**20
"""Of one request; the runs of a million voxels, each alone in a scan of some hundred million, take 14 bytes each."""

DRAINED_BYTES = 64 * 2**20

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, no inline script, and no text that becomes markup."""

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),  # nothing of a patient stays in the browser's cache
)


class Guard:
    """ASGI middleware that lets in whom it may, and seals every answer.

    Parameters
    ----------
    app
        What is guarded.
    token
        That a request under `/api/` must bring.
    hosts
        What `Host` may say, such as "127.0.0.1:8041".
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.encode() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")  # uvicorn closes what is none

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await _drain(receive, scope)
            await _refuse(sealed, *refusal)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise BodyTooLarge(TOO_LARGE)
            return message

        await self._app(scope, counted, sealed)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence; None where nothing speaks against it."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]

        def values(name: bytes) -> list[bytes]:
            return [value for key, value in headers if key == name]

        hosts = values(b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 403, "This page is served under 127.0.0.1 alone; open the address that heartlens review printed."
        own = {b"http://" + host for host in self._hosts}
        if any(origin not in own for origin in values(b"origin")):
            return 403, "Another page asked for this; only HeartLens' own page may."
        if not scope["path"].startswith("/api/"):
            return None if scope["method"] in ("GET", "HEAD") else (405, "This can only be read.")
        if any(site not in (b"same-origin", b"none") for site in values(b"sec-fetch-site")):
            return 403, "Another page asked for this; only HeartLens' own page may."
        tokens = values(TOKEN_HEADER)
        if len(tokens) != 1 or not secrets.compare_digest(tokens[0], self._token):
            return 401, "This page belongs to a server that has ended; open the address that heartlens review printed."
        lengths = values(b"content-length")
        if lengths and (not lengths[0].isdigit() or len(lengths[0]) > 12 or int(lengths[0]) > MAX_BODY_BYTES):
            return 413, TOO_LARGE
        return None


TOO_LARGE = f"A request may have {MAX_BODY_BYTES // 2**20} MB; mark less at once."


async def _drain(receive: Receive, scope: Scope) -> None:
    """Let a body that is not far too large be sent: who is still sending does not hear why it is refused."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if not said.isdigit() or len(said) > 12 or int(said) > DRAINED_BYTES:
        return
    received = 0
    while received < int(said):
        message = await receive()
        received += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"code": "refused", "error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))  # what is still being sent is not waited for
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
