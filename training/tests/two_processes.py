"""Two real processes that share one run over gloo, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]


class Ended(NamedTuple):
    """How one process ended."""

    code: int
    output: str
    errors: str


def environment_of_rank(rank: int, port: int) -> dict[str, str]:
    """Of one of two processes, on this machine."""
    paths = os.pathsep.join(str(REPOSITORY / part) for part in ("", "HeartLensCAC", "training/tests"))
    joined = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **joined, **meeting}


def run_two(*arguments: str) -> tuple[Ended, Ended]:
    """`python ARGUMENTS` as rank 0 and as rank 1 of two; waits for both."""
    with socket.socket() as free_port:
        free_port.bind(("127.0.0.1", 0))
        port = free_port.getsockname()[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, *arguments], env=environment_of_rank(rank, port), **pipes) for rank in (0, 1)
    ]
    try:
        ends = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    first, second = (Ended(p.returncode, *end) for p, end in zip(processes, ends, strict=True))
    return first, second
