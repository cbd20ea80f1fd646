"""A site whose scanner and people differ: cases that HeartLens scored, corrected and signed by a simulated reader.

python -m training.simulated_site --out DIR --count N [--first SEED] [--bundle NAME] [--error-rate X] [--seed N]
    [--minutes N]
python -m training.learn DIR/cases/* --start NAME --out BUNDLE

For experiments: what learning from readers is worth where the truth is known. The people are of the second family, with
seeds that judge nothing; a bundle that learned from them never ships. How the reader errs is said in
training/adaptation/simulated_reader.py. The same command resumes, and a larger --count adds cases.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import save_case
from heartlens.core.atomic import atomic_folder
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.io.nrrd import read_nrrd
from heartlens.networks.bundle import find_bundle, load_bundle
from heartlens.pipeline import Request, score_series
from training.adaptation.simulated_reader import OBSERVER, ORGANIZATION, read_as_truth
from training.datasets.phantom_sets import SECOND_FAMILY_ELSEWHERE
from training.engine.cli import CANCELLED, DONE, deadline_after, run_command
from training.engine.json_records import write_json
from training.engine.provenance import source_commit
from training.engine.run_log import begin_folder
from training.evaluation.second_family.cases import SIZES
from training.evaluation.sources.second_family import SecondFamilyCase, generator_hash, make_cases

RECORD, READING = "site.json", "reading.json"

SCANS, CASES = "scans", "cases"

SCHEMA = "heartlens.simulated-site/1"

COUNTS = ("listed", "missed", "changed", "painted", "errors")


class Reader(NamedTuple):
    """Who reads, after which program.

    Parameters
    ----------
    bundle
        Folder of the bundle that scores; "none" is the rules.
    error_rate
        Of each lesion, see `training.adaptation.simulated_reader`.
    seed
        Of the errors.
    """

    bundle: str
    error_rate: float
    seed: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.simulated_site", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the site; resumes an existing one")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="how many people, one scan each")
    parser.add_argument("--first", type=int, default=SECOND_FAMILY_ELSEWHERE.first, metavar="SEED",
                        help="seed of the first person; the others follow (default %(default)s)")  # fmt: skip
    parser.add_argument("--bundle", default="heartlens-embedded", metavar="NAME",
                        help="scores before the reader looks: a name, a folder or none (%(default)s)")  # fmt: skip
    parser.add_argument("--error-rate", type=float, default=0.05, metavar="X",
                        help="share of lesions that the reader is wrong about (default %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the reader's errors (default 0)")
    parser.add_argument("--size", choices=tuple(SIZES), default="full", help="small is for quick tests")
    parser.add_argument(
        "--minutes", dest="deadline", type=deadline_after, metavar="N",
        help="time budget: no case begins later; the same command resumes",
    )  # fmt: skip
    parser.set_defaults(run=_run)
    return run_command(parser, arguments)


def _run(options: argparse.Namespace) -> int:
    seeds = people(options.first, options.count)
    if not 0 <= options.error_rate <= 1:
        raise InputRefused("input", f"--error-rate: expected 0 to 1, found {options.error_rate:g}; give such a share")
    folder = find_bundle(options.bundle)
    bundle = None if folder is None else load_bundle(folder)
    settings = {
        "generator": generator_hash(),
        "size": options.size,
        "bundle": "rules" if bundle is None else bundle.title,
        "bundle_files": {} if bundle is None else bundle.checksums(),
        "error_rate": options.error_rate,
        "seed": options.seed,
    }
    out = options.out.resolve()  # a case says where its CT lies
    begin_folder(out / RECORD, settings, "site", schema=SCHEMA)
    reader = Reader("none" if folder is None else str(folder), options.error_rate, options.seed)
    is_complete = True
    for seed in seeds:
        if options.deadline is not None and time.monotonic() > options.deadline:
            is_complete = False
            break
        if not (out / CASES / str(seed) / READING).is_file():
            (case,) = make_cases(out / SCANS, [seed], size=options.size)
            print(_line(make_reading(case, out / CASES / str(seed), reader)), flush=True)
    readings = read_readings(out)
    write_json(out / RECORD, {"schema": SCHEMA, "commit": source_commit(), **settings, "cases": readings})
    if not is_complete:
        print("stopped; run the same command to resume", file=sys.stderr)
        return CANCELLED
    print(summary(readings))
    print(f"Site: {options.out}")
    return DONE


def people(first: int, count: int) -> range:
    """Seeds of a site.

    Parameters
    ----------
    first, count
        The smallest, and how many.

    Raises
    ------
    InputRefused
        ``input``: one of them judges, or is of no purpose
    """
    allowed, seeds = SECOND_FAMILY_ELSEWHERE.range, range(first, first + count)
    if count < 1:
        raise InputRefused("input", f"--count: expected 1 or more people, found {count}; give more")
    if seeds[0] not in allowed or seeds[-1] not in allowed:
        raise InputRefused(
            "input",
            f"expected seeds {allowed[0]} to {allowed[-1]}, found {seeds[0]} to {seeds[-1]}; others judge, and nothing "
            "may learn from them: give another --first or a smaller --count",
        )
    return seeds


def make_reading(made: SecondFamilyCase, out: Path, reader: Reader) -> dict[str, Any]:
    """Score one scan as a user does, let the reader correct and sign it, and write both, whole or not at all.

    Parameters
    ----------
    made
        The scan and its truth.
    out
        Folder to make: ``case/`` and ``reading.json``; of a scan that is refused the latter alone.
    reader
        Who reads.

    Returns
    -------
    dict[str, Any]
        What ``reading.json`` holds.
    """
    record: dict[str, Any] = {"person": made.seed}
    with atomic_folder(out) as folder:
        try:
            case = score_series(made.scan, Request(bundle=reader.bundle)).case
        except InputRefused as refusal:
            record["refused"] = refusal.code
        else:
            save_case(case, folder / "case")
            truth = read_nrrd(made.folder / "labels.nrrd").values.astype(np.uint8)
            rng = np.random.default_rng([reader.seed, made.seed])
            with ReviewSession.open(folder / "case", reader=OBSERVER) as session:
                before = session.case.report
                reading = read_as_truth(session, truth, reader.error_rate, rng)
                session.sign(OBSERVER, ORGANIZATION, confirmed=True)
                after = session.case.report
            record |= reading._asdict()
            record["agatston"] = {
                "truth": made.truth["agatston"],
                "program": sum(before.arteries[artery].agatston for artery in CORONARY),
                "reader": sum(after.arteries[artery].agatston for artery in CORONARY),
            }
        write_json(folder / READING, record)
    return record


def read_readings(out: Path) -> list[dict[str, Any]]:
    """What was read at a site so far, in the order of its people.

    Parameters
    ----------
    out
        Of the site.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (out / CASES).glob(f"*/{READING}")]
    return sorted(found, key=lambda record: int(record["person"]))


def summary(readings: Sequence[dict[str, Any]]) -> str:
    """A site in one sentence.

    Parameters
    ----------
    readings
        Of `read_readings`.
    """
    signed = [one for one in readings if "refused" not in one]
    total = {name: sum(one[name] for one in signed) for name in COUNTS}
    refused = f", {len(readings) - len(signed)} scans refused" if len(signed) < len(readings) else ""
    return (
        f"{len(signed)} cases signed{refused}: of {total['listed']} listed lesions {total['changed']} changed, of "
        f"{total['missed']} missed ones {total['painted']} painted; {total['errors']} errors"
    )


def _line(record: dict[str, Any]) -> str:
    if "refused" in record:
        return f"{record['person']}: refused ({record['refused']})"
    return f"{record['person']}: " + ", ".join(f"{record[name]} {name}" for name in COUNTS)


if __name__ == "__main__":
    sys.exit(main())
