"""Whom a bundle has to name: the credits that the licences of real scans ask for, carried from bundle to bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import MANIFEST
from training.datasets.shards import ScanRecord

CREDITS = "attribution"
"""Key of a manifest, and of a scan's provenance."""

CREDITS_FILE = "credits.json"
"""In the folder of a run: whom its weights owe, by what it began with and by what it learned from."""

Credit = Mapping[str, Any]
"""{"cite", "licence", "scans": names of the scans}"""


def credits_of_scans(scans: Iterable[ScanRecord]) -> list[dict[str, Any]]:
    """Which real scans were used, and what their licences ask to be cited.

    Parameters
    ----------
    scans
        What was learned from.
    """
    found = [
        {"cite": scan.provenance[CREDITS], "licence": scan.provenance["licence"], "scans": [_place(scan)]}
        for scan in scans
        if CREDITS in scan.provenance
    ]
    return merged_credits(found)


def _place(scan: ScanRecord) -> str:
    return str(scan.provenance.get("background", scan.name))


def credits_of_start(place: Path) -> list[dict[str, Any]]:
    """The credits of a bundle, or of a run that began with one; none where it names none.

    Parameters
    ----------
    place
        Folder of the bundle or of the run.

    Raises
    ------
    InputRefused
        ``unreadable``: they are not what a manifest holds
    """
    path = next((place / name for name in (MANIFEST, CREDITS_FILE) if (place / name).is_file()), None)
    if path is None:
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        credit_list = document.get(CREDITS, [])
        return merged_credits(
            [{"cite": str(c["cite"]), "licence": str(c["licence"]), "scans": list(c["scans"])} for c in credit_list]
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputRefused(
            "unreadable",
            f"{path}: expected {CREDITS} as a list of cite, licence and scans, found {type(error).__name__} {error}; "
            "whoever made it must be named, so restore it from a copy",
        ) from None


def merged_credits(*lists: Sequence[Credit]) -> list[dict[str, Any]]:
    """Several lists as one: each citation once, with all of its scans, in a fixed order.

    Parameters
    ----------
    *lists
        Of credits.

    Examples
    --------
    >>> one = {"cite": "Doe, 2017", "licence": "CC BY 3.0", "scans": ["b"]}
    >>> merged_credits([one], [{**one, "scans": ["a", "b"]}])
    [{'cite': 'Doe, 2017', 'licence': 'CC BY 3.0', 'scans': ['a', 'b']}]
    """
    names: dict[tuple[str, str], set[str]] = {}
    for credit in (one for some in lists for one in some):
        names.setdefault((credit["cite"], credit["licence"]), set()).update(map(str, credit["scans"]))
    return [
        {"cite": cite, "licence": licence, "scans": sorted(used)} for (cite, licence), used in sorted(names.items())
    ]


def keep_credits(run: Path, start: Path | None, scans: Iterable[ScanRecord] = ()) -> None:
    """Lay the credits of a run into its folder, where the next run and the export find them.

    Parameters
    ----------
    run
        Folder of the run, which is there.
    start
        Bundle or run whose weights it begins with.
    scans
        That it learns from, or is chosen by.
    """
    of_start = [] if start is None else credits_of_start(start)
    document = {CREDITS: merged_credits(of_start, credits_of_scans(scans))}
    with atomic_file(run / CREDITS_FILE) as sibling:
        sibling.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
