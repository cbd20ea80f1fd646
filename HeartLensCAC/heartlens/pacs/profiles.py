"""pacs.toml: which archives there are, and how each is reached. Credentials never stand in it."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from heartlens.core.errors import InputRefused

CONFIG_VARIABLE = "HEARTLENS_PACS"
"""Environment variable with the place of pacs.toml, where it lies elsewhere."""

AE_LENGTH = 16
"""PS3.5 6.2: an AE title has at most 16 characters."""

SECRETS = ("user", "username", "password", "token", "secret")
"""What people write into such a file, and what would be read by whoever finds it."""


@dataclass(frozen=True)
class Profile:
    """How one archive is reached.

    Parameters
    ----------
    name
        Heading of its table in pacs.toml.
    """

    name: str
    kind: ClassVar[str] = ""

    def cautions(self) -> list[str]:
        """What somebody allowed, and what it lets others do; a line each."""
        return []


@dataclass(frozen=True)
class DicomWebProfile(Profile):
    """An archive with DICOMweb: QIDO-RS, WADO-RS, STOW-RS.

    Parameters
    ----------
    name
        Heading of its table in pacs.toml.
    url
        Below which ``/studies`` is found.
    auth
        "none", "basic" or "bearer"
    user_env, password_env, token_env
        Names of the environment variables that hold the credentials.
    tls
        False allows http:// to another computer: images and credentials then travel in the clear.
    verify
        Whether the certificate is checked, or the file of the authority that signed it.
    timeout_s
        Longest wait for an answer, s.
    """

    url: str
    auth: str = "none"
    user_env: str = ""
    password_env: str = ""
    token_env: str = ""
    tls: bool = True
    verify: bool | str = True
    timeout_s: float = 30.0
    kind: ClassVar[str] = "dicomweb"

    def __post_init__(self) -> None:
        place = urlsplit(self.url)
        _require(self.name, place.scheme in ("http", "https") and bool(place.hostname), "url must begin with https://")
        _require(self.name, not (place.username or place.password), "url must hold no user and no password")
        if place.scheme == "http" and not is_this_computer(place.hostname or ""):
            _require(self.name, not self.tls, "http:// is readable on the way; use https://, or say tls = false")
        needed = {"none": (), "basic": ("user_env", "password_env"), "bearer": ("token_env",)}
        _require(self.name, self.auth in needed, 'auth must be "none", "basic" or "bearer"')
        for key in needed[self.auth]:
            _require(self.name, bool(getattr(self, key)), f'auth = "{self.auth}" needs {key}, the name of a variable')
        _require(self.name, self.timeout_s > 0, "timeout_s must be positive")

    def cautions(self) -> list[str]:
        """What http:// to another computer, and a certificate that nobody checks, let others do."""
        place = urlsplit(self.url)
        said = "" if self.auth == "none" else f" and {'the password' if self.auth == 'basic' else 'the token'}"
        if place.scheme == "http" and not is_this_computer(place.hostname or ""):
            way = "use https://, or a tunnel that begins on this computer"
            return [f"[{self.name}] http:// to {place.hostname}: images{said} can be read on the way; {way}"]
        if place.scheme == "https" and self.verify is False:
            way = "name the file of the authority that signed its certificate"
            return [f"[{self.name}] verify = false: whoever answers for {place.hostname} gets images{said}; {way}"]
        return []

    def credential(self, key: str) -> str:
        """What a named environment variable holds.

        Parameters
        ----------
        key
            "user_env", "password_env" or "token_env"

        Raises
        ------
        InputRefused
            ``input``: the variable is not set.
        """
        variable = getattr(self, key)
        value = os.environ.get(variable, "")
        if not value:
            raise InputRefused("input", f"[{self.name}] {key}: the environment variable {variable} is not set; set it")
        return value


@dataclass(frozen=True)
class DimseProfile(Profile):
    """An archive with DIMSE: C-ECHO, C-FIND, C-MOVE, C-STORE.

    Parameters
    ----------
    name
        Heading of its table in pacs.toml.
    host, port
        Of the archive.
    ae
        Its AE title.
    calling
        Ours, by which it must know us.
    receive_host, receive_port
        Where it brings what is asked for by C-MOVE; it must know them too.
    tls
        Whether the connection is encrypted.
    verify
        Whether its certificate is checked, or the file of the authority that signed it.
    certificate, key
        Our own files, where it asks for them.
    timeout_s
        Longest wait for an answer, s.
    """

    host: str
    port: int
    ae: str
    calling: str = "HEARTLENS"
    receive_host: str = "127.0.0.1"
    receive_port: int = 11114
    tls: bool = False
    verify: bool | str = True
    certificate: str = ""
    key: str = ""
    timeout_s: float = 30.0
    kind: ClassVar[str] = "dimse"

    def __post_init__(self) -> None:
        _require(self.name, bool(self.host), "host must be the name or address of the archive")
        for key in ("port", "receive_port"):
            _require(self.name, 0 < getattr(self, key) < 65536, f"{key} must lie between 1 and 65535")
        for key in ("ae", "calling"):
            require_ae(getattr(self, key), f"pacs.toml [{self.name}]: {key}")
        _require(self.name, self.timeout_s > 0, "timeout_s must be positive")


KINDS: Mapping[str, type[Profile]] = {kind.kind: kind for kind in (DicomWebProfile, DimseProfile)}


def is_this_computer(host: str) -> bool:
    """Whether what is sent to a host stays on this computer.

    Examples
    --------
    >>> [is_this_computer(host) for host in ("localhost", "127.0.0.1", "::1", "pacs.example", "10.0.0.1", "")]
    [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_ae(title: str, what: str) -> None:
    """Refuse what is no AE title.

    Parameters
    ----------
    title
        To be looked at.
    what
        Names it in the refusal.

    Raises
    ------
    InputRefused
        ``input``: it is none.
    """
    if not (0 < len(title.strip()) <= AE_LENGTH and title.isascii() and title.isprintable() and "\\" not in title):
        raise InputRefused("input", f"{what} must be an AE title of 1 to {AE_LENGTH} letters, digits and signs")


def config_place(given: Path | None = None) -> Path:
    """Where pacs.toml lies: as said, as `CONFIG_VARIABLE` says, or in the user's configuration folder."""
    if given is not None:
        return given
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE])
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "heartlens" / "pacs.toml"


def read_profiles(path: Path) -> dict[str, Profile]:
    """All archives of a pacs.toml, by name.

    Raises
    ------
    InputRefused
        ``input``: it is not there, no TOML, or says what cannot be meant; the key is named.
    """
    if sys.version_info >= (3, 11):  # here, because the command line is loaded where the extra is not
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputRefused(
            "input", f"cannot read {path}: {error.strerror}; write it as docs/pacs.md says, or give --config FILE"
        ) from None
    except ValueError as error:  # of UTF-8 and of TOML
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
        raise InputRefused("input", f"{path} is no TOML: {where}") from None
    return {name: _profile(name, table) for name, table in document.items()}


def find_profile(name: str, config: Path | None = None) -> Profile:
    """The archive that is meant by a name.

    Raises
    ------
    InputRefused
        ``input``: there is none of this name, or the file cannot be used.
    """
    path = config_place(config)
    profiles = read_profiles(path)
    if name not in profiles:
        raise InputRefused("input", f"{path} has no [{name}]; it has {', '.join(profiles) or 'none'}")
    return profiles[name]


def _profile(name: str, table: Any) -> Profile:
    _require(name, isinstance(table, dict), "must be a table of keys")
    kind = table.get("kind")
    _require(name, kind in KINDS, f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    known = {field.name: field for field in fields(KINDS[kind]) if field.name != "name"}
    values = {key: value for key, value in table.items() if key != "kind"}
    for key in values:
        if key not in known:
            hint = "; credentials stand in environment variables that user_env, password_env and token_env name"
            expected = f"unknown key {key!r}; {kind} takes {', '.join(known)}"
            _require(name, False, expected + (hint if key in SECRETS else ""))
    for key, field in known.items():
        if key not in values:
            _require(name, field.default is not MISSING, f"{key} is missing")
            continue
        kinds = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,), "bool | str": (bool, str)}
        allowed = kinds[str(field.type)]
        is_right = isinstance(values[key], allowed) and (bool in allowed or not isinstance(values[key], bool))
        _require(name, is_right, f"{key} must be {' or '.join(k.__name__ for k in allowed)}, got {values[key]!r}")
    return KINDS[kind](name, **values)


def _require(name: str, is_right: bool, text: str) -> None:
    if not is_right:
        raise InputRefused("input", f"pacs.toml [{name}]: {text}")
