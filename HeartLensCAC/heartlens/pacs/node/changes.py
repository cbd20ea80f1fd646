"""The node's second door: Orthanc's list of changes, for an archive that cannot forward what it gets.

`GET /changes` names every series that Orthanc calls stable; its CT images are brought in as if they had been sent. How
far the list was read is kept in the ledger, so that nothing is missed while the node is down. A series that cannot be
brought is set aside and tried again, so that it does not keep those behind it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from heartlens.core.errors import InputRefused
from heartlens.pacs.archive import is_uid
from heartlens.pacs.node.intake import DISK_TROUBLE, SUCCESS, Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rules import back_off_s
from heartlens.pacs.profiles import is_this_computer

logger = logging.getLogger(__name__)

CURSOR, SET_ASIDE = "changes", "changes set aside"
PAGE = 100

IDLE_S = 5.0
"""Between two looks at a list that has nothing new; after a look in vain it is longer, up to `LONGEST_S`."""

LONGEST_S = 300.0

TRIES = 12
"""So often a series is tried that cannot be brought: with the pauses between, more than half a day."""

Later = dict[str, tuple[int, float]]
"""Of a series that was set aside: how often it was tried, and when it is tried again, seconds since 1970."""


class Full(Exception):
    """There is no room for images: nothing else can be brought either."""


class Changes:
    """Reads the changes of one Orthanc.

    Parameters
    ----------
    url
        Of its REST API.
    intake, ledger
        Of the node.
    auth
        User and password, where it wants them.
    timeout_s
        Longest wait for an answer.
    transport
        Of httpx, in place of the network.
    clock
        Seconds since 1970.
    """

    def __init__(
        self, url: str, intake: Intake, ledger: Ledger, *, auth: tuple[str, str] | None = None,
        timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._intake = intake
        self._ledger = ledger
        self._clock = clock
        self._next_at = 0.0
        self._in_vain = 0
        self._http = httpx.Client(
            base_url=url.rstrip("/"), auth=auth, timeout=timeout_s, trust_env=False, transport=transport,
            limits=httpx.Limits(max_keepalive_connections=0),
        )  # fmt: skip

    def step(self) -> bool:
        """Look at the list where its time has come; whether there was anything new."""
        if self._clock() < self._next_at:
            return False
        before = self._in_vain
        is_new = self.poll()
        if self._in_vain > before:
            self._next_at = self._clock() + back_off_s(self._in_vain, IDLE_S, LONGEST_S)
        elif not is_new:
            self._next_at = self._clock() + IDLE_S
        return is_new

    def poll(self) -> bool:
        """Read one page of changes, and try what was set aside; whether there was anything new."""
        since = int(self._ledger.fact(CURSOR, "0"))
        try:
            page = self._get("/changes", since=since, limit=PAGE)
            changes, last = list(page["Changes"]), int(page["Last"])
            for change in changes:
                if change["ChangeType"] == "StableSeries":
                    self._bring_or_set_aside(str(change["ID"]))
                self._ledger.remember(CURSOR, str(int(change["Seq"])))
            if last > since:
                self._ledger.remember(CURSOR, str(last))
            for series, (_, next_at) in self._set_aside().items():
                if next_at <= self._clock():
                    self._bring_or_set_aside(series)
        except Full:
            logger.warning("the list of changes waits until there is room for images")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            logger.warning("the list of changes cannot be read: %s", type(error).__name__)
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("the list of changes makes no sense: %s", type(error).__name__)
        else:
            self._in_vain = 0
            return bool(changes)
        self._in_vain += 1
        return False

    def _bring_or_set_aside(self, series: str) -> None:
        later = self._set_aside()
        tries = later.pop(series, (0, 0.0))[0] + 1
        try:
            self._bring(series)
        except httpx.TransportError:
            raise  # nobody answers; that is no matter of this series
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            why = type(error).__name__
            if tries < TRIES:
                later[series] = (tries, self._clock() + back_off_s(tries, IDLE_S))
                logger.warning("a series of the list of changes is tried again later: %s", why)
            else:
                logger.error("a series of the list of changes was given up after %d tries: %s", tries, why)
        self._ledger.remember(SET_ASIDE, json.dumps(later))

    def _set_aside(self) -> Later:
        return {
            series: (int(n), float(at)) for series, (n, at) in json.loads(self._ledger.fact(SET_ASIDE, "{}")).items()
        }

    def _bring(self, series: str) -> None:
        found = self._http.get(f"/series/{_name(series)}")
        if found.status_code == 404:  # deleted meanwhile
            return
        found.raise_for_status()
        document = found.json()
        tags = document["MainDicomTags"]
        if tags.get("Modality") != "CT" or not is_uid(tags["SeriesInstanceUID"]):
            return
        brought: dict[str, set[str]] = {}
        is_broken = True
        try:
            for instance in document["Instances"]:
                self._bring_image(_name(str(instance)), brought)
            is_broken = False
        finally:
            for key, uids in brought.items():
                self._ledger.closed(key, uids, is_broken=is_broken)

    def _bring_image(self, instance: str, brought: dict[str, set[str]]) -> None:
        answer = self._http.get(f"/instances/{instance}/file")
        if answer.status_code == 404:  # deleted meanwhile
            return
        answer.raise_for_status()
        received = self._intake.take(answer.content, unreleased=True)
        if received.status == DISK_TROUBLE:
            raise Full
        if received.status != SUCCESS:
            logger.warning("an image of the list of changes was not taken: status 0x%04X", received.status)
            return
        brought.setdefault(received.key, set()).add(received.sop_uid)

    def _get(self, place: str, **params: Any) -> Any:
        answer = self._http.get(place, params=params)
        answer.raise_for_status()
        return answer.json()


def require_changes_url(url: str, *, has_password: bool, may_be_clear: bool) -> None:
    """Refuse an address of an Orthanc that cannot be meant, or that would show images or a password on the way.

    Parameters
    ----------
    url
        As it was given.
    has_password
        Whether a password is sent there.
    may_be_clear
        Whether somebody allowed http:// to another computer.

    Raises
    ------
    InputRefused
        ``input``: it is none, holds a password, or is http:// to another computer.
    """
    try:
        place = urlsplit(url)
        host = place.hostname or ""
    except ValueError:
        raise InputRefused("input", "--changes must be an address such as http://127.0.0.1:8042") from None
    if place.scheme not in ("http", "https") or not host:
        raise InputRefused("input", "--changes must be an address such as http://127.0.0.1:8042")
    if place.username or place.password:
        raise InputRefused("input", "--changes must hold no user and no password; name them by --changes-auth")
    if place.scheme == "http" and not is_this_computer(host) and not may_be_clear:
        what = "images and the password" if has_password else "images"
        raise InputRefused(
            "input",
            f"--changes: over http:// to {host} {what} can be read on the way; use https://, a tunnel that begins on "
            "this computer, or allow it with --changes-clear",
        )


def _name(identifier: str) -> str:
    """An identifier of Orthanc, which stands in an address."""
    if not identifier.replace("-", "").isalnum():
        raise ValueError("not an identifier")
    return identifier
