"""The node's door for DIMSE: C-STORE and C-ECHO, for callers on a list, on an address that somebody chose."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

from heartlens.core.errors import InputRefused
from heartlens.pacs.ct_classes import offer_ct
from heartlens.pacs.node.intake import NOT_TAKEN, SUCCESS, Intake
from heartlens.pacs.node.ledger import Ledger

logger = logging.getLogger(__name__)

ASSOCIATIONS = 10
"""At once."""

PDU_BYTES = 1 << 18
"""At most in one piece; the library's own 16 kB make many pieces of an image."""

SILENCE_S = 60.0
"""A sender that says nothing for so long is cut off, and its series is incomplete."""


class Receiver:
    """Listens as long as it is not stopped.

    Parameters
    ----------
    intake, ledger
        Of the node.
    ae
        Our AE title; a caller must use it.
    host, port
        To listen on; port 0 takes a free one.
    accept
        AE titles of those who may send.
    silence_s
        A sender that says nothing for so long is cut off.
    tls
        See `tls_context`; None takes what travels in the clear.

    Attributes
    ----------
    address
        Host and port on which it listens.

    Raises
    ------
    InputRefused
        ``input``: nobody may send, the address is not ours, or the port is taken.
    """

    def __init__(
        self, intake: Intake, ledger: Ledger, *, ae: str, host: str, port: int, accept: Sequence[str],
        silence_s: float = SILENCE_S, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self._intake = intake
        self._ledger = ledger
        self._brought: dict[Any, dict[str, set[str]]] = {}
        self._lock = threading.Lock()
        if not accept:  # pynetdicom would take everybody
            raise InputRefused("input", "nobody may send anything; give --accept TITLE for each caller")
        entity = AE(ae_title=ae)
        entity.require_called_aet = True
        entity.require_calling_aet = list(accept)
        entity.maximum_associations = ASSOCIATIONS
        entity.network_timeout = entity.dimse_timeout = silence_s
        entity.maximum_pdu_size = PDU_BYTES
        offer_ct(entity)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._broke_off),
            (evt.EVT_CONN_CLOSE, self._broke_off),
        ]
        try:
            server = entity.start_server((host, port), block=False, evt_handlers=handlers, ssl_context=tls)
        except OSError as error:
            raise InputRefused(
                "input", f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --listen"
            ) from None
        assert server is not None
        self._server = server
        self.address: tuple[str, int] = server.server_address[:2]

    def stop(self) -> None:
        """Listen no more; what is being received breaks off."""
        self._server.shutdown()

    def _store(self, event: Any) -> int:
        try:
            data = event.encoded_dataset()
            received = self._intake.take(data, str(event.request.AffectedSOPInstanceUID), unreleased=True)
        except Exception as error:  # a library met what it did not expect; the log says no word of it
            logger.error("an object was not taken: %s", type(error).__name__)
            return NOT_TAKEN
        if received.status == SUCCESS:
            with self._lock:
                of_association = self._brought.setdefault(event.assoc, {})
                is_first = received.key not in of_association
                of_association.setdefault(received.key, set()).add(received.sop_uid)
            if is_first:  # again, because another association may have ended between the two
                self._ledger.opened(received.key)
        return received.status

    def _released(self, event: Any) -> None:
        self._close(event, is_broken=False)

    def _broke_off(self, event: Any) -> None:
        self._close(event, is_broken=True)

    def _close(self, event: Any, *, is_broken: bool) -> None:
        with self._lock:
            brought = self._brought.pop(event.assoc, {})
            others = {key for one in self._brought.values() for key in one}
        for key, uids in brought.items():
            self._ledger.closed(key, uids, is_broken=is_broken, is_open=key in others)
            logger.info("%d images of %s, %s", len(uids), key, "broken off" if is_broken else "released")


def tls_context(certificate: Path, key: Path | None, clients: Path | None) -> ssl.SSLContext:
    """How connections are encrypted.

    Parameters
    ----------
    certificate, key
        Ours, PEM; the key may stand in the file of the certificate.
    clients
        Authority whose certificate every caller must show; None lets callers without one in.

    Raises
    ------
    InputRefused
        ``input``: a file is not there, or is none of these.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise InputRefused(
            "input", f"--tls-certificate, --tls-key, --tls-clients: {error.strerror or 'no PEM'}; give PEM files"
        ) from None
    return context
