"""Labels of the reviewed cases of a list, as `heartlens export` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heartlens.core.disk.rights import is_private
from heartlens.core.errors import InputRefused


def write_labels(reviewed: Sequence[Path], wanted: Path) -> dict[str, Any]:
    """Write labels of cases into a new folder: the wanted one, or the next name that is free.

    Parameters
    ----------
    reviewed
        Case folders that a reader has signed or edited.
    wanted
        Folder to make.

    Raises
    ------
    InputRefused
        ``input``: nothing is reviewed yet; or as `heartlens.app.export.export_labels`.
    """
    from heartlens.app.export import export_labels
    from heartlens.viewer.open_case import free_folder

    if not reviewed:
        raise InputRefused("input", "no case of this list is reviewed yet: sign or correct one first")
    out = free_folder(wanted)
    document = export_labels(reviewed, out, shared_mode=not any(is_private(folder) for folder in reviewed))
    return {"folder": str(out), "cases": len(document["cases"])}
