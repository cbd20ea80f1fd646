"""Cases that are made of others: a second, blind reading, and a third of two. The browser and the panel begin both."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens.case.folder import case_in, case_journal, embeds_ct, find_case, load_case, read_json
from heartlens.case.inputs import ADJUDICATION
from heartlens.case.looked_at import LookedAt
from heartlens.case.seal import read_seal
from heartlens.core.atomic import real_place
from heartlens.core.errors import InputRefused

if TYPE_CHECKING:
    from heartlens.case.case import Case


def name_of(folder: Path) -> str:
    """Of the result that a case folder belongs to, where it is called as all are."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == "case" else folder.name


def make_second(first: Path, out: Path, reader: str) -> None:
    """Begin a second reading, or see that the one that is there is of the same scan and of nobody else.

    Parameters
    ----------
    first
        Case folder of the first reading, which is not changed.
    out
        Report folder.
    reader
        Who reads second.

    Raises
    ------
    InputRefused
        ``input``: the first one cannot be opened, is none to begin with, or was read by the same reader; ``output``:
        something else lies there.
    """
    from heartlens.case.comparison.opened import open_case
    from heartlens.case.comparison.second import unread

    if reader in {*readers_of(find_case(first)), _signer(find_case(first))}:
        raise InputRefused(
            "input",
            f"{reader} has read {first}, and no second reading by the same reader is blind: let somebody else read it",
        )
    there = case_in(out)
    if there is None:
        opened = open_case(first)
        _write(unread(opened.case), opened.sources, first, out, embed_ct=embeds_ct(opened.folder))
        LookedAt(out / "case", reader).begin()  # from now on it is this reader's, also before the first edit
        return
    if not _begins_alike(there, first):
        raise InputRefused(
            "output", f"{out} holds another case than a second reading of {first}: choose another folder"
        )
    others = readers_of(there) - {reader}
    if others:
        names = ", ".join(sorted(name or "a reader without a name" for name in others))
        raise InputRefused(
            "output", f"{out} was read by {names}, and {reader} is not blind to it: choose another folder"
        )


def make_third(pair: tuple[Path, Path], out: Path) -> None:
    """Make the third case of two readings, or see that the one that is there is of the same scan.

    Parameters
    ----------
    pair
        Case folders of both readings, which are not changed.
    out
        Report folder.

    Raises
    ------
    InputRefused
        ``input``: a reading cannot be opened, or the two cannot be joined; ``output``: something else lies there.
    """
    from heartlens.case.comparison.adjudication import adjudicated
    from heartlens.case.comparison.opened import open_case

    there = case_in(out)
    if there is None:
        a, b = (open_case(one) for one in pair)
        _write(adjudicated(a, b), a.sources, pair[0], out, embed_ct=any(embeds_ct(one.folder) for one in (a, b)))
    elif not is_third(there) or scan_of(there) != scan_of(pair[0]):
        raise InputRefused("output", f"{out} holds another case than one of these two readings: choose another folder")


def readers_of(folder: Path) -> set[str]:
    """Who has begun, looked at, edited or signed a case.

    A reader signs by the name of a report, which need not be the one that the edits have: it counts where no other is
    known.

    Parameters
    ----------
    folder
        Of the case.

    Raises
    ------
    InputRefused
        ``unreadable``: its journal cannot be read.
    """
    readers = {edit.who for edit in case_journal(folder).edits} | LookedAt(folder).readers
    signer = _signer(folder)
    return {signer} if signer and not readers else readers


def _signer(folder: Path) -> str:
    signature = read_seal(folder, len(case_journal(folder).edits)).signature
    return "" if signature is None else signature.observer


def is_third(folder: Path) -> bool:
    """Whether a case was made of two readings; one that cannot be read is none, and is told when it is opened.

    Parameters
    ----------
    folder
        Of the case.
    """
    with suppress(InputRefused):
        return ADJUDICATION in _warnings_of(folder)
    return False


def keep_apart(case: Path, outs: Sequence[Path]) -> None:
    """Refuse a report folder that is, holds or lies in a reading.

    Parameters
    ----------
    case
        Of the reading.
    outs
        Report folders to make.

    Raises
    ------
    InputRefused
        ``output``: one of them does.
    """
    folder = real_place(find_case(case))
    reading = folder.parent if folder.name == "case" else folder
    for out in map(real_place, outs):
        if out == reading or reading in out.parents or out in reading.parents:
            raise InputRefused(
                "output", f"{out} lies in the way of the reading in {reading}: choose a folder beside it"
            )


def _begins_alike(there: Path, first: Path) -> bool:
    """Whether a case is of the same scan as another, and begins with the same lesions; not one of two readings."""
    if is_third(there) or scan_of(there) != scan_of(first):
        return False
    marks = [_read(one)["checksums"].get("auto_sha256") for one in (there, first)]
    if marks[0] == marks[1] is not None:
        return True
    a, b = (load_case(one).auto for one in (there, first))  # one of them was written by an earlier version
    return a.arteries == b.arteries and a.labels.shape == b.labels.shape and bool((a.labels == b.labels).all())


def _warnings_of(folder: Path) -> set[str]:
    return {warning["code"] for warning in _read(folder)["warnings"]}


def scan_of(folder: Path) -> str:
    """Checksum of the voxels of a case, by which two cases are known to be of one scan."""
    return str(_read(folder)["checksums"]["voxels_sha256"])


def _read(folder: Path) -> dict[str, Any]:
    """case.json, as far as it is looked at here."""
    try:
        document = read_json(folder / "case.json")
        _ = document["checksums"]["voxels_sha256"], [warning["code"] for warning in document["warnings"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputRefused("unreadable", f"{folder}: {error}; restore it from a copy") from None
    return document


def _write(case: Case, sources: Sequence[Any], first: Path, out: Path, *, embed_ct: bool) -> None:
    """A result folder as the first one's, with its language and everything that was asked for there."""
    from heartlens.case.result import Result
    from heartlens.core.disk.rights import is_private
    from heartlens.report.catalogs.language import language_of_page
    from heartlens.report.outputs import MORE_FILES, write_outputs

    write_outputs(
        Result(case, sources),
        out,
        shared_mode=not is_private(first),
        language=language_of_page(first.parent / "report.html"),
        more=[one for one, name in MORE_FILES.items() if (first.parent / name).is_file()],
        embed_ct=embed_ct,
    )
