"""Own stand-ins for the widgets of CTK and Slicer that the panel's .ui names, over the real MRML scene.

Each holds the properties, methods and signals that the panel uses of the real one, and nothing else, so that a
misspelled name fails here as it would in Slicer. They draw plainly: pictures made with them show the panel's layout,
not Slicer's own widgets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from xml.etree import ElementTree

import slicer
import vtk
from desktop.brushes import EFFECTS, Effect, EffectViews
from desktop.slicer_facts import default, flags
from PySide6.QtCore import Property, QBuffer, QFile, Qt, Signal
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


class qMRMLWidget(QWidget):
    SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)"}
    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.__dict__["_scene"] = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")


class ctkCollapsibleButton(QWidget):
    """A titled section that folds; children are laid out by the .ui."""

    SIGNALS: ClassVar = {"contentsCollapsed(bool)"}
    contentsCollapsed = Signal(bool)
    TITLE_PX = 26

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = QToolButton(self)
        self._title.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        self._title.setStyleSheet("QToolButton { text-align: left; font-weight: bold; }")
        self._title.clicked.connect(lambda: self._write_collapsed(not self._collapsed))
        self._collapsed = False
        self._text = ""
        self.setContentsMargins(0, self.TITLE_PX, 0, 0)
        self._draw()

    def resizeEvent(self, event: Any) -> None:
        self._title.setGeometry(0, 0, self.width, self.TITLE_PX - 2)

    def setText(self, text: str) -> None:
        self._text = text
        self._draw()

    def _write_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        for child in self.children():
            if isinstance(child, QWidget) and child is not self._title:
                child.setVisible(not collapsed)
        self._draw()
        self.contentsCollapsed.emit(collapsed)

    def _draw(self) -> None:
        self._title.setText(self._text)
        self._title.setArrowType(Qt.RightArrow if self._collapsed else Qt.DownArrow)
        self.setMaximumHeight(self.TITLE_PX if self._collapsed else 16777215)

    def _read_text(self) -> str:
        return self._text

    def _read_collapsed(self) -> bool:
        return self._collapsed

    text = Property(str, _read_text, setText)
    collapsed = Property(bool, _read_collapsed, _write_collapsed)


class qMRMLSortFilterProxyModel:
    """What the selector of nodes leaves out."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._hidden: list[str] = []

    def _write(self, ids: list[str]) -> None:
        self._hidden = list(ids)
        self._changed()

    hiddenNodeIDs = property(lambda self: self._hidden, _write)  # no slot of that name


class qMRMLNodeComboBox(QComboBox):
    """Nodes of some classes in the scene, kept up to date by the scene's own events."""

    SIGNALS: ClassVar = {"currentNodeChanged(vtkMRMLNode*)"}
    currentNodeChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._types: list[str] = []
        self._scene: Any = None
        self._tags: list[int] = []
        self._none = False
        self._leaving = ""
        self._shown: Any = None
        self._children = default("qMRMLNodeComboBox.showChildNodeTypes") == "true"
        self._filter = qMRMLSortFilterProxyModel(self._fill)
        self.currentIndexChanged.connect(self._on_index)

    def setMRMLScene(self, scene: Any) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._tags = []
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.EndCloseEvent):
                self._tags.append(scene.AddObserver(event, self._on_scene))

            @vtk.calldata_type(vtk.VTK_OBJECT)
            def on_leaving(_caller: Any, _event: str, node: Any) -> None:
                self._leaving = node.GetID()
                self._fill()

            # Before the scene has removed it, as qMRMLSceneModel::onMRMLSceneNodeAboutToBeRemoved does.
            self._tags.append(scene.AddObserver(scene.NodeAboutToBeRemovedEvent, on_leaving))
        self._fill()

    def currentNode(self) -> Any:
        id_ = self.itemData(self.currentIndex)
        return self._scene.GetNodeByID(id_) if id_ and self._scene else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentIndex(self.findData(node.GetID()) if node is not None else (0 if self._none else -1))

    def _on_scene(self, *_: Any) -> None:
        self._leaving = ""
        self._fill()

    def _fill(self) -> None:
        kept = self.itemData(self.currentIndex)
        self.blockSignals(True)
        self.clear()
        if self._none:
            self.addItem("None", "")
        for kind in self._types if self._scene is not None else []:
            nodes = self._scene.GetNodesByClass(kind)
            nodes.UnRegister(None)
            for n in range(nodes.GetNumberOfItems()):
                node = nodes.GetItemAsObject(n)
                if node.GetHideFromEditors() or node.GetID() in (self._leaving, *self._filter.hiddenNodeIDs):
                    continue
                if self._children or node.GetClassName() == kind:
                    self.addItem(node.GetName(), node.GetID())
        index = self.findData(kept) if kept else -1
        self.setCurrentIndex(index if index >= 0 else 0 if self.count else -1)
        self.blockSignals(False)
        self._on_index()

    def _on_index(self, *_: Any) -> None:
        node = self.currentNode()
        if node is not self._shown:
            self._shown = node
            self.currentNodeChanged.emit(node)

    def _read_types(self) -> list[str]:
        return self._types

    def _write_node_types(self, types: list[str]) -> None:
        self._types = list(types)
        self._fill()

    def _read_none(self) -> bool:
        return self._none

    def _write_show_child_node_types(self, shown: bool) -> None:
        self._children = shown
        self._fill()

    def sortFilterProxyModel(self) -> qMRMLSortFilterProxyModel:
        return self._filter

    def _write_none_enabled(self, enabled: bool) -> None:
        self._none = enabled

    def _write_add_enabled(self, enabled: bool) -> None:
        assert not enabled, "a selector of inputs makes no nodes"

    def _write_remove_enabled(self, enabled: bool) -> None:
        assert not enabled, "a selector of inputs deletes no nodes"

    def _write_rename_enabled(self, enabled: bool) -> None:
        assert not enabled

    # Properties alone: Slicer's selector has no slots that set them.
    nodeTypes = Property("QStringList", _read_types, _write_node_types)
    noneEnabled = Property(bool, _read_none, _write_none_enabled)
    showChildNodeTypes = Property(bool, lambda self: self._children, _write_show_child_node_types)
    addEnabled = Property(bool, lambda self: False, _write_add_enabled)
    removeEnabled = Property(bool, lambda self: False, _write_remove_enabled)
    renameEnabled = Property(bool, lambda self: False, _write_rename_enabled)


class qMRMLSegmentEditorWidget(QGroupBox):
    """Sets the real vtkMRMLSegmentEditorNode and shows the effects as buttons; those that work: `desktop.brushes`."""

    EFFECTS = ("Threshold", "Paint", "Draw", "Erase", "Level tracing", "Grow from seeds", "Scissors", "Islands")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Segment editor", parent)
        self._scene: Any = None
        self._node: Any = None
        self._tag: int | None = None
        self._order: list[str] = []
        self._unordered = True
        self._buttons: dict[str, QPushButton] = {}
        self._row = QHBoxLayout(self)
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        self._views = EffectViews()
        self._active = ""
        self.undo_states: int | None = None
        self.shown: dict[str, bool] = {}
        self.shortcuts_installed = False

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if self._node is not None and self._tag is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        self._tag = None if node is None else node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_node)
        self._on_node()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.SetAndObserveSegmentationNode(node)
            segments = () if node is None else node.GetSegmentation().GetSegmentIDs()
            self._node.SetSelectedSegmentID(segments[0] if segments else "")  # as Slicer's, unasked

    def setSourceVolumeNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.SetAndObserveSourceVolumeNode(node)

    def segmentationNode(self) -> Any:
        return None if self._node is None else self._node.GetSegmentationNode()

    def setCurrentSegmentID(self, id_: str) -> None:
        self._node.SetSelectedSegmentID(id_)

    def currentSegmentID(self) -> str:
        return str(self._node.GetSelectedSegmentID())

    def setEffectNameOrder(self, names: list[str]) -> None:
        unknown = set(names) - set(self.EFFECTS)
        assert not unknown, f"Slicer has no effect {unknown}"
        self._order = list(names)
        self._show_effects()

    def _write_unordered(self, visible: bool) -> None:
        self._unordered = visible
        self._show_effects()

    unorderedEffectsVisible = property(lambda self: self._unordered, _write_unordered)  # no slot of that name

    def setActiveEffectByName(self, name: str) -> None:
        if self._node is not None:
            self._node.SetActiveEffectName(name)

    def setMaximumNumberOfUndoStates(self, n: int) -> None:
        self.undo_states = n

    def setUndoEnabled(self, enabled: bool) -> None:
        self.shown["undo"] = enabled

    def installKeyboardShortcuts(self, parent: QWidget | None = None) -> None:
        self.shortcuts_installed = True

    def uninstallKeyboardShortcuts(self) -> None:
        self.shortcuts_installed = False

    def removeViewObservations(self) -> None:
        self._views.leave()

    def setupViewObservations(self) -> None:
        self._views.observe()

    def activeEffect(self) -> Effect | None:
        return self._views.effect

    def updateWidgetFromMRML(self) -> None:
        self._on_node()

    def _show_effects(self) -> None:
        for button in self._buttons.values():
            self._row.removeWidget(button)
            button.setParent(None)
            button.deleteLater()
        names = self._order + [n for n in self.EFFECTS if self._unordered and n not in self._order]
        self._buttons = {}
        for name in names:
            button = QPushButton(name, self)
            button.setCheckable(True)
            button.clicked.connect(lambda on, name=name: self.setActiveEffectByName(name if on else ""))
            self._row.addWidget(button)
            self._buttons[name] = button
        self._on_node()

    def _on_node(self, *_: Any) -> None:
        active = "" if self._node is None else self._node.GetActiveEffectName() or ""
        for name, button in self._buttons.items():
            button.setChecked(name == active)
        if active == self._active:
            return
        self._active = active
        self._views.effect = EFFECTS[active](active, self._node) if active in EFFECTS else None
        if active:  # as it comes and goes, so do the observers (qMRMLSegmentEditorWidget.cxx:1084)
            self._views.observe()
        else:
            self._views.leave()

    def effect_button(self, name: str) -> QPushButton:
        return self._buttons[name]


def _shows(name: str) -> Any:
    def setter(self: qMRMLSegmentEditorWidget, shown: bool) -> None:
        self.shown[name] = shown

    return setter


for _name in (
    "SegmentationNodeSelectorVisible", "SourceVolumeNodeSelectorVisible", "MaskingSectionVisible",
    "Show3DButtonVisible", "AddRemoveSegmentButtonsVisible", "SwitchToSegmentationsButtonVisible",
    "SpecifyGeometryButtonVisible", "AutoShowSourceVolumeNode",
):  # fmt: skip
    setattr(qMRMLSegmentEditorWidget, f"set{_name}", _shows(_name))


class ctkPathLineEdit(QWidget):
    SIGNALS: ClassVar = {"currentPathChanged(QString)"}
    currentPathChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._edit = QLineEdit(self)
        row.addWidget(self._edit)
        self._browse = QToolButton(self, text="…")
        row.addWidget(self._browse)
        self._browse.clicked.connect(self.browse)
        self._edit.textChanged.connect(self.currentPathChanged)
        self.filters = flags(default("ctkPathLineEdit.filters"), "ctkPathLineEdit.Filter")

    def browse(self) -> None:
        """A dialog for files where the filters let files through (Libs/Widgets/ctkPathLineEdit.cpp:547)."""
        if self.filters & flags("Files", "ctkPathLineEdit.Filter"):
            path, _kind = QFileDialog.getOpenFileName(self)
        else:
            path = QFileDialog.getExistingDirectory(self)
        if path:
            self._write_path(path)

    def _write_path(self, path: str) -> None:
        self._edit.setText(path)

    def _read_path(self) -> str:
        return str(self._edit.text)

    currentPath = Property(str, _read_path, _write_path)


STAND_INS = {
    kind.__name__: kind
    for kind in (qMRMLWidget, ctkCollapsibleButton, qMRMLNodeComboBox, qMRMLSegmentEditorWidget, ctkPathLineEdit)
}


class SlicerUiLoader(QUiLoader):
    """Loads a .ui whose CTK and Slicer widgets are stand-ins; a class or a connection that none has is an error."""

    def createWidget(self, className: str, parent: QWidget | None = None, name: str = "") -> QWidget:
        if className in STAND_INS:
            widget = STAND_INS[className](parent)
            widget.setObjectName(name)
            return widget
        assert className in self.availableWidgets(), f"no stand-in for {className}"
        return super().createWidget(className, parent, name)

    def load(self, file: QFile, parent: QWidget | None = None) -> QWidget:
        ui = ElementTree.fromstring(bytes(file.readAll().data()))
        connections = ui.find("connections")
        wires = [] if connections is None else list(connections)
        if connections is not None:
            ui.remove(connections)  # QUiLoader knows no signals of Python classes
        filters = {}
        for made in ui.iter("widget"):  # QUiLoader knows no enums of Python classes either
            for told in [told for told in made.findall("property") if told.get("name") == "filters"]:
                filters[made.get("name")] = flags(told.findtext("set") or "", "ctkPathLineEdit.Filter")
                made.remove(told)
        buffer = QBuffer()
        buffer.setData(ElementTree.tostring(ui))
        widget = super().load(buffer, parent)
        every = {child.objectName: child for child in (widget, *widget.findChildren(QWidget))}
        for name, value in filters.items():
            every[name].filters = value
        for child in every.values():
            for raw in child.dynamicPropertyNames():
                name = bytes(raw.data()).decode()
                if type(child).__name__ in STAND_INS:
                    assert hasattr(type(child), name), f"{type(child).__name__} has no property {name}"
                    setattr(child, name, child.property(name))
            if isinstance(child, ctkCollapsibleButton):
                child.collapsed = child.collapsed  # its children were not there yet
        for wire in wires:
            parts = {part.tag: part.text or "" for part in wire}
            slot = getattr(every[parts["receiver"]], parts["slot"].partition("(")[0])
            every[parts["sender"]].connect(parts["signal"], slot)
        return widget


__all__ = [*STAND_INS, "STAND_INS", "SlicerUiLoader", "QVBoxLayout", "slicer"]
