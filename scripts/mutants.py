#!/usr/bin/env python3
"""Break the product in named ways, one at a time, and see that a named test notices.

    python scripts/mutants.py                    # all of scripts/mutants.json; goes on where an earlier run stopped
    python scripts/mutants.py --only calibration # those with this in their name or file
    python scripts/mutants.py --table            # docs/mutants.md, from the results that are there

Every mutation is a sentence of what would go wrong for the user, a text that occurs once in a file, what stands there
instead, and the tests that must fail. The tests are first run on the code as it is, and must pass; then on a copy of
the tree with the one change. The working tree is never changed. Results are kept in mutants.jsonl, one line each, and
hold as long as the mutation, its file and its tests are the same.

Exit 0: every one is killed. 1: one survived, or could not be judged. 2: the list does not fit the code.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST, RESULTS, TABLE = "scripts/mutants.json", "mutants.jsonl", "docs/mutants.md"

NOT_COPIED = (".*", "*.egg-info", "__pycache__")
NOT_COPIED_FROM_THE_TOP = ("build", "dist", "demo", "road", "evaluation", RESULTS)
"""What commands make there; below, a folder of such a name is code."""

KILLED, SURVIVED, TIMED_OUT, BROKEN = "killed", "survived", "timed out", "not judged"

BEFORE = f"{KILLED} before"
"""In the table alone: on code, or by tests, that may have changed since."""

SINCE = f", and their files or tests may have changed since (*{BEFORE}*)."

FAILED, PASSED = 1, 0
"""Exit codes of pytest; all others mean that no test gave an opinion."""

STOPPED = 130
"""Exit code after Ctrl-C, as shells give it."""

PATIENCE_SECONDS, PATIENCE_FACTOR = 60.0, 5.0
"""A mutant may take so long, and so many times as long as its tests take on the code as it is."""

LONGEST_BASELINE_SECONDS = 900.0


class ListError(ValueError):
    """The list of mutations does not fit the code."""


@dataclass(frozen=True)
class Mutation:
    """One way to break the product.

    Parameters
    ----------
    name
        What would go wrong for the user, a sentence.
    file
        Where, from the root of the tree.
    original, mutated
        A text that occurs exactly once in the file, and what takes its place.
    tests
        Files or `file::test`, of which at least one must fail.
    timeout_kills
        A run that does not end is what the mutation does, and counts as noticed.
    """

    name: str
    file: str
    original: str
    mutated: str
    tests: tuple[str, ...]
    timeout_kills: bool = False

    def apply(self, root: Path) -> str:
        """The text of the file with the change.

        Raises
        ------
        ListError
            The file is missing, does not hold the text exactly once, or is no Python with the change.
        """
        path = root / self.file
        if not path.is_file():
            raise ListError(f"{self.name}: there is no file {self.file}")
        text = path.read_text(encoding="utf-8")
        count = text.count(self.original)
        if count != 1:
            raise ListError(
                f"{self.name}: expected the text once in {self.file}, found it {count} times: {self.original!r}"
            )
        changed = text.replace(self.original, self.mutated)
        if changed == text:
            raise ListError(f"{self.name}: the mutation changes nothing")
        if path.suffix == ".py":
            try:
                ast.parse(changed)
            except SyntaxError as error:
                raise ListError(f"{self.name}: the mutated file is no Python: {error}") from error
        return changed

    def check(self, root: Path) -> None:
        """Raise `ListError` where the mutation or its tests do not fit the tree."""
        self.apply(root)
        if not self.tests:
            raise ListError(f"{self.name}: no test is named")
        for test in self.tests:
            file, *parts = test.split("::")
            if not (root / file).is_file():
                raise ListError(f"{self.name}: there is no test file {file}")
            function = parts[-1].split("[")[0] if parts else "def test_"
            if f"{function}(" not in (root / file).read_text(encoding="utf-8") and parts:
                raise ListError(f"{self.name}: {file} has no {function}")

    @property
    def files(self) -> tuple[str, ...]:
        """Of the tests, each once."""
        return tuple(dict.fromkeys(test.split("::")[0] for test in self.tests))

    def key(self, root: Path) -> str:
        """Checksum of all that a result rests on: the mutation, its file, and the files of its tests."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for file in (self.file, *self.files):
            digest.update(b"\0" + (root / file).read_bytes())
        return digest.hexdigest()[:24]


@dataclass(frozen=True)
class Outcome:
    """How the tests of one mutation ended.

    Parameters
    ----------
    result
        "killed", "survived", "timed out" or "not judged"
    seconds
        Of the run on the mutated code.
    why
        Of a mutation that could not be judged; else empty.
    """

    result: str
    seconds: float
    why: str = ""


def read_list(path: Path, root: Path) -> list[Mutation]:
    """The mutations of a list, each checked against the tree.

    Raises
    ------
    ListError
        The first ten that do not fit.
    """
    try:
        mutations = [
            Mutation(**{**entry, "tests": tuple(entry["tests"])})
            for entry in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ListError(f"{path}: expected a list of mutations, found {error}") from error
    problems = []
    names: set[str] = set()
    for mutation in mutations:
        if mutation.name in names:
            problems.append(f"{mutation.name}: named twice")
        names.add(mutation.name)
        try:
            mutation.check(root)
        except ListError as error:
            problems.append(str(error))
    if problems:
        raise ListError("\n".join(problems[:10]))
    return mutations


class Results:
    """Results on the disk, one JSON line each, written as soon as they are known; the last line of a key holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known: dict[str, Outcome] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                document = json.loads(line)
                self._known[document["key"]] = Outcome(document["result"], document["seconds"], document["why"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that a stopped run left half-written

    def get(self, key: str) -> Outcome | None:
        """What is known; None for what has to be run, also where it could not be judged before."""
        outcome = self._known.get(key)
        return None if outcome is None or outcome.result == BROKEN else outcome

    def add(self, key: str, mutation: Mutation, outcome: Outcome) -> None:
        """Keep a result, on the disk before anything else happens."""
        line = json.dumps({"key": key, "name": mutation.name, **asdict(outcome)}) + "\n"
        with self._lock:
            self._known[key] = outcome
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())


class Copy:
    """A copy of the tree in which tests are run, one mutation at a time."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = folder / "tree"
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False
        shutil.copytree(root, self.root, symlinks=True, ignore=_left_out(root))
        # Compiled once, and checked by content: a change within the same second would go unseen by its date.
        command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(self.root)]
        subprocess.run(command, check=False, capture_output=True)

    def run(self, tests: Sequence[str], timeout: float) -> tuple[int | None, Mapping[str, int], float, str]:
        """Run tests in this copy.

        Returns
        -------
        tuple[int | None, Mapping[str, int], float, str]
            Exit code of pytest, None when the time was over; how many "tests", "skipped" and so on; seconds; the end
            of what it printed
        """
        if self._is_stopped:
            raise RuntimeError("the run was stopped")
        report = self.root.parent / "report.xml"
        report.unlink(missing_ok=True)
        paths = os.pathsep.join(map(str, (self.root / "HeartLensCAC", self.root)))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "QT_QPA_PLATFORM": "offscreen"}
        environment.setdefault("OMP_NUM_THREADS", "1")
        # Hypothesis' plugin takes as long to load as most of these tests run, and its tests need it not.
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
            f"--junitxml={report}", f"--basetemp={self.root.parent / 'temporary'}", *tests,
        ]  # fmt: skip
        begun = time.monotonic()
        self._process = process = subprocess.Popen(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        code: int | None
        try:
            output, _ = process.communicate(timeout=timeout)
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = None
            self.stop()
            output, _ = process.communicate()
        if self._is_stopped:
            raise RuntimeError("the run was stopped")
        return code, _counts(report), time.monotonic() - begun, output[-1500:]

    def stop(self, *, for_good: bool = False) -> None:
        """End the tests that run here, and every process that they started."""
        self._is_stopped = for_good
        process = self._process
        if process is None or process.poll() is not None:
            return
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()

    def judge(self, mutation: Mutation, timeout: float) -> Outcome:
        """Run the tests of a mutation on the mutated code, then put the file back."""
        path = self.root / mutation.file
        original = path.read_bytes()
        path.write_text(mutation.apply(self.root), encoding="utf-8")
        try:
            code, counts, seconds, output = self.run(mutation.tests, timeout)
        finally:
            path.write_bytes(original)
        if code is None:
            return Outcome(KILLED if mutation.timeout_kills else TIMED_OUT, round(seconds, 1))
        if code == FAILED and counts.get("failures", 0) + counts.get("errors", 0):
            return Outcome(KILLED, round(seconds, 1))
        if code == PASSED:
            return Outcome(SURVIVED, round(seconds, 1))
        # A change that cannot even be imported is noticed by anything, and says nothing about the tests.
        return Outcome(BROKEN, round(seconds, 1), f"no test ran to its end (pytest ended with {code}): {output[-300:]}")


def _left_out(root: Path) -> Callable[[str, list[str]], set[str]]:
    """What is no part of the code, for `shutil.copytree`."""
    anywhere = shutil.ignore_patterns(*NOT_COPIED)

    def ignore(folder: str, names: list[str]) -> set[str]:
        made = set(NOT_COPIED_FROM_THE_TOP) if Path(folder) == root else set()
        return anywhere(folder, names) | (made & set(names))

    return ignore


def _counts(report: Path) -> dict[str, int]:
    """How many tests, failures, errors and skipped ones a report of pytest counts; empty when there is none."""
    try:
        suites = ElementTree.parse(report).getroot().iter("testsuite")
        sums: dict[str, int] = {}
        for suite in suites:
            for name in ("tests", "failures", "errors", "skipped"):
                sums[name] = sums.get(name, 0) + int(suite.get(name, 0))
        return sums
    except (OSError, ElementTree.ParseError):
        return {}


class Runner:
    """Runs mutations, several at a time, each worker in a copy of its own."""

    def __init__(self, root: Path, results: Results, workers: int, timeout: float | None) -> None:
        self.root, self.results, self.workers, self.timeout = root, results, workers, timeout
        self._together: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._baselines: dict[tuple[str, ...], tuple[threading.Lock, list[tuple[float, str]]]] = {}
        self._lock = threading.Lock()

    def run(self, mutations: Sequence[Mutation]) -> Iterator[tuple[Mutation, Outcome]]:
        """The outcome of each, in the order in which they become known; those that are known come first."""
        wanted = []
        for mutation in mutations:
            known = self.results.get(mutation.key(self.root))
            if known is None:
                wanted.append(mutation)
            else:
                yield mutation, known
        if not wanted:
            return
        for mutation in wanted:
            tests = self._together.get(mutation.files, ())
            self._together[mutation.files] = tuple(dict.fromkeys((*tests, *mutation.tests)))
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            copies = [Copy(self.root, Path(folder) / "0")]  # the tree as it is now; it may be edited from here on
            copies += [Copy(copies[0].root, Path(folder) / str(n)) for n in range(1, min(self.workers, len(wanted)))]
            keys = {mutation: mutation.key(copies[0].root) for mutation in wanted}
            free = list(copies)

            def work(mutation: Mutation) -> Outcome:
                with self._lock:
                    copy = free.pop()
                try:
                    outcome = self._judge(copy, mutation)
                finally:
                    with self._lock:
                        free.append(copy)
                self.results.add(keys[mutation], mutation, outcome)
                return outcome

            with ThreadPoolExecutor(len(copies)) as pool:
                running = {pool.submit(work, mutation): mutation for mutation in _one_of_each_first(wanted)}
                try:
                    for done in as_completed(running):
                        yield running[done], done.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for copy in copies:
                        copy.stop(for_good=True)
                    raise

    def _judge(self, copy: Copy, mutation: Mutation) -> Outcome:
        # All tests of a file at once, which costs little more than one of them; only where that fails each for itself.
        seconds, problem = self._baseline(copy, self._together[mutation.files])
        if problem:
            seconds, problem = self._baseline(copy, mutation.tests)
        if problem:
            return Outcome(BROKEN, 0.0, problem)
        patience = PATIENCE_SECONDS + PATIENCE_FACTOR * seconds if self.timeout is None else self.timeout
        return copy.judge(mutation, patience)

    def _baseline(self, copy: Copy, tests: tuple[str, ...]) -> tuple[float, str]:
        """Seconds that the tests take on the code as it is, and why they cannot judge; once for each set of tests."""
        with self._lock:
            lock, found = self._baselines.setdefault(tests, (threading.Lock(), []))
        with lock:
            if not found:
                code, counts, seconds, output = copy.run(tests, LONGEST_BASELINE_SECONDS)
                problem = ""
                if code != PASSED:
                    problem = f"the tests do not pass on the code as it is: {output[-300:]}"
                elif not counts.get("tests") or counts.get("skipped"):
                    problem = "the tests are skipped here; they need a library or data that is not installed"
                found.append((seconds, problem))
        return found[0]


def _one_of_each_first(mutations: Sequence[Mutation]) -> list[Mutation]:
    """In an order in which hardly a worker waits for another that tries its tests on the code as it is."""
    seen: set[tuple[str, ...]] = set()
    first, later = [], []
    for mutation in mutations:
        (later if mutation.files in seen else first).append(mutation)
        seen.add(mutation.files)
    return first + later


def table(mutations: Sequence[Mutation], results: Results, root: Path, page: str = "") -> str:
    """docs/mutants.md: every mutation with its tests and what became of it.

    Parameters
    ----------
    mutations, results, root
        What there is, and what is known of it.
    page
        The table as it was: what it says of a mutation that was not run on this code stays, and is marked as older.
    """
    outcomes = [results.get(mutation.key(root)) for mutation in mutations]
    before = _killed_before(page)
    killed = sum(outcome is not None and outcome.result == KILLED for outcome in outcomes)
    older = sum(
        outcome is None and mutation.name in before for mutation, outcome in zip(mutations, outcomes, strict=True)
    )
    minutes = sum(outcome.seconds for outcome in outcomes if outcome is not None) / 60
    lines = [
        "# Mutations, and the tests that notice them",
        "",
        "Each row breaks the product in one way; the tests named beside it must then fail. `make mutants` runs them",
        "(`python scripts/mutants.py --help`), outside CI, and `python scripts/mutants.py --table` writes this page.",
        "The texts that are changed are in `scripts/mutants.json`.",
        "",
        f"{killed} of {len(mutations)} are killed; their tests took {minutes:.1f} minutes in all."
        + (f" {older} more were killed by an earlier run{SINCE}" if older else ""),
        "",
        "| What would go wrong | Where | Tests | Result | Seconds |",
        "|---|---|---|---|---:|",
    ]
    for mutation, outcome in zip(mutations, outcomes, strict=True):
        known = before.get(mutation.name, ("not run", ""))
        result, seconds = known if outcome is None else (outcome.result, f"{outcome.seconds:.0f}")
        tests = "<br>".join(f"`{_short(test)}`" for test in mutation.tests)
        name = _in_table(mutation.name)
        lines.append(f"| {name} | `{mutation.file.removeprefix('HeartLensCAC/')}` | {tests} | {result} | {seconds} |")
    return "\n".join(lines) + "\n"


def _killed_before(page: str) -> dict[str, tuple[str, str]]:
    """Result and seconds of what a page of this kind calls killed, by name; a row has them in its last two cells."""
    known = {}
    for line in page.splitlines():
        cells = line.split(" | ")
        if len(cells) >= 5 and cells[-2].startswith(KILLED):
            name = " | ".join(cells[:-4]).removeprefix("| ").replace("\\|", "|")
            known[name] = (BEFORE, cells[-1].removesuffix(" |"))
    return known


def _in_table(name: str) -> str:
    return name.replace("|", "\\|")


def _short(test: str) -> str:
    return test.removeprefix("HeartLensCAC/Testing/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the list; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME-PART", default="", help="those with this in their name or file")
    parser.add_argument("--list", action="store_true", help="print the names, run nothing")
    parser.add_argument("--table", action="store_true", help=f"write {TABLE} from the results, run nothing")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="mutations at a time (default 2)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for each mutation (default: by its tests)")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree (default: this checkout)")
    options: Any = parser.parse_args(arguments)
    root = options.root.resolve()
    if options.workers < 1:
        parser.error("--workers must be 1 or more")
    try:
        mutations = read_list(root / LIST, root)
    except ListError as error:
        print(error, file=sys.stderr)
        return 2
    results = Results(root / RESULTS)
    if options.table:
        (root / TABLE).parent.mkdir(exist_ok=True)
        page = (root / TABLE).read_text(encoding="utf-8") if (root / TABLE).is_file() else ""
        (root / TABLE).write_text(table(mutations, results, root, page), encoding="utf-8")
        return 0
    part = options.only.lower()
    chosen = [m for m in mutations if part in m.name.lower() or part in m.file.lower()]
    if options.list:
        for mutation in chosen:
            print(f"{mutation.file}: {mutation.name}")
        return 0
    if not chosen:
        print(f"no mutation has {options.only!r} in its name or file", file=sys.stderr)
        return 2
    try:
        return _run(Runner(root, results, options.workers, options.timeout), chosen)
    except KeyboardInterrupt:
        print("stopped; run the same command to resume", file=sys.stderr)
        return STOPPED


def _run(runner: Runner, mutations: Sequence[Mutation]) -> int:
    """Run some mutations and tell of each; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tests that still run are ended, the copies removed
    begun = time.monotonic()
    failed = 0
    for mutation, outcome in runner.run(mutations):
        failed += outcome.result != KILLED
        print(f"{outcome.result:10} {outcome.seconds:6.1f} s  {mutation.name}", flush=True)
        if outcome.result != KILLED:
            print(f"{'':21}{mutation.file}; {', '.join(mutation.tests)}", flush=True)
            if outcome.why:
                print(f"{'':21}{outcome.why}", flush=True)
    print(f"{len(mutations) - failed} of {len(mutations)} killed, {(time.monotonic() - begun) / 60:.1f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
