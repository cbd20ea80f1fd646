"""A case folder to a copy; the folder stays as it is, also while somebody has it open."""

from __future__ import annotations

from pathlib import Path

from heartlens.app.review_session import ReviewSession
from heartlens.app.rounds.readings import name_of
from heartlens.case.folder import load_case
from heartlens.case.signature import now
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.viewer.copied.page import copied_page
from heartlens.viewer.copied.part import Box, cut_scan, cut_state, labeled_voxels, pack, part_to_show
from heartlens.viewer.state import AXES, geometry_of, heart_box, identity_of, state_of_session


def write_copy(folder: Path, path: Path, *, identify: bool = False) -> None:
    """Write one file that shows a case without a server and changes nothing.

    Parameters
    ----------
    folder
        The case folder.
    path
        The file to make; none is replaced.
    identify
        Show the patient's ID and name, the day of the scan, and the name of the result's folder.

    Raises
    ------
    InputRefused
        ``input``: the case cannot be opened; ``output``: the file is there, is too large, or the disk does not take it.
    """
    refuse_file(path)
    session = ReviewSession(folder, load_case(folder))  # no lock: nothing is edited
    case, scan = session.case, geometry_of(session.case)
    heart = heart_box(case)
    box = part_to_show(case.ct.shape, case.ct.spacing_mm, heart, labeled_voxels(case))
    voxels, step = pack(case.ct.hu[box])
    scan = {
        **cut_scan(scan, box),
        "is_copy": True,
        "name": name_of(folder) if identify else "Read-only copy",
        "identity": identity_of(session) if identify else None,
        "acquired": scan["acquired"] if identify else "",
    }
    state = {
        **cut_state(state_of_session(session), case, box),
        "read_only": "a read-only copy",
        "can_undo": False,
        "can_redo": False,
        "viewed": {"slices": [], "lesions": []},  # by who looks at the copy
        "look_through": "",
        "exports": {},
        "left_out": [],
    }
    answers = {
        "scan": scan,
        "state": state,
        "heart": {name: [max(0, at - one.start) for at in heart[name]] for name, one in zip(AXES, box, strict=True)},
    }
    band = band_words(now()[:10], state["state_words"], box, case.ct.shape, step, exact=case.ct.hu.dtype.kind == "i")
    page = copied_page(answers, voxels, band)
    with atomic_file(path) as sibling:
        sibling.write_bytes(page.encode())


def refuse_file(path: Path) -> None:
    """Refuse, before the work, a file that would not be written after it.

    Raises
    ------
    InputRefused
        ``output``: it is there already, or its folder is not.
    """
    if path.exists():
        raise InputRefused("output", f"{path} is there already: choose another name for --export-html")
    if not path.absolute().parent.is_dir():
        raise InputRefused("output", f"{path.absolute().parent} is no folder: make it, or choose another --export-html")


def band_words(day: str, state: str, box: Box, shape: tuple[int, int, int], step: int, *, exact: bool = True) -> str:
    """What stands above the images of a copy.

    Parameters
    ----------
    day
        On which it was made.
    state
        Of the case, in words.
    box
        What it shows.
    shape
        Of the whole scan.
    step
        In HU.
    exact
        Whether the scan has whole HU.

    Examples
    --------
    >>> band = band_words("2026-11-29", "DRAFT", (slice(3, 25), slice(0, 60), slice(4, 55)), (40, 60, 60), 2)
    >>> band.partition(". ")[0]
    'Read-only copy of 2026-11-29: DRAFT'
    >>> band.rpartition(". ")[2]
    'Shows slices 4–25 of 40 around the heart; HU rounded to 2.'
    """
    is_whole = all(one == slice(0, n) for one, n in zip(box, shape, strict=True))
    part = "the whole scan" if is_whole else f"slices {box[0].start + 1}–{box[0].stop} of {shape[0]} around the heart"
    hu = "as scanned" if step == 1 and exact else f"rounded to {step}"
    return (
        f"Read-only copy of {day}: {state}. Research software, not for diagnosis or treatment. Shows {part}; HU {hu}."
    )
