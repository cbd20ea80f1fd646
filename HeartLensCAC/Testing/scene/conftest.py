"""A scene to put cases into, and a case whose numbers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartlens.calcium import extract_lesions
from heartlens.case.case import Case
from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol

AFFINE = np.array([[0.5, 0, 0, -60.0], [0, 0.625, 0, -180.0], [0, 0, 2.5, -700.25], [0, 0, 0, 1.0]])
"""Columns, rows and slices of three different lengths, so that no two axes can be confused."""


@pytest.fixture(autouse=True)
def no_errors(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Slicer's C++ says on stderr what it could not do, and goes on; here that is a failure."""
    yield
    output = capfd.readouterr().err
    assert "ERR|" not in output, output


@pytest.fixture
def headless(tmp_path: Path) -> Any:
    from headless_scene import HeadlessScene

    return HeadlessScene(tmp_path / "cache")


@pytest.fixture
def scene(headless: Any) -> Any:
    return headless.scene


def make_hu() -> np.ndarray:
    """12 slices of 40 x 48: air, soft tissue inside, and blocks of calcium; see `make_case`."""
    hu = np.full((12, 40, 48), -900, np.int16)
    hu[:, 4:36, 4:44] = 40
    hu[2:4, 8:12, 8:16] = 250  # LAD: 32 voxels on each of 2 slices, weight 2
    hu[6, 20:24, 20:24] = 450  # RCA: 16 voxels, weight 4
    hu[8, 28:32, 8:12] = 150  # nobody's yet: 16 voxels, weight 1
    hu[9, 20:24, 32:40] = 700  # OTHER
    return hu


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """`make_case(**changes)`: LAD 2 x 32 voxels at 250 HU, RCA 16 at 450 HU, 32 at 700 HU not coronary."""

    def make(
        *, hu: np.ndarray | None = None, affine: np.ndarray = AFFINE, from_dicom: bool = True, **changes: Any
    ) -> Case:
        hu = make_hu() if hu is None else hu
        codes = np.zeros(hu.shape, np.uint8)
        codes[2:4, 8:12, 8:16], codes[6, 20:24, 20:24], codes[9, 20:24, 32:40] = Artery.LAD, Artery.RCA, Artery.OTHER
        header = CTHeader(
            study_uid="2.25.1", series_uid="2.25.2", kvp=120.0, slice_thickness_mm=2.5,
            sop_instance_uids=tuple(f"2.25.3.{k}" for k in range(len(hu))) if from_dicom else (),
        )  # fmt: skip
        ct = CTVolume(hu, affine, header)
        protocol = ScoringProtocol(mass_factor_mg_per_mm3_hu=0.0008)
        flat = np.flatnonzero(codes)
        lesions = extract_lesions(ct, flat, codes.reshape(-1)[flat], protocol)
        return Case.of(**{"source_ct": ct, "auto": lesions, "protocol": protocol, **changes})

    return make


@pytest.fixture
def state_of() -> Callable[[Any], dict[str, Any]]:
    """`state_of(scene)`: what a refusal must leave alone: nodes, voxels, names, references."""

    def of(scene: Any) -> dict[str, Any]:
        from heartlens.scene.geometry import array_of
        from heartlens.scene.segmentation import BINARY

        state: dict[str, Any] = {}
        for n in range(scene.GetNumberOfNodes()):
            node = scene.GetNthNode(n)
            state[node.GetID()] = (node.GetName(), node.GetClassName())
            if node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is not None:
                state[node.GetID() + " voxels"] = array_of(node.GetImageData()).tobytes()
            if node.IsA("vtkMRMLSegmentationNode"):
                inside = node.GetSegmentation()
                for segment_id in inside.GetSegmentIDs():
                    segment = inside.GetSegment(segment_id)
                    image = segment.GetRepresentation(BINARY)
                    contents = (
                        segment.GetName(),
                        segment.GetLabelValue(),
                        image.GetExtent(),
                        array_of(image).tobytes(),
                    )
                    state[f"{node.GetID()} {segment_id}"] = contents
            if node.IsA("vtkMRMLTableNode"):
                rows, columns = node.GetNumberOfRows(), node.GetNumberOfColumns()
                state[node.GetID() + " cells"] = [node.GetCellText(r, c) for r in range(rows) for c in range(columns)]
        return state

    return of
