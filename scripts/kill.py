#!/usr/bin/env python3
"""Kill HeartLens at random moments, and look at what is left on the disk; `make kill` runs it.

    python scripts/kill.py                 # 500 kills; writes docs/kills.md
    python scripts/kill.py --kills 25      # fewer, of every kind; prints alone
    python scripts/kill.py --only edits    # kinds with this in their name; prints alone

A child is forked for each kill, with everything imported already, and gets SIGKILL after a random part of the time that
the same work takes undisturbed; of what writes results, every second one only counts from the first file on. What a
child tells by a line on a pipe is what a reader was told: an edit that was on the screen, a signature that was given.

Exit 0: nothing was lost. 1: something was; it is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "HeartLensCAC"))

import numpy as np  # noqa: E402

from heartlens.__main__ import main as heartlens  # noqa: E402
from heartlens.app.console import stopping_cleanly  # noqa: E402
from heartlens.app.review_session import ReviewSession  # noqa: E402
from heartlens.app.worker import serve  # noqa: E402
from heartlens.case.case import Case  # noqa: E402
from heartlens.case.folder import save_case  # noqa: E402
from heartlens.case.seal import SealState  # noqa: E402
from heartlens.core.ct import CTHeader, CTVolume  # noqa: E402
from heartlens.core.disk.workplace import clear_leftovers  # noqa: E402
from heartlens.core.lesions import Artery, LesionMap  # noqa: E402
from heartlens.core.protocol import ScoringProtocol  # noqa: E402
from heartlens.phantom import PhantomParameters, make_phantom  # noqa: E402
from heartlens.phantom.files import write_phantom  # noqa: E402

TABLE = ROOT / "docs" / "kills.md"

PHANTOM = {
    "matrix": 96, "increment_mm": 5.0, "slice_thickness_mm": 5.0, "field_of_view": "heart", "category": "101-400",
    "motion_mm": 0.0,
}  # fmt: skip
"""Small: what matters is how many files are written, not how large they are."""

ROUNDS = 4
"""Of editing, signing and exporting; enough that each may be hit more than once."""

SIGNER = ("Reader^Rita", "Phantom Hospital")


@dataclass
class Outcome:
    """What is counted of the kills of one kind.

    Parameters
    ----------
    kills
        How many.
    in_writing
        Of these, while files were written.
    acknowledged
        Edits and signatures that were told as kept.
    lost
        Of these, what was not there.
    half
        Results that were there in part, or cases that did not open.
    false_signatures
        Cases shown as signed that nobody had signed as they were, or reports that say so.
    torn
        Journals with a torn end of an edit that nobody had been told of; they open without it.
    left
        Kills after which something lay beside the result.
    left_later
        Of these, how often it still lay there after the next run.
    problems
        What was wrong, a sentence each.
    """

    kills: int = 0
    in_writing: int = 0
    acknowledged: int = 0
    lost: int = 0
    half: int = 0
    false_signatures: int = 0
    torn: int = 0
    left: int = 0
    left_later: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """Something to be killed in.

    Parameters
    ----------
    name
        As the table says it.
    share
        Of 500 kills.
    prepare
        Makes the folder to work in.
    work
        What the child does; it tells what is kept by lines.
    look
        Judges what is left.
    in_writing
        Whether every second kill waits for the first file.
    signals
        One of these ends the child.
    """

    name: str
    share: int
    prepare: Callable[[Path], None]
    work: Callable[[Path, Callable[[Any], None]], None]
    look: Callable[[Path, list[Any], Outcome], None]
    in_writing: bool = True
    signals: tuple[int, ...] = (signal.SIGKILL,)


class Bench:
    """The inputs, made once, and what an undisturbed run makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_phantom(folder / "phantom", make_phantom(PhantomParameters.random(5, **PHANTOM)), format="dicom")
        self.ct = folder / "phantom" / "ct"
        self.result = self._scored("by-rules", "--bundle", "none")
        self.names = names_in(self.result)
        self.totals = {total_of(self.result), total_of(self._scored("by-networks"))}
        save_case(porous_case(), folder / "porous")

    def _scored(self, name: str, *options: str) -> Path:
        """In a child, because the networks' library must not be loaded where children are forked."""
        out = self.folder / name
        child, told = fork(lambda tell: tell(heartlens(["score", str(self.ct), "--out", str(out), *options])))
        os.waitpid(child, 0)
        if list(lines_of(told)) != [0]:
            raise SystemExit("the phantom cannot be scored; see above")
        return out

    def score(self, *options: str) -> Callable[[Path, Callable[[Any], None]], None]:
        """The command."""
        return lambda place, tell: tell(heartlens(["score", str(self.ct), "--out", str(place / "out"), *options]))

    def worker(self, place: Path, tell: Callable[[Any], None]) -> None:
        """As a desktop program would be served: it hears a job on stdin."""
        job = {
            "cmd": "score",
            "job": "1",
            "input": str(self.ct),
            "out": str(place / "out"),
            "options": {"bundle": "none"},
        }
        hear, say = os.pipe()
        os.write(say, json.dumps(job).encode() + b"\n")  # stays open, so that the worker waits for more
        os.dup2(hear, 0)
        events, out = os.pipe()
        os.dup2(out, 1)
        os.set_inheritable(0, True)
        if os.fork() == 0:  # a reader of the events, which goes with the pipe
            os.close(out), os.close(1), os.close(say)
            with os.fdopen(events) as heard:
                for line in heard:
                    if json.loads(line)["event"] in ("done", "error"):
                        tell(json.loads(line)["event"])
            os._exit(0)
        with stopping_cleanly():  # as the command does
            serve()

    def look_at_result(self, place: Path, told: list[Any], outcome: Outcome) -> None:
        """A whole result or none, an old one always; and what lies beside it goes with the next run."""
        out = place / "out"
        beside = {path.name for path in place.iterdir()} - {"out"}
        outcome.left += bool(beside)
        clear_leftovers(out)
        outcome.left_later += bool({path.name for path in place.iterdir()} - {"out"})
        if told and not out.exists():
            outcome.lost += 1
            outcome.problems.append(f"{told}, and no result")
        if out.exists() and (names_in(out) != self.names or total_of(out) not in self.totals):
            outcome.half += 1
            outcome.problems.append(f"half a result: {sorted(names_in(out) ^ self.names)}")

    def look_at_forced(self, place: Path, told: list[Any], outcome: Outcome) -> None:
        """There was a result before."""
        self.look_at_result(place, told, outcome)
        if not (place / "out").exists():
            outcome.lost += 1
            outcome.problems.append("the old result is gone")


def small_edits(place: Path, tell: Callable[[Any], None]) -> None:
    """Clicks, one after the other."""
    with ReviewSession.open(place / "case", reader="Rita") as reading:
        for n in range(60):
            reading.assign(1, (Artery.LCX, Artery.LAD)[n % 2])
            tell([len(reading.case.edits), reading.case.report.arteries[Artery.LCX].agatston])


def large_edits(place: Path, tell: Callable[[Any], None]) -> None:
    """Strokes that touch every second voxel, so that each line of the journal has tens of kilobytes."""
    with ReviewSession.open(place / "case", reader="Rita") as reading:
        flat = np.flatnonzero(reading.case.lesions.labels == 1)[::2]
        for _ in range(25):
            reading.keep_edits(reading.case.erase(flat))
            tell([len(reading.case.edits), reading.case.report.arteries[Artery.LCX].agatston])
            reading.undo()
            tell([len(reading.case.edits), reading.case.report.arteries[Artery.LCX].agatston])


def sign_and_export(place: Path, tell: Callable[[Any], None]) -> None:
    """An edit, a signature, and everything written, again and again."""
    with ReviewSession.open(place / "case", reader="Rita") as reading:
        for n in range(ROUNDS):
            reading.assign(1, (Artery.LCX, Artery.LAD)[n % 2])
            tell([len(reading.case.edits), reading.case.report.arteries[Artery.LCX].agatston])
            reading.sign(*SIGNER, confirmed=True)
            tell([len(reading.case.edits), "signed"])
            reading.export(place / f"export-{n}")
            tell([len(reading.case.edits), f"export-{n}"])


def look_at_case(place: Path, told: list[Any], outcome: Outcome) -> None:
    """Every edit that was told is there with the numbers that were told, and nothing is signed that nobody signed."""
    outcome.acknowledged += sum(line[1] == "signed" or not isinstance(line[1], str) for line in told)
    edits = max((line[0] for line in told), default=0)
    try:
        with ReviewSession.open(place / "case") as reading:
            found = len(reading.case.edits)
            outcome.torn += any("journal are damaged" in finding for finding in reading.findings)
            outcome.lost += max(0, edits - found)
            shown = [line[1] for line in told if line[0] == found and not isinstance(line[1], str)]
            if shown and reading.case.report.arteries[Artery.LCX].agatston != shown[-1]:
                outcome.half += 1
                outcome.problems.append("other numbers than were shown")
            state = reading.seal.state
            if [edits, "signed"] in told and found == edits and state is not SealState.HOLDS:
                outcome.lost += 1
                outcome.problems.append(f"a signature that was given is {state}")
            says = json.loads((place / "case" / "report.json").read_text())
            if says["assessment"]["state"] == "signed" and says["edits"] == found and state is not SealState.HOLDS:
                outcome.false_signatures += 1
            if state is SealState.ALTERED:
                outcome.false_signatures += 1
                outcome.problems.append(str(reading.seal))
    except Exception as error:  # whatever it is, the case does not open
        outcome.half += 1
        outcome.problems.append(f"the case does not open: {error}")
    stray = {path.name for path in place.iterdir() if path.name.startswith(".")}
    stray |= {path.name for path in (place / "case").iterdir() if path.name.startswith(".")}
    outcome.left += bool(stray)
    for n in range(ROUNDS):
        out = place / f"export-{n}"
        clear_leftovers(out)
        if any(line[1] == out.name for line in told) and not out.exists():
            outcome.lost += 1
            outcome.problems.append("an export that was told is not there")
        if out.exists():
            try:
                total_of(out)
            except Exception as error:
                outcome.half += 1
                outcome.problems.append(f"half an export: {error}")
    outcome.left_later += any(path.name.startswith(".") for path in place.iterdir())


def porous_case() -> Case:
    """One lesion of 9,000 voxels, every second of which a stroke can take, and a small one."""
    voxels = np.zeros((10, 64, 64), np.int16)
    voxels[1:9, 4:38, 4:38], voxels[4, 50:53, 50:53] = 200, 450
    labels = np.zeros(voxels.shape, np.uint16)
    labels[1:9, 4:38, 4:38], labels[4, 50:53, 50:53] = 1, 2
    ct = CTVolume(voxels, np.diag([0.5, 0.5, 3.0, 1.0]), CTHeader(slice_thickness_mm=3.0, kvp=120.0))
    return Case.of(ct, LesionMap(labels, {1: Artery.LAD, 2: Artery.RCA}), ScoringProtocol())


def names_in(folder: Path) -> set[str]:
    """Files of a result."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def total_of(result: Path) -> float:
    """Score of a result, its case opened and both compared."""
    total = json.loads((result / "report.json").read_text())["total"]["agatston"]
    with ReviewSession.open(result) as reading:
        if reading.case.report.total.agatston != total:
            raise ValueError("case and report.json differ")
    return float(total)


def fork(work: Callable[[Callable[[Any], None]], None]) -> tuple[int, int]:
    """A child and the pipe on which it tells."""
    told, say = os.pipe()
    child = os.fork()
    if child:
        os.close(say)
        return child, told
    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    code = 1
    try:
        work(lambda line: os.write(say, json.dumps(line).encode() + b"\n") and None)
        code = 0
    finally:
        os._exit(code)


def lines_of(told: int) -> Iterator[Any]:
    """Whole lines until the end; no `json` of a line that was cut off."""
    with os.fdopen(told, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def is_writing(place: Path) -> bool:
    """Whether a result is being written there."""
    return any(path.suffix in (".part", ".old", ".owner") for path in place.iterdir())


def undisturbed(kind: Kind, place: Path) -> tuple[float, float]:
    """Seconds that the work takes, and after how many it begins to write."""
    kind.prepare(place)
    begin, first = time.monotonic(), None
    child, told = fork(lambda tell: kind.work(place, tell))
    end = begin + 20
    while time.monotonic() < end and os.waitpid(child, os.WNOHANG) == (0, 0):
        if first is None and is_writing(place):
            first = time.monotonic() - begin
        if "worker" in kind.name and (place / "out").exists():
            break
        time.sleep(0.002)
    seconds = time.monotonic() - begin
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
    os.close(told)
    return seconds, seconds if first is None else first


def kill_once(kind: Kind, place: Path, chance: random.Random, seconds: float, first: float, outcome: Outcome) -> None:
    """One child, killed; what it left is judged."""
    kind.prepare(place)
    child, told = fork(lambda tell: kind.work(place, tell))
    if kind.in_writing and chance.random() < 0.5:
        end = time.monotonic() + 10 * seconds
        while not is_writing(place) and time.monotonic() < end and not (place / "out").exists():
            time.sleep(0.001)
        delay = chance.random() * (seconds - first)
    else:
        delay = chance.random() * seconds
    time.sleep(delay)
    outcome.in_writing += is_writing(place)
    number = chance.choice(kind.signals)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, number) if number == signal.SIGKILL else os.kill(child, number)
    os.waitpid(child, 0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # who read its events
    outcome.kills += 1
    kind.look(place, list(lines_of(told)), outcome)


def kinds_of(bench: Bench) -> list[Kind]:
    """What is killed, and how often of 500."""

    def empty(place: Path) -> None:
        place.mkdir()

    def with_result(place: Path) -> None:
        shutil.copytree(bench.result, place / "out")

    def with_case(place: Path) -> None:
        shutil.copytree(bench.folder / "porous", place / "case")

    rules = ("--bundle", "none")
    return [
        Kind("`score --out`, by the rules", 100, empty, bench.score(*rules), bench.look_at_result),
        Kind("`score --out`, by the networks", 40, empty, bench.score(), bench.look_at_result),
        Kind("`score --out --force`", 100, with_result, bench.score("--force", *rules), bench.look_at_forced),
        Kind("worker job, KILL or TERM", 50, empty, bench.worker, bench.look_at_result,
             signals=(signal.SIGKILL, signal.SIGTERM)),
        Kind("edits, small (lines of 0.2 kB)", 80, with_case, small_edits, look_at_case, in_writing=False),
        Kind("edits, large (lines of 50 kB)", 60, with_case, large_edits, look_at_case, in_writing=False),
        Kind("edit, sign, export", 70, with_case, sign_and_export, look_at_case),
    ]  # fmt: skip


HEADINGS = ("killed in", "kills", "while writing a result", "told as kept", "of these lost", "half, or does not open",
            "signed that is not", "torn end, dropped", "left behind", "left after the next run")  # fmt: skip


def table(outcomes: dict[str, Outcome]) -> str:
    """The outcomes in Markdown, with their sum."""
    rows = [(name, *row_of(outcome)) for name, outcome in outcomes.items()]
    rows.append(("**all**", *(sum(numbers) for numbers in zip(*(row[1:] for row in rows), strict=True))))
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" + "|---:" * (len(HEADINGS) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def row_of(o: Outcome) -> tuple[int, ...]:
    """The numbers of one line, in the order of `HEADINGS`."""
    return o.kills, o.in_writing, o.acknowledged, o.lost, o.half, o.false_signatures, o.torn, o.left, o.left_later


def main() -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary))
        for kind in kinds_of(bench):
            if options.only not in kind.name:
                continue
            outcome = outcomes[kind.name] = Outcome()
            seconds, first = undisturbed(kind, bench.folder / "undisturbed")
            shutil.rmtree(bench.folder / "undisturbed")
            for n in range(round(kind.share * options.kills / 500)):
                place = bench.folder / f"place-{n}"
                kill_once(kind, place, chance, seconds, first, outcome)
                shutil.rmtree(place)
            print(f"{kind.name}: {seconds:.1f} s undisturbed, {outcome.kills} kills", file=sys.stderr, flush=True)
    print(table(outcomes))
    problems = Counter(problem for outcome in outcomes.values() for problem in outcome.problems)
    for problem, times in problems.items():
        print(f"{times} times: {problem}", file=sys.stderr)
    if options.kills >= 500 and not options.only:
        TABLE.write_text(PAGE.format(table=table(outcomes), seed=options.seed), encoding="utf-8")
    bad = sum(o.lost + o.half + o.false_signatures + o.left_later for o in outcomes.values())
    return 1 if bad or problems else 0


PAGE = """# Kills

What is left on the disk when the program is killed at random moments. Written by `make kill`; seed {seed}.

{table}

*Told as kept*: edits that were on the screen, signatures that were given. *Left behind*: hidden files beside the
result or in the case; the next run on that output, or the next to open the case, clears them away.
*Torn end*:
the last line of the journal was written in part, of an edit that nobody had been told of; the case opens without it.
"""

if __name__ == "__main__":
    sys.exit(main())
