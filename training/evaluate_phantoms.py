"""Evaluate a bundle on phantoms not used for training: `make evaluate-embedded`.

python -m training.evaluate_phantoms --out DIR [--cache DIR] [--bundle NAME|DIR|none] [--docs docs/models-phantoms.md]

Every phantom is scored by the bundle with and without its slice stage, by the rules (the floor) and by the labels of
the truth (the ceiling). Writes numbers.json, tables.md and plots. What is there from an earlier start with the same
bundle is kept; --fresh does it again. Nobody may choose anything by these seeds: they are for figures alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.networks.bundle import RULES, Bundle, find_bundle, load_bundle
from heartlens.risk.categories import SCHEMES
from training.datasets.phantom_sets import TEST, generator_hash
from training.engine.cli import DONE, Progress, run_command
from training.engine.json_records import from_plain, to_plain
from training.engine.provenance import machine, source_commit
from training.engine.run_log import make_run_folder
from training.evaluation import plots
from training.evaluation.classifiers import summarize_classifier
from training.evaluation.results import ClassifierSummary, Patient, Summary
from training.evaluation.sources.phantoms import (
    BUNDLE,
    GROUPS,
    NO_SLICE_STAGE,
    EvaluationPhantom,
    check_pipeline,
    evaluate_phantoms,
    make_phantoms,
)
from training.evaluation.statistics import summarize
from training.evaluation.tables import PHANTOM_MARKS, STATISTIC_ROWS, phantom_tables, put_into
from training.metrics.intervals import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED
from training.metrics.overlap import ALL

SCHEMA = "heartlens.embedded-evaluation/2"
"""Version 1 had names of its own for the statistics that every report has."""

CHECKED_EVERY = 50
"""Every so many-th phantom also goes through the whole pipeline, and must score the same."""

IMAGES = "images"
"""Folder of plots, beside the page that shows them."""


def evaluate_on_phantoms(
    phantoms: Sequence[EvaluationPhantom],
    out: Path,
    *,
    bundle: str | None = None,
    workers: int = 1,
    fresh: bool = False,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = BOOTSTRAP_SEED,
) -> tuple[dict[str, Any], list[Patient], dict[tuple[str, str], Summary]]:
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
    document : dict[str, Any]
        numbers.json
    patients : list[Patient]
        One a phantom.
    summaries : dict[tuple[str, str], Summary]
        Of all under ("", ""), and of each group by its property and name.
    """
    folder = find_bundle(bundle)
    loaded = None if folder is None else load_bundle(folder)
    make_run_folder(out / "judged")
    bar = Progress("phantom", len(phantoms))
    try:
        patients = list(
            evaluate_phantoms(
                phantoms, out / "judged", bundle, workers=workers, fresh=fresh, on_progress=bar.step
            )
        )  # fmt: skip
    finally:
        bar.close()
    for phantom, patient in list(zip(phantoms, patients, strict=True))[::CHECKED_EVERY]:
        check_pipeline(phantom, patient, bundle)
    groups = {("", ""): patients}
    groups |= {(group.property, group.name): [p for p in patients if group.holds(p)] for group in GROUPS}
    pairs = [] if loaded is None else [(BUNDLE, NO_SLICE_STAGE)]
    wanted = {row.name for row in STATISTIC_ROWS}
    summaries = {
        key: summarize(chosen, draws=draws, seed=seed, differences=pairs, wanted=wanted)
        for key, chosen in groups.items()
        if chosen
    }
    truths = [p.synthetic for p in patients if p.synthetic is not None]
    document = {
        "schema": SCHEMA,
        "commit": source_commit(),
        "machine": machine(),
        "generator": generator_hash(),
        "seeds": [phantoms[0].seed, phantoms[-1].seed],
        "phantoms": len(patients),
        "matrix": truths[0].parameters["matrix"],
        "draws": draws,
        "bundle": None if loaded is None else {"title": loaded.title, "checksums": loaded.checksums()},
        "refused": dict(Counter(code for p in patients for code in p.cautions)),
        "median_seconds": {stage: float(np.median([t.seconds[stage] for t in truths])) for stage in patients[0].stages},
        "classifier": to_plain(_slice_classifier(patients, loaded, draws, seed)),
        "votes": to_plain(_votes(patients, draws, seed)),
        "summaries": {": ".join(key) if any(key) else ALL: to_plain(summary) for key, summary in summaries.items()},
    }
    return document, patients, summaries


def _slice_classifier(
    patients: Sequence[Patient], bundle: Bundle | None, draws: int, seed: int
) -> ClassifierSummary | None:
    """The slice classifier alone, on the slices it was asked about."""
    if bundle is None or bundle.slices is None:
        return None
    groups = []
    for patient in patients:
        # Where no slice was asked about, as in a scan without a candidate, there are no probabilities at all.
        p = np.array(patient.slice_probability.get(BUNDLE, ()), np.float64)
        truth = np.array(patient.stages[BUNDLE].reference_slices, bool)[: len(p)]
        groups.append((truth[np.isfinite(p)].tolist(), p[np.isfinite(p)]))
    return summarize_classifier(groups, bundle.slices.cut_off, draws=draws, seed=seed)


def _votes(patients: Sequence[Patient], draws: int, seed: int) -> ClassifierSummary | None:
    """How well the probability of an island ranks it and is calibrated."""
    votes = [p.synthetic.votes for p in patients if p.synthetic is not None]
    if not any(votes):
        return None
    groups = [([v.is_coronary for v in of], np.array([v.probability for v in of], np.float64)) for of in votes]
    return summarize_classifier(groups, None, draws=draws, seed=seed)


def draw_plots(patients: Sequence[Patient], summary: Summary, votes: ClassifierSummary | None, folder: Path) -> None:
    """Scores, categories and reliability of the first stage as PNG."""
    stage, first = next(iter(summary.stages.items()))
    compared = [patient.stages[stage] for patient in patients]
    scores = [[getattr(c, side)[ALL] for c in compared] for side in ("reference_agatston", "predicted_agatston")]
    names = [row.shown for row in SCHEMES["heartlens"].categories]
    figures = {
        "embedded-scores": plots.score_figure(*scores, title=f"{len(patients)} phantoms, {stage}"),
        "embedded-categories": plots.confusion_figure(first.confusion["heartlens"], names, title="Risk category"),
    }
    if votes is not None:
        error = votes.estimates["calibration_error"].value
        figures["embedded-reliability"] = plots.island_reliability_figure(votes.reliability, error)
    for name, figure in figures.items():
        plots.save_png(figure, folder / f"{name}.png", dpi=130)


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
    document, patients, summaries = evaluate_on_phantoms(
        phantoms, options.out, bundle=options.bundle, workers=options.workers, fresh=options.fresh, draws=options.draws
    )
    text = phantom_tables(document, patients, summaries)
    with atomic_file(options.out / "numbers.json") as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    with atomic_file(options.out / "tables.md") as sibling:
        sibling.write_text(text, encoding="utf-8")
    folders = [options.out]
    if options.docs is not None:
        put_into(options.docs, text, PHANTOM_MARKS)
        folders.append(options.docs.parent / IMAGES)
    votes = from_plain(ClassifierSummary, document["votes"]) if document["votes"] else None
    for folder in folders:
        draw_plots(patients, summaries["", ""], votes, folder)
    print(text)
    print(f"Figures: {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
