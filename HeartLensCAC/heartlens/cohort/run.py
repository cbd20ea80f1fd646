"""Score what is planned on the workers of Dask, one task a series; what a run knows is in files, see `folder`.

The client hands out as many series as there are threads and waits for one to end: the scheduler never holds more, and
a worker that dies takes with it what it had in work and nothing else.
"""

from __future__ import annotations

import importlib
import os
import queue
import secrets
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartlens.app.console import Stopped, say
from heartlens.case.lock import CaseLock, Holder, lock_case
from heartlens.cohort.folder import CohortFolder, keep_settings, settings_of
from heartlens.cohort.planning.plan import PLANNED
from heartlens.cohort.progress import RunProgress
from heartlens.cohort.work import BUSY, person_of, score_on_worker, score_planned
from heartlens.core.errors import InputRefused

TASK_COLUMNS = ("key", "folder", "files", "bytes", "series", "age", "sex", "race")

PRELOAD = "heartlens.cohort.work"
"""Module whose `dask_setup` makes a process of Dask a quiet worker on one thread."""

LOOK_SECONDS = 0.5
"""How often the client looks for workers that came or went."""

ALL_GONE_SECONDS = 300.0
"""Without any worker for so long, a run ends: a queue of a cluster may take minutes, a cluster that is gone forever."""

MEND_SECONDS = 60.0
"""A worker that died is begun again by its nanny; one that is not there by then, on a slow machine, is replaced."""

CONNECT_SECONDS = "120s"
"""On a machine that is busy with scans a new process of Python takes long to answer."""

BUSY_SECONDS = 1.0
"""Before a series is asked for again that another program has in work."""


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


def run_cohort(
    folder: CohortFolder, workers: Workers, *, limit: int | None = None, retry: frozenset[str] = frozenset(),
    keep: bool = True,
) -> Counter[str]:  # fmt: skip
    """Score every planned series that has no row yet; returns how many rows of each status were made.

    Parameters
    ----------
    folder
        Of the cohort.
    workers
        Where to score.
    limit
        Most series to score.
    retry
        Statuses and codes whose rows are made again.
    keep
        Also leave the result folders.

    Raises
    ------
    InputRefused
        ``input``: another run is at work, or no worker is left; ``output``: the disk takes no more.
    KeyboardInterrupt
        Ctrl-C: what was in work has been finished, or after a second one dropped.
    """
    words = folder.document["options"]
    settings, document = settings_of(words)
    lock = lock_case(folder.path, "heartlens cohort run")
    if isinstance(lock, Holder):
        raise InputRefused("input", f"another run is at work here ({lock}): wait for it, or end it")
    try:
        folder.sweep()
        keep_settings(folder, settings, document)
        tasks = to_do(folder, settings, retry)
        if limit is not None:
            tasks = tasks[:limit]
        if not tasks:
            return Counter()
        run = _Run(folder, settings, words, keep, tasks)
        if workers.count == 0 and not workers.scheduler:
            run.alone()
        else:
            with _Dask(workers) as cluster:
                run.on(cluster)
        return run.made
    finally:
        if isinstance(lock, CaseLock):
            lock.release()


def to_do(folder: CohortFolder, settings: str, retry: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The planned series without a row, and those whose row is to be made again, which is deleted.

    Parameters
    ----------
    folder
        Of the cohort.
    settings
        Key of version, bundle and options.
    retry
        Statuses and codes whose rows are made again.
    """
    done = folder.keys_with_rows(settings)
    tasks, kept = [], 0
    for task in folder.planned(TASK_COLUMNS, where="status = ?", values=[PLANNED]):
        if task["key"] in done:
            row = folder.row(task["key"], settings)
            is_current = row is not None and row.get("given") == person_of(task)
            if is_current and row is not None and not {row["status"], row["code"]} & retry:
                continue
            if not folder.clear(task["key"], settings):
                kept += 1
                continue
        tasks.append(task)
    if kept:
        say(f"note: {kept} series were not scored again, because a reader has worked on their results")
    return tasks


class _Run:
    """One run over some series."""

    def __init__(
        self, folder: CohortFolder, settings: str, words: Mapping[str, Any], keep: bool, tasks: Sequence[dict[str, Any]]
    ) -> None:
        self.folder, self.settings, self.words, self.keep = folder, settings, words, keep
        self.waiting = deque(tasks)
        self.made: Counter[str] = Counter()
        self.progress = RunProgress(len(tasks))
        self.arguments = (str(folder.path), settings, dict(words))

    def alone(self) -> None:
        """Score in this process, one after the other."""
        while self.waiting:
            task = self.waiting.popleft()
            status = score_planned(*self.arguments, task, self.keep)
            self._count(status, task)
        self.progress.close()

    def on(self, cluster: _Dask) -> None:
        """Score on the workers of a cluster."""
        client = cluster.client
        running: dict[Any, dict[str, Any]] = {}
        ended: queue.Queue[Any] = queue.Queue()
        is_stopping, threads, looked, seen = False, 0, 0.0, time.monotonic()
        try:
            while running or (self.waiting and not is_stopping):
                try:
                    if time.monotonic() - looked > LOOK_SECONDS or not threads:
                        threads, looked = _threads(client), time.monotonic()
                        seen = looked if threads else seen
                        _require_workers(client, seen)
                        cluster.mend(threads)
                    while self.waiting and not is_stopping and len(running) < threads:
                        task = self.waiting.popleft()
                        future = client.submit(
                            score_on_worker, *self.arguments, task, self.keep, pure=False, retries=0,
                            key=f"{task['key']}-{secrets.token_hex(4)}",
                        )  # fmt: skip
                        running[future] = task
                        future.add_done_callback(ended.put)
                    with suppress(queue.Empty):
                        future = ended.get(timeout=LOOK_SECONDS)
                        self._end(future, running.pop(future))
                except Stopped:
                    raise
                except KeyboardInterrupt:
                    if is_stopping:
                        raise
                    is_stopping = True
                    self.progress.close()
                    say(f"finishing the {len(running)} series in work; Ctrl-C once more drops them")
        except KeyboardInterrupt:
            for task in running.values():  # stopped by a person, which is no fault of the scan
                self.folder.forget_attempts(task["key"], self.settings)
            raise
        finally:
            self.progress.close()
        if is_stopping:
            raise KeyboardInterrupt

    def _end(self, future: Any, task: dict[str, Any]) -> None:
        """Take note of a series that was scored, or hand it out again where its worker died."""
        if future.status == "finished":
            self._count(str(future.result()), task)
            return
        error = future.exception() if future.status == "error" else None
        if isinstance(error, InputRefused):
            raise error
        if error is not None and type(error).__name__ != "KilledWorker":
            raise error
        self.waiting.append(task)  # its attempts are counted in a file: after too many of them it gets a row

    def _count(self, status: str, task: dict[str, Any]) -> None:
        if status == BUSY:
            self.waiting.append(task)
            if len(self.waiting) == 1:
                time.sleep(BUSY_SECONDS)
            return
        self.made[status] += 1
        self.progress.tell(self.made)


def _threads(client: Any) -> int:
    """How many series are scored at once: one a worker, whatever threads it has."""
    with suppress(OSError, ValueError):
        return len(client.nthreads())
    return 0


def _require_workers(client: Any, seen: float) -> None:
    if client.status not in ("running", "connecting"):
        raise InputRefused("input", "the scheduler has gone; what is scored is on the disk: start it, then run again")
    if time.monotonic() - seen > ALL_GONE_SECONDS:
        raise InputRefused(
            "input",
            f"no worker for {ALL_GONE_SECONDS:.0f} s; what is scored is on the disk: start some, then run again",
        )


class _Dask:
    """A client of Dask and, unless a scheduler runs already, its cluster."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.cluster: Any = None
        self.client: Any = None
        self._whole = time.monotonic()

    def mend(self, alive: int) -> None:
        """Replace workers of this computer that are gone for long; those of a cluster are its scheduler's matter.

        Parameters
        ----------
        alive
            How many there are.
        """
        is_ours = self.cluster is not None and not self.workers.slurm
        if not is_ours or alive >= self.workers.count:
            self._whole = time.monotonic()
        elif time.monotonic() - self._whole > MEND_SECONDS:
            self._whole = time.monotonic()
            self.cluster.scale(alive)  # forgets those that are gone
            self.cluster.scale(self.workers.count)

    def __enter__(self) -> _Dask:
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
        dask.config.set({"distributed.scheduler.allowed-failures": 10, **timeouts})
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
    """Processes here, or jobs of SLURM; on loopback, without a dashboard, which would listen to everybody."""
    import dask

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
        extra = [word for module in workers.preload for word in ("--preload", module)]
        extra += given.pop("worker_extra_args", [])
        cluster = SLURMCluster(**given, worker_extra_args=extra)
        cluster.scale(jobs=workers.count)
        return cluster
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers.count, threads_per_worker=1, processes=True, memory_limit=workers.memory,
        host="127.0.0.1", dashboard_address=None, silence_logs=50, preload=list(workers.preload),
        local_directory=os.environ.get("TMPDIR", "/tmp") if os.name != "nt" else None,
    )  # fmt: skip


def find_task(folder: CohortFolder, key: str) -> dict[str, Any]:
    """The one planned series whose key begins so.

    Raises
    ------
    InputRefused
        ``input``: none does, or several.
    """
    found = list(folder.planned((*TASK_COLUMNS, "status"), where="starts_with(key, ?)", values=[key]))
    planned = [task for task in found if task["status"] == PLANNED]
    if len(planned) != 1:
        raise InputRefused(
            "input", f"expected one planned series whose key begins with {key!r}, found {len(planned)}; "
            "heartlens cohort status --keys lists them",
        )  # fmt: skip
    return planned[0]


def score_one(folder: CohortFolder, key: str, *, keep: bool = True) -> str:
    """Score one series in this process, as a job of an array does; returns the status of its row.

    Raises
    ------
    InputRefused
        ``input``: no such series, or somebody else has it in work; ``output``: the disk takes no more.
    """
    words = folder.document["options"]
    settings, document = settings_of(words)
    if not (folder.path / "settings" / f"{settings}.json").is_file():
        keep_settings(folder, settings, document)
    task = find_task(folder, key)
    status = score_planned(str(folder.path), settings, words, task, keep)
    if status == BUSY:
        raise InputRefused("input", f"series {task['key']} is in work elsewhere: wait for it")
    return status


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
