"""What a signature holds: a digest over every file of a case, so that whatever is changed afterwards is seen.

The digest needs no secret and tells accident from order; who can write the folder can also write another digest. A site
that wants more gives a key: then only who has the key can sign, and only who has it can verify; what was signed without
it, a site with a key cannot verify.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from heartlens.case.case import OLD_CASE_SCHEMAS, Case
from heartlens.case.folder import AUTO, read_json, write_json
from heartlens.case.journal import JOURNAL
from heartlens.case.signature import SIGNATURE_SCHEMA, Signature, now
from heartlens.core.atomic import atomic_file
from heartlens.core.disk.reading import file_sha256
from heartlens.core.disk.renaming import sync_file
from heartlens.core.errors import InputRefused
from heartlens.risk.evaluable import State

KEY_VARIABLE = "HEARTLENS_SIGNING_KEY"
"""Environment variable with the secret of a site."""

SIGNATURE = "signature.json"
OLD_SIGNATURE_SCHEMA = "heartlens.signature/1"
"""Counted edits and nothing else; it holds for cases of the first version alone."""

REPORT = "report.json"

SEALED_FILES = ("case.json", AUTO, REPORT, "ct.nrrd")
"""Beside the journal, of which only the length that was signed is sealed: later edits end a signature openly."""


class SealState(str, Enum):
    """What a signature is worth."""

    NONE = "not signed"
    HOLDS = "signed"
    LAPSED = "edited since it was signed"
    ALTERED = "altered after signing"
    UNVERIFIED = "cannot be verified"  # signed with a key where there is none, or without one where there is

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Seal:
    """A signature, and whether the case is still what was signed.

    Parameters
    ----------
    state
        What it is worth.
    signature
        Who signed; shown as valid only where `state` is `SealState.HOLDS`.
    changed
        Files that are not what was signed, by name.
    is_edited
        The journal holds edits that were made after it, whether or not it can be verified.
    """

    state: SealState
    signature: Signature | None = None
    changed: tuple[str, ...] = ()
    is_edited: bool = False

    @property
    def is_of_present_state(self) -> bool:
        """Whether it is of what the case holds now, as far as can be known here: then the report stays as it is."""
        return self.state is SealState.HOLDS or (self.state is SealState.UNVERIFIED and not self.is_edited)

    def after_edit(self) -> Seal:
        """What it is worth when one more edit has been made: an edit ends a signature, and heals none."""
        state = SealState.LAPSED if self.state is SealState.HOLDS else self.state
        return replace(self, state=state, is_edited=self.state is not SealState.NONE)

    def state_of_case(self, unsigned: State) -> State:
        """How far a person has answered for the case.

        Parameters
        ----------
        unsigned
            The state that it has without a signature.
        """
        if self.state is SealState.HOLDS:
            return State.SIGNED
        return State.ALTERED if self.state is SealState.ALTERED else unsigned

    def __str__(self) -> str:
        if self.signature is None:
            return self.state.value + (f": {', '.join(self.changed)}" if self.changed else "")
        by = f"{self.signature.observer}, {self.signature.organization}, {self.signature.when}"
        if self.state is SealState.HOLDS:
            return f"signed by {by}"
        if self.state is SealState.UNVERIFIED:
            edited = ", and edited since" if self.is_edited else ""
            return f"cannot be verified: signed as {by}{edited}; set {KEY_VARIABLE} as it was set then, or sign again"
        changed = f" ({', '.join(self.changed)} changed)" if self.changed else ""
        return f"{self.state.value}{changed}; it had been signed as {by}"


def sign_case(folder: Path, case: Case, signature: Signature) -> None:
    """Sign a saved case as it lies on the disk, its report brought up to date first.

    Parameters
    ----------
    folder
        Of the case.
    case
        What it holds.
    signature
        Who signs.

    Raises
    ------
    InputRefused
        ``output``: the disk does not take it; there is no signature then.
    """
    report, path = folder / REPORT, folder / SIGNATURE
    before = report.read_bytes() if report.is_file() and not report.is_symlink() else None
    is_first = not os.path.lexists(path)
    content = b""
    try:
        if is_first:  # stopped between the two renames, it is not a case whose signature was removed
            with atomic_file(path) as not_yet:
                write_json(not_yet, {"schema": SIGNATURE_SCHEMA, "withdrawn": signature.when})
        # Both are on the disk before one has its name: then two renames remain, for which there is always room.
        with atomic_file(path) as new_signature, atomic_file(report) as new_report:
            write_json(new_report, case.report_document(replace(case.assessment, state=State.SIGNED)))
            journal = (folder / JOURNAL).read_bytes()
            document: dict[str, Any] = {
                "schema": SIGNATURE_SCHEMA,
                **asdict(signature),
                "files": {name: _sha256(new_report if name == REPORT else folder / name) for name in SEALED_FILES},
                "journal": {
                    "edits": len(case.edits),
                    "bytes": len(journal),
                    "sha256": hashlib.sha256(journal).hexdigest(),
                },
                "is_keyed": _key() is not None,
            }
            write_json(new_signature, {**document, "seal": _seal_of(document)})
            sync_file(new_signature)
            content = new_signature.read_bytes()
    except BaseException:
        if not _holds(path, content):
            _bring_back(report, before)
            if is_first and (before is None or _holds(report, before)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        raise


def _bring_back(report: Path, before: bytes | None) -> None:
    """A report must not say "signed" when nobody has."""
    if before is not None and not _holds(report, before):
        with suppress(InputRefused), atomic_file(report) as old:
            old.write_bytes(before)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def claims_signature(folder: Path, edits: int) -> bool:
    """Whether report.json says of the present state that it is signed; it does so for a moment before it is.

    Parameters
    ----------
    folder
        Of the case.
    edits
        How many its journal holds.
    """
    try:
        return says_signed(folder) and read_json(folder / REPORT)["edits"] == edits
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read_seal(folder: Path, edits: int) -> Seal:
    """Say what the signature of a saved case is worth.

    Parameters
    ----------
    folder
        Of the case.
    edits
        How many its journal holds now, as far as it is whole.

    Returns
    -------
    Seal
        A damaged signature is an altered one.
    """
    path = folder / SIGNATURE
    if not os.path.lexists(path):
        return Seal(SealState.ALTERED, None, (SIGNATURE,)) if says_signed(folder) else Seal(SealState.NONE)
    try:
        document = read_json(path)
        if "withdrawn" in document and "observer" not in document:
            return Seal(SealState.NONE)
        signature = Signature(document["observer"], document["organization"], document["when"])
        if document["schema"] == OLD_SIGNATURE_SCHEMA and _is_first_version(folder):
            is_edited = document["edits"] != edits
            if _key() is not None:
                return Seal(SealState.UNVERIFIED, signature, is_edited=is_edited)
            return Seal(SealState.LAPSED if is_edited else SealState.HOLDS, signature, is_edited=is_edited)
        if document["schema"] != SIGNATURE_SCHEMA:
            return Seal(SealState.ALTERED, None, (SIGNATURE,))
        return _judge(folder, document, signature, edits)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Seal(SealState.ALTERED, None, (SIGNATURE,))


def withdraw_signature(folder: Path) -> None:
    """Take a signature back openly: from then on the case is not signed, where without this it is altered.

    Raises
    ------
    InputRefused
        ``output``: the disk does not take it; the signature is there still.
    """
    path = folder / SIGNATURE
    if os.path.lexists(path):
        with atomic_file(path) as sibling:
            write_json(sibling, {"schema": SIGNATURE_SCHEMA, "withdrawn": now()})


def says_signed(folder: Path) -> bool:
    """Whether the report says that somebody signed, or was altered: a signature that is not there was removed.

    Parameters
    ----------
    folder
        Of the case.
    """
    try:
        return read_json(folder / REPORT)["assessment"]["state"] in (State.SIGNED.value, State.ALTERED.value)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _is_first_version(folder: Path) -> bool:
    return read_json(folder / "case.json")["schema"] in OLD_CASE_SCHEMAS


def _judge(folder: Path, document: Mapping[str, Any], signature: Signature, edits: int) -> Seal:
    sealed = document["journal"]
    is_edited = edits > sealed["edits"]
    if document["is_keyed"] != (_key() is not None):
        return Seal(SealState.UNVERIFIED, signature, is_edited=is_edited)
    unsealed = {name: value for name, value in document.items() if name != "seal"}
    if not hmac.compare_digest(str(document["seal"]), _seal_of(unsealed)):
        return Seal(SealState.ALTERED, signature, (SIGNATURE,), is_edited)
    journal = (folder / JOURNAL).read_bytes()
    # What follows the signed lines is later edits, each sealed by the journal itself, or it is none of ours.
    is_ours = is_edited or len(journal) == sealed["bytes"]
    starts_as_signed = hashlib.sha256(journal[: sealed["bytes"]]).hexdigest() == sealed["sha256"]
    changed = [] if is_ours and starts_as_signed else [JOURNAL]
    for name, expected in document["files"].items():
        follows_edits = name == REPORT and is_edited
        if not follows_edits and _sha256(folder / name) != expected:
            changed.append(name)
    if changed:
        return Seal(SealState.ALTERED, signature, tuple(changed), is_edited)
    return Seal(SealState.LAPSED if is_edited else SealState.HOLDS, signature, is_edited=is_edited)


def _seal_of(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    key = _key() if document["is_keyed"] else None
    return hashlib.sha256(text).hexdigest() if key is None else hmac.new(key, text, hashlib.sha256).hexdigest()


def _key() -> bytes | None:
    value = os.environ.get(KEY_VARIABLE, "")
    return value.encode() or None


def _sha256(path: Path) -> str | None:
    """None where there is no such file: one that appears later is a change, too."""
    return file_sha256(path) if path.is_file() else None
