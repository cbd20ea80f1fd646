"""Whatever happens is told in one line, and the log says where it happened and nothing else."""

from __future__ import annotations

import errno
import logging

import pytest

import heartlens.dicom.series
from heartlens.__main__ import main
from heartlens.app.failure import LOG_VARIABLE, Failure, log_failure
from heartlens.core.errors import InputRefused

SECRET = "/home/jane/DOE^JANE"


class Fail(Exception):
    """Of ONNX Runtime, which raises a class of its own."""


def caught(error, cause=None):
    """The error as it arrives, with what led to it."""
    try:
        try:
            if cause is not None:
                raise cause
        except BaseException:
            raise error  # noqa: B904, libraries do
        raise error
    except BaseException as arrived:
        return arrived


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), "memory", "not enough memory"),
        (Fail("Non-zero status code: std::bad_alloc"), "memory", "not enough memory"),
        (Fail("Failed to allocate memory for requested buffer of size 8"), "memory", "not enough memory"),
        (RuntimeError("can't start new thread"), "memory", "not enough memory"),
        (ImportError("libgomp.so.1: cannot allocate memory in static TLS block"), "memory", "not enough memory"),
        (ImportError("libonnxruntime.so: failed to map segment from shared object"), "memory", "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", SECRET), "output", "No space left on device; make room"),
        (OSError(errno.EMFILE, "Too many open files", SECRET), "failed", f"OSError in {__name__}, line"),
        (ModuleNotFoundError("No module named 'scipy'", name="scipy"), "failed", "scipy is not installed"),
        (KeyError(SECRET), "failed", f"KeyError in {__name__}, line"),
        (RecursionError(SECRET), "failed", "RecursionError"),
        (InputRefused("tilt", "a tilted scan; bring another"), "tilt", "a tilted scan; bring another"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_failure_has_a_code_a_way_out_and_no_word_of_a_file(error, code, words):
    failure = Failure.of(caught(error))
    assert failure.code == code
    assert words in failure.text
    assert "\n" not in failure.text
    assert SECRET not in failure.text


def test_what_led_to_a_failure_says_what_it_was():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert Failure.of(caught(ValueError("with pages of text"), full)).code == "output"
    assert Failure.of(caught(ValueError("with pages of text"), MemoryError())).code == "memory"


def test_a_network_without_memory_is_no_bad_bundle_but_a_file_that_wants_all_memory_is_a_bad_file():
    refusal = InputRefused("input", "weights.onnx: ONNX Runtime cannot run it")
    assert Failure.of(caught(refusal, Fail("std::bad_alloc"))).code == "memory"
    assert Failure.of(caught(refusal, MemoryError())).code == "memory"
    refusal = InputRefused("unreadable", "a.dcm: expected pixels, found a damaged stream")
    assert Failure.of(caught(refusal, MemoryError())).code == "unreadable"


def test_the_log_says_where_and_names_no_path_and_no_value(caplog):
    with caplog.at_level(logging.ERROR):
        log_failure(logging.getLogger("heartlens.test"), "job 1 failed", caught(KeyError(SECRET), ValueError(SECRET)))
    assert "job 1 failed: KeyError" in caplog.text
    assert "after ValueError" in caplog.text
    assert f"  {__name__}:" in caplog.text
    assert "/" not in caplog.messages[0]
    assert "DOE" not in caplog.text


@pytest.fixture
def broken(monkeypatch):
    """A command that fails as nobody foresaw."""

    def fail(_path):
        raise KeyError(SECRET)

    monkeypatch.setattr(heartlens.dicom.series, "find_series", fail)


@pytest.mark.usefixtures("broken")
def test_a_command_that_fails_ends_with_one_line_and_3(capsys, tmp_path):
    assert main(["series", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: failed: ended unexpectedly by KeyError in {__name__}, line ")
    assert LOG_VARIABLE in err
    assert "DOE" not in err


@pytest.mark.usefixtures("broken")
def test_a_log_is_written_where_it_was_asked_for_and_nowhere_else(tmp_path, monkeypatch):
    log = tmp_path / "log.txt"
    main(["series", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(LOG_VARIABLE, str(log))
    main(["series", str(tmp_path)])
    assert "the command failed: KeyError" in log.read_text()
    assert "heartlens.__main__:" in log.read_text()
    assert "DOE" not in log.read_text()
    assert str(tmp_path) not in log.read_text()
    monkeypatch.setenv(LOG_VARIABLE, str(tmp_path / "nowhere" / "log.txt"))
    assert main(["series", str(tmp_path)]) == 3
