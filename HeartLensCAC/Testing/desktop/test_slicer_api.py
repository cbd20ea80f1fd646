"""What the module asks of Slicer, CTK and their widgets is there in every release that is supported, as it is asked."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
from pathlib import Path

import pytest
from desktop.slicer_facts import FOLDER, RELEASES, SUPPORTED, bind, default, facts, flags, members, signals, signature
from desktop.slicer_uses import BASES, calls, kind_of, members_used, names, signals_used, variables, words

REPOSITORY = Path(__file__).resolve().parents[3]

OF_QT = {"connect", "disconnect", "clipboard", "processEvents", "applicationVersion"}
"""What slicer.app has of QApplication."""

OF_THE_MODULE_ITSELF = "slicer.modules."


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
    assert {name for _, name, _ in found} >= {
        "ScriptedLoadableModule", "SampleData.SampleDataLogic.registerCustomSampleDataSource", "slicer.i18n.translate",
        "slicer.packaging.pip_ensure", "slicer.util.VTKObservationMixin.addObserver", "slicer.util.messageBox",
    }  # fmt: skip
    for where, name, call in found:
        takes = signature(release, name)
        if takes is None:
            assert release not in SUPPORTED, f"{where}: Slicer {release} has no {name}"
            continue
        given = [argument for argument in call.args if ast.unparse(argument) != "self"]  # of a base class, by its name
        named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        isOpen = len(named) < len(call.keywords)
        (takes.bind_partial if isOpen else takes.bind)(*given, **named)


def offered(release: str, kind: str) -> set[str]:
    """What Python reaches of a widget: its lists, and what it has of Qt."""
    from PySide6 import QtCore, QtWidgets

    objects = ("ctkDICOMDatabase", "qMRMLLayoutManager", "qMRMLSortFilterProxyModel")
    base = QtCore.QObject if kind in objects else QtWidgets.QWidget
    base = QtWidgets.QAbstractButton if kind == "ctkCollapsibleButton" else base
    plain = OF_QT if kind == "slicer.app" else {"connect", "disconnect", *dir(base)}
    return plain | members(release, kind) | members(release, BASES.get(kind, kind))


@pytest.mark.parametrize("release", RELEASES)
def test_what_the_ui_and_the_code_use_of_each_widget_is_in_the_release(slicer_running, release):
    used = members_used()
    assert {
        ("ctkDICOMDatabase", "instancesForSeries"),
        ("ctkPathLineEdit", "filters"),
        ("qMRMLLayoutManager", "sliceViewNames"),
        ("qMRMLSegmentEditorWidget", "setMaximumNumberOfUndoStates"),
        ("qMRMLSegmentEditorWidget", "unorderedEffectsVisible"),
        ("qMRMLSliceView", "interactor"),
        ("qMRMLSliceWidget", "mrmlSliceNode"),
        ("qMRMLSortFilterProxyModel", "hiddenNodeIDs"),
    } <= used.keys()
    lacking = {where: f"{kind}.{word}" for (kind, word), where in used.items() if word not in offered(release, kind)}
    assert lacking == {}, f"Slicer {release} has not all of it"


def test_a_member_of_a_view_that_no_release_has_is_seen_through_variables_and_calls():
    code = ast.parse("m = slicer.app.layoutManager()\na, b = 1, m.sliceWidget('Red')\nb.sliceView().shout()\n")
    shout = code.body[-1].value.func
    assert (kind_of(shout.value, variables(code)), shout.attr) == ("qMRMLSliceView", "shout")


@pytest.mark.parametrize("release", RELEASES)
def test_signals_of_slicers_widgets_are_in_the_release(release):
    used = signals_used()
    assert used.keys() >= {("qMRMLNodeComboBox", "currentNodeChanged"), ("qMRMLLayoutManager", "layoutChanged")}
    of_qt = {("slicer.app", "aboutToQuit")}
    lacking = {(kind, signal) for kind, signal in used if signal not in signals(release, kind)}
    assert lacking == of_qt, f"Slicer {release}"


HANDLES = {
    "App": {"emit"},
    "DicomDatabase": {"add", "imported"},
    "LayoutManager": {"show"},
    "SliceView": {"click", "drag", "hover", "leave", "let_go", "reset"},
    "ctkCollapsibleButton": {"SIGNALS", "TITLE_PX"},
    "ctkPathLineEdit": {"SIGNALS"},
    "qMRMLNodeComboBox": {"SIGNALS"},
    "qMRMLSegmentEditorWidget": {"EFFECTS", "effect_button"},
    "qMRMLWidget": {"SIGNALS"},
}
"""By what a test moves a stand-in; the module has no use for them."""


@pytest.mark.parametrize("release", SUPPORTED)
def test_a_stand_in_offers_nothing_that_the_release_does_not(slicer_running, release):
    from desktop import slice_view, slicer_app, widgets

    named = {kind: [kind.__name__] for kind in (*widgets.STAND_INS.values(), widgets.qMRMLSortFilterProxyModel)}
    named[slicer_app.App] = ["slicer.app"]
    named[slicer_app.DicomDatabase] = ["ctkDICOMDatabase"]
    named[slicer_app.LayoutManager] = ["qMRMLLayoutManager"]
    named[slice_view.SliceView] = ["qMRMLSliceWidget", "qMRMLSliceView"]  # both in one
    for stand_in, kinds in named.items():
        there = set().union(*(offered(release, kind) | signals(release, kind) for kind in kinds))
        public = {name for name in vars(stand_in) if not name.startswith("_")} - {"staticMetaObject"}
        assert public - there == HANDLES.get(stand_in.__name__, set()), f"Slicer {release}: {stand_in.__name__}"


def test_nothing_is_listed_that_nobody_uses():
    known = facts("main")
    assert [name for name in known["functions"] if name.rpartition(".")[2] not in words()] == []
    assert set(known["widgets"]) == {kind for kind, _ in members_used()} | set(BASES.values())
    here = "".join(path.read_text() for path in FOLDER.parent.glob("*.py"))
    for sort in ("enums", "defaults"):
        assert [name for name in known[sort] if f'"{name}"' not in here] == []
    assert [name for name in known["packages"] if name not in requirements_of_heartlens()] == []


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


def requirements_of_heartlens():
    from heartlens.app.requirements import requirements

    return {need.name for need in requirements()}


def test_packages_that_slicer_brings_are_new_enough_in_every_supported_release():
    from heartlens.app.requirements import Requirement, requirements

    for release in SUPPORTED:
        brought = facts(release)["packages"]
        known = {name for name, package in brought.items() if package is not None}
        assert known >= {"numpy", "scipy", "pydicom", "highdicom"}, f"these come with Slicer {release}"
        for need in requirements():
            if need.name in known:
                assert Requirement(need.name, need.least, brought[need.name]["version"]).is_met, (release, need)
    old = facts("5.10")["packages"]["pydicom"]["version"]
    assert old.startswith("2."), "why 5.10 is too old"


# The script that reads the lists


@pytest.fixture
def a_release(tmp_path):
    """`a_release(name)`: that release, of sources that hold nothing but the commit of CTK."""
    folder = tmp_path / "SuperBuild"
    folder.mkdir()
    (folder / "External_CTK.cmake").write_text(f'"{"0" * 40}"\n')
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "sources"]):
        subprocess.run([*git, *command], check=True)
    spec = importlib.util.spec_from_file_location("slicer_api", REPOSITORY / "scripts" / "slicer_api.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return lambda name: script.Release(name, "HEAD", tmp_path / ".git", tmp_path / ".git")


def test_a_source_file_that_a_release_should_have_and_has_not_is_an_error(a_release):
    packaging = "Base/Python/slicer/packaging.py"
    for name, path in (("5.12", packaging), ("main", packaging), ("5.10", "Base/Python/slicer/util.py")):
        with pytest.raises(LookupError, match=f"Slicer {name} has no {path}"):
            a_release(name).text(path)
    assert a_release("5.10").text(packaging) is None, "it came with 5.12"
