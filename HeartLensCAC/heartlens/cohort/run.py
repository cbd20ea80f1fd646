"""Score what is planned on the workers of Dask, one task a series; what a run knows is in files, see `folder`.

The client hands out as many series as there are threads and waits for one to end: the scheduler never holds more, and
a worker that dies takes with it what it had in work and nothing else.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from heartlens.app.console import Stopped, say
from heartlens.case.lock import CaseLock, Holder, lock_case
from heartlens.cohort.cluster import Cluster, Workers, require_workers, threads_of
from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.planning.plan import PLANNED
from heartlens.cohort.progress import RunProgress
from heartlens.cohort.settings import keep_settings, settings_of
from heartlens.cohort.work import BUSY, person_of, score_on_worker, score_planned
from heartlens.core.errors import InputRefused

TASK_COLUMNS = ("key", "folder", "files", "bytes", "series", "age", "sex", "race")

LOOK_SECONDS = 0.5
"""How often the client looks for workers that came or went."""

BUSY_SECONDS = 1.0
"""Before a series is asked for again that another program has in work."""


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
        if workers.is_here:
            run.alone()
        else:
            with Cluster(workers) as cluster:
                run.on(cluster)
        return run.made
    finally:
        if isinstance(lock, CaseLock):
            lock.release()


def to_do(folder: CohortFolder, settings: str, retry: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The planned series without a row that is whole, and those whose row is to be made again, which is deleted.

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
        row = folder.row(task["key"], settings) if task["key"] in done else None
        if row is not None:  # a damaged one is made again of its result, or the scan is scored
            if row["given"] == person_of(task) and not {row["status"], row["code"]} & retry:
                continue
            if not folder.clear(task["key"], settings):
                kept += 1
                continue
        tasks.append(task)
    if kept:
        say(f"note: {kept} series were not scored again: a reader has worked on their results, or has them open")
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

    def on(self, cluster: Cluster) -> None:
        """Score on the workers of a cluster."""
        client = cluster.client
        running: dict[Any, dict[str, Any]] = {}
        ended: queue.Queue[Any] = queue.Queue()
        is_stopping, threads, looked, seen = False, 0, 0.0, time.monotonic()
        try:
            while running or (self.waiting and not is_stopping):
                try:
                    if time.monotonic() - looked > LOOK_SECONDS or not threads:
                        threads, looked = threads_of(client), time.monotonic()
                        seen = looked if threads else seen
                        require_workers(client, seen)
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
        except BaseException:
            for task in running.values():  # stopped by a person, a full disk or a lost cluster: no fault of the scan
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
