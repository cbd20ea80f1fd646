"""Whatever is killed, the table comes out as after a quiet run, and no scan that is done is done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from installed import need

need("distributed", "pip install 'heartlens[cohort]'")
need("duckdb", "pip install 'heartlens[cohort]'")

from cohort_scans import AGATSTON_OF_A_VOXEL, SCANS, plan, state, table, texts_of, write_scans  # noqa: E402

from heartlens.__main__ import main  # noqa: E402
from heartlens.case.comparison.opened import open_case  # noqa: E402
from heartlens.case.lock import lock_case  # noqa: E402
from heartlens.cohort.cluster import PRELOAD, Cluster, Workers  # noqa: E402
from heartlens.cohort.folder import CohortFolder  # noqa: E402
from heartlens.cohort.run import run_cohort, score_one  # noqa: E402
from heartlens.cohort.settings import settings_of  # noqa: E402
from heartlens.cohort.tables.table import CohortTable  # noqa: E402
from heartlens.core.errors import InputRefused  # noqa: E402

pytestmark = pytest.mark.slow

WAIT_S = 240


def settings(folder: CohortFolder) -> str:
    return settings_of(folder.document["options"])[0]


@pytest.fixture(scope="module")
def scans(chests, tmp_path_factory):
    """The chests, and scans that vanish, are cut short, or end the process that scores them."""
    place = tmp_path_factory.mktemp("scans") / "scans"
    shutil.copytree(chests, place)
    from cohort_scans import write_chest

    write_chest(place / "kills-once", 4, PatientID="P5")
    write_chest(place / "vanishes", 1, PatientID="P6")
    write_chest(place / "short", 1, PatientID="P7")
    cut = place / "short" / "0007.dcm"
    cut.write_bytes(cut.read_bytes()[:-2000])
    return place


@pytest.fixture(scope="module")
def quiet(scans, tmp_path_factory):
    """The cohort after a run in one process that nobody disturbed; its tables are made."""
    folder = plan(scans, out=tmp_path_factory.mktemp("quiet") / "cohort")
    shutil.move(scans / "vanishes", scans.parent / "vanished")
    try:
        run_cohort(folder, Workers(0))
    finally:
        shutil.move(scans.parent / "vanished", scans / "vanishes")
    assert main(["cohort", "table", str(folder.path)]) == 0
    return folder


@pytest.fixture
def planned(quiet, tmp_path):
    """The same plan, and nothing done; the scan that vanishes is another key's and left to the quiet run."""
    shutil.copytree(quiet.path, tmp_path / "cohort", ignore=shutil.ignore_patterns("*.jsonl", "results"))
    (tmp_path / "cohort" / "results").mkdir()
    return CohortFolder.open(tmp_path / "cohort")


def test_scores_are_those_of_the_plaques_and_failures_are_rows(quiet):
    names = {row["key"]: Path(row["folder"]).name for row in quiet.planned(("key", "folder"))}
    rows = {names[key]: values for key, *values in table(quiet, "key, status, code, agatston")}
    for voxels in (1, 2, 3):
        status, code, agatston = rows[f"chest-{voxels}"]
        assert (status, code) == ("scored", None)
        assert agatston == pytest.approx(voxels * AGATSTON_OF_A_VOXEL)
    assert rows["half"][:2] == ["held", "heart-cut-top"]
    assert rows["half"][2] is None, "of a scan that is held no number is given"
    assert rows["vanishes"][:2] == ["refused", "input"]
    assert rows["short"][:2] == ["refused", "truncated"]


def test_no_name_and_no_path_leaves_the_plan(quiet):
    hidden = ("Doe1", "Jane", "chest-1", str(quiet.path.parent))
    files = [file for file in (*quiet.path.iterdir(), *quiet.rows.iterdir()) if file.is_file()]
    packed = {".parquet", ".duckdb"}
    said = {file.name: texts_of(file) if file.suffix in packed else file.read_text() for file in files}
    assert "chest-1" in said.pop("plan.parquet"), "what is looked for would not be found"
    assert {"series.parquet", "cohort.duckdb", "report.html", "failures.csv"} <= said.keys()
    for name, text in said.items():
        assert not [word for word in hidden if word in text], name


def test_a_scored_scan_opens_as_a_case_and_a_readers_edit_is_in_the_next_table(quiet, tmp_path):
    shutil.copytree(quiet.path, tmp_path / "cohort")
    folder = CohortFolder.open(tmp_path / "cohort")
    key = next(row["key"] for row in folder.planned(("key", "folder")) if row["folder"].endswith("chest-3"))
    result = folder.result_path(key, settings(folder))
    assert main(["verify", str(result)]) == 0
    opened = open_case(result)
    from heartlens.case.folder import append_edit

    edited = opened.case.remove(next(iter(opened.case.lesions.arteries)), who="R")
    append_edit(result / "case", *edited.edits)
    CohortTable(folder).write()
    (row,) = table(folder, f"agatston, state, edits FROM series WHERE key = '{key}' --")
    assert row == (edited.report.total.agatston, "read", 1)
    assert run_cohort(folder, Workers(0), retry=frozenset({"scored"}))["scored"] == 3, "what a reader edited stays"


def test_killed_workers_leave_the_table_of_a_quiet_run(planned, quiet, scans):
    """One scan kills its worker at the first try and is scored at the second."""
    run_cohort(planned, Workers(2, preload=(PRELOAD, "fatal_scans")))
    assert (scans / "kills-once.died").exists(), "no worker was killed"
    assert state(planned, without=("vanishes",)) == state(quiet, without=("vanishes",))
    assert not list(planned.work.iterdir())


def test_a_scan_that_always_kills_or_takes_all_memory_is_a_crash_and_the_rest_goes_on(chests, tmp_path):
    shutil.copytree(chests / "chest-1", tmp_path / "scans" / "chest-1")
    from cohort_scans import write_chest

    write_chest(tmp_path / "scans" / "kills", 1)
    write_chest(tmp_path / "scans" / "eats", 2)
    folder = plan(tmp_path / "scans", out=tmp_path / "cohort")
    made = run_cohort(folder, Workers(2, memory="1GiB", preload=(PRELOAD, "fatal_scans")))
    assert made == {"scored": 1, "failed": 2}
    CohortTable(folder).write()
    failures = table(folder, "status, code, text", "failures")
    assert {row[:2] for row in failures} == {("failed", "crash")}
    assert all("3 times" in text for *_, text in failures)


FEWEST_OBJECTS = 100
"""That Python and its libraries may leave in cycles beside a scan; a scan of one slice by rules leaves five hundred."""


def test_a_worker_keeps_nothing_of_a_scan(chests, tmp_path):
    """In a process of its own, as each worker is: what is loaded by its end is left out of later collections."""
    folder = plan(chests / "chest-2", out=tmp_path / "cohort")
    code = (
        "import gc, json, sys\n"
        "from pathlib import Path\n"
        "from heartlens.cohort import work\n"
        "from heartlens.cohort.folder import CohortFolder\n"
        "from heartlens.cohort.run import find_task\n"
        "folder = CohortFolder.open(Path(sys.argv[1]))\n"
        "task = find_task(folder, '')\n"
        "gc.disable()\n"
        "score = {'worker': work.score_on_worker, 'plain': work.score_planned}\n"
        "for how in ('worker', 'worker', 'plain'):\n"
        "    score[how](sys.argv[1], f'{how}-{gc.get_count()[0]}', {'bundle': 'none'}, task)\n"
        "    print(gc.collect())\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    first, second, uncollected = map(int, run.stdout.split())
    assert max(first, second) < FEWEST_OBJECTS < uncollected


def start(folder: CohortFolder, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "heartlens", "cohort", "run", str(folder.path), "--workers", "2", *options]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def wait_for(what, seconds=WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_a_killed_run_leaves_no_process_and_the_next_one_goes_on(planned, quiet):
    import psutil

    process = start(planned)
    wait_for(lambda: planned.keys_with_rows(settings(planned)) or process.poll() is not None)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "workers outlive their run"
    done = planned.keys_with_rows(settings(planned))
    before = {path.name: path.stat().st_mtime_ns for path in planned.rows.iterdir() if path.name[0] != "."}
    run_cohort(planned, Workers(0))
    assert done
    assert {name: (planned.rows / name).stat().st_mtime_ns for name in before} == before, "what was done is done again"
    assert state(planned, without=("vanishes",)) == state(quiet, without=("vanishes",))


def test_thirty_scans_with_a_killed_worker_a_killed_run_and_a_resume_give_the_table_of_a_quiet_run(tmp_path):
    write_scans(tmp_path / "scans")
    quiet, disturbed = (plan(tmp_path / "scans", out=tmp_path / name) for name in ("quiet", "disturbed"))
    run_cohort(quiet, Workers(0))

    def done() -> int:
        return len(disturbed.keys_with_rows(settings(disturbed)))

    process = start(disturbed)
    wait_for(lambda: done() >= 3 or process.poll() is not None)
    wait_for(lambda: _worker_of(disturbed) or process.poll() is not None)
    killed = _worker_of(disturbed)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: done() >= 12 or process.poll() is not None)
    assert process.poll() is None, "the run was over before it could be killed"
    process.kill()
    process.communicate()
    before = done()
    assert 12 <= before < SCANS - 2
    process = start(disturbed)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said
    assert state(disturbed) == state(quiet)
    counts = dict(table(quiet, "status, count(*) FROM series GROUP BY 1 --"))
    assert counts == {"scored": 24, "held": 2, "refused": 2, "duplicate": 2}
    assert not list(disturbed.work.iterdir())


def _worker_of(folder: CohortFolder) -> int:
    """Process of a worker that has a scan in work; 0 where there is none at the moment."""
    for lock in folder.work.glob("*/.lock"):
        with suppress(OSError, ValueError, KeyError):
            return int(json.loads(lock.read_text())["pid"])
    return 0


def test_ctrl_c_finishes_what_runs(planned):
    process = start(planned)
    wait_for(lambda: planned.in_work(settings(planned)) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: the workers hear it too
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 4
    assert "finishing" in said
    assert planned.keys_with_rows(settings(planned))
    assert not planned.in_work(settings(planned)), "a scan in work was dropped"


def test_a_second_run_on_one_folder_refuses_and_a_series_in_work_is_left_alone(planned):
    held = lock_case(planned.path)
    with pytest.raises(InputRefused, match="another run is at work"):
        run_cohort(planned, Workers(0))
    held.release()
    key = next(planned.planned(("key",), where="status = 'planned'"))["key"]
    with planned.holding(key, settings(planned)), pytest.raises(InputRefused, match="in work elsewhere"):
        score_one(planned, key)
    assert main(["cohort", "one", str(planned.path), key[:12]]) == 0
    assert planned.keys_with_rows(settings(planned)) == {key}


def test_a_scheduler_that_runs_already_is_used_and_one_that_does_not_is_told(planned):
    from distributed import LocalCluster

    options = {
        "host": "127.0.0.1",
        "dashboard_address": None,
        "silence_logs": 50,
        "processes": False,
        "protocol": "tcp://",
    }
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        made = run_cohort(planned, Workers(scheduler=cluster.scheduler_address), limit=1)
    assert sum(made.values()) == 1
    with pytest.raises(InputRefused, match="no scheduler answers"):
        run_cohort(planned, Workers(scheduler="tcp://127.0.0.1:9"))


def callbacks_of(client) -> list[str]:
    """What a worker of Dask does again and again beside its tasks."""
    client.wait_for_workers(1, timeout=WAIT_S)
    (found,) = client.run(lambda dask_worker: sorted(dask_worker.periodic_callbacks)).values()
    return found


def test_no_worker_keeps_stacks_of_what_it_did():
    """Dask's profiler keeps an hour of them: neither where we start a worker, nor where it loads `dask_setup`."""
    import dask
    from distributed import Client, LocalCluster

    with Cluster(Workers(1, preload=())) as ours:
        found = [callbacks_of(ours.client)]
    options = {"n_workers": 1, "host": "127.0.0.1", "dashboard_address": None, "silence_logs": 50}
    with (
        dask.config.set({"distributed.worker.profile.enabled": True}),
        LocalCluster(**options, preload=[PRELOAD]) as theirs,
        Client(theirs, set_as_default=False) as client,
    ):
        found.append(callbacks_of(client))
    for names in found:
        assert "heartbeat" in names
        assert not [name for name in names if name.startswith("profile")]


def test_two_clusters_on_one_computer_listen_to_it_alone_and_do_not_disturb_each_other():
    import psutil

    with warnings.catch_warnings(), Cluster(Workers(1)) as one, Cluster(Workers(1)) as other:
        warnings.simplefilter("error")
        for cluster in (one, other):
            cluster.client.wait_for_workers(1, timeout=WAIT_S)
        us = psutil.Process()
        ours = [c for p in (us, *us.children(recursive=True)) for c in p.net_connections("tcp")]
        assert {c.laddr.ip for c in ours if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
