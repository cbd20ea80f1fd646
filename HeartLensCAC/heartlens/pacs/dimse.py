"""DIMSE: C-ECHO, C-FIND, C-MOVE to a receiver of our own, C-STORE."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, Association, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from heartlens.core.disk.renaming import sync_file
from heartlens.pacs.archive import ArchiveError, FoundSeries, FoundStudy, Query, is_uid
from heartlens.pacs.ct_classes import offer_ct
from heartlens.pacs.profiles import DimseProfile

PENDING = (0xFF00, 0xFF01)
MOVE_PATIENCE = 60
"""A C-MOVE may be silent for so many times the timeout, while the archive fetches from a slow store."""

UNKNOWN_DESTINATION = 0xA801
DISK_TROUBLE = 0xA700


class Dimse:
    """One archive with DIMSE; see `heartlens.pacs.archive.Archive`.

    Parameters
    ----------
    profile
        Of it.
    """

    def __init__(self, profile: DimseProfile) -> None:
        self.name = profile.name
        self._profile = profile

    def close(self) -> None:
        """Nothing stays open between two questions."""

    def check(self) -> list[str]:
        """C-ECHO, and a C-FIND that should find nothing; the receiver's port is tried."""
        with self._associate(Verification) as association:
            status = association.send_c_echo().get("Status")
            if status != 0:
                raise self._error("refused", "does not answer C-ECHO with success")
        lines = [f"C-ECHO answers at {self._profile.host}:{self._profile.port}, AE title {self._profile.ae}"]
        self.studies(Query(study_uid="2.25.0"))
        lines.append("C-FIND answers")
        with self._receiver(lambda dataset, data: None):
            lines.append(
                f"our receiver listens on {self._profile.receive_host}:{self._profile.receive_port} while it is needed"
            )
        return lines

    def studies(self, query: Query) -> list[FoundStudy]:
        """Studies that match."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        wanted.StudyDate = query.date
        wanted.ModalitiesInStudy = query.modality
        wanted.PatientID = query.patient_id
        wanted.PatientName = ""
        wanted.StudyInstanceUID = query.study_uid
        wanted.StudyDescription = ""
        wanted.NumberOfStudyRelatedSeries = None
        found = []
        for entry in self._find(wanted, limit=query.limit):
            series = entry.get("NumberOfStudyRelatedSeries")
            modalities = entry.get("ModalitiesInStudy") or ""
            found.append(
                FoundStudy(
                    _said(entry, "StudyInstanceUID"), _said(entry, "StudyDate"), _said(entry, "StudyDescription"),
                    modalities if isinstance(modalities, str) else "\\".join(map(str, modalities)),
                    None if series is None else int(series), _said(entry, "PatientID"), _said(entry, "PatientName"),
                )
            )  # fmt: skip
        return found

    def series(self, study_uid: str, series_uid: str = "") -> list[FoundSeries]:
        """The series of a study."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID = study_uid
        wanted.SeriesInstanceUID = series_uid
        wanted.Modality = ""
        wanted.SeriesDescription = ""
        wanted.NumberOfSeriesRelatedInstances = None
        found = []
        for entry in self._find(wanted):
            count = entry.get("NumberOfSeriesRelatedInstances")
            found.append(
                FoundSeries(
                    study_uid, _said(entry, "SeriesInstanceUID"), _said(entry, "Modality"),
                    _said(entry, "SeriesDescription"), None if count is None else int(count),
                )
            )  # fmt: skip
        return found

    def fetch(self, series: FoundSeries, folder: Path) -> int:
        """C-MOVE to our own receiver; the archive's own count and the files must agree."""
        folder.mkdir(parents=True, exist_ok=True)
        got: set[str] = set()
        lock = threading.Lock()

        def keep(dataset: Dataset, data: bytes) -> None:
            uid = str(dataset.SOPInstanceUID)
            if str(dataset.SeriesInstanceUID) != series.series_uid or not is_uid(uid):
                raise ValueError("not what was asked for")
            with lock:
                number = len(got) + 1
                if uid in got:
                    return
                part = folder / f".{number:05d}.part"
                part.write_bytes(data)
                sync_file(part)
                part.replace(folder / f"{number:05d}.dcm")
                got.add(uid)

        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID = series.study_uid
        wanted.SeriesInstanceUID = series.series_uid
        completed = failed = 0
        last: int | None = None
        with (
            self._receiver(keep),
            self._associate(StudyRootQueryRetrieveInformationModelMove, patience=MOVE_PATIENCE) as association,
        ):
            answers = association.send_c_move(wanted, self._profile.calling, StudyRootQueryRetrieveInformationModelMove)
            for status, _ in answers:
                last = status.get("Status")
                completed = int(status.get("NumberOfCompletedSuboperations") or completed)
                failed = int(status.get("NumberOfFailedSuboperations") or failed)
        if last == UNKNOWN_DESTINATION:
            raise self._error("refused", f"does not know where {self._profile.calling} is; {self.advice}")
        if last not in (0, 0xB000):
            raise self._error("refused" if last else "down", f"ends C-MOVE with {_hex(last)}; {self.advice}")
        expected = series.images if series.images is not None else completed
        if failed or len(got) != expected:
            raise self._error("missing", f"says {expected} images and brought {len(got)}; {self.advice}")
        return len(got)

    @property
    def advice(self) -> str:
        """What must be set at the archive, so that it can bring us images."""
        profile = self._profile
        return (
            f"at the archive, enter AE title {profile.calling} with this computer's address and port "
            f"{profile.receive_port}; here, receive_host must be an address that it reaches"
        )

    def send(self, path: Path) -> None:
        """C-STORE of one file."""
        try:
            dataset = dcmread(path)
            kind, syntax = dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID
        except (InvalidDicomError, AttributeError):
            raise self._error("refused", f"was not sent {path.name}, which is no DICOM file") from None
        with self._associate(kind, syntax) as association:
            status = association.send_c_store(dataset).get("Status")
        if status is None:
            raise self._error("down", "broke off while it was sent a file")
        if status == 0x0111 or status == 0 or status >> 12 == 0xB:  # there already; stored; stored with a remark
            return
        raise self._error("refused", f"does not store {path.name}: {_hex(status)}; see its own log")

    def _find(self, wanted: Dataset, *, limit: int = 100_000) -> list[Dataset]:
        found: list[Dataset] = []
        with self._associate(StudyRootQueryRetrieveInformationModelFind) as association:
            last: int | None = None
            for status, entry in association.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind):
                last = status.get("Status")
                if last in PENDING and entry is not None:
                    found.append(entry)
                if len(found) >= limit:
                    return found
            if last is None:
                raise self._error(
                    "down",
                    f"broke off while it was asked; it must know AE title {self._profile.calling}, and let it ask",
                )
            if last != 0:
                raise self._error("refused", f"ends C-FIND with {_hex(last)}; it must let {self._profile.calling} ask")
        return found

    @contextmanager
    def _associate(self, kind: Any, syntax: Any = None, *, patience: float = 1.0) -> Iterator[Association]:
        profile = self._profile
        ae = AE(ae_title=profile.calling)
        ae.connection_timeout = ae.acse_timeout = profile.timeout_s
        ae.dimse_timeout = ae.network_timeout = profile.timeout_s * patience
        if syntax is None:
            ae.add_requested_context(kind)
        else:
            ae.add_requested_context(kind, syntax)
        words: dict[str, Any] = {"tls_args": (_tls(profile), profile.host)} if profile.tls else {}
        association = ae.associate(profile.host, profile.port, ae_title=profile.ae, **words)
        if not association.is_established:
            if association.is_rejected:
                raise self._error(
                    "refused",
                    f"rejects us; it must be called {profile.ae} and know AE title {profile.calling} at this address",
                )
            raise self._error("down", f"cannot be reached at {profile.host}:{profile.port}")
        try:
            if not association.accepted_contexts:
                raise self._error("refused", "does not offer what is needed of it")
            yield association
        finally:
            if association.is_established:
                association.release()

    @contextmanager
    def _receiver(self, keep: Any) -> Iterator[None]:
        """Listen for what a C-MOVE brings, from this archive alone, as long as the block lasts."""
        profile = self._profile
        ae = AE(ae_title=profile.calling)
        ae.require_called_aet = True
        ae.require_calling_aet = [profile.ae]
        ae.network_timeout = profile.timeout_s
        offer_ct(ae)

        def store(event: Any) -> int:
            try:
                keep(event.dataset, event.encoded_dataset())
            except OSError:
                return DISK_TROUBLE
            except Exception:  # a header of whatever kind; the archive hears that it was not taken
                return 0xA900
            return 0

        try:
            server = ae.start_server(
                (profile.receive_host, profile.receive_port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
            )
        except OSError as error:
            raise self._error(
                "refused",
                f"needs our receiver on {profile.receive_host}:{profile.receive_port}: {error.strerror}; "
                "choose another receive_port, here and at the archive",
            ) from None
        try:
            yield
        finally:
            if server is not None:
                server.shutdown()

    def _error(self, code: str, text: str) -> ArchiveError:
        return ArchiveError(code, f"archive {self.name} {text}")


def _tls(profile: DimseProfile) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=profile.verify if isinstance(profile.verify, str) else None)
    if profile.verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if profile.certificate:
        context.load_cert_chain(profile.certificate, profile.key or None)
    return context


def _said(entry: Dataset, keyword: str) -> str:
    value = entry.get(keyword)
    return "" if value is None else str(value)


def _hex(status: int | None) -> str:
    return "no status" if status is None else f"status 0x{status:04X}"
