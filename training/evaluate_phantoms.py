"""Evaluate a bundle on phantoms not used for training: `make evaluate-embedded`.

python -m training.evaluate_phantoms --out DIR [--cache DIR] [--bundle NAME|DIR|none] [--docs docs/models.md]

Every phantom is scored by the bundle with and without its slice stage, by the rules (the floor) and by the labels of
the truth (the ceiling). Writes numbers.json, tables.md and plots. What is there from an earlier start with the same
bundle is kept; --fresh does it again. Nobody may choose anything by these seeds: they are for figures alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import RULES, Bundle, find_bundle, load_bundle
from training.datasets.phantom_sets import TEST, generator_hash
from training.engine.cli import DONE, Progress, run_command
from training.engine.json_records import from_plain, to_plain
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation.outcomes import BUNDLE, PhantomEvaluation, agrees, evaluate_phantom
from training.evaluation.phantom_statistics import (
    GROUPS,
    Summary,
    classifier_statistics,
    summarize_outcomes,
    vote_statistics,
)
from training.evaluation.phantom_tables import draw_plots, put_into, write_tables
from training.evaluation.phantoms import EvaluationPhantom, make_phantoms
from training.metrics.intervals import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED

SCHEMA = "heartlens.embedded-evaluation/1"

CHECKED_EVERY = 50
"""Every so many-th phantom also goes through the whole pipeline, and must score the same."""

IMAGES = "images"
"""Folder of plots, beside the page that shows them."""


def evaluate_bundle(
    phantoms: Sequence[EvaluationPhantom],
    out: Path,
    *,
    bundle: str | None = None,
    workers: int = 1,
    fresh: bool = False,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[dict[str, Any], list[PhantomEvaluation], dict[str, Summary]]:
    """Judge every phantom and sum up.

    Parameters
    ----------
    out
        Keeps what was judged, phantom by phantom.
    workers
        Processes.
    fresh
        Judge again what is kept.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    tuple[dict[str, Any], list[Judged], dict[str, Summary]]
        numbers.json, what was judged, and the figures of all and of each group
    """
    folder = find_bundle(bundle)
    loaded = None if folder is None else load_bundle(folder)
    identity = json.dumps([generator_hash(), None if loaded is None else manifest_identity(loaded)])
    evaluations = list(_evaluations(phantoms, out / "judged", bundle, identity, workers, fresh))
    for phantom, outcome in list(zip(phantoms, evaluations, strict=True))[::CHECKED_EVERY]:
        agrees(phantom, outcome, bundle)
    summaries = {"all": summarize_outcomes(evaluations, draws=draws, seed=seed)}
    for group in GROUPS:
        chosen = [j for j in evaluations if group.holds(j)]
        if chosen:
            summaries[f"{group.property}: {group.name}"] = summarize_outcomes(chosen, draws=draws, seed=seed)
    document = {
        "schema": SCHEMA,
        "commit": source_commit(),
        "machine": machine(),
        "generator": generator_hash(),
        "seeds": [evaluations[0].seed, evaluations[-1].seed],
        "phantoms": len(evaluations),
        "matrix": evaluations[0].parameters["matrix"],
        "draws": draws,
        "bundle": None if loaded is None else {"title": loaded.title, "checksums": loaded.checksums()},
        "refused": dict(Counter(j.refused for j in evaluations if j.refused)),
        "median_seconds": {
            way: float(np.median([j.ways[way].seconds for j in evaluations])) for way in evaluations[0].ways
        },
        "classifier": _classifier(evaluations, loaded),
        "votes": vote_statistics(evaluations),
        "figures": to_plain(summaries),
    }  # fmt: skip
    return document, evaluations, summaries


def manifest_identity(bundle: Bundle) -> dict[str, Any]:
    """What in a bundle decides scores: its files, cut-offs and calibration."""
    return {
        "files": bundle.checksums(),
        "vessel": [bundle.vessel.cut_off, bundle.vessel.calibration.slope, bundle.vessel.calibration.intercept],
        "slices": None if bundle.slices is None else bundle.slices.cut_off,
    }


def _classifier(evaluations: Sequence[PhantomEvaluation], bundle: Bundle | None) -> dict[str, Any]:
    if bundle is None or bundle.slices is None or BUNDLE not in evaluations[0].ways:
        return {}
    return classifier_statistics(evaluations, bundle.slices.cut_off)


def _evaluations(
    phantoms: Sequence[EvaluationPhantom], folder: Path, bundle: str | None, identity: str, workers: int, fresh: bool
) -> Iterator[PhantomEvaluation]:
    make_run_folder(folder)
    work = partial(_evaluate_one, folder=folder, bundle=bundle, identity=identity, fresh=fresh)
    bar = Progress("phantom", len(phantoms))
    try:
        if workers <= 1:
            for phantom in phantoms:
                bar.step(str(phantom.seed))
                yield work(phantom)
            return
        os.environ["OMP_NUM_THREADS"] = "1"  # one thread a process, told before any of them loads a library
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for evaluation in pool.map(work, phantoms):
                bar.step(str(evaluation.seed))
                yield evaluation
    finally:
        bar.close()


def _evaluate_one(
    phantom: EvaluationPhantom, *, folder: Path, bundle: str | None, identity: str, fresh: bool
) -> PhantomEvaluation:
    path = folder / f"{phantom.seed}.json"
    if not fresh:
        try:
            kept = json.loads(path.read_text())
            if kept["identity"] == identity:
                return from_plain(PhantomEvaluation, kept["judged"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing kept, or of an older form
    evaluation = evaluate_phantom(phantom, bundle)
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps({"identity": identity, "judged": to_plain(evaluation)}))
    return evaluation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate_phantoms", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for figures; resumes an existing run")
    parser.add_argument("--cache", type=Path, help="folder for phantoms (default: OUT/phantoms); kept between starts")
    parser.add_argument(
        "--bundle", metavar="NAME|DIR|none", help="default: the installed bundle; none: rules and true labels only"
    )
    parser.add_argument(
        "--seeds", type=int, nargs=2, default=(TEST.first, TEST.count), metavar=("FIRST", "COUNT"),
        help="phantoms (default: %(default)s, the published ones)",
    )  # fmt: skip
    parser.add_argument("--matrix", type=int, help="rows and columns, for a quick trial")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--phantoms-only", action="store_true", help="make the phantoms and stop")
    parser.add_argument("--fresh", action="store_true", help="evaluate again, ignoring cached results")
    parser.add_argument("--draws", type=int, default=BOOTSTRAP_DRAWS, help="bootstrap draws (default %(default)s)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="write the tables between the markers of this page")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace) -> int:
    first, count = options.seeds
    if count < 1:
        raise InputRefused("input", f"--seeds: expected 1 phantom or more, got {count}")
    if options.bundle != RULES:
        find_bundle(options.bundle)  # refused before an hour of phantoms, not after
    make_run_folder(options.out)
    bar = Progress("phantom made", count)
    overrides = {} if options.matrix is None else {"matrix": options.matrix}
    try:
        phantoms = list(
            make_phantoms(
                options.cache or options.out / "phantoms", range(first, first + count), workers=options.workers,
                overrides=overrides, progress=bar.step,
            )
        )  # fmt: skip
    finally:
        bar.close()
    if options.phantoms_only:
        return DONE
    document, evaluations, summaries = evaluate_bundle(
        phantoms, options.out, bundle=options.bundle, workers=options.workers, fresh=options.fresh, draws=options.draws
    )
    text = write_tables(document, evaluations, summaries)
    with atomic_file(options.out / "numbers.json") as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    with atomic_file(options.out / "tables.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    draw_plots(document, evaluations, options.out)
    if options.docs is not None:
        put_into(options.docs, text)
        draw_plots(document, evaluations, options.docs.parent / IMAGES)
    print(text)
    print(f"Figures: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
