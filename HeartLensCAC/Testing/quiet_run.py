"""Score a CT by every road in a network that leads nowhere, wait, and say what was tried: for test_silence.py.

Run in an empty network namespace: whatever wants to leave finds no route, and the kernel counts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COUNTERS = ("Ip.OutNoRoutes", "Ip.OutRequests", "Tcp.ActiveOpens", "Udp.OutDatagrams")
"""What a look-up of a name, or any connection, adds to; from /proc/net/snmp, of this namespace alone."""

WAIT_S = 30.0
"""ONNX Runtime 1.32 makes its first look-up ten seconds after the start."""


def attempts() -> dict[str, int]:
    """Attempts to reach somebody, by counter."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    counted = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol = names.split(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True):
            counted[f"{protocol}.{name}"] = int(value)
    return {name: counted[name] for name in COUNTERS}


def look_up() -> None:
    """What a program that phones home does first."""
    import socket

    with suppress(OSError):
        socket.getaddrinfo("example.org", 443)


def score(ct: Path, out: Path) -> None:
    """By the command line in this process, and by a worker."""
    from heartlens.__main__ import main

    assert main(["score", str(ct), "--out", str(out / "command")]) == 0
    worker = subprocess.Popen(
        [sys.executable, "-u", "-m", "heartlens", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    job = {"cmd": "score", "job": "1", "input": str(ct), "out": str(out / "worker"), "options": {}}
    worker.stdin.write(json.dumps(job) + "\n")
    worker.stdin.flush()
    event = ""
    while event not in ("done", "error"):
        event = json.loads(worker.stdout.readline())["event"]
    assert event == "done"
    time.sleep(WAIT_S)  # both processes are alive
    worker.stdin.close()
    worker.wait()


if __name__ == "__main__":
    if sys.argv[1] == "look-up":
        look_up()
    else:
        score(Path(sys.argv[1]), Path(sys.argv[2]))
        assert "onnxruntime" in sys.modules, "the networks did not run"
    json.dump({"attempts": attempts(), "CI": "CI" in os.environ}, sys.stderr)
