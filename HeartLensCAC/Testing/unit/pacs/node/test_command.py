"""`heartlens node` and `heartlens pacs` as they are called: what is wrong is said before anything is received."""

from __future__ import annotations

import os
import sys

import pytest

from heartlens.__main__ import main
from heartlens.pacs.node.command import _take


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "pacs.toml"
    path.write_text(
        '[main]\nkind = "dicomweb"\nurl = "http://127.0.0.1:9"\nauth = "bearer"\ntoken_env = "NO_TOKEN_IS_SET"\n'
    )
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give --accept TITLE"),
        (["--accept", "A" * 17], "AE title of 1 to 16"),
        (["--accept", "CT1", "--send-to", "other"], "it has main"),
        (["--accept", "CT1", "--send-to", "main"], "NO_TOKEN_IS_SET is not set"),
        (["--accept", "CT1", "--quiet", "0"], "waits must be positive"),
        (["--accept", "CT1", "--tls-certificate", "nothing.pem"], "give PEM files"),
        (["--changes", "http://127.0.0.1:9", "--changes-auth", "NO_USER_IS_SET,X"], "set both"),
        (["--changes", "http://pacs.example", "--changes-auth", "U,P"], "allow it with --changes-clear"),
        (["--changes", "http://pacs.example", "--changes-clear", "--changes-auth", "NO_USER_IS_SET,X"], "set both"),
        (["--changes", "http://me:pw@127.0.0.1"], "no user and no password"),
    ],
)
def test_what_is_wrong_is_said_and_no_node_starts(tmp_path, config, capfd, words, said):
    home = tmp_path / "home"
    assert main(["node", "--home", str(home), "--config", str(config), "--status-port", "0", *words]) == 3
    assert said in capfd.readouterr().err
    assert not (home / "spool").exists() or list((home / "spool").iterdir()) == []


@pytest.mark.parametrize("words", [("pacs", "doctor"), ("pacs", "find", "--pacs", "main")])
def test_a_password_that_others_can_read_is_told_where_it_is_used(tmp_path, capfd, monkeypatch, words):
    monkeypatch.setenv("A_TOKEN", "abc")
    path = tmp_path / "pacs.toml"
    path.write_text(
        '[main]\nkind = "dicomweb"\nurl = "http://nowhere.invalid:9"\ntls = false\nauth = "bearer"\n'
        'token_env = "A_TOKEN"\ntimeout_s = 1\n'
    )
    assert main([*words, "--config", str(path)]) == 3
    said = "".join(capfd.readouterr())
    assert "warning" in said
    assert "http:// to nowhere.invalid: images and the token can be read on the way; use https://" in said
    assert "abc" not in said


def test_a_second_node_in_one_folder_is_refused(tmp_path, capfd):
    lock = _take(tmp_path / "home")
    try:
        assert main(["node", "--home", str(tmp_path / "home"), "--accept", "CT1", "--status-port", "0"]) == 3
    finally:
        os.close(lock)
    assert "another node works in" in capfd.readouterr().err


def test_status_of_what_is_no_node_is_refused(tmp_path, capfd):
    assert main(["node", "status", "--home", str(tmp_path)]) == 3
    assert "is no node's folder" in capfd.readouterr().err


NODE = ("node", "--home", "home", "--accept", "CT1")


@pytest.mark.parametrize("words", [NODE, ("pacs", "doctor", "--pacs", "main"), ("pacs", "find", "--pacs", "main")])
def test_where_the_extra_is_missing_the_way_to_get_it_is_said(tmp_path, config, capfd, monkeypatch, words):
    for name in ("httpx", "heartlens.pacs.dicomweb"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "heartlens.pacs.dicomweb")
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--config", str(config)]) == 3
    out, err = capfd.readouterr()
    assert "pip install 'heartlens[pacs]'" in out + err


@pytest.mark.parametrize("uid", ["1.2.x", "../..", "1" * 65, ""])
def test_what_is_no_uid_never_becomes_an_address(config, capfd, uid):
    assert main(["pacs", "score", "--pacs", "main", "--study", uid, "--config", str(config)]) == 3
    assert "must be a UID" in capfd.readouterr().err


def test_a_folder_that_is_no_result_is_not_sent(tmp_path, config, capfd):
    assert main(["pacs", "send", str(tmp_path), "--pacs", "main", "--config", str(config)]) == 3
    assert "holds no report.dcm" in capfd.readouterr().err
