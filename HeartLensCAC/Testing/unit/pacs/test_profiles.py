"""pacs.toml: what it may say, and that what it may not say is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from heartlens.core.errors import InputRefused
from heartlens.pacs.profiles import DicomWebProfile, DimseProfile, config_place, find_profile, read_profiles

WEB = 'kind = "dicomweb"\nurl = "https://pacs.example/dicom-web"\n'
DIMSE = 'kind = "dimse"\nhost = "pacs.example"\nport = 104\nae = "ARCHIVE"\n'


def written(tmp_path: Path, table: str) -> Path:
    path = tmp_path / "pacs.toml"
    path.write_text(f"[main]\n{table}")
    return path


def test_both_kinds_are_read_and_what_is_not_said_has_its_default(tmp_path):
    path = tmp_path / "pacs.toml"
    path.write_text(f"[web]\n{WEB}verify = 'ca.pem'\ntimeout_s = 5\n[old]\n{DIMSE}tls = true\n")
    profiles = read_profiles(path)
    assert profiles["web"] == DicomWebProfile("web", "https://pacs.example/dicom-web", verify="ca.pem", timeout_s=5)
    assert profiles["old"] == DimseProfile("old", "pacs.example", 104, "ARCHIVE", tls=True)
    assert profiles["old"].calling == "HEARTLENS"
    assert find_profile("old", path) == profiles["old"]


@pytest.mark.parametrize(
    ("table", "named"),
    [
        (WEB + "colour = 1\n", "unknown key 'colour'"),
        (WEB + "ae = 'X'\n", "unknown key 'ae'"),
        (WEB + "password = 'secret'\n", "password_env"),
        (DIMSE + "url = 'x'\n", "unknown key 'url'"),
        ('kind = "ftp"\n', "kind must be one of dicomweb, dimse"),
        ("", "kind must be one of"),
        ('kind = "dicomweb"\n', "url is missing"),
        ('kind = "dimse"\nhost = "x"\nae = "Y"\n', "port is missing"),
        (DIMSE.replace("104", "'104'"), "port must be int"),
        (DIMSE.replace("104", "true"), "port must be int"),
        (DIMSE.replace("104", "70000"), "port must lie between"),
        (DIMSE.replace("ARCHIVE", "A" * 17), "AE title of 1 to 16"),
        (WEB.replace("https", "http"), "readable on the way"),
        (WEB.replace("pacs.ex", "me:pw@pacs.ex"), "no user and no password"),
        (WEB.replace("https:", "ftp:"), "url must begin with https"),
        (WEB + 'auth = "basic"\n', "needs user_env"),
        (WEB + 'auth = "bearer"\n', "needs token_env"),
        (WEB + 'auth = "kerberos"\n', "auth must be"),
        (WEB + "timeout_s = 0\n", "timeout_s must be positive"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_table(tmp_path, table, named):
    with pytest.raises(InputRefused, match=r"pacs.toml \[main\]") as refused:
        read_profiles(written(tmp_path, table))
    assert named in refused.value.text
    assert "secret" not in refused.value.text


def test_http_is_taken_on_this_computer_and_where_somebody_says_so(tmp_path):
    for table in (
        WEB.replace("https://pacs.example", "http://127.0.0.1:8042"),
        WEB.replace("https", "http") + "tls = false\n",
    ):
        assert list(read_profiles(written(tmp_path, table))) == ["main"]


BASIC = 'auth = "basic"\nuser_env = "U"\npassword_env = "P"\n'
BEARER = 'auth = "bearer"\ntoken_env = "T"\n'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (WEB + BASIC, []),
        (WEB.replace("https", "http") + "tls = false\n" + BASIC, ["images and the password can be read on the way"]),
        (WEB.replace("https", "http") + "tls = false\n" + BEARER, ["images and the token can be read on the way"]),
        (WEB.replace("https", "http") + "tls = false\n", ["images can be read on the way"]),
        (WEB.replace("https://pacs.example", "http://127.0.0.1:8042") + BASIC, []),
        (WEB + "verify = false\n" + BASIC, ["whoever answers for pacs.example gets images and the password"]),
        (DIMSE, []),
    ],
)
def test_a_password_that_others_can_read_is_told_with_the_way_out(tmp_path, table, said):
    cautions = find_profile("main", written(tmp_path, table)).cautions()
    assert len(cautions) == len(said)
    for caution, words in zip(cautions, said, strict=True):
        assert caution.startswith("[main] ")
        assert words in caution
        assert "; use https://" in caution or "; name the file" in caution


def test_a_name_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(InputRefused, match="it has main"):
        find_profile("other", written(tmp_path, WEB))


@pytest.mark.parametrize(
    ("content", "said"), [(b"[x", "is no TOML"), (b"\xff\xfe", "not UTF-8"), (None, "cannot read")]
)
def test_a_file_that_cannot_be_read_is_said(tmp_path, content, said):
    path = tmp_path / "pacs.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputRefused, match=said):
        read_profiles(path)


def test_credentials_come_from_the_environment_alone(tmp_path, monkeypatch):
    profile = find_profile("main", written(tmp_path, WEB + 'auth = "bearer"\ntoken_env = "HL_TOKEN"\n'))
    with pytest.raises(InputRefused, match="HL_TOKEN is not set"):
        profile.credential("token_env")
    monkeypatch.setenv("HL_TOKEN", "abc")
    assert profile.credential("token_env") == "abc"
    assert "abc" not in repr(profile)


def test_the_place_is_as_said_or_of_the_environment_or_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv("HEARTLENS_PACS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_place() == tmp_path / "heartlens" / "pacs.toml"
    monkeypatch.setenv("HEARTLENS_PACS", str(tmp_path / "mine.toml"))
    assert config_place() == tmp_path / "mine.toml"
    assert config_place(Path("said.toml")) == Path("said.toml")
