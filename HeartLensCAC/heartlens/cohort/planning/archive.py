"""The CT of a PACS on the disk, so that it can be planned and scored as a folder, whatever the archive does then."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from heartlens.core.atomic import reason_of
from heartlens.core.disk.workplace import new_token
from heartlens.core.errors import InputRefused
from heartlens.pacs.archive import Archive, ArchiveError, FoundSeries, Query, is_uid

CT = "CT"

FATAL = frozenset({"down"})
"""Code of an archive that does nothing any more; every other trouble is of one series."""


@dataclass(frozen=True)
class Fetched:
    """What came of an archive.

    Parameters
    ----------
    series
        How many CT series are on the disk.
    troubles
        Where each of the others would lie, and why it does not.
    is_all
        False where the archive may hold more studies than were asked for.
    """

    series: int
    troubles: tuple[tuple[Path, str], ...] = field(default=())
    is_all: bool = True


def fetch_scans(name: str, config: Path | None, query: Query, folder: Path, tell: Callable[[str], None]) -> Fetched:
    """Bring every CT series of the studies that an archive finds into a folder, each whole or not at all.

    What is there already is not fetched again: after anything that went wrong, the same command goes on.

    Parameters
    ----------
    name
        Table of pacs.toml.
    config
        The file; None for where it usually lies.
    query
        Which studies.
    folder
        To make; a series lies in ``STUDY/SERIES`` below it.
    tell
        Hears what is fetched.

    Raises
    ------
    InputRefused
        ``input``: no such archive, no study, or it does not answer; ``output``: the disk does not take it.
    """
    from heartlens.pacs.connect import open_archive
    from heartlens.pacs.profiles import find_profile

    profile = find_profile(name, config)
    try:
        with closing(open_archive(profile)) as archive:
            studies = archive.studies(query)
            if not studies:
                raise InputRefused("input", f"{name} finds no such study; heartlens pacs find --pacs {name} lists them")
            found = [one for study in studies for one in archive.series(study.study_uid) if one.modality in (CT, "")]
            troubles = list(_fetch(archive, found, folder, tell))
    except ArchiveError as error:
        raise InputRefused("input", f"{error.text}; what was fetched stays, and the same command goes on") from None
    except OSError as error:
        raise InputRefused("output", f"cannot write {folder}: {reason_of(error)}; make room, then run again") from None
    return Fetched(len(found) - len(troubles), tuple(troubles), len(studies) < query.limit)


def _fetch(
    archive: Archive, found: Iterable[FoundSeries], folder: Path, tell: Callable[[str], None]
) -> Iterator[tuple[Path, str]]:
    series = list(found)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number, one in enumerate(series, 1):
        if not (is_uid(one.study_uid) and is_uid(one.series_uid)):
            yield folder / f"series-{number}", f"{archive.name} lists a series without a UID; ask its administrator"
            continue
        place = folder / one.study_uid / one.series_uid
        if _is_whole(place, one.images):
            continue
        tell(f"fetching series {number} of {len(series)} ({one.images or '?'} images)")
        part = place.with_name(f".{one.series_uid}-{new_token()}.part")
        try:
            archive.fetch(one, part)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(part, place)
        except ArchiveError as error:
            if error.code in FATAL:
                raise
            yield place, error.text
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _is_whole(place: Path, images: int | None) -> bool:
    """Whether a series is there with as many images as the archive has now: it may have got more."""
    with suppress(OSError):
        count = sum(entry.name.endswith(".dcm") for entry in os.scandir(place))
        return count > 0 and images in (None, count)
    return False
