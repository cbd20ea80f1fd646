"""What a list of cases holds, and the cases that are made of others: a second, blind reading, and a third of two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens.case.folder import case_in, case_journal, embeds_ct, find_case, load_case, read_json
from heartlens.case.looked_at import LookedAt
from heartlens.case.seal import read_seal
from heartlens.core.atomic import real_place
from heartlens.core.errors import InputRefused

if TYPE_CHECKING:
    from heartlens.case.case import Case

SECOND = "Second reading, blind to the first"
THIRD = "Third reading, of two"


def name_of(folder: Path) -> str:
    """Of the result that a case folder belongs to, where it is called as all are."""
    folder = folder.absolute()
    return folder.parent.name if folder.name == "case" else folder.name


@dataclass(frozen=True)
class Listed:
    """A case of a list.

    Parameters
    ----------
    folder
        Of the case.
    make
        Makes it, or sees that it is the right one, when it is first opened; None where it is there.
    round
        Which reading it is, in words for the page; "" for the first.
    readings
        Case folders of the two readings that it was made of.
    name
        By which a reader knows it; "" for that of its result folder. For the page alone: it may be a patient's.
    need
        Why it needs a reader, where the list knows more than the case; "" otherwise.
    """

    folder: Path
    make: Callable[[], None] | None = None
    round: str = ""
    readings: tuple[Path, Path] | None = None
    name: str = ""
    need: str = ""

    @property
    def shown_name(self) -> str:
        """What the page calls it."""
        return self.name or name_of(self.folder)

    @property
    def is_there(self) -> bool:
        """Whether it was made already: a reading begins when somebody opens it, and not before."""
        return self.make is None or case_in(self.folder) is not None


def second_readings(place: Path, cases: Sequence[Path], out: Path, reader: str) -> list[Listed]:
    """Second readings of some cases, each in a report folder of its own.

    Parameters
    ----------
    place
        Where the reader has named them.
    cases
        Their folders.
    out
        Report folder to make of the case at the place; of a folder of them, a folder of such folders.
    reader
        Who reads second.

    Raises
    ------
    InputRefused
        ``output``: a folder would lie in the way of a first reading, or of another second one.
    """
    cases = readings_among(cases)
    outs = _places(place, cases, out)
    return [
        Listed(result / "case", partial(make_second, first, result, reader), SECOND)
        for first, result in zip(cases, outs, strict=True)
    ]


def third_readings(place: Path, firsts: Sequence[Path], seconds: Sequence[Path], out: Path) -> list[Listed]:
    """Third cases of the scans that were read twice, each in a report folder of its own.

    Parameters
    ----------
    place
        Where the reader has named the first readings.
    firsts, seconds
        Case folders of the readings.
    out
        As for `second_readings`.

    Raises
    ------
    InputRefused
        ``input``: no scan was read twice; ``unreadable``: a case is damaged; ``output``: a folder would lie in the way
        of a reading.
    """
    pairs = _pairs(readings_among(firsts), readings_among(seconds))
    outs = _places(place, [a for a, _ in pairs], out)
    for _, b in pairs:
        _keep_apart(b, outs)
    return [
        Listed(result / "case", partial(make_third, pair, result), THIRD, pair)
        for pair, result in zip(pairs, outs, strict=True)
    ]


def readings_among(cases: Sequence[Path]) -> list[Path]:
    """Cases without those that were made of two readings, which are no reading of their own.

    Parameters
    ----------
    cases
        Their folders.

    Raises
    ------
    InputRefused
        ``input``: none is left.
    """
    readings = [folder for folder in cases if not is_third(folder)]
    if not readings:
        raise InputRefused(
            "input",
            f"{cases[0]} was made of two readings: expected a reading by one person; name one of the two readings",
        )
    return readings


def is_third(folder: Path) -> bool:
    """Whether a case was made of two readings; one that cannot be read is none, and is told when it is opened.

    Parameters
    ----------
    folder
        Of the case.
    """
    from heartlens.case.comparison.adjudication import ADJUDICATION

    with suppress(InputRefused):
        return ADJUDICATION in _warnings_of(folder)
    return False


def _pairs(firsts: Sequence[Path], seconds: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Readings of one scan, by the checksum of its voxels; of several, those whose results have one name."""
    scans = {folder: _scan_of(folder) for folder in (*firsts, *seconds)}
    count = Counter(scans[folder] for folder in firsts)
    pairs = []
    for a in firsts:
        found = [b for b in seconds if scans[b] == scans[a] and real_place(b) != real_place(a)]
        if len(found) > 1 or count[scans[a]] > 1:
            found = [b for b in found if name_of(b) == name_of(a)]
        pairs += [(a, b) for b in found[:1]]
    if not pairs:
        raise InputRefused(
            "input", "no scan was read twice: expected two readings of one scan; see heartlens review --second"
        )
    return pairs


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
        ``input``: the first one cannot be opened, or is none to begin with; ``output``: something else lies there.
    """
    from heartlens.case.comparison.opened import open_case
    from heartlens.case.comparison.second import unread

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
    others = _readers_of(there) - {reader}
    if others:
        names = ", ".join(sorted(name or "a reader without a name" for name in others))
        raise InputRefused(
            "output", f"{out} was read by {names}, and {reader} is not blind to it: choose another folder"
        )


def _readers_of(folder: Path) -> set[str]:
    """Who has begun, looked at, edited or signed a reading.

    A reader signs by the name of a report, which need not be that of ``--reader``: it counts where no other is known.
    """
    journal = case_journal(folder)
    readers = {edit.who for edit in journal.edits} | LookedAt(folder).readers
    signature = read_seal(folder, len(journal.edits)).signature
    return {signature.observer} if signature is not None and not readers else readers


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
    elif not is_third(there) or _scan_of(there) != _scan_of(pair[0]):
        raise InputRefused("output", f"{out} holds another case than one of these two readings: choose another folder")


def _begins_alike(there: Path, first: Path) -> bool:
    """Whether a case is of the same scan as another, and begins with the same lesions; not one of two readings."""
    if is_third(there) or _scan_of(there) != _scan_of(first):
        return False
    marks = [_read(one)["checksums"].get("auto_sha256") for one in (there, first)]
    if marks[0] == marks[1] is not None:
        return True
    a, b = (load_case(one).auto for one in (there, first))  # one of them was written by an earlier version
    return a.arteries == b.arteries and a.labels.shape == b.labels.shape and bool((a.labels == b.labels).all())


def _warnings_of(folder: Path) -> set[str]:
    return {warning["code"] for warning in _read(folder)["warnings"]}


def _scan_of(folder: Path) -> str:
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


def _places(place: Path, cases: Sequence[Path], out: Path) -> list[Path]:
    """A report folder for each case: the one that was named, or one in it for each of several."""
    out = real_place(out)
    if case_in(place) is not None:
        outs = [out]
    else:
        names = [name_of(folder) for folder in cases]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputRefused("ambiguous", f"{place} has two results {twice[0]}: name one of them")
        outs = [out / name for name in names]
        if real_place(place) in (out, *out.parents):  # else they would be read as results of that folder
            raise InputRefused("output", f"{out} lies in {place}: choose a folder beside it")
    for case in cases:
        _keep_apart(case, outs)
    return outs


def _keep_apart(case: Path, outs: Sequence[Path]) -> None:
    """Refuse a report folder that is, holds or lies in a reading."""
    folder = real_place(find_case(case))
    reading = folder.parent if folder.name == "case" else folder
    for out in outs:
        if out == reading or reading in out.parents or out in reading.parents:
            raise InputRefused(
                "output", f"{out} lies in the way of the reading in {reading}: choose a folder beside it"
            )
