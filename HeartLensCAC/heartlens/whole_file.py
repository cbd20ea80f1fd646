"""Files appear whole or not at all, and what cannot be opened is refused in the user's words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heartlens.refusal import Refused


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; it takes the place of `path` only when the block ends well.

    The sibling keeps the ending of `path`, because some writers choose the format by it.

    Raises
    ------
    Refused : ``output``, when the disk does not take it; nothing is left behind
    """
    path = Path(path)
    name, dot, ending = path.name.partition(".")
    sibling = path.with_name(f".{name}-{os.getpid()}{dot}{ending}")
    try:
        yield sibling
        os.replace(sibling, path)
    except OSError as error:
        raise Refused(
            "output",
            f"cannot write {path}: expected a writable place with room, found: {error.strerror or error}; "
            "choose another folder",
        ) from None
    finally:
        sibling.unlink(missing_ok=True)


def require_readable(path: Path) -> None:
    """Refuse a path that is no file, or one that may not be read.

    Raises
    ------
    Refused : ``input``
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise Refused("input", f"cannot read {path}: {error.strerror or error}; check the path") from None
