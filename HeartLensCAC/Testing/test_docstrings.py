"""Public docstrings of the library as numpydoc parses them: whoever reads the API pages can call what they describe."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import types
from collections.abc import Iterator

import pytest
from installed import need

import heartlens
from heartlens.core import errors, lesions

pytestmark = pytest.mark.slow

validation = need("numpydoc.validate", "pip install numpydoc")

CHECKS = {
    "GL01", "GL02", "GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10", "SS01", "SS02", "SS03", "SS04", "SS06",
    "PR01", "PR02", "PR03", "PR05", "PR06", "PR07", "PR10", "RT03", "YD01", "SA02", "SA03", "SA04",
}  # fmt: skip
"""Of numpydoc's own. Not held: types of parameters, which annotations have (PR04); a summary that says all there is to
say, without further sections (ES01, EX01, SA01, RT01); phrases without a capital letter and a period (PR08, PR09, RT04,
RT05), because units and shapes are no sentences; and a first word that ends in s (SS05), which may be a plural."""

MODULES = sorted(m.name for m in pkgutil.walk_packages(heartlens.__path__, "heartlens."))


def module_named(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if error.name is None or error.name.startswith("heartlens"):
            raise
        return need(error.name, "make test TRAINING=true SLICER_CORE=true")


def public(module: types.ModuleType) -> Iterator[str]:
    """Full names of the functions and classes that a module defines, with the methods and properties of the latter."""
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__ or not callable(member):
            continue
        yield f"{module.__name__}.{name}"
        if inspect.isclass(member):
            for part, of_class in vars(member).items():
                if not part.startswith("_") and isinstance(
                    of_class, (types.FunctionType, classmethod, staticmethod, property)
                ):
                    yield f"{module.__name__}.{name}.{part}"


def complaints(name: str, module: types.ModuleType) -> Iterator[str]:
    """What is wrong with one docstring of a module, a line each."""
    result = validation.validate(name)
    parsed = validation.Validator(validation.get_doc_object(validation.Validator._load_obj(name)))
    for code, text in result["errors"]:
        if code not in CHECKS:
            continue
        if code == "PR01" and not parsed.doc_parameters:
            continue  # a summary may say what its arguments are; a section that lists some lists all
        if code == "YD01" and inspect.signature(parsed.obj).return_annotation == "Iterator[None]":
            continue  # a context manager that gives nothing
        yield f"{name}: {code} {text}"
    for raised in parsed.doc["Raises"]:
        kind = next((vars(place)[raised.type] for place in (module, errors, builtins) if raised.type in vars(place)), 0)
        if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
            yield f"{name}: raises {raised.type}, which is no exception"


@pytest.mark.parametrize("name", MODULES)
def test_what_a_docstring_names_is_there_and_what_it_lists_is_all(name):
    module = module_named(name)
    assert not [line for member in public(module) for line in complaints(member, module)]


@pytest.mark.parametrize(
    ("parameters", "raises", "complaint"),
    [
        ("ct\n    The scan.\nk\n    Slice.", "ValueError", None),
        ("ct\n    The scan.", "ValueError", "PR01 Parameters {'k'} not documented"),
        ("ct\n    The scan.\nk\n    Slice.\nj\n    Row.", "ValueError", "PR02 Unknown parameters {'j'}"),
        ("k\n    Slice.\nct\n    The scan.", "ValueError", "PR03 Wrong parameters order"),
        ("ct\n    The scan.\nk", "ValueError", 'PR07 Parameter "k" has no description'),
        ("ct\n    The scan.\nk\n    Slice.", "Refused", "raises Refused, which is no exception"),
        ("ct\n    The scan.\nk\n    Slice.", "InputRefused", None),
    ],
)
def test_a_docstring_against_its_function_is_told(monkeypatch, parameters, raises, complaint):
    text = f"Score one slice.\n\nParameters\n----------\n{parameters}\n\nRaises\n------\n{raises}\n    It is empty.\n"

    def score_slice(ct, k): ...

    score_slice.__doc__, score_slice.__module__ = text, lesions.__name__
    monkeypatch.setattr(lesions, "score_slice", score_slice, raising=False)
    found = list(complaints("heartlens.core.lesions.score_slice", lesions))
    assert [complaint in line for line in found] == ([True] if complaint else [])


def test_the_members_of_a_class_are_looked_at_too():
    names = set(public(lesions))
    assert {"heartlens.core.lesions.Draft.paint", "heartlens.core.lesions.LesionMap.named"} <= names
    assert "heartlens.core.lesions.np" not in names
