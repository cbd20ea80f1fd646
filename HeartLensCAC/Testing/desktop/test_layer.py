"""The layer under the desktop tests tests itself: it must have Qt's and Slicer's names, and refuse others."""

from __future__ import annotations

import ast
from pathlib import Path
from xml.etree import ElementTree

import pytest
from desktop.qt_names import GONE_IN_QT6, QT_NAMES, SIGNALS

MODULE = Path(__file__).resolve().parents[2]
LIBRARY = sorted((MODULE / "HeartLensCACLib").rglob("*.py"))
SOURCES = [MODULE / "HeartLensCAC.py", *(path for path in LIBRARY if path.name != "SelfTest.py")]  # runs in Slicer
UI = MODULE / "Resources" / "UI" / "HeartLensCAC.ui"


def chains(root: str) -> set[str]:
    """Every dotted name in the module's sources that begins with `root`, at full length."""
    names = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            words = []
            while isinstance(node, ast.Attribute):
                words.append(node.attr)
                node = node.value
            if words and isinstance(node, ast.Name) and node.id == root:
                names.add(".".join([root, *reversed(words)]))
    return {name for name in names if not any(other.startswith(name + ".") for other in names)}


def calls_on(name: str) -> set[str]:
    """Attributes that the module uses of a variable or attribute of that name."""
    names = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute):
                owner = node.value
                if (isinstance(owner, ast.Name) and owner.id == name) or (
                    isinstance(owner, ast.Attribute) and owner.attr == name
                ):
                    names.add(node.attr)
    return names


def test_every_qt_name_of_the_module_is_listed_with_its_place_in_slicer():
    used = chains("qt")
    assert used <= set(QT_NAMES)
    assert {name for name in QT_NAMES if name not in used} <= {"qt.QProcess"}, "listed, but not used any more"


@pytest.mark.parametrize("name", QT_NAMES)
def test_every_qt_name_exists_in_pyside(slicer_running, name):
    import qt

    at = qt
    for word in name.split(".")[1:]:
        at = getattr(at, word)


def test_every_signal_is_listed():
    used = set()
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("connect", "disconnect"):
                used.add(node.args[0].value)
    assert used == set(SIGNALS)
    assert not used & GONE_IN_QT6


def test_nothing_that_qt6_has_lost_is_used():
    text = "".join(source.read_text() for source in SOURCES)
    assert not [name for name in GONE_IN_QT6 if name in text]


def test_every_widget_that_the_module_names_is_in_the_ui():
    names = {node.get("name") for node in ElementTree.parse(UI).iter("widget")}
    assert calls_on("ui") <= names
    assert {name for name in names if name.endswith(("Button", "Box", "Selector", "Edit"))} <= calls_on("ui")


def test_names_in_the_ui_are_unique():
    names = [node.get("name") for kind in ("widget", "layout") for node in ElementTree.parse(UI).iter(kind)]
    assert len(names) == len(set(names))


def test_a_property_is_read_as_an_attribute_and_set_by_its_setter(slicer_running):
    import qt

    button = qt.QPushButton("Score")
    button.setCheckable(True)
    button.setChecked(True)
    assert button.text == "Score"
    assert button.checked is True
    assert qt.QTimer().active is False


def test_a_slot_gets_as_many_arguments_as_it_takes(slicer_running):
    import qt

    got = []
    button = qt.QPushButton()
    button.setCheckable(True)
    button.connect("clicked(bool)", lambda: got.append("none"))
    button.connect("clicked(bool)", lambda on: got.append(on))
    button.connect("clicked(bool)", lambda _on=False, artery="LAD": got.append(artery))
    button.click()
    assert got == ["none", True, "LAD"]


def test_a_signal_that_does_not_exist_is_an_error(slicer_running):
    import qt

    with pytest.raises(AttributeError, match="no signal klicked"):
        qt.QPushButton().connect("klicked(bool)", lambda: None)


def test_disconnecting_stops_the_calls(slicer_running):
    import qt

    got = []

    def slot():
        got.append(1)

    button = qt.QPushButton()
    button.connect("clicked(bool)", slot)
    button.disconnect("clicked(bool)", slot)
    button.click()
    assert got == []


def test_the_node_selector_follows_the_scene(slicer_running):
    import slicer
    from desktop.widgets import qMRMLNodeComboBox

    slicer.mrmlScene.Clear()
    selector = qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    got = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", got.append)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    assert selector.currentNode() is node
    assert got == [node]
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None
    selector.setMRMLScene(None)


def test_a_ui_with_a_class_that_has_no_stand_in_is_an_error(slicer_running, tmp_path):
    import slicer.util

    path = tmp_path / "odd.ui"
    path.write_text('<ui version="4.0"><widget class="qMRMLThreeDWidget" name="odd"/></ui>')
    with pytest.raises((AssertionError, RuntimeError)):
        slicer.util.loadUI(str(path))


@pytest.mark.slow
def test_the_panel_never_imports_a_network_library(slicer_running):
    import subprocess
    import sys

    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from pathlib import Path; import tempfile\n"
        "from desktop import slicer_app; slicer_app.boot(Path(tempfile.mkdtemp())); slicer_app.fresh_dialogs()\n"
        "slicer_app.load_module().HeartLensCACWidget().setup()\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'torch', 'onnxruntime', 'timm', 'SimpleITK'}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(MODULE), str(MODULE / "Testing")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert run.stdout.strip().splitlines()[-1] == "[]"
