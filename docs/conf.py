"""How Sphinx builds the pages of docs/ and of the library; `make docs` runs it. Nothing is fetched."""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpydoc.numpydoc
from docutils import nodes
from sphinx.addnodes import desc_annotation, desc_content, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.inspect import stringify_signature

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "HeartLensCAC"))

from heartlens import __version__  # noqa: E402  # the checkout's, whatever is installed

SOURCE = "https://github.com/HeartLens/SlicerHeartLens/blob/main"

project = "HeartLens"
author = "The HeartLens developers"
release = __version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
templates_path = ["_templates"]
exclude_patterns = ["api"]

autosummary_generate = True
autodoc_mock_imports = [
    "httpx", "onnxruntime", "pynetdicom", "safetensors", "slicer", "starlette", "torch", "uvicorn", "vtk",
]  # fmt: skip
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike", "NDArray": "NDArray"}
numpydoc_show_class_members = False
# It would give a type alias of ours, such as `Point`, the signature of numpy.ndarray; `signature_as_written` does it.
numpydoc.numpydoc.mangle_signature = lambda *_: None
python_maximum_signature_line_length = 100
add_module_names = False
default_role = "py:obj"
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"HeartLens {release}"
html_copy_source = False
html_show_copyright = False


LONGEST_VALUE = 120
"""Characters of a constant that are shown."""


class Plain(NamedTuple):
    """A named tuple, to know the fields of others by."""

    field: int


class Made:
    """Stands for a default that is made anew for each object, and is written so that a signature stays Python."""

    def __repr__(self) -> str:
        return "..."


def signature_as_written(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Types as the source says them, such as `NDArray[np.float64]`, and not what they are made of."""
    if inspect.isclass(obj) and issubclass(obj, Enum):
        return "", None
    if what not in ("class", "function", "method") or signature is None:
        return None
    try:
        written = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    parameters = list(written.parameters.values())
    if what == "method" and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    parameters = [p.replace(default=Made()) if repr(p.default) == "<factory>" else p for p in parameters]
    text = stringify_signature(written.replace(parameters=parameters), unqualified_typehints=True)
    arguments, _, result = text.partition(" -> ")
    return arguments, result if what != "class" else None


def is_left_out(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """The values of an enumeration are shown without a docstring; the fields of a named tuple are its parameters."""
    if isinstance(obj, Enum) and name == obj.name:
        return False
    return True if isinstance(obj, type(Plain.field)) else None


def shorten_value(app: Sphinx, domain: str, kind: str, content: desc_content) -> None:
    """A table of the method is read in its module; here it would be a page of brackets."""
    if kind != "data":
        return
    for value in content.parent.findall(desc_annotation):
        text = value.astext()
        if text.startswith(" = ") and len(text) > LONGEST_VALUE:
            value.clear()
            value += nodes.Text(" = ...")


def link_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """Docstrings say `CTVolume`, not where it lives: link it when one module alone defines that name."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains["py"]
    target = node["reftarget"]
    found = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, text)


def link_out_of_docs(app: Sphinx, page: str, source: list[str]) -> None:
    """Files beside docs/ are no pages: they are read where the source is."""
    source[0] = source[0].replace("](../", f"]({SOURCE}/")


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-signature", signature_as_written)
    app.connect("autodoc-skip-member", is_left_out)
    app.connect("missing-reference", link_by_last_name)
    app.connect("object-description-transform", shorten_value)
    app.connect("source-read", link_out_of_docs)
