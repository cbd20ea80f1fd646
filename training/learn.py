"""Let a bundle learn from the cases that a site's readers corrected and signed, and ship it only if it is better.

python -m training.learn CASE ... --start BUNDLE --out BUNDLE [--minutes N] [--tune head|whole]
    [--replay SHARDS ...] [--judge SHARDS ...]

Cases become shards of what their readers looked at, patients are split into those who teach, those who choose and those
who judge, the vessel network goes on from the bundle's weights, and both bundles score the patients who judge. A bundle
that is worse, or not shown to be better, is not written: the command says how many patients more would settle it.
The same command resumes. docs/learn.md walks through it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heartlens.core.atomic import atomic_file, check_folder
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import Bundle, find_bundle, load_bundle
from training.adaptation.judged import Judgement, Verdict, judge, scan_errors
from training.adaptation.site import PROPORTIONS, Site, read_site, same_people, with_replay
from training.adaptation.tuned import CANDIDATE, export_candidate, recipe_of, tune_bundle
from training.datasets.shards import ShardSet
from training.datasets.splits import scans_of
from training.deploy.bundle_writer import ship_bundle
from training.engine.cli import CANCELLED, DONE, REFUSED, Progress, deadline_after, run_command
from training.engine.config import load_recipe
from training.engine.run_log import make_run_folder
from training.segmentation.recipe import SegmentationRecipe

RECIPE = Path(__file__).parent / "runs" / "learn.toml"

OTHER_WORK = "more cases, other settings or other --replay scans are another beginning: give them with another --work"
"""The way on where a bundle did not ship."""

RECORD = "learn.json"
RECORD_SCHEMA = "heartlens.learn/1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.learn", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("case", type=Path, nargs="+", help="case folder, or report folder with one, that was signed")
    parser.add_argument("--start", required=True, metavar="BUNDLE", help="name or folder of the bundle to go on from")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the new bundle; not made unless it is better"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps everything else (default: OUT-work)")
    parser.add_argument("--name", help="of the new bundle (default: that of OUT)")
    parser.add_argument("--tune", choices=("head", "whole"), help="what moves (default: as the recipe says, head)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings other than runs/learn.toml")
    parser.add_argument("--seed", type=int, default=0, help="of splits and training")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], metavar="SHARDS", help="labeled scans from "
                        "elsewhere, as many as teach from the site, against forgetting")  # fmt: skip
    parser.add_argument("--judge", type=Path, nargs="+", default=[], metavar="SHARDS", help="labeled scans from "
                        "elsewhere on which the bundle must not become worse")  # fmt: skip
    parser.add_argument("--accept-unsettled", action="store_true", help="also ship what is not worse, without proof "
                        "that it is better")  # fmt: skip
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget of the training: it is saved and stopped then; the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    folder = find_bundle(options.start)
    if folder is None:
        raise InputRefused("input", "--start none: rules have no weights; give a bundle")
    check_folder(options.out.absolute())
    start, work = load_bundle(folder), options.work or options.out.with_name(f"{options.out.name}-work")
    tune = [] if options.tune is None else [f"tune={options.tune}"]
    changes = [f"seed={options.seed}", *tune, *options.set]
    recipe = recipe_of(start, load_recipe(SegmentationRecipe, RECIPE, changes))
    make_run_folder(work)
    site = read_site(options.case, work, options.seed)
    print(site_words(site), flush=True)
    judges = _judges(options.judge, site)
    judging = [shards.scans[n] for _, shards, scans in judges for n in scans]
    data = with_replay(site, options.replay, options.seed, judging)
    if not tune_bundle(start, recipe, data, work, device=options.device, deadline=options.deadline):
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    candidate, notes = export_candidate(start, site, data, work, options.name or options.out.name)
    for note in notes:
        print(f"note: {note}")
    judgements = [
        judged(what, (start, candidate), shards, scans)
        for what, shards, scans in [
            ("held-out patients of the site", site.shards, scans_of(site.shards, site.splits.test)), *judges
        ]
    ]  # fmt: skip
    for judgement in judgements:
        print(judgement)
    reason = why_not(judgements, accept_unsettled=options.accept_unsettled)
    learned = {
        **site.learned_from(),
        "notes": list(notes),
        "judged": [judgement.to_json() for judgement in judgements],
        "accepted_unsettled": options.accept_unsettled,
    }
    _write(work / RECORD, {"schema": RECORD_SCHEMA, "shipped": not reason, "why_not": reason, **learned})
    print(f"Record: {work / RECORD}")
    if reason:
        print(f"error: not shipped: {reason}; {OTHER_WORK}", file=sys.stderr)
        return REFUSED
    ship_bundle(work / CANDIDATE, options.out, {"learned": learned})
    print(f"Bundle: {options.out}")
    return DONE


def _judges(folders: Sequence[Path], site: Site) -> list[tuple[str, ShardSet, tuple[int, ...]]]:
    """Scans from elsewhere, of people who gave no case here; what they are called says no folder's name."""
    found = []
    for number, folder in enumerate(folders, 1):
        shards = ShardSet.open(folder)
        scans = tuple(n for n, scan in enumerate(shards.scans) if scan.is_labeled)
        both = same_people([shards.scans[n] for n in scans], site.shards.scans)
        if not scans or both:
            raise InputRefused(
                "input",
                f"--judge {folder}: expected labeled scans of people who gave no case here, found {len(scans)} scans "
                f"and {len(both)} people who did; make shards without them",
            )
        sources = " and ".join(sorted({shards.scans[n].source for n in scans}))
        found.append((f"scans of --judge {number} ({sources})", shards, scans))
    return found


def judged(what: str, bundles: tuple[Bundle, Bundle], shards: ShardSet, scans: Sequence[int]) -> Judgement:
    """Both bundles on the same scans.

    Parameters
    ----------
    what
        Whose scans these are.
    bundles
        The old and the new one.
    shards
        Of the scans.
    scans
        Their numbers.
    """
    bar = Progress("scan", 2 * len(scans))
    try:
        before, after = (scan_errors(bundle.folder, shards, scans, progress=bar.step) for bundle in bundles)
    finally:
        bar.close()
    judgement = judge(what, shards, before, after)
    if not judgement.gain.n:
        first = f"; the first: {judgement.failures[0].reason}" if judgement.failures else ""
        raise InputRefused("input", f"no scan of the {what} could be scored by both bundles{first}")
    return judgement


def why_not(judgements: Sequence[Judgement], *, accept_unsettled: bool) -> str:
    """Why a bundle may not ship, with what would settle it; empty where it may.

    At the site it must be better; elsewhere it must not be worse.

    Parameters
    ----------
    judgements
        The site's first.
    accept_unsettled
        What is not worse in the mean may ship without proof.
    """
    reasons = []
    for n, judgement in enumerate(judgements):
        verdict = judgement.verdict
        is_open = n == 0 and verdict is Verdict.UNSETTLED and not accept_unsettled
        if verdict is Verdict.WORSE or is_open:
            share = PROPORTIONS[2] / sum(PROPORTIONS) if n == 0 else None
            reasons.append(
                f"{judgement.what}: {verdict} (gain {judgement.gain.mean:+.3f}); {more_words(judgement, share)}"
            )
    return "; ".join(reasons)


def more_words(judgement: Judgement, share: float | None) -> str:
    """How many patients more would settle a judgement, in words.

    Parameters
    ----------
    judgement
        Of which.
    share
        Of a site's patients, those who judge; None where all do.
    """
    more, (least, most) = judgement.patients_missing
    if more is None:
        return "no number of patients would settle a difference this small"
    if more == 0:
        return "that is settled"
    interval = f"{least} to {'any number' if most is None else most}"
    text = f"at this gain {more} more held-out patients would settle it ({interval})"
    # So many that the part who judges has that many more, and not some tenths fewer.
    return text if share is None else f"{text}, about {math.ceil(more / share - 1e-9)} more patients in all"


def site_words(site: Site) -> str:
    """What a site gave, who taught, and what was left out, as text.

    Parameters
    ----------
    site
        Of which.
    """
    said = site.learned_from()
    patients = said["patients"]
    parts = f"{patients['train']} patients teach, {patients['validation']} choose, {patients['test']} judge"
    lines = [
        f"{said['cases']['used']} of {said['cases']['given']} cases used: {parts}",
        *(f"  taught by {name}: {count} cases" for name, count in said["readers"].items()),
        *(f"  skipped: {count} cases: {code}" for code, count in sorted(said["cases"]["skipped"].items())),
        *(f"    {skip.name}: {skip.text}" for skip in site.shards.skipped),
    ]
    for one in site.contradictions:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(one.lesions).items()))
        settled = "" if one.settled_by is None else f"; case {one.settled_by} decides"
        cases, readers = " and ".join(map(str, one.cases)), ", ".join(one.readers)
        lines.append(f"  disagreement: cases {cases} ({readers}): {kinds}{settled}")
    if said["emptied"]:
        lines.append(
            f"  {said['emptied']} cases in which the reader left no coronary lesion of those found; they count"
        )
    return "\n".join(lines)


def _write(path: Path, document: dict[str, Any]) -> None:
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
