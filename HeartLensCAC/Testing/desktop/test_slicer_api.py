"""What the module asks of Slicer, CTK and their widgets is there in every release that is supported, as it is asked."""

from __future__ import annotations

import ast
from pathlib import Path
from xml.etree import ElementTree

import pytest
from desktop.slicer_facts import RELEASES, SUPPORTED, bind, default, facts, flags, members, signals, signature

MODULE = Path(__file__).resolve().parents[2]
UI = MODULE / "Resources" / "UI" / "HeartLensCAC.ui"
SOURCES = [
    MODULE / "HeartLensCAC.py",
    *sorted((MODULE / "HeartLensCACLib").rglob("*.py")),
    *sorted((MODULE / "Testing" / "in_slicer").glob("*.py")),
]

OF_QT = {"connect", "disconnect", "clipboard", "processEvents", "applicationVersion"}
"""What slicer.app has of QApplication."""

OF_THE_MODULE_ITSELF = "slicer.modules."


def dotted(node: ast.AST) -> str:
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(words)]) if isinstance(node, ast.Name) else ""


def names() -> set[str]:
    """Every dotted name of Slicer's Python in the module, at full length."""
    found = {dotted(node) for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))}
    found = {name for name in found if name.startswith(("slicer.", "SampleData."))}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def calls() -> list[tuple[str, str, ast.Call]]:
    """Where, function and call, of each call that names a listed function of Slicer."""
    listed = facts("main")["functions"]
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and dotted(node.func) in listed:
                found.append((f"{path.name}:{node.lineno}", dotted(node.func), node))
    return found


def is_there(name: str, release: str) -> bool:
    import slicer

    if name in facts(release)["functions"] or name.startswith(OF_THE_MODULE_ITSELF):
        return True
    words = name.split(".")
    if name.startswith("slicer.app."):
        return words[2] in members(release, "slicer.app") or words[2] in OF_QT
    if name.startswith("slicer.mrmlScene"):
        return all(hasattr(slicer.vtkMRMLScene, word) for word in words[2:3])
    at = slicer
    for word in words[1:]:  # a class of C++, as slicer-core has it
        at = getattr(at, word, None)
    return at is not None and words[1].startswith("vtk")


@pytest.mark.parametrize("release", SUPPORTED)
def test_every_name_of_slicer_that_the_module_uses_is_in_the_release(slicer_running, release):
    used = names()
    assert {"slicer.packaging.pip_ensure", "slicer.util.messageBox", "slicer.app.layoutManager"} <= used
    whole = {"slicer.mrmlScene", "slicer.modules", "slicer.app", "slicer.util", "slicer.packaging"}
    assert sorted(name for name in used - whole if not is_there(name, release)) == []


@pytest.mark.parametrize("release", RELEASES)
def test_every_call_names_only_parameters_that_the_release_has(release):
    found = calls()
    assert len(found) > 10
    for where, name, call in found:
        takes = signature(release, name)
        if name.startswith("ScriptedLoadableModule"):
            call.args = [given for given in call.args if ast.unparse(given) != "self"]  # of the base class, by its name
        if takes is None:
            assert release not in SUPPORTED, f"{where}: Slicer {release} has no {name}"
            continue
        if any(keyword.arg is None for keyword in call.keywords):
            takes.bind_partial(*call.args, **{k.arg: k.value for k in call.keywords if k.arg})
        else:
            takes.bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def widgets_of_slicer() -> dict[str, str]:
    """Name in the .ui and class, of the widgets that are not Qt's own."""
    kinds = facts("main")["widgets"]
    every = ElementTree.parse(UI).iter("widget")
    return {made.get("name", ""): made.get("class", "") for made in every if made.get("class") in kinds}


@pytest.mark.parametrize("release", RELEASES)
def test_what_the_ui_and_the_code_use_of_each_widget_is_in_the_release(slicer_running, release):
    import qt

    kinds = widgets_of_slicer()
    assert set(kinds.values()) >= {"ctkPathLineEdit", "qMRMLNodeComboBox", "qMRMLSegmentEditorWidget"}
    used = {(kinds[made.get("name", "")], told.get("name", "")) for made in ElementTree.parse(UI).iter("widget")
            if made.get("name") in kinds for told in made.findall("property")}  # fmt: skip
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            owner = getattr(node, "value", None)
            if isinstance(node, ast.Attribute) and isinstance(owner, ast.Attribute) and owner.attr in kinds:
                used.add((kinds[owner.attr], node.attr))
    inherited = {"qMRMLSegmentEditorWidget": "qMRMLWidget"}
    for kind, word in sorted(used):
        qts = qt.QAbstractButton if kind == "ctkCollapsibleButton" else qt.QWidget
        plain = set(dir(qts)) | {"connect", "name"}
        there = members(release, kind) | members(release, inherited.get(kind, kind)) | plain
        assert word in there | {_setter(name) for name in there}, f"Slicer {release}: {kind} has no {word}"


def _setter(name: str) -> str:
    return f"set{name[:1].upper()}{name[1:]}"


@pytest.mark.parametrize("release", RELEASES)
def test_signals_of_slicers_widgets_are_in_the_release(release):
    for kind, signal in (
        ("qMRMLNodeComboBox", "currentNodeChanged"), ("ctkPathLineEdit", "currentPathChanged"),
        ("qMRMLLayoutManager", "layoutChanged"), ("slicer.app", "startupCompleted"),
    ):  # fmt: skip
        assert signal in signals(release, kind), f"Slicer {release}: {kind} has no {signal}"


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ({"sampleDescription": "a phantom"}, "unexpected keyword argument 'sampleDescription'"),
        ({"uri": ""}, "unexpected keyword argument 'uri'"),
    ],
)
def test_a_call_that_a_release_refuses_is_refused_here_with_its_place(named, sentence):
    with pytest.raises(TypeError, match=sentence) as error:
        bind("SampleData.SampleDataLogic.registerCustomSampleDataSource", (), named)
    assert "of Slicer 5.10 (Modules/Scripted/SampleData/SampleData.py:5" in str(error.value)


def test_a_function_that_a_supported_release_lacks_is_told():
    with pytest.raises(AssertionError, match=r"Slicer 5\.12 has no slicer\.util\.shout"):
        bind("slicer.util.shout", (), {})
    bind("slicer.packaging.pip_ensure", (["jinja2"],), {"requester": "HeartLens"})  # 5.10 lacks it, and is too old


def test_a_sample_without_addresses_is_refused_as_slicer_refuses_it(slicer_running):
    from desktop.slicer_app import SampleDataLogic

    with pytest.raises(TypeError, match="has no len"):
        SampleDataLogic.registerCustomSampleDataSource(sampleName="x", customDownloader=lambda source: [])


def test_a_dialog_of_the_cases_folder_is_one_for_folders_although_ctks_default_is_for_files(
    module, monkeypatch, tmp_path
):
    from PySide6.QtWidgets import QFileDialog

    edit = module.ui.casesPathEdit
    opened = []
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: opened.append("file") or ("", ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: opened.append("folder") or str(tmp_path))
    edit.browse()
    assert opened == ["folder"]
    assert edit.currentPath == str(tmp_path)
    files = flags("Files", "ctkPathLineEdit.Filter")
    assert flags(default("ctkPathLineEdit.filters"), "ctkPathLineEdit.Filter") & files
    assert not edit.filters & files


def test_packages_that_slicer_brings_are_new_enough_in_every_supported_release():
    from heartlens.app.requirements import Requirement, requirements

    for release in SUPPORTED:
        for need in requirements():
            brought = facts(release)["packages"].get(need.name)
            if brought is not None:
                assert Requirement(need.name, need.least, brought["version"]).is_met, (release, need)
    old = facts("5.10")["packages"]["pydicom"]["version"]
    assert old.startswith("2."), "why 5.10 is too old"
