"""Loaded by a worker before it works: scans of some folders then end the process, once, always, or by memory."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import heartlens.pipeline

SLOWLY_S = 1.0


def dask_setup(worker: Any) -> None:
    """Called by Dask; puts itself before scoring."""
    score = heartlens.pipeline.score_series

    def score_or_die(source: list[Path], *rest: Any, **options: Any) -> Any:
        folder = source[0].parent
        mark = folder.with_suffix(".died")
        if folder.name == "kills-once" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if folder.name == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if folder.name == "eats":
            held = []
            while True:  # until the nanny ends it
                held.append(bytearray(os.urandom(1 << 20) * 32))
                time.sleep(0.05)
        return score(source, *rest, **options)

    heartlens.pipeline.score_series = score_or_die
