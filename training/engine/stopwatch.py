"""How fast a step is, in images a second of wall clock and of CPU."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch


@dataclass(frozen=True)
class Rate:
    """Images per second of work.

    Parameters
    ----------
    cpu
        Per CPU-second of this process; None where other processes or a GPU work too.
    wall
        Per second.
    gpu_percent
        How busy the GPU was; None without one.
    """

    wall: float
    cpu: float | None = None
    gpu_percent: float | None = None

    @property
    def best(self) -> float:
        """The figure that other work on the machine changes least."""
        return self.wall if self.cpu is None else self.cpu


@dataclass(frozen=True)
class BenchRow:
    """One stage; `ours` by the precision of the network."""

    stage: str
    plain: Rate | None
    ours: dict[str, Rate]

    @property
    def gain(self) -> float | None:
        """Our quickest precision against the plain form."""
        return max(r.best for r in self.ours.values()) / self.plain.best if self.plain else None

    def text(self) -> str:
        """The row as a line of the table that is printed."""
        cells = [self.plain, *(self.ours.get(name) for name in ("float32", "bfloat16"))]
        cells_text = "".join(f"{'' if c is None else f'{c.best:.1f}':>11}" for c in cells)
        busy = [r.gpu_percent for r in self.ours.values() if r.gpu_percent is not None]
        gain = "" if self.gain is None else f"{self.gain:.1f} x"
        return f"{self.stage:<50}{cells_text}{gain:>9}{'' if not busy else f'{max(busy):>8.0f} %'}"


class Laps:
    """Clocks read between the steps of a loop."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._read: list[tuple[float, float]] = []

    def note(self) -> None:
        """Read the clocks now, after the GPU has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._read.append((time.perf_counter(), time.process_time()))

    def rate(self, images: int, gpu_percent: float | None = None) -> Rate:
        """Of a step of some images: the quickest, without the first, in which caches are filled."""
        laps = np.diff(np.array(self._read), axis=0)[1:]
        if not len(laps):
            raise ValueError("a rate needs three readings of the clock")
        wall, cpu = laps.min(axis=0)
        return Rate(images / wall, None if self.device.type == "cuda" else images / max(cpu, 1e-9), gpu_percent)


def timed(work: Callable[[], object], images: int, device: torch.device, repeats: int) -> Rate:
    """Rate of some work of some images, done a few times."""
    laps = Laps(device)
    for _ in range(repeats + 2):
        laps.note()
        work()
    return laps.rate(images)


class GpuUse:
    """How busy a GPU is while a block runs, five times a second; silent where nvidia-smi is not."""

    percent: float | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._smi: subprocess.Popen[str] | None = None

    def __enter__(self) -> GpuUse:
        if self._device.type == "cuda":
            query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
            number = ["-i", str(self._device.index or 0)]
            try:
                self._smi = subprocess.Popen(["nvidia-smi", *query, *number], stdout=subprocess.PIPE, text=True)
            except OSError:
                self._smi = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._smi is not None:
            self._smi.terminate()
            self.percent = busy_percent(self._smi.communicate()[0])


def busy_percent(output: str) -> float | None:
    r"""Median of what nvidia-smi said; lines that are no number are left out.

    Examples
    --------
    >>> busy_percent("97\n99\n[N/A]\n98\n")
    98.0
    """
    values = [float(line) for line in output.split("\n") if line.strip().isdigit()]
    return float(np.median(values)) if values else None
