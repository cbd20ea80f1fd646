"""Files and folders appear whole or not at all, and replace nothing that they may not."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from heartlens.core.disk.renaming import SHARING, rename_new, replace_file, sync_file, sync_folder, sync_tree
from heartlens.core.disk.rights import keep_rights, make_private, mode_for
from heartlens.core.disk.workplace import Workplace, clear_leftovers, new_token
from heartlens.core.errors import InputRefused

Hold = Callable[[Path], AbstractContextManager[object]]
"""Holds a folder while it is replaced, so that nobody begins to work in it; raises `InputRefused` if it must stay."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""Of a disk that takes no more, whatever is written to it."""

BRIDGED = "; an earlier run was killed while it replaced this result, and the old one was brought back"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; it takes the place of `path` only when the block ends well.

    The sibling keeps the ending of `path`, because some writers choose the format by it, and the rights of the file
    that it replaces. A new file gets no right that its folder does not give.

    Yields
    ------
    Path
        The sibling, empty.

    Raises
    ------
    InputRefused
        ``output``, when the disk does not take it; nothing is left behind
    """
    path = Path(path)
    name, dot, ending = path.name.partition(".")
    sibling = path.with_name(f".{name}-{new_token()}{dot}{ending}")
    try:
        os.close(os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode_for(path)))
        yield sibling
        sync_file(sibling)
        keep_rights(sibling, like=path)
        replace_file(sibling, path)
        sync_folder(path.parent)
    except OSError as error:
        raise InputRefused(
            "output",
            f"cannot write {path}: expected a writable place with room, found: {reason_of(error)}; "
            "choose another folder",
        ) from None
    finally:
        with suppress(OSError):
            sibling.unlink(missing_ok=True)


def remove_unfinished_files(folder: Path, *, older_than_s: float | None = None) -> None:
    """Clear away what killed processes left of `atomic_file` in a folder in which nobody else is at work.

    Parameters
    ----------
    folder
        Without its subfolders.
    older_than_s
        Leave what was written to since, where somebody may be at work after all; None leaves nothing.
    """
    pattern = re.compile(r"\..+-([0-9a-f]{16}|[0-9]+)\..+")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and not path.is_dir():
            with suppress(OSError):
                if older_than_s is None or time.time() - path.stat().st_mtime > older_than_s:
                    path.unlink()


@contextmanager
def atomic_folder(
    out: Path,
    *,
    force: bool = False,
    is_ours: Callable[[Path], bool] | None = None,
    hold: Hold = nullcontext,
    private: bool = False,
) -> Iterator[Path]:
    """Give a temporary sibling folder; it becomes `out` only when the block ends well.

    Without `force` it becomes `out` by a rename that replaces nothing. With it, whether what is there may be replaced
    is judged at the end once more, while nobody else can begin to work in it.

    Parameters
    ----------
    out
        Folder to make, with its parents; of a symbolic link, the folder that it names.
    force
        Replace an existing folder.
    is_ours
        Says whether an existing folder may be replaced, so that `force` can lose nothing but our own output.
    hold
        Holds the existing folder while it is replaced.
    private
        Let nobody but the user read it (on Windows its access list decides).

    Yields
    ------
    Path
        The sibling, empty.

    Raises
    ------
    InputRefused
        ``output``, the folder exists or the disk does not take it; nothing is left behind
    """
    out = real_place(out)
    check_folder(out, force=force, is_ours=is_ours, hold=hold)
    try:
        with Workplace(out, private=private) as place:
            yield place.part
            if private:
                make_private(place.part)
            sync_tree(place.part)
            _publish(place, force=force, is_ours=is_ours, hold=hold)
            sync_folder(out.parent)
    except OSError as error:
        raise InputRefused(
            "output",
            f"cannot write {out}: {reason_of(error)}; choose another --out or free the disk; nothing was written",
        ) from error


def _publish(place: Workplace, *, force: bool, is_ours: Callable[[Path], bool] | None, hold: Hold) -> None:
    """Give the folder its name. What goes wrong from the first rename on, Ctrl-C too, brings the old result back."""
    out = place.out
    with suppress(FileExistsError):
        return rename_new(place.part, out)
    if not force:
        raise InputRefused("output", f"{out} was made by another program meanwhile; choose another --out")
    _require_replaceable(out, is_ours)
    with hold(out):
        rename_new(out, place.old)
        try:
            rename_new(place.part, out)
        except FileExistsError:
            raise InputRefused("output", f"{out} was made by another program meanwhile; run again") from None


def real_place(out: Path) -> Path:
    """The absolute path of a folder to write; of a symbolic link, of the folder that it names, existing or not.

    Raises
    ------
    InputRefused
        ``output``: the link leads in a circle.
    """
    out = Path(out).absolute()
    if not out.is_symlink():
        return out
    try:
        target = out.resolve()
        target.exists()
    except (OSError, RuntimeError):
        target = out
    if target.is_symlink():
        raise InputRefused("output", f"{out} is a symbolic link that leads in a circle; choose another --out")
    return target


def check_folder(
    out: Path, *, force: bool = False, is_ours: Callable[[Path], bool] | None = None, hold: Hold = nullcontext
) -> None:
    """Refuse, before the work, a folder that `atomic_folder` would refuse after it.

    What killed runs have left beside it is cleared away first, and an old result that one of them hid is brought back.
    """
    out = real_place(out)
    bridged = BRIDGED if clear_leftovers(out) else ""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise InputRefused("output", f"{out} is a file; --out must name a folder")
    if not force:
        way_out = ", or --force to replace it" if is_ours else ""
        raise InputRefused("output", f"{out} exists; choose another --out{way_out}{bridged}")
    _require_replaceable(out, is_ours)
    with hold(out):
        pass


def _require_replaceable(out: Path, is_ours: Callable[[Path], bool] | None) -> None:
    if any(out.iterdir()) and not (is_ours and is_ours(out)):
        raise InputRefused("output", f"{out} exists and was not made by HeartLens; --force does not delete it")


def reason_of(error: OSError) -> str:
    """What the system says; libraries that raise its errors again often leave that out and add pages of their own."""
    if getattr(error, "winerror", None) in SHARING:
        return "another program, such as a virus scanner or a backup, has it open, or writing is not allowed there"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
