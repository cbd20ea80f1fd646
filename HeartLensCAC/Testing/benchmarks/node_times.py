"""What the node costs: receiving, and the way from the last image to the report in the archive.

Sender and archive are pynetdicom in this process, the node is a process of its own; all of it on this computer.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread

LIBRARY = Path(__file__).resolve().parents[2]
LEFT_OUT = "The node was left out: it needs pynetdicom; pip install 'heartlens[pacs]'"

QUIET_S = 2.0
LONGEST_S = 120.0
MEGABYTES = 100.0
SECONDS = 5.0
"""For so many megabytes: 20 MB/s."""

Row = tuple[str, float, float, str]


def can_run() -> bool:
    return importlib.util.find_spec("pynetdicom") is not None and importlib.util.find_spec("httpx") is not None


def node_times(series: Path, runs: int) -> list[Row]:
    """(what, measured, budget, unit) of each figure.

    Parameters
    ----------
    series
        A scan as DICOM; it is sent as another one each time.
    runs
        How often.
    """
    images = [dcmread(path) for path in sorted(series.iterdir())]
    bytes_sent = sum(path.stat().st_size for path in series.iterdir())
    receiving, scoring = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        _archive(len(images)) as (archive, stored),
        _node(Path(folder), archive) as port,
    ):
        for run in range(runs + 1):
            _rename(images, run)
            seconds = _send(images, port)
            last = time.perf_counter()
            if not stored.acquire(timeout=LONGEST_S):
                raise TimeoutError(f"no report after {LONGEST_S:.0f} s")
            receiving.append(seconds * MEGABYTES * 1e6 / bytes_sent)
            scoring.append(time.perf_counter() - last - QUIET_S)
    what = f"{len(images)} slices"
    return [
        (f"node: receiving {MEGABYTES:.0f} MB", statistics.median(receiving[1:]), SECONDS, "s"),
        (f"node: {what}, last image to stored SR, without quiet time", statistics.median(scoring[1:]), 15.0, "s"),
    ]


def _rename(images: list[Any], run: int) -> None:
    for number, image in enumerate(images):
        image.Manufacturer = "Bench"  # what HeartLens made, a node does not score
        image.StudyInstanceUID, image.SeriesInstanceUID = f"1.2.{run}", f"1.2.{run}.1"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.{run}.1.{number}"


def _send(images: list[Any], port: int) -> float:
    """Seconds from the first image to the end of the last."""
    from pynetdicom import AE

    entity = AE(ae_title="BENCH")
    entity.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="HEARTLENS")
    if not association.is_established:
        raise RuntimeError("the node does not answer")
    start = time.perf_counter()
    statuses = {association.send_c_store(image).get("Status") for image in images}
    seconds = time.perf_counter() - start
    association.release()
    if statuses != {0}:
        raise RuntimeError(f"the node answered {statuses}")
    return seconds


@contextmanager
def _archive(count: int) -> Iterator[tuple[int, threading.Semaphore]]:
    """An archive that says how many images a series has and forgets what it is sent: its port, and one for each SR."""
    from pydicom.dataset import Dataset
    from pydicom.uid import (
        Comprehensive3DSRStorage,
        EncapsulatedPDFStorage,
        SecondaryCaptureImageStorage,
        SegmentationStorage,
    )
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

    stored = threading.Semaphore(0)

    def find(event: Any) -> Iterator[tuple[int, Dataset]]:
        found = Dataset()
        found.QueryRetrieveLevel, found.Modality = "SERIES", "CT"
        found.SeriesInstanceUID = event.identifier.SeriesInstanceUID
        found.NumberOfSeriesRelatedInstances = count
        yield 0xFF00, found

    def store(event: Any) -> int:
        if event.request.AffectedSOPClassUID == Comprehensive3DSRStorage:
            stored.release()
        return 0

    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    for kind in (
        Comprehensive3DSRStorage, SegmentationStorage, SecondaryCaptureImageStorage, EncapsulatedPDFStorage,
    ):  # fmt: skip
        entity.add_supported_context(kind)
    handlers: list[Any] = [(evt.EVT_C_FIND, find), (evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1], stored
    finally:
        server.shutdown()


@contextmanager
def _node(folder: Path, archive: int) -> Iterator[int]:
    """The node as a process: its port."""
    (folder / "pacs.toml").write_text(
        f'[bench]\nkind = "dimse"\nhost = "127.0.0.1"\nport = {archive}\nae = "ARCHIVE"\ntimeout_s = 30\n'
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "heartlens", "node", "--home", str(folder / "home"), "--port", str(port)]
    command += ["--config", str(folder / "pacs.toml"), "--accept", "BENCH", "--send-to", "bench", "--bundle", "none"]
    command += ["--quiet", str(QUIET_S), "--status-port", "0", "--least-free-mb", "0"]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    try:
        if not process.stdout.readline().startswith(b"Node: "):
            raise RuntimeError("the node did not start")
        yield port
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
