"""A file appears whole or not at all."""

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
