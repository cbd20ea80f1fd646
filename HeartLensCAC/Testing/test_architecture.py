"""The import law: arrows only downward, folder by folder, and a part costs only the libraries that it owns."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "HeartLensCAC" / "heartlens"
PANEL = REPOSITORY / "HeartLensCAC" / "HeartLensCACLib"
TRAINING = REPOSITORY / "training"
ROOTS = (PACKAGE, PANEL, TRAINING)

LIBRARY_LAW = (
    ("core",),
    ("scoring", "anatomy"),
    ("risk", "calcium"),
    ("networks", "dicom"),
    ("io",),
    ("case", "phantom"),
    ("report", "scene", "pipeline"),
    ("app", "pacs", "cohort"),
    ("viewer",),
    ("__main__",),
)
"""Ranks from the ground up. A part may import what lies below it and, within its rank, what stands to its left."""

TRAINING_LAW = (
    ("engine", "metrics"),
    ("datasets",),
    ("dino", "segmentation"),
    ("slice_classifier",),
    ("deploy",),
    ("evaluation",),
    ("adaptation",),
    ("commands",),
)
"""The same for training; `commands` are the files on its flat level, which nothing imports."""

OUTSIDE = {  # library: parts that may import it, at the top of a file or inside a function
    "scipy": {"calcium", "anatomy", "phantom"},
    "pydicom": {"dicom", "pacs", "case", "pipeline", "report"},  # the last three name its type alone
    "highdicom": {"dicom"},
    "gdcm": {"dicom"},
    "nibabel": {"io"},
    "SimpleITK": set(),
    "jinja2": {"report", "cohort"},
    "babel": {"report"},
    "PIL": {"report"},
    "reportlab": {"report"},
    "onnxruntime": {"networks"},
    "torch": {"networks"},
    "safetensors": {"networks"},
    "slicer": {"scene"},
    "vtk": {"scene"},
    "starlette": {"viewer"},
    "uvicorn": {"viewer"},
    "dask": {"cohort"},
    "distributed": {"cohort"},
    "dask_jobqueue": {"cohort"},
    "duckdb": {"cohort"},
    "pynetdicom": {"pacs"},
    "httpx": {"pacs"},
    "tomli": {"pacs"},
    "matplotlib": set(),
    "timm": set(),
}

TORCH_FILES = {
    "heartlens.networks.backbone",
    "heartlens.networks.slice_classifier",
    "heartlens.networks.vessel_unet",
}
"""Files that are torch from top to bottom; whoever needs one imports it at the moment of use."""

FREE_AT_IMPORT = {  # parts: libraries that importing all of them must not load
    ("core",): {"scipy", "pydicom", "highdicom", "nibabel", "jinja2", "onnxruntime", "torch", "argparse"},
    ("core", "scoring", "anatomy", "risk", "calcium"): {
        "pydicom", "highdicom", "nibabel", "jinja2", "onnxruntime", "torch",
    },
    ("core", "scoring", "anatomy", "risk", "calcium", "networks", "dicom", "io", "case", "phantom"): {
        "highdicom", "nibabel", "jinja2", "onnxruntime", "torch",
    },
    ("core", "scoring", "anatomy", "risk", "calcium", "networks", "dicom", "io", "case", "phantom", "report",
     "pipeline", "app", "cohort", "__main__"): {
        "matplotlib", "highdicom", "nibabel", "onnxruntime", "torch", "reportlab", "dask", "distributed", "duckdb",
    },
}  # fmt: skip

MODULES_OF_A_FOLDER = 12
LINES_OF_A_FILE = 400


def part_of(path: Path, package: Path) -> str:
    """The folder of a file, or its own name on the flat level; a command is one of `commands`."""
    relative = path.relative_to(package)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return "commands" if package == TRAINING else relative.stem


def sources(package: Path) -> list[Path]:
    files = sorted(package.rglob("*.py"))
    return [p for p in files if p != package / "__init__.py" and "tests" not in p.relative_to(package).parts]


def imports_of(path: Path) -> set[str]:
    """Full names of everything a file imports, wherever in the file, for types too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write the name in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def broken_arrows(path: Path, package: Path, law: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """What a file imports against the law, each in the sentence of the law."""
    order = [part for rank in law for part in rank]
    own = part_of(path, package)
    for name in sorted(imports_of(path)):
        words = name.split(".")
        if words[0] != package.name or len(words) < 2 or (len(words) == 2 and words[1].startswith("__")):
            continue
        other = words[1]
        if package == TRAINING and (TRAINING / f"{other}.py").exists():
            yield f"{path.relative_to(package)} imports {name}: nothing imports a command"
        elif other != own and order.index(other) >= order.index(own):
            yield f"{path.relative_to(package)} imports {name}: {own} lies below {other}, and no arrow runs up"


@pytest.mark.parametrize(("package", "law"), [(PACKAGE, LIBRARY_LAW), (TRAINING, TRAINING_LAW)])
def test_every_folder_has_its_place_in_the_law(package, law):
    assert {part_of(path, package) for path in sources(package)} <= {part for rank in law for part in rank}


@pytest.mark.parametrize("path", sources(PACKAGE), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_of_the_library_point_downward(path):
    assert not list(broken_arrows(path, PACKAGE, LIBRARY_LAW))
    assert not {name for name in imports_of(path) if name.split(".")[0] == "training"}, "heartlens never needs training"
    for name in imports_of(path):
        library = name.split(".")[0]
        if library in OUTSIDE:
            assert part_of(path, PACKAGE) in OUTSIDE[library], f"{path.name} imports {library}"


@pytest.mark.parametrize("path", sources(TRAINING), ids=lambda p: str(p.relative_to(TRAINING)))
def test_arrows_of_training_point_downward(path):
    assert not list(broken_arrows(path, TRAINING, TRAINING_LAW))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("from heartlens.case.case import Case", "core lies below case, and no arrow runs up"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import heartlens.app.worker", "core lies below app"),
        ("def f():\n    from heartlens.scoring import agatston", "core lies below scoring"),
        ("from heartlens.core.ct import CTVolume\nfrom heartlens import __version__", ""),
    ],
)
def test_an_import_against_the_law_is_told_in_its_sentence(tmp_path, text, sentence):
    package = tmp_path / "heartlens"
    (package / "core").mkdir(parents=True)
    file = package / "core" / "new.py"
    file.write_text(text)
    broken = list(broken_arrows(file, package, LIBRARY_LAW))
    assert [sentence in line for line in broken] == ([True] if sentence else [])


def test_a_folder_is_walkable_and_a_file_has_one_idea():
    pages = [path for path in (PACKAGE / "viewer" / "static").rglob("*") if path.suffix in (".js", ".css", ".html")]
    files = [*sources(PACKAGE), *sources(TRAINING), *sorted(PANEL.rglob("*.py")), *pages]
    long = {name_of(p) for p in files if len(p.read_text().splitlines()) > LINES_OF_A_FILE}
    assert not long, f"a file has at most {LINES_OF_A_FILE} lines; split it along its ideas"
    folders: dict[Path, int] = {}
    for path in files:
        if path.name != "__init__.py" and path.parent != TRAINING:  # the flat level of training is its list of commands
            folders[path.parent] = folders.get(path.parent, 0) + 1
    full = {p.name for p, count in folders.items() if count > MODULES_OF_A_FOLDER}
    assert not full, f"a folder has at most {MODULES_OF_A_FOLDER} modules"


def name_of(path: Path) -> str:
    """A file's path from beside its package, such as "heartlens/core/ct.py"."""
    return next(path.relative_to(root.parent) for root in ROOTS if path.is_relative_to(root)).as_posix()


def module_of(path: Path, package: Path = PACKAGE) -> str:
    return ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("package", [PACKAGE, TRAINING], ids=lambda package: package.name)
def test_no_two_files_import_each_other(package):
    modules = {module_of(path, package): path for path in sources(package)}
    arrows = {  # what is imported: the module itself, or else the module that the name lives in
        module: {m if m in modules else m.rpartition(".")[0] for m in imports_of(path)} & set(modules) - {module}
        for module, path in modules.items()
    }
    visited: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import circle: {' -> '.join((*trail, module))}"
        if module not in visited:
            for below in sorted(arrows[module]):
                visit(below, (*trail, module))
            visited.add(module)

    for module in modules:
        visit(module, ())


@pytest.mark.parametrize("parts", FREE_AT_IMPORT, ids=lambda parts: f"to-{parts[-1]}")
def test_importing_a_part_loads_no_library_of_a_higher_one(parts):
    names = [
        module_of(path)
        for path in sources(PACKAGE)
        if part_of(path, PACKAGE) in parts and module_of(path) not in TORCH_FILES
    ]
    code = f"import sys, json, importlib\nfor n in {names}: importlib.import_module(n)\n"
    code += "print(json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.split(".")[0] for name in json.loads(run.stdout.splitlines()[-1])}
    assert not loaded & FREE_AT_IMPORT[parts]


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


OTHER_NAMES = {"openjpeg": "pylibjpeg-openjpeg", "PIL": "pillow"}
"""Import names that are not the distribution's."""

PLUGINS = {"pyjpegls", "python-gdcm"}
"""Decoders that pydicom finds and calls by itself; no file imports them."""

NOT_ASKED_FOR = {
    "torch",
    "safetensors",
    "slicer",
    "vtk",
    "babel",
    "reportlab",
    "starlette",
    "uvicorn",
    "dask",
    "distributed",
    "dask_jobqueue",
    "duckdb",
    "pynetdicom",
    "httpx",
    "tomli",
}
"""What the installation has or not: a GPU's library, the classes of Slicer, which pip does not bring, and extras."""


def test_every_requirement_is_imported_and_every_import_is_required():
    lines = (PACKAGE.parent / "Resources" / "requirements.txt").read_text().split()
    required = {line.split(">=")[0] for line in lines}
    outside = {name.split(".")[0] for path in sources(PACKAGE) for name in imports_of(path)}
    outside -= {"heartlens", *sys.stdlib_module_names, *NOT_ASKED_FOR}
    assert {OTHER_NAMES.get(name, name) for name in outside} | PLUGINS == required


def test_the_viewer_asks_for_what_it_imports():
    lines = (PACKAGE.parent / "Resources" / "requirements-viewer.txt").read_text().split()
    outside = {name.split(".")[0] for path in (PACKAGE / "viewer").glob("*.py") for name in imports_of(path)}
    outside -= {"heartlens", "numpy", *sys.stdlib_module_names}
    assert outside == {line.split(">=")[0] for line in lines}


def test_cohorts_ask_for_what_they_import():
    """All but dask-jobqueue, which only a cluster of SLURM needs."""
    lines = (PACKAGE.parent / "Resources" / "requirements-cohort.txt").read_text().split()
    outside = {name.split(".")[0] for path in (PACKAGE / "cohort").rglob("*.py") for name in imports_of(path)}
    outside -= {"heartlens", "numpy", "jinja2", "pydicom", "dask_jobqueue", *sys.stdlib_module_names}
    assert outside == {line.split(">=")[0] for line in lines}


def test_the_archive_asks_for_what_it_imports():
    lines = (PACKAGE.parent / "Resources" / "requirements-pacs.txt").read_text().splitlines()
    outside = {name.split(".")[0] for path in (PACKAGE / "pacs").rglob("*.py") for name in imports_of(path)}
    outside -= {"heartlens", "pydicom", "tomllib", *sys.stdlib_module_names}  # tomllib: from Python 3.11 on
    assert outside == {line.split(">=")[0] for line in lines}
