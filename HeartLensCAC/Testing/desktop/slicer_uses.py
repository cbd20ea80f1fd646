"""What the module uses of Slicer, read from its own source: names, calls, and members of Slicer's and CTK's widgets."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from xml.etree import ElementTree

from desktop.slicer_facts import facts

MODULE = Path(__file__).resolve().parents[2]
UI = MODULE / "Resources" / "UI" / "HeartLensCAC.ui"
SOURCES = [
    MODULE / "HeartLensCAC.py",
    *sorted((MODULE / "HeartLensCACLib").rglob("*.py")),
    *sorted((MODULE / "Testing" / "in_slicer").glob("*.py")),
]

RETURNS = {
    ("slicer.app", "layoutManager"): "qMRMLLayoutManager",
    ("qMRMLLayoutManager", "sliceWidget"): "qMRMLSliceWidget",
    ("qMRMLNodeComboBox", "sortFilterProxyModel"): "qMRMLSortFilterProxyModel",
    ("qMRMLSliceWidget", "sliceView"): "qMRMLSliceView",
}
"""Class of the widget that a method of another one gives."""

BASES = {"qMRMLSliceView": "ctkVTKAbstractView"}
"""Base class whose members are in a list of their own."""


@functools.cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in SOURCES}


def dotted(node: ast.AST) -> str:
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(words)]) if isinstance(node, ast.Name) else ""


def names() -> set[str]:
    """Every dotted name of Slicer's Python in the module, at full length."""
    found = {dotted(node) for tree in trees().values() for node in ast.walk(tree)}
    found = {name for name in found if name.startswith(("slicer.", "SampleData.", "DICOMLib."))}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def calls() -> list[tuple[str, str, ast.Call]]:
    """Where, function and call, of each call of a listed function.

    A function is named in full, is imported by its last name, is the constructor of a base class, or is a method that
    only Slicer's classes have.
    """
    listed = facts("main")["functions"]
    imported = {"_": "slicer.i18n.tr", "translate": "slicer.i18n.translate"}
    methods = {name.rpartition(".")[2]: name for name in listed if "." in name and not is_plain_function(name)}
    found = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            said = dotted(node.func)
            base, _, last = said.rpartition(".")
            name = imported.get(said) or (base if last == "__init__" else said)
            if name not in listed and isinstance(node.func, ast.Attribute):
                name = methods.get(node.func.attr, "")
            if name in listed:
                found.append((f"{path.name}:{node.lineno}", name, node))
    return found


def is_plain_function(name: str) -> bool:
    """Whether a listed name is a function of a module of Slicer, and no class's."""
    return name.rpartition(".")[0] in ("slicer.util", "slicer.packaging", "slicer.i18n", "DICOMLib.DICOMUtils")


@functools.cache
def widgets() -> dict[str, str]:
    """Name in the .ui and class, of the widgets that are not Qt's own."""
    kinds = facts("main")["widgets"]
    every = ElementTree.parse(UI).iter("widget")
    return {made.get("name", ""): made.get("class", "") for made in every if made.get("class") in kinds}


def kind_of(node: ast.AST, known: dict[str, str]) -> str:
    """Slicer's class of what an expression gives; "" where it is not one of the listed.

    Parameters
    ----------
    known
        Class of each variable and attribute, by its last name.
    """
    if isinstance(node, ast.Attribute) and dotted(node.value).rpartition(".")[2] == "ui":
        return widgets().get(node.attr, "")
    if dotted(node) == "slicer.app":
        return "slicer.app"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return RETURNS.get((kind_of(node.func.value, known), node.func.attr), "")
    last = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return known.get(last, "")


def variables(tree: ast.Module) -> dict[str, str]:
    """Variables and attributes that hold a listed widget, by name; one name means one thing in a file."""
    known = {"database": "ctkDICOMDatabase", "_database": "ctkDICOMDatabase"}  # it is handed about under these names
    for _ in range(3):  # one may be made from another that is assigned further down
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                for to, value in pairs:
                    kind = kind_of(value, known)
                    if kind and kind != "slicer.app":
                        known[to.attr if isinstance(to, ast.Attribute) else to.id] = kind  # type: ignore[attr-defined]
    return known


def members_used() -> dict[tuple[str, str], str]:
    """Class and member, with where, of everything that the code and the .ui use of a listed widget."""
    kinds = widgets()
    used = {}
    for made in ElementTree.parse(UI).iter("widget"):
        if made.get("name") in kinds:
            for told in made.findall("property"):
                used[kinds[made.get("name", "")], told.get("name", "")] = UI.name
    for path, tree in trees().items():
        known = variables(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (kind := kind_of(node.value, known)):
                used[kind, node.attr] = f"{path.name}:{node.lineno}"
    return used


def signals_used() -> dict[tuple[str, str], str]:
    """Class and signal, with where, of every connection to a listed widget."""
    used = {}
    for path, tree in trees().items():
        known = variables(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("connect", "disconnect"):
                kind = kind_of(node.func.value, known)  # type: ignore[attr-defined]
                if kind:
                    used[kind, node.args[0].value.partition("(")[0]] = f"{path.name}:{node.lineno}"  # type: ignore[attr-defined]
    return used


def words() -> set[str]:
    """Every identifier in the module, in the names that it imports too."""
    found = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.alias):
                found.add(node.name)
    return found
