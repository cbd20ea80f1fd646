"""An image comes in: looked at, put on the disk, noted in the ledger, and only then called received.

Files have names that no sender can choose. A file has its name only when all of it is on the disk; what a killed node
left half-written is cleared away by the next one, and a file that the ledger had no time to note is noted then.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from heartlens.core.disk.renaming import sync_folder
from heartlens.core.disk.rights import FILE, FOLDER
from heartlens.pacs.archive import count_of, is_uid
from heartlens.pacs.ct_classes import CT_CLASSES
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import SeriesRow, key_of
from heartlens.pacs.node.rules import Phase, unfit_for_scoring

logger = logging.getLogger(__name__)

SUCCESS, DISK_TROUBLE, NOT_TAKEN = 0x0000, 0xA700, 0xA900
"""Statuses of C-STORE, PS3.4 B.2.3: stored; out of resources, send it later; the data set does not match its class."""

HEADER = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "Manufacturer",
    "ImagesInAcquisition", "NumberOfFrames",
)  # fmt: skip


LOCKS = 64
"""Two series rarely share one; an image waits for another one of its own series, and for its deletion."""

GONE = ".deleted"
"""Ending of the folder of a series whose images are being deleted."""


@dataclass(frozen=True)
class Received:
    """What came of an image.

    Parameters
    ----------
    status
        For the sender.
    key
        Of its series; "" where it was not taken.
    sop_uid
        Its own.
    is_new
        Whether it was not here before.
    """

    status: int
    key: str = ""
    sop_uid: str = ""
    is_new: bool = False


class Intake:
    """Where images come in, from whichever door.

    Parameters
    ----------
    spool
        Folder for them.
    ledger
        Of the node.
    least_free_bytes
        So much of the disk stays free: a full disk would stop the rest of the node too.
    clock
        Seconds since 1970.

    Attributes
    ----------
    received, duplicates, not_taken, disk_troubles, received_bytes
        Since the start, for the metrics.
    """

    def __init__(
        self, spool: Path, ledger: Ledger, *, least_free_bytes: int = 1 << 30, clock: Callable[[], float] = time.time
    ) -> None:
        self.spool = spool
        self._ledger = ledger
        self._least_free = least_free_bytes
        self._clock = clock
        self._counting = threading.Lock()
        self._of_series = [threading.Lock() for _ in range(LOCKS)]
        self.received = self.duplicates = self.not_taken = self.disk_troubles = self.received_bytes = 0
        spool.mkdir(mode=FOLDER, parents=True, exist_ok=True)

    def take(self, data: bytes, sop_uid: str | None = None, *, unreleased: bool = False) -> Received:
        """Take one image.

        Parameters
        ----------
        data
            The file, preamble and all.
        sop_uid
            By which the sender announced it.
        unreleased
            An association brings it, which may still break off.

        Returns
        -------
        Received
            Success only when it is on the disk and in the ledger, or was before.
        """
        image = _Image.read(data)
        if image is None or (sop_uid is not None and sop_uid != image.sop_uid):
            logger.warning(
                "an object of %d bytes was not taken: no CT image, or not the one that was announced", len(data)
            )
            return self._count(Received(NOT_TAKEN), 0)
        key = key_of(image.study_uid, image.series_uid)
        try:
            with self._lock_of(key):
                if self._ledger.has_image(image.study_uid, image.series_uid, image.sop_uid):
                    return self._count(Received(SUCCESS, key, image.sop_uid), len(data))
                if shutil.disk_usage(self.spool).free < self._least_free + len(data):
                    raise OSError(f"less than {self._least_free >> 20} MiB would be left")
                path = self._store(key, image.sop_uid, data)
                is_new = self._note(image, path, len(data), unreleased=unreleased)
        except Exception as error:  # of the disk, or of the database on it; the sender keeps the image and tries again
            logger.error("an image of series %s cannot be kept: %s", image.series_uid, type(error).__name__)
            return self._count(Received(DISK_TROUBLE, key, image.sop_uid), 0)
        return self._count(Received(SUCCESS, key, image.sop_uid, is_new), len(data))

    def recover(self) -> tuple[int, int]:
        """Clear up after a node that died.

        Returns
        -------
        tuple[int, int]
            How many half-written files were cleared away, and how many whole ones were noted late.
        """
        cleared = noted = 0
        for folder in self.spool.glob(f"*{GONE}"):  # deleted in part, or not even noted as deleted
            key = folder.name.removesuffix(GONE)
            if self._ledger.paths(key) and not (self.spool / key).exists():
                os.replace(folder, self.spool / key)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        for path in sorted(self.spool.glob("*/*")):
            if path.suffix == ".part":
                path.unlink(missing_ok=True)
                cleared += 1
            elif path.suffix == ".dcm" and not self._ledger.has_path(self._place(path)):
                image = _Image.read(path.read_bytes())
                if image is None:
                    continue
                self._note(image, path, path.stat().st_size, unreleased=True)
                noted += 1
        return cleared, noted

    def remove(self, row: SeriesRow, state: Phase, *, code: str = "", text: str = "") -> bool:
        """Delete the images of a series.

        Parameters
        ----------
        row
            As it was when that was decided.
        state, code, text
            Where the series stands then.

        Returns
        -------
        bool
            False where an image came meanwhile, or the disk refuses; all of them stay.
        """
        folder, gone = self.spool / row.key, self.spool / f"{row.key}{GONE}"
        with self._lock_of(row.key):
            try:
                shutil.rmtree(gone, ignore_errors=True)
                if folder.exists():
                    os.replace(folder, gone)
                if not self._ledger.forget_images(row, state, code=code, text=text):
                    if gone.exists():
                        os.replace(gone, folder)
                    return False
            except OSError as error:
                logger.error("images of series %s cannot be deleted: %s", row.series_uid, type(error).__name__)
                return False
            shutil.rmtree(gone, ignore_errors=True)
        return True

    def files(self, key: str) -> list[Path]:
        """The images of a series."""
        return [self.spool / place for place in self._ledger.paths(key)]

    def _lock_of(self, key: str) -> threading.Lock:
        return self._of_series[int(key[:8], 16) % LOCKS]

    def _store(self, key: str, sop_uid: str, data: bytes) -> Path:
        folder = self.spool / key
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER, exist_ok=True)
            sync_folder(self.spool)
        path = folder / f"{hashlib.sha256(sop_uid.encode()).hexdigest()[:32]}.dcm"
        part = folder / f"{path.stem}-{threading.get_ident()}.part"
        try:
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(folder)
        return path

    def _note(self, image: _Image, path: Path, size: int, *, unreleased: bool) -> bool:
        return self._ledger.add_image(
            image.study_uid, image.series_uid, image.sop_uid, self._place(path), size,
            now=self._clock(), unfit=image.unfit, hinted=image.hinted, unreleased=unreleased,
        )  # fmt: skip

    def _place(self, path: Path) -> str:
        return path.relative_to(self.spool).as_posix()

    def _count(self, received: Received, size: int) -> Received:
        with self._counting:
            self.received += received.is_new
            self.duplicates += received.status == SUCCESS and not received.is_new
            self.not_taken += received.status == NOT_TAKEN
            self.disk_troubles += received.status == DISK_TROUBLE
            self.received_bytes += size
        return received


@dataclass(frozen=True)
class _Image:
    study_uid: str
    series_uid: str
    sop_uid: str
    unfit: str
    hinted: int | None

    @classmethod
    def read(cls, data: bytes) -> _Image | None:
        """What the node needs of a header; None where it is no CT image with UIDs."""
        try:
            header = dcmread(BytesIO(data), specific_tags=list(HEADER), stop_before_pixels=True)
            uids = [str(header[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
            kind = str(header.SOPClassUID)
            image_type = header.get("ImageType") or [""]
            first = image_type if isinstance(image_type, str) else str(image_type[0])
            unfit = unfit_for_scoring(str(header.get("Modality") or ""), first, str(header.get("Manufacturer") or ""))
            count, frames = header.get("ImagesInAcquisition"), header.get("NumberOfFrames")
        except (InvalidDicomError, AttributeError, KeyError, ValueError, EOFError, NotImplementedError, TypeError):
            return None
        if kind not in CT_CLASSES or not all(map(is_uid, uids)):
            return None
        hinted = None if frames else count_of(count) or None
        return cls(uids[0], uids[1], uids[2], unfit, hinted)
