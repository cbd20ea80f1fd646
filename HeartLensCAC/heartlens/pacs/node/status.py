"""What a node says of itself: a line for each series, /health and /metrics. UIDs and numbers, no name."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from heartlens import __version__
from heartlens.core.errors import InputRefused
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rules import Phase
from heartlens.pacs.node.service import Node

LEAST_FREE = 1 << 30
SHOWN = 200
RESULTS = (Phase.SCORED, Phase.HELD, Phase.SENT, Phase.UNSENT)


def health(node: Node, *, least_free_bytes: int = LEAST_FREE) -> dict[str, Any]:
    """How a node is.

    Parameters
    ----------
    node
        That runs.
    least_free_bytes
        Below this the disk is a trouble.

    Returns
    -------
    dict[str, Any]
        "status" is "ok" or "degraded", "troubles" says why: what is so at this moment, and no longer. "notes" says
        what somebody should look at.
    """
    free = shutil.disk_usage(node.home).free
    counts = node.ledger.counts()
    troubles = []
    if not node.is_alive:
        troubles.append("a thread has ended; start the node again")
    if free < least_free_bytes:
        troubles.append(f"the disk has {free >> 20} MiB left; images are not taken")
    troubles += node.ledger.waits_for_archive()
    # What is over is told and does not make the node sick: whoever watches it might start it again for that, for ever.
    notes = [f"{counts[Phase.FAILED]} series failed; heartlens node status lists them"] if counts[Phase.FAILED] else []
    return {
        "status": "degraded" if troubles else "ok",
        "troubles": troubles,
        "notes": notes,
        "version": __version__,
        "worker": "running" if node.scorer.pid else "not running",
        "free_bytes": free,
        "series": {state.value: count for state, count in counts.items() if state is not Phase.SUPERSEDED},
    }


def metrics(node: Node) -> str:
    """The same for Prometheus, in its text format 0.0.4."""
    intake, counts = node.intake, node.ledger.counts()
    lines = []

    def say(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
        lines.append(f"# HELP heartlens_node_{name} {text}")
        lines.append(f"# TYPE heartlens_node_{name} {kind}")
        lines.extend(f"heartlens_node_{name}{labels} {value:g}" for labels, value in samples)

    states = [state for state in Phase if state is not Phase.SUPERSEDED]
    say("series", "gauge", "Series by state.", *((f'{{state="{s.value}"}}', counts[s]) for s in states))
    for name, text, value in (
        ("images_received_total", "New images.", intake.received),
        ("images_duplicate_total", "Images that were here already.", intake.duplicates),
        ("images_not_taken_total", "Objects that are no CT image.", intake.not_taken),
        ("images_disk_trouble_total", "Images that could not be kept.", intake.disk_troubles),
        ("received_bytes_total", "Bytes of images, duplicates too.", intake.received_bytes),
        ("scored_total", "Series scored.", node.scored),
        ("scoring_seconds_total", "Time spent on them.", node.seconds),
        ("worker_crashes_total", "Times that the scoring process died.", node.scorer.crashes),
        ("sent_total", "Results that the archive has.", 0 if node.sending is None else node.sending.sent),
        ("send_failures_total", "Attempts in vain.", 0 if node.sending is None else node.sending.failures),
    ):
        say(name, "counter", text, ("", float(value)))
    say("disk_free_bytes", "gauge", "Room for images.", ("", float(shutil.disk_usage(node.home).free)))
    say("up", "gauge", "1 where every thread runs.", ("", float(node.is_alive)))
    return "\n".join(lines) + "\n"


class StatusServer:
    """Answers GET /health and GET /metrics.

    Parameters
    ----------
    node
        That runs.
    host, port
        To listen on; port 0 takes a free one.
    least_free_bytes
        See `health`.

    Attributes
    ----------
    address
        Host and port on which it listens.

    Raises
    ------
    InputRefused
        ``input``: the port is taken.
    """

    def __init__(self, node: Node, host: str, port: int, *, least_free_bytes: int = LEAST_FREE) -> None:
        def answers() -> dict[str, Callable[[], tuple[int, str, str]]]:
            return {"/health": say_health, "/metrics": lambda: (200, "text/plain; version=0.0.4", metrics(node))}

        def say_health() -> tuple[int, str, str]:
            said = health(node, least_free_bytes=least_free_bytes)
            return 200 if said["status"] == "ok" else 503, "application/json", json.dumps(said) + "\n"

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                answer = answers().get(self.path)
                code, kind, text = answer() if answer else (404, "text/plain", "GET /health or /metrics\n")
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None:
                """Say nothing: whoever watches asks every few seconds."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise InputRefused(
                "input",
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --status-port, or 0 for none",
            ) from None
        self._server.daemon_threads = True
        self.address: tuple[str, int] = self._server.server_address[:2]  # type: ignore[assignment]
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


def status_lines(home: Path, *, now: float | None = None) -> list[str]:
    """What `heartlens node status` prints: how many series stand where, and those that somebody may have to look at.

    Parameters
    ----------
    home
        Of the node.
    now
        Seconds since 1970.

    Raises
    ------
    InputRefused
        ``input``: no node was ever there.
    """
    path = home / "ledger.sqlite"
    if not path.is_file():
        raise InputRefused("input", f"{home} is no node's folder: expected ledger.sqlite in it; give --home DIR")
    ledger = Ledger(path, is_read_only=True)
    try:
        counts = ledger.counts()
        rows = ledger.series()
    finally:
        ledger.close()
    now = time.time() if now is None else now
    shown = [f"{count} {state}" for state, count in counts.items() if count]
    lines = [f"{len(rows)} series: {', '.join(shown) or 'none yet'}", ""]
    for row in sorted(rows, key=lambda row: -row.last_at)[:SHOWN]:
        # Scored, though nobody said that it is whole: that is said as long as the result stands.
        called = "unverified" if row.unverified and row.state in RESULTS and row.code != "unverified" else ""
        why = " ".join(word for word in (called, row.code, f"({row.text})" if row.text else "") if word)
        minutes = max(0.0, now - row.last_at) / 60
        lines.append(
            f"{row.state:<11}{row.images:>6} images {minutes:>8.0f} min  {row.series_uid}  {row.key}  {why}".rstrip()
        )
    return lines
