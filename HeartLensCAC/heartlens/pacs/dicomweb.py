"""DICOMweb: QIDO-RS asks, WADO-RS fetches, STOW-RS stores.

What comes in is looked at before it is believed, and images are fetched one by one, so that memory holds one of them
and a series that breaks off is known by its list. No proxy is used and no redirect is followed: images and credentials
go to the address of pacs.toml and nowhere else.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from heartlens.pacs.archive import ArchiveError, FoundSeries, FoundStudy, Query, count_of, is_uid, write_image
from heartlens.pacs.profiles import DicomWebProfile

PAGE = 500
"""So many entries are asked for at once."""

MOST_PAGES = 200
"""An archive that gives the same page again and again is left."""

DUPLICATE = 0x0111
"""Failure reason of an object that is there already (PS3.7 C.5.7); ours have UIDs that follow from what they say."""

TAGS = {
    "study_uid": "0020000D", "series_uid": "0020000E", "sop_uid": "00080018", "date": "00080020",
    "modality": "00080060", "modalities": "00080061", "study_text": "00081030", "series_text": "0008103E",
    "n_series": "00201206", "n_images": "00201209", "patient_id": "00100020", "patient_name": "00100010",
}  # fmt: skip

JSON = "application/dicom+json"


class DicomWeb:
    """One archive with DICOMweb; see `heartlens.pacs.archive.Archive`.

    Parameters
    ----------
    profile
        Of it.
    transport
        Of httpx, in place of the network.

    Raises
    ------
    InputRefused
        ``input``: a credential is not set.
    """

    def __init__(self, profile: DicomWebProfile, transport: httpx.BaseTransport | None = None) -> None:
        self.name = profile.name
        self._base = profile.url.rstrip("/")
        headers, auth = {}, None
        if profile.auth == "basic":
            auth = httpx.BasicAuth(profile.credential("user_env"), profile.credential("password_env"))
        elif profile.auth == "bearer":
            headers["Authorization"] = f"Bearer {profile.credential('token_env')}"
        verify: Any = profile.verify
        if isinstance(verify, str):
            try:
                verify = ssl.create_default_context(cafile=verify)
            except OSError:
                raise ArchiveError("refused", f"[{self.name}] verify: {profile.verify} holds no certificate") from None
        self._http = httpx.Client(
            auth=auth, headers=headers, timeout=profile.timeout_s, verify=verify, trust_env=False, transport=transport,
            limits=httpx.Limits(max_keepalive_connections=0),  # one that the archive closed would cost a request
        )  # fmt: skip

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def check(self) -> list[str]:
        """Ask for one study."""
        studies = self.studies(Query(limit=1))
        return [
            f"QIDO-RS answers at {self._base} ({'it has studies' if studies else 'it has no study, or shows none'})"
        ]

    def studies(self, query: Query) -> list[FoundStudy]:
        """Studies that match."""
        wanted = {
            "StudyDate": query.date, "ModalitiesInStudy": query.modality, "PatientID": query.patient_id,
            "StudyInstanceUID": query.study_uid,
        }  # fmt: skip
        more = ("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries")
        found = []
        for entry in self._search("/studies", wanted, more, limit=query.limit):
            series = _number(entry, "n_series")
            found.append(
                FoundStudy(
                    _text(entry, "study_uid"), _text(entry, "date"), _text(entry, "study_text"),
                    "\\".join(_values(entry, "modalities")), series, _text(entry, "patient_id"),
                    _text(entry, "patient_name"),
                )
            )  # fmt: skip
        return found

    def series(self, study_uid: str, series_uid: str = "") -> list[FoundSeries]:
        """The series of a study."""
        more = ("SeriesDescription", "NumberOfSeriesRelatedInstances")
        entries = self._search(f"/studies/{study_uid}/series", {"SeriesInstanceUID": series_uid}, more)
        return [
            FoundSeries(
                study_uid, _text(entry, "series_uid"), _text(entry, "modality"), _text(entry, "series_text"),
                _number(entry, "n_images"),
            )
            for entry in entries
        ]  # fmt: skip

    def fetch(self, series: FoundSeries, folder: Path) -> int:
        """Bring every image of the archive's list, one by one."""
        place = f"/studies/{series.study_uid}/series/{series.series_uid}/instances"
        uids = list(dict.fromkeys(_text(entry, "sop_uid") for entry in self._search(place, {}, ())))
        if not uids or not all(map(is_uid, uids)):
            raise self._error("garbage", "lists no image of the series, or one without a UID")
        if series.images is not None and len(uids) != series.images:
            raise self._error("missing", f"says {series.images} images and lists {len(uids)}; wait, then try again")
        folder.mkdir(parents=True, exist_ok=True)
        for number, uid in enumerate(uids, 1):
            write_image(folder, number, self._image(f"{place}/{uid}", uid))
        return len(uids)

    def send(self, path: Path) -> None:
        """Store one file, and believe it only when the answer names it."""
        data = path.read_bytes()
        try:
            uid = str(dcmread(BytesIO(data), specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)
        except (InvalidDicomError, AttributeError):
            raise self._error("refused", f"was not sent {path.name}, which is no DICOM file") from None
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}', "Accept": JSON,
        }  # fmt: skip
        content = head + data + f"\r\n--{boundary}--\r\n".encode()
        answer = self._request("POST", "/studies", headers=headers, content=content, fine=(200, 202, 409))
        document = self._json(answer)
        if not isinstance(document, dict):
            raise self._error("garbage", "answers a store request with something else than an object")
        stored = {str(_first(item, "00081155")) for item in _items(document, "00081199")}
        failed = {str(_first(item, "00081155")): _first(item, "00081197") for item in _items(document, "00081198")}
        if uid in stored or failed.get(uid) == DUPLICATE:
            return
        if uid in failed:
            raise self._error("refused", f"does not store {path.name}, reason {failed[uid]}; see its own log")
        raise self._error("garbage", f"does not say whether it stored {path.name}")

    def _image(self, place: str, uid: str) -> bytes:
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = self._request("GET", place, headers={"Accept": accept})
        data = first_part(answer.headers.get("Content-Type", ""), answer.content)
        try:
            header = dcmread(BytesIO(data), specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
            is_it = str(header.SOPInstanceUID) == uid
        except (InvalidDicomError, AttributeError, ValueError, EOFError):
            is_it = False
        if not is_it:
            raise self._error("garbage", "sends something else than the image that was asked for")
        return data

    def _search(
        self, place: str, wanted: Mapping[str, str], more: Sequence[str], *, limit: int = PAGE * MOST_PAGES
    ) -> Iterator[Mapping[str, Any]]:
        """Every entry of a QIDO-RS answer, page by page."""
        asked: list[tuple[str, str | int]] = [(key, value) for key, value in wanted.items() if value]
        asked += [("includefield", name) for name in more]
        offset = 0
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            page = min(PAGE, limit - offset)
            params = httpx.QueryParams([*asked, ("limit", page), ("offset", offset)])
            answer = self._request("GET", place, params=params, headers={"Accept": JSON}, fine=(200, 204))
            entries = [] if answer.status_code == 204 or not answer.content else self._json(answer)
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise self._error("garbage", "answers a question with something else than a list")
            fresh = [entry for entry in entries if repr(entry) not in seen]
            seen |= {repr(entry) for entry in fresh}
            yield from fresh
            offset += len(entries)
            if len(entries) < page or not fresh or offset >= limit:
                return

    def _request(self, method: str, place: str, *, fine: Sequence[int] = (200,), **words: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, self._base + place, **words)
        except httpx.TimeoutException:
            raise self._error("down", f"does not answer within {self._http.timeout.read:g} s") from None
        except httpx.TransportError as error:
            is_tls = any(isinstance(cause, ssl.SSLError) for cause in _causes(error))
            what = "its certificate is not accepted; see verify in pacs.toml" if is_tls else type(error).__name__
            raise self._error("refused" if is_tls else "down", f"cannot be reached ({what})") from None
        except httpx.HTTPError as error:
            raise self._error("garbage", f"sends what is no answer ({type(error).__name__})") from None
        if answer.status_code in fine:
            return answer
        status = answer.status_code
        if status in (401, 403):
            raise self._error("refused", f"does not let us in (HTTP {status}); look at auth in pacs.toml")
        if status in (408, 429) or status >= 500:
            raise self._error("down", f"is not able to answer (HTTP {status}); try again later")
        raise self._error("refused", f"answers with HTTP {status}; look at url in pacs.toml")

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except (ValueError, RecursionError):
            raise self._error("garbage", "answers with something else than JSON; look at url in pacs.toml") from None

    def _error(self, code: str, text: str) -> ArchiveError:
        return ArchiveError(code, f"archive {self.name} {text}")


def first_part(kind: str, body: bytes) -> bytes:
    r"""The first part of a multipart answer; the answer itself where it is none.

    Parameters
    ----------
    kind
        Its Content-Type.
    body
        What was sent.

    Returns
    -------
    bytes
        Empty where there is none.

    Examples
    --------
    >>> first_part('multipart/related; boundary="x"', b"--x\r\nContent-Type: a/b\r\n\r\nDICM\r\n--x--")
    b'DICM'
    """
    if not kind.lower().startswith("multipart/"):
        return body
    words = [word.strip().partition("=") for word in kind.split(";")]
    boundary = next((value.strip('"') for key, _, value in words if key.lower() == "boundary"), "")
    mark = b"--" + boundary.encode("latin-1", "replace")
    start = body.find(mark)
    head = body.find(b"\r\n\r\n", start)
    end = body.find(b"\r\n" + mark, head)
    if not boundary or start < 0 or head < 0 or end < 0:
        return b""
    return body[head + 4 : end]


def _values(entry: Mapping[str, Any], name: str) -> list[str]:
    """The values of a tag of DICOM JSON, as texts."""
    element = entry.get(TAGS[name])
    values = element.get("Value", []) if isinstance(element, dict) else []
    texts = []
    for value in values if isinstance(values, list) else []:
        if isinstance(value, dict):  # a name
            value = value.get("Alphabetic", "")
        if isinstance(value, (str, int, float)):
            texts.append(str(value))
    return texts


def _text(entry: Mapping[str, Any], name: str) -> str:
    return next(iter(_values(entry, name)), "")


def _number(entry: Mapping[str, Any], name: str) -> int | None:
    values = _values(entry, name)
    return count_of(values[0]) if len(values) == 1 else None


def _items(document: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = document.get(tag)
    values = element.get("Value", []) if isinstance(element, dict) else []
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _first(item: Mapping[str, Any], tag: str) -> Any:
    element = item.get(tag)
    values = element.get("Value", []) if isinstance(element, dict) else []
    return values[0] if isinstance(values, list) and values else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
