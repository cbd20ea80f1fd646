"""Write down what Slicer's releases offer a module: parameter lists, properties, slots, signals, enums and defaults.

The tests of the panel bind every call to these lists, so that what one release refuses fails where there is no
Slicer. Facts alone are kept, each with the file and line it stands in; no code is.

    python scripts/slicer_api.py --slicer SLICER_GIT --ctk CTK_GIT

SLICER_GIT and CTK_GIT are git directories of Slicer/Slicer and commontk/CTK; CTK is read at the commit that each
release of Slicer pins.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "HeartLensCAC" / "Testing" / "desktop" / "slicer_api"

RELEASES = {"5.10": "v5.10.0", "5.12": "v5.12.3", "main": "583e9b37d5"}

UTIL = "Base/Python/slicer/util.py"
PACKAGING = "Base/Python/slicer/packaging.py"
SAMPLES = "Modules/Scripted/SampleData/SampleData.py"
DICOM = "Modules/Scripted/DICOMLib/DICOMUtils.py"
MODULE = "Base/Python/slicer/ScriptedLoadableModule.py"

FUNCTIONS = {
    "slicer.util": (UTIL, "", (
        "WaitCursor", "addVolumeFromArray", "arrayFromSegmentBinaryLabelmap", "childWidgetVariables", "exit",
        "getNodesByClass", "loadUI", "mainWindow", "messageBox", "selectModule", "setSliceViewerLayers",
        "showStatusMessage",
    )),
    "slicer.util.VTKObservationMixin": (UTIL, "VTKObservationMixin", ("addObserver", "removeObservers")),
    "slicer.packaging": (PACKAGING, "", ("pip_ensure",)),
    "slicer.i18n": ("Base/Python/slicer/i18n.py", "", ("tr", "translate")),
    "SampleData.SampleDataLogic": (SAMPLES, "SampleDataLogic", (
        "__init__", "registerCustomSampleDataCategory", "registerCustomSampleDataSource",
    )),
    "DICOMLib.DICOMUtils": (DICOM, "", ("loadSeriesByUID",)),
    "ScriptedLoadableModule": (MODULE, "ScriptedLoadableModule", ("__init__", "resourcePath")),
    "ScriptedLoadableModuleWidget": (MODULE, "ScriptedLoadableModuleWidget", (
        "__init__", "cleanup", "onReload", "resourcePath", "setup",
    )),
    "ScriptedLoadableModuleLogic": (MODULE, "ScriptedLoadableModuleLogic", ("__init__", "getParameterNode")),
    "ScriptedLoadableModuleTest": (MODULE, "ScriptedLoadableModuleTest", ("delayDisplay", "runTest", "setUp")),
}  # fmt: skip
"""Where Python functions stand: (file, class, names)."""

MAY_LACK = {("5.10", PACKAGING)}
"""Files that a release does not have; any other that is missing has moved, and what it holds must be found again."""

WIDGETS = {
    "slicer.app": ("Base/QTCore/qSlicerCoreApplication.h", "Base/QTGUI/qSlicerApplication.h"),
    "qMRMLLayoutManager": ("Libs/MRML/Widgets/qMRMLLayoutManager.h",),
    "qMRMLNodeComboBox": ("Libs/MRML/Widgets/qMRMLNodeComboBox.h",),
    "qMRMLSegmentEditorWidget": ("Modules/Loadable/Segmentations/Widgets/qMRMLSegmentEditorWidget.h",),
    "qMRMLSliceView": ("Libs/MRML/Widgets/qMRMLSliceView.h",),
    "qMRMLSliceWidget": ("Libs/MRML/Widgets/qMRMLSliceWidget.h",),
    "qMRMLSortFilterProxyModel": ("Libs/MRML/Widgets/qMRMLSortFilterProxyModel.h",),
    "qMRMLWidget": ("Libs/MRML/Widgets/qMRMLWidget.h",),
    "ctkCollapsibleButton": ("CTK:Libs/Widgets/ctkCollapsibleButton.h",),
    "ctkDICOMDatabase": ("CTK:Libs/DICOM/Core/ctkDICOMDatabase.h",),
    "ctkPathLineEdit": ("CTK:Libs/Widgets/ctkPathLineEdit.h",),
    "ctkVTKAbstractView": ("CTK:Libs/Visualization/VTK/Widgets/ctkVTKAbstractView.h",),
}
"""Headers of the classes that the panel, its .ui and its observers use, base classes of ours after their own."""

ENUMS = {
    "ctkPathLineEdit.Filter": ("CTK:Libs/Widgets/ctkPathLineEdit.h", r"enum Filter\s*\{(.*?)\}"),
}

DEFAULTS = {
    "ctkPathLineEdit.filters": ("CTK:Libs/Widgets/ctkPathLineEdit.cpp", r"Filters\((QDir::[^)]*)\)"),
    "qMRMLNodeComboBox.showChildNodeTypes": (
        "Libs/MRML/Widgets/qMRMLSortFilterProxyModel.cxx", r"this->ShowChildNodeTypes = (\w+);",
    ),
    "Erase.EraseAllSegments": (
        "Modules/Loadable/Segmentations/EditorEffects/qSlicerSegmentEditorPaintEffect.cxx",
        r'setParameterDefault\("EraseAllSegments", (\d)\)',
    ),
    "vtkMRMLViewInteractorStyle.priority": (
        "Libs/MRML/DisplayableManager/vtkMRMLViewInteractorStyle.cxx", r"float priority = ([\d.]+)f;",
    ),
    "qMRMLSegmentEditorWidget.priority": (
        "Modules/Loadable/Segmentations/Widgets/qMRMLSegmentEditorWidget.cxx",
        r"AddObserver\(vtkCommand::LeftButtonPressEvent, interactorObservation.CallbackCommand, ([\d.]+)\)",
    ),
}  # fmt: skip
"""What holds where nobody sets anything; the first match in the file."""

PACKAGES = {
    "numpy": "SuperBuild/External_python-numpy.cmake",
    "scipy": "SuperBuild/External_python-scipy.cmake",
    "pydicom": "SuperBuild/External_python-dicom-requirements.cmake",
    "pillow": "SuperBuild/External_python-dicom-requirements.cmake",
    "highdicom": "SuperBuild/External_python-dicom-requirements.cmake",
}


class Release:
    """One release of Slicer with its CTK, read from their git directories.

    Parameters
    ----------
    name, revision
        Of Slicer.
    slicer, ctk
        Git directories.
    """

    def __init__(self, name: str, revision: str, slicer: Path, ctk: Path) -> None:
        self.name, self.revision, self._slicer, self._ctk = name, revision, slicer, ctk
        pinned = self.text("SuperBuild/External_CTK.cmake") or ""
        self.ctk_commit = re.search(r'"([0-9a-f]{40})"', pinned)[1]  # type: ignore[index]

    def text(self, path: str) -> str | None:
        """A file's text at this release; None for one that the release may lack.

        Raises
        ------
        LookupError
            The file is not there, and should be.
        """
        git, revision = self._slicer, self.revision
        if path.startswith("CTK:"):
            path, git, revision = path.removeprefix("CTK:"), self._ctk, self.ctk_commit
        run = subprocess.run(
            ["git", f"--git-dir={git}", "show", f"{revision}:{path}"], capture_output=True, text=True, check=False
        )
        if run.returncode and (self.name, path) not in MAY_LACK:
            raise LookupError(f"Slicer {self.name} has no {path}: {run.stderr.strip()}")
        return run.stdout if run.returncode == 0 else None

    def document(self) -> dict[str, Any]:
        """Everything that is kept of the release."""
        return {
            "release": self.name,
            "slicer": self.revision,
            "ctk": self.ctk_commit,
            "functions": self._functions(),
            "widgets": {kind: self._members(paths) for kind, paths in WIDGETS.items()},
            "enums": {name: self._enum(*where) for name, where in ENUMS.items()},
            "defaults": {name: self._default(*where) for name, where in DEFAULTS.items()},
            "packages": {name: self._package(name, path) for name, path in PACKAGES.items()},
        }

    def _functions(self) -> dict[str, Any]:
        found = {}
        for prefix, (path, owner, names) in FUNCTIONS.items():
            text = self.text(path)
            body = ast.parse(text).body if text is not None else []
            if owner:
                body = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == owner).body
            for node in body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
                    word = prefix if node.name == "__init__" else f"{prefix}.{node.name}"
                    found[word] = {"signature": _signature(node), "at": f"{path}:{node.lineno}"}
        return dict(sorted(found.items()))

    def _members(self, paths: tuple[str, ...]) -> dict[str, str]:
        """Properties, slots, Q_INVOKABLE methods and signals, by name, with where they stand."""
        found: dict[str, str] = {}
        for path in paths:
            section = ""
            for number, line in enumerate((self.text(path) or "").splitlines(), 1):
                head = re.match(r"\s*((?:public|protected|private)?\s*(?:slots|signals|Q_SLOTS|Q_SIGNALS)?)\s*:", line)
                section = head[1] if head and head[1] else section
                at = f"{path.removeprefix('CTK:')}:{number}"
                if named := re.match(r"\s*Q_PROPERTY\(\S+ (\w+) READ", line):
                    found.setdefault(f"{named[1]} (property)", at)
                elif named := re.match(r"\s*Q_INVOKABLE .*?(\w+)\s*\(", line):
                    found.setdefault(f"{named[1]} (method)", at)
                elif section in ("public slots", "public Q_SLOTS", "signals", "Q_SIGNALS"):
                    kind = "slot" if section.startswith("public") else "signal"
                    if named := re.match(r"\s*(?:virtual )?void (\w+)\(", line):
                        found.setdefault(f"{named[1]} ({kind})", at)
        return dict(sorted(found.items()))

    def _enum(self, path: str, pattern: str) -> dict[str, Any]:
        text = _without_comments(self.text(path) or "")
        match = re.search(pattern, text, re.S)
        assert match is not None, path
        values: dict[str, int] = {}
        following = 0
        for entry in match[1].split(","):
            name, _, value = entry.partition("=")
            if name.strip():
                words = value.split("|") if value.strip() else []
                following = sum(_number(word.strip(), values) for word in words) if words else following
                values[name.strip()] = following
                following += 1
        return {"values": values, "at": f"{path.removeprefix('CTK:')}:{_line(text, match.start())}"}

    def _default(self, path: str, pattern: str) -> dict[str, str]:
        text = self.text(path) or ""
        match = re.search(pattern, text, re.S)
        assert match is not None, (path, pattern)
        value = " ".join(match[1].split())
        return {"value": value, "at": f"{path.removeprefix('CTK:')}:{_line(text, match.start(1))}"}

    def _package(self, name: str, path: str) -> dict[str, str] | None:
        """The version that Slicer's own Python has; None where it has none."""
        text = self.text(path) or ""
        match = re.search(rf"^\s*{name}==(\S+)", text, re.M)
        return None if match is None else {"version": match[1], "at": f"{path}:{_line(text, match.start(1))}"}


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Names and defaults of the parameters as Python writes them, without self and without types."""
    if isinstance(node, ast.ClassDef):
        made = [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        return _signature(made[0]) if made else ""
    arguments = node.args
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    if arguments.args and arguments.args[0].arg == "self":
        arguments.args = arguments.args[1:]
    return ast.unparse(arguments)


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def _number(word: str, values: dict[str, int]) -> int:
    """A number of C++, or a name that was given one before."""
    return values[word] if word in values else int(word, 0)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def main() -> None:
    """Write one JSON file a release."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--slicer", type=Path, required=True, help="git directory of Slicer/Slicer")
    parser.add_argument("--ctk", type=Path, required=True, help="git directory of commontk/CTK")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name, revision in RELEASES.items():
        document = Release(name, revision, options.slicer, options.ctk).document()
        (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
