"""The workers of Dask: processes of this computer, jobs of SLURM, or a scheduler that runs already."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartlens.core.errors import InputRefused

PRELOAD = "heartlens.cohort.work"
"""Module whose `dask_setup` makes a process of Dask a quiet worker on one thread."""

ALL_GONE_SECONDS = 300.0
"""Without any worker for so long, a run ends: a queue of a cluster may take minutes, a cluster that is gone forever."""

MEND_SECONDS = 60.0
"""A worker that died is begun again by its nanny; one that is not there by then, on a slow machine, is replaced."""

NO_DASHBOARD: Mapping[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Of a scheduler: its pages would listen to everybody; what is left of them answers this computer alone."""

CONNECT_SECONDS = "120s"
"""On a machine that is busy with scans a new process of Python takes long to answer."""


@dataclass(frozen=True)
class Workers:
    """Where to score.

    Parameters
    ----------
    count
        Processes on this computer; 0 scores in this process, without Dask.
    memory
        Of each, as Dask takes it, such as "2GiB"; one that takes more is ended and its scan begun again.
    scheduler
        Address of a scheduler that runs already; the count then means nothing.
    slurm
        Arguments of dask_jobqueue.SLURMCluster; `count` jobs are asked for.
    preload
        Modules that each worker loads first.
    """

    count: int = 1
    memory: str = "2GiB"
    scheduler: str = ""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    preload: Sequence[str] = (PRELOAD,)

    @property
    def is_here(self) -> bool:
        """Whether scans are scored in this process, without Dask."""
        return self.count == 0 and not self.scheduler and not self.slurm


def threads_of(client: Any) -> int:
    """How many series are scored at once: one a worker, whatever threads it has."""
    with suppress(OSError, ValueError):
        return len(client.nthreads())
    return 0


def require_workers(client: Any, seen: float) -> None:
    """Refuse to wait for a cluster that is gone.

    Parameters
    ----------
    client
        Of Dask.
    seen
        When there was a worker last, by `time.monotonic`.

    Raises
    ------
    InputRefused
        ``input``: the scheduler has gone, or there was no worker for `ALL_GONE_SECONDS`.
    """
    if client.status not in ("running", "connecting"):
        raise InputRefused("input", "the scheduler has gone; what is scored is on the disk: start it, then run again")
    if time.monotonic() - seen > ALL_GONE_SECONDS:
        raise InputRefused(
            "input",
            f"no worker for {ALL_GONE_SECONDS:.0f} s; what is scored is on the disk: start some, then run again",
        )


class Cluster:
    """A client of Dask and, unless a scheduler runs already, its cluster."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.cluster: Any = None
        self.client: Any = None
        self._whole, self._patience = time.monotonic(), MEND_SECONDS

    def mend(self, alive: int) -> None:
        """Replace workers of this computer that are gone for long; those of a cluster are its scheduler's matter.

        Parameters
        ----------
        alive
            How many there are.
        """
        is_ours = self.cluster is not None and not self.workers.slurm
        if not is_ours or alive >= self.workers.count:
            self._whole, self._patience = time.monotonic(), MEND_SECONDS
        elif time.monotonic() - self._whole > self._patience:
            self._whole = time.monotonic()
            self._patience *= 2  # where a start takes longer than that, it would be ended again and again
            self.cluster.scale(alive)  # forgets those that are gone
            self.cluster.scale(self.workers.count)

    def __enter__(self) -> Cluster:
        try:
            import dask
            from distributed import Client
        except ModuleNotFoundError as error:
            raise InputRefused(
                "input", f"{error.name} is not installed; pip install 'heartlens[cohort]', then run again, or score in "
                "this process with --workers 0",
            ) from None  # fmt: skip
        # A scan is counted by its own attempts: Dask is not to give up before.
        timeouts = {f"distributed.comm.timeouts.{what}": CONNECT_SECONDS for what in ("connect", "tcp")}
        quiet = {"distributed.worker.profile.enabled": False}  # it keeps stacks for an hour, and memory has to be flat
        dask.config.set({"distributed.scheduler.allowed-failures": 10, **timeouts, **quiet})
        if not self.workers.scheduler:
            self.cluster = _cluster(self.workers)
        try:
            self.client = Client(
                self.cluster or self.workers.scheduler,
                timeout=CONNECT_SECONDS if self.cluster else 30,
                set_as_default=False,
            )
        except (OSError, TimeoutError) as error:
            self.__exit__()
            raise InputRefused(
                "input", f"no scheduler answers at {self.workers.scheduler} ({type(error).__name__}); start it there"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.client, self.cluster):
            if one is not None:
                with suppress(OSError, TimeoutError):
                    one.close()


def _cluster(workers: Workers) -> Any:
    """Processes here, on loopback, or jobs of SLURM; without a dashboard, which would listen to everybody."""
    import dask

    try:
        dask.utils.parse_bytes(workers.memory)
    except ValueError:
        raise InputRefused(
            "input", f"--memory: expected a size such as 2GiB, found {workers.memory!r}; give one"
        ) from None
    memory = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
    dask.config.set({**memory, "distributed.worker.memory.terminate": 0.95})
    if workers.slurm:
        try:
            from dask_jobqueue import SLURMCluster
        except ModuleNotFoundError:
            raise InputRefused(
                "input", "--slurm needs dask-jobqueue; pip install dask-jobqueue, then run again"
            ) from None
        given = {"cores": 1, "processes": 1, "memory": workers.memory, **workers.slurm}
        given["scheduler_options"] = {**NO_DASHBOARD, **given.get("scheduler_options", {})}
        extra = ["--no-dashboard", "--dashboard-address", NO_DASHBOARD["dashboard_address"]]
        extra += [*(word for module in workers.preload for word in ("--preload", module))]
        extra += given.pop("worker_extra_args", [])
        cluster = SLURMCluster(**given, worker_extra_args=extra)
        cluster.scale(jobs=workers.count)
        return cluster
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers.count, threads_per_worker=1, processes=True, memory_limit=workers.memory,
        host="127.0.0.1", dashboard_address=None, scheduler_kwargs=dict(NO_DASHBOARD), silence_logs=50,
        preload=list(workers.preload),
        local_directory=os.environ.get("TMPDIR", "/tmp") if os.name != "nt" else None,
    )  # fmt: skip


def read_slurm(path: Path) -> dict[str, Any]:
    """Arguments of dask_jobqueue.SLURMCluster from a TOML file.

    Raises
    ------
    InputRefused
        ``input``: it is no TOML.
    """
    try:
        tomllib = importlib.import_module("tomllib")
    except ModuleNotFoundError:
        raise InputRefused(
            "input", "--slurm needs Python 3.11 or later to read TOML; or start workers yourself"
        ) from None
    try:
        with path.open("rb") as file:
            arguments: dict[str, Any] = tomllib.load(file)
            return arguments
    except (OSError, ValueError) as error:
        raise InputRefused("input", f"{path}: expected TOML, found {type(error).__name__}") from None
