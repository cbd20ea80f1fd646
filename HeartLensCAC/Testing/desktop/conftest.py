"""The module in a window without a screen, over a real scene."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from installed import need

PINNED = "pip install -r HeartLensCAC/Resources/requirements-slicer.txt"

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def slicer_running(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Scene, logics, application and widgets, once in a process."""
    need("PySide6", PINNED)
    need("slicer", PINNED)
    from desktop import slicer_app

    slicer_app.boot(tmp_path_factory.mktemp("slicer"))


@pytest.fixture(scope="session")
def phantom_ct(slicer_running: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom as DICOM: 192 x 192 x 42, seven plaques in LAD, LCX and RCA."""
    from heartlens.phantom import PhantomParameters, make_phantom
    from heartlens.phantom.files import write_phantom
    from HeartLensCACLib import SampleCT

    folder = tmp_path_factory.mktemp("phantom") / "made"
    phantom = make_phantom(PhantomParameters.random(7, **{**SampleCT.SETTINGS, "matrix": 192}))
    write_phantom(folder, phantom, format="dicom")
    return folder / "ct"


@pytest.fixture(scope="session")
def scored_once(phantom_ct: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's result folder, as the worker leaves it."""
    from heartlens.pipeline import Request, score_series
    from heartlens.report.outputs import write_outputs

    out = tmp_path_factory.mktemp("scored") / "result"
    write_outputs(score_series(sorted(phantom_ct.iterdir()), Request(bundle="none")), out)
    return out


@pytest.fixture
def scored_case(scored_once: Path, tmp_path: Path) -> Path:
    """A result folder of one's own, to open and to edit."""
    return Path(shutil.copytree(scored_once, tmp_path / "scored"))


@pytest.fixture
def module(slicer_running: None, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The module as a user has it open: `widget`, `panel`, `ui`, `dialogs`, `wait(until)`, `load(folder)`."""
    import qt
    import slicer
    from desktop import qt_layer, slicer_app
    from desktop.dicom_database import DicomDatabase
    from desktop.slice_view import slice_view

    dialogs = slicer_app.fresh_dialogs()
    slicer.mrmlScene.Clear()
    slicer.app.userSettings().clear()
    slicer.app.slice_widgets = {name: slice_view(name) for name in ("Red", "Green", "Yellow")}
    slicer.app.slots.clear()
    slicer.dicomDatabase = DicomDatabase()
    widget = slicer_app.load_module().HeartLensCACWidget()
    widget.setup()
    widget.ui.casesPathEdit.currentPath = str(tmp_path / "cases")
    widget.parent.resize(560, 1500)
    widget.parent.show()
    widget.enter()
    yield SimpleNamespace(
        widget=widget,
        panel=widget.panel,
        ui=widget.ui,
        dialogs=dialogs,
        wait=_wait,
        load=_load,
        cases=tmp_path / "cases",
        views=slicer.app.slice_widgets,
    )
    for view in slicer.app.slice_widgets.values():
        view.leave()  # the crosshair outlives the scene, and a key would mean what the mouse of this test rests on
    widget.cleanup()
    widget.uiWidget.setMRMLScene(None)
    widget.parent.hide()
    widget.parent.deleteLater()
    qt.QApplication.processEvents()
    slicer.mrmlScene.Clear()
    raised, qt_layer.raised_in_slots[:] = list(qt_layer.raised_in_slots), []
    if raised:
        raise raised[0]
    assert not processes_left(), "a worker was left behind"


@pytest.fixture
def reader(module: SimpleNamespace, phantom_ct: Path) -> Any:
    """A `desktop.reader.Reader` before a scan that has not been scored."""
    from desktop.reader import Reader

    return Reader(module, phantom_ct)


@pytest.fixture
def reading(reader: Any, scored_case: Path) -> Any:
    """The reader with the scored case open."""
    reader.open_case(scored_case)
    return reader


def processes_left() -> list[int]:
    """Workers that this process started and that still run."""
    left = []
    for entry in Path("/proc").glob("[0-9]*") if sys.platform == "linux" else ():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"heartlens" in command and b"worker" in command:
            left.append(int(entry.name))
    return left


def _wait(until: Callable[[], Any], seconds: float = 60) -> None:
    """Let Qt work until something is true; the time is a safeguard against a test that never ends."""
    import qt
    from desktop import qt_layer

    end = time.monotonic() + seconds
    while not until():
        qt.QApplication.processEvents(qt.QEventLoop.AllEvents, 20)
        if qt_layer.raised_in_slots:
            raise qt_layer.raised_in_slots.pop(0)
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def _load(folder: Path) -> Any:
    from heartlens.core.errors import OVERRIDABLE
    from HeartLensCACLib import SampleCT

    return SampleCT.loadSeries(folder, name="CT", allow=OVERRIDABLE)  # as Slicer, which loads anything
