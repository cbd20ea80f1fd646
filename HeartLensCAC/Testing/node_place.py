"""A node for its unit tests: the clock is set, the archive is in memory, the worker writes what it is told."""

from __future__ import annotations

import json
from pathlib import Path

import small_chest

from heartlens.app.messages import Event
from heartlens.pacs.archive import ArchiveError, FoundSeries
from heartlens.pacs.node.intake import Intake
from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import key_of
from heartlens.pacs.node.rules import Phase, Waits
from heartlens.pacs.node.service import Node, Settings

KEY = key_of("1.2", "1.2.3")
DOWN = ArchiveError("down", "archive memory cannot be reached")
WAITS = Waits(quiet_s=30, unverified_s=300, ask_again_s=60)


class MemoryArchive:
    """What it has been sent, and how many images it says a series has; `trouble` is raised instead."""

    name = "memory"

    def __init__(self):
        self.files, self.count, self.trouble, self.asked = [], None, None, 0

    def series(self, study_uid, series_uid=""):
        self.asked += 1
        if self.trouble:
            raise self.trouble
        return [] if self.count is None else [FoundSeries(study_uid, series_uid, "CT", "", self.count)]

    def send(self, path):
        if self.trouble:
            raise self.trouble
        self.files.append(path.read_text())

    def close(self):
        pass


class WritingScorer:
    """Makes a result whose numbers are `says`, or ends with `fails`; hears what it was asked."""

    def __init__(self):
        self.says, self.fails, self.asked, self.during = {}, "", [], lambda: None
        self.crashes, self.pid = 0, 1

    def score(self, files, out, more, stop):
        self.asked.append((sorted(files), more))
        self.during()
        if self.fails:
            return Event("error", "job", code=self.fails, text="/home/somebody/DOE^JANE/1.dcm")
        out.mkdir()
        report = {"ct": {"slices": 41, "increment_mm": 3.0}, "warnings": []}
        report |= {"assessment": {"evaluable": "yes", "reasons": []}}
        (out / "report.json").write_text(json.dumps({**report, **self.says}))
        for name in ("report.dcm", "segmentation.dcm", "key-page.dcm", "key-page-2.dcm", "report-pdf.dcm"):
            (out / name).write_text(f"{out.name} {name}")
        return Event("done", "job", fraction=1.0, out=str(out), case=str(out / "case"))

    def stop(self):
        pass


class Place:
    """A node with its parts, and images to send it."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self.now = 1000.0
        self.files = files
        self.home = folder
        folder.mkdir()
        self.archive, self.scorer = MemoryArchive(), WritingScorer()
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.home / "ledger.sqlite")
        self.intake = Intake(self.home / "spool", self.ledger, least_free_bytes=0, clock=lambda: self.now)
        self.node = self.another()

    def start_again(self) -> None:
        """As after a kill: with what is on the disk, and nothing else."""
        self.ledger.close()
        self.open()
        self.node.recover()

    def another(self, **changes):
        settings = Settings(**{"waits": WAITS, "retry_s": 5.0, **changes})
        return Node(
            self.home, self.ledger, self.intake, self.scorer, lambda: self.archive, settings=settings,
            clock=lambda: self.now,
        )  # fmt: skip

    def bring(self, *numbers: int) -> None:
        for number in numbers:
            self.intake.take(self.files[number].read_bytes())

    def wait(self, seconds: float) -> Phase:
        """Let time pass, and do everything that can be done."""
        self.now += seconds
        for _ in range(3):
            self.node.judge_all()
            self.node.score_next()
            self.node.send_next()
        return self.state

    @property
    def row(self):
        (row,) = self.ledger.series(key=KEY)
        return row

    @property
    def state(self) -> Phase:
        return self.row.state


def ready_to_send(place):
    place.archive.count = 2
    place.bring(0, 1)
    place.now += 30
    place.node.judge_all()
    place.node.score_next()
    assert place.state is Phase.SCORED


def another_series(place, folder):
    paths = small_chest.write_series(folder, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.4")[:2]
    for path in paths:
        place.intake.take(path.read_bytes())
    return key_of("1.2", "1.2.4")


def state_of(place, key):
    return place.ledger.series(key=key)[0].state
