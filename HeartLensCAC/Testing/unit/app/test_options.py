"""The scoring options mean the same on the command line and in a job."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from heartlens.app.options import UsageError, add_score_options, options_of, request_of
from heartlens.pipeline import Request


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_score_options(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ({}, ()),
        ({"kvp": 120, "kvp-adapted": True}, ("--kvp", "120", "--kvp-adapted")),
        ({"kvp": None, "kvp-adapted": False}, ()),
        ({"allow": ["contrast", "no-hu"]}, ("--allow", "contrast", "--allow", "no-hu")),
        ({"allow": "contrast"}, ("--allow", "contrast")),
        ({"series": "--force"}, ("--series=--force",)),
        ({"series": ""}, ("--series", "")),
        ({"bundle": "none", "device": "cpu", "force": True}, ("--bundle", "none", "--device", "cpu", "--force")),
        ({"min-area-mm2": 0.5, "connectivity": 8}, ("--min-area-mm2", "0.5", "--connectivity", "8")),
        ({"segmentation": "a b.nrrd", "age": 60.5}, ("--segmentation", "a b.nrrd", "--age", "60.5")),
    ],
)
def test_a_job_and_a_command_line_that_say_the_same_mean_the_same(words, arguments):
    assert options_of(words) == parsed(*arguments)


def test_no_words_are_the_default_request():
    assert request_of(options_of({})) == Request()


def test_a_request_holds_what_was_said():
    words = {"profile": "siemens", "kvp": 100, "segmentation": "l.nrrd", "sex": "F", "unverified-count": True}
    request = request_of(options_of(words))
    assert (request.protocol.name, request.unverified_count) == ("siemens", True)
    assert (request.kvp, request.segmentation, request.risk.sex) == (100.0, Path("l.nrrd"), "F")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"kv": 120}, "unknown option 'kv'"),
        ({"kvp_adapted": True}, "unknown option 'kvp_adapted'"),
        ({"out": "x"}, "unknown option 'out'"),
        ({"help": True}, "unknown option 'help'"),
        ({"kvp": True}, "takes a value"),
        ({"force": "yes"}, "takes true or false"),
        ({"force": 1}, "takes true or false"),
        ({"kvp": "high"}, "--kvp"),
        ({"kvp": {"value": 120}}, "--kvp"),
        ({"device": "tpu"}, "--device"),
        ({"allow": ["gap"]}, "--allow"),
    ],
)
def test_words_that_the_command_line_would_not_take_are_refused(words, text):
    with pytest.raises(UsageError, match=text):
        options_of(words)


@pytest.mark.parametrize(
    "words", [{"kvp": float("nan")}, {"age": -1}, {"profile": "ge"}, {"scheme": "nobody"}, {"slab-mm": -1}]
)
def test_values_that_no_scan_has_are_refused(words):
    with pytest.raises(UsageError):
        request_of(options_of(words))
