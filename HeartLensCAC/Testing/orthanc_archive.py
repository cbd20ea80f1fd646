"""A real Orthanc for tests: DICOMweb, DIMSE and REST, in a network of its own.

Orthanc 1.10 listens on every address, so whatever starts one runs in a network namespace that reaches nothing: `alone`
is the command that makes it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE

HTTP, DIMSE = 18042, 14242
NODE, MOVE = 11112, 11114
WEB = f"http://127.0.0.1:{HTTP}"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TRIES, PAUSE_S = 240, 0.25

PROFILES = f"""
[web]
kind = "dicomweb"
url = "{WEB}/dicom-web"
timeout_s = 5

[old]
kind = "dimse"
host = "127.0.0.1"
port = {DIMSE}
ae = "ARCHIVE"
receive_port = {MOVE}
timeout_s = 5

[nobody]
kind = "dimse"
host = "127.0.0.1"
port = 9
ae = "NOBODY"
timeout_s = 2
"""


def program() -> str | None:
    """Where Orthanc is."""
    return shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")


def missing() -> str:
    """What is not installed here."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    what = [name for name in ("unshare", "ip", "openssl") if shutil.which(name, path=path) is None]
    what += [] if program() else ["orthanc"]
    what += [] if PLUGIN.exists() else ["orthanc-dicomweb"]
    return ", ".join(what)


def alone(*more: str) -> list[str]:
    """A command before another one that leaves it no network but its own; empty where the system gives none."""
    for words in (["unshare", "--net", *more], ["unshare", "--net", *more, "--user", "--map-root-user"]):
        command = [*words, "sh", "-c", 'PATH="$PATH:/usr/sbin:/sbin" ip link set lo up && exec "$@"', "sh"]
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False, timeout=30).returncode == 0:
                return command
        except OSError:
            continue
    return []


def run_alone(stories: Path, basetemp: Path, *, limit_s: float) -> None:
    """Run tests where no network is but their own; what is missing here, and what went wrong, is said."""
    import pytest  # here, because a viewer's gateway needs the rest of this file and no tests
    from conftest import REPOSITORY, skip_or_fail

    if what := missing():
        skip_or_fail(f"the stories with an archive need {what}")
    command = alone("--mount")
    if not command:
        # Not skip_or_fail: what a machine's kernel forbids, no installation mends, and Orthanc listens to everybody.
        pytest.skip("no network of one's own can be made here: needs Linux that allows unshare --net")
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-s", "--durations=0", "--tb=short"]
    # pynetdicom leaves a socket to the garbage collector where nobody answers.
    arguments += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning", "-W", "ignore::ResourceWarning"]
    arguments += [f"--basetemp={basetemp}", str(stories)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [*command, sys.executable, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True,
        check=False, timeout=limit_s,
    )  # fmt: skip
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-3000:]


class Orthanc:
    """One archive in a folder; it can be ended, stopped for a while and started again.

    Parameters
    ----------
    folder : for its files
    settings : of its configuration, where they differ
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        config = {
            "Name": "archive", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
            "HttpPort": HTTP, "RemoteAccessAllowed": True, "AuthenticationEnabled": False, "DicomPort": DIMSE,
            "DicomAet": "ARCHIVE", "DicomModalities": {"us": ["HEARTLENS", "127.0.0.1", MOVE]}, "StableAge": 1,
            "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **settings,
        }  # fmt: skip
        (folder / "orthanc.json").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Ready when this returns."""
        with (self.folder / "orthanc.log").open("ab") as log:
            command = [program() or "Orthanc", str(self.folder / "orthanc.json")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(TRIES):
            try:
                self.get("/system")
                return
            except OSError:
                time.sleep(PAUSE_S)
        raise TimeoutError("Orthanc does not answer")

    def end(self) -> None:
        """As by its administrator."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def freeze(self) -> None:
        """It accepts connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def get(self, place: str) -> Any:
        """What the REST API answers."""
        with urllib.request.urlopen(WEB + place, timeout=30) as answer:
            return json.loads(answer.read())

    def store(self, paths: Sequence[Path]) -> None:
        """Put files into the archive."""
        for path in paths:
            request = urllib.request.Request(f"{WEB}/instances", data=path.read_bytes(), method="POST")
            urllib.request.urlopen(request, timeout=60).close()

    def find(self, **tags: str) -> list[bytes]:
        """The files of all objects with these tags, oldest first."""
        query = json.dumps({"Level": "Instance", "Query": tags, "Expand": True}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{WEB}/tools/find", data=query), timeout=60) as answer:
            found = sorted(json.loads(answer.read()), key=lambda one: one["IndexInSeries"] or 0)
        files = []
        for one in found:
            with urllib.request.urlopen(f"{WEB}/instances/{one['ID']}/file", timeout=60) as answer:
                files.append(answer.read())
        return files

    def objects(self, study: str, modality: str) -> list[Dataset]:
        """The objects of a study of one modality."""
        return [dcmread(io.BytesIO(data)) for data in self.find(StudyInstanceUID=study, Modality=modality)]


def send(paths: Sequence[Path], *, port: int = NODE, ae: str = "HEARTLENS", breaks_off: bool = False) -> list[int]:
    """Send files as a scanner does.

    Returns
    -------
    the status of each; -1 where nothing came back
    """
    images = [dcmread(path) for path in paths]
    entity = AE(ae_title="CT1")
    entity.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=ae)
    assert association.is_established
    statuses = []
    for image in images:
        statuses.append(association.send_c_store(image).get("Status", -1) if association.is_established else -1)
    if breaks_off:
        association.abort()
    elif association.is_established:
        association.release()
    return statuses
