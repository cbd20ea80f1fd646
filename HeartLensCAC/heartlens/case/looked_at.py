"""Which slices and lesions were on the screen: what a reader who signs a zero has to have looked through."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from heartlens.case.folder import read_json, write_json
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused

VIEWED = "viewed.json"
"""In the case folder; no part of what is signed."""

VIEWED_SCHEMA = "heartlens.viewed/1"


class LookedAt:
    """Slices and lesions that one reader has had on the screen.

    Parameters
    ----------
    folder
        Of the case.
    reader
        Who looks; "" for somebody, whose looks are neither read nor written: it may be another the next time.
    is_kept
        Whether it is written; else it is known as long as the case is open.

    Attributes
    ----------
    slices, lesions
        Indices of scored slices, and ids.
    """

    def __init__(self, folder: Path, reader: str = "", *, is_kept: bool = True) -> None:
        self._path, self._reader, self._is_kept = folder / VIEWED, reader, is_kept and bool(reader)
        self._others: dict[str, dict[str, list[int]]] = {}
        self.slices: set[int] = set()
        self.lesions: set[int] = set()
        self._was_here = False
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # lost or damaged: look again
            readers = read_json(self._path)["readers"]
            self._others = {str(name): dict(seen) for name, seen in readers.items()}
            self._was_here = bool(reader) and reader in self._others
            mine = self._others.pop(reader, {}) if reader else {}
            self.slices = {int(k) for k in mine.get("slices", ())}
            self.lesions = {int(n) for n in mine.get("lesions", ())}

    @property
    def readers(self) -> set[str]:
        """Of whom something was kept when this was read."""
        return set(self._others) | ({self._reader} if self._was_here else set())

    @property
    def has_begun(self) -> bool:
        """Whether some reader, whose name is not asked for here, has seen a slice or a lesion."""
        return any(seen.get("slices") or seen.get("lesions") for seen in self._others.values())

    def begin(self) -> None:
        """Keep that this reader has begun, who has seen nothing yet.

        Raises
        ------
        InputRefused
            ``output``: the disk does not take it.
        """
        self._write()

    def add(self, slices: Iterable[int], lesions: Iterable[int]) -> None:
        """Keep what was shown; a disk that does not take it costs a look another day, and no edit."""
        before = len(self.slices) + len(self.lesions)
        self.slices |= set(slices)
        self.lesions |= set(lesions)
        if not self._is_kept or len(self.slices) + len(self.lesions) == before:
            return
        with suppress(InputRefused):
            self._write()

    def _write(self) -> None:
        mine = {"slices": sorted(self.slices), "lesions": sorted(self.lesions)}
        with atomic_file(self._path) as sibling:
            write_json(sibling, {"schema": VIEWED_SCHEMA, "readers": {**self._others, self._reader: mine}})

    def missing(self, heart: range) -> list[tuple[int, int]]:
        """Slices of the heart that were not shown, as runs of first and last."""
        runs: list[tuple[int, int]] = []
        for k in heart:
            if k in self.slices:
                continue
            if runs and runs[-1][1] == k - 1:
                runs[-1] = (runs[-1][0], k)
            else:
                runs.append((k, k))
        return runs


def missing_words(missing: list[tuple[int, int]]) -> str:
    """What is still to be looked at before a zero can be signed, counted from 1; "" for nothing.

    Examples
    --------
    >>> missing_words([(0, 2), (7, 7)])
    'A score of 0 is a claim about every slice: slices 1–3, 8 of the heart were not on the screen yet.'
    """
    if not missing:
        return ""
    listed = ", ".join(str(a + 1) if a == b else f"{a + 1}–{b + 1}" for a, b in missing)
    return f"A score of 0 is a claim about every slice: slices {listed} of the heart were not on the screen yet."
