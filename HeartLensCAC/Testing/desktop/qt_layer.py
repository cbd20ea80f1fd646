"""PySide6 with the manners of PythonQt, so that the module runs unchanged where there is no Slicer.

PythonQt reads a Qt property as an attribute (`button.checked`), and connects by signature
(`button.connect("clicked(bool)", slot)`); it knows both `setChecked(True)` and, for a getter, only the property.
Here both are added to PySide6's QObject. A signature that Qt does not have raises, as it would be silently dead in
Slicer. What the module may use of Qt is listed, with its place in Slicer's own scripts, in `qt_names.py`.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Any

from installed import need

need("PySide6", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets  # noqa: E402

MODULES = (QtCore, QtGui, QtWidgets, QtUiTools)

MEANINGLESS_OFFSCREEN = ("propagateSizeHints",)

raised_in_slots: list[BaseException] = []
"""What slots raised: Qt swallows it, the tests must not."""


@cache
def _properties(kind: type) -> frozenset[str]:
    meta = kind.staticMetaObject  # type: ignore[attr-defined]
    return frozenset(meta.property(i).name() for i in range(meta.propertyCount()))


def _with_manners(plain: Callable[[QtCore.QObject, str], Any]) -> Callable[[QtCore.QObject, str], Any]:
    """A class's way of finding attributes, taught PythonQt's; classes with static methods have one of their own."""

    def find(self: QtCore.QObject, name: str) -> Any:
        return _find(self, name, plain)

    return find


def _find(self: QtCore.QObject, name: str, plain: Callable[[QtCore.QObject, str], Any]) -> Any:
    if name == "connect":
        return types.MethodType(connect, self)
    if name == "disconnect":
        return types.MethodType(disconnect, self)
    if name == "name":
        return plain(self, "objectName")()
    kind = type(self)
    if not name.startswith("_") and name in _properties(kind) and not _is_python(kind, name):
        try:
            value = plain(self, name)
        except AttributeError:  # "checked": the getter has another name
            return plain(self, "property")(name)
        return value() if callable(value) else value
    return plain(self, name)


@cache
def _is_python(kind: type, name: str) -> bool:
    """A stand-in's own attribute: Python finds it the usual way."""
    return inspect.getattr_static(kind, name, None).__class__ in (property, QtCore.Property)


def connect(sender: QtCore.QObject, signature: str, slot: Callable[..., Any]) -> bool:
    """`sender.connect("clicked(bool)", slot)`: the slot gets as many arguments as it takes."""
    wrapped = _trimmed(slot)
    _signal(sender, signature).connect(wrapped)
    sender.__dict__.setdefault("_connections", {})[signature, _key(slot)] = wrapped
    return True


def disconnect(sender: QtCore.QObject, signature: str, slot: Callable[..., Any]) -> bool:
    wrapped = sender.__dict__.get("_connections", {}).pop((signature, _key(slot)), None)
    if wrapped is None:
        return False
    _signal(sender, signature).disconnect(wrapped)
    return True


def _key(slot: Callable[..., Any]) -> Any:
    return (id(slot.__self__), slot.__func__) if inspect.ismethod(slot) else slot


def _signal(sender: QtCore.QObject, signature: str) -> Any:
    name, _, rest = signature.partition("(")
    stand_in = getattr(type(sender), "SIGNALS", {})
    if signature in stand_in:
        return getattr(sender, name)
    meta = sender.metaObject()
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    if meta.indexOfSignal(normalized) < 0:
        raise AttributeError(f"{type(sender).__name__} has no signal {signature}")
    signal = getattr(sender, name)
    try:
        return signal[rest.rstrip(")")]
    except (KeyError, IndexError, TypeError):
        return signal


def _trimmed(slot: Callable[..., Any]) -> Callable[..., None]:
    parameters = inspect.signature(slot).parameters.values()
    takes = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        takes = 99

    def call(*arguments: Any) -> None:
        try:
            slot(*arguments[:takes])
        except BaseException as error:
            raised_in_slots.append(error)

    return call


def _on_message(kind: Any, context: Any, text: str) -> None:
    """Qt's own complaints fail a test, but for what has no meaning without a screen."""
    if not any(known in text for known in MEANINGLESS_OFFSCREEN):
        raised_in_slots.append(RuntimeError(f"Qt: {text}"))


def install() -> types.ModuleType:
    """Teach QObject the manners, and make the module `qt`."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    ways: dict[Any, Any] = {}
    for module in MODULES:
        for kind in (getattr(module, name) for name in dir(module)):
            if inspect.isclass(kind) and issubclass(kind, QtCore.QObject):
                ways[kind] = kind.__getattribute__
    for kind, plain in ways.items():
        kind.__getattribute__ = _with_manners(plain)
    QtCore.QObject.className = lambda self: self.metaObject().className()  # type: ignore[attr-defined]
    QtCore.qInstallMessageHandler(_on_message)
    qt = types.ModuleType("qt")

    def lookup(name: str) -> Any:
        for module in MODULES:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module 'qt' has no attribute {name!r}")

    qt.__getattr__ = lookup  # type: ignore[attr-defined]
    sys.modules["qt"] = qt
    return qt
