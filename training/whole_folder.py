"""A folder of results appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heartlens.refusal import Refused


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `out` when the block ends well, and is gone when it does not.

    Raises
    ------
    Refused : "output": `out` exists and holds something, or the disk does not take it
    """
    out = Path(out).absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise Refused("output", f"{out} exists and is not an empty folder; choose another --out, or remove it")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        reason = error.strerror or error
        raise Refused(
            "output", f"cannot write {out}: {reason}; choose another --out or free the disk; nothing was written"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
