"""The command `heartlens node`: a receiver that scores what arrives and sends the result back."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heartlens.app.console import say
from heartlens.core.errors import InputRefused

AE_TITLE, PORT, STATUS_PORT = "HEARTLENS", 11112, 11113
LOCK, LEDGER, SPOOL = ".lock", "ledger.sqlite", "spool"
OPTIONS = ("bundle", "device", "profile", "language", "kvp-adapted", "identify", "shared-mode")
"""Of scoring, which a node passes on; the others say something of one scan."""


def add_node(commands: Any) -> None:
    """Add the command.

    Parameters
    ----------
    commands
        Subparsers of the command line.
    """
    node = commands.add_parser("node", help="receive CT from a PACS, score it, send the result back")
    node.add_argument(
        "action", nargs="?", choices=("run", "status"), default="run", help="status: say where series stand"
    )
    node.add_argument("--home", type=Path, required=True, metavar="DIR", help="folder for images, ledger and results")
    node.add_argument("--ae", default=AE_TITLE, metavar="TITLE", help=f"our AE title (default {AE_TITLE})")
    node.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1: this computer alone")
    node.add_argument("--port", type=int, default=PORT, help=f"for DIMSE (default {PORT})")
    node.add_argument("--accept", action="append", default=[], metavar="TITLE", help="who may send (repeatable)")
    node.add_argument(
        "--send-to", metavar="NAME", help="archive of pacs.toml that gets the results, and is asked for counts"
    )
    node.add_argument("--config", type=Path, metavar="FILE", help="pacs.toml (default: ~/.config/heartlens/pacs.toml)")
    node.add_argument("--changes", metavar="URL", help="of an Orthanc, whose list of changes is read as a second door")
    node.add_argument(
        "--changes-auth", metavar="USER_ENV,PASSWORD_ENV", help="environment variables with its credentials"
    )
    node.add_argument(
        "--changes-clear", action="store_true", help="allow http:// to another computer: it can be read on the way"
    )
    node.add_argument(
        "--no-count", action="store_true",
        help="the archive lets nobody ask how many images a series has: each is scored as unverified",
    )  # fmt: skip
    node.add_argument("--quiet", type=float, default=30.0, metavar="S", help="silence before a series is judged (30)")
    node.add_argument(
        "--unverified", type=float, default=300.0, metavar="S",
        help="silence before a series is scored of which nobody says how many images it has (300)",
    )  # fmt: skip
    node.add_argument("--ask-again", type=float, default=60.0, metavar="S", help="pause between questions (60)")
    node.add_argument("--retry", type=float, default=5.0, metavar="S", help="first pause after sending in vain (5)")
    node.add_argument("--keep-days", type=float, default=7.0, metavar="N", help="images are deleted after so long (7)")
    node.add_argument("--keep-results-days", type=float, metavar="N", help="the same of results (default: kept)")
    node.add_argument("--least-free-mb", type=int, default=1024, metavar="N", help="of the disk, stays free (1024)")
    node.add_argument(
        "--status-port", type=int, default=STATUS_PORT, help=f"for /health, /metrics ({STATUS_PORT}; 0: none)"
    )
    node.add_argument("--status-listen", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1")
    node.add_argument("--tls-certificate", type=Path, metavar="FILE", help="ours, PEM: what is received is encrypted")
    node.add_argument("--tls-key", type=Path, metavar="FILE", help="of the certificate, where not in its file")
    node.add_argument("--tls-clients", type=Path, metavar="FILE", help="authority of the certificates of all callers")
    node.add_argument("--bundle", metavar="NAME|DIR|none", help="networks; none: rules")
    node.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    node.add_argument("--profile", default="agatston-1990")
    node.add_argument("--language", default="en", metavar="CODE")
    node.add_argument("--kvp-adapted", action="store_true")
    node.add_argument("--identify", action="store_true", help="put patient ID and name on pages and pictures")
    node.add_argument("--shared-mode", action="store_true", help="let others read results, as the umask says")
    node.add_argument("--no-pages", action="store_true", help="send SEG and SR alone, no Secondary Capture and no PDF")
    node.set_defaults(run=run_node)


def run_node(options: argparse.Namespace) -> int:
    """Be the node until Ctrl-C or the system ends it; or say how one is.

    Parameters
    ----------
    options
        Of the command line.

    Returns
    -------
    int
        0

    Raises
    ------
    InputRefused
        ``input`` or ``output``: it cannot start.
    """
    if options.action == "status":
        from heartlens.pacs.node.status import status_lines

        print("\n".join(status_lines(options.home)))
        return 0
    try:
        import httpx  # noqa: F401
        import pynetdicom  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputRefused(
            "input", f"the node needs {error.name}; pip install 'heartlens[pacs]', then run again"
        ) from None
    _serve(options)
    return 0


def _serve(options: argparse.Namespace) -> None:
    from heartlens.pacs.node.changes import Changes, require_changes_url
    from heartlens.pacs.node.intake import Intake
    from heartlens.pacs.node.ledger import Ledger
    from heartlens.pacs.node.receiver import Receiver, tls_context
    from heartlens.pacs.node.rules import Waits
    from heartlens.pacs.node.scorer import Scorer
    from heartlens.pacs.node.service import Node, Settings
    from heartlens.pacs.node.status import StatusServer
    from heartlens.pacs.profiles import require_ae

    for title in (options.ae, *options.accept):
        require_ae(title, "--ae and --accept")
    if not options.accept and not options.changes:
        raise InputRefused("input", "nobody may send anything; give --accept TITLE for each caller, or --changes URL")
    try:
        waits = Waits(options.quiet, max(options.unverified, options.quiet), options.ask_again)
    except ValueError as error:
        raise InputRefused("input", f"--quiet, --unverified, --ask-again: {error}") from None
    if options.changes:
        require_changes_url(
            options.changes, has_password=bool(options.changes_auth), may_be_clear=options.changes_clear
        )
    auth = _auth(options)
    settings = Settings(
        waits, options.retry, options.keep_days, options.keep_results_days, asks_archive=not options.no_count
    )
    archive = _archive(options)
    tls = None
    if options.tls_certificate is not None:
        tls = tls_context(options.tls_certificate, options.tls_key, options.tls_clients)
    lock = _take(options.home)
    log = _log_to_stderr()
    least_free = options.least_free_mb << 20
    ledger = Ledger(options.home / LEDGER)
    intake = Intake(options.home / SPOOL, ledger, least_free_bytes=least_free)
    words = {name: getattr(options, name.replace("-", "_")) for name in OPTIONS}
    words |= {"embed-ct": True, "key-page": not options.no_pages, "pdf": not options.no_pages}
    node = Node(options.home, ledger, intake, Scorer(words), archive, settings=settings)
    status = receiver = None
    try:
        node.recover()
        if options.status_port:
            status = StatusServer(node, options.status_listen, options.status_port, least_free_bytes=least_free)
        if options.accept:
            receiver = Receiver(
                intake,
                ledger,
                ae=options.ae,
                host=options.listen,
                port=options.port,
                accept=options.accept,
                tls=tls,
            )
        doors: list[Callable[[], bool]] = []
        if options.changes:
            doors.append(Changes(options.changes, intake, ledger, auth=auth).step)
        node.scorer.start()
        node.start(*doors)
        where = [] if receiver is None else [f"{options.ae} on {receiver.address[0]}:{receiver.address[1]}"]
        where += [f"changes of {options.changes}"] if options.changes else []
        print(f"Node: {'; '.join(where)}", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:  # the way in which it is meant to end; SIGTERM too
        logging.getLogger(__name__).info("ending; what was going on is done again at the next start")
    finally:
        if receiver is not None:
            receiver.stop()
        node.stop()
        if status is not None:
            status.stop()
        ledger.close()
        logging.getLogger().removeHandler(log)
        os.close(lock)


def _archive(options: argparse.Namespace) -> Callable[[], Any] | None:
    """How the archive is opened; what is wrong with pacs.toml is said before anything is received."""
    if options.send_to is None:
        return None
    from heartlens.pacs.connect import open_archive
    from heartlens.pacs.profiles import find_profile

    profile = find_profile(options.send_to, options.config)
    open_archive(profile).close()
    for caution in profile.cautions():
        say(f"warning: {caution}")
    return lambda: open_archive(profile)


def _auth(options: argparse.Namespace) -> tuple[str, str] | None:
    if not options.changes_auth:
        return None
    user, _, password = options.changes_auth.partition(",")
    values = os.environ.get(user, ""), os.environ.get(password, "")
    if not all(values):
        raise InputRefused("input", "--changes-auth names environment variables that are not set; set both")
    return values


def _take(home: Path) -> int:
    """Hold the folder, so that no second node works in it."""
    from heartlens.core.disk.locking import lock_file
    from heartlens.core.disk.rights import FILE, FOLDER

    try:
        home.mkdir(mode=FOLDER, parents=True, exist_ok=True)
        lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, FILE)
    except OSError as error:
        raise InputRefused("output", f"cannot write to {home}: {error.strerror}; choose another --home") from None
    try:
        lock_file(lock)
    except OSError:
        os.close(lock)
        raise InputRefused("output", f"another node works in {home}; end it, or choose another --home") from None
    return lock


def _log_to_stderr() -> logging.Handler:
    """What the node does, for whoever runs it: states, UIDs and numbers. Libraries' words are not repeated."""
    from heartlens.app.failure import LOG_FORMAT, Discreet

    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(Discreet(LOG_FORMAT))
    logging.getLogger().addHandler(log)
    logging.getLogger("heartlens").setLevel(logging.INFO)
    for name in ("httpx", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return log
