"""What is said of an input: on one line, without what steers a terminal, and without identity where it is kept."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heartlens.core.errors import InputRefused, WarningRecord, refuse_or_warn, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("one\ntwo\r\tthree", "one\\ntwo\\r\\tthree"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u2066x\u2069\u200f", "\\u2066x\\u2069\\u200f"),
        ("Sch\udce4del", "Sch\\udce4del"),
        ("Schädel, 冠動脈, کرونری می\u200cشود", "Schädel, 冠動脈, کرونری می\u200cشود"),
        ("C:\\scans\\IM1", "C:\\scans\\IM1"),
    ],
)
def test_what_steers_a_terminal_is_written_out_and_letters_stay(text, shown):
    assert visible(text) == shown


@given(st.text())
def test_a_visible_text_steers_nothing_and_can_be_written_anywhere_in_utf_8(text):
    shown = visible(text)
    assert not {unicodedata.category(c) for c in shown if c not in "\u200c\u200d"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert visible(shown) == shown
    shown.encode()


def test_a_refusal_is_one_line_that_steers_nothing():
    refused = InputRefused("input", "no file\n\x1b[2Jhere\u202e")
    assert refused.text == "no file \\x1b[2Jhere\\u202e"
    assert str(refused) == f"input: {refused.text}"


def test_a_refusal_names_the_file_and_what_it_holds_and_the_warning_in_its_place_does_neither():
    said = {"where": "Doe^Jane.dcm", "found": "given by Dr. Roe"}
    with pytest.raises(InputRefused) as refused:
        refuse_or_warn("contrast", "the tag names an agent", set(), **said)
    assert refused.value.text == (
        "Doe^Jane.dcm: the tag names an agent (found given by Dr. Roe); --allow contrast scores it anyway"
    )
    warning = refuse_or_warn("contrast", "the tag names an agent", {"contrast"}, **said)
    assert warning == WarningRecord("contrast", "allowed by the user: the tag names an agent")
