"""A chest of a few thousand voxels as a DICOM series with a case of it, its answers worked out by hand, and the server
that shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import small_chest
from dicom_builder import write_ct_series
from numpy.typing import NDArray
from plain_scoring import plain_score

from heartlens.case.case import Case
from heartlens.case.folder import save_case
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionMap, LesionNote
from heartlens.core.protocol import ScoringProtocol
from heartlens.core.provenance import LabelSource, Provenance
from heartlens.dicom.read import read_series
from heartlens.dicom.series import find_series

LAD, RCA = 1, 2
"""Ids of the two lesions: 900 by hand (`small_chest.AGATSTON`), and 1800, which nobody has decided."""

FREE = (slice(12, 14), slice(14, 17), slice(12, 15))
"""Calcium of 300 HU that no lesion has: 2 slices x 9 pixels x 25 mm2 x weight 3 are 1350."""

NAME = "<script>alert(1)</script>^Ann"
"""Of a patient; on a page it is a name and nothing else."""

LIMIT_SECONDS = 180


def hu() -> NDArray[np.int16]:
    """(k, j, i): the small chest with calcium that was missed."""
    image = small_chest.hu()
    image[FREE] = 300
    return image


def other_hu() -> NDArray[np.int16]:
    """(k, j, i): another person's chest: 350 HU in the LAD, by hand 2 x 9 x 25 x 3 = 1350, and 250 in the RCA, 900."""
    image = hu()
    for artery, value in ((Artery.LAD, 350), (Artery.RCA, 250)):
        image[small_chest.PLAQUES[artery][:3]] = value
    return image


def write_case(place: Path, *, is_empty: bool = False, image: NDArray[np.int16] | None = None, **tags: Any) -> Path:
    """The series and its case; returns the case folder.

    Parameters
    ----------
    place : folder to make
    is_empty : the networks have found nothing
    image : HU of the scan; None is `hu`
    tags : of the series, beside those that all have
    """
    tags = {"ReconstructionDiameter": 200.0, "PatientName": NAME, "PatientID": "P1", "InstanceNumber": None, **tags}
    write_ct_series(
        place / "ct", hu() if image is None else image, spacing_mm=small_chest.SPACING_MM,
        corner_lps_mm=small_chest.CORNER_MM, **{**tags, "PatientWeight": 80.0, "PatientSize": 1.8},
    )  # fmt: skip
    ct = read_series(find_series([place / "ct"])[0])[0]
    labels = np.zeros(ct.shape, np.uint16)
    if not is_empty:
        for number, artery in ((LAD, Artery.LAD), (RCA, Artery.RCA)):
            labels[small_chest.PLAQUES[artery][:3]] = number
    notes = {LAD: LesionNote(0.98, LabelSource.NETWORK), RCA: LesionNote(0.6, LabelSource.NETWORK, undecided=True)}
    arteries = {} if is_empty else {LAD: Artery.LAD, RCA: Artery.RCA}
    case = Case.of(
        ct,
        LesionMap(labels, arteries, {} if is_empty else notes),
        ScoringProtocol(),
        cautions=(WarningRecord("network", "calcium was found and named by networks, not by a reader"),),
        provenance=Provenance(LabelSource.NETWORK, source=(str(place / "ct"),)),
    )
    (place / "result").mkdir()
    save_case(case, place / "result" / "case")
    return place / "result" / "case"


def scored_plainly(labels: NDArray[np.uint8], image: NDArray[np.int16] | None = None) -> dict[str, float]:
    """Agatston per artery of labeled voxels of the chest, by a scorer that shares no code with ours."""
    scan = hu() if image is None else image
    out, *_ = plain_score(
        scan.tolist(), labels.tolist(), pixel_area=25.0, increment=3.0, edges=(130, 200, 300, 400), min_area=1.0,
        min_pixels=1, connectivity=4, k_factor=1.0, mass_factor=0.0,
    )  # fmt: skip
    return {artery.name: out[artery]["agatston"] for artery in Artery}


def labels_of_state(state: dict[str, Any]) -> NDArray[np.uint8]:
    """Artery codes of the voxels that a page draws."""
    codes = np.zeros(hu().size, np.uint8)
    runs = state["runs"]
    for start, length, lesion in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        codes[start : start + length] = Artery[state["arteries"][str(lesion)]]
    return codes.reshape(hu().shape)


def labels_of_seg(path: Path) -> NDArray[np.uint8]:
    """Artery codes of a DICOM SEG of the chest, read without our own reader."""
    seg = pydicom.dcmread(path)
    names = {int(s.SegmentNumber): s.SegmentLabel for s in seg.SegmentSequence}
    codes = np.zeros(hu().shape, np.uint8)
    frames = seg.pixel_array.reshape(-1, *hu().shape[1:])
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        z = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        k = round((z - small_chest.CORNER_MM[2]) / small_chest.SPACING_MM[0])
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        codes[k][frame > 0] = Artery[names[number]]
    return codes


class Server:
    """`heartlens review` in a process of its own, as a reader starts it.

    Parameters
    ----------
    arguments : of the command, after its name
    command : its name
    """

    def __init__(self, *arguments: str | Path, command: Sequence[str] = ("review",)) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "heartlens", *command, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        line = self.process.stdout.readline()
        assert line.startswith("Review: http://127.0.0.1:"), line + self.process.stderr.read()
        self.address = line.split()[1]
        self.base, self.token = self.address.split("#")

    def ask(
        self, path: str, words: Any = None, *, method: str | None = None, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        """Status, what came (JSON read) and headers of one request; `X_HeartLens_Token="…"` replaces the token."""
        sent = {"X-HeartLens-Token": self.token} | {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if body is not None else None if words is None else json.dumps(words).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
                status, content, found = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, content, found = error.code, error.read(), error.headers
            error.close()
        is_json = found.get_content_type() == "application/json"
        return status, json.loads(content) if is_json else content, found

    def state(self) -> dict[str, Any]:
        return self.ask("api/cases/0/state")[1]

    def edit(self, **words: Any) -> tuple[int, Any]:
        """One edit of the present state."""
        return self.ask("api/cases/0/edit", {"version": self.state()["version"], **words})[:2]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT_SECONDS)

    def stop(self) -> tuple[int, str]:
        """Exit code and stderr after Ctrl-C."""
        self.process.send_signal(2)
        _, log = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, log

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.stdout.close()
        self.process.stderr.close()
