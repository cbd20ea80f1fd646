"""How scans are scored, as a key: version, bundle and options; a cohort may hold results of several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from heartlens import __version__
from heartlens.case.folder import write_json
from heartlens.cohort.folder import CohortFolder
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused

OF_FILES = ("device", "shared-mode", "embed-ct")
"""Options that change no score and no report."""


def settings_of(words: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key of how scans are scored, and what it stands for.

    Parameters
    ----------
    words
        The options, by their names on the command line.

    Raises
    ------
    InputRefused
        The bundle cannot be used.
    """
    from heartlens.networks.bundle import find_bundle, load_bundle

    place = find_bundle(words.get("bundle"))
    bundle = None if place is None else load_bundle(place)
    asked = {name: value for name, value in words.items() if name not in ("bundle", *OF_FILES)}
    document = {
        "version": __version__,
        "bundle": None if bundle is None else {"title": bundle.title, "files": bundle.checksums()},
        "options": asked,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16], document


def keep_settings(folder: CohortFolder, settings: str, document: Mapping[str, Any]) -> None:
    """Write down what the key of the settings stands for, and that they are the latest."""
    with atomic_file(folder.path / "settings" / f"{settings}.json") as sibling:
        write_json(sibling, document)


def latest_settings(folder: CohortFolder, wanted: str = "") -> str:
    """The settings of the last run, or those that are named by the beginning of their key; "" before any run.

    Raises
    ------
    InputRefused
        ``input``: no settings begin so, or several.
    """
    found = sorted((folder.path / "settings").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    names = [path.stem for path in found if path.name[0] != "."]
    if not wanted:
        return names[-1] if names else ""
    fitting = [name for name in names if name.startswith(wanted)]
    if len(fitting) != 1:
        raise InputRefused("input", f"--settings {wanted}: expected one of {', '.join(names) or 'none yet'}")
    return fitting[0]
