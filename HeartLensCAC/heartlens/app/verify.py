"""Whether cases are still what was signed: the command `heartlens verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heartlens.case.folder import case_journal, folder_differences
from heartlens.case.seal import Seal, SealState, claims_signature, read_seal
from heartlens.core.errors import InputRefused


@dataclass(frozen=True)
class Verification:
    """What is known of one case folder without opening its CT.

    Parameters
    ----------
    folder
        Of the case.
    seal
        What its signature is worth; None where the case cannot be read.
    edits
        How many its journal holds.
    problem
        What is damaged; "" when nothing is.
    """

    folder: Path
    seal: Seal | None
    edits: int = 0
    problem: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether nothing was altered or damaged; an unsigned case is fine, one that cannot be verified is not."""
        worth = None if self.seal is None else self.seal.state
        return not self.problem and worth in (SealState.NONE, SealState.HOLDS, SealState.LAPSED)

    def __str__(self) -> str:
        parts = [str(self.seal)] if self.seal is not None else []
        return "; ".join([*parts, *([self.problem] if self.problem else [])])


def find_case_folders(places: list[Path]) -> list[Path]:
    """Case folders at or below some places.

    Raises
    ------
    InputRefused
        ``input``: there is none at one of them.
    """
    found: list[Path] = []
    for place in places:
        here = sorted(path.parent for path in place.rglob("case.json")) if place.is_dir() else []
        if not here:
            raise InputRefused("input", f"{place}: expected a case folder or a folder of them, found no case.json")
        found += here
    return list(dict.fromkeys(found))


def verify_case(folder: Path) -> Verification:
    """Look through a case folder: its signature, its journal, and the files that belong to them."""
    try:
        journal = case_journal(folder)
    except InputRefused as refused:
        return Verification(folder, None, 0, refused.text)
    edits, seal = len(journal.edits), read_seal(folder, len(journal.edits))
    problems = [f"the last {journal.torn_bytes} bytes of the journal are damaged"] if journal.is_torn else []
    if seal.state in (SealState.NONE, SealState.LAPSED) and claims_signature(folder, edits):
        problems.append("report.json says signed, and no signature holds that")
    return Verification(folder, seal, edits, "; ".join((*problems, *folder_differences(folder, edits))))
