"""Go every road in a network that leads nowhere, wait, and say what was tried: for test_silence.py.

Run in an empty network namespace: whatever wants to leave finds no route, and the kernel counts it. Each road is a
process of its own, all at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
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


def look_up(*_places: Path) -> None:
    """What a program that phones home does first."""
    import socket

    with suppress(OSError):
        socket.getaddrinfo("example.org", 443)


def command(ct: Path, out: Path) -> None:
    """Scoring by the networks, on the command line."""
    from heartlens.__main__ import main

    assert main(["score", str(ct), "--out", str(out)]) == 0
    assert "onnxruntime" in sys.modules, "the networks did not run"


def rules(ct: Path, out: Path) -> None:
    """Scoring by the rules, and what else the command line has."""
    from heartlens.__main__ import main

    assert main(["score", str(ct), "--bundle", "none", "--out", str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    assert main(["doctor"]) == 0


def worker(ct: Path, out: Path) -> None:
    """Scoring in the background, as the panel has it done."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "heartlens", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    job = {"cmd": "score", "job": "1", "input": str(ct), "out": str(out), "options": {}}
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    event = ""
    while event not in ("done", "error"):
        event = json.loads(process.stdout.readline())["event"]
    assert event == "done"
    time.sleep(WAIT_S)  # it is alive, and waits for the next job
    process.stdin.close()
    assert process.wait() == 0


def panel(_ct: Path, out: Path) -> None:
    """The module in Slicer, from its discovery to its widgets."""
    from desktop import slicer_app

    slicer_app.boot(out)
    slicer_app.load_module().HeartLensCACWidget().setup()
    assert "HeartLensCACLib.Panel" in sys.modules


def training(_ct: Path, out: Path) -> None:
    """Training, its figures, its export, and every library that it loads."""
    import test_train_unet as small

    from training.datasets.shard_writer import write_shards
    from training.datasets.splits import split_patients
    from training.train_unet import main

    shards = write_shards(out / "shards", (small.blob_scan(n) for n in range(10)))
    split_patients(shards, seed=1, proportions=(6, 2, 2)).save(out / "splits.json")
    places = ["--shards", str(out / "shards"), "--splits", str(out / "splits.json"), "--out", str(out / "run")]
    (out / "recipe.toml").write_text("")
    assert main([str(out / "recipe.toml"), *small.TINY, *places]) == 0

    import torch

    from training.deploy.onnx_file import write_onnx
    from training.evaluation.plots import save_png, score_figure

    save_png(score_figure([0, 10, 100], [0, 12, 90]), out / "figure.png")
    write_onnx(torch.nn.Conv2d(3, 2, 3), torch.zeros(1, 3, 8, 8), out / "network.onnx")

    from training.engine.torchvision_shim import declare_missing_operators

    declare_missing_operators()

    import monai
    import onnxruntime
    import timm

    assert onnxruntime.InferenceSession(out / "network.onnx").get_inputs()
    assert monai.__version__
    assert timm.__version__


ROADS = {road.__name__: road for road in (look_up, command, rules, worker, panel, training)}

NEEDS = {"panel": ("slicer", "PySide6"), "training": ("torch", "timm", "monai", "matplotlib")}
"""Libraries without which a road cannot be gone; CI has all of them."""


def go_all(ct: Path, out: Path) -> list[str]:
    """Every road that can be gone here, at once; their names."""
    roads = [name for name in ROADS if name != "look_up" and all(map(find_spec, NEEDS.get(name, ())))]
    processes = [subprocess.Popen([sys.executable, __file__, name, str(ct), str(out)]) for name in roads]
    failed = [name for name, process in zip(roads, processes, strict=True) if process.wait()]
    assert not failed, failed
    return roads


if __name__ == "__main__":
    name, places = sys.argv[1], [Path(place) for place in sys.argv[2:]]
    if name == "all":
        roads = go_all(*places)
    else:
        out = places[1] / name if places else Path()
        if name in ("panel", "training"):
            out.mkdir()
        ROADS[name](*[*places[:1], out][: len(places)])
        if name in ("command", "training"):
            time.sleep(WAIT_S)  # what was loaded is alive
        roads = [name]
    if name in ("all", "look_up"):
        json.dump({"attempts": attempts(), "CI": "CI" in os.environ, "roads": roads}, sys.stderr)
