"""Files appear whole or not at all, and what cannot be opened is refused in the user's words."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from heartlens.core.errors import InputRefused


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; it takes the place of `path` only when the block ends well.

    The sibling keeps the ending of `path`, because some writers choose the format by it.

    Yields
    ------
    Path
        The sibling, which does not exist yet.

    Raises
    ------
    InputRefused
        ``output``, when the disk does not take it; nothing is left behind
    """
    path = Path(path)
    name, dot, ending = path.name.partition(".")
    sibling = path.with_name(f".{name}-{os.getpid()}{dot}{ending}")
    try:
        yield sibling
        os.replace(sibling, path)
    except OSError as error:
        raise InputRefused(
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
    InputRefused
        ``input``
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputRefused("input", f"cannot read {path}: {error.strerror or error}; check the path") from None


@contextmanager
def atomic_folder(out: Path, *, force: bool = False, is_ours: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """Give a temporary sibling folder; it becomes `out` only when the block ends well.

    Parameters
    ----------
    out
        Folder to make, with its parents.
    force
        Replace an existing folder.
    is_ours
        Says whether an existing folder may be replaced, so that `force` can lose nothing but our own output.

    Yields
    ------
    Path
        The sibling, empty.

    Raises
    ------
    InputRefused
        ``output``, the folder exists or the disk does not take it; nothing is left behind
    """
    out = Path(out).absolute()
    check_folder(out, force=force, is_ours=is_ours)
    sibling, replaced = _siblings(out, os.getpid())
    try:
        sibling.mkdir(parents=True)
        yield sibling
        try:
            if out.exists():
                out.rename(replaced)
            sibling.rename(out)
        except BaseException:  # Ctrl-C between the two renames must not lose the old result either
            if replaced.exists() and not out.exists():
                replaced.rename(out)
            raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputRefused(
            "output", f"cannot write {out}: {reason}; choose another --out or free the disk; nothing was written"
        ) from error
    finally:
        shutil.rmtree(sibling, ignore_errors=True)
        if out.exists():
            shutil.rmtree(replaced, ignore_errors=True)


def remove_unfinished(out: Path, pid: int) -> None:
    """Clear away what a process that was killed in `atomic_folder` left beside `out`.

    Parameters
    ----------
    out
        The folder that the process was writing.
    pid
        Of the process, which must be gone.
    """
    out = Path(out).absolute()
    sibling, replaced = _siblings(out, pid)
    shutil.rmtree(sibling, ignore_errors=True)
    if out.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    elif replaced.exists():  # killed between the two renames: the old result is still the result
        with suppress(OSError):
            replaced.rename(out)


def _siblings(out: Path, pid: int) -> tuple[Path, Path]:
    """Where a process writes, and where it keeps what it replaces."""
    return out.with_name(f".{out.name}-{pid}.part"), out.with_name(f".{out.name}-{pid}.old")


def check_folder(out: Path, *, force: bool = False, is_ours: Callable[[Path], bool] | None = None) -> None:
    """Refuse, before the work, a folder that `atomic_folder` would refuse after it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputRefused("output", f"{out} is a file; --out must name a folder")
    if not force:
        way_out = ", or --force to replace it" if is_ours else ""
        raise InputRefused("output", f"{out} exists; choose another --out{way_out}")
    if any(out.iterdir()) and not (is_ours and is_ours(out)):
        raise InputRefused("output", f"{out} exists and was not made by HeartLens; --force does not delete it")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with open(file, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
