"""Certificates that tests make for themselves, by openssl: authorities, and whom they sign."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

DAYS = "2"


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Who signs certificates for this computer.

    Parameters
    ----------
    folder : for all files; must exist
    name : of the authority
    """

    folder: Path
    name: str

    def __post_init__(self) -> None:
        _openssl(
            "req", "-x509", *_new_key(self._key), "-days", DAYS, "-subj", f"/CN={self.name}", "-out", self.certificate
        )

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    @property
    def _key(self) -> Path:
        return self.folder / f"{self.name}.key"

    def sign(self, name: str) -> Signed:
        """A certificate for 127.0.0.1 and localhost, to call and to be called with."""
        signed = Signed(self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key")
        request, more = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        more.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
        _openssl("req", *_new_key(signed.key), "-subj", f"/CN={name}", "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", DAYS, "-extfile", more, "-out", signed.certificate,
        )  # fmt: skip
        return signed


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "rsa:2048", "-nodes", "-keyout", str(path)]


def _openssl(*words: object) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
