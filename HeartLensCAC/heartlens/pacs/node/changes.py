"""The node's second door: Orthanc's list of changes, for an archive that cannot forward what it gets.

`GET /changes` names every series that Orthanc calls stable; its CT images are brought in as if they had been sent. How
far the list was read is kept in the ledger, so that nothing is missed while the node is down.
"""

from __future__ import annotations

import logging
from typing import Any

import httpx

from heartlens.pacs.archive import is_uid
from heartlens.pacs.node.intake import SUCCESS, Intake
from heartlens.pacs.node.ledger import Ledger

logger = logging.getLogger(__name__)

CURSOR = "changes"
PAGE = 100


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
    """

    def __init__(
        self, url: str, intake: Intake, ledger: Ledger, *, auth: tuple[str, str] | None = None, timeout_s: float = 30.0
    ) -> None:
        self._intake = intake
        self._ledger = ledger
        self._http = httpx.Client(
            base_url=url.rstrip("/"), auth=auth, timeout=timeout_s, trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )  # fmt: skip

    def poll(self) -> bool:
        """Read one page of changes; whether there was anything new.

        A series whose images cannot all be brought in is read again the next time: the cursor stays before it.
        """
        since = int(self._ledger.fact(CURSOR, "0"))
        try:
            page = self._get("/changes", since=since, limit=PAGE)
            changes, last = list(page["Changes"]), int(page["Last"])
            for change in changes:
                if change["ChangeType"] == "StableSeries" and not self._bring(str(change["ID"])):
                    return False
                self._ledger.remember(CURSOR, str(int(change["Seq"])))
        except httpx.HTTPError as error:
            logger.warning("the list of changes cannot be read: %s", type(error).__name__)
            return False
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("the list of changes makes no sense: %s", type(error).__name__)
            return False
        if last > since:
            self._ledger.remember(CURSOR, str(last))
        return bool(changes)

    def _bring(self, series: str) -> bool:
        found = self._http.get(f"/series/{_name(series)}")
        if found.status_code == 404:  # deleted meanwhile
            return True
        found.raise_for_status()
        document = found.json()
        if document["MainDicomTags"].get("Modality") != "CT" or not is_uid(
            document["MainDicomTags"]["SeriesInstanceUID"]
        ):
            return True
        for instance in document["Instances"]:
            answer = self._http.get(f"/instances/{_name(str(instance))}/file")
            answer.raise_for_status()
            status = self._intake.take(answer.content).status
            if status != SUCCESS:
                logger.warning("an image of the list of changes was not taken: status 0x%04X", status)
                if status >> 8 == 0xA7:
                    return False
        return True

    def _get(self, place: str, **params: Any) -> Any:
        answer = self._http.get(place, params=params)
        answer.raise_for_status()
        return answer.json()


def _name(identifier: str) -> str:
    """An identifier of Orthanc, which stands in an address."""
    if not identifier.replace("-", "").isalnum():
        raise ValueError("not an identifier")
    return identifier
