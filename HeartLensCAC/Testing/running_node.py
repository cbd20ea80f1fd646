"""`heartlens node` as a process, for the stories with a real archive: it is started, ended, killed and looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import node_chest

from heartlens.pacs.node.ledger import Ledger
from heartlens.pacs.node.rows import SeriesRow
from heartlens.pacs.node.rules import Phase

LIBRARY = Path(__file__).resolve().parents[1]
LIMIT_S = 180


class RunningNode:
    """`heartlens node` as a service would run it."""

    def __init__(self, home: Path, config: Path, *words: str, accept: str = "CT1", send_to: str = "web") -> None:
        self.home, self.config = home, config
        self.words = ("--accept", accept, "--send-to", send_to, *words)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Ready when this returns."""
        command = [sys.executable, "-m", "heartlens", "node", "--home", self.home, "--config", self.config]
        command += ["--bundle", "none", "--quiet", "1.5", "--unverified", "3"]
        command += ["--ask-again", "1", "--retry", "0.5", "--least-free-mb", "0", *self.words]
        environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "2"}
        self.home.mkdir(exist_ok=True)
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=log, env=environment
            )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith(b"Node: "), self.log

    @property
    def log(self) -> str:
        return (self.home.parent / f"{self.home.name}.log").read_text()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def end(self) -> int:
        """As a service is ended."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(60)
        self.process.stdout.close()
        return code

    def row(self, series: str) -> SeriesRow | None:
        ledger = Ledger(self.home / "ledger.sqlite", is_read_only=True)
        try:
            return next((row for row in ledger.series() if row.series_uid == series), None)
        finally:
            ledger.close()

    def until(self, series: str, *states: Phase) -> SeriesRow:
        """Wait until a series stands somewhere."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            row = self.row(series)
            if row is not None and row.state in states:
                return row
            time.sleep(0.02)
        raise AssertionError(f"{series} is not {states} but {self.row(series)}: {self.log}")


def chest(folder: Path, number: int, **changes: Any) -> tuple[str, str, list[Path]]:
    """Study, series and files of the node's chest."""
    study, series = f"1.2.{number}", f"1.2.{number}.1"
    tags = {"PatientName": "Secret^Sara", "PatientID": "SECRET-7", **changes}
    paths = node_chest.write_chest(folder / f"chest-{number}", StudyInstanceUID=study, SeriesInstanceUID=series, **tags)
    return study, series, paths


def score_of(report) -> float:
    """The total Agatston score of a report."""
    return float(json.loads(report)["total"]["agatston"])
