"""DIMSE: C-ECHO, C-FIND, C-MOVE to a receiver of our own, C-STORE."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pynetdicom import AE, Association, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from heartlens.pacs.archive import ArchiveError, FoundSeries, FoundStudy, Query, count_of, is_uid, write_image
from heartlens.pacs.ct_classes import offer_ct
from heartlens.pacs.profiles import DimseProfile

PENDING = (0xFF00, 0xFF01)
MOVE_PATIENCE = 60
"""A C-MOVE may be silent for so many times the timeout, while the archive fetches from a slow store."""

LONGEST_LOOK_S = 5.0
"""So long an archive that did not take an encrypted connection is asked why."""

REFUSES_OURS = (
    "does not accept our certificate; give certificate and key in pacs.toml, signed by an authority that it knows"
)

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
        with self._understanding():
            return [
                FoundStudy(
                    _said(entry, "StudyInstanceUID"), _said(entry, "StudyDate"), _said(entry, "StudyDescription"),
                    _said(entry, "ModalitiesInStudy"), count_of(entry.get("NumberOfStudyRelatedSeries")),
                    _said(entry, "PatientID"), _said(entry, "PatientName"),
                )
                for entry in self._find(wanted, limit=query.limit)
            ]  # fmt: skip

    def series(self, study_uid: str, series_uid: str = "") -> list[FoundSeries]:
        """The series of a study."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID = study_uid
        wanted.SeriesInstanceUID = series_uid
        wanted.Modality = ""
        wanted.SeriesDescription = ""
        wanted.NumberOfSeriesRelatedInstances = None
        with self._understanding():
            return [
                FoundSeries(
                    study_uid, _said(entry, "SeriesInstanceUID"), _said(entry, "Modality"),
                    _said(entry, "SeriesDescription"), count_of(entry.get("NumberOfSeriesRelatedInstances")),
                )
                for entry in self._find(wanted)
            ]  # fmt: skip

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
                if uid not in got:
                    write_image(folder, len(got) + 1, data)
                    got.add(uid)

        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID = series.study_uid
        wanted.SeriesInstanceUID = series.series_uid
        completed = remarked = failed = 0
        last: int | None = None
        with (
            self._receiver(keep),
            self._associate(StudyRootQueryRetrieveInformationModelMove, patience=MOVE_PATIENCE) as association,
        ):
            answers = association.send_c_move(wanted, self._profile.calling, StudyRootQueryRetrieveInformationModelMove)
            for status, _ in answers:
                last = status.get("Status")
                completed = int(status.get("NumberOfCompletedSuboperations") or completed)
                remarked = int(status.get("NumberOfWarningSuboperations") or remarked)
                failed = int(status.get("NumberOfFailedSuboperations") or failed)
        if last == UNKNOWN_DESTINATION:
            raise self._error("refused", f"does not know where {self._profile.calling} is; {self.advice}")
        if last not in (0, 0xB000):
            raise self._error("refused" if last else "down", f"ends C-MOVE with {_hex(last)}; {self.advice}")
        expected = series.images if series.images is not None else completed + remarked
        if failed or not got or len(got) != expected:
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
                if last in PENDING:
                    if entry is None:  # the library could not read it
                        association.abort()
                        raise self._error("garbage", "answers C-FIND with what is no data set")
                    found.append(entry)
                if len(found) >= limit:
                    association.abort()  # it has more to say, and would say it before it hears of a release
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
        tls = self._tls(ssl.Purpose.SERVER_AUTH) if profile.tls else None
        words: dict[str, Any] = {} if tls is None else {"tls_args": (tls, profile.host)}
        association = ae.associate(profile.host, profile.port, ae_title=profile.ae, **words)
        if not association.is_established:
            if association.is_rejected:
                raise self._error(
                    "refused",
                    f"rejects us; it must be called {profile.ae} and know AE title {profile.calling} at this address",
                )
            if tls is not None and (trouble := tls_trouble(profile, tls)):
                raise self._error("refused", trouble)
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
        if profile.tls and not profile.certificate:
            raise self._error(
                "refused",
                "is reached by TLS, and what C-MOVE brings must be encrypted too: give certificate and key of this "
                "computer in pacs.toml",
            )
        tls = self._tls(ssl.Purpose.CLIENT_AUTH) if profile.tls else None
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
                (profile.receive_host, profile.receive_port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)],
                ssl_context=tls,
            )  # fmt: skip
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

    def _tls(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        """How we call, or are called: in both directions both show a certificate, where there are two."""
        profile = self._profile
        try:
            authority = profile.verify if isinstance(profile.verify, str) else None
            context = ssl.create_default_context(purpose, cafile=authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if profile.certificate:
                context.load_cert_chain(profile.certificate, profile.key or None)
        except OSError as error:  # ssl.SSLError is one
            what = error.strerror if not isinstance(error, ssl.SSLError) else "no PEM, or a key of another certificate"
            raise self._error("refused", f"verify, certificate, key: {what}; give PEM files in pacs.toml") from None
        if profile.verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif purpose is ssl.Purpose.CLIENT_AUTH:
            context.verify_mode = ssl.CERT_REQUIRED
            if authority is None:
                context.load_default_certs(purpose)
        return context

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        """What is read of an answer; what cannot be read makes no sense, and is no fault of ours."""
        try:
            yield
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError, NotImplementedError) as error:
            raise self._error("garbage", f"answers with values that cannot be read ({type(error).__name__})") from None

    def _error(self, code: str, text: str) -> ArchiveError:
        return ArchiveError(code, f"archive {self.name} {text}")


def tls_trouble(profile: DimseProfile, context: ssl.SSLContext) -> str:
    """Why an encrypted connection is not made, in words; "" where encryption is not the reason.

    Parameters
    ----------
    profile
        Of the archive.
    context
        With which it was tried.
    """
    wait_s = min(profile.timeout_s, LONGEST_LOOK_S)
    try:
        with (
            socket.create_connection((profile.host, profile.port), wait_s) as plain,
            context.wrap_socket(plain, server_hostname=profile.host) as encrypted,
        ):
            encrypted.settimeout(wait_s)
            # With TLS 1.3 the other side looks at our certificate when we think that all is well.
            return "" if encrypted.recv(1) else REFUSES_OURS
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message.rstrip(".").lower()
        return (
            f"shows a certificate that is not accepted ({why}); name the file of the authority that signed it in "
            "verify of pacs.toml"
        )
    except TimeoutError:
        return ""  # it waits for what an archive waits for
    except (ssl.SSLError, ConnectionResetError) as error:
        alert = str(getattr(error, "reason", None) or "")
        if "CERTIFICATE" in alert or "UNKNOWN_CA" in alert or isinstance(error, ConnectionResetError):
            return REFUSES_OURS
        return "does not speak TLS there; look at port and tls in pacs.toml"
    except OSError:
        return ""


def _said(entry: Dataset, keyword: str) -> str:
    value = entry.get(keyword)
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return "" if value is None else str(value)


def _hex(status: int | None) -> str:
    return "no status" if status is None else f"status 0x{status:04X}"
