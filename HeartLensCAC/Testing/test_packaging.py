"""The extension as Slicer builds, lists and installs it: the same words everywhere, and no file left behind."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "HeartLensCAC"
RAW = "https://raw.githubusercontent.com/HeartLens/SlicerHeartLens/main/"

CATEGORIES = ("Cardiac", "Quantification", "Segmentation")
"""Those of the index, https://github.com/Slicer/ExtensionsIndex scripts/check_description_files.py, that would fit."""

ENTRY_KEYS = {  # slicer-extension-catalog-entry-schema-v1.0.1
    "$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled",
    "tier",
}  # fmt: skip

MAX_HISTORY_BYTES = 100_000_000
"""The index clones the whole repository."""


def script(name):
    """A program of `scripts/` as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def words():
    """EXTENSION_… variables of CMakeLists.txt, read as the index reads them: one line, double quotes."""
    text = (REPOSITORY / "CMakeLists.txt").read_text()
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"\n]+)"\)', text, re.MULTILINE))


@pytest.fixture(scope="module")
def entry():
    """The index entry that docs/extension-index.md gives."""
    text = (REPOSITORY / "docs" / "extension-index.md").read_text()
    return json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def s4ext():
    lines = (REPOSITORY / "HeartLens.s4ext").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def lists_by_cmake(cmake, tmp_path):
    """What CMake itself makes of the module's file: scripts and resources."""
    (tmp_path / "say.cmake").write_text(
        "macro(slicerMacroBuildScriptedModule)\n"
        '  cmake_parse_arguments(SAID "WITH_GENERIC_TESTS" "NAME" "SCRIPTS;RESOURCES" ${ARGN})\n'
        '  message("UNPARSED=${SAID_UNPARSED_ARGUMENTS}")\n'
        '  message("NAME=${SAID_NAME}")\n'
        '  message("SCRIPTS=${SAID_SCRIPTS}")\n'
        '  message("RESOURCES=${SAID_RESOURCES}")\n'
        "endmacro()\n"
        'macro(slicer_add_python_unittest)\n  message("TEST=${ARGN}")\nendmacro()\n'
        "set(BUILD_TESTING ON)\n"
        f'include("{(MODULE / "CMakeLists.txt").as_posix()}")\n'
    )
    run = subprocess.run([cmake, "-P", tmp_path / "say.cmake"], capture_output=True, text=True, check=True, timeout=60)
    return dict(line.split("=", 1) for line in run.stderr.splitlines() if "=" in line)


def test_every_file_is_installed_and_cmake_reads_the_lists_as_we_do(require_tool, tmp_path):
    files = script("module_files")
    lists = lists_by_cmake(require_tool("cmake"), tmp_path)
    assert lists["UNPARSED"] == ""
    assert lists["NAME"] == "HeartLensCAC"
    assert lists["TEST"] == "SCRIPT;HeartLensCAC.py"
    assert lists["SCRIPTS"].split(";") == files.scripts(), "run: python scripts/module_files.py"
    assert lists["RESOURCES"].split(";") == files.resources(), "run: python scripts/module_files.py"


def test_the_lists_are_as_the_script_writes_them():
    files = script("module_files")
    text = (MODULE / "CMakeLists.txt").read_text()
    assert files.with_lists(text) == text, "run: python scripts/module_files.py"


def test_the_lists_hold_what_a_run_needs_and_nothing_of_the_tests():
    files = script("module_files")
    assert {"HeartLensCAC.py", "HeartLensCACLib/__init__.py", "heartlens/app/worker.py"} <= set(files.scripts())
    assert {
        "Resources/UI/HeartLensCAC.ui", "Resources/Icons/HeartLensCAC.png", "Resources/requirements.txt",
        "heartlens/risk/tables/mesa_risk.csv", "heartlens/report/report.html.jinja",
        "heartlens/report/report.schema.json",
    } <= set(files.resources())  # fmt: skip
    for name in files.scripts() + files.resources():
        assert not name.startswith("Testing/")
        assert "egg-info" not in name
        assert "__pycache__" not in name


def test_the_wheel_takes_every_file_that_the_library_reads():
    """What setup.py does not name works from a checkout and is absent for everybody who installs."""
    tree = ast.parse((REPOSITORY / "setup.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (data,) = (word.value for call in calls for word in call.keywords if word.arg == "package_data")
    patterns = next(ast.literal_eval(v) for k, v in zip(data.keys, data.values, strict=True) if k is not None)
    library = MODULE / "heartlens"
    taken = {path for pattern in patterns for path in library.glob(pattern)}
    there = {p for p in library.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert {path.relative_to(library).as_posix() for path in there - taken} == set()
    assert all(list(library.glob(pattern)) for pattern in patterns), "a pattern that takes nothing"


def test_a_file_that_is_new_belongs_into_the_lists(tmp_path, monkeypatch):
    files = script("module_files")
    monkeypatch.setattr(files, "MODULE", tmp_path)
    (tmp_path / "HeartLensCAC.py").write_text("")
    (tmp_path / "heartlens" / "deep").mkdir(parents=True)
    (tmp_path / "heartlens" / "deep" / "new.py").write_text("")
    (tmp_path / "heartlens" / "table.csv").write_text("")
    (tmp_path / "Testing").mkdir()
    (tmp_path / "Testing" / "test_new.py").write_text("")
    assert files.scripts() == ["HeartLensCAC.py", "heartlens/deep/new.py"]
    assert files.resources() == ["heartlens/table.csv"]


def test_one_python_file_lies_where_slicer_looks_for_modules():
    assert [path.name for path in MODULE.glob("*.py")] == ["HeartLensCAC.py"]


def test_discovering_the_module_imports_nothing_but_slicer():
    """The module is imported at every start of Slicer, for everyone; other libraries wait until they are used."""
    tree = ast.parse((MODULE / "HeartLensCAC.py").read_text())
    at_file_scope = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            at_file_scope |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            at_file_scope.add(node.module.split(".")[0])
        else:
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Assign) or is_text, ast.unparse(node)
    assert at_file_scope <= {"sys", "os", "pathlib", "logging", "typing", "qt", "ctk", "vtk", "slicer"}


def test_cmake_s4ext_and_index_entry_say_the_same(words, s4ext, entry):
    assert s4ext["homepage"] == words["HOMEPAGE"]
    assert s4ext["category"] == words["CATEGORY"] == entry["category"]
    assert s4ext["contributors"] == words["CONTRIBUTORS"]
    assert s4ext["description"] == words["DESCRIPTION"]
    assert s4ext["iconurl"] == words["ICONURL"]
    assert s4ext["screenshoturls"] == words["SCREENSHOTURLS"]
    assert s4ext["scmurl"] == entry["scm_url"] == words["HOMEPAGE"] + ".git"
    assert s4ext["scmrevision"] == entry["scm_revision"]
    assert s4ext["depends"] == "NA"
    assert entry["build_dependencies"] == depends() == []


def depends():
    text = (REPOSITORY / "CMakeLists.txt").read_text()
    named = re.search(r'^set\(EXTENSION_DEPENDS "([^"]*)"\)', text, re.MULTILINE)[1].split()
    return [] if named == ["NA"] else named  # what Slicer's template writes for none


def test_every_word_that_slicer_asks_for_is_there(words):
    assert words.keys() >= {
        "HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS"
    }  # fmt: skip
    assert words["CATEGORY"] in CATEGORIES
    assert len(words["DESCRIPTION"]) < 300
    assert words["DESCRIPTION"].count(". ") <= 2
    assert "not a medical device" in words["DESCRIPTION"]
    assert depends() == [], "the index packages an entry on Windows and Linux only when it depends on no other"


def test_the_project_is_named_as_the_index_wants_it(entry):
    text = (REPOSITORY / "CMakeLists.txt").read_text()
    assert re.search(r"project\s*\(\s*([^\s)]+)", text)[1] == "HeartLens"
    assert "slicer" in Path(entry["scm_url"]).stem.lower()


def test_the_entry_has_the_keys_of_the_schema_and_no_other(entry):
    assert {"$schema", "category", "scm_url"} <= entry.keys() <= ENTRY_KEYS
    assert 1 <= entry["tier"] <= 5


def test_icon_and_screenshots_are_files_of_the_repository(words):
    urls = [words["ICONURL"], *words["SCREENSHOTURLS"].split()]
    assert len(urls) >= 2
    for url in urls:
        assert url.startswith(RAW)
        assert (REPOSITORY / url.removeprefix(RAW)).is_file(), url


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])  # PNG 11.2.2: IHDR, width and height


def test_icons_have_the_sizes_that_slicer_shows():
    icons = MODULE / "Resources" / "Icons"
    assert png_size(icons / "HeartLensCAC.png") == (128, 128)
    assert png_size(icons / "HeartLensPhantom.png") == (260, 280)
    for path in icons.glob("*.png"):
        assert path.stat().st_size < 50_000


def git(*arguments, stdin=""):
    run = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    if run.returncode:
        pytest.skip("needs the repository's history")
    return run.stdout


def test_the_whole_history_is_small_enough_for_the_index():
    # Each object once: a checkout may hold the same one in several packs, a clone of it does not.
    names = "".join(f"{line[:40]}\n" for line in git("rev-list", "--objects", "HEAD").splitlines())
    sizes = git("cat-file", "--batch-check=%(objectsize:disk)", stdin=names).split()
    assert len(sizes) > 1
    assert sum(map(int, sizes)) < MAX_HISTORY_BYTES


def test_text_files_end_their_lines_with_lf():
    carried = [line for line in git("ls-files", "--eol").splitlines() if "i/crlf" in line or "i/mixed" in line]
    assert carried == []


def test_the_licence_lies_in_the_root_and_the_readme_names_it():
    assert "Apache License" in (REPOSITORY / "LICENSE.txt").read_text()
    assert "Apache-2.0" in (REPOSITORY / "README.md").read_text()


# The script that uses a checkout in a Slicer


def in_slicer(*arguments, **environment):
    return subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "in_slicer.py", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": "", "HOME": "/nowhere", "SYSTEMROOT": "", **environment},
    )  # fmt: skip


def test_without_a_slicer_the_script_says_so_and_fails(tmp_path):
    for run in (in_slicer("--slicer", tmp_path / "Slicer"), in_slicer(SLICER=str(tmp_path))):
        assert run.returncode == 2
        assert "no 3D Slicer in" in run.stderr
        assert "make slicer SLICER=" in run.stderr


def test_of_several_slicers_the_newest_is_found_by_its_numbers(tmp_path, monkeypatch):
    for name in ("Slicer-5.9.0-linux-amd64", "Slicer-5.12.3-linux-amd64", "Slicer-5.10.1-linux-amd64", "Slicer-own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Slicer").touch()
    for name, value in {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PATH": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLICER", raising=False)
    found = script("in_slicer").find_slicer(None)
    assert found == tmp_path / "Slicer-5.12.3-linux-amd64" / "Slicer"


@pytest.mark.parametrize(
    ("code", "result", "verdict"),
    [
        (0, {"slicer": "5.12", "run": 3, "bad": 0, "skipped": 0}, 0),
        (0, {"slicer": "5.12", "run": 3, "bad": 1, "skipped": 0}, 1),
        (1, {"slicer": "5.12", "run": 3, "bad": 0, "skipped": 0}, 1),
        (0, {"slicer": "5.12", "run": 0, "bad": 0, "skipped": 0}, 1),
        (0, {"slicer": "5.12", "run": 2, "bad": 0, "skipped": 2}, 1),
        (0, None, 1),
    ],
)
def test_tests_in_slicer_pass_only_where_some_ran_and_all_passed(tmp_path, capsys, code, result, verdict):
    path = tmp_path / "told.json"
    if result is not None:
        path.write_text(json.dumps(result))
    assert script("in_slicer").verdict(code, path) == verdict


def test_a_slicer_that_only_pretends_to_run_the_tests_is_not_believed(tmp_path):
    pretender = tmp_path / "Slicer"
    pretender.write_text(f"#!{sys.executable}\n")
    pretender.chmod(0o755)
    run = in_slicer("--slicer", pretender, "--test")
    assert run.returncode == 1
    assert "counts as a failure" in run.stderr


ALONE = """
import sys
from types import SimpleNamespace
app = SimpleNamespace(applicationVersion="none", testingEnabled=lambda: True)
util = SimpleNamespace(exit=sys.exit)
"""
"""As much of Slicer as the runner itself needs; the tests that it runs here need none of it."""


@pytest.mark.parametrize(
    ("tests", "code", "expected"),
    [
        ({}, 1, {"run": 0, "bad": 0}),
        ({"slicer_good": "def test_it(self): assert True"}, 0, {"run": 1, "bad": 0}),
        ({"slicer_good": "def test_it(self): assert True", "slicer_bad": "def test_it(self): assert False"}, 1,
         {"run": 2, "bad": 1}),
        ({"slicer_skipped": "def test_it(self): self.skipTest('no')"}, 1, {"run": 1, "bad": 0}),
        ({"slicer_odd": "def test_it(self): pass\n    import nowhere"}, 1, {"run": 1, "bad": 1}),
        ({"slicer_empty": "x = 1"}, 1, {"run": 0, "bad": 0}),
        ({"test_elsewhere": "def test_it(self): assert True"}, 1, {"run": 0, "bad": 0}),
    ],
    ids=["no file", "good", "one bad", "all skipped", "cannot be imported", "no test", "another name"],
)  # fmt: skip
def test_the_runner_in_slicer_fails_closed(tmp_path, tests, code, expected):
    (tmp_path / "run.py").write_bytes((MODULE / "Testing" / "in_slicer" / "run.py").read_bytes())
    (tmp_path / "slicer.py").write_text(ALONE)
    for name, body in tests.items():
        (tmp_path / f"{name}.py").write_text(f"import unittest\nclass TestIt(unittest.TestCase):\n    {body}\n")
    run = subprocess.run(
        [sys.executable, "-B", tmp_path / "run.py", tmp_path / "told.json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == code, run.stdout + run.stderr
    assert json.loads((tmp_path / "told.json").read_text()).items() >= expected.items()
    assert script("in_slicer").verdict(run.returncode, tmp_path / "told.json") == code


def test_the_tests_for_a_real_slicer_are_found_by_their_names():
    test_files = [path.name for path in (MODULE / "Testing" / "in_slicer").glob("slicer_*.py")]
    assert test_files == ["slicer_journey.py"]
    tree = ast.parse((MODULE / "Testing" / "in_slicer" / "slicer_journey.py").read_text())
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert "test_the_readers_journey" in names


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_in_ci_a_layer_that_cannot_run_is_a_failure(monkeypatch, ci, outcome):
    from installed import need

    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="needs no_such_library: pip install it"):
        need("no_such_library", "pip install it")


def test_ci_runs_the_scene_and_the_journey_on_both_versions_of_slicer(require_tool):
    assert "export CI=true" in (REPOSITORY / ".ci" / "run").read_text()
    commands = subprocess.run(
        [require_tool("make"), "--dry-run", "--always-make", "CI=true", "test"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "requirements-slicer.txt" in commands
    assert "slicer-core==5.11" in commands
    assert "-m pytest --numprocesses auto" in commands, "every folder of tests, on the newer one"
    older = next(line for line in commands.splitlines() if ".venv-511/bin/python -m pytest" in line)
    assert {"HeartLensCAC/Testing/scene", "HeartLensCAC/Testing/desktop/test_journey.py"} <= set(older.split())
