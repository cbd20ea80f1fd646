"""Everything that saving, editing, grading and signing ask of the disk and of the memory fails once, one thing after
the other; after each the case is what it was or what it should be, and the same action then works.

CI tries one error at each point, and a sample of the points at which a result is written; `HEARTLENS_ALL_FAILURES=1`
tries each error at every point, as `make kill` does.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing_disk import ERRORS, NEEDS_ROOM, Disk, Fault, full
from tiny_ct import make_ct

from heartlens.app.review_session import ReviewSession
from heartlens.app.verify import verify_case
from heartlens.case.case import Case
from heartlens.case.folder import save_case
from heartlens.case.journal import TORN
from heartlens.case.lock import LOCK
from heartlens.case.result import Result
from heartlens.case.seal import SealState
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import write_phantom
from heartlens.pipeline import Request, score_series
from heartlens.report.outputs import write_outputs
from heartlens.risk.person import RiskInputs

pytestmark = pytest.mark.slow

RITA, OMAR = ("Reader^Rita", "Phantom Hospital"), ("Reader^Omar", "Phantom Hospital")

CASE_FILES = {"case.json", "ct.nrrd", "auto.seg.nrrd", "edits.jsonl", "report.json", "signature.json"}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """What is written stays in this machine's memory; only the asking matters here."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


TRIES_EVERYTHING = "HEARTLENS_ALL_FAILURES" in os.environ


def tiny_case() -> Case:
    """Two rows of 4 pixels at 200 HU in the LAD and 4 pixels at 450 HU in the RCA."""
    voxels = np.zeros((4, 16, 16), np.int16)
    voxels[1, 2:4, 2:6], voxels[2, 9:11, 9:11] = 200, 450
    labels = np.zeros(voxels.shape, np.uint16)
    labels[1, 2:4, 2:6], labels[2, 9:11, 9:11] = 1, 2
    return Case.of(make_ct(voxels), LesionMap(labels, {1: Artery.LAD, 2: Artery.RCA}), ScoringProtocol())


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A case with two edits, nobody's signature, and an up-to-date report."""
    folder = tmp_path_factory.mktemp("edited") / "case"
    save_case(tiny_case(), folder)
    with ReviewSession.open(folder, reader="Rita") as reading:
        reading.assign(1, Artery.LCX)
        reading.assign(2, Artery.LM)
        reading.save_report()
    return folder


@pytest.fixture(scope="module")
def signed(edited, tmp_path_factory):
    """The same, signed."""
    folder = tmp_path_factory.mktemp("signed") / "case"
    shutil.copytree(edited, folder)
    with ReviewSession.open(folder, reader="Rita") as reading:
        reading.sign(*RITA, confirmed=True)
    return folder


@pytest.fixture(scope="module")
def torn(edited, tmp_path_factory):
    """The same as `edited`, its second line torn by a power failure."""
    folder = tmp_path_factory.mktemp("torn") / "case"
    shutil.copytree(edited, folder)
    journal = folder / "edits.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    return folder


@dataclass(frozen=True)
class Action:
    """Something a reader does, on which case, and what is to be true once it was done."""

    start: str
    do: Callable[[ReviewSession], Any]
    edits: int
    state: SealState


ACTIONS = {
    "reassign": Action("edited", lambda r: r.assign(1, Artery.RCA), 3, SealState.NONE),
    "paint": Action("edited", lambda r: r.apply_edited_labels(painted(r)), 3, SealState.NONE),
    "undo": Action("edited", lambda r: r.undo(), 3, SealState.NONE),
    "edit what is signed": Action("signed", lambda r: r.assign(1, Artery.RCA), 3, SealState.LAPSED),
    "edit what is torn": Action("torn", lambda r: r.assign(2, Artery.LM), 2, SealState.NONE),
    "save the report": Action("edited", lambda r: r.save_report(), 2, SealState.NONE),
    "sign": Action("edited", lambda r: r.sign(*RITA, confirmed=True), 2, SealState.HOLDS),
    "sign what is torn": Action("torn", lambda r: r.sign(*RITA, confirmed=True), 1, SealState.HOLDS),
    "sign again": Action("signed", lambda r: r.sign(*OMAR, confirmed=True), 2, SealState.HOLDS),
    "grade": Action("edited", lambda r: r.grade(RiskInputs(age_years=60, sex="F")), 2, SealState.NONE),
    "grade what is signed": Action("signed", lambda r: r.grade(RiskInputs(age_years=60, sex="F")), 2, SealState.NONE),
}


def painted(reading: ReviewSession) -> Any:
    codes = reading.case.scored_codes.copy()
    codes[1, 2, 2] = 0
    return codes


def faults(asked: list[tuple[str, str]]) -> list[Fault]:
    """For everything that was asked for each error that may happen there (in CI one, in turn), and a full disk."""
    once = [Fault(n, error) for n, (kind, _) in enumerate(asked) for error in ERRORS[kind]]
    lasting = [Fault(n, full, is_lasting=True) for n, (kind, _) in enumerate(asked) if kind in NEEDS_ROOM]
    if TRIES_EVERYTHING:
        return once + lasting
    return [Fault(n, ERRORS[kind][n % len(ERRORS[kind])]) for n, (kind, _) in enumerate(asked)] + lasting[::3]


def numbers(case: Case) -> tuple[Any, ...]:
    return case.report.total.agatston, case.edits, case.risk_inputs


@pytest.mark.parametrize("name", ACTIONS)
def test_whatever_fails_the_case_is_as_it_was_or_as_it_should_be(name, request, tmp_path):
    action = ACTIONS[name]
    start = request.getfixturevalue(action.start)
    disk = Disk(tmp_path)

    def attempt(number: int, fault: Fault | None) -> tuple[Path, BaseException | None, Any]:
        folder = copy_of(start, tmp_path / str(number) / "case")
        error: BaseException | None = None
        with ReviewSession.open(folder, reader="Omar") as reading:
            try:
                with disk.watched(fault):
                    action.do(reading)
            except (InputRefused, MemoryError, KeyboardInterrupt) as caught:
                error = caught
                assert "\n" not in str(error)
            return folder, error, numbers(reading.case)

    folder, error, _ = attempt(0, None)
    assert error is None
    every = faults(disk.asked)
    with ReviewSession.open(folder) as reading:
        assert (len(reading.case.edits), reading.seal.state) == (action.edits, action.state)
        done, files = numbers(reading.case)[::2], left_in(folder)
    with ReviewSession.open(copy_of(start, tmp_path / "start" / "case")) as reading:
        was, was_sealed, was_signed = numbers(reading.case), reading.seal.state, reading.signature
    assert {"open", "write", "sync"} <= {kind for kind, _ in disk.asked}, "the harness saw nothing"

    def judge(number: int, fault: Fault) -> None:
        folder, error, shown = attempt(number, fault)
        where = disk.asked[fault.at]
        # What is brought up to date behind a grading or an edit may fail; the next to open the case does it.
        is_behind = name in ("grade what is signed", "edit what is signed") and "report" in where[1]
        assert error is not None or is_behind or where[0] in ("sync", "remove"), where
        assert verify_case(folder).seal.state is not SealState.ALTERED, where
        assert left_in(folder) <= CASE_FILES | ({TORN} if "torn" in name else set()), where
        with ReviewSession.open(folder, reader="Rita") as reading:
            assert not [finding for finding in reading.findings if "journal" not in finding], where
            seen = (numbers(reading.case)[::2], len(reading.case.edits), reading.seal.state)
            # Ctrl-C may come when all has its name already, and only the folder is still to be synced.
            is_late = isinstance(error, KeyboardInterrupt) and where == ("sync", "case")
            is_done = error is None or ((is_late or is_behind) and seen == (done, action.edits, action.state))
            if not is_late:
                assert numbers(reading.case) == shown, where
            if not is_done:
                assert numbers(reading.case) == was, where
                assert reading.seal.state in (was_sealed, SealState.NONE), where
                assert reading.seal.state is not SealState.HOLDS or reading.signature == was_signed, where
                action.do(reading)
            saved = json.loads((folder / "report.json").read_text())
            says_signed = saved["assessment"]["state"] == "signed" and saved["edits"] == len(reading.case.edits)
            assert says_signed == (reading.seal.state is SealState.HOLDS), where
        with ReviewSession.open(folder, reader="Rita") as reading:
            seen = (numbers(reading.case)[::2], len(reading.case.edits), reading.seal.state)
            assert seen == (done, action.edits, action.state), where
            assert not reading.findings, where
        assert left_in(folder) == files, where
        shutil.rmtree(folder.parent)

    judge_all(judge, every)


def judge_all(judge: Callable[[int, Fault], None], every: list[Fault]) -> None:
    """See all that is wrong, not the first alone."""
    wrong = []
    for number, fault in enumerate(every, 1):
        try:
            judge(number, fault)
        except Exception as error:  # an error that is none of ours is a finding, too
            wrong.append(f"{fault}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    print(f"{len(every)} failures, one after the other; {len(wrong)} wrong")  # seen with -s, as `make kill` runs it
    assert not wrong, f"{len(wrong)} of {len(every)}:\n" + "\n".join(wrong[:20])


def copy_of(folder: Path, into: Path) -> Path:
    shutil.copytree(folder, into)
    return into


def left_in(folder: Path) -> set[str]:
    """Names in a case folder, but of the lock of who looks."""
    return {path.name for path in folder.iterdir()} - {LOCK}


@pytest.fixture(scope="module")
def dicom_result(tmp_path_factory):
    """A small phantom as DICOM, scored by the rules."""
    folder = tmp_path_factory.mktemp("phantom")
    parameters = PhantomParameters.random(
        5, matrix=96, increment_mm=5.0, slice_thickness_mm=5.0, field_of_view="heart", category="101-400", motion_mm=0.0
    )
    write_phantom(folder / "phantom", make_phantom(parameters), format="dicom")
    return score_series(folder / "phantom" / "ct", Request(bundle="none"))


SAMPLE = {"tiny": 40, "dicom": 5}
"""Of the points at which writing a result may fail; a DICOM one costs a third of a second each."""


@pytest.mark.parametrize(("kind", "is_forced"), [("tiny", False), ("tiny", True), ("dicom", True)])
def test_whatever_fails_a_result_is_there_as_a_whole_or_not_at_all(kind, is_forced, request, tmp_path):
    result = Result(tiny_case(), ()) if kind == "tiny" else request.getfixturevalue("dicom_result")
    old = Result(tiny_case(), ())
    write_outputs(old, tmp_path / "old")
    disk = Disk(tmp_path)

    def attempt(number: int, fault: Fault | None) -> tuple[Path, BaseException | None, list[str]]:
        out = tmp_path / f"{number}" / "out"
        out.parent.mkdir()
        if is_forced:
            shutil.copytree(tmp_path / "old", out)
        left_out: list[str] = []
        try:
            with disk.watched(fault):
                left_out = write_outputs(result, out, force=is_forced)
        except (InputRefused, MemoryError, KeyboardInterrupt) as error:
            return out, error, left_out
        return out, None, left_out

    attempt(-1, None)  # the first time more is asked for: what is made once and kept
    out, error, left_out = attempt(0, None)
    assert (error, left_out) == (None, [])
    every, whole = faults(disk.asked), files_below(out)
    if not TRIES_EVERYTHING:
        step = max(1, len(every) // SAMPLE[kind])
        every = every[step // 2 if is_forced else 0 :: step]

    def judge(number: int, fault: Fault) -> None:
        out, error, left_out = attempt(number, fault)
        where = disk.asked[fault.at]
        if error is None:
            # Who works there is told by a lock; what is written into its file is for people.
            is_record = where[1] == LOCK or where[1].endswith(".owner")
            assert left_out or is_record or where[0] in ("sync", "remove"), where
            assert len(left_out) == len(whole - files_below(out)), where
        elif isinstance(error, KeyboardInterrupt) and where == ("sync", out.parent.name):
            assert files_below(out) == whole, where  # Ctrl-C when all has its name already
        elif is_forced:
            assert files_below(out) == files_below(tmp_path / "old"), where
            with ReviewSession.open(out) as reading:
                assert reading.case.report.total.agatston == old.case.report.total.agatston, where
        else:
            assert not out.exists(), where
        assert "\n" not in str(error), where
        assert names_beside(out) == set() or where[0] == "remove", where
        write_outputs(result, out, force=out.exists())
        assert (files_below(out), names_beside(out)) == (whole, set()), where
        shutil.rmtree(out.parent)

    judge_all(judge, every)


def names_beside(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir()} - {out.name}


def files_below(folder: Path) -> set[str]:
    """Of a result, but of a lock that nobody holds any more: the next to open the case takes it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != LOCK}
