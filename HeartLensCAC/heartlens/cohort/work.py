"""What a worker does with one series: score it, and leave a row, whatever happens."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from heartlens import __version__
from heartlens.app.failure import LOG_FORMAT, LOG_VARIABLE, Discreet, Failure, log_failure
from heartlens.app.options import options_of, request_of
from heartlens.case.lock import Holder
from heartlens.cohort.folder import MOST_ATTEMPTS, Attempts, CohortFolder
from heartlens.cohort.identity import without_identity
from heartlens.cohort.readers import DAMAGED, kept_row
from heartlens.cohort.row import FAILED, row_of_report
from heartlens.core.errors import InputRefused

logger = logging.getLogger("heartlens.cohort")

REFUSED, BUSY = "refused", "busy"

CRASH = "crash"
"""Code of a scan that ended its process again and again."""

_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads would hold several scans in memory, and the libraries below are not made for it."""


def dask_setup(worker: Any) -> None:
    """Make a process of Dask a worker: quiet, on one thread, not ended by the terminal's Ctrl-C.

    Parameters
    ----------
    worker
        Of Dask, which calls this by its name.
    """
    for name in ("profile", "profile-cycle"):  # a second of stacks after the other, up to an hour: 150 kB a second
        if (callback := worker.periodic_callbacks.pop(name, None)) is not None:
            callback.stop()
    with suppress(ValueError):  # only in a main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler: logging.Handler = logging.NullHandler()
    if path := os.environ.get(LOG_VARIABLE, ""):
        with suppress(OSError):
            handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
            logging.getLogger("heartlens").setLevel(logging.INFO)
    handler.setFormatter(Discreet(LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)


def score_on_worker(*arguments: Any) -> str:
    """As `score_planned`, with one thread for the networks: so many workers run as there are cores.

    Parameters
    ----------
    *arguments
        Of `score_planned`.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        return score_planned(*arguments)
    finally:
        _collect_cycles()


def _collect_cycles() -> None:
    """Free what a scan leaves in cycles, a megabyte: Python would wait until it is a quarter of all that is loaded."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()  # libraries are loaded by now; no later collection looks at them, which takes milliseconds then


def score_planned(
    place: str, settings: str, words: Mapping[str, Any], task: Mapping[str, Any], keep: bool = True
) -> str:
    """Score a series of the plan, unless somebody has, and leave its row; returns the status of the row.

    Parameters
    ----------
    place
        The cohort's folder.
    settings
        Key of version, bundle and options.
    words
        The options, by their names on the command line.
    task
        Row of the plan.
    keep
        Also leave the result folder, which `heartlens review` opens.

    Raises
    ------
    InputRefused
        ``output``: the disk takes no more; that is no fault of the scan, and the run has to end.
    """
    from heartlens.networks.inference import keep_networks

    keep_networks()
    folder, key = CohortFolder(Path(place)), str(task["key"])
    with _ONE_AT_A_TIME, folder.holding(key, settings) as held:
        if isinstance(held, Holder):
            return BUSY
        try:
            row = folder.row(key, settings)
            if row is None:
                row = _row(folder, settings, words, task, keep, held)
                folder.write_row(row)
            logger.info("series %s: %s %s", key, row["status"], row["code"] or "")
            return str(row["status"])
        finally:  # a process that is killed does not come here, and so the attempt stays counted
            held.end()


def _row(
    folder: CohortFolder, settings: str, words: Mapping[str, Any], task: Mapping[str, Any], keep: bool, held: Attempts
) -> dict[str, Any]:
    start, count = time.perf_counter(), held.count
    if count >= MOST_ATTEMPTS:
        text = f"the process ended {count} times while it scored this: out of memory, or a fault in a library"
        row = _failure(FAILED, CRASH, text)
    else:
        held.begin()
        row = _scored(folder, settings, words, task, keep)
    return {
        **row,
        "key": task["key"],
        "settings": settings,
        "given": person_of(task),
        "seconds": round(time.perf_counter() - start, 3),
        "peak_mb": _peak_mb(),
    }


def _scored(
    folder: CohortFolder, settings: str, words: Mapping[str, Any], task: Mapping[str, Any], keep: bool
) -> dict[str, Any]:
    files = [Path(task["folder"], name) for name in task["files"]]
    try:
        result = folder.result_path(str(task["key"]), settings)
        if (kept := kept_row(result, person_of(task))) is not None:
            return kept
        if not folder.discard_result(str(task["key"]), settings):  # what is left there cannot be read
            return _failure(FAILED, "checksum", DAMAGED)
        _require_unchanged(files, int(task["bytes"]))
        return row_of_report(_report(files, task, words, result if keep else None))
    except InputRefused as refusal:
        if refusal.code == "output":
            raise
        failure = Failure.of(refusal)
        status = FAILED if failure.code == "memory" else REFUSED
        return _failure(status, failure.code, without_identity(failure.text, files, _header_of(files)))
    except Exception as error:
        log_failure(logger, f"series {task['key']} failed", error)
        failure = Failure.of(error)
        if failure.code == "output":
            raise InputRefused("output", failure.text) from None
        return _failure(FAILED, failure.code, failure.text)


def _report(
    files: Sequence[Path], task: Mapping[str, Any], words: Mapping[str, Any], out: Path | None
) -> dict[str, Any]:
    """Score the files, and write the result folder where one is wanted; the report."""
    from heartlens.pipeline import score_series
    from heartlens.report.outputs import write_outputs

    options = options_of({**words, **person_of(task), "series": task["series"]})
    source = list(files) if task["series"] is not None else files[0]
    result = score_series(source, request_of(options))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_outputs(
            result, out, shared_mode=options.shared_mode, language=options.language, embed_ct=options.embed_ct
        )
    return result.case.report_document()


def person_of(task: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan says of the person, by the names of the options.

    Parameters
    ----------
    task
        Row of the plan.
    """
    return {name: task[name] for name in ("age", "sex", "race") if task[name] is not None}


def _require_unchanged(files: Sequence[Path], expected: int) -> None:
    """Refuse files that have gone or changed since they were planned: the key would be that of another series."""
    try:
        found = sum(file.stat().st_size for file in files)
    except OSError:
        missing = sum(not file.exists() for file in files)
        raise InputRefused(
            "input",
            f"{missing} of {len(files)} files of the series have gone since it was planned; bring them back, then run "
            "again with --retry input",
        ) from None
    if found != expected:
        raise InputRefused(
            "input", f"the files have changed since they were planned: expected {expected} bytes, found {found}; "
            "plan again",
        )  # fmt: skip


def _header_of(files: Sequence[Path]) -> Any:
    """A header of the series, to know what must not be in a sentence."""
    from heartlens.dicom.header import Instance

    for file in files[:3]:
        with suppress(InputRefused, OSError):
            if (instance := Instance.read(file)) is not None:
                return instance
    return None


def _failure(status: str, code: str, text: str) -> dict[str, Any]:
    from heartlens.case.signature import now

    return {
        "status": status, "code": code, "text": text, "version": __version__, "scored_at": now(), "lesions_found": [],
    }  # fmt: skip


def _peak_mb() -> float | None:
    """Most memory that this process has had, MiB; None where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
