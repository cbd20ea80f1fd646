"""The import law: arrows only downward, and a part costs only the libraries that it owns."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "heartlens"

FLOORS: dict[str, int] = {
    # 0 ground: values, numpy alone
    "refusal": 0, "ct": 0, "islands": 0, "lesions": 0, "protocol": 0, "slabs": 0, "whole_file": 0, "grid": 0,
    "kernels": 0, "messages": 0, "requirements": 0,
    # 1 sums
    "scoring": 1, "risk": 1, "category_probability": 1, "cohorts": 1, "calcium": 1, "anatomy": 1, "quality": 1,
    "phantom": 1,
    # 2 rooms: files and DICOM
    "dicom": 2, "files": 2, "nrrd": 2, "nifti": 2, "metaimage": 2, "seg_nrrd": 2, "segments": 2, "phantom_files": 2,
    "case": 2, "correction": 2, "signing": 2, "models": 2, "inference": 2,
    # 3 road
    "pipeline": 3, "outputs": 3, "options": 3, "worker": 3, "reading": 3, "doctor": 3, "report_html": 3, "figures": 3,
    # 4 bridge
    "scene": 4,
    # 5 doors
    "__main__": 5,
}  # fmt: skip

OUTSIDE = {  # library: parts that may import it at the top of a file or inside a function
    "scipy": {"calcium", "anatomy", "quality", "phantom"},
    "pydicom": {"dicom", "pipeline"},
    "highdicom": {"dicom"},
    "SimpleITK": {"files"},
    "jinja2": {"report_html"},
    "matplotlib": {"figures"},
    "onnxruntime": {"models"},
    "torch": {"models"},
    "safetensors": {"models"},
    "gdcm": {"dicom"},
    "slicer": {"scene"},
    "vtk": {"scene"},
}

NETWORKS = {"heartlens.models.backbone", "heartlens.models.slice_classifier", "heartlens.models.vessel_unet"}
"""Files that are torch from top to bottom; whoever needs one imports it at the moment of use."""

HEAVY_AT_IMPORT = {
    0: {"scipy", "pydicom", "highdicom", "SimpleITK", "jinja2", "matplotlib", "onnxruntime", "torch", "argparse"},
    1: {"pydicom", "highdicom", "SimpleITK", "jinja2", "matplotlib", "onnxruntime", "torch"},
    2: {"jinja2", "matplotlib", "onnxruntime", "torch", "highdicom", "SimpleITK"},
    3: {"matplotlib", "onnxruntime", "torch", "highdicom", "SimpleITK"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent != PACKAGE or p.name != "__init__.py"]


def imports_of(path: Path) -> set[str]:
    """Full names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write heartlens.… in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_part_has_a_floor():
    assert {part_of(path) for path in sources()} == set(FLOORS)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_downward(path):
    own = part_of(path)
    for name in imports_of(path):
        words = name.split(".")
        if words[0] == "heartlens" and words[1:] and words[1] in FLOORS:
            assert FLOORS[words[1]] <= FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {name}"
        elif words[0] in OUTSIDE:
            assert own in OUTSIDE[words[0]], f"{own} imports {words[0]}"


def module_of(path: Path) -> str:
    return ".".join(("heartlens", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def test_no_two_files_import_each_other():
    modules = {module_of(path): path for path in sources()}
    arrows = {  # what is imported: the module itself, or else the module that the name lives in
        module: {m if m in modules else m.rpartition(".")[0] for m in imports_of(path)} & set(modules) - {module}
        for module, path in modules.items()
    }
    seen: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import circle: {' -> '.join((*trail, module))}"
        if module not in seen:
            for below in sorted(arrows[module]):
                visit(below, (*trail, module))
            seen.add(module)

    for module in modules:
        visit(module, ())


@pytest.mark.parametrize("floor", HEAVY_AT_IMPORT)
def test_importing_a_floor_loads_no_library_of_a_higher_one(floor):
    parts = [part for part, level in FLOORS.items() if level <= floor]
    names = [module_of(path) for path in sources() if part_of(path) in parts and module_of(path) not in NETWORKS]
    code = f"import sys, json, importlib\nfor n in {names}: importlib.import_module(n)\n"
    code += "print(json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.split(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}
    assert not loaded & HEAVY_AT_IMPORT[floor]


@pytest.mark.parametrize("path", sorted((PACKAGE / "scene").glob("*.py")), ids=lambda p: p.name)
def test_the_scene_is_passed_in_and_slicer_gives_only_classes(path):
    """The desktop has slicer.mrmlScene, app, modules and util; a browser's server and the tests do not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "slicer":
            assert node.attr.startswith("vtk"), f"{path.name}:{node.lineno}: slicer.{node.attr}"
    outside = {name for name in imports_of(path) if name.split(".")[0] not in {"heartlens", *sys.stdlib_module_names}}
    allowed = {"slicer", "vtk"}  # not slicer.util, and no module that only the desktop or only the wheel has
    assert {n for n in outside if not n.startswith(("numpy", "vtk.util.numpy_support."))} <= allowed, outside


def test_importing_heartlens_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import heartlens; print(sorted(set(sys.modules) - before))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "['heartlens']"


def test_requirements_name_no_gpl_decoder_and_no_torch():
    text = (PACKAGE.parent / "Resources" / "requirements.txt").read_text()
    assert "libjpeg" not in text.replace("pylibjpeg-openjpeg", "")
    assert "torch" not in text
