"""What a running Slicer gives a module, over the real MRML scene of slicer-core: scene, logics, app, own stand-ins.

Nothing here is Slicer's code. `slicer.ScriptedLoadableModule`, `slicer.i18n` and `SampleData` are a few own lines
with the same names; the scene, its nodes, the segmentation and the segment editor's logic are Slicer's own C++.
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
from desktop import qt_layer  # noqa: E402

MODULE_FOLDER = Path(__file__).resolve().parents[2]


class App:
    """slicer.app, as far as the module knows it."""

    applicationVersion = "5.12.4-stand-in"
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
        self._layouts = LayoutManager(self)
        self.clipped = ""

    def applicationLogic(self) -> Any:
        return self._logic

    def testingEnabled(self) -> bool:
        return True

    def connect(self, signal: str, slot: Callable[[], None]) -> None:
        assert signal in ("aboutToQuit()", "startupCompleted()"), signal
        self.slots.setdefault(signal, []).append(slot)

    def disconnect(self, signal: str, slot: Callable[[], None]) -> None:
        self.slots[signal].remove(slot)

    def emit(self, signal: str) -> None:
        for slot in list(self.slots.get(signal, [])):
            slot()

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

    def show(self, **views: SliceView) -> None:
        """Another layout, with these views in addition."""
        self._app.slice_widgets.update(views)
        for slot in list(self._slots):
            slot(0)


class SliceView:
    """A slice view without a window: the real slice node, and an interactor that takes events."""

    def __init__(self, name: str) -> None:
        node = slicer.vtkMRMLSliceNode()
        node.SetLayoutName(name)
        node.SetSingletonTag(name)  # a closed scene keeps it, as in Slicer
        self.node = slicer.mrmlScene.AddNode(node)
        self.node.SetOrientation("Axial")
        self.node.SetDimensions(400, 400, 1)
        self.node.SetFieldOfView(200, 200, 1)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()

    def sliceView(self) -> SliceView:
        return self

    def interactor(self) -> Any:
        return self._interactor

    def mrmlSliceNode(self) -> Any:
        return self.node

    def click(self, x: int, y: int, *, ctrl: bool = False, drag_to: tuple[int, int] | None = None) -> None:
        self._interactor.SetEventInformation(x, y, int(ctrl), 0)
        self._interactor.InvokeEvent("LeftButtonPressEvent")
        if drag_to is not None:
            self._interactor.SetEventInformation(*drag_to, int(ctrl), 0)
        self._interactor.InvokeEvent("LeftButtonReleaseEvent")


class Dialogs:
    """The boxes that a user would have seen, in order."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.formats: list[Any] = []
        self.answer = True

    def tell(self, text: str, *_: Any, **properties: Any) -> None:
        self.shown.append(text)
        self.formats.append(properties.get("textFormat"))

    def ask(self, text: str, *_: Any, **properties: Any) -> bool:
        self.tell(text, **properties)
        return self.answer


class DicomDatabase:
    """slicer.dicomDatabase: where the file of an instance lies."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.isOpen = True

    def fileForInstance(self, uid: str) -> str:
        return self.files.get(uid, "")


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


class SampleDataLogic:
    sources: list[dict[str, Any]] = []  # noqa: RUF012
    categories: dict[str, str] = {}  # noqa: RUF012

    @staticmethod
    def registerCustomSampleDataCategory(name: str, title: str) -> None:
        SampleDataLogic.categories[name] = title

    @staticmethod
    def registerCustomSampleDataSource(**source: Any) -> None:
        SampleDataLogic.sources.append(source)


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
    slicer.util.errorDisplay = slicer.util.warningDisplay = slicer.util.infoDisplay = dialogs.tell
    slicer.util.confirmOkCancelDisplay = slicer.util.confirmYesNoDisplay = dialogs.ask
    slicer.util.mainWindow = lambda verbose=True: None
    slicer.util.setSliceViewerLayers = lambda **layers: None
    slicer.util.WaitCursor = lambda show=True: nullcontext()
    slicer.util.showStatusMessage = lambda text, msec=0: None
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
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slicer.mrmlScene, slicer.modules = scene, modules
    slicer.app = App(app, folder)
    slicer.dicomDatabase = DicomDatabase()
    boot.kept = (cache, io, editor_logic)  # type: ignore[attr-defined]  # or they are freed under the scene
