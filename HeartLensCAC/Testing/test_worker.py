"""The worker as a front end sees it: the real process, real scans, and every way in which either end can go wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk
from plain_bundle import FOLDER as PLAIN_BUNDLE
from worker_process import LIMIT_SECONDS, WORKER, WorkerProcess

from heartlens.__main__ import main
from heartlens.app.messages import CancelCommand, Event, Run, ScoreCommand
from heartlens.case.folder import append_edit, load_case

pytestmark = pytest.mark.slow

RULES = {"bundle": "none"}
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """A small calcified phantom as DICOM, with its truth."""
    out = tmp_path_factory.mktemp("phantom") / "p"
    small = ["matrix=160", "increment_mm=5", "slice_thickness_mm=5", "field_of_view=heart", "category=101-400"]
    assert main(["phantom", "--out", str(out), "--seed", "3", *[w for s in small for w in ("--set", s)]]) == 0
    return out


@pytest.fixture(scope="session")
def kept_worker():
    with WorkerProcess() as process:
        assert process.lines(1)[0].kind == "ready"
        yield process
        assert process.close() == 0


@pytest.fixture
def worker(kept_worker):
    """A worker that has done other jobs before, as a worker has."""
    assert kept_worker.process.poll() is None, kept_worker.log
    return kept_worker


@pytest.fixture
def fresh_worker():
    """A worker of one's own, to be ended or killed."""
    with WorkerProcess() as process:
        yield process


@pytest.fixture
def out(tmp_path):
    """A result folder that does not exist, alone in its parent."""
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "r"


def with_changed(code):
    """A worker under whose feet a library was changed before it began."""
    return WorkerProcess(
        "-u", "-c", f"{code}\nimport sys\nfrom heartlens.__main__ import main\nsys.exit(main(['worker']))"
    )


def report(folder):
    """report.json without what differs from run to run."""
    document = json.loads((folder / "report.json").read_text())
    del document["provenance"]["seconds"], document["scored_at"]
    return document


# A job that goes well


def test_a_job_writes_what_the_command_line_writes(worker, phantom, tmp_path, out):
    options = {
        "segmentation": phantom / "labels.nrrd", "connectivity": 8, "kvp": 100, "kvp-adapted": True, "age": 60,
        "sex": "M", "race": "white", "scheme": "cac-drs", "allow": ["few-slices"],
    }  # fmt: skip
    done = worker.finish(worker.start(input=phantom / "ct", out=out, options=options))
    assert (done.kind, done.fraction, done.out, done.case) == ("done", 1.0, str(out), str(out / "case"))
    arguments = [
        w for name, v in options.items() if name not in ("allow", "kvp-adapted") for w in (f"--{name}", str(v))
    ]
    arguments += ["--kvp-adapted", "--allow", "few-slices"]
    assert main(["score", str(phantom / "ct"), "--out", str(tmp_path / "other"), *arguments]) == 0
    assert report(out) == report(tmp_path / "other")
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in (tmp_path / "other").iterdir())
    assert load_case(Path(done.case)).report.total.agatston > 50


def test_progress_never_falls_and_tells_every_slice(fresh_worker, phantom, out):
    run = fresh_worker.start(input=phantom / "ct", out=out, options=RULES)
    events = list(fresh_worker.events(run))
    assert events[0].kind == "ready"
    assert events[0].pid == fresh_worker.process.pid
    fractions = [event.fraction for event in events[1:]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    stages = list(dict.fromkeys(event.stage for event in events[1:-1]))
    assert stages == ["reading", "finding the heart", "finding calcium", "scoring", "scored", "writing"]
    slices = len(list((phantom / "ct").iterdir()))
    assert sum(event.stage == "reading" for event in events) >= 2 * slices  # headers, then voxels


def test_files_of_one_series_are_scored_as_their_folder_is(worker, phantom, tmp_path, out):
    folder = worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES))
    files = sorted((phantom / "ct").iterdir())
    one_by_one = worker.finish(worker.start(files=files, out=tmp_path / "f", options=RULES))
    assert (folder.kind, one_by_one.kind) == ("done", "done")
    assert report(out) == report(tmp_path / "f")


def test_two_jobs_are_done_in_the_order_they_came(worker, phantom, tmp_path):
    runs = [Run(input=phantom / "ct", out=tmp_path / name, options=RULES) for name in "ab"]
    worker.send(runs[0].command + runs[1].command)
    jobs = []
    while not jobs or jobs[-1] != (runs[1].job, "done"):
        jobs += [(event.job, event.kind) for event in worker.lines(1)]
    order = [job for job, _ in jobs if job]
    assert order == sorted(order, key=[run.job for run in runs].index)
    assert [kind for _, kind in jobs].count("done") == 2
    assert report(tmp_path / "a") == report(tmp_path / "b")


def test_the_worker_ends_with_0_when_stdin_ends(fresh_worker):
    assert fresh_worker.lines(1)[0].kind == "ready"
    assert fresh_worker.close() == 0


def test_networks_tell_every_batch_and_give_what_the_command_line_gives(worker, phantom, tmp_path, out):
    run = worker.start(input=phantom / "ct", out=out, options={"bundle": PLAIN_BUNDLE, "device": "cpu"})
    events = list(worker.events(run))
    assert events[-1].kind == "done"
    stages = [event.stage for event in events]
    assert stages.count("choosing slices") >= 2
    assert stages.count("naming arteries") >= 1
    assert main(["score", str(phantom / "ct"), "--bundle", str(PLAIN_BUNDLE), "--out", str(tmp_path / "other")]) == 0
    assert report(out) == report(tmp_path / "other")
    assert report(out)["provenance"]["bundle"] == "plain 1"


def test_a_job_is_cancelled_between_the_batches_of_a_network(worker, phantom, out):
    run = worker.start(input=phantom / "ct", out=out, options={"bundle": PLAIN_BUNDLE})
    worker.until(run, "choosing slices")
    worker.send(run.cancellation)
    assert worker.finish(run).kind == "cancelled"
    assert list(out.parent.iterdir()) == []


# Cancelling


def test_a_cancelled_job_leaves_nothing_and_the_next_one_is_scored(worker, phantom, out):
    first = worker.start(input=phantom / "ct", out=out, options=RULES)
    worker.until(first, "reading")
    worker.send(first.cancellation)
    assert worker.finish(first).kind == "cancelled"
    assert list(out.parent.iterdir()) == []
    assert worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES)).kind == "done"


def test_a_job_cancelled_while_it_writes_leaves_nothing(phantom, out):
    slow = (
        "import heartlens.report.outputs as o, time\nwrite = o.write_lesions_csv\n"
        "o.write_lesions_csv = lambda *a: (time.sleep(1), write(*a))"
    )
    with with_changed(slow) as worker:
        run = worker.start(input=phantom / "ct", out=out, options=RULES)
        worker.until(run, "writing")
        worker.send(run.cancellation)
        assert worker.finish(run).kind == "cancelled"
        assert list(out.parent.iterdir()) == []


def test_a_waiting_job_is_cancelled_at_once_and_the_running_one_goes_on(worker, phantom, tmp_path):
    running, waiting = (Run(input=phantom / "ct", out=tmp_path / name, options=RULES) for name in "ab")
    worker.send(running.command + waiting.command + waiting.cancellation)
    ends = []
    while len(ends) < 2:
        ends += [(event.job, event.kind) for event in worker.lines(1) if event.is_last]
    assert ends == [(waiting.job, "cancelled"), (running.job, "done")]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_to_cancel_what_is_over_or_unknown_says_nothing(worker, phantom, tmp_path):
    run = worker.start(input=phantom / "ct", out=tmp_path / "a", options=RULES)
    assert worker.finish(run).kind == "done"
    worker.send(run.cancellation + CancelCommand("nobody").line)
    after = worker.start(input=tmp_path / "nowhere", out=tmp_path / "b", options=RULES)
    assert {event.job for event in worker.events(after)} == {after.job}


def test_a_step_that_does_not_end_is_interrupted(phantom, out):
    endless = (
        "import heartlens.pipeline as p\n"
        "def spin(*a, progress, **k):\n"
        "    progress('spinning', 0.5)\n"
        "    while True: pass\n"
        "p.score_series = spin"
    )
    with with_changed(endless) as worker:
        run = worker.start(input=phantom / "ct", out=out, options=RULES)
        worker.until(run, "spinning")
        worker.send(run.cancellation)
        assert worker.finish(run).kind == "cancelled"
        run = worker.start(input=phantom / "ct", out=out, options=RULES)  # and again: the worker is as good as new
        worker.until(run, "spinning")
        assert worker.close() == 0


def test_a_library_is_never_interrupted_while_it_is_loaded(phantom, tmp_path, out):
    (tmp_path / "slow_library.py").write_text(
        "import time\nt = time.monotonic() + 3\nwhile time.monotonic() < t: pass\n"
    )
    loading = (
        f"import sys\nsys.path.append({str(tmp_path)!r})\nimport heartlens.pipeline as p\n"
        "def load(*a, progress, **k):\n"
        "    progress('loading', 0.5)\n"
        "    import slow_library\n"
        "    print('loaded', file=sys.stderr, flush=True)\n"
        "    while True: pass\n"
        "p.score_series = load"
    )
    with with_changed(loading) as worker:
        run = worker.start(input=phantom / "ct", out=out, options=RULES)
        worker.until(run, "loading")
        worker.send(run.cancellation)
        assert worker.finish(run).kind == "cancelled"
        worker.close()
        assert "loaded" in worker.log


# Dying


@POSIX
@pytest.mark.parametrize("stage", ["reading", "finding calcium", "writing"])
def test_a_killed_worker_leaves_no_half_result(fresh_worker, phantom, out, stage):
    run = fresh_worker.start(input=phantom / "ct", out=out, options=RULES)
    fresh_worker.until(run, stage)
    fresh_worker.process.kill()
    for _ in fresh_worker.events(run):
        pass
    assert fresh_worker.gone() == -signal.SIGKILL
    crash = run.ended(-signal.SIGKILL)
    assert crash.code == "crash"
    assert list(out.parent.iterdir()) == []


@POSIX
def test_a_killed_worker_leaves_the_old_result_and_the_readers_edits(phantom, out):
    with WorkerProcess() as worker:
        done = worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES))
        before = (out / "report.json").read_bytes()
        run = worker.start(input=phantom / "ct", out=out, options={**RULES, "force": True})
        worker.until(run, "writing")
        worker.process.kill()
        worker.gone()
        run.ended(-signal.SIGKILL)
    assert (out / "report.json").read_bytes() == before
    case = load_case(Path(done.case))
    edited = case.remove(next(iter(case.lesions.arteries)))
    append_edit(Path(done.case), edited.edits[-1])
    with WorkerProcess() as worker:
        refused = worker.finish(worker.start(input=phantom / "ct", out=out, options={**RULES, "force": True}))
    assert refused.code == "output"
    assert "edits" in refused.text
    assert load_case(Path(done.case)).edits == edited.edits


@POSIX
def test_a_segmentation_fault_is_told_from_a_result_and_the_log_says_where(fresh_worker, phantom, out):
    run = fresh_worker.start(input=phantom / "ct", out=out, options=RULES)
    fresh_worker.until(run, "finding the heart")
    fresh_worker.process.send_signal(signal.SIGSEGV)
    for _ in fresh_worker.events(run):
        pass
    assert fresh_worker.gone() == -signal.SIGSEGV
    assert not run.is_over
    assert run.ended(-signal.SIGSEGV).code == "crash"
    assert "Segmentation fault" in fresh_worker.log
    assert "pipeline.py" in fresh_worker.log
    assert list(out.parent.iterdir()) == []


@POSIX
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_terminated_worker_cleans_up(phantom, out, name):
    slow = "import heartlens.report.outputs as o, time\no.write_lesions_csv = lambda *a: time.sleep(60)"
    with with_changed(slow) as worker:
        run = worker.start(input=phantom / "ct", out=out, options=RULES)
        worker.until(run, "writing")
        while not list(out.parent.iterdir()):
            assert worker.process.poll() is None
        worker.process.send_signal(getattr(signal, name))
        worker.process.send_signal(getattr(signal, name))  # an impatient system does not disturb the cleaning
        assert worker.gone() == 4
        assert "Traceback" not in worker.log
        assert list(out.parent.iterdir()) == []


def test_the_worker_stops_working_when_its_door_goes_away(fresh_worker, phantom, out):
    run = fresh_worker.start(input=phantom / "ct", out=out, options=RULES)
    fresh_worker.until(run, "reading")
    assert fresh_worker.close() == 0
    assert list(out.parent.iterdir()) == []


def test_the_worker_goes_away_even_from_a_library_that_does_not_let_go(phantom, out):
    stuck = (
        "import heartlens.pipeline as p, time\n"
        "def stay(*a, progress, **k):\n"
        "    progress('stuck', 0.5)\n"
        "    while True:\n"
        "        try: time.sleep(3600)\n"
        "        except BaseException: pass\n"
        "p.score_series = stay"
    )
    with with_changed(stuck) as worker:
        run = worker.start(input=phantom / "ct", out=out, options=RULES)
        worker.until(run, "stuck")
        assert worker.close() == 0


@POSIX
def test_a_killed_parent_takes_the_worker_with_it(phantom, out):
    """Both hold the far end of the pipe: it ends when the last of them is gone."""
    parent = (
        "import os, signal, subprocess, sys\n"
        f"worker = subprocess.Popen([sys.executable, *{WORKER!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "worker.stdin.write(sys.argv[1].encode()); worker.stdin.flush()\n"
        "worker.stdout.readline(), worker.stdout.readline()\n"  # ready, and the first progress
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = Run(input=phantom / "ct", out=out, options=RULES).command.decode()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", parent, command], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
    )
    _, log = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert b"begins" in log
    assert list(out.parent.iterdir()) == []


# What comes in


BAD_LINES = [
    b"garbage", b"\xff\xfe\xfd", b"[" * 100_000, b"null", b'{"cmd": "fly"}', b'{"cmd": "score"}', b'{"cmd": "cancel"}',
    b'{"cmd": "score", "input": "x", "out": "y", "job": 5}',
]  # fmt: skip


def test_lines_that_are_no_commands_are_answered_and_survived(worker, phantom, out):
    worker.send(b"\n".join(BAD_LINES) + b"\n\n  \n")
    answers = worker.lines(len(BAD_LINES))
    assert [(event.kind, event.code, event.job) for event in answers] == [("error", "usage", None)] * len(BAD_LINES)
    assert worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES)).kind == "done"


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"options": {"kv": 120}}, "usage", "unknown option 'kv'"),
        ({"options": {"kvp": -1}}, "usage", "positive"),
        ({"options": {"kvp": float("nan")}}, "usage", "positive"),
        ({"options": {"profile": "ge"}}, "usage", "profile"),
        ({"input": "nowhere"}, "input", "nowhere"),
        ({"input": "nowhere.nrrd"}, "input", "nowhere.nrrd"),
        ({"input": "text.dcm"}, "unreadable", "text.dcm"),
        ({"input": "empty"}, "input", "no file at all"),
        ({"options": {"segmentation": "nowhere.nrrd"}}, "input", "nowhere.nrrd"),
        ({"options": {"bundle": "nowhere"}}, None, "nowhere"),
        ({"out": "here"}, "output", "exists"),
        ({"out": "text.dcm"}, "output", "is a file"),
        ({"out": "text.dcm/r"}, "output", "cannot write"),
    ],
    ids=str,
)
def test_a_job_that_cannot_be_done_ends_with_the_reason_and_the_disk_untouched(
    worker, phantom, tmp_path, monkeypatch, fields, code, text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "note.txt").write_text("mine")
    (tmp_path / "text.dcm").write_text("not DICOM")
    before = sorted(tmp_path.rglob("*"))
    options = {**RULES, **fields.get("options", {})}
    error = worker.finish(worker.start(**{"input": phantom / "ct", "out": "r", **fields, "options": options}))
    assert error.kind == "error"
    assert code in (None, error.code)
    assert text in error.text
    assert sorted(tmp_path.rglob("*")) == before


def changed(phantom, folder, **tags):
    """The phantom's DICOM with other words in every header."""
    shutil.copytree(phantom / "ct", folder)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return folder


def test_what_may_be_allowed_is_refused_first_and_scored_when_it_is_allowed(worker, phantom, tmp_path, out):
    series = changed(phantom, tmp_path / "contrast", ContrastBolusAgent="Iohexol")
    refused = worker.finish(worker.start(input=series, out=out, options=RULES))
    assert (refused.code, out.exists()) == ("contrast", False)
    assert worker.finish(worker.start(input=series, out=out, options={**RULES, "allow": ["contrast"]})).kind == "done"
    assert "contrast" in {warning["code"] for warning in report(out)["warnings"]}


def test_what_is_no_ct_and_labels_of_another_grid_are_refused(worker, phantom, tmp_path, out):
    series = changed(phantom, tmp_path / "mr", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    assert worker.finish(worker.start(input=series, out=out, options=RULES)).code == "modality"
    labels = sitk.ReadImage(str(phantom / "labels.nrrd"))
    labels.SetOrigin([1000.0, 0.0, 0.0])
    sitk.WriteImage(labels, str(tmp_path / "elsewhere.nrrd"))
    options = {"segmentation": tmp_path / "elsewhere.nrrd"}
    assert worker.finish(worker.start(input=phantom / "ct", out=out, options=options)).code == "grid"
    assert not out.exists()


def test_a_file_that_is_gone_when_its_turn_comes_is_named(worker, phantom, tmp_path, out):
    files = sorted((phantom / "ct").iterdir())
    error = worker.finish(worker.start(files=[*files, tmp_path / "gone.dcm"], out=out, options=RULES))
    assert (error.kind, error.code) == ("error", "input")
    assert "gone.dcm" in error.text


@POSIX
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_place_without_write_permission_is_refused(worker, phantom):
    error = worker.finish(worker.start(input=phantom / "ct", out="/proc/heartlens", options=RULES))
    assert error.code == "output"
    assert "/proc/heartlens" in error.text


def test_a_job_twice_under_one_name_is_refused_and_the_first_goes_on(worker, phantom, tmp_path):
    command = ScoreCommand("twice", str(tmp_path / "r"), str(phantom / "ct"), (), RULES)
    worker.send(command.line + command.line)
    events = []
    while not events or not (events[-1].is_last and events[-1].job == "twice"):
        events += worker.lines(1)
    refused = [event for event in events if event.kind == "error"]
    assert [(event.code, event.job) for event in refused] == [("usage", None)]
    assert events[-1].kind == "done"


def test_no_memory_is_said_and_survived(phantom, out):
    full = (
        "import heartlens.pipeline as p\nscore = p.score_series\n"
        "def once(*a, **k):\n    p.score_series = score\n    raise MemoryError\np.score_series = once"
    )
    with with_changed(full) as worker:
        error = worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES))
        assert (error.kind, error.code) == ("error", "memory")
        assert worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES)).kind == "done"


# What goes out


def test_what_a_library_prints_goes_to_the_log_and_not_between_the_events(phantom, out):
    noisy = (
        "import heartlens.pipeline as p, os, subprocess, sys\nscore = p.score_series\n"
        "def loud(*a, **k):\n"
        '    print(\'{"event": "done"} by print\')\n'
        "    os.write(1, b'by the C library\\n')\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"by a child\")'], check=True)\n"
        "    assert sys.stdin.read() == '', 'a library took commands away'\n"
        "    return score(*a, **k)\n"
        "p.score_series = loud"
    )
    with with_changed(noisy) as worker:
        run = worker.start(input=phantom / "ct", out=out, options=RULES)
        assert worker.finish(run).kind == "done"
        assert worker.close() == 0
        for line in worker.transcript.splitlines():
            Event.from_line(line)
        for text in ("by print", "by the C library", "by a child"):
            assert text in worker.log


def test_the_log_names_no_patient_no_path_and_no_value_of_a_file(fresh_worker, phantom, tmp_path):
    series = tmp_path / "Rosenblatt-scan"
    shutil.copytree(phantom / "ct", series)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Rosenblatt^Hidden", "MRN-77451"
        dataset.InstitutionName, dataset.PatientBirthDate = "Saint Nowhere", "19481231"
        dataset.save_as(path)
    assert (
        fresh_worker.finish(fresh_worker.start(input=series, out=tmp_path / "Rosenblatt-result", options=RULES)).kind
        == "done"
    )
    some = next(series.iterdir())
    some.write_bytes(some.read_bytes()[:2000])
    broken = fresh_worker.finish(fresh_worker.start(input=series, out=tmp_path / "Rosenblatt-again", options=RULES))
    assert broken.kind == "error"
    fresh_worker.close()
    assert "ends: done" in fresh_worker.log
    for secret in ("Rosenblatt", "MRN-77451", "Saint Nowhere", "19481231"):
        assert secret not in fresh_worker.log


def test_a_failure_that_nobody_foresaw_reaches_the_reader_but_not_the_log(phantom, out):
    broken = "import heartlens.pipeline as p\ndef fail(*a, **k): raise KeyError('Rosenblatt')\np.score_series = fail"
    with with_changed(broken) as worker:
        error = worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES))
        assert (error.code, "Rosenblatt" in error.text) == ("failed", True)
        assert worker.close() == 0
        assert "KeyError" in worker.log
        assert "heartlens.app.worker:" in worker.log
        assert str(Path.home()) not in worker.log
        assert "Rosenblatt" not in worker.log


def without(*libraries):
    """Python code after which these libraries are not there."""
    return (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        f"        if top in {libraries!r}: raise ModuleNotFoundError('No module named ' + top, name=top)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import heartlens.app.requirements as r\n"
        "installed = r.installed_version\n"
        f"r.installed_version = lambda name: None if name in {libraries!r} else installed(name)"
    )


def test_a_library_that_is_missing_costs_only_what_needs_it_and_the_door_is_told(phantom, out):
    with with_changed(without("highdicom", "jinja2")) as worker:
        done = worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES))
    assert done.kind == "done"
    assert "segmentation.dcm was not written: it needs highdicom" in done.text
    assert "report.dcm was not written: it needs highdicom" in done.text
    assert "report.html was not written: it needs jinja2" in done.text
    assert {path.name for path in out.iterdir()} == {"report.json", "lesions.csv", "segmentation.seg.nrrd", "case"}


def test_a_library_without_which_nothing_runs_is_named_with_the_way_to_get_it(phantom, out):
    with with_changed(without("scipy")) as worker:
        error = worker.finish(worker.start(input=phantom / "ct", out=out, options=RULES))
        assert (error.kind, error.code) == ("error", "failed")
        assert 'scipy missing; needed for finding the heart: pip install "scipy>=1.11"' in error.text
        assert worker.close() == 0


def test_the_example_of_the_documentation_does_what_it_says(phantom, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "worker.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "example.py").write_text(example.replace("phantom/ct", (phantom / "ct").as_posix()))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, timeout=LIMIT_SECONDS, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    last = run.stdout.splitlines()[-1].split()
    assert last == ["done", str(tmp_path / "result" / "case")]
    assert " 90% writing" in run.stdout
