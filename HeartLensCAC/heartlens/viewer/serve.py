"""The server: on this computer's loopback address alone, and told of only when it listens."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from heartlens.core.errors import InputRefused
from heartlens.viewer.app import Worklist, make_app
from heartlens.viewer.listed import Listed

LOOPBACK = "127.0.0.1"


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
        Hears the address, with its token, once it answers there.

    Raises
    ------
    InputRefused
        ``input``: the first case cannot be opened; ``output``: the port is not free.
    """
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
            server = _Server(config, lambda: on_ready(f"http://{LOOPBACK}:{port}/#{token}"))
            first = worklist.begin(0)  # while the server starts; a page that is quicker waits
            first.add_done_callback(lambda opened: server.end() if opened.exception() else None)
            server.run(sockets=[listener])
            if first.done():
                first.result()
    finally:
        worklist.close()


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    def end(self) -> None:
        """Stop serving, from whatever thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


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
