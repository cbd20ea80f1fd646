"""What reaches a terminal steers nothing, whichever command says it."""

from __future__ import annotations

import io
import sys

import numpy as np
from dicom_builder import write_ct_series

from heartlens.__main__ import _Bar, main
from heartlens.app.terminal import VisibleStream, visible_output

STEERING = {"\x1b", "\x07", "\r", "\u202e"}
NAME = "\x1b]0;owned\x07\u202e"


def test_lines_stay_lines_and_the_rest_is_written_out(capsys):
    with visible_output():
        print("a\tb\nc\x1b[2J", "Schädel")
        print("d\re", file=sys.stderr)
    assert capsys.readouterr() == ("a\\tb\nc\\x1b[2J Schädel\n", "d\\re\n")
    print("\x1b")
    assert capsys.readouterr().out == "\x1b\n", "outside of the command line nothing is changed"


def test_a_program_without_a_console_stays_without_one(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with visible_output():
        assert sys.stdout is None


def test_the_door_is_not_put_before_itself():
    with visible_output():
        once = sys.stdout
        with visible_output():
            assert sys.stdout is once


def test_a_series_and_a_file_are_told_without_what_they_would_do_to_the_terminal(tmp_path, capsys):
    write_ct_series(
        tmp_path / "ct", np.zeros((4, 6, 8), np.int16), SeriesDescription=NAME, SpecificCharacterSet="ISO_IR 192"
    )
    assert main(["series", str(tmp_path / "ct")]) == 0
    assert main(["score", str(tmp_path / f"{NAME}.nrrd")]) == 3
    assert main(["score", str(tmp_path / "ct"), "--series", NAME]) == 3
    out, err = capsys.readouterr()
    assert "\\x1b]0;owned\\x07\\u202e" in out
    assert err.count("\n") == 2
    assert err.count("owned") >= 2
    assert not set(out + err) & STEERING


def test_the_progress_bar_still_returns_to_the_start_of_its_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", VisibleStream(terminal))
    bar = _Bar()
    bar("reading", 0.5)
    bar.close()
    assert terminal.getvalue().startswith("\r[############............] reading")
    assert terminal.getvalue().endswith("\r")
