"""The server: on this computer's loopback address alone, and told of only when it listens."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from heartlens.case.folder import refuse_unopenable
from heartlens.core.errors import InputRefused
from heartlens.viewer.app import Worklist, make_app
from heartlens.viewer.listed import Listed

LOOPBACK = "127.0.0.1"

PATIENCE_S = 0.7
"""So long the address waits for the first case, that one which cannot be opened is refused and has none. Where a scan
takes longer, its page is opened meanwhile; if it is refused then, page and command say so, and the server ends."""


def serve(
    cases: Sequence[Listed],
    *,
    port: int = 0,
    reader: str = "",
    identify: bool = False,
    labels: Path = Path("labels"),
    is_by_need: bool = False,
    on_ready: Callable[[str], None],
) -> None:
    """Serve cases until the process is asked to go.

    Parameters
    ----------
    cases
        In the order of the list.
    port
        0 takes one that is free.
    reader
        Who edits; kept with each edit.
    identify
        Show patients' IDs and names on the page.
    labels
        Folder in which labels of the reviewed cases are written.
    is_by_need
        The cases that need a reader most come first.
    on_ready
        Hears the address, with its token, once it answers there and the first case is open, or takes its time.

    Raises
    ------
    InputRefused
        ``input``: the first case cannot be opened; ``output``: the port is not free.
    """
    refuse_first(cases[0])
    worklist = Worklist(cases, reader=reader, identify=identify, labels=labels, is_by_need=is_by_need)
    try:
        with _listening(port) as listener:
            port = listener.getsockname()[1]
            token = secrets.token_urlsafe(24)
            app = make_app(worklist, token, (f"{LOOPBACK}:{port}", f"localhost:{port}"))
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                loop="asyncio",
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=2,
            )
            first = worklist.begin(0)  # while the server starts; a page that is quicker waits
            patience_s = None if cases[0].is_made_of_others else PATIENCE_S
            server = _Server(config, first, patience_s, lambda: on_ready(f"http://{LOOPBACK}:{port}/#{token}"))
            first.add_done_callback(lambda opened: server.end() if opened.exception() else None)
            server.run(sockets=[listener])
            if first.done():
                first.result()
    finally:
        worklist.close()


class _Server(uvicorn.Server):
    """Says when it listens and has something to show."""

    def __init__(
        self, config: uvicorn.Config, first: Future[Any], patience_s: float | None, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._first, self._patience_s, self._on_ready = first, patience_s, on_ready

    def end(self) -> None:
        """Stop serving, from whatever thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        opened, loop = asyncio.Event(), asyncio.get_running_loop()

        def say_opened(_first: Future[Any]) -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(opened.set)

        self._first.add_done_callback(say_opened)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(opened.wait(), self._patience_s)
        if not self.should_exit:
            self._on_ready()


def refuse_first(listed: Listed) -> None:
    """Refuse a first case that is seen not to open, before anything listens.

    Parameters
    ----------
    listed
        The case.

    Raises
    ------
    InputRefused
        It, or the earlier scan beside it, is damaged or has no CT any more.
    """
    if listed.is_there:
        refuse_unopenable(listed.folder)
    if listed.prior is not None:
        refuse_unopenable(listed.prior.place)


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Elsewhere SO_REUSEADDR takes a port that a server has just left; on Windows it takes one that another listens at.
    if sys.platform == "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputRefused(
            "output", f"port {port} of {LOOPBACK} cannot be taken ({error}); choose another --port, or none"
        ) from None
    return listener
