"""The command `heartlens export`: label maps of saved cases for training networks, and who reviewed what in them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartlens import __version__
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import ARTERY_NAMES, Artery, Draft
from heartlens.core.protocol import NOTICE

if TYPE_CHECKING:
    from heartlens.case.case import Case
    from heartlens.case.comparison.opened import OpenedCase

DONE = 0

LABELS_SCHEMA = "heartlens.labels/1"
LABELS = "labels.json"

CODES = {"background": 0, **{artery.name: int(artery) for artery in Artery}}
"""Values of every label map."""


@dataclass(frozen=True)
class Review:
    """Who decided on one island last.

    Parameters
    ----------
    by, when
        Reader and ISO 8601 time, as the edit says; "" where it names nobody.
    """

    by: str
    when: str


def add_export(commands: Any) -> None:
    """Add the command to those of the command line."""
    export = commands.add_parser("export", help="write the labels of reviewed cases for training networks")
    export.add_argument("case", type=Path, nargs="+", help="case or report folder")
    export.add_argument("--out", type=Path, required=True, help="folder to make")
    export.add_argument("--unreviewed", action="store_true", help="take cases, too, that nobody has reviewed")
    export.add_argument("--force", action="store_true", help="replace an earlier export")
    export.add_argument("--shared-mode", action="store_true", help="let others read the labels, as the umask says")
    export.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    """Export cases, and print of each how many islands were reviewed by whom."""
    from heartlens.core.atomic import check_folder

    check_folder(options.out.absolute(), force=options.force, is_ours=is_export)
    document = export_labels(
        options.case,
        options.out,
        unreviewed=options.unreviewed,
        force=options.force,
        shared_mode=options.shared_mode,
    )
    for place, case in zip(options.case, document["cases"], strict=True):
        print(f"{place}: {reviewed_words(case)}")
    print(f"\nLabels: {options.out / LABELS}\n{NOTICE}")
    return DONE


def export_labels(
    places: Sequence[Path],
    out: Path,
    *,
    unreviewed: bool = False,
    force: bool = False,
    shared_mode: bool = False,
) -> dict[str, Any]:
    """Write of each case a map of arteries and one of islands on the grid of its CT, and labels.json over all.

    Parameters
    ----------
    places
        Case folders, or report folders with one.
    out
        Folder to make, whole or not at all.
    unreviewed
        Take cases that nobody has reviewed.
    force
        Replace an earlier export.
    shared_mode
        Give the files the rights that the umask gives, where else nobody but the user may read them.

    Returns
    -------
    dict
        What labels.json holds.

    Raises
    ------
    InputRefused
        ``labels``, nobody reviewed a case; ``checksum``, one was altered after signing; ``ambiguous``, two are of one
        scan; ``output``; or a case cannot be opened.
    """
    from heartlens.case.comparison.opened import open_case
    from heartlens.case.correction import island_ids
    from heartlens.case.folder import write_json
    from heartlens.case.signature import now
    from heartlens.core.atomic import atomic_folder
    from heartlens.io.nrrd import write_nrrd

    rows: list[dict[str, Any]] = []
    with atomic_folder(out, force=force, is_ours=is_export, private=not shared_mode) as folder:
        for number, place in enumerate(places, 1):
            opened = open_case(place)
            _check(opened, place, unreviewed=unreviewed)
            case, name = opened.case, f"case-{number:04d}"
            twin = [row["name"] for row in rows if row["voxels_sha256"] == case.voxel_checksum]
            if twin:
                raise InputRefused(
                    "ambiguous",
                    f"{place} is of the same scan as {twin[0]}: name one of them, or heartlens compare both",
                )
            write_nrrd(folder / f"{name}-labels.nrrd", case.scored_codes, case.source_ct.affine)
            write_nrrd(folder / f"{name}-islands.nrrd", island_ids(case), case.source_ct.affine)
            rows.append(case_document(opened, name))
        document = {
            "schema": LABELS_SCHEMA,
            "notice": NOTICE,
            "exported_at": now(),
            "exported_by": f"HeartLens {__version__}",
            "codes": CODES,
            "code_names": {artery.name: ARTERY_NAMES[artery] for artery in Artery},
            "cases": rows,
        }
        write_json(folder / LABELS, document)
    return document


def case_document(opened: OpenedCase, name: str) -> dict[str, Any]:
    """What labels.json holds of one case: which scan it is, who labeled and who reviewed it, and every island.

    Parameters
    ----------
    opened
        The case.
    name
        Of its files.
    """
    case, reviews = opened.case, reviews_of(opened.case)
    report = case.report_document(opened.assessment)
    header, signature = case.source_ct.header, opened.signature
    return {
        "name": name,
        "files": {"labels": f"{name}-labels.nrrd", "islands": f"{name}-islands.nrrd"},
        "voxels_sha256": case.voxel_checksum,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "sop_instance_uids": list(header.sop_instance_uids),
        "shape_kji": list(case.source_ct.shape),
        "affine_lps_mm": case.source_ct.affine.tolist(),
        "state": opened.state.value,
        "signature": None if signature is None else asdict(signature),
        "edits": len(case.edits),
        "scored_at": report["scored_at"],
        "evaluable": report["assessment"]["evaluable"],
        "warnings": [warning["code"] for warning in report["warnings"]],
        "protocol": report["protocol"],
        "provenance": report["provenance"],
        "islands": [
            {
                **{key: row[key] for key in ("id", "artery", "site", "agatston", "source", "undecided", "slices")},
                "reviewed": asdict(reviews[row["id"]]) if row["id"] in reviews else None,
            }
            for row in report["lesions"]
        ],
    }


def reviews_of(case: Case) -> dict[int, Review]:
    """Who decided last on each island of a case, by its id; islands that no edit in force touched are in none.

    Parameters
    ----------
    case
        With its edits.
    """
    from heartlens.case.edits import apply_edit

    draft, reviews = Draft(case.auto), dict[int, Review]()
    for edit in case.edits_in_force:
        before, sizes = set(draft.arteries), _sizes(draft)
        apply_edit(edit, draft)
        after = _sizes(draft)
        touched = {number for number in draft.arteries if number not in before or after[number] != sizes[number]}
        if edit.kind == "reassign" and edit.lesion is not None:
            touched.add(edit.lesion)
        reviews.update(dict.fromkeys(touched, Review(edit.who, edit.when)))
    return {number: review for number, review in reviews.items() if number in draft.arteries}


def reviewed_words(case: dict[str, Any]) -> str:
    """How many islands were reviewed by whom, in a sentence.

    Parameters
    ----------
    case
        An entry of labels.json.

    Examples
    --------
    >>> islands = [{"reviewed": {"by": "Rita", "when": ""}}, {"reviewed": None}]
    >>> reviewed_words({"islands": islands, "signature": None})
    '1 of 2 islands reviewed one by one (Rita 1); not signed'
    """
    names = Counter(one["reviewed"]["by"] or "a reader without a name" for one in case["islands"] if one["reviewed"])
    who = f" ({', '.join(f'{name} {count}' for name, count in sorted(names.items()))})" if names else ""
    signature = case["signature"]
    signed = f"all signed by {signature['observer']}" if signature else "not signed"
    return f"{sum(names.values())} of {len(case['islands'])} islands reviewed one by one{who}; {signed}"


def is_export(folder: Path) -> bool:
    """Whether a folder holds nothing but an export of ours, so that replacing it loses nothing else."""
    from heartlens.case.folder import read_json

    try:
        document = read_json(folder / LABELS)
        files = {name for case in document["cases"] for name in case["files"].values()}
        return document["schema"] == LABELS_SCHEMA and {path.name for path in folder.iterdir()} <= {LABELS, *files}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _check(opened: OpenedCase, place: Path, *, unreviewed: bool) -> None:
    """Refuse a case that was altered, and one that nobody reviewed unless that was asked for."""
    from heartlens.risk.evaluable import State

    if opened.state is State.ALTERED:
        raise InputRefused(
            "checksum", f"{place} was altered after it was signed: look through it and sign it again, or leave it out"
        )
    # An edit that was taken back is none: what is left is what the program said.
    is_reviewed = opened.state is State.SIGNED or bool(opened.case.edits_in_force)
    if not is_reviewed and not unreviewed:
        raise InputRefused(
            "labels",
            f"nobody has reviewed {place}: a network would learn what the program said; review it (heartlens review), "
            "or give --unreviewed",
        )


def _sizes(draft: Draft) -> Counter[int]:
    return Counter(draft.voxels.ids.tolist())
