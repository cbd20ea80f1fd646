"""Change any number or comparison of the scoring core, and a test must fail.

Every numeric constant is raised by one and every comparison is moved by its edge (>= to >, < to <=, == to !=), one at a
time, in a copy of the library; then the tests of the scores run against the copy. A change that no test notices is
either a hole in the tests or truly without effect; the latter are listed with the reason.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mutation_judge import arguments

pytestmark = pytest.mark.slow

TESTING = Path(__file__).resolve().parent
LIBRARY = TESTING.parent / "heartlens"
FILES = ("core/protocol.py", "scoring/agatston.py", "scoring/volume.py", "scoring/mass.py", "scoring/density.py",
         "scoring/report.py", "scoring/counted.py")  # fmt: skip

Judge = Callable[..., tuple[int, str]]

SWAPPED = {ast.GtE: ">", ast.Gt: ">=", ast.LtE: "<", ast.Lt: "<=", ast.Eq: "!=", ast.NotEq: "=="}

WITHOUT_EFFECT = {
    # (file, source line): why nothing can notice
    ("scoring/report.py", "center = [(s, (rows - 1) / 2, (columns - 1) / 2) for s in range(slices)]"): (
        "the z of a slice is that of its middle, and in upright slices every pixel has the same z"
    ),
    (
        "core/protocol.py",
        "large_enough = np.asarray(pixels) * pixel_area_mm2 >= self.minimum_area_mm2 - AREA_TOLERANCE_MM2",
    ): "the tolerance lies between possible areas; only its size matters, and that is mutated where it is defined",
    ("scoring/volume.py", "counts = np.zeros(int(ids.max(initial=0)) + 1, np.int64)"): "a longer array of zeros",
    ("scoring/report.py", "n = int(max(counted.ids.max(initial=0), counted.volume_ids.max(initial=0))) + 1"): (
        "a longer array of zeros"
    ),
}


def mutants() -> list[tuple[str, int, int, int, str, str]]:
    """(file, line, first column, end column, new text, name) of every change."""
    mutations = []
    for name in FILES:
        source = (LIBRARY / name).read_text()
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and type(node.value) in (int, float):
                text = lines[node.lineno - 1].strip()
                if (name, text) not in WITHOUT_EFFECT:
                    mutations.append((name, node.lineno, node.col_offset, node.end_col_offset, f"({node.value!r} + 1)"))
            elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPPED:
                line = lines[node.lineno - 1]
                if node.left.end_lineno == node.comparators[0].lineno:
                    start, end = node.left.end_col_offset, node.comparators[0].col_offset
                    if not line[start:end].strip("()= <>!") and (name, line.strip()) not in WITHOUT_EFFECT:
                        mutations.append((name, node.lineno, start, end, f" {SWAPPED[type(node.ops[0])]} "))
    return [(*m, f"{m[0]}:{m[1]}:{m[2]}") for m in mutations]


@pytest.mark.parametrize(
    ("name", "line", "start", "end", "new"), [m[:5] for m in mutants()], ids=[m[5] for m in mutants()]
)
def test_a_change_of_the_scoring_core_fails_a_test(judge, tmp_path, name, line, start, end, new):
    copy = tmp_path / "heartlens"
    opened = ("core", "scoring")
    for folder in opened:
        (copy / folder).mkdir(parents=True)
    for source in (*LIBRARY.iterdir(), *(s for folder in opened for s in (LIBRARY / folder).iterdir())):
        relative = source.relative_to(LIBRARY)
        if source.name in (*opened, "__pycache__") or relative.as_posix() == name:
            continue
        (copy / relative).symlink_to(source)
    lines = (LIBRARY / name).read_text().splitlines()
    changed = lines[line - 1]
    lines[line - 1] = changed[:start] + new + changed[end:]
    (copy / name).write_text("\n".join(lines) + "\n")
    # Random cases take most of the time, and are asked only about what the worked ones let pass.
    code, said = judge(tmp_path, "not hypothesis", "--doctest-modules", str(copy / "scoring"))
    if code == 0:
        code, said = judge(tmp_path, "hypothesis")
    assert code in (1, 2), f"no test notices\n  {changed.strip()}\nbecoming\n  {lines[line - 1].strip()}\n{said[-600:]}"


def test_the_library_as_it_is_passes_its_judges(judge):
    """Otherwise every change would seem to be noticed."""
    code, said = judge(LIBRARY.parent, "not hypothesis")
    assert code == 0, said[-600:]


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Iterator[Judge]:
    """Run the tests of the scores against a library: exit code of pytest, and what it printed."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    output = tmp_path_factory.mktemp("judged") / "output"

    def anew(library: Path, marks: str, *more: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", *arguments(str(library), marks, list(more))]
        run = subprocess.run(
            command, cwd=TESTING, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        return run.returncode, run.stdout

    if not hasattr(os, "fork"):  # Windows
        yield anew
        return
    with subprocess.Popen(
        [sys.executable, str(TESTING / "mutation_judge.py")],
        cwd=TESTING, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout

        def forked(library: Path, marks: str, *more: str) -> tuple[int, str]:
            output.unlink(missing_ok=True)
            job = {"library": str(library), "marks": marks, "more": more, "output": str(output)}
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline()), output.read_text(errors="replace")

        yield forked
        process.stdin.close()
