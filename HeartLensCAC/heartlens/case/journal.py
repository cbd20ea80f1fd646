"""The journal of a case: a line for each edit, and each line sealed by a checksum over all before it.

A line that is torn, by a power failure or a full disk, ends the journal there: what stands before it is whole, and what
comes after it could not have been meant without it. Nothing is thrown away: the rest is kept in a file of its own as
soon as somebody goes on editing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from heartlens.case.edits import Edit
from heartlens.core.disk.renaming import patiently, sync_folder
from heartlens.core.errors import InputRefused

JOURNAL = "edits.jsonl"

TORN = "edits.torn"
"""Where the rest of a torn journal is kept, as it was found."""

CHECKSUM = "checksum"
"""Key of a line beside those of `Edit`."""


@dataclass(frozen=True)
class Journal:
    """What a journal holds, and how far it is whole.

    Parameters
    ----------
    edits
        Oldest first.
    head
        Checksum over the start and all lines: what the next line is chained to.
    size_bytes
        Length of the whole lines; what lies behind them is torn.
    torn_bytes
        Length of what lies behind them.
    """

    edits: tuple[Edit, ...]
    head: str
    size_bytes: int
    torn_bytes: int = 0

    @property
    def is_torn(self) -> bool:
        """Whether something stands behind the whole lines that is none."""
        return self.torn_bytes > 0


def journal_start(*digests: str) -> str:
    """What the first line is chained to: checksums of the case that the edits belong to, so that none is swapped."""
    return hashlib.sha256("\n".join(("heartlens.journal", *digests)).encode()).hexdigest()


def read_journal(folder: Path, start: str = "", *, needs_checksums: bool = False) -> Journal:
    """Read the edits of a case folder, as far as they are whole.

    Parameters
    ----------
    folder
        Of the case.
    start
        See `journal_start`; "" for a case of the first version.
    needs_checksums
        Whether every line must have one; lines of the first version had none.

    Raises
    ------
    InputRefused
        ``unreadable``: there is no journal, or it cannot be read.
    """
    path = folder / JOURNAL
    if path.exists() and not path.is_file():  # a named pipe would be waited for without end
        raise InputRefused("unreadable", f"{JOURNAL}: expected a regular file; restore it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputRefused(
            "unreadable", f"{JOURNAL}: expected the edits of the case, found: {error.strerror or error}; restore it"
        ) from None
    edits: list[Edit] = []
    head, size = start, 0
    while size < len(content):
        end = content.find(b"\n", size)
        line = content[size:] if end < 0 else content[size:end]
        try:
            document = json.loads(line)
            checksum = document.pop(CHECKSUM, None)
            chained = _chained(head, document)
            edit = Edit.from_json(document)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            break
        if checksum != chained and (checksum is not None or needs_checksums):
            break
        needs_checksums |= checksum is not None  # none before the first version that writes them, all after
        edits.append(edit)
        head, size = chained, len(content) if end < 0 else end + 1
    return Journal(tuple(edits), head, size, len(content) - size)


def append_edits(folder: Path, journal: Journal, edits: Sequence[Edit]) -> Journal:
    """Add a line for each edit and wait until they are on the disk: no edit is lost by a crash, and none is half there.

    Parameters
    ----------
    folder
        Of the case.
    journal
        As it was last read or written; what is torn behind it is moved into `TORN`.
    edits
        To be added.

    Returns
    -------
    Journal
        With the new lines.

    Raises
    ------
    InputRefused
        ``output``: somebody else has written to it since.
    OSError
        The disk does not take it; the journal is as it was.
    """
    path = folder / JOURNAL
    lines, head = [], journal.head
    for edit in edits:
        document = edit.to_json()
        head = _chained(head, document)
        lines.append(json.dumps({**document, CHECKSUM: head}) + "\n")
    for place in (path, folder / TORN):
        if place.is_symlink() or (place.exists() and not place.is_file()):
            # Whoever made the folder could else have edits written into any file of the reader.
            raise InputRefused("output", f"{place.name}: expected a regular file, found a link or none; put it there")
    # Without a buffer, which would write what was refused when it is closed.
    with patiently(lambda: path.open("r+b", buffering=0)) as file:
        expected, found = journal.size_bytes + journal.torn_bytes, os.fstat(file.fileno()).st_size
        if found not in (expected, journal.size_bytes):  # the latter: a try that failed has set aside what was torn
            raise InputRefused(
                "output",
                f"{JOURNAL}: expected {expected} bytes as they were read, found {found}: another program edits this "
                "case; open it again",
            )
        if found > journal.size_bytes:
            _set_torn_aside(folder, file, journal)
        begin = file.seek(0, os.SEEK_END)
        if begin:  # a journal whose last newline is missing
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                lines.insert(0, "\n")
        try:
            _write_synced(file, "".join(lines).encode())
            size = file.tell()
        except BaseException:  # whatever stops it, Ctrl-C too: an edit that is not on the screen is not on the disk
            with suppress(OSError):
                file.truncate(begin)
            raise
    return Journal((*journal.edits, *edits), head, size)


def _set_torn_aside(folder: Path, file: FileIO, journal: Journal) -> None:
    """Move what is no whole line into a file of its own, on the disk before it leaves this one."""
    file.seek(journal.size_bytes)
    path = folder / TORN
    with path.open("ab", buffering=0) as aside:
        begin = aside.seek(0, os.SEEK_END)
        try:
            _write_synced(aside, file.read() + b"\n")
            sync_folder(folder)
            file.truncate(journal.size_bytes)
        except BaseException:
            with suppress(OSError):
                aside.truncate(begin)
                if not begin:
                    path.unlink()
            raise


def _write_synced(file: FileIO, content: bytes) -> None:
    """Write all of it, a disk may take it piecewise, and wait until it is on the disk."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _chained(head: str, document: dict[str, Any]) -> str:
    """Checksum of a line and of everything before it."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{head}\n{text}".encode()).hexdigest()
