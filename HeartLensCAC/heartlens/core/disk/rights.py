"""Who may read what was written.

Results of patients are for the user alone unless somebody asks for more. On Windows a file has no such mode: there it
inherits the access list of the folder that it lies in, and nothing here pretends otherwise.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

FILE, FOLDER = 0o600, 0o700


def make_private(folder: Path) -> None:
    """Let nobody but the user into a folder, or read what is in it."""
    if sys.platform == "win32":
        return
    for place, _folders, files in os.walk(folder):
        os.chmod(place, FOLDER)
        for name in files:
            path = Path(place, name)
            if not path.is_symlink():
                os.chmod(path, FILE)


def is_private(folder: Path) -> bool:
    """Whether nobody but the user has any right in a folder; on Windows the access list decides, and this says no."""
    return sys.platform != "win32" and not stat.S_IMODE(folder.stat().st_mode) & 0o077


def mode_for(path: Path) -> int:
    """With which rights to begin a file: those of the file that it replaces, else no more than its folder gives.

    Parameters
    ----------
    path
        Of the file; it need not exist.

    Returns
    -------
    int
        Before the umask.
    """
    with suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode) & 0o777 | FILE  # the user writes it first
    with suppress(OSError):
        return 0o666 & (path.parent.stat().st_mode | FILE)
    return FILE


def keep_rights(path: Path, like: Path) -> None:
    """Give a file the rights of the one that it replaces, where there is one and the disk knows rights."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        os.chmod(path, stat.S_IMODE(like.stat().st_mode) & 0o777)
