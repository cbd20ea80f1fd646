"""What a running Slicer gives a module, over the real MRML scene of slicer-core: scene, logics, app, own stand-ins.

Each stand-in takes what Slicer's releases take, and nothing else (`slicer_facts`). Nothing here is Slicer's code:
`slicer.ScriptedLoadableModule`, `slicer.i18n` and `SampleData` are a few own lines with the same names; the scene, its
nodes, the segmentation, the segment editor's logic and the slice views' events are Slicer's own C++.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from installed import need

need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

import slicer  # noqa: E402
import slicer.util  # noqa: E402
import vtk  # noqa: E402
from desktop import qt_layer, slice_view  # noqa: E402
from desktop.dicom_database import DicomDatabase, load_series_by_uid  # noqa: E402
from desktop.slicer_facts import conforming  # noqa: E402

MODULE_FOLDER = Path(__file__).resolve().parents[2]

REAL = {
    name: getattr(slicer.util, name)
    for name in ("addVolumeFromArray", "childWidgetVariables", "getNodesByClass", "loadUI", "setSliceViewerLayers")
}
"""Slicer's own functions, which run here as they are."""


class App:
    """slicer.app, as far as the module knows it."""

    applicationVersion = "5.12.4-stand-in"
    majorVersion, minorVersion = 5, 12
    revision = "0"
    os = "linux"

    def __init__(self, application_logic: Any, folder: Path) -> None:
        self._logic = application_logic
        self._folder = folder
        self.temporaryPath = str(folder / "temporary")
        self.defaultScenePath = str(folder / "scenes")
        for path in (self.temporaryPath, self.defaultScenePath):
            Path(path).mkdir(parents=True, exist_ok=True)
        self.slots: dict[str, list[Callable[[], None]]] = {}
        self.slice_widgets: dict[str, Any] = {}
        self.layout_logic: Any = None
        self._layouts = LayoutManager(self)
        self.clipped = ""

    def applicationLogic(self) -> Any:
        return self._logic

    def connect(self, signal: str, slot: Callable[[], None]) -> None:
        assert signal in ("aboutToQuit()", "startupCompleted()"), signal
        self.slots.setdefault(signal, []).append(slot)

    def disconnect(self, signal: str, slot: Callable[[], None]) -> None:
        self.slots[signal].remove(slot)

    def emit(self, signal: str) -> None:
        for slot in list(self.slots.get(signal, [])):
            slot()

    def processEvents(self, *flags: Any) -> None:
        import qt

        qt.QApplication.processEvents(*flags)

    def layoutManager(self) -> LayoutManager:
        return self._layouts

    def clipboard(self) -> Any:
        return SimpleNamespace(setText=lambda text: setattr(self, "clipped", text))

    def userSettings(self) -> Any:
        import qt

        return qt.QSettings(str(self._folder / "settings.ini"), qt.QSettings.IniFormat)


class LayoutManager:
    """The slice views of the layout that is shown, and word of another layout."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._slots: list[Callable[..., None]] = []

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._app.slice_widgets)

    def sliceWidget(self, name: str) -> Any:
        return self._app.slice_widgets[name]

    def connect(self, signal: str, slot: Callable[..., None]) -> None:
        assert signal == "layoutChanged(int)", signal
        self._slots.append(slot)

    def disconnect(self, signal: str, slot: Callable[..., None]) -> None:
        assert signal == "layoutChanged(int)", signal
        self._slots.remove(slot)

    def mrmlSliceLogics(self) -> Any:
        return self._app.applicationLogic().GetSliceLogics()

    def layoutLogic(self) -> Any:
        return self._app.layout_logic

    def setLayout(self, layout: int) -> None:
        """Slicer's own logic reads the description and makes the nodes; each slice node gets a view."""
        self._app.layout_logic.GetLayoutNode().SetViewArrangement(layout)
        nodes = self._app.layout_logic.GetViewNodes()
        shown = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
        names = [node.GetLayoutName() for node in shown if node.IsA("vtkMRMLSliceNode")]
        kept = self._app.slice_widgets
        self._app.slice_widgets = {name: kept.get(name) or slice_view.slice_view(name) for name in names}
        self.show()

    def show(self, **views: Any) -> None:
        """Another layout, with these views in addition."""
        self._app.slice_widgets.update(views)
        for slot in list(self._slots):
            slot(0)


class Dialogs:
    """The boxes that a user would have seen, in order."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.formats: list[Any] = []
        self.answer = True

    def box(self, text: str, parent: Any = None, **properties: Any) -> Any:
        """What was pressed, as a box tells it; Cancel is a number that is true."""
        import qt

        self.shown.append(text)
        self.formats.append(properties.get("textFormat"))
        return qt.QMessageBox.Ok if self.answer else qt.QMessageBox.Cancel


class Packaging:
    """slicer.packaging: asks for consent, then installs, by a function of the test's."""

    def __init__(self, dialogs: Dialogs) -> None:
        self.dialogs = dialogs
        self.asked: list[list[str]] = []

    def install(self, names: list[str]) -> None:
        raise AssertionError(f"a test installs nothing, and not {names}")

    def ensure(self, requirements: Any, requester: str | None = None, **_: Any) -> None:
        names = [requirements] if isinstance(requirements, str) else list(requirements)
        self.asked.append(names)
        self.dialogs.box(f"{requester}: {len(names)} Python packages need to be installed.")
        if not self.dialogs.answer:
            raise RuntimeError("User declined package installation")
        self.install(names)


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, name: str) -> str:
        return str(MODULE_FOLDER / "Resources" / name)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        from desktop.widgets import qMRMLWidget
        from PySide6.QtWidgets import QVBoxLayout

        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent or qMRMLWidget()
        if parent is None:
            self.parent.setLayout(QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        self.layout = self.parent.layout()

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def onReload(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        return str(MODULE_FOLDER / "Resources" / name)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest:
    def delayDisplay(self, message: str, msec: int = 0) -> None:
        pass


class SampleDataSource:
    """One entry; as the real one, it counts its addresses (SampleData.py:205)."""

    def __init__(self, sampleName: str | None = None, uris: Any = None, **fields: Any) -> None:
        self.sampleName = sampleName
        self.uris = [uris] if isinstance(uris, str) else uris
        self.count = len(self.uris)
        self.__dict__.update(fields)


def _register_source(category: str = "Custom", **fields: Any) -> None:
    slicer.modules.sampleDataSources.setdefault(category, []).append(SampleDataSource(**fields))


def _register_category(category: str, title: str) -> None:
    SampleDataLogic.categories[category] = title


class SampleDataLogic:
    categories: dict[str, str] = {}  # noqa: RUF012
    registerCustomSampleDataCategory = staticmethod(
        conforming("SampleData.SampleDataLogic.registerCustomSampleDataCategory", _register_category)
    )
    registerCustomSampleDataSource = staticmethod(
        conforming("SampleData.SampleDataLogic.registerCustomSampleDataSource", _register_source)
    )


def boot(folder: Path) -> None:
    """Make the scene and what stands around it; once in a process.

    Parameters
    ----------
    folder : for what Slicer would keep in the user's folders
    """
    qt = qt_layer.install()
    from desktop import widgets

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if qt.QApplication.instance() is None:
        boot.application = qt.QApplication(["heartlens-tests"])  # type: ignore[attr-defined]
    qt.QUiLoader = widgets.SlicerUiLoader
    _module("ctk", ctkCollapsibleButton=widgets.ctkCollapsibleButton, ctkPathLineEdit=widgets.ctkPathLineEdit)
    _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    _module(
        "slicer.ScriptedLoadableModule",
        **{
            kind.__name__: kind
            for kind in (
                ScriptedLoadableModule,
                ScriptedLoadableModuleWidget,
                ScriptedLoadableModuleLogic,
                ScriptedLoadableModuleTest,
            )
        },
    )
    _module("SampleData", SampleDataLogic=SampleDataLogic)
    load = conforming("DICOMLib.DICOMUtils.loadSeriesByUID", load_series_by_uid)
    _module("DICOMLib.DICOMUtils", loadSeriesByUID=load)
    _module("DICOMLib", DICOMUtils=sys.modules["DICOMLib.DICOMUtils"])
    _boot_scene(folder)
    slicer.qMRMLSegmentEditorWidget = widgets.qMRMLSegmentEditorWidget


def load_module() -> Any:
    """HeartLensCAC.py, read from its path as Slicer's module factory does."""
    if "HeartLensCACModule" not in sys.modules:
        spec = importlib.util.spec_from_file_location("HeartLensCACModule", MODULE_FOLDER / "HeartLensCAC.py")
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules["HeartLensCACModule"] = module
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    return sys.modules["HeartLensCACModule"]


def fresh_dialogs() -> Dialogs:
    dialogs = Dialogs()
    for name, call in {
        "messageBox": dialogs.box,
        "mainWindow": lambda: None,
        "setSliceViewerLayers": REAL["setSliceViewerLayers"],
        "addVolumeFromArray": REAL["addVolumeFromArray"],
        "getNodesByClass": REAL["getNodesByClass"],
        "loadUI": REAL["loadUI"],
        "childWidgetVariables": REAL["childWidgetVariables"],
        "WaitCursor": lambda show=True: nullcontext(),
        "showStatusMessage": lambda message, duration=0: True,
    }.items():
        setattr(slicer.util, name, conforming(f"slicer.util.{name}", call))
    packaging = Packaging(dialogs)
    _module("slicer.packaging", pip_ensure=conforming("slicer.packaging.pip_ensure", packaging.ensure))
    slicer.packaging = sys.modules["slicer.packaging"]
    dialogs.packaging = packaging  # type: ignore[attr-defined]
    return dialogs


def _module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(content, __all__=list(content))
    sys.modules[name] = module


def _boot_scene(folder: Path) -> None:
    scene = slicer.vtkMRMLScene()
    app = slicer.vtkSlicerApplicationLogic()
    app.SetMRMLScene(scene)
    app.GetColorLogic().SetMRMLScene(scene)
    app.GetColorLogic().AddDefaultColorNodes()
    app.SetSliceLogics(vtk.vtkCollection())
    app.SetViewLogics(vtk.vtkCollection())
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(folder))
    cache.SetMRMLScene(scene)
    io = slicer.vtkDataIOManager()
    io.SetCacheManager(cache)
    scene.SetDataIOManager(io)
    scene.SetCacheManager(cache)
    app.SetModuleLogic("Colors", app.GetColorLogic())
    modules = SimpleNamespace(colors=SimpleNamespace(logic=app.GetColorLogic))
    for name, logic in (
        ("Volumes", slicer.vtkSlicerVolumesLogic()),
        ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic()),
        ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic()),
        ("Terminologies", slicer.vtkSlicerTerminologiesModuleLogic()),
        ("Markups", slicer.vtkSlicerMarkupsLogic()),
        ("Tables", slicer.vtkSlicerTablesLogic()),
        ("Plots", slicer.vtkSlicerPlotsLogic()),
    ):
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(app)
        app.SetModuleLogic(name, logic)
        setattr(modules, name.lower(), SimpleNamespace(logic=lambda logic=logic: logic))
    editor_logic = slicer.vtkSlicerSegmentEditorLogic()  # registers the node class with the scene
    editor_logic.SetMRMLScene(scene)
    modules.heartlenscac = SimpleNamespace(path=str(MODULE_FOLDER / "HeartLensCAC.py"))
    modules.sampleDataSources = {}
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slice_view.add_singletons(scene)
    slicer.mrmlScene, slicer.modules = scene, modules
    slicer.app = App(app, folder)
    slicer.app.layout_logic = slicer.vtkMRMLLayoutLogic()
    slicer.app.layout_logic.SetMRMLScene(scene)
    slicer.dicomDatabase = DicomDatabase()
    boot.kept = (cache, io, editor_logic)  # type: ignore[attr-defined]  # or they are freed under the scene
