"""What a list of cases holds: those that are there, and second and third readings, made when they are opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from heartlens.app.rounds.readings import is_third, keep_apart, make_second, make_third, name_of, scan_of
from heartlens.case.folder import case_in
from heartlens.core.atomic import real_place
from heartlens.core.errors import InputRefused

if TYPE_CHECKING:
    from heartlens.viewer.prior import Prior

SECOND = "Second reading, blind to the first"
THIRD = "Third reading, of two"


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
    prior
        An earlier scan of the person, to be shown beside it.
    """

    folder: Path
    make: Callable[[], None] | None = None
    round: str = ""
    readings: tuple[Path, Path] | None = None
    name: str = ""
    need: str = ""
    prior: Prior | None = None

    @property
    def shown_name(self) -> str:
        """What the page calls it."""
        return self.name or name_of(self.folder)

    @property
    def is_made_of_others(self) -> bool:
        """Whether other cases decide if it can be opened: a reading that it begins with, or an earlier scan."""
        return self.make is not None or self.prior is not None

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
        keep_apart(b, outs)
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


def _pairs(firsts: Sequence[Path], seconds: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Readings of one scan, by the checksum of its voxels; of several, those whose results have one name."""
    scans = {folder: scan_of(folder) for folder in (*firsts, *seconds)}
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
        keep_apart(case, outs)
    return outs
