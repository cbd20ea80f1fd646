"""A command that is told to go cleans up; one whose streams are closed or narrow does its work all the same."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

import heartlens.app.console as console
from heartlens.app.console import Stopped, stopping_cleanly

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and shells")

PACKAGE = Path(__file__).parents[3]

WRITE = """
import sys, time
from pathlib import Path
import heartlens.__main__ as command
from heartlens.core.atomic import atomic_folder

def write(options):
    with atomic_folder(Path(sys.argv[1])) as folder:
        try:
            (folder / "half").touch()
            print("half", flush=True)
            time.sleep(60)
        finally:
            print("cleaning", flush=True)
            time.sleep(float(sys.argv[2]))

command._run_doctor = write
sys.exit(command.main(["doctor"]))
"""


def python(*arguments, **how):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), **how.pop("environment", {})}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **how
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_command_that_is_told_to_go_leaves_nothing_and_ends_with_4(tmp_path, name):
    with python("-c", WRITE, tmp_path / "out", "0.3") as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == b"cleaning\n"
        if name != "SIGINT":  # of a closing terminal come two; a person's second Ctrl-C is meant
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err == b"cancelled; nothing half-written was left\n"
    assert list(tmp_path.iterdir()) == []


def test_under_nohup_a_closed_terminal_stops_nothing(tmp_path):
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with python("-c", ignore + WRITE, tmp_path / "out", "0") as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 4


def test_a_program_that_does_not_go_is_told_again(monkeypatch):
    """The first may have come where Python cannot raise, as in the midst of a destructor."""
    monkeypatch.setattr(console, "CLEANING_SECONDS", 0.0)
    with stopping_cleanly():
        for _ in range(2):
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGTERM)


def test_whoever_calls_a_command_has_his_own_handlers_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), stopping_cleanly():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_windows_own_signal_is_heard(monkeypatch):
    """SIGBREAK: Ctrl-Break, a closed console, the end of a session."""
    monkeypatch.setattr(console.signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with pytest.raises(Stopped), stopping_cleanly():
        signal.raise_signal(signal.SIGUSR1)


DICOM = get_testdata_file("CT_small.dcm")
HEARTLENS = f"{sys.executable} -m heartlens"


@pytest.mark.parametrize(
    ("shell", "code", "err"),
    [
        (f"{HEARTLENS} series nowhere 2>&-", 3, ""),
        (f"{HEARTLENS} series nowhere >&- 2>&-", 3, ""),
        (f"{HEARTLENS} worker </dev/null >&-", 0, ""),
        (f"{HEARTLENS} worker <&- >/dev/null 2>&-", 0, ""),
        (f"{HEARTLENS} series nowhere 2>/dev/full", 3, ""),
        (f"{HEARTLENS} series {DICOM} >/dev/full", 3, "error: output: .*No space left on device"),
        (f"{HEARTLENS} series {DICOM} | true", 0, ""),
        (f"{HEARTLENS} --version >/dev/full", 0, ""),
        (f"{HEARTLENS} --help | true", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full_cost_no_traceback(shell, code, err):
    """`series` stands for every command that prints."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert run.returncode == code, run.stderr
    assert re.match(err, run.stderr)
    assert run.stderr.count("\n") <= 1 or "worker" in shell


def test_a_descriptor_that_is_closed_is_not_given_to_a_result(tmp_path):
    """A library that writes to descriptor 2 would else write into the first file that is opened."""
    code = (
        "import os, sys\nfrom heartlens.app.console import open_streams\nopen_streams()\n"
        "file = open(sys.argv[1], 'w')\nos.write(2, b'noise')\nfile.write('result')\nfile.close()"
    )
    shell = f'exec "{sys.executable}" -c "$CODE" "{tmp_path}/result" 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "CODE": code}
    subprocess.run(["sh", "-c", shell], env=environment, timeout=60, check=True)
    assert (tmp_path / "result").read_text() == "result"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_no_letter_is_too_rare_for_a_stream(encoding):
    code = (
        "from heartlens.app.console import open_streams\nopen_streams()\n"
        "print('心臓 Schädel \\udce4 done'.encode('utf-8', 'surrogatepass').decode('utf-8', 'surrogatepass'))"
    )
    with python("-c", code, environment={"PYTHONIOENCODING": encoding}) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.rstrip().endswith(b"\\udce4 done")
