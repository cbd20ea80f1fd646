"""The power fails: of everything that was not synced a part is there, in any combination; what a reader was told was
kept is kept, and the case opens.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from failing_disk import Disk
from test_failures import OMAR, RITA, tiny_case
from unsynced import History

from heartlens.app.review_session import ReviewSession
from heartlens.app.verify import verify_case
from heartlens.case.result import Result
from heartlens.case.seal import SealState
from heartlens.core.disk.workplace import clear_leftovers
from heartlens.core.lesions import Artery
from heartlens.report.outputs import write_outputs
from heartlens.risk.person import RiskInputs

pytestmark = pytest.mark.slow

TRIES = 3
"""Of what became of the unsynced, at each moment and for each kind of file system."""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Where the history says what is on the disk, the real one need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "out"
    write_outputs(Result(tiny_case(), ()), folder)
    return folder


STEPS = (
    lambda r: r.assign(1, Artery.LCX),
    lambda r: r.assign(2, Artery.LM),
    lambda r: r.save_report(),
    lambda r: r.sign(*RITA, confirmed=True),
    lambda r: r.assign(1, Artery.RCA),
    lambda r: r.undo(),
    lambda r: r.sign(*OMAR, confirmed=True),
    lambda r: r.grade(RiskInputs(age_years=60, sex="F")),
    lambda r: r.remove(2),
    lambda r: r.save_report(),
)
"""What a reader does, one after the other; when a step returns, the reader has been told that it is kept."""


@pytest.mark.parametrize("in_order", [True, False])
def test_what_a_reader_was_told_is_kept_is_there_when_the_power_comes_back(in_order, saved, tmp_path):
    root = tmp_path / "disk"
    shutil.copytree(saved / "case", root / "case")
    history, told = History(root), []
    with ReviewSession.open(root / "case", reader="Rita") as reading, Disk(root).watched(history=history):
        for step in STEPS:
            step(reading)
            told.append((history.acknowledge(), reading.case, reading.seal))
    assert len(told) == len(STEPS)
    assert sum(moment.kind == "sync" for moment in history.moments) >= len(STEPS)

    chance = random.Random(7)
    first = (0, tiny_case(), None)
    for moment in range(len(history.moments) + 1):
        _, known, seal = [state for state in (first, *told) if state[0] <= moment][-1]
        coming = next((state for state in told if state[0] > moment), None)
        for attempt in range(TRIES):
            place = tmp_path / f"{moment}-{attempt}"
            history.after_power_failure(moment, chance, place, in_order=in_order)
            verified = verify_case(place / "case")
            # An edit of a signed case that was torn off half-way: said openly, and never the other way round.
            assert verified.seal.state is not SealState.ALTERED or "journal are damaged" in verified.problem, moment
            with ReviewSession.open(place / "case") as reading:
                edits = reading.case.edits
                assert edits[: len(known.edits)] == known.edits, (moment, attempt)
                assert len(edits) <= (len(known.edits) if coming is None else len(coming[1].edits))
                if edits == known.edits:
                    assert reading.case.report == known.report
                if reading.seal.state is SealState.HOLDS:
                    signed = [s for s in (seal, None if coming is None else coming[2]) if s is not None]
                    assert reading.signature in [s.signature for s in signed], (moment, attempt)
                if seal is not None and seal.state is SealState.HOLDS and coming is not None and coming[2] == seal:
                    assert reading.seal.state is SealState.HOLDS, (moment, attempt)
                assert reading.case.risk_inputs in {known.risk_inputs, (coming or (0, known))[1].risk_inputs}
            shutil.rmtree(place)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("is_forced", [True, False])
def test_a_result_is_there_as_a_whole_or_not_at_all_when_the_power_comes_back(in_order, is_forced, saved, tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    if is_forced:
        shutil.copytree(saved, root / "out")
    case = tiny_case().graded(RiskInputs(age_years=71, sex="M"))
    history = History(root)
    with Disk(root).watched(history=history):
        write_outputs(Result(case, ()), root / "out", force=is_forced)
        told = history.acknowledge()
    expected = names_in(root / "out")

    chance = random.Random(11)
    for moment in range(len(history.moments) + 1):
        place = tmp_path / f"{moment}"
        history.after_power_failure(moment, chance, place, in_order=in_order)
        clear_leftovers(place / "out")  # as the next run does first
        assert {path.name for path in place.iterdir()} <= {"out"}, moment
        assert (place / "out").exists() or (moment < told and not is_forced), moment
        if (place / "out").exists():
            assert names_in(place / "out") == expected, moment
            with ReviewSession.open(place / "out") as reading:
                assert reading.case.report == case.report
                assert reading.case.risk_inputs == case.risk_inputs or (is_forced and moment < told), moment
                assert not reading.findings
        shutil.rmtree(place)


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
